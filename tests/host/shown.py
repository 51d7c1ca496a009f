"""What a unit shows as its own in TLS: its certificate and those between it and its root, as its flash holds them."""

from cryptography import x509
from cryptography.hazmat.primitives import serialization


def certificates(data: bytes) -> list[x509.Certificate]:
    """Those in a unit's cert.der, its own first."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[2:4], "big")
        found.append(x509.load_der_x509_certificate(data[:end]))
        data = data[end:]
    return found


def der(*shown: x509.Certificate) -> bytes:
    """A unit's cert.der with these."""
    return b"".join(one.public_bytes(serialization.Encoding.DER) for one in shown)
