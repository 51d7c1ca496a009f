"""One client of the uplink's bench, run by MicroPython: messages of 1 KB that come back, or publishes at QoS 1.

usage: uplink_clients.py FIRMWARE_DIR PEERS_DIR NAME PORT FILES_DIR
FILES_DIR has ca.der, cert.der, key.der. Prints a JSON object: rate, a second, the best of five runs of 0.3 s, and heap,
what is taken when all is connected and idle; less what `bare` takes, it is the client's. Each peer is used as its own
examples do it, with the CA checked.
"""
# ruff: noqa: PTH123 - MicroPython has no pathlib

import asyncio
import binascii
import errno
import gc
import hashlib
import json
import os
import random
import re
import select
import socket
import ssl
import struct
import sys
import time

FIRMWARE, PEERS, NAME, PORT, FILES = sys.argv[1:6]
PORT = int(PORT)
RUN_US = 300000
RUNS = 5
SIZE = 1024
PAYLOAD = bytes(i * 7 & 0xFF for i in range(SIZE))
TOPIC = "kobler/246f28aabbcc/telemetry"
# What any of them may import and is built in: it counts for none.
_ = (binascii, errno, hashlib, random, re, select, struct)


def read(name):
    with open(FILES + "/" + name, "rb") as f:
        return f.read()


def context(client=False):
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.verify_mode = ssl.CERT_REQUIRED
    found.load_verify_locations(cadata=read("ca.der"))
    if client:
        found.load_cert_chain(read("cert.der"), read("key.der"))
    return found


def connect():
    s = socket.socket()
    s.connect(socket.getaddrinfo("127.0.0.1", PORT)[0][-1])
    s.setsockopt(6, 1, 1)  # TCP_NODELAY
    return s


def taken():
    gc.collect()
    gc.collect()
    return gc.mem_alloc()


class Result:
    """for _ in result.runs(): while result.going(): one message."""

    rate = 0
    heap = 0

    def runs(self):
        for _ in range(RUNS):
            gc.collect()
            self.count = 0
            self._began = time.ticks_us()
            yield
            self.rate = max(self.rate, self.count * 1000000 / time.ticks_diff(time.ticks_us(), self._began))
        self.heap = taken()

    def going(self):
        if time.ticks_diff(time.ticks_us(), self._began) >= RUN_US:
            return False
        self.count += 1
        return True


result = Result()


# --- nothing but the socket


def bare():
    s = context().wrap_socket(connect(), server_hostname="localhost")
    s.write(b"")
    result.heap = taken()


# --- echo


def kobler_websocket():
    from coupler.uplink import websocket

    return websocket, websocket.WebSocket("localhost", "/", None, os.urandom)


def echo_kobler():
    """In a loop that asks the socket again and again, as chumicro's clients are driven."""
    websocket, ws = kobler_websocket()
    s = context().wrap_socket(connect(), server_hostname="localhost")
    s.setblocking(False)
    buf = bytearray(2048)
    view = memoryview(buf)

    def until(wanted):
        while True:
            n = s.readinto(buf)
            if n:
                for kind, _piece, last in ws.receive(view[:n]):
                    if kind == wanted and last:
                        return

    s.write(ws.request())
    until(websocket.OPENED)
    forget_upgrade()
    for _ in result.runs():
        while result.going():
            s.write(ws.send(PAYLOAD))
            until(websocket.BINARY)


class Prompt:
    """The module socket, for a peer that does not set TCP_NODELAY and would wait 40 ms for each message."""

    def __getattr__(self, name):
        return getattr(socket, name)

    def socket(self, *kind):
        s = socket.socket(*kind)
        s.setsockopt(6, 1, 1)
        return s


def chumicro_sockets():
    from chumicro_sockets._adapters import mp

    mp.socket = Prompt()


def echo_chumicro():
    chumicro_sockets()
    from chumicro_sockets.sockets_factory import connector_factory
    from chumicro_timing import ticks_ms
    from chumicro_websockets import WebSocketClient, WebSocketState

    client = WebSocketClient(transport_factory=connector_factory(ssl_context=context()))
    came = []
    client.on_binary = came.append

    def turn():
        if client.check(ticks_ms()):
            client.handle(ticks_ms())

    client.connect(f"wss://localhost:{PORT}/")
    while client.state != WebSocketState.OPEN:
        turn()
    for _ in result.runs():
        while result.going():
            client.send_binary(PAYLOAD)
            while not came:
                turn()
            came.pop()


async def echo_kobler_asyncio():
    """On asyncio's streams, as aiohttp."""
    websocket, ws = kobler_websocket()
    reader, writer = await asyncio.open_connection("localhost", PORT, ssl=context(), server_hostname="localhost")

    async def until(wanted):
        while True:
            for kind, _piece, last in ws.receive(await reader.read(2048)):
                if kind == wanted and last:
                    return

    writer.write(ws.request())
    await writer.drain()
    await until(websocket.OPENED)
    forget_upgrade()
    for _ in result.runs():
        while result.going():
            writer.write(ws.send(PAYLOAD))
            await writer.drain()
            await until(websocket.BINARY)


async def echo_aiohttp():
    import aiohttp

    url = f"wss://localhost:{PORT}/"
    async with aiohttp.ClientSession() as session, session.ws_connect(url, ssl=context()) as ws:
        for _ in result.runs():
            while result.going():
                await ws.send_bytes(PAYLOAD)
                await ws.receive_bytes()


# --- MQTT


class Hal:
    """What Link wants of the unit's hal."""

    def __init__(self):
        from coupler.hal import micropython_net

        self.net = micropython_net
        self.urandom = os.urandom

    def forget(self, *_names):
        pass


async def mqtt_kobler():
    """As the session does: a task that reads, one that writes, eight on the way, in a WebSocket with a certificate."""
    from coupler.uplink import mqtt
    from coupler.uplink.link import Link

    cloud = {"host": "localhost", "port": PORT, "scheme": "wss", "path": "/mqtt"}
    link = Link(Hal(), cloud, {part: read(part + ".der") for part in ("ca", "cert", "key")})
    client = mqtt.Mqtt("unit")
    await link.open("127.0.0.1", lambda _: None, client.connect())
    wake = asyncio.Event()

    def chunk(view):
        for _event in client.receive(view):
            wake.set()

    async def receive():
        while True:
            await link.receive(chunk, None)

    task = asyncio.create_task(receive())
    await wake.wait()
    assert client.connected
    for _ in result.runs():
        while result.going():
            while not client.room():
                wake.clear()
                await wake.wait()
            await link.write(link.frame(client.publish(TOPIC, PAYLOAD)))
        while client.in_flight:
            wake.clear()
            await wake.wait()
    task.cancel()
    await link.close()


def mqtt_chumicro():
    chumicro_sockets()
    from chumicro_mqtt import MQTTClient
    from chumicro_mqtt.client import ProtocolState
    from chumicro_sockets.sockets_factory import fixed_connector_factory
    from chumicro_timing import ticks_ms

    factory = fixed_connector_factory("localhost", PORT, ssl_context=context())
    client = MQTTClient(transport_factory=factory, client_id="unit", clean_session=False)
    client.connect()
    acked = 0

    def turn():
        if client.check(ticks_ms()):
            client.handle(ticks_ms())

    def on_publish(_topic, _payload):
        nonlocal acked
        acked += 1

    while client.state != ProtocolState.CONNECTED:
        turn()
    for _ in result.runs():
        acked = 0
        while result.going():
            client.publish(TOPIC, PAYLOAD, qos=1, on_publish=on_publish)
            while result.count - acked == 8:
                turn()
        while acked < result.count:
            turn()


class Pool:
    """Sockets as CircuitPython has them, which wrap first and connect then; blocking, for a timeout breaks TLS."""

    AF_INET = 2
    SOCK_STREAM = 1

    def getaddrinfo(self, host, port, *_):
        return [(self.AF_INET, self.SOCK_STREAM, 0, "", (host, port))]

    def socket(self, *_):
        return self

    def wrap_socket(self, _socket, server_hostname):
        self._name = server_hostname
        return self

    def settimeout(self, _seconds):
        pass

    def connect(self, _address):
        self._s = context().wrap_socket(connect(), server_hostname=self._name)

    def send(self, data):
        return self._s.write(data)

    def recv_into(self, buf, n=0):
        return self._s.readinto(buf, n or len(buf))

    def close(self):
        self._s.close()


def mqtt_minimqtt():
    # It imports names for annotations, which MicroPython neither has nor evaluates.
    class Names:
        def __getattr__(self, _name):
            return None

    for name in ("typing", "circuitpython_typing", "circuitpython_typing.socket"):
        sys.modules[name] = Names()
    from adafruit_minimqtt.adafruit_minimqtt import MQTT

    pool = Pool()
    client = MQTT(broker="localhost", port=PORT, is_ssl=True, socket_pool=pool, ssl_context=pool, client_id="unit")
    client.connect(clean_session=False)
    for _ in result.runs():
        while result.going():
            client.publish(TOPIC, PAYLOAD, qos=1)


async def mqtt_mqtt_as():
    class Wlan:
        """It insists on a Wi-Fi of its own."""

        def __init__(self, *_):
            pass

        def active(self, *_):
            return True

        def isconnected(self):
            return True

        def status(self, *_):
            return 1010

        def __getattr__(self, _name):
            return lambda *_a, **_k: None

    class Network:
        WLAN = Wlan
        STA_IF = 0

    class Machine:
        @staticmethod
        def unique_id():
            return b"unit"

    sys.modules["network"] = Network
    sys.modules["machine"] = Machine
    from mqtt_as import MQTTClient, config

    class Client(MQTTClient):
        async def wifi_connect(self, quick=False):
            pass

    # Its ssl.wrap_socket() knows no context; this is what it calls.
    ssl.wrap_socket = lambda s, **_: context().wrap_socket(s, server_hostname="localhost")
    config.update({"server": "127.0.0.1", "port": PORT, "ssl": True, "client_id": "unit", "clean": False})
    config.update({"ssid": "", "wifi_pw": "", "queue_len": 1, "keepalive": 600})
    client = Client(config)
    await client.connect(quick=True)
    for _ in result.runs():
        while result.going():
            await client.publish(TOPIC, PAYLOAD, qos=1)


# --- what the codecs alone keep, over a peer in memory: without TLS and sockets


def opened():
    """The WebSocket, open, and the buffer of 1 KB that Link reads into."""
    websocket, ws = kobler_websocket()
    key = ws.request().split(b"Key: ")[1].split(b"\r\n")[0]
    accept = binascii.b2a_base64(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    answer = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: "
    list(ws.receive(answer + accept.strip() + b"\r\n\r\n"))
    forget_upgrade()
    return websocket, ws, bytearray(1024)


def forget_upgrade():
    # As the unit does: it is needed once for each connection.
    del sys.modules["coupler.uplink.upgrade"]
    del sys.modules["coupler.uplink"].upgrade


def heap_websocket():
    before = taken()
    websocket, ws, buf = opened()
    for _ in range(100):
        size = len(ws.send(PAYLOAD))
        for _ in ws.receive(b"\x82\x7e\x04\x00" + PAYLOAD):
            pass
    assert size == SIZE + 8 and ws.state == websocket.OPEN and buf
    result.heap = taken() - before


def heap_mqtt():
    """Both codecs, connected, with nothing on the way."""
    before = taken()
    from coupler.uplink import mqtt

    websocket, ws, buf = opened()
    client = mqtt.Mqtt("unit")
    ws.send(client.connect())

    def say(packet):
        for kind, piece, _last in ws.receive(bytes((0x82, len(packet))) + packet):
            if kind == websocket.BINARY:
                list(client.receive(piece))

    say(b"\x20\x02\0\0")
    for i in range(1, 100):
        ws.send(client.publish(TOPIC, PAYLOAD))
        say(b"\x40\x02" + struct.pack(">H", i))
    assert client.in_flight == [] and buf
    result.heap = taken() - before


sys.path[:0] = [FIRMWARE, PEERS]
work = globals()[NAME]()
if work:
    asyncio.run(work)
print(json.dumps({"rate": result.rate, "heap": result.heap}))
