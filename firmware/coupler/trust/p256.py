# P-256 (FIPS 186-5, SP 800-186) with deterministic ECDSA (RFC 6979), on nothing but big integers and SHA-256.
#
# Public keys are 65 bytes, uncompressed (SEC 1, 2.3.3); private keys are integers. Inside, points are
# Jacobian: (X, Y, Z) stands for (X/Z^2, Y/Z^3), Z = 0 for the point at infinity.
#
# Python's integers do not take constant time. So secrets are blinded: the scalar by a random multiple of the
# group's order, the base point by a random Z, the inversion by a random factor; what leaks of one run says
# nothing about the next. Inversion is pow(a, m - 2, m): MicroPython's pow(a, -1, m) answers 0.
import hashlib
import os

P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_GX = 0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296
_GY = 0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5


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


def _add(one, two):
    p = P
    x1, y1, z1 = one
    x2, y2, z2 = two
    if not z1:
        return two
    if not z2:
        return one
    zz1 = z1 * z1 % p
    zz2 = z2 * z2 % p
    u = x1 * zz2 % p
    s = y1 * zz2 * z2 % p
    h = (x2 * zz1 - u) % p
    r = (y2 * zz1 * z1 - s) % p
    if not h:
        # The same point, which this formula cannot double, or its opposite.
        return (0, 1, 0) if r else _double(one)
    hh = h * h % p
    v = u * hh % p
    hh = h * hh % p
    x3 = (r * r - hh - 2 * v) % p
    return x3, (r * (v - x3) - s * hh) % p, h * z1 * z2 % p


def _combine(terms):
    # The sum of k * point over all terms (k, point): one run of doublings for all (Straus, 4-bit windows).
    tables = []
    top = 0
    for k, point in terms:
        multiples = [(0, 1, 0), point]
        for i in range(2, 16):
            multiples.append(_add(multiples[i - 1], point) if i & 1 else _double(multiples[i >> 1]))
        # Bytes, not the integer itself: shifting it for each window would make a new big integer every time.
        digits = k.to_bytes(40, "big")
        tables.append((digits, multiples))
        first = 0
        while first < 40 and not digits[first]:
            first += 1
        top = max(top, 40 - first)
    total = (0, 1, 0)
    for i in range(40 - top, 40):
        for shift in (4, 0):
            if total[2]:
                total = _double(_double(_double(_double(total))))
            for digits, multiples in tables:
                digit = digits[i] >> shift & 15
                if digit:
                    total = _add(total, multiples[digit])
    return total


def _affine(point):
    x, y, z = point
    inverse = pow(z, P - 2, P)
    square = inverse * inverse % P
    return x * square % P, y * square * inverse % P


def _random(limit):
    # 1 .. limit - 1, each as likely as any other (FIPS 186-5, A.2.2); 2^-32 of the draws are rejected.
    while True:
        number = int.from_bytes(os.urandom(32), "big")
        if 0 < number < limit:
            return number


def _base(k):
    # k * G for a secret k: 64 random bits more in the scalar, and another representation of G each time.
    z = _random(P)
    zz = z * z % P
    k += int.from_bytes(os.urandom(8), "big") * N
    return _affine(_combine(((k, (_GX * zz % P, _GY * zz * z % P, z)),)))


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


def hmac(key, *parts):
    # MicroPython has no hmac module. Keys are 32 bytes here, always shorter than SHA-256's block.
    pad = key + bytes(64 - len(key))
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in pad))
    for part in parts:
        inner.update(part)
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in pad))
    outer.update(inner.digest())
    return outer.digest()


def _nonces(private, digest):
    # RFC 6979, 3.2. As both the curve's order and the hash have 256 bits, each candidate is one HMAC.
    z = int.from_bytes(digest, "big") % N
    seed = private.to_bytes(32, "big") + z.to_bytes(32, "big")
    v = b"\x01" * 32
    key = hmac(bytes(32), v, b"\x00", seed)
    v = hmac(key, v)
    key = hmac(key, v, b"\x01", seed)
    v = hmac(key, v)
    while True:
        v = hmac(key, v)
        k = int.from_bytes(v, "big")
        if 0 < k < N:
            yield k
        key = hmac(key, v, b"\x00")
        v = hmac(key, v)


def sign(private, digest):
    """(r, s) over a SHA-256 digest."""
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
    x, y = point(public)
    if len(digest) != 32 or not (0 < r < N and 0 < s < N):
        return False
    inverse = pow(s, N - 2, N)
    z = int.from_bytes(digest, "big")
    total = _combine(((z * inverse % N, (_GX, _GY, 1)), (r * inverse % N, (x, y, 1))))
    return bool(total[2]) and _affine(total)[0] % N == r
