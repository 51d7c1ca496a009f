"""An authority that is not Kobler's, as a company has one: it is handed a request and gives back certificates."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@functools.cache
def rsa_key(bits: int, exponent: int = 65537) -> rsa.RSAPrivateKey:
    """The same one for all tests: they take seconds to make."""
    return rsa.generate_private_key(exponent, bits)


class OtherAuthority:
    """Not Kobler's: a root, `levels` intermediates, and the last of them signs.

    From the root down, where not all are alike: `lengths`, their path lengths; `keys`, RSA's bits, or these and the
    exponent, None: on P-256; `uses`, their extended usages; `signs`, whether they may. `more`: a critical extension of
    the last of them.
    """

    def __init__(
        self,
        levels: int = 1,
        curve: ec.EllipticCurve | None = None,
        digest: hashes.HashAlgorithm | None = None,
        lengths: tuple[int | None, ...] = (),
        keys: Sequence[tuple[int, ...] | None] = (),
        uses: Sequence[x509.ObjectIdentifier | None] = (),
        padding: Any = None,
        signs: Sequence[bool] = (),
        more: x509.ExtensionType | None = None,
    ) -> None:
        self._padding = padding
        self._digest = digest or hashes.SHA256()
        self.chain: list[x509.Certificate] = []
        self._key: Any = None
        key: Any
        for level in range(levels + 1):
            bits = keys[level] if keys else None
            key = rsa_key(*bits) if bits else ec.generate_private_key(curve or ec.SECP256R1())
            name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Other {level}")])
            signer = self.chain[-1].subject if self.chain else name
            length = lengths[level] if lengths else None
            may = signs[level] if signs else True
            builder = self._builder(name, signer, key.public_key(), ca=True, length=length, signs=may)
            if more and level == levels:
                builder = builder.add_extension(more, critical=True)
            if uses and (use := uses[level]):
                builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
            self.chain.append(builder.sign(self._key or key, self._digest, rsa_padding=padding))
            self._key = key

    def _builder(
        self,
        name: x509.Name,
        issuer: x509.Name,
        key: Any,
        ca: bool = False,
        days: tuple[int, int] = (-1, 30),
        length: int | None = None,
        signs: bool = True,
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        usage = x509.KeyUsage(signs and not ca, False, False, False, not ca, signs and ca, ca, False, False)
        return (
            x509.CertificateBuilder(issuer, name, key, x509.random_serial_number())
            .not_valid_before(now + dt.timedelta(days=days[0]))
            .not_valid_after(now + dt.timedelta(days=days[1]))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=length), critical=True)
            .add_extension(usage, critical=True)
        )

    def sign(
        self,
        path: Path,
        name: str | None = None,
        key: Any = None,
        days: tuple[int, int] = (-1, 30),
        server: bool = False,
        signs: bool = True,
    ) -> x509.Certificate:
        """What it makes of the request in a file."""
        request = x509.load_pem_x509_csr(path.read_bytes())
        assert request.is_signature_valid
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) if name else request.subject
        builder = self._builder(subject, self.chain[-1].subject, key or request.public_key(), days=days, signs=signs)
        use = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([use]), False)
        return builder.sign(self._key, self._digest, rsa_padding=self._padding)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in certificates)
