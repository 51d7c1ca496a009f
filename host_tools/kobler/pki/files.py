"""Keys and certificates as files: written whole or not at all, private keys for the owner's eyes only."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from ..errors import KoblerError


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
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise KoblerError(f"cannot write {path}: {error.strerror}; choose another with --state") from None


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


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def same_key(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    return certificate.public_key() == key.public_key()
