"""Revocation lists (CRL, RFC 5280, section 5): made by the authority, read by the embedded broker."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError
from . import certificates, files
from .register import REASONS, Revoked

# A list that ran out locks everyone out at brokers that read it by themselves. A building has nobody who renews it
# every week, and the list lies beside its authority; who has a timer for `kobler pki crl` takes fewer --days.
DAYS = 366
# For a broker on another computer whose clock is somewhat slow.
_BACKDATE = dt.timedelta(hours=1)
_END = b"-----END X509 CRL-----"


def make(
    issuer: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    revoked: Mapping[int, Revoked],
    until: dt.datetime,
) -> x509.CertificateRevocationList:
    """The list of all that `issuer` took back, signed; each one has a higher number than those before."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.subject)
        .last_update(now - _BACKDATE)
        .next_update(until)
        .add_extension(certificates.authority_key(issuer), critical=False)
        .add_extension(x509.CRLNumber(time.time_ns() // 1000), critical=False)
    )
    for serial, why in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(why.at)
        if why.reason != "unspecified":  # RFC 5280: then the extension should be absent
            entry = entry.add_extension(x509.CRLReason(REASONS[why.reason]), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(key, hashes.SHA256())


def pem(lists: Sequence[x509.CertificateRevocationList]) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in lists)


def read(path: Path) -> list[x509.CertificateRevocationList]:
    """All lists in a PEM file. KoblerError if it is not there or is none."""
    return _parse(path, files.read(path, "make it anew with `kobler pki crl`"))


def _parse(path: Path, data: bytes) -> list[x509.CertificateRevocationList]:
    try:
        found = [x509.load_pem_x509_crl(part + _END) for part in data.split(_END)[:-1]]
    except ValueError:
        found = []
    if not found:
        raise KoblerError(f"{path} is not a revocation list in PEM; make it anew with `kobler pki crl`")
    return found


class Revocations:
    """Who is revoked by the lists in a file, which is read again when it has changed.

    `issuers`: the certificates of those who may sign lists. A list that is damaged or not signed by its issuer is not
    taken, and the ones before it stay in force.
    """

    def __init__(self, path: Path, issuers: Sequence[x509.Certificate]) -> None:
        self._path, self._issuers = path, issuers
        self._seen: tuple[int, int] | None = None
        self._revoked: set[tuple[bytes, int]] = set()
        self.update()

    def update(self) -> bool:
        """Look at the file; whether there was something new. KoblerError if that cannot be used."""
        try:
            about = self._path.stat()
        except OSError as error:
            raise KoblerError(f"cannot read {self._path}: {error.strerror}; run `kobler pki crl`") from None
        if (seen := (about.st_mtime_ns, about.st_ino)) == self._seen:
            return False
        data = files.read(self._path, "it is tried again")
        self._seen = seen  # not before: what could not be read now is read the next time
        found = set()
        for one in _parse(self._path, data):
            issuer = next((issuer for issuer in self._issuers if issuer.subject == one.issuer), None)
            key = issuer.public_key() if issuer else None
            if not isinstance(key, ec.EllipticCurvePublicKey) or not one.is_signature_valid(key):
                raise KoblerError(f"{self._path} has a list that this authority did not sign; run `kobler pki crl`")
            found |= {(one.issuer.public_bytes(), entry.serial_number) for entry in one}
        self._revoked = found
        return True

    def objection(self, certificate_der: bytes) -> str | None:
        """Why nobody is to be let in with this certificate: it was revoked, or the intermediate that signed it, or by
        another one it was signed, whose list is not here. None: there is no reason."""
        certificate = x509.load_der_x509_certificate(certificate_der)
        issuer = next((one for one in self._issuers if certificates.signed_by(certificate, one)), None)
        if issuer is None:
            name = certificates.common_name(certificate.issuer)
            return f"this certificate was issued by {name!r}, whose revocations are not known here"
        taken_back = ((one.issuer.public_bytes(), one.serial_number) in self._revoked for one in (certificate, issuer))
        return "this certificate was revoked" if any(taken_back) else None
