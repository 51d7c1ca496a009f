"""An authority that speaks EST (RFC 7030, RFC 8951), asked by this computer on behalf of the unit at the cable.

The unit can do the same itself (coupler/trust/est.py); this is for a bench where it has no network of its own. What
came is kept in a file before the unit gets it: a one-time secret is good for one certificate.
"""

from __future__ import annotations

import base64
import datetime as dt
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError
from ..pki import certificates, files, requests
from . import certs_only
from .est_http import Access, Server
from .external import Unusable, answer, of_key, read_certificates, read_through
from .judged import quietly
from .steps import Progress

_PATIENCE = 30.0  # for a certificate that is pending; the unit's console is held meanwhile
_OF_NO_USE = "the EST server's certificate is of no use"


class EstAuthority:
    """One EST server. What it gave is in `folder`, a file for each certificate and what came with it."""

    keep = True

    def __init__(self, access: Access, folder: Path, say: Progress) -> None:
        self._access, self._folder, self._say = access, folder, say
        self._roots = read_certificates(access.roots)
        self._server = Server(access)

    @quietly
    def certify(self, csr_der: bytes, unit_id: str) -> requests.Answer:
        """Ask the server, unless it has answered this request before and the certificate is still valid."""
        key, now = requests.key_of(csr_der, unit_id), dt.datetime.now(dt.UTC)
        given = (one for one in self.of_unit(unit_id) if one.public_key() == key and one.not_valid_after_utc > now)
        leaf = next(given, None)
        if leaf is not None:
            self._say("it was issued before")
        else:
            # On the disk before it is judged: it may have cost a one-time secret, and need but another root here.
            leaf = self._fetch(csr_der, key, unit_id)
        try:
            return self.with_chain(files.certificate_der(leaf))
        except Unusable:
            self._put_away(unit_id, certificates.serial(leaf))  # the next one may be better
            raise

    def of_unit(self, unit_id: str) -> list[x509.Certificate]:
        """What it gave to this unit and was not taken back, newest first."""
        found = [read_certificates(path)[0] for path in (self._folder / unit_id).glob("*.pem")]
        return sorted(found, key=lambda one: one.not_valid_before_utc, reverse=True)

    @quietly
    def with_chain(self, certificate: bytes) -> requests.Answer:
        """One of `of_unit`'s, with all that the unit is to have."""
        leaf = x509.load_der_x509_certificate(certificate)
        paths = self._folder.glob(f"*/{certificates.serial(leaf)}.pem")
        path, came = next((path, came) for path in paths if (came := read_certificates(path))[0] == leaf)
        key = leaf.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        try:
            # A root counts because it was given here, not because it came along.
            found = answer(came, key, path.parent.name, self._roots, "add it to the file of --est-roots")
            _check_names(leaf, path.parent.name)
        except Unusable as error:
            raise Unusable(f"{_OF_NO_USE}: {error}") from None
        except KoblerError as error:
            then = "the same command goes on with it, and asks for another one if that file is removed"
            raise KoblerError(f"{_OF_NO_USE}: {error}; it is kept in {path}: {then}") from None
        return requests.Answer(found.certificate, found.chain, b"".join(map(files.certificate_der, self._roots)))

    def stands(self, unit_id: str, certificate: str) -> bool:
        """Whether the certificate with this serial number was given to this unit and not taken back."""
        return (self._folder / unit_id / f"{certificate}.pem").exists()

    def ready(self) -> None:
        """The secret was asked for before."""

    def revoke(self, what: str, reason: str = "unspecified") -> None:
        """EST has no way to do it: only what is here is put away."""
        self._put_away("*", what)
        self._say(f"EST cannot revoke: have the certificate {what} revoked at {self._access.url} ({reason})")

    def authorities(self) -> list[x509.Certificate]:
        """Its authorities' certificates (RFC 7030, 4.1)."""
        return _certificates(self._server.ask("cacerts"), "cacerts")

    @quietly
    def names(self) -> list[str]:
        """Its authorities, for people."""
        found = [one.subject.rfc4514_string() for one in self.authorities()]
        return [name.removeprefix("CN=") for name in found]

    def _fetch(self, csr_der: bytes, key: ec.EllipticCurvePublicKey, unit_id: str) -> x509.Certificate:
        authorities = self.authorities()
        came = _certificates(self._enroll(csr_der, unit_id), "simpleenroll", key)
        try:
            leaf = of_key(came, key, unit_id)
        except KoblerError as error:
            raise KoblerError(f"{_OF_NO_USE}: {error}") from None
        every = dict.fromkeys([leaf, *came, *authorities])
        path = self._folder / unit_id / f"{certificates.serial(leaf)}.pem"
        files.write_public(path, b"".join(map(files.certificate_pem, every)))
        return leaf

    def _put_away(self, unit_id: str, serial: str) -> None:
        for path in self._folder.glob(f"{unit_id}/{serial}.pem"):
            path.rename(path.with_suffix(".void"))

    def _enroll(self, csr_der: bytes, unit_id: str) -> bytes:
        until = time.monotonic() + _PATIENCE
        while True:
            found = self._server.ask("simpleenroll", csr_der)
            if isinstance(found, bytes):
                return found
            if time.monotonic() + found > until:
                raise KoblerError(
                    f"the EST server has the request of unit {unit_id} and wants {found:.0f} s: run the same command "
                    f"again then; the key waits on the unit"
                )
            self._say(f"the EST server wants {found:.0f} s")
            time.sleep(found)


def _check_names(certificate: x509.Certificate, unit_id: str) -> None:
    # As the unit's own issuing.accept: fewer names than were asked for are fine, other kinds are passed over.
    kinds = (x509.UniformResourceIdentifier, x509.DNSName, x509.IPAddress)
    for name in certificates.alternatives(certificate.extensions):
        if isinstance(name, kinds) and name not in certificates.unit_names(unit_id):
            raise Unusable(f"it has a name that was not asked for: {str(name.value)!r}")


@quietly
def _certificates(
    data: bytes | float, operation: str, key: ec.EllipticCurvePublicKey | None = None
) -> list[x509.Certificate]:
    # Those that can be read; only the one for this key has to.
    assert isinstance(data, bytes)
    der, spki = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    mine = key.public_bytes(der, spki) if key else None
    found = list[x509.Certificate]()
    try:
        there = certs_only.split(base64.b64decode(b"".join(data.split()), validate=True))
    except ValueError as error:
        raise KoblerError(f"the EST server's answer to {operation} has no certificates in it ({error})") from None
    for one in there:
        try:
            certificate = x509.load_der_x509_certificate(one)
            read_through(certificate)
            found.append(certificate)
        except certificates.MALFORMED as error:
            if mine and mine in one:
                raise KoblerError(f"{_OF_NO_USE}: it cannot be read ({error})") from None
    return found
