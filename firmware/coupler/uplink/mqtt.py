# MQTT 3.1.1 (OASIS), the client's side, sans-IO: QoS 0 and 1 both ways, a persistent session, a bounded window of
# unacknowledged publishes that are repeated with DUP after a reconnect.
import struct

from coupler.const import const
from coupler.uplink.errors import ProtocolError
from coupler.uplink.utf8 import valid

# Events
CONNECTED = const(1)  # (CONNECTED, session present, None)
MESSAGE = const(2)  # (MESSAGE, topic str, payload bytes)
ACKED = const(3)  # (ACKED, the token given to publish(), None)
SUBSCRIBED = const(4)  # (SUBSCRIBED, list of the codes granted, None); 128 is a refusal
PONG = const(5)
REPLY = const(6)  # (REPLY, packet to write, None)
REPEATED = const(8)  # as MESSAGE, but it may have come before (MQTT 3.1.1, 3.3.1.1)
# (OVERSIZE, topic or None, its size): it went to `pieces`, or nowhere, and does not come back for ever. None: the topic
# is too long itself.
OVERSIZE = const(7)

_CONNACK = const(0x20)
_PUBLISH = const(0x30)
_PUBACK = const(0x40)
_SUBACK = const(0x90)
_PINGRESP = const(0xD0)

_REFUSALS = (
    "",
    "protocol version",
    "client id refused",
    "server unavailable",
    "bad user name or password",
    "not authorised",
)


def _string(out, text):
    raw = text if isinstance(text, (bytes, bytearray)) else text.encode()
    if len(raw) > 65535:
        raise ValueError("longer than 65535 bytes")
    out += struct.pack(">H", len(raw))
    out += raw


def _packet(kind, body_size):
    # The fixed header, in a buffer to which the body is added: one buffer, one write.
    out = bytearray([kind])
    while True:
        digit = body_size & 0x7F
        body_size >>= 7
        out.append(digit | 0x80 if body_size else digit)
        if not body_size:
            return out


def _bad(text):
    raise ProtocolError("mqtt", text)


class Mqtt:
    """will: (topic, payload, retain), sent by the broker at QoS 1. window: publishes in flight.

    pieces: pieces(topic, at, view, size) is called with what lies at `at` of a payload that is longer than the buffer,
    as it comes, from 0 on; OVERSIZE follows the last. After a connection that broke it may begin again."""

    pieces = None

    def __init__(
        self, client_id, keep_alive_s=60, window=8, max_packet=4096, will=None, user=None, password=None, clean=False
    ):
        self.keep_alive_s = keep_alive_s
        self.window = window
        self.strays = 0  # acknowledgements of nothing
        self.in_flight = []  # [packet id, packet, token], oldest first
        self._client_id = client_id
        self._will = will
        self.user = user
        self._password = password
        self._clean = clean
        self._last_id = 0
        self._buf = bytearray(max_packet)
        self.reset()

    def reset(self):
        """A new connection begins: what was half received is gone, what is in flight stays."""
        self.connected = False
        self._have = 0  # bytes of the packet in _buf
        self._head = bytearray()  # fixed header
        self._left = -1  # bytes of the packet's body to come; -1 while in the fixed header
        self._skipped = 0
        self._late = b""  # what of the packet id did not fit into _buf
        self._subscription = 0  # packet id that waits for its SUBACK
        self._filters = 0  # of that subscription
        self._pinged = False
        self._quiet = 0  # ms since a packet was sent
        self._heard = 0  # ms since one was received
        self._waiting = 0  # ms that something is unanswered without a sign of life

    # --- bytes out

    def connect(self):
        """The CONNECT packet of a new connection."""
        self.reset()
        flags = 2 if self._clean else 0
        body = bytearray()
        _string(body, self._client_id)
        if self._will:
            flags |= 0x2C if self._will[2] else 0x0C
            _string(body, self._will[0])
            _string(body, self._will[1])
        if self.user is not None:
            flags |= 0x80
            _string(body, self.user)
            if self._password is not None:
                flags |= 0x40
                _string(body, self._password)
        out = _packet(0x10, 10 + len(body))
        out += b"\0\x04MQTT\x04"
        out.append(flags)
        out += struct.pack(">H", self.keep_alive_s)
        out += body
        return out

    def room(self):
        """How many more QoS 1 publishes the window takes."""
        return self.window - len(self.in_flight)

    def publish(self, topic, payload, qos=1, retain=False, token=None):
        """The packet to write; at QoS 1 it is kept until its ACKED(token). None when the window is full."""
        if qos and len(self.in_flight) >= self.window:
            return None
        name = topic.encode()
        if not name or b"+" in name or b"#" in name or b"\0" in name:
            raise ValueError("topic %r: empty, or with + # or NUL in it" % topic)
        ident = 0
        out = _packet(_PUBLISH | qos << 1 | (1 if retain else 0), 2 + len(name) + (2 if qos else 0) + len(payload))
        _string(out, name)
        if qos:
            ident = self._next_id()
            out += struct.pack(">H", ident)
        out += payload
        if qos:  # now that it is whole: memory may have run out
            self.in_flight.append([ident, out, token])
        self._quiet = 0
        return out

    def resume(self, session_present):
        """Iterates over the packets that are in flight now, to be written again in their order after CONNECTED."""
        again = [entry[1] for entry in self.in_flight]
        for packet in again:
            if session_present:
                packet[0] |= 8  # DUP
            else:
                packet[0] &= 0xF7  # to a new session this is the first attempt
        return iter(again)

    def subscribe(self, filters):
        """One SUBSCRIBE for all filters, each at QoS 1."""
        self._subscription = self._next_id()
        self._filters = len(filters)
        body = bytearray(struct.pack(">H", self._subscription))
        for topic in filters:
            _string(body, topic)
            body.append(1)
        self._quiet = 0
        return _packet(0x82, len(body)) + body

    def ping(self):
        self._pinged = True
        self._quiet = 0
        return b"\xc0\0"

    def disconnect(self):
        return b"\xe0\0"

    def _next_id(self):
        used = [entry[0] for entry in self.in_flight]
        used.append(self._subscription)
        while True:
            self._last_id = self._last_id % 65535 + 1
            if self._last_id not in used:
                return self._last_id

    # --- time

    def elapsed(self, ms, patience_ms):
        """Called as time passes. A PINGREQ to write, or None. ProtocolError after patience_ms without an answer."""
        self._quiet += ms
        self._heard += ms
        if self._pinged or self.in_flight or self._subscription or not self.connected:
            self._waiting += ms
            if self._waiting >= patience_ms:
                raise ProtocolError("mqtt", "the broker has not answered for %d s" % (self._waiting // 1000))
        # Before three quarters of the keep-alive, so that a slow link still meets it.
        limit = self.keep_alive_s * 750
        if limit and self.connected and not self._pinged and (self._quiet >= limit or self._heard >= limit):
            return self.ping()
        return None

    # --- bytes in

    def receive(self, data):
        """Yields events for bytes of the broker; iterate to the end before the next call. ProtocolError: disconnect."""
        view = memoryview(data)
        at = 0
        n = len(view)
        while at < n:
            if self._left < 0:
                self._head.append(view[at])
                at += 1
                self._fixed_header()
            else:
                keep = min(self._left, n - at, len(self._buf) - self._have)
                self._buf[self._have : self._have + keep] = view[at : at + keep]
                self._have += keep
                self._left -= keep
                at += keep
                skip = min(self._left, n - at)
                if skip:
                    self._skip(view[at : at + skip])
                    self._left -= skip
                    at += skip
            if self._left == 0:
                kind = self._head[0]
                size = self._have
                skipped = self._skipped
                self._head = bytearray()
                self._left = -1
                self._have = self._skipped = 0
                self._heard = self._waiting = 0
                yield from self._packet_in(kind, memoryview(self._buf)[:size], skipped)

    def _skip(self, view):
        # What does not fit, but for the packet id, which stands behind the topic.
        at = 2 + _ident(self._buf, None) - self._have - self._skipped
        for i in (at, at + 1):
            if 0 <= i < len(view):
                self._late += view[i : i + 1]
        if self.pieces and self._head[0] & 0xF0 == _PUBLISH:
            self._piece(self.pieces, view)
        self._skipped += len(view)
        self._waiting = 0  # it takes its time, but something comes

    def _piece(self, pieces, view):
        body = memoryview(self._buf)[: self._have]
        topic = _topic(body)
        if topic is None:
            return
        begin = 2 + _ident(body, None) + (2 if self._head[0] & 6 else 0)
        size = self._have + self._skipped + self._left - begin
        at = self._have + self._skipped - begin
        if not self._skipped and at > 0:
            pieces(topic, 0, body[begin:], size)
        if at < 0:  # the packet id comes first
            view = view[-at:]
            at = 0
        if view:
            pieces(topic, at, view, size)

    def _fixed_header(self):
        head = self._head
        if len(head) == 1:
            return
        if head[-1] & 0x80:
            if len(head) == 5:
                _bad("malformed remaining length")
            return
        size = 0
        for i in range(len(head) - 1, 0, -1):
            size = size << 7 | head[i] & 0x7F
        if len(head) > 2 and head[-1] == 0:
            _bad("malformed remaining length")
        if size > len(self._buf) and (head[0] & 0xF0 != _PUBLISH or not self.connected):
            _bad("a packet of %d bytes, the limit is %d" % (size, len(self._buf)))
        self._left = size
        self._late = b""

    def _packet_in(self, first, body, skipped):
        kind = first & 0xF0
        if not self.connected:
            if first != _CONNACK:
                _bad("packet %d instead of CONNACK" % (first >> 4))
            yield self._connack(body)
        elif kind == _PUBLISH:
            yield from self._publish(first & 0x0F, body, skipped)
        elif first == _PUBACK:
            ident = _ident(body, 2)
            for i, entry in enumerate(self.in_flight):
                if entry[0] == ident:
                    del self.in_flight[i]
                    yield ACKED, entry[2], None
                    return
            self.strays += 1
        elif first == _SUBACK:
            if len(body) < 3 or _ident(body, len(body)) != self._subscription:
                _bad("a SUBACK of nothing")
            self._subscription = 0
            codes = list(body[2:])
            if len(codes) != self._filters:
                _bad("SUBACK with %d codes for %d filters" % (len(codes), self._filters))
            for code in codes:
                if code > 2 and code != 128:
                    _bad("SUBACK with code %d" % code)
            yield SUBSCRIBED, codes, None
        elif first == _PINGRESP:
            if len(body):
                _bad("PINGRESP with a body")
            self._pinged = False
            yield PONG, None, None
        else:
            _bad("unexpected packet type %d, flags %d" % (first >> 4, first & 15))

    def _connack(self, body):
        if len(body) != 2 or body[0] > 1 or body[0] and self._clean:
            _bad("malformed CONNACK")
        code = body[1]
        if code:
            why = _REFUSALS[code] if code < len(_REFUSALS) else "code %d" % code
            raise ProtocolError("mqtt-refused", "the broker refused the connection: %s" % why)
        self.connected = True
        return CONNECTED, bool(body[0]), None

    def _publish(self, flags, body, skipped):
        qos = flags >> 1 & 3
        if qos > 1 or not qos and flags & 8:
            _bad("PUBLISH with flags %d" % flags)
        n = _ident(body, None)
        end = 2 + n + (2 if qos else 0)
        if end > len(body) + skipped:
            _bad("PUBLISH cut short")
        topic = _topic(body)
        ident = _ident(bytes(body[2 + n : 4 + n]) + self._late, None) if qos else 1
        if not ident:
            _bad("PUBLISH with packet id 0")
        if skipped:
            yield OVERSIZE, topic, len(body) + skipped
        else:
            yield REPEATED if flags & 8 else MESSAGE, topic, bytes(body[end:])
        if qos:
            self._quiet = 0
            yield REPLY, bytes((_PUBACK, 2, ident >> 8, ident & 0xFF)), None


def _topic(body):
    # Of a PUBLISH; None if it is longer than what is there of it.
    n = _ident(body, None)
    if 2 + n > len(body):
        return None
    name = bytes(body[2 : 2 + n])
    if not n or not valid(name) or b"\0" in name or b"+" in name or b"#" in name:
        _bad("PUBLISH with a malformed topic")
    return name.decode()


def _ident(body, size):
    # The number that a body starts with; size: the exact length of the body, if the standard fixes it.
    if len(body) < 2 or size is not None and len(body) != size:
        _bad("malformed packet")
    return body[0] << 8 | body[1]
