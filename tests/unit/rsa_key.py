"""An authority's RSA key, and what it signs; without p256, which needs random numbers."""

import binascii

from coupler.trust import der

# Of 2048 bits, made once by cryptography: its primes and its private exponent.
PRIMES = (
    int(
        "cd1cb85bd1f44abdcf65326cb55678cde745b0547ddf9f1c81416318c101ae872b71403eca40f4922a9596ef51121174"
        "4b6615b1a3b8254ed0d3694c0b57bc10106c996f1be902072f284fd219ac83e028cab12143bde0efcf4b968ac59a9e17"
        "c1be1b52444191cc0f7dd7c3fe7711769c5a6536c75dbf8f089c805529ed9523",
        16,
    ),
    int(
        "baff03c391ce37ac26cc53db9d980eaf1d14808f75785c72ec53228aecf77aa5228d42b87b37d9cc1fdf11a3826ea845"
        "9d8b49269d36d42927e4b5d365ecc1a1a58bf37c33231eff5d94de03d695a6669f70280550db4c0fbb045c54150677b7"
        "0c680622c7801aa677bc4c8f120c8f72f6c787bf24729167b5f001b932db4c7b",
        16,
    ),
)
_PRIVATE = int(
    "16e64cc0baee40658f458bcd4216e34cf64c8b3131a86a85ddb6fe9a843e8225e4198d3b1c4945c975e857e5f562be82"
    "6650f1209ae24aa5092b2e5cc0ee2161f171340f1a85f27d6713fb093827bab46b83fcdff0040a1b7667c4405482ccc0"
    "9de4a816be3b00212eeb6bcc8d66b412b76ad2826dc6b570adcf1f85625ba293601c84316b813ddcac214f4602761729"
    "7adb105e92c4e77810aba590cb710d9acab2cfced16c9a161f68acd95f0f5d65378bfcc0140fea3bb6ff81414b667acb"
    "58cfd1520b7cc75e3a2ec71c2620d43463ac5bca2b0bc42c5197ff12163f271916079a6385d1e311898acfb3d5be33a2"
    "116aa835bfecf421e931b10d72b88057",
    16,
)
KEY = (PRIMES[0] * PRIMES[1], 65537)
SHA256 = der.tlv(der.SEQUENCE, b"\x06\x09" + binascii.unhexlify("2a864886f70d01010b"), b"\x05\x00")
_DIGEST_INFO = binascii.unhexlify("3031300d060960864801650304020105000420")


def key_info(modulus=KEY[0], exponent=65537):
    """SubjectPublicKeyInfo of an RSA key."""

    def number(value):
        size = 0
        while value >> 8 * size:
            size += 1
        data = value.to_bytes(size, "big")
        return der.tlv(der.INTEGER, (b"\0" if data[0] & 0x80 else b"") + data)

    public = der.tlv(der.SEQUENCE, number(modulus), number(exponent))
    algorithm = der.tlv(der.SEQUENCE, b"\x06\x09" + binascii.unhexlify("2a864886f70d010101"), b"\x05\x00")
    return der.tlv(der.SEQUENCE, algorithm, der.tlv(der.BIT_STRING, b"\0", public))


def encoded(digest, size=256):
    """EMSA-PKCS1-v1_5 (RFC 8017, 9.2)."""
    text = _DIGEST_INFO + digest
    return b"\0\x01" + b"\xff" * (size - 3 - len(text)) + b"\0" + text


def sign(text):
    """What opens to these 256 bytes under KEY, whatever they are; by the Chinese remainders, for it takes long."""
    p, q = PRIMES
    number = int.from_bytes(text, "big")
    one, other = [pow(number % prime, _PRIVATE % (prime - 1), prime) for prime in (p, q)]
    return (other + q * ((one - other) * pow(q, p - 2, p) % p)).to_bytes(256, "big")
