# P-256 (FIPS 186-5, SP 800-186) with deterministic ECDSA (RFC 6979), on nothing but big integers and SHA-256.
#
# Public keys are 65 bytes, uncompressed (SEC 1, 2.3.3); private keys are integers. Inside, points are
# Jacobian: (X, Y, Z) stands for (X/Z^2, Y/Z^3), Z = 0 for the point at infinity. What is added is affine: (x, y).
#
# Python's integers do not take constant time. So secrets are blinded: the scalar by a random multiple of the
# group's order, the base point by a random Z, the inversion by a random factor; what leaks of one run says
# nothing about the next. Multiplying by a secret takes the same steps for each: 80 additions, none left out.
# docs/decisions/0040-p256-in-python.md says what remains, and what else was measured.
#
# Inversion is pow(a, m - 2, m): MicroPython's pow(a, -1, m) answers 0. Reduction is %: it is C, and no sum of
# shifted words comes near it.
import hashlib
import os

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B

# 2^240 G + a 2^160 G + b 2^80 G + c G, x and y, for the eight choices of signs a, b, c (c changes first, - before +).
_COMB = (
    b"\x9e\x56\x2e\x25\x69\x5d\x52\x74\x3f\x07\xac\x5f\x09\x2f\x99\xb9"
    b"\x8e\x22\xc0\xd0\x7c\x03\x2a\x4a\x4f\xa5\x6d\xe2\x59\x28\x99\xde"
    b"\x6d\xc4\x61\xad\x71\xb0\x8a\x78\x61\xc6\xe6\x30\x8a\x47\xc0\xbe"
    b"\x9a\xca\x3c\xd7\x4f\xa6\xc0\x77\xc3\x2c\x0a\x3a\xc8\xb9\x54\x47"
    b"\x9c\x08\x70\xe3\xe8\x26\x97\xd6\x2a\xc1\xab\xdc\xb9\x31\x99\x07"
    b"\x84\xd3\xf8\x19\x9e\x2c\x15\x06\xdb\xa5\x73\xed\x1d\x4e\x7c\xfa"
    b"\x09\x9b\x6e\xa9\x68\x6e\xe9\x96\x91\x8c\x66\x6c\xb0\xb3\x10\x43"
    b"\xf3\xe2\xa0\xaa\xc3\xc3\xed\xfc\x71\x02\xbf\x0a\x42\xf1\x25\xad"
    b"\x34\xb1\xdc\x62\x19\x30\xce\x69\x54\x92\xe0\x86\xc4\xd0\x6b\x0b"
    b"\x0f\x17\x50\x6e\x91\xeb\xe0\x78\x12\x98\x3c\x0a\xe0\x34\x68\xfb"
    b"\x5c\x95\x5e\x6a\x28\xa6\xf3\xfc\x54\x0a\x4d\xd4\x00\x6f\x96\x4e"
    b"\xd6\x26\xed\xf3\xd3\x24\xcf\x72\x52\x47\x25\x40\xd7\x2e\xfb\x22"
    b"\xd2\xe9\x64\x04\xd5\xda\xc4\x59\xdd\xa8\xba\x26\x47\x16\x3e\x06"
    b"\x9c\x0f\xd5\x6a\x3c\x61\x8e\x34\x4f\x4e\x4e\x8a\x96\x61\xf4\x9c"
    b"\xec\xdc\x5b\xe7\x25\x0c\xeb\x02\xc4\x98\x44\x46\x18\xc9\x1c\xc1"
    b"\x2a\x8c\x5a\x7a\x6c\xf5\x53\x71\xa0\x98\xb8\x0c\xf6\x7b\xb5\x0e"
    b"\x52\x6a\xdf\xf8\x11\x4e\x46\x70\xb0\xd0\x33\x81\x82\xc4\x57\x47"
    b"\x9d\x1c\xd2\x2c\x68\xbc\x9f\x8d\xc2\x20\x2c\x65\x41\x58\x1d\x76"
    b"\x53\x76\x4a\xac\x63\xe4\x71\xd1\x20\x96\x4f\xdc\x2f\x0c\xeb\x1a"
    b"\x05\xdd\x4d\x8e\x86\x4c\xa6\xad\x4f\x2b\x6c\xd2\x47\x1f\xa2\xc4"
    b"\xec\x86\x54\x80\xd8\xbd\xdb\x43\xc2\x1e\x46\x91\x5d\xa9\xb4\x7e"
    b"\xe4\x2c\x02\x77\x54\x1f\xe7\xb3\x81\xba\xed\x98\x42\x1c\x3f\x5f"
    b"\xa0\x52\x86\xbc\x66\xee\x5d\x87\x70\x2f\x0d\x90\xa6\x36\x99\xab"
    b"\xb4\x72\x5a\xbe\x5d\xc0\x2c\xd9\xf8\x41\xc9\xbf\xea\xa4\x4b\xeb"
    b"\x86\x0d\x76\x93\x4c\x8a\xf4\x3c\x26\xc7\xb5\x41\x9c\x38\x99\x75"
    b"\x27\x31\x47\x6e\xe5\xeb\x0e\x43\x17\x47\xbf\x3c\x62\xbf\x95\x8c"
    b"\xce\x0c\xc2\x92\x62\x5f\xc0\x17\xae\xe1\x7b\x78\x74\x3b\x37\xe9"
    b"\x51\xcd\x2d\x47\x33\x70\x98\x04\x4f\xeb\x16\x5e\xa8\x18\xf0\x33"
    b"\x6f\xcc\x75\xe6\xb7\x97\x72\xa9\x5e\xdd\x93\xfc\x7c\x6a\x30\x71"
    b"\x6c\x19\xc5\x64\x5e\x27\x2d\xdf\x69\xa6\x50\x13\xf8\x3a\x3c\x1d"
    b"\xa0\xea\xc1\xca\xf3\x01\xca\x7e\x94\x50\x18\xfa\x47\x10\x83\xd1"
    b"\xaa\xe6\x0a\xb1\x0f\xd2\xfa\x31\xf3\xd5\x8e\x35\xd5\xc2\x82\x07"
)


def _double(point):
    # dbl-2001-b for a = -3
    p = P
    x, y, z = point
    delta = z * z % p
    gamma = y * y % p
    beta = x * gamma % p
    alpha = 3 * (x - delta) * (x + delta) % p
    x3 = (alpha * alpha - 8 * beta) % p
    return x3, (alpha * (4 * beta - x3) - 8 * gamma * gamma) % p, 2 * y * z % p


def _add(point, x2, y2):
    p = P
    x, y, z = point
    if not z:
        return x2, y2, 1
    zz = z * z % p
    h = (x2 * zz - x) % p
    r = (y2 * z % p * zz - y) % p
    if not h:
        # The same point, which this formula cannot double, or its opposite.
        return (0, 1, 0) if r else _double(point)
    hh = h * h % p
    v = x * hh % p
    hh = h * hh % p
    x3 = (r * r - hh - 2 * v) % p
    return x3, (r * (v - x3) - y * hh) % p, z * h % p


def _signs(k):
    # An odd k below 2^320 is the sum of +-2^i for all i < 320: a bit for each, 1 for +, in 40 bytes.
    return ((k + (1 << 320) - 1) >> 1).to_bytes(40, "little")


def _tooth(signs, i):
    # What the comb adds at its place i: the sum of +-2^(i + 80 j) G for j = 0 .. 3, less the factor 2^i.
    byte = i >> 3
    i &= 7
    sign = signs[byte + 30] >> i & 1
    at = signs[byte] >> i & 1 | (signs[byte + 10] >> i & 1) << 1 | (signs[byte + 20] >> i & 1) << 2
    # The table has sums with a positive first term only; without a branch, as the signs are secret.
    at = (at ^ sign - 1 & 7) << 6
    y = int.from_bytes(_COMB[at + 32 : at + 64], "big")
    return int.from_bytes(_COMB[at : at + 32], "big"), (P - y, y)[sign]


def _random(limit):
    # 1 .. limit - 1, each as likely as any other (FIPS 186-5, A.2.2); 2^-32 of the draws are rejected.
    while True:
        number = int.from_bytes(os.urandom(32), "big")
        if 0 < number < limit:
            return number


def _base(k):
    # k * G, affine, for a secret k: 64 random bits more in the scalar, and each time another representation of the
    # first point. Fewer than 64 bits would leave a part of k bare: the order is 2^256 - 2^224 + 2^192 and little more.
    k += int.from_bytes(os.urandom(8), "big") * N
    if not k & 1:
        k += N
    signs = _signs(k)
    x, y = _tooth(signs, 79)
    z = _random(P)
    total = (x * z * z % P, y * z * z * z % P, z)
    for i in range(78, -1, -1):
        x, y = _tooth(signs, i)
        total = _add(_double(total), x, y)
    x, y, z = total
    z = pow(z, P - 2, P)
    return x * z * z % P, y * z * z * z % P


def generate():
    """A new private key."""
    return _random(N)


def public_key(private):
    """The 65 bytes of the public key."""
    if not 0 < private < N:
        raise ValueError("private key out of range")
    x, y = _base(private)
    return b"\x04" + x.to_bytes(32, "big") + y.to_bytes(32, "big")


def point(public):
    """(x, y) of a public key; ValueError unless it is a point of the curve (SP 800-56A, 5.6.2.3.3)."""
    if len(public) != 65 or public[0] != 4:
        raise ValueError("not an uncompressed P-256 point")
    x = int.from_bytes(public[1:33], "big")
    y = int.from_bytes(public[33:], "big")
    if x >= P or y >= P or (y * y - (x * x - 3) * x - _B) % P:
        raise ValueError("not a point of P-256")
    return x, y


def _keyed(key, mask, data):
    return hashlib.sha256(bytes(byte ^ mask for byte in key + bytes(64 - len(key))) + data).digest()


def hmac(key, data):
    # MicroPython has no hmac module. Keys are 32 bytes here, always shorter than SHA-256's block.
    return _keyed(key, 0x5C, _keyed(key, 0x36, data))


def _nonces(private, digest):
    # RFC 6979, 3.2. As both the curve's order and the hash have 256 bits, each candidate is one HMAC.
    v = b"\x01" * 32
    key = bytes(32)
    seed = private.to_bytes(32, "big") + (int.from_bytes(digest, "big") % N).to_bytes(32, "big")
    for step in (b"\0" + seed, b"\1" + seed):
        key = hmac(key, v + step)
        v = hmac(key, v)
    while True:
        v = hmac(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < N:
            yield k
        key = hmac(key, v + b"\0")
        v = hmac(key, v)


def sign(private, digest):
    """(r, s) over a SHA-256 digest; s as it comes out, not the lesser of s and N - s."""
    if len(digest) != 32 or not 0 < private < N:
        raise ValueError("sign wants a SHA-256 digest and a key in range")
    z = int.from_bytes(digest, "big")
    nonces = _nonces(private, digest)
    while True:
        k = next(nonces)
        r = _base(k)[0] % N
        blind = _random(N)
        # k^-1 (z + r d), with the secrets k and d only in products with `blind`
        s = pow(k * blind % N, N - 2, N) * (blind * z + blind * private % N * r) % N
        if r and s:
            return r, s


def verify(public, digest, r, s):
    """Whether (r, s) is the signature of this SHA-256 digest; ValueError for a public key off the curve."""
    return list(verifying(public, digest, r, s))[-1]


def verifying(public, digest, r, s):
    """verify() in 17 pieces, between which a loop can do other things: yields None, at last the answer."""
    x, y = point(public)
    if len(digest) != 32 or not (0 < r < N and 0 < s < N):
        yield False
        return
    inverse = pow(s, N - 2, N)
    u = int.from_bytes(digest, "big") * inverse % N
    signs = _signs(u if u & 1 else u + N)
    v = r * inverse % N
    # u G by the comb, in the last 80 of the doublings that v times the public key takes. v has the digits -1, 0 and 1,
    # most of them 0: each is a bit of 3 v less the bit of v at the same place, half of it (Reitwiesner's form).
    triple = (3 * v).to_bytes(33, "little")
    single = v.to_bytes(33, "little")
    total = (0, 1, 0)
    for i in range(257, 0, -1):
        total = _double(total)
        digit = (triple[i >> 3] >> (i & 7) & 1) - (single[i >> 3] >> (i & 7) & 1)
        if digit:
            total = _add(total, x, digit * y)
        if i <= 80:
            total = _add(total, *_tooth(signs, i - 1))
        if not i & 15:
            yield None
    x, y, z = total
    # x / z^2 = r modulo N, without the division; x / z^2 may lie between N and P.
    zz = z * z % P
    yield bool(z) and (r * zz % P == x or r + N < P and (r + N) * zz % P == x)
