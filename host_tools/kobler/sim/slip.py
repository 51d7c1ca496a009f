"""SLIP framing (RFC 1055) as the boot ROM's serial protocol uses it."""

from __future__ import annotations

END, ESC, ESC_END, ESC_ESC = 0xC0, 0xDB, 0xDC, 0xDD


def encode(packet: bytes) -> bytes:
    """The packet between two END bytes, both special bytes escaped."""
    body = packet.replace(b"\xdb", b"\xdb\xdd").replace(b"\xc0", b"\xdb\xdc")
    return b"\xc0" + body + b"\xc0"


class Decoder:
    """Bytes in, whole packets out. A packet with a wrong escape is dropped, as the ROM does; so is one longer
    than `limit`, so that a stream that is no SLIP at all cannot fill the memory."""

    def __init__(self, limit: int = 0x20000) -> None:
        self._limit = limit
        self._packet = bytearray()
        self._open = False

    def feed(self, data: bytes) -> list[bytes]:
        packets: list[bytes] = []
        start = 0
        while start < len(data):
            end = data.find(b"\xc0", start)
            if end < 0:
                self._take(data[start:])
                break
            self._take(data[start:end])
            start = end + 1
            if self._open and self._packet:
                packet = _unescape(bytes(self._packet))
                if packet is not None:
                    packets.append(packet)
                self._open = False
            else:
                # Two ENDs in a row: the first one closed nothing, so this one opens.
                self._open = True
            self._packet.clear()
        return packets

    def _take(self, part: bytes) -> None:
        if not self._open:
            return
        self._packet += part
        if len(self._packet) > self._limit:
            self._packet.clear()
            self._open = False


def _unescape(body: bytes) -> bytes | None:
    if b"\xdb" not in body:
        return body
    pieces = body.split(b"\xdb")
    out = bytearray(pieces[0])
    for piece in pieces[1:]:
        if piece[:1] == b"\xdc":
            out.append(END)
        elif piece[:1] == b"\xdd":
            out.append(ESC)
        else:
            return None
        out += piece[1:]
    return bytes(out)
