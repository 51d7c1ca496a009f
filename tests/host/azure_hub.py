"""Azure IoT Hub and its Device Provisioning Service, as far as their documentation says how they behave.

An emulation, since no test can reach the real ones. It has an MQTT codec of its own and shares nothing with the
firmware; `websockets` frames for it. What a client does against the rules is written to `violations` and ends the
connection, as it would there. Every packet is recorded, in both directions.

Where the documentation is silent, the comment says "assumed".
"""

from __future__ import annotations

import asyncio
import itertools
import json
import queue
import re
import ssl
import struct
import time
import urllib.parse
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from azure_files import Files, Storage, receive, send
from uplink_world import Ca, Loop
from websockets.frames import Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

PATH = "/$iothub/websocket"
API_VERSIONS = {"2018-06-30", "2019-10-01", "2020-09-30", "2021-04-12"}
MAX_KEEP_ALIVE_S = 1767  # whatever the client asked for (its limit is 1177, 1.5 times of which is this)
MAX_SUBSCRIPTIONS = 5
MAX_MESSAGE = 262144
MAX_PROPERTIES = 32768  # of desired or reported, each
MAX_DEPTH = 10
MAX_INTEGER = 4503599627370495
SYSTEM = {"$.mid", "$.cid", "$.uid", "$.ct", "$.ce", "$.ctime", "$.sub", "$.exp", "$.on", "$.ifid"}

CONNECT, CONNACK, PUBLISH, PUBACK, PUBREC = 1, 2, 3, 4, 5
SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK, PINGREQ, PINGRESP, DISCONNECT = 8, 9, 10, 11, 12, 13, 14
NAMES = {1: "CONNECT", 2: "CONNACK", 3: "PUBLISH", 4: "PUBACK", 8: "SUBSCRIBE", 9: "SUBACK", 10: "UNSUBSCRIBE"}
NAMES |= {11: "UNSUBACK", 12: "PINGREQ", 13: "PINGRESP", 14: "DISCONNECT"}
NOT_AUTHORISED = 5


@dataclass
class Packet:
    """One MQTT packet as it was seen: `up` from the device, `fields` what its kind has."""

    connection: int
    service: str
    up: bool
    kind: str
    fields: dict[str, Any]


class Violation(Exception):
    """What the real service would close the connection for."""


class Refused(Exception):
    """The connection is not accepted; the code of the CONNACK, then why."""


# --- MQTT 3.1.1, the server's side


class Body:
    """What is left of a packet's body."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, n: int) -> bytes:
        if n > len(self.data):
            raise Violation("a packet is cut short")
        part, self.data = self.data[:n], self.data[n:]
        return part

    def byte(self) -> int:
        return self.take(1)[0]

    def word(self) -> int:
        return int(struct.unpack(">H", self.take(2))[0])

    def binary(self) -> bytes:
        return self.take(self.word())

    def text(self) -> str:
        return self.binary().decode()


def parse(kind: int, flags: int, data: bytes) -> dict[str, Any]:
    body = Body(data)
    if kind != PUBLISH and flags != (2 if kind in (SUBSCRIBE, UNSUBSCRIBE) else 0):
        raise Violation(f"{NAMES.get(kind, kind)} with flags {flags}")
    if kind == CONNECT:
        protocol, level, bits, keep_alive = body.text(), body.byte(), body.byte(), body.word()
        found: dict[str, Any] = {"protocol": f"{protocol} {level}", "keep_alive": keep_alive, "clean": bool(bits & 2)}
        found["client_id"] = body.text()
        found["will"] = None
        if bits & 4:
            topic, payload = body.text(), body.binary()
            found["will"] = {"topic": topic, "payload": payload, "qos": bits >> 3 & 3, "retain": bool(bits & 32)}
        found["user"] = body.text() if bits & 128 else None
        found["password"] = body.binary() if bits & 64 else None
        if bits & 1:
            raise Violation("CONNECT with the reserved flag")
    elif kind == PUBLISH:
        qos = flags >> 1 & 3
        found = {"topic": body.text(), "qos": qos, "retain": bool(flags & 1), "dup": bool(flags & 8)}
        if qos:
            found["id"] = body.word()
        found["payload"] = body.take(len(body.data))
    elif kind == SUBSCRIBE:
        found = {"id": body.word(), "filters": []}
        while body.data:
            found["filters"].append((body.text(), body.byte()))
    elif kind == UNSUBSCRIBE:
        found = {"id": body.word(), "filters": []}
        while body.data:
            found["filters"].append(body.text())
    elif kind == PUBACK:
        found = {"id": body.word()}
    elif kind in (PINGREQ, DISCONNECT):
        found = {}
    else:
        raise Violation(f"packet type {kind} of a device")
    if body.data:
        raise Violation(f"{NAMES[kind]} with {len(body.data)} bytes too many")
    return found


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack(">H", len(raw)) + raw


def packet(first: int, body: bytes) -> bytes:
    size, head = len(body), bytearray([first])
    while True:
        size, digit = size >> 7, size & 127
        head.append(digit | (128 if size else 0))
        if not size:
            return bytes(head) + body


def bag(text: str) -> dict[str, str]:
    """A property bag, `key=value&…`, URL-encoded."""
    found: dict[str, str] = {}
    for pair in text.split("&") if text else []:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise Violation(f"{pair!r} is no property")
        found[urllib.parse.unquote(key)] = urllib.parse.unquote(value)
    for key in found:
        if key.startswith("$.") and key not in SYSTEM:
            raise Violation(f"{key} is no system property")
    return found


# --- what carries MQTT


class Bytes:
    """MQTT on bare TLS."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def start(self) -> bool:
        return True

    async def exactly(self, n: int) -> bytes:
        return await self.reader.readexactly(n)

    def write(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)


class WebSocket(Bytes):
    """MQTT in the binary messages of a WebSocket."""

    head = b""  # the request, which was read to see whether it is for a WebSocket at all

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(reader, writer)
        self.protocol = ServerProtocol(subprotocols=[Subprotocol("mqtt")], extensions=[], max_size=MAX_MESSAGE + 4096)
        self.buffer = bytearray()
        self.closed = False

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data and not self.writer.is_closing():
                self.writer.write(data)

    async def _events(self) -> list[Any]:
        data = await self.reader.read(65536)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        self.protocol.receive_data(data)
        events = self.protocol.events_received()
        self._flush()
        return events

    async def start(self) -> bool:
        self.protocol.receive_data(self.head)
        request = self.protocol.events_received()[0]
        assert isinstance(request, Request)
        right = request.path.split("?")[0] == PATH
        response = self.protocol.accept(request) if right else self.protocol.reject(404, "not here\n")
        if right and response.status_code == 101 and self.protocol.subprotocol != "mqtt":
            response = self.protocol.reject(400, "the subprotocol is mqtt\n")
        self.protocol.send_response(response)
        self._flush()
        return bool(response.status_code == 101)

    async def exactly(self, n: int) -> bytes:
        while len(self.buffer) < n:
            if self.closed:  # only once all before it is read
                raise asyncio.IncompleteReadError(b"", None)
            for event in await self._events():
                if event.opcode in (Opcode.BINARY, Opcode.CONT):
                    self.buffer += event.data
                elif event.opcode is Opcode.TEXT:
                    raise Violation("a text message")
                elif event.opcode is Opcode.CLOSE:
                    self.closed = True
        found, self.buffer = bytes(self.buffer[:n]), self.buffer[n:]
        return found

    def write(self, data: bytes) -> None:
        if self.protocol.state is State.OPEN:
            self.protocol.send_binary(data)
            self._flush()


# --- one connection


class Connection:
    """One device's connection with one of the services."""

    def __init__(self, cloud: Azure, carrier: Bytes, service: Hub | Dps, name: str | None) -> None:
        self.cloud, self.carrier, self.service = cloud, carrier, service
        self.certificate = name  # the common name in the client's certificate
        self.number = next(cloud.numbers)
        self.client_id = ""
        self.will: dict[str, Any] | None = None
        self.filters: set[str] = set()
        self.waiting: dict[int, Callable[[], None]] = {}
        self._ids = itertools.count(1)

    def record(self, up: bool, kind: int, fields: dict[str, Any]) -> None:
        self.cloud.record.append(Packet(self.number, self.service.name, up, NAMES[kind], fields))

    def send(self, kind: int, body: bytes, flags: int = 0, **fields: Any) -> None:
        self.record(False, kind, fields)
        self.carrier.write(packet(kind << 4 | flags, body))

    def publish(self, topic: str, payload: bytes, qos: int = 0, done: Callable[[], None] | None = None) -> None:
        body = string(topic)
        if qos:
            ident = next(self._ids) & 0xFFFF
            self.waiting[ident] = done or (lambda: None)
            body += struct.pack(">H", ident)
        self.send(PUBLISH, body + payload, qos << 1, topic=topic, qos=qos, payload=payload)

    def close(self) -> None:
        if not self.carrier.writer.is_closing():
            self.carrier.writer.close()

    async def next(self) -> tuple[int, dict[str, Any]]:
        first = (await self.carrier.exactly(1))[0]
        size = shift = 0
        while True:
            digit = (await self.carrier.exactly(1))[0]
            size |= (digit & 127) << shift
            shift += 7
            if not digit & 128:
                break
            if shift > 21:
                raise Violation("malformed remaining length")
        if size > MAX_MESSAGE + 4096:
            raise Violation(f"a packet of {size} bytes")
        fields = parse(first >> 4, first & 15, await self.carrier.exactly(size))
        self.record(True, first >> 4, fields)
        return first >> 4, fields

    async def run(self) -> None:
        """Until the device leaves, breaks a rule or is silent for too long; then its will is published."""
        goodbye = False
        try:
            if not await self.carrier.start():
                return
            async with asyncio.timeout(30):
                kind, fields = await self.next()
            if kind != CONNECT:
                raise Violation(f"{NAMES[kind]} before CONNECT")
            self._connect(fields)
            limit = min(fields["keep_alive"] * 1.5 or MAX_KEEP_ALIVE_S, MAX_KEEP_ALIVE_S)
            while not goodbye:
                async with asyncio.timeout(limit):
                    kind, fields = await self.next()
                goodbye = kind == DISCONNECT
                self._packet(kind, fields)
        except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
            pass  # it went without a word: that is what a will is for
        except TimeoutError:
            self.cloud.dropped.append(f"{self.client_id}: silent for longer than 1.5 times its keep-alive")
        except Refused as why:
            self.cloud.refusals.append(f"{self.service.name}: {why}")
        except (Violation, UnicodeDecodeError) as why:
            self.cloud.violations.append(f"{self.service.name}: {why}")
        finally:
            self.service.left(self, goodbye)
            self.close()

    def _connect(self, fields: dict[str, Any]) -> None:
        self.client_id = fields["client_id"]
        code, why = 0, ""
        if fields["protocol"] != "MQTT 4":
            code, why = 1, f"protocol {fields['protocol']}"
        elif not self.certificate:
            code, why = NOT_AUTHORISED, "no client certificate"
        elif self.certificate != self.client_id:
            code, why = NOT_AUTHORISED, f"the certificate is for {self.certificate}, not for {self.client_id}"
        else:
            try:
                self.service.admit(self, fields)
            except Refused as e:
                code, why = NOT_AUTHORISED, str(e)
        present = not code and not fields["clean"] and self.service.known(self)  # assumed
        self.send(CONNACK, bytes((present, code)), code=code, present=present)
        if code:
            raise Refused(why)
        self.will = fields["will"]
        self.service.joined(self)

    def _packet(self, kind: int, fields: dict[str, Any]) -> None:
        if kind == PUBLISH:
            if fields["qos"] == 2:
                raise Violation("PUBLISH with QoS 2")
            if len(fields["payload"]) > MAX_MESSAGE:
                raise Violation(f"a message of {len(fields['payload'])} bytes")
            self.service.published(self, fields)
            if fields["qos"] and self.cloud.acknowledge:
                self.send(PUBACK, struct.pack(">H", fields["id"]), id=fields["id"])
        elif kind == SUBSCRIBE:
            granted = []
            for topic, qos in fields["filters"]:
                if topic not in self.service.filters(self.client_id):
                    raise Violation(f"subscription to {topic}")
                self.filters.add(topic)
                if len(self.filters) > MAX_SUBSCRIPTIONS:
                    raise Violation("too many subscriptions")
                granted.append(min(qos, 1))
            self.send(SUBACK, struct.pack(">H", fields["id"]) + bytes(granted), granted=granted)
            self.service.subscribed(self)
        elif kind == UNSUBSCRIBE:
            self.filters -= set(fields["filters"])
            self.send(UNSUBACK, struct.pack(">H", fields["id"]))
        elif kind == PUBACK:
            done = self.waiting.pop(fields["id"], None)
            if done:
                done()
        elif kind == PINGREQ:
            self.send(PINGRESP, b"")
        elif kind == CONNECT:
            raise Violation("a second CONNECT")


# --- the hub


@dataclass
class Device:
    """What a hub knows of a device."""

    desired: dict[str, Any] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)
    version: int = 1
    reported_version: int = 1
    queued: list[tuple[str, bytes]] = field(default_factory=list)
    connection: Connection | None = None
    seen: bool = False


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            below = target.get(key)
            if not isinstance(below, dict):
                below = target[key] = {}
            merge(below, value)
        else:
            target[key] = value


def unfit(value: Any, depth: int = 0) -> str | None:
    """Why a hub takes no such properties; None if it does."""
    if isinstance(value, dict):
        if depth > MAX_DEPTH:
            return f"deeper than {MAX_DEPTH}"
        for key, below in value.items():
            if not key or len(key.encode()) > 1024 or re.search(r"[\x00-\x1f\x7f-\x9f.$ ]", key):
                return f"the key {key!r}"
            why = unfit(below, depth + 1)
            if why:
                return why
    elif isinstance(value, list):
        return next((why for why in (unfit(item, depth + 1) for item in value) if why), None)
    elif isinstance(value, str) and len(value.encode()) > 4096:
        return "a string of more than 4 KB"
    elif isinstance(value, int) and abs(value) > MAX_INTEGER:
        return f"the number {value}"
    return None


class Hub:
    """One IoT Hub. What a service application does with it may be called from any thread."""

    def __init__(self, cloud: Azure, name: str) -> None:
        self.cloud, self.name = cloud, name
        self.devices: dict[str, Device] = {}
        self.telemetry: queue.Queue[tuple[str, dict[str, str], bytes]] = queue.Queue()
        self.twin_answers: deque[int] = deque()  # given to the next twin requests instead of what is right
        self.twin_silent = 0  # so many twin requests get no answer
        self.kicked = 0
        self.connects = 0
        self.files = Files(self.devices, cloud.storage, API_VERSIONS)
        self._methods: dict[str, asyncio.Future[tuple[int, Any]]] = {}
        self._rids = itertools.count(1)

    # what devices do

    def admit(self, connection: Connection, fields: dict[str, Any]) -> None:
        device_id = connection.client_id
        prefix = f"{self.name}/{device_id}/?"
        user = fields["user"] or ""
        if not user.startswith(prefix):
            raise Refused(f"user name {user!r}")
        if bag(user[len(prefix) :]).get("api-version") not in API_VERSIONS:
            raise Refused(f"api-version in {user!r}")
        if fields["password"]:
            raise Refused("a password besides the certificate")
        if device_id not in self.devices:
            raise Refused(f"{device_id} is not registered")
        will = fields["will"]
        if will and (not will["topic"].startswith(f"devices/{device_id}/messages/events/") or will["qos"] > 1):
            raise Violation(f"a will on {will['topic']}")

    def known(self, connection: Connection) -> bool:
        return self.devices[connection.client_id].seen

    def joined(self, connection: Connection) -> None:
        self.connects += 1
        device = self.devices[connection.client_id]
        device.seen = True
        if device.connection:
            self.kicked += 1  # error 400027, ConnectionForcefullyClosedOnNewConnection
            device.connection.close()
        device.connection = connection

    def left(self, connection: Connection, goodbye: bool) -> None:
        device = self.devices.get(connection.client_id)
        if device and device.connection is connection:
            device.connection = None
        if connection.will and not goodbye:
            self._event(connection.client_id, connection.will, {"iothub-MessageType": "Will"})

    def filters(self, device_id: str) -> tuple[str, ...]:
        twin = ("$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#")
        return (*twin, "$iothub/methods/POST/#", f"devices/{device_id}/messages/devicebound/#")

    def subscribed(self, connection: Connection) -> None:
        self._deliver(self.devices[connection.client_id], connection)

    def _event(self, device_id: str, message: dict[str, Any], more: dict[str, str]) -> None:
        properties = bag(message["topic"].split("/messages/events/", 1)[1].rstrip("/")) | more
        if message["retain"]:
            properties["mqtt-retain"] = "true"
        self.telemetry.put((device_id, properties, message["payload"]))

    def published(self, connection: Connection, fields: dict[str, Any]) -> None:
        device_id, topic, payload = connection.client_id, fields["topic"], fields["payload"]
        device = self.devices.get(device_id)
        if device is None:
            return  # it was under way when the device was removed, and its connection is being closed
        if topic.startswith(f"devices/{device_id}/messages/events/"):
            self._event(device_id, fields, {})
            return
        if fields["retain"]:
            raise Violation(f"{topic} with RETAIN")  # assumed
        head, _, query = topic.partition("?")
        rid = urllib.parse.parse_qs(query).get("$rid", [""])[0]
        if not rid:
            raise Violation(f"a message on {topic}")
        if head == "$iothub/twin/GET/":
            document = {
                "desired": {**device.desired, "$version": device.version},
                "reported": {**device.reported, "$version": device.reported_version},
            }
            self._twin(connection, rid, 200, "", json.dumps(document).encode())
        elif head == "$iothub/twin/PATCH/properties/reported/":
            self._report(connection, device, rid, payload)
        elif re.fullmatch(r"\$iothub/methods/res/-?\d+/", head):
            future = self._methods.pop(rid, None)
            if future is None:
                raise Violation(f"an answer to no method: {topic}")
            try:
                answer = json.loads(payload) if payload else None
            except ValueError:
                raise Violation("a method's answer is not JSON") from None
            if not future.done():
                future.set_result((int(head.split("/")[3]), answer))
        else:
            raise Violation(f"a message on {topic}")

    def _report(self, connection: Connection, device: Device, rid: str, payload: bytes) -> None:
        try:
            patch = json.loads(payload)
            why = unfit(patch) if isinstance(patch, dict) else "no object"
        except ValueError:
            patch, why = {}, "not JSON"
        if not why and not self.twin_answers:
            after = json.loads(json.dumps(device.reported))
            merge(after, patch)
            if len(json.dumps(after)) > MAX_PROPERTIES:
                why = "too large"
            else:
                device.reported = after
                device.reported_version += 1
        if why:
            self.cloud.bad_properties.append(why)
            self._twin(connection, rid, 400, "", json.dumps({"errorCode": 400004, "message": why}).encode())
        else:
            self._twin(connection, rid, 204, f"&$version={device.reported_version}", b"")

    def _twin(self, connection: Connection, rid: str, status: int, more: str, payload: bytes) -> None:
        if self.twin_silent:
            self.twin_silent -= 1
            return
        if self.twin_answers and status < 400:
            status, more, payload = self.twin_answers.popleft(), "", b'{"message": "as the test wants it"}'
        if "$iothub/twin/res/#" in connection.filters:
            connection.publish(f"$iothub/twin/res/{status}/?$rid={rid}{more}", payload)
        else:
            self.cloud.unheard.append(f"{connection.client_id}: the answer to {rid}, since it does not subscribe")

    # what a service application does

    def add(self, device_id: str) -> None:
        self.devices.setdefault(device_id, Device())

    def remove(self, device_id: str) -> None:
        """Deletes the device; its connection is closed."""

        async def work() -> None:
            device = self.devices.pop(device_id, None)
            if device and device.connection:
                device.connection.close()

        self.cloud.call(work())

    def kick(self, device_id: str) -> None:
        """Closes the device's connection, as another one with its name would."""

        async def work() -> None:
            connection = self.devices[device_id].connection
            assert connection, "not connected"
            connection.close()

        self.cloud.call(work())

    def desired(self, device_id: str, patch: dict[str, Any]) -> int:
        """Changes the desired properties and tells the device if it listens; the new $version."""

        async def work() -> int:
            device = self.devices[device_id]
            merge(device.desired, patch)
            device.version += 1
            connection = device.connection
            if connection and "$iothub/twin/PATCH/properties/desired/#" in connection.filters:
                topic = f"$iothub/twin/PATCH/properties/desired/?$version={device.version}"
                connection.publish(topic, json.dumps({**patch, "$version": device.version}).encode(), 1)
            return device.version

        return int(self.cloud.call(work()))

    def reported(self, device_id: str) -> dict[str, Any]:
        return dict(self.devices[device_id].reported)

    def method(self, device_id: str, name: str, payload: bytes = b"null", seconds: float = 10) -> tuple[int, Any]:
        """Status and answer; 404 if the device is not there to hear it, 504 if it does not answer."""

        async def work() -> tuple[int, Any]:
            device = self.devices.get(device_id)
            connection = device.connection if device else None
            if not connection or "$iothub/methods/POST/#" not in connection.filters:
                return 404, None
            rid = f"{next(self._rids):x}"
            future = self._methods[rid] = asyncio.get_running_loop().create_future()
            connection.publish(f"$iothub/methods/POST/{name}/?$rid={rid}", payload)
            try:
                return await asyncio.wait_for(future, seconds)
            except TimeoutError:
                return 504, None

        status, answer = self.cloud.call(work(), seconds + 5)
        return status, answer

    def send(self, device_id: str, payload: bytes, **properties: str) -> None:
        """A cloud-to-device message: waits for the device, and comes again until it is acknowledged."""
        to = f"/devices/{device_id}/messages/devicebound"
        query = urllib.parse.urlencode({"$.to": to, **properties}, quote_via=urllib.parse.quote, safe="")

        async def work() -> None:
            device = self.devices[device_id]
            device.queued.append((f"devices/{device_id}/messages/devicebound/{query}", payload))
            if device.connection:
                self._deliver(device, device.connection, device.queued[-1:])

        self.cloud.call(work())

    def _deliver(self, device: Device, connection: Connection, messages: list[tuple[str, bytes]] | None = None) -> None:
        if f"devices/{connection.client_id}/messages/devicebound/#" not in connection.filters:
            return
        for message in list(device.queued if messages is None else messages):

            def done(message: tuple[str, bytes] = message) -> None:
                if message in device.queued:
                    device.queued.remove(message)

            connection.publish(*message, 1, done)

    def event(self, wanted: Callable[[dict[str, str], Any], bool], seconds: float = 10) -> tuple[dict[str, str], Any]:
        """The next message of a device for which wanted(properties, JSON) holds."""
        until = time.monotonic() + seconds
        while True:
            try:
                _, properties, payload = self.telemetry.get(timeout=max(0.01, until - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no such message came; {self.cloud.complaints()}") from None
            content = json.loads(payload)
            if wanted(properties, content):
                return properties, content


# --- the provisioning service


class Dps:
    """The Device Provisioning Service. enrolments: registration id -> name of its hub."""

    def __init__(self, cloud: Azure, name: str, scope: str) -> None:
        self.cloud, self.name, self.scope = cloud, name, scope
        self.enrolments: dict[str, str] = {}
        self.device_ids: dict[str, str] = {}  # where it is not the registration id
        self.polls = 1  # answered with "assigning"
        self.retry_after = 1
        self.answers: deque[int] = deque()  # given to the next requests instead of what is right
        self.registered = 0
        self._operations: dict[str, list[float]] = {}  # [polls left, not before]

    def admit(self, connection: Connection, fields: dict[str, Any]) -> None:
        prefix = f"{self.scope}/registrations/{connection.client_id}/"
        user = fields["user"] or ""
        if not user.startswith(prefix) or bag(user[len(prefix) :]).get("api-version") != "2019-03-31":
            raise Refused(f"user name {user!r}")
        if fields["will"]:
            raise Violation("a will")  # assumed

    def known(self, connection: Connection) -> bool:
        return False

    def joined(self, connection: Connection) -> None:
        pass

    def left(self, connection: Connection, goodbye: bool) -> None:
        pass

    def filters(self, device_id: str) -> tuple[str, ...]:
        return ("$dps/registrations/res/#",)

    def subscribed(self, connection: Connection) -> None:
        pass

    def published(self, connection: Connection, fields: dict[str, Any]) -> None:
        registration = connection.client_id
        head, _, query = fields["topic"].partition("?")
        given = urllib.parse.parse_qs(query)
        rid = given.get("$rid", [""])[0]
        if not rid:
            raise Violation(f"a message on {fields['topic']}")

        def answer(status: int, body: dict[str, Any]) -> None:
            more = f"&retry-after={self.retry_after}" if status in (202, 429) else ""
            if not connection.filters:
                self.cloud.unheard.append(f"{registration}: {status}, since it does not subscribe")
                return
            connection.publish(f"$dps/registrations/res/{status}/?$rid={rid}{more}", json.dumps(body).encode(), 1)

        if self.answers:
            status = self.answers.popleft()
            answer(status, {"errorCode": status * 1000 + 1, "trackingId": "t", "message": "as the test wants it"})
        elif head == "$dps/registrations/PUT/iotdps-register/":
            if json.loads(fields["payload"]).get("registrationId") != registration:
                answer(400, {"errorCode": 400004, "message": "the registration id is another"})
            elif registration not in self.enrolments:
                answer(401, {"errorCode": 401002, "trackingId": "t", "message": "Unauthorized"})
            else:
                operation = f"4.{len(self._operations):x}.op"
                self._operations[operation] = [self.polls, time.monotonic() + self.retry_after]
                answer(202, {"operationId": operation, "status": "assigning"})
        elif head == "$dps/registrations/GET/iotdps-get-operationstatus/":
            operation = given.get("operationId", [""])[0]
            if operation not in self._operations:
                answer(404, {"errorCode": 404207, "message": "no such operation"})
                return
            state = self._operations[operation]
            if time.monotonic() < state[1] - 0.1:
                self.cloud.violations.append(f"{self.name}: {registration} asks before retry-after")
            state[0] -= 1
            state[1] = time.monotonic() + self.retry_after
            if state[0] >= 0:
                answer(202, {"operationId": operation, "status": "assigning"})
                return
            hub, device_id = self.enrolments[registration], self.device_ids.get(registration, registration)
            self.cloud.hubs[hub].add(device_id)
            self.registered += 1
            found = {"registrationId": registration, "assignedHub": hub, "deviceId": device_id, "status": "assigned"}
            found |= {"createdDateTimeUtc": "2026-01-01T00:00:00.0Z", "substatus": "initialAssignment", "etag": "IjEi"}
            answer(200, {"operationId": operation, "status": "assigned", "registrationState": found})
        else:
            raise Violation(f"a message on {fields['topic']}")


# --- all of it


class Azure:
    """Hubs, one provisioning service and one storage account behind one TLS port and one port for WebSockets and HTTPS,
    told apart by server name. The storage has an authority of its own."""

    def __init__(
        self,
        loop: Loop,
        ca: Ca,
        hubs: tuple[str, ...],
        dps: str,
        scope: str = "0ne00ABCDEF",
        storage: tuple[str, Ca] | None = None,
    ) -> None:
        self._loop = loop
        blobs, authority = storage or ("blob.localhost", ca)
        self.storage = Storage(blobs)
        self.numbers = itertools.count(1)
        self.record: list[Packet] = []
        self.violations: list[str] = []
        self.refusals: list[str] = []
        self.dropped: list[str] = []
        self.unheard: list[str] = []
        self.bad_properties: list[str] = []
        self.acknowledge = True
        self.closed = False  # whoever connects is turned away
        self.hubs = {name: Hub(self, name) for name in hubs}
        self.dps = Dps(self, dps, scope)
        self._services: dict[str, Hub | Dps] = {**self.hubs, dps: self.dps}
        self._contexts = {name: self._context(ca, name) for name in self._services}
        self._contexts[blobs] = self._context(authority, blobs)
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self.ports = {"mqtts": self._listen(ca, Bytes), "wss": self._listen(ca, WebSocket)}
        for hub in self.hubs.values():
            hub.files.host = f"{blobs}:{self.ports['wss']}"

    def call(self, work: Awaitable[Any], seconds: float = 15) -> Any:
        return self._loop.call(work, seconds)

    def complaints(self) -> str:
        return f"violations {self.violations}, refusals {self.refusals}, unheard {self.unheard}, {self.bad_properties}"

    def assert_no_complaints(self, but: str = "") -> None:
        lists = {"violations", "refusals", "unheard", "bad_properties", "dropped"} - {but}
        assert not any(getattr(self, name) for name in lists), self.complaints()

    def _context(self, ca: Ca, name: str) -> ssl.SSLContext:
        context = ca.context(ca.server(name))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_OPTIONAL  # who has none is told so by MQTT
        return context

    def _listen(self, ca: Ca, carrier: type[Bytes]) -> int:
        context = self._context(ca, self.dps.name)

        def by_name(channel: Any, name: str | None, _: ssl.SSLContext) -> int | None:
            if name not in self._contexts:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            channel.context = self._contexts[name]
            channel.kobler_name = name
            return None

        context.sni_callback = by_name  # type: ignore[assignment]

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            channel = writer.get_extra_info("ssl_object")
            name = getattr(channel, "kobler_name", None)
            if self.closed:
                writer.close()
                return
            if name is None:
                self.refusals.append("no server name in TLS")
                writer.close()
                return
            subject = (channel.getpeercert() or {}).get("subject", ())
            common = next((v for part in subject for k, v in part if k == "commonName"), None)
            self._tasks.add(task)
            self._open.add(writer)
            try:
                link = carrier(reader, writer)
                if isinstance(link, WebSocket):
                    link.head = await reader.readuntil(b"\r\n\r\n")
                    if not link.head.startswith(b"GET "):
                        return await self._https(name, link.head, reader, writer, common)
                if name in self._services:
                    await Connection(self, link, self._services[name], common).run()
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the device gave up within a request
            finally:
                writer.close()
                self._tasks.discard(task)
                self._open.discard(writer)

        async def start() -> asyncio.Server:
            return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)

        server = self._loop.call(start())
        self._servers = [*getattr(self, "_servers", []), server]
        return int(server.sockets[0].getsockname()[1])

    async def _https(
        self, name: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, common: str | None
    ) -> None:
        request = await receive(head, reader, common)
        if name == self.storage.name:
            if common:
                self.violations.append(f"{common} showed its certificate to the storage")
            send(writer, self.storage.handle(request))
        elif name in self.hubs:
            send(writer, self.hubs[name].files.handle(request))
        await writer.drain()

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.call(end())


class Proxy:
    """An HTTP proxy (CONNECT) on loopback: leads the ports 8883 and 443 of any name to the emulation's.

    With it the official SDK runs as it is: with real ports and names, by its own option `proxy_options`."""

    def __init__(self, loop: Loop, cloud: Azure) -> None:
        self._loop = loop
        self.asked: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: set[asyncio.StreamWriter] = set()
        ports = {"8883": cloud.ports["mqtts"], "443": cloud.ports["wss"]}

        async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                pass  # the other direction ends too
            finally:
                writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            self._tasks.add(task)
            self._open.add(writer)
            try:
                request = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.asked.append(request.split()[1])
                port = self.asked[-1].split(":")[1]
                far = await asyncio.open_connection("127.0.0.1", ports.get(port, int(port)))
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(pipe(reader, far[1]), pipe(far[0], writer))
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client is gone
            finally:
                self._tasks.discard(task)
                self._open.discard(writer)
                writer.close()

        async def start() -> asyncio.Server:
            return await asyncio.start_server(serve, "127.0.0.1", 0)

        self._server: asyncio.Server = loop.call(start())
        self.port = int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for writer in list(self._open):
                writer.transport.abort()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._loop.call(end())
