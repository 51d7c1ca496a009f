# Signatures of RSA authorities: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 8017, 8.2), on big integers alone. Checking them
# needs no secret, so nothing is blinded here. Keys are made, and used for signing, on P-256 only.
#
# What the signature opens to is never parsed: the one encoding that is right is made anew, and compared whole. Where
# others looked for its parts instead, signatures could be forged for e = 3 (Bleichenbacher, 2006; CVE-2006-4339 and
# many since).
from coupler.const import const

_LEAST = const(2048)  # bits: NIST SP 800-131A, and the CA/Browser Forum
_MOST = const(4096)  # nobody's authority has more; the work grows with the square
_EXPONENT = const(32)  # bits
# Of a DigestInfo (9.2, note 1) all but the digest: SHA-256 with its NULL, which there must be (B.1)
_SHA256 = b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20"


def verify(modulus, exponent, digest, signature):
    """Whether it is the signature (bytes) of this SHA-256 digest; ValueError, with what is wrong, for an unfit key."""
    if not modulus >> _LEAST - 1:
        raise ValueError("too short, at least %d" % _LEAST)
    if modulus >> _MOST:
        raise ValueError("too long, at most %d" % _MOST)
    if not modulus & 1:
        raise ValueError("even modulus")
    # Each bit of the exponent costs a product and a division, and who offers the key chooses it. 65537 is what is in
    # use, 3 what was; Windows and Go take no more than 32 bits either.
    if exponent < 3 or exponent >> _EXPONENT or not exponent & 1:
        raise ValueError("exponent not odd, or not of 3 to 2^%d" % _EXPONENT)
    size = len(signature)
    number = int.from_bytes(signature, "big")
    # As long as the modulus, with its leading zeros, and less (8.2.2, 1; 5.2.2, 1): no other text for the same number.
    if len(digest) != 32 or modulus >> 8 * size or not modulus >> 8 * size - 8 or number >= modulus:
        return False
    padding = b"\xff" * (size - len(_SHA256) - 35)
    encoded = b"\0\x01" + padding + b"\0" + _SHA256 + digest
    return pow(number, exponent, modulus) == int.from_bytes(encoded, "big")
