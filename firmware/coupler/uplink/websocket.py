# RFC 6455, the client's side, sans-IO. Data is handed on in chunks as it arrives and never collected, so the memory
# needed does not depend on what the peer sends: only a frame's header (14 bytes) and a control frame's payload (125)
# are kept.
#
#   state       bytes in                        bytes out
#   CONNECTING  the HTTP answer, then as OPEN   request()
#   OPEN        frames                          send(), close() -> CLOSING; the echo of the peer's close -> CLOSED
#   CLOSING     frames up to the peer's close   nothing
#   CLOSED      ignored                         nothing
import binascii

from coupler.const import const
from coupler.uplink.errors import ProtocolError
from coupler.uplink.utf8 import Utf8, valid

CONNECTING = const(0)
OPEN = const(1)
CLOSING = const(2)
CLOSED = const(3)

# Opcodes, and with them the kinds of events; OPENED and REPLY have no opcode.
TEXT = const(1)
BINARY = const(2)
CLOSE = const(8)
PING = const(9)
PONG = const(10)
OPENED = const(16)
REPLY = const(17)

_MAX_ANSWER = const(4096)
_MASK_PIECE = const(512)  # bounds the big integers, a multiple of 4


def _mask(out, at, data, key):
    # One XOR of big integers for each piece: twenty times the speed of a loop over bytes.
    view = memoryview(data)
    pad = 0
    for i in range(0, len(view), _MASK_PIECE):
        piece = view[i : i + _MASK_PIECE]
        n = len(piece)
        if n == _MASK_PIECE:
            pad = pad or int.from_bytes(key * (_MASK_PIECE // 4), "big")
            mixed = int.from_bytes(piece, "big") ^ pad
        else:
            mixed = int.from_bytes(piece, "big") ^ int.from_bytes((key * (n // 4 + 1))[:n], "big")
        out[at + i : at + i + n] = mixed.to_bytes(n, "big")


def _close_code_allowed(code):
    return 3000 <= code <= 4999 or 1000 <= code <= 1014 and code not in (1004, 1005, 1006)


class WebSocket:
    """urandom(n) -> n unpredictable bytes; subprotocol may be None; max_message caps the bytes of one message."""

    def __init__(self, host, path, subprotocol, urandom, max_message=65536):
        self.state = CONNECTING
        self.close_code = None  # of the peer; 1005 when it gave none
        self._host = host
        self._path = path
        self._subprotocol = subprotocol
        self._urandom = urandom
        self._max = max_message
        self._key = binascii.b2a_base64(urandom(16)).strip()
        self._head = bytearray()  # the HTTP answer, then a frame's header, then a control frame's payload
        self._need = 2  # bytes of header, as far as known
        self._opcode = 0
        self._left = -1  # bytes of payload still to come; -1 while in the header
        self._fin = False
        self._message = 0  # opcode of the message that is open, 0 between messages
        self._size = 0  # of that message
        self._utf8 = None

    def request(self):
        """The HTTP request to write first."""
        from coupler.uplink import upgrade

        return upgrade.request(self._host, self._path, self._subprotocol, self._key)

    def receive(self, data):
        """Yields (kind, data, last) for bytes of the peer; iterate to the end before the next call.

        (TEXT or BINARY, view, whether it ends the message); (REPLY, bytes to write as they are, True);
        (OPENED, b"", True); (PING or PONG, payload, True); (CLOSE, reason, True).
        ProtocolError: write close(error.code), then drop the connection."""
        view = memoryview(data)
        at = 0
        if self.state == CONNECTING:
            at = self._handshake(view)
            if self.state == CONNECTING:
                return
            yield OPENED, b"", True
        n = len(view)
        while at < n and self.state != CLOSED:
            if self._left < 0:
                take = self._need - len(self._head)
                self._head += view[at : at + take]
                at += take
                if len(self._head) >= self._need and self._header() and self._left == 0:
                    yield from self._payload(view[:0])
            else:
                piece = view[at : at + self._left]
                at += len(piece)
                yield from self._payload(piece)

    def _fail(self, text, code=1002):
        raise ProtocolError("websocket", text, code)

    def _handshake(self, view):
        # Returns the offset of the first byte behind the answer; the state is OPEN then.
        head = self._head
        before = len(head)
        head += view[: _MAX_ANSWER - before]
        end = head.find(b"\r\n\r\n")
        if end < 0:
            if not b"HTTP/1.1 ".startswith(bytes(head[:9])):
                raise ProtocolError("http", "the answer is not HTTP")
            if len(head) >= _MAX_ANSWER:
                raise ProtocolError("http", "the answer's header is over %d bytes" % _MAX_ANSWER)
            return len(view)
        self._head = bytearray()
        from coupler.uplink import upgrade

        upgrade.check(bytes(head[:end]), self._key, self._subprotocol)
        self.state = OPEN
        return end + 4 - before

    def _header(self):
        # True when the header is complete; all its rules are checked before a byte of payload is taken.
        head = self._head
        first = head[0]
        length = head[1] & 0x7F
        opcode = first & 0x0F
        if self._need == 2:
            if first & 0x70:
                self._fail("reserved bits are set")
            if head[1] & 0x80:
                self._fail("the server's frame is masked")
            if opcode & 8:
                if opcode > PONG:
                    self._fail("unknown opcode %d" % opcode)
                if not first & 0x80 or length > 125:
                    self._fail("control frame fragmented or over 125 bytes")
            elif opcode > BINARY:
                self._fail("unknown opcode %d" % opcode)
            elif opcode and self._message:
                self._fail("a new message inside another")
            elif not opcode and not self._message:
                self._fail("a continuation of nothing")
            if length > 125:
                self._need = 4 if length == 126 else 10
                return False
        else:
            length = int.from_bytes(bytes(head[2:]), "big")
            if length < (126 if self._need == 4 else 65536) or length >> 63:
                self._fail("length not in its shortest form")
        self._fin = first & 0x80 != 0
        self._opcode = opcode
        self._left = length
        self._head = bytearray()
        self._need = 2
        if not opcode & 8:
            if opcode:
                self._message = opcode
                self._size = 0
                self._utf8 = Utf8() if opcode == TEXT else None
            self._size += length
            if self._size > self._max:
                self._fail("a message over %d bytes" % self._max, 1009)
        return True

    def _payload(self, piece):
        self._left -= len(piece)
        done = self._left == 0
        if done:
            self._left = -1
        if self._opcode & 8:
            self._head += piece
            if done:
                payload = bytes(self._head)
                self._head = bytearray()
                yield from self._control(payload)
            return
        last = done and self._fin
        kind = self._message
        if self._utf8 and not (self._utf8.feed(piece) and (not last or self._utf8.whole())):
            self._fail("text that is not UTF-8", 1007)
        if last:
            self._message = 0
        if len(piece) or last:
            yield kind, piece, last

    def _control(self, payload):
        kind = self._opcode
        if kind == PING:
            if self.state == OPEN:
                yield REPLY, self.send(payload, PONG), True
        elif kind == CLOSE:
            yield from self._closed(payload)
            return
        yield kind, payload, True

    def _closed(self, payload):
        code = 1005
        if len(payload) == 1:
            self._fail("close frame of one byte")
        if payload:
            code = payload[0] << 8 | payload[1]
            if not _close_code_allowed(code):
                self._fail("close code %d is not allowed" % code)
            if not valid(payload[2:]):
                self._fail("close reason that is not UTF-8", 1007)
        self.close_code = code
        if self.state == OPEN:
            yield REPLY, self._frame(payload[:2], CLOSE), True
        self.state = CLOSED
        yield CLOSE, payload[2:], True

    def _frame(self, payload, opcode, last=True):
        n = len(payload)
        if n < 126:
            start = 2
        elif n < 65536:
            start = 4
        else:
            start = 10
        out = bytearray(start + 4 + n)
        out[0] = 0x80 | opcode if last else opcode
        if start == 2:
            out[1] = 0x80 | n
        else:
            out[1] = 0xFE if start == 4 else 0xFF
            out[2:start] = n.to_bytes(start - 2, "big")
        key = self._urandom(4)
        out[start : start + 4] = key
        _mask(out, start + 4, payload, key)
        return out

    def send(self, payload, opcode=BINARY, last=True):
        """One frame, masked with a fresh key, to be written at once.

        A message in several frames: last=False for all but the last, opcode 0 for all but the first."""
        if self.state != OPEN:
            raise ProtocolError("websocket", "not open")
        return self._frame(payload, opcode, last)

    def close(self, code=1000):
        """The close frame to write, empty when it is no use any more; then wait for CLOSE or for the end."""
        if self.state != OPEN:
            return b""
        self.state = CLOSING
        return self._frame(code.to_bytes(2, "big"), CLOSE)
