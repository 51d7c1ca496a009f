"""Certificate requests of units: read, and refused unless they are the unit's own; and what answers them."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError
from . import certificates


@dataclass(frozen=True)
class Answer:
    """What a unit gets: its certificate, those between it and the root, and whom it is to trust (all DER; `ca` may be
    several, one behind the other)."""

    certificate: bytes
    chain: list[bytes]
    ca: bytes


def key_of(csr_der: bytes, unit_id: str) -> ec.EllipticCurvePublicKey:
    """The public key in the request of unit `unit_id`, which must name it alone and be signed by that key."""
    try:
        request = x509.load_der_x509_csr(csr_der)
        key = request.public_key()
        names = certificates.alternatives(request.extensions)
        signed = request.is_signature_valid
        name = certificates.common_name(request.subject)
    except certificates.MALFORMED as error:
        raise KoblerError(f"unit {unit_id} sent a malformed certificate request ({error})") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KoblerError(f"unit {unit_id}: its certificate request is not for a P-256 key")
    if not signed:
        raise KoblerError(f"unit {unit_id}: its certificate request is not signed by the key it names")
    if name != unit_id:
        raise KoblerError(f"unit {unit_id}: its certificate request is for {name!r}; nothing was signed")
    allowed = certificates.unit_names(unit_id)
    for other in names:
        if other not in allowed:
            raise KoblerError(f"unit {unit_id}: its certificate request also asks for {other.value!r}")
    return key
