"""The root: signs intermediates and the list of those it took back, and is needed for nothing else.

So its key is kept where no computer reaches it by itself. Its folder, made by `kobler pki init --root-out`, lies on a
medium that is taken away:

    root.pem                   its certificate
    root.key or root.token     its key, encrypted with a passphrase; or in which PKCS#11 token it is
    issued/ revoked/           its intermediates (register.py)
"""

from __future__ import annotations

import secrets
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError, UsageError
from . import certificates, files, revocation, secret
from .register import Register, check_reason
from .token import Place, Token


class Root:
    def __init__(
        self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, folder: Path | None = None
    ) -> None:
        self.certificate, self._key = certificate, key
        self._register = None if folder is None else Register(folder)

    @classmethod
    def for_once(cls) -> Root:
        """A root whose key is never written anywhere, and gone with this object: nobody can steal it, nor sign a
        second intermediate."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(certificates.root(key, _name()), key)

    @classmethod
    def create(cls, folder: Path, token: Token | None = None) -> Root:
        """A root in a new folder, its key encrypted with a passphrase that is asked for, or made in a token."""
        folder = folder.absolute()
        certificates.check_clock()
        for name in ("root.pem", "root.key", "root.token"):
            if (folder / name).exists():
                raise UsageError(f"{folder} has a root already ({name}): take it with --root, or name another folder")
        name = _name()
        key: ec.EllipticCurvePrivateKey
        if token is None:
            passphrase = secret.choose(secret.ROOT_PASSPHRASE, "passphrase for the root's key")
            key = ec.generate_private_key(ec.SECP256R1())
            files.write(folder / "root.key", files.key_pem(key, passphrase))
        else:
            key, place = token.generate(name)
            place.write(folder / "root.token")
        certificate = certificates.root(key, name)
        files.write_public(folder / "root.pem", files.certificate_pem(certificate))
        return cls(certificate, key, folder)

    @classmethod
    def open(cls, folder: Path) -> Root:
        """The root in a folder; asks for its passphrase or PIN."""
        folder = folder.absolute()
        remedy = "bring the medium with the root's folder, and name it with --root"
        certificate = files.read_certificate(folder / "root.pem", remedy)
        key: ec.EllipticCurvePrivateKey
        if (folder / "root.token").exists():
            place = Place.read(folder / "root.token", remedy)
            pin = secret.ask(secret.ROOT_PIN, f"PIN of the root's token {place.token!r}")
            key = Token(place.module, place.token, pin).find(place)
        else:
            passphrase = secret.ask(secret.ROOT_PASSPHRASE, "passphrase of the root's key")
            key = files.read_encrypted_key(folder / "root.key", passphrase, remedy)
        if not files.same_key(certificate, key):
            raise KoblerError(f"{folder / 'root.pem'} does not belong to the key beside it; {remedy}")
        return cls(certificate, key, folder)

    def intermediate(self, key: ec.EllipticCurvePublicKey, name: str) -> x509.Certificate:
        certificate = certificates.intermediate(self.certificate, self._key, key, name)
        if self._register is not None:
            self._register.add(certificate)
        return certificate

    def revoke(self, serial: str, reason: str) -> None:
        """Take back the intermediate with this serial number: with it goes all that it signed."""
        check_reason(reason)
        found = [one for one in self._there().certificates() if certificates.serial(one) == serial.lower()]
        if not found:
            raise KoblerError(f"the root signed no intermediate {serial}: `kobler pki list --root` shows them")
        self._there().revoke(found[0], reason)

    def crl(self) -> x509.CertificateRevocationList:
        """The list of intermediates taken back. It is good as long as the root: who fetches the root only to take one
        back cannot renew it before."""
        revoked = {} if self._register is None else self._register.revoked()
        return revocation.make(self.certificate, self._key, revoked, self.certificate.not_valid_after_utc)

    def _there(self) -> Register:
        assert self._register is not None
        return self._register


def _name() -> str:
    # Unique, so that certificates of two authorities cannot be taken for each other's.
    return f"Kobler CA {secrets.token_hex(4)}"
