# A small HTTP/1.1 client (RFC 9110, RFC 9112): one request on a connection of its own, over TLS that is always
# verified. No redirects, no retries, no cookies: who asks decides. Imported when needed, and forgotten.
#
# Whatever could be read in two ways is refused: folded or unnamed fields, lines that do not end with CR LF, a length
# given twice or beside a transfer coding, a body whose end nothing tells.
import asyncio
import binascii

from coupler.const import const
from coupler.net.errors import NetError

TCP_MS = const(10000)
TLS_MS = const(20000)  # a chip takes up to 4 s for it
IDLE_MS = const(20000)
TOTAL_MS = const(60000)

_BUFFER = const(1024)
_HEAD = const(8192)  # bytes of status line and fields, those of interim answers included; as many of trailers
_LINES = const(64)
_SIZE_LINE = const(256)  # of a chunk, extensions included
_DIGITS = const(7)  # of a chunk's size
_LENGTH_DIGITS = const(10)

_STATUS = const(0)
_FIELDS = const(1)
_BODY = const(2)
_CHUNK = const(3)  # its size
_AFTER = const(4)  # the CR LF behind a chunk
_TRAILERS = const(5)
_DONE = const(6)

_HEX = b"0123456789abcdefABCDEF"
_NAME = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-."
_TOKEN = _NAME.encode() + b"!#$%&'*+^_`|~"


class HttpError(NetError):
    """The peer does not keep to HTTP, or to the limits; or the request could not be written as it was given."""

    def __init__(self, text):
        super().__init__("http", text)


class Answer:
    """Sans-IO: feed receive() until `done`. status; fields: values by name in lower case; body, where it is kept.

    limit: bytes that the body may have. HttpError, the same however the bytes are cut into pieces."""

    def __init__(self, limit, method="GET"):
        self.status = 0
        self.fields = {}
        self.body = b""
        self._limit = limit
        self._method = method
        self._old = False  # HTTP/1.0
        self._state = _STATUS
        self._line = bytearray()
        self._room = _HEAD
        self._lines = _LINES
        self._left = 0  # of the body or the chunk; None: until the peer closes
        self._chunked = False

    @property
    def done(self):
        return self._state == _DONE

    def receive(self, data):
        """Yields the body's pieces, views into `data`. What comes behind the answer is not looked at."""
        data = memoryview(data)
        while data and self._state != _DONE:
            if self._state == _BODY:
                left = self._left
                n = len(data) if left is None else min(left, len(data))
                if n > self._limit:
                    if self.status < 300:
                        raise HttpError("the body is too large")
                    self._state = _DONE  # a page about an error: its beginning will do
                    yield data[: self._limit]
                    return
                self._limit -= n
                yield data[:n]
                data = data[n:]
                if left is not None:
                    self._left = left - n
                    if not self._left:
                        self._expect(_AFTER if self._chunked else _DONE, _SIZE_LINE)
                continue
            n = bytes(data).find(b"\n") + 1 or len(data)
            self._room -= n
            if self._room < 0:
                raise HttpError("a head of more than %d bytes" % _HEAD)
            line = self._line
            line.extend(data[:n])
            data = data[n:]
            if line[-1] == 10:
                self._line = bytearray()
                if line[-2:] != b"\r\n":  # RFC 9112, 2.2 would allow it
                    raise HttpError("a line without CR LF")
                self._take(bytes(memoryview(line)[:-2]))

    def closed(self):
        """The peer has closed. HttpError if that was too early."""
        if self._state == _BODY and self._left is None:
            self._state = _DONE
        if self._state != _DONE:
            raise HttpError("the answer is cut short")

    def _take(self, line):
        for c in line:
            if c < 32 and c != 9 or c == 127:  # RFC 9110, 5.5
                raise HttpError("a control character in a line")
        state = self._state
        if state == _STATUS:
            self._status(line)
        elif state == _CHUNK:
            self._size(line)
        elif state == _AFTER:
            if line:
                raise HttpError("a chunk is longer than its size")
            self._expect(_CHUNK, _SIZE_LINE)
        elif line:
            self._lines -= 1
            if not self._lines:
                raise HttpError("more than %d fields" % _LINES)
            self._field(line)
        elif state == _TRAILERS:
            self._state = _DONE
        elif self.status < 200:  # RFC 9110, 15.2: interim, the answer itself follows
            self.fields = {}
            self._state = _STATUS
        else:
            self._begin()

    def _expect(self, state, room):
        self._state = state
        self._room = room

    def _status(self, line):
        # RFC 9112, 4; a space behind the code is missing in the wild where there is no reason
        code = line[9:12]
        if line[:7] != b"HTTP/1." or line[7:9] not in (b"0 ", b"1 ") or len(code) < 3 or not code.isdigit():
            raise HttpError("not HTTP/1.1")
        self._old = line[7] == 48
        self.status = int(code)
        if line[12:13] not in (b"", b" ") or self.status < 100 or self.status == 101:
            raise HttpError("a status of %s" % code.decode())
        self._lines -= 1
        if not self._lines:
            raise HttpError("too many interim answers")
        self._state = _FIELDS

    def _field(self, line):
        # RFC 9112, 5: no space before the colon, and none before the name, which was a folded line once
        name, colon, value = line.partition(b":")
        if not colon or not name or name.strip(_TOKEN):
            raise HttpError("a malformed field")
        if self._state == _TRAILERS:
            return  # RFC 9110, 6.5.1: they may be left out
        name = name.decode().lower()
        value = "".join([chr(c) if c < 127 else "?" for c in value.strip(b" \t")])
        before = self.fields.get(name)
        self.fields[name] = value if before is None else before + ", " + value

    def _begin(self):
        # How long is the body? RFC 9112, 6.3
        fields = self.fields
        coding = fields.get("transfer-encoding")
        length = fields.get("content-length")
        self._state = _BODY
        if self._method == "HEAD" or self.status in (204, 304):
            self._state = _DONE
        elif coding is not None:
            if length is not None or self._old or coding.lower() != "chunked":
                raise HttpError("a transfer coding of %r beside a length, or unknown" % coding[:20])
            self._chunked = True
            self._expect(_CHUNK, _SIZE_LINE)
        elif length is not None:
            if not length.isdigit() or len(length) > _LENGTH_DIGITS:
                raise HttpError("a length of %r" % length[:20])
            self._left = int(length)
            if self._left > self._limit and self.status < 300:
                raise HttpError("the body is too large: %s bytes" % length)
            if not self._left:
                self._state = _DONE
        else:
            # It ends where the peer closes, which it was asked to (RFC 9112, 6.3, 8). If it does not even say that it
            # will, nobody waits for what he can do without.
            options = [option.strip() for option in fields.get("connection", "").lower().split(",")]
            self._left = None
            if (self.status == 202 or self.status >= 300) and not self._old and "close" not in options:
                self._state = _DONE

    def _size(self, line):
        # RFC 9112, 7.1; extensions are skipped
        size, semicolon, _ = line.partition(b";")
        if semicolon:
            size = size.rstrip(b" \t")
        if not 0 < len(size) <= _DIGITS or size.strip(_HEX):
            raise HttpError("a malformed chunk size")
        self._left = int(size, 16)
        if self._left:
            self._state = _BODY
        else:
            self._expect(_TRAILERS, _HEAD)


def split(url):
    """https URL -> (host, port, path with query). HttpError."""
    for c in url:
        if not "!" <= c <= "~" or c in '"<>\\^`{|}#':
            raise HttpError("the URL has a character that cannot stand there as it is")
    host, slash, path = url[8:].partition("/")
    host, colon, port = host.partition(":")
    if url[:8].lower() != "https://" or not host or host.strip(_NAME):
        raise HttpError("not an https:// URL with the name of a host")
    if colon and not (port.isdigit() and 0 < int(port) < 65536):
        raise HttpError("the URL's port is no port")
    return host, int(port) if colon else 443, "/" + path


def head(method, host, port, path, fields, length):
    """The request up to its empty line; fields: pairs. length: of the body, None without one. HttpError."""
    text = "%s %s HTTP/1.1\r\nHost: %s" % (method, path, host)
    if port != 443:
        text += ":%d" % port
    text += "\r\nConnection: close\r\nUser-Agent: kobler\r\n"
    if length is not None:
        text += "Content-Length: %d\r\n" % length
    for name, value in fields:
        for c in name + value:
            if not " " <= c <= "~":
                raise HttpError("a character in the field %s cannot be sent" % name)
        text += name + ": " + value + "\r\n"
    return (text + "\r\n").encode()


def basic(user, password):
    """The field that gives a user's name and password (RFC 7617)."""
    return "Authorization", "Basic " + binascii.b2a_base64((user + ":" + password).encode()).decode().strip()


async def request(hal, method, url, trust, fields=(), body=None, length=None, sink=None, limit=4096, bus=None,
                  idle_ms=IDLE_MS, total_ms=TOTAL_MS):  # fmt: skip
    """One request; its Answer, whatever its status.

    trust: "ca", and for who has to show a certificate "cert" and "key" (DER). body: bytes; or, with its length, a
    coroutine function that gives piece after piece, an empty one at the end. The answer's body goes to `await
    sink(view)`, else it is kept in the Answer. bus: as of TlsStream.handshake(). idle_ms: for the peer to take a piece
    of the request, or to send one of the answer.
    NetError: dns, tcp, tls-..., timeout, closed; HttpError."""
    began = hal.ticks_ms()
    host, port, path = split(url)

    def left(ms):
        total = total_ms - hal.ticks_diff(hal.ticks_ms(), began)
        if total <= 0:
            raise NetError("timeout", "%s: not done in %d ms" % (host, total_ms))
        return min(ms, total)

    async def within(step, data):
        ms = left(idle_ms)
        try:
            return await asyncio.wait_for(step(data), ms / 1000)
        except asyncio.TimeoutError:
            raise NetError("timeout", "%s: nothing came or went for %d ms" % (host, ms))

    streamed = length is not None
    if body is not None and not streamed:
        length = len(body)
    first = head(method, host, port, path, fields, length)
    if body and not streamed:
        first += body
    stream = await _connect(hal, host, port, trust, left, first, bus)
    try:
        failed = await _send(stream.write, within, body, length) if streamed else None
        answer = Answer(limit, method)
        kept = bytearray()
        buf = memoryview(bytearray(_BUFFER))
        try:
            while not answer.done:
                n = await within(stream.readinto, buf)
                if not n:
                    answer.closed()
                for piece in answer.receive(buf[:n]):
                    if sink:
                        await sink(piece)
                    else:
                        kept.extend(piece)
        except NetError as error:
            raise failed or error
    finally:
        stream.close()
    answer.body = bytes(kept)
    return answer


async def _connect(hal, host, port, trust, left, first, bus):
    # To one address after the other; where the handshake fails, nothing of the request was sent.
    from coupler.net.dial import dial
    from coupler.net.resolve import resolve

    addresses = await resolve(hal, host)
    failed = []
    while addresses:
        stream, _, addresses = await dial(hal, addresses, port, left(TCP_MS), failed.append)
        if not stream:
            break
        below = stream
        try:
            stream = hal.net.tls(stream, host, trust["ca"], trust.get("cert"), trust.get("key"))
            await stream.handshake(left(TLS_MS), first, bus)
            below = None
            return stream
        except NetError as error:
            failed.append(error)
        finally:
            if below:
                stream.close()
    raise failed[-1]


async def _send(write, within, body, length):
    # The failure to write, after which the peer may still have answered (RFC 9112, 9.5). One piece ahead, so that a
    # body that is longer than announced never looks whole.
    piece = await body()
    if not length and not piece:
        return None
    while True:
        length -= len(piece)
        following = await body() if piece else piece
        if not piece or length < 0 or bool(length) != bool(following):
            raise HttpError("the body is not as long as announced")
        try:
            await within(write, piece)
        except NetError as error:
            return error
        if not length:
            return None
        piece = following
