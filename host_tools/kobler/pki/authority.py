"""The local certificate authority: one folder that holds the root's key and every certificate it gave out.

    ca.key ca.pem              the root
    issued/SERIAL.pem          each certificate ever signed: what a revocation list will be made from
    clients/NAME.key NAME.pem  of `kobler pki issue`
    servers/NAME.key NAME.pem  of the broker
    units/ID.pem               of the couplers, whose keys never leave them

Certificates are signed by `signer`, the root today; an intermediate takes its place by another `signer` and a
longer `chain`, without a change for those who call.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ..errors import KoblerError
from . import certificates, files

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOCAL_NAMES = ("localhost", "127.0.0.1")


@dataclass(frozen=True)
class Issued:
    """Where a certificate, its private key and the authority that vouches for it are (PEM files)."""

    name: str
    cert_pem: Path
    key_pem: Path
    ca_pem: Path
    fingerprint: str
    not_after: dt.datetime


@dataclass(frozen=True)
class Entry:
    """One certificate that was given out."""

    name: str
    kind: str
    serial: str
    fingerprint: str
    not_after: dt.datetime


class Authority:
    def __init__(self, folder: Path, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self.folder = folder
        self.certificate = certificate
        self.chain: list[x509.Certificate] = []
        self._key = key

    @classmethod
    def open_or_create(cls, folder: Path) -> Authority:
        """Open the authority in `folder`, or make a new one where there is nothing yet."""
        folder = folder.absolute()
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            _create(folder)
        return cls.open(folder)

    @classmethod
    def open(cls, folder: Path) -> Authority:
        folder = folder.absolute()
        remedy = f"restore it from a backup, or move {folder} away to start a new authority"
        key = files.read_key(folder / "ca.key", remedy)
        certificate = files.read_certificate(folder / "ca.pem", remedy)
        if not files.same_key(certificate, key):
            raise KoblerError(f"{folder / 'ca.pem'} does not belong to the key in ca.key beside it; {remedy}")
        if certificate.not_valid_after_utc <= dt.datetime.now(dt.UTC):
            raise KoblerError(f"{folder / 'ca.pem'} expired at {certificate.not_valid_after_utc}; {remedy}")
        return cls(folder, key, certificate)

    @property
    def ca_pem(self) -> Path:
        """The root's certificate as a PEM file."""
        return self.folder / "ca.pem"

    @property
    def ca_der(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.DER)

    @property
    def signer(self) -> x509.Certificate:
        return self.chain[0] if self.chain else self.certificate

    def sign_csr(self, csr_der: bytes, unit_id: str) -> bytes:
        """Certificate (DER) for unit `unit_id`; the request must name it alone and be signed by its key."""
        _check_name(unit_id)
        try:
            request = x509.load_der_x509_csr(csr_der)
            key = request.public_key()
            names = certificates.alternatives(request.extensions)
            signed = request.is_signature_valid
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
            raise KoblerError(f"unit {unit_id} sent a malformed certificate request ({error})") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise KoblerError(f"unit {unit_id}: its certificate request is not for a P-256 key")
        if not signed:
            raise KoblerError(f"unit {unit_id}: its certificate request is not signed by the key it names")
        name = certificates.common_name(request.subject)
        if name != unit_id:
            raise KoblerError(f"unit {unit_id}: its certificate request is for {name!r}; nothing was signed")
        allowed = certificates.unit_names(unit_id)
        for other in names:
            if other not in allowed:
                raise KoblerError(f"unit {unit_id}: its certificate request also asks for {other.value!r}")
        certificate = self._sign(key, unit_id, allowed, certificates.UNIT_DAYS, server=False)
        files.write_public(self.folder / "units" / f"{unit_id}.pem", files.certificate_pem(certificate))
        return certificate.public_bytes(serialization.Encoding.DER)

    def issue_client(self, name: str) -> Issued:
        """A key and a certificate for any other MQTT client; the same again while they are good."""
        return self._pair("clients", name, certificates.client_names(_check_name(name)), server=False)

    def server(self, names: Sequence[str] = LOCAL_NAMES) -> Issued:
        """A key and a certificate for a server under these DNS names and IP addresses."""
        if not names:
            raise KoblerError("a server certificate needs at least one name")
        try:
            alternatives = certificates.server_names(names)
        except ValueError:
            raise KoblerError(f"not a server's name: one of {', '.join(names)}") from None
        return self._pair("servers", _check_name(names[0]), alternatives, server=True)

    def entries(self) -> list[Entry]:
        """Every certificate given out, oldest first."""
        folder = self.folder / "issued"
        found = [files.read_certificate(path, "restore or remove it") for path in folder.glob("*.pem")]
        found.sort(key=lambda certificate: certificate.not_valid_before_utc)
        return [
            Entry(
                certificates.common_name(certificate.subject),
                certificates.kind(certificate),
                f"{certificate.serial_number:040x}",
                _fingerprint(certificate),
                certificate.not_valid_after_utc,
            )
            for certificate in found
        ]

    def _sign(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        alternatives: Sequence[x509.GeneralName],
        days: int,
        *,
        server: bool,
    ) -> x509.Certificate:
        certificate = certificates.leaf(self.signer, self._key, key, name, alternatives, days, server=server)
        # On record before it is handed out: what is not known cannot be revoked.
        record = self.folder / "issued" / f"{certificate.serial_number:040x}.pem"
        files.write_public(record, files.certificate_pem(certificate))
        return certificate

    def _pair(self, kind: str, name: str, alternatives: Sequence[x509.GeneralName], *, server: bool) -> Issued:
        key_path = self.folder / kind / f"{name}.key"
        cert_path = self.folder / kind / f"{name}.pem"
        remedy = f"remove {key_path} and {cert_path} to have new ones made"
        if key_path.exists():
            key = files.read_key(key_path, remedy)
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            files.write(key_path, files.key_pem(key))
        certificate = None
        if cert_path.exists():
            certificate = files.read_certificate(cert_path, remedy)
            if not self._still_good(certificate, key, alternatives):
                certificate = None
        if certificate is None:
            certificate = self._sign(key.public_key(), name, alternatives, certificates.LEAF_DAYS, server=server)
            chain = b"".join(files.certificate_pem(one) for one in [certificate, *self.chain])
            files.write_public(cert_path, chain)
        end = certificate.not_valid_after_utc
        return Issued(name, cert_path, key_path, self.ca_pem, _fingerprint(certificate), end)

    def _still_good(
        self,
        certificate: x509.Certificate,
        key: ec.EllipticCurvePrivateKey,
        alternatives: Sequence[x509.GeneralName],
    ) -> bool:
        now = dt.datetime.now(dt.UTC)
        start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        try:
            certificate.verify_directly_issued_by(self.signer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return (
            files.same_key(certificate, key)
            and certificates.alternatives(certificate.extensions) == list(alternatives)
            and start <= now
            and end - now > (end - start) / 3  # renewed with a third of its life left
        )


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def _check_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        rule = "1 to 64 letters, digits, '.', '_' or '-', a letter or digit first"
        raise KoblerError(f"{name!r} cannot be a certificate's name: use {rule}")
    return name


def _create(folder: Path) -> None:
    """Make the folder whole beside its place and move it there: nobody ever sees half an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The name is unique, so that certificates of two authorities cannot be taken for each other's.
    certificate = certificates.authority(key, f"Kobler CA {secrets.token_hex(4)}")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise KoblerError(f"cannot write {folder}: {error.strerror}; choose another with --state") from None
    try:
        files.write(made / "ca.key", files.key_pem(key))
        files.write_public(made / "ca.pem", files.certificate_pem(certificate))
        if os.name == "posix":
            made.chmod(0o755)
        elif folder.is_dir():
            folder.rmdir()  # Windows renames onto nothing, not even onto an empty folder
        made.rename(folder)
    except OSError as error:
        # Another process was faster: its authority is the one to use.
        if not (folder / "ca.pem").exists():
            raise KoblerError(f"cannot write {folder}: {error.strerror}; choose another folder") from None
    finally:
        shutil.rmtree(made, ignore_errors=True)
