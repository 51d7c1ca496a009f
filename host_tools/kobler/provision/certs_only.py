"""A message that holds certificates alone (RFC 5652, 5; RFC 7030, 4.1.3), as EST servers send it.

It may be BER: OpenSSL and Go do not sort its sets, BouncyCastle does not say how long its parts are. cryptography wants
DER and warns that it will not take anything else for ever; the certificates themselves, which are DER, it does read.
"""

from __future__ import annotations

_SIGNED_DATA = bytes.fromhex("2a864886f70d010702")
_OID, _SEQUENCE, _FIRST = 0x06, 0x30, 0xA0
_DEEPEST = 16


def split(message: bytes) -> list[bytes]:
    """Its certificates, DER, in the order found; ValueError if it is no such message. They are not looked into."""
    kind, *content = _parts(_only(_SEQUENCE, [message]))
    if _only(_OID, [kind]) != _SIGNED_DATA:
        raise ValueError("PKCS #7, but no signed data")
    signed = _parts(_only(_SEQUENCE, _parts(_only(_FIRST, content))))
    found = [one for part in signed if part[0] == _FIRST for one in _parts(_only(_FIRST, [part]))]
    if not found:
        raise ValueError("PKCS #7 with no certificate")
    return found


def _only(tag: int, parts: list[bytes]) -> bytes:
    # -> what is in the one element that this is to be
    if len(parts) != 1 or parts[0][:1] != bytes((tag,)):
        raise ValueError("not PKCS #7")
    begin, end, after = _measure(parts[0], 0)
    if after != len(parts[0]):
        raise ValueError("bytes after the end of PKCS #7")
    return parts[0][begin:end]


def _parts(content: bytes) -> list[bytes]:
    found, at = list[bytes](), 0
    while at < len(content):
        after = _measure(content, at)[2]
        found.append(content[at:after])
        at = after
    return found


def _measure(data: bytes, at: int, depth: int = 0) -> tuple[int, int, int]:
    # -> where the content of the element at `at` begins and ends, and where the next one is (X.690, 8.1)
    if at + 2 > len(data) or data[at] & 0x1F == 0x1F or depth > _DEEPEST:
        raise ValueError("damaged PKCS #7")
    begin, size = at + 2, data[at + 1]
    if size == 0x80 and data[at] & 0x20:  # its end is marked
        end = begin
        while data[end : end + 2] != b"\0\0":
            end = _measure(data, end, depth + 1)[2]
        return begin, end, end + 2
    if size >= 0x80:
        begin += size & 0x7F
        size = int.from_bytes(data[at + 2 : begin])
        if begin == at + 2 or begin > len(data):
            raise ValueError("damaged PKCS #7")
    if begin + size > len(data):
        raise ValueError("damaged PKCS #7")
    return begin, begin + size, begin + size
