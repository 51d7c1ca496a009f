# What a unit writes about its own key: the certificate request (PKCS #10, RFC 2986), the key file (RFC 5915).
import hashlib

from coupler.trust import der, p256

URI = "urn:dev:kobler:"
# extensionRequest (RFC 2985, 5.4.2)
_EXTENSION_REQUEST = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x09\x0e"
_NAMED_CURVE = der.tlv(der.SEQUENCE, der.EC_PUBLIC_KEY, der.PRIME256V1)


def public_key_info(public):
    """SubjectPublicKeyInfo (RFC 5480) of a 65-byte public key."""
    return der.tlv(der.SEQUENCE, _NAMED_CURVE, der.tlv(der.BIT_STRING, b"\0", public))


def _attribute(kind, text):
    data = text.encode()
    if not 0 < len(text) <= 64:  # the upper bounds of X.520
        raise ValueError("name %r in a subject: 1 to 64 characters" % text)
    return der.tlv(der.SET, der.tlv(der.SEQUENCE, kind, der.tlv(der.UTF8_STRING, data)))


def request(private, unit_id, organization=None, addresses=()):
    """The signed request (DER) for subject CN = unit_id, named also as URN, DNS name and by IP addresses (bytes)."""
    subject = _attribute(der.COMMON_NAME, unit_id)
    if organization:
        subject = _attribute(der.ORGANIZATION, organization) + subject
    # GeneralNames: uniformResourceIdentifier [6], dNSName [2], iPAddress [7]
    names = [der.tlv(0x86, (URI + unit_id).encode()), der.tlv(0x82, unit_id.encode())]
    names += [der.tlv(0x87, address) for address in addresses]
    return signed(private, der.tlv(der.SEQUENCE, subject), der.tlv(der.SEQUENCE, *names))


def renewal(private, certificate):
    """The request for another key under the names of a certificate (RFC 7030, 4.2.2: they must be the same)."""
    return signed(private, certificate.subject, certificate.alternatives)


def signed(private, subject, names):
    """The signed request (DER) for a subject (Name) and its alternatives (GeneralNames; None for no such extension)."""
    wanted = b""
    if names:
        extension = der.tlv(der.SEQUENCE, der.SUBJECT_ALT_NAME, der.tlv(der.OCTET_STRING, names))
        wanted = der.tlv(der.SEQUENCE, _EXTENSION_REQUEST, der.tlv(der.SET, der.tlv(der.SEQUENCE, extension)))
    info = der.tlv(
        der.SEQUENCE,
        der.integer(0),
        subject,
        public_key_info(p256.public_key(private)),
        der.tlv(0xA0, wanted),
    )
    r, s = p256.sign(private, hashlib.sha256(info).digest())
    algorithm = der.tlv(der.SEQUENCE, der.ECDSA_SHA256)
    return der.tlv(der.SEQUENCE, info, algorithm, der.tlv(der.BIT_STRING, b"\0", der.signature(r, s)))


def write_key(private):
    """ECPrivateKey (SEC 1, C.4), which mbedTLS and OpenSSL read."""
    return der.tlv(
        der.SEQUENCE,
        der.integer(1),
        der.tlv(der.OCTET_STRING, private.to_bytes(32, "big")),
        der.tlv(0xA0, der.PRIME256V1),
        der.tlv(0xA1, der.tlv(der.BIT_STRING, b"\0", p256.public_key(private))),
    )


def read_key(data):
    """The private key of an ECPrivateKey; ValueError for any other."""
    whole = der.Reader(data)
    key = whole.inside(der.SEQUENCE)
    whole.finish()
    if key.number() != 1:
        raise der.DerError("not an ECPrivateKey")
    secret = key.read(der.OCTET_STRING)
    private = int.from_bytes(secret, "big")
    if len(secret) != 32 or not 0 < private < p256.N:
        raise der.DerError("private key out of range")
    if key.peek() == 0xA0:
        curve = key.inside(0xA0)
        curve.expect(der.PRIME256V1)
        curve.finish()
    if key.peek() == 0xA1:
        key.element()  # the public key, which follows from the private one
    key.finish()
    return private
