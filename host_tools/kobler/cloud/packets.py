"""MQTT 3.1.1 packets as the gate in front of the broker sees them: cut out of the stream, checked, never
trusted.

Sans-IO. The broker behind it parses packets again; this file only decides whether it gets to see them, so it
reads no more than it needs: CONNECT in full (who, will, keep-alive), PUBLISH and SUBSCRIBE up to their
topics. Numbers such as MQTT-3.1.2-3 name the rules of the OASIS standard.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4
PUBREC, PUBREL, PUBCOMP, SUBSCRIBE = 5, 6, 7, 8
UNSUBSCRIBE, PINGREQ, DISCONNECT = 10, 12, 14

# What a client may send, with the flags the standard fixes for it (MQTT-2.2.2-2); None: flags carry meaning.
_FROM_CLIENT: dict[int, int | None] = {
    CONNECT: 0, PUBLISH: None, PUBACK: 0, PUBREC: 0, PUBREL: 2, PUBCOMP: 0,
    SUBSCRIBE: 2, UNSUBSCRIBE: 2, PINGREQ: 0, DISCONNECT: 0,
}  # fmt: skip


class PacketError(Exception):
    """The peer broke MQTT; the text says how. The connection ends (MQTT-4.8.0-1)."""


@dataclass(frozen=True)
class Packet:
    """One whole packet: type, flags, and everything behind the fixed header."""

    kind: int
    flags: int
    body: bytes

    def encode(self) -> bytes:
        """The packet as bytes again."""
        head = bytearray([self.kind << 4 | self.flags])
        left = len(self.body)
        while True:
            left, digit = left >> 7, left & 0x7F
            head.append(digit | (0x80 if left else 0))
            if not left:
                return bytes(head) + self.body


@dataclass(frozen=True)
class Connect:
    """What a CONNECT asks for. `will_topic` is None without a will; `keep_alive` is in seconds, 0 for never."""

    client_id: str
    clean: bool
    keep_alive: int
    level: int
    will_topic: str | None
    will_retain: bool
    _head: bytes
    _tail: bytes

    def named(self, client_id: str) -> Packet:
        """The same CONNECT under another client identifier."""
        name = client_id.encode()
        if len(name) > 0xFFFF:
            raise PacketError("the client identifier is too long")
        return Packet(CONNECT, 0, self._head + len(name).to_bytes(2, "big") + name + self._tail)

    def renamed(self, client_id: str) -> Connect:
        """This request as seen by the broker."""
        return replace(self, client_id=client_id)


class Splitter:
    """Cuts packets out of a byte stream: feed() bytes as they come, take() packets while there are any."""

    def __init__(self, limit: int) -> None:
        self._buffer = bytearray()
        self._limit = limit

    def feed(self, data: bytes) -> None:
        """Take in what arrived."""
        self._buffer += data

    def take(self) -> Packet | None:
        """The next whole packet, None until it is there. Raises PacketError on what no client may send."""
        buffer = self._buffer
        if not buffer:
            return None
        kind, flags = buffer[0] >> 4, buffer[0] & 0x0F
        if kind not in _FROM_CLIENT:
            raise PacketError(f"packet type {kind} does not come from a client")
        fixed = _FROM_CLIENT[kind]
        if fixed is not None and flags != fixed:
            raise PacketError(f"packet type {kind} with flags {flags}")
        length = shift = 0
        for at in range(1, 5):
            if at >= len(buffer):
                return None
            length |= (buffer[at] & 0x7F) << shift
            shift += 7
            if not buffer[at] & 0x80:
                break
        else:
            raise PacketError("a remaining length of more than four bytes")
        if length > self._limit:
            raise PacketError(f"a packet of {length} bytes; {self._limit} are allowed")
        end = at + 1 + length
        if len(buffer) < end:
            return None
        body = bytes(buffer[at + 1 : end])
        del buffer[:end]
        return Packet(kind, flags, body)


class _Fields:
    """Reads length-prefixed fields; running out of bytes is the peer's error."""

    def __init__(self, body: bytes) -> None:
        self.body, self.at = body, 0

    def number(self, size: int) -> int:
        return int.from_bytes(self.raw(size), "big")

    def raw(self, size: int) -> bytes:
        part = self.body[self.at : self.at + size]
        if len(part) < size:
            raise PacketError("a packet shorter than its fields")
        self.at += size
        return part

    def text(self) -> str:
        try:
            text = self.raw(self.number(2)).decode()
        except UnicodeDecodeError:
            raise PacketError("text that is not UTF-8") from None  # MQTT-1.5.3-1
        if "\0" in text:
            raise PacketError("text with a null character")  # MQTT-1.5.3-2
        return text


def read_connect(packet: Packet) -> Connect:
    """What the first packet of a connection asks for."""
    if packet.kind != CONNECT:
        raise PacketError("the first packet is not CONNECT")  # MQTT-3.1.0-1
    fields = _Fields(packet.body)
    if fields.text() not in ("MQTT", "MQIsdp"):
        raise PacketError("the protocol is not MQTT")
    level, flags, keep_alive = fields.number(1), fields.number(1), fields.number(2)
    head = packet.body[: fields.at]
    if flags & 0x01:
        raise PacketError("the reserved flag of CONNECT is set")  # MQTT-3.1.2-3
    will, will_qos = bool(flags & 0x04), flags >> 3 & 0x03
    if will_qos == 3 or (not will and flags & 0x38):
        raise PacketError("will flags that contradict one another")  # MQTT-3.1.2-11 to -15
    if flags & 0x40 and not flags & 0x80:
        raise PacketError("a password without a user name")  # MQTT-3.1.2-22
    client_id = fields.text()
    tail = packet.body[fields.at :]
    will_topic = None
    if will:
        will_topic = fields.text()
        _check_name(will_topic)
        fields.raw(fields.number(2))
    if flags & 0x80:
        fields.text()
    if flags & 0x40:
        fields.raw(fields.number(2))
    if fields.at != len(packet.body):
        raise PacketError("bytes behind the last field of CONNECT")
    return Connect(client_id, bool(flags & 0x02), keep_alive, level, will_topic, bool(flags & 0x20), head, tail)


def read_topic(packet: Packet) -> str:
    """The topic of a PUBLISH, its packet identifier and QoS checked on the way."""
    qos = packet.flags >> 1 & 0x03
    if qos == 3:
        raise PacketError("PUBLISH with QoS 3")  # MQTT-3.3.1-4
    fields = _Fields(packet.body)
    topic = fields.text()
    _check_name(topic)
    if qos and not fields.number(2):
        raise PacketError("packet identifier 0")  # MQTT-2.3.1-1
    return topic


def check_list(packet: Packet) -> None:
    """Refuse a SUBSCRIBE or UNSUBSCRIBE that the broker could misread."""
    fields = _Fields(packet.body)
    if not fields.number(2):
        raise PacketError("packet identifier 0")
    if fields.at == len(packet.body):
        raise PacketError("a subscription to nothing")  # MQTT-3.8.3-3, 3.10.3-2
    while fields.at < len(packet.body):
        if not fields.text():
            raise PacketError("an empty topic filter")  # MQTT-4.7.3-1
        if packet.kind == SUBSCRIBE and fields.number(1) > 2:
            raise PacketError("a subscription with reserved bits or QoS 3")  # MQTT-3.8.3-4


def check_short(packet: Packet) -> None:
    """PUBACK and its kin carry two bytes, PINGREQ and DISCONNECT none."""
    wanted = 0 if packet.kind in (PINGREQ, DISCONNECT) else 2
    if len(packet.body) != wanted:
        raise PacketError(f"packet type {packet.kind} of {len(packet.body)} bytes")


def connack(code: int) -> bytes:
    """A refusal: 1 protocol level, 2 client identifier, 5 not authorised."""
    return bytes((CONNACK << 4, 2, 0, code))


def _check_name(topic: str) -> None:
    if not topic or "#" in topic or "+" in topic:
        raise PacketError(f"{topic!r} is no topic to publish to")  # MQTT-3.3.2-2, 4.7.3-1
