# RFC 1035 and 3596, the part a client needs: a question for A or AAAA records, and an answer that is believed only if
# it fits it.
from coupler.const import const

A = 1
AAAA = 28
_CNAME = const(5)
_IN = const(1)
_MAX_ALIASES = const(8)

_RCODES = ("no error", "format error", "server failure", "no such name", "not implemented", "refused")


class DnsError(Exception):
    """The answer cannot be used. final: another server would say the same (the name does not exist)."""

    def __init__(self, text, final=False):
        super().__init__(text)
        self.final = final


def query(name, ident, kind):
    """One packet that asks for the records of `name`, A or AAAA; ValueError when it is no host name."""
    out = bytearray(b"\0\0\x01\0\0\x01\0\0\0\0\0\0")
    out[0] = ident >> 8
    out[1] = ident & 0xFF
    out += _question(name, kind)
    return bytes(out)


def _question(name, kind):
    return _encode(name) + bytes((0, kind, 0, _IN))


def _encode(name):
    out = bytearray()
    if name.endswith("."):
        name = name[:-1]
    for label in name.split("."):
        raw = label.encode()
        if not 1 <= len(raw) <= 63:
            raise ValueError("not a host name: %r" % name)
        for c in raw:
            if not (48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122 or c in b"-_"):
                raise ValueError("not a host name: %r" % name)
        out.append(len(raw))
        out += raw
    if len(out) > 254:
        raise ValueError("not a host name: %r" % name)
    out.append(0)
    return out


def _name(data, at):
    # Returns the name, lower case and still in wire form, and the offset behind it. A pointer must lead backwards, so
    # a forged message cannot make a loop.
    out = bytearray()
    end = 0
    limit = at
    while True:
        if at >= len(data):
            raise DnsError("cut short")
        n = data[at]
        if n & 0xC0 == 0xC0:
            if at + 1 >= len(data):
                raise DnsError("cut short")
            target = (n & 0x3F) << 8 | data[at + 1]
            if target >= limit:
                raise DnsError("compression loop")
            if not end:
                end = at + 2
            at = limit = target
        elif n & 0xC0:
            raise DnsError("unknown label type")
        else:
            at += 1
            if at + n > len(data):
                raise DnsError("cut short")
            out.append(n)
            if n == 0:
                return bytes(out).lower(), end or at
            out += data[at : at + n]
            if len(out) > 255:
                raise DnsError("name too long")
            at += n


def is_answer(data, ident, name, kind):
    """Whether the packet answers this very question: anything else is late, stray or forged and must be ignored."""
    if len(data) < 12 or (data[0] << 8 | data[1]) != ident or data[2] & 0xF8 != 0x80 or data[4:6] != b"\0\x01":
        return False
    try:
        asked, at = _name(data, 12)
    except DnsError:
        return False
    return asked + data[at : at + 4] == bytes(_question(name, kind)).lower()


def answer(data):
    """The addresses of the name, as text, in the server's order. DnsError: malformed, or what the server said."""
    code = data[3] & 0x0F
    if code:
        raise DnsError(_RCODES[code] if code < len(_RCODES) else "error %d" % code, code == 3)
    asked, at = _name(data, 12)
    wanted = data[at + 1]
    at += 4
    aliases = [asked]
    found = []
    for _ in range(data[6] << 8 | data[7]):
        if at >= len(data) and data[2] & 2 and found:
            break  # truncated to fit the datagram: what arrived is still good
        owner, at = _name(data, at)
        if at + 10 > len(data):
            raise DnsError("cut short")
        kind = data[at] << 8 | data[at + 1]
        group = data[at + 2] << 8 | data[at + 3]
        size = data[at + 8] << 8 | data[at + 9]
        at += 10
        if at + size > len(data):
            raise DnsError("cut short")
        if group == _IN and owner in aliases:
            if kind == wanted:
                text = _address(data[at : at + size], kind)
                if text not in found:
                    found.append(text)
            elif kind == _CNAME and len(aliases) < _MAX_ALIASES:
                aliases.append(_name(data, at)[0])
        at += size
    if not found and data[2] & 2:
        raise DnsError("cut short")
    return found


def _address(data, kind):
    if len(data) != (4 if kind == A else 16):
        raise DnsError("address of %d bytes" % len(data))
    if kind == A:
        return "%d.%d.%d.%d" % tuple(data)
    return ":".join(["%x" % (data[i] << 8 | data[i + 1]) for i in range(0, 16, 2)])
