"""Keys and certificates as files: written whole or not at all, private keys for the owner's eyes only."""

from __future__ import annotations

import errno
import os
import re
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ..errors import KoblerError

# PKCS #8 as OpenSSL writes it stretches a passphrase by some thousand rounds only: a stolen file would be worth trying
# on. So scrypt comes first (RFC 7914; 128 MB and half a second a guess), and this line, with the salt, before the key.
_COST = 1 << 17
_MOST_COST = 1 << 20
_STRETCHED = re.compile(rb"scrypt n=([0-9]{1,7}) r=8 p=1 salt=([0-9a-f]{32})\n")


def write(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step; only the owner may read it (mkstemp's mode, 0600)."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = "free some space" if full else "make it writable, or name another place"
        raise KoblerError(f"cannot write {path}: {error.strerror}; {remedy}") from None


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, too: else a file that was just made may be gone after a power cut."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_public(path: Path, data: bytes) -> None:
    """As `write`, for what everyone may read: a broker under another user needs the certificates."""
    write(path, data)
    if os.name == "posix":
        path.chmod(0o644)


def read(path: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise KoblerError(f"cannot read {path}: {error.strerror}; {remedy}") from None


def read_any_key(path: Path, remedy: str) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(read(path, remedy), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KoblerError(f"{path} is not an unencrypted private key in PEM; {remedy}") from None


def read_key(path: Path, remedy: str) -> ec.EllipticCurvePrivateKey:
    key = read_any_key(path, remedy)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KoblerError(f"{path} is not a P-256 key; {remedy}")
    return key


def read_certificate(path: Path, remedy: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read(path, remedy))
    except ValueError:
        raise KoblerError(f"{path} is not a certificate in PEM; {remedy}") from None


def read_encrypted_key(path: Path, passphrase: str, remedy: str) -> ec.EllipticCurvePrivateKey:
    data, secret = read(path, remedy), passphrase.encode()
    try:
        stretched = _STRETCHED.match(data)  # none: a key of before
        if stretched:
            data, secret = data[stretched.end() :], _stretch(secret, bytes.fromhex(stretched[2].decode()), stretched[1])
        key = serialization.load_pem_private_key(data, secret)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KoblerError(f"{path} does not open with this passphrase, or is damaged; {remedy}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise KoblerError(f"{path} is not a P-256 key; {remedy}")
    return key


def _stretch(secret: bytes, salt: bytes, cost: bytes) -> bytes:
    if int(cost) > _MOST_COST:
        raise ValueError("cost")
    return Scrypt(salt=salt, length=32, n=int(cost), r=8, p=1).derive(secret).hex().encode()


def key_pem(key: ec.EllipticCurvePrivateKey, passphrase: str | None = None) -> bytes:
    head = b""
    form: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        salt, cost = os.urandom(16), b"%d" % _COST
        head = b"scrypt n=%s r=8 p=1 salt=%s\n" % (cost, salt.hex().encode())
        form = serialization.BestAvailableEncryption(_stretch(passphrase.encode(), salt, cost))
    return head + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form)


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def certificate_der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()
