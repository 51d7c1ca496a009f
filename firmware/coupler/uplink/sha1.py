# SHA-1 (FIPS 180-4) for the one hash that opens a WebSocket, where the interpreter was built without it.
import struct

from coupler.const import const

_WORD = const(0xFFFFFFFF)


def _rotate(x, n):
    return (x << n | x >> (32 - n)) & _WORD


def sha1(data):
    """20 bytes."""
    h = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0]
    n = len(data)
    data = bytes(data) + b"\x80" + bytes((55 - n) % 64) + struct.pack(">Q", n * 8)
    for at in range(0, len(data), 64):
        w = list(struct.unpack(">16I", data[at : at + 64]))
        for i in range(16, 80):
            w.append(_rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1))
        a, b, c, d, e = h
        for i in range(80):
            if i < 20:
                f = (b & c | ~b & d) + 0x5A827999
            elif i < 40:
                f = (b ^ c ^ d) + 0x6ED9EBA1
            elif i < 60:
                f = (b & c | b & d | c & d) + 0x8F1BBCDC
            else:
                f = (b ^ c ^ d) + 0xCA62C1D6
            a, b, c, d, e = (_rotate(a, 5) + f + e + w[i]) & _WORD, a, _rotate(b, 30), c, d
        h = [(x + y) & _WORD for x, y in zip(h, (a, b, c, d, e))]
    return struct.pack(">5I", *h)
