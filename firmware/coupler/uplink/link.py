# The way to one address of the broker: TCP, TLS, and for wss a WebSocket. Above it there is only a stream of MQTT
# bytes.
import asyncio

from coupler.const import const
from coupler.net.errors import NetError
from coupler.uplink.errors import ProtocolError

_CLOSE_MS = const(300)
_BUFFER = const(1024)
_MAX_MESSAGE = const(0x10000010)  # of a WebSocket message, which is not held in memory: MQTT's largest packet


class Link:
    tcp_ms = 10000
    tls_ms = 20000  # a chip takes up to 4 s for it
    http_ms = 10000

    def __init__(self, hal, cloud, identity, bus=None):
        self._hal = hal
        self._bus = bus
        self._cloud = cloud
        self._identity = identity
        self._buf = bytearray(_BUFFER)
        self._stream = None
        self._codec = None
        self._ws = None

    async def open(self, ip, stage, connect, stream=None):
        """Connects and sends the packet `connect`; stage(name) is told how far it got. NetError, ProtocolError.

        stream: the TCP connection to `ip`, where there is one already; it is the link's from here on."""
        cloud = self._cloud
        identity = self._identity
        net = self._hal.net
        self._stream = stream
        if not stream:
            stage("connecting")
            self._stream = await net.tcp(ip, cloud["port"], self.tcp_ms)
        stage("tls")
        self._stream = net.tls(self._stream, cloud["host"], identity["ca"], identity["cert"], identity["key"])
        if cloud["scheme"] != "wss":
            await self._stream.handshake(self.tls_ms, connect, self._bus)
            return
        from coupler.uplink import websocket

        host = cloud["host"] if cloud["port"] == 443 else "%s:%d" % (cloud["host"], cloud["port"])
        self._codec = websocket
        self._ws = websocket.WebSocket(host, cloud.get("path") or "/", "mqtt", self._hal.urandom, _MAX_MESSAGE)
        await self._stream.handshake(self.tls_ms, self._ws.request(), self._bus)
        stage("websocket")
        try:
            await asyncio.wait_for(self._answered(connect), self.http_ms / 1000)
        except asyncio.TimeoutError:
            where = self._stream.where
            raise NetError("timeout", "%s: no answer to the WebSocket request in %d ms" % (where, self.http_ms))
        self._hal.forget("coupler.uplink.upgrade")

    @property
    def stalled(self):
        """Milliseconds for which the handshake's arithmetic stopped everything in one piece."""
        return getattr(self._stream, "stalled", 0)

    async def _answered(self, connect):
        replies = []  # to what may come with the answer: a ping, a close
        while self._ws.state == self._codec.CONNECTING:
            await self.receive(self._too_early, replies.append)
        for frame in replies:
            await self.write(frame)
        await self.write(self.frame(connect))

    def _too_early(self, _):
        raise ProtocolError("websocket", "the broker spoke first")

    async def receive(self, chunk, reply):
        """Waits for bytes of the broker: chunk(view) gets MQTT, reply(frame) what is to be written as it is."""
        n = await self._stream.readinto(self._buf)
        if not n:
            raise NetError("closed", "%s closed the connection" % self._stream.where)
        data = memoryview(self._buf)[:n]
        if not self._ws:
            chunk(data)
            return
        codec = self._codec
        for kind, piece, _ in self._ws.receive(data):
            if kind == codec.BINARY:
                chunk(piece)
            elif kind == codec.REPLY:
                reply(piece)
            elif kind == codec.TEXT:
                raise ProtocolError("websocket", "a text message: MQTT is binary", 1003)
            elif kind == codec.CLOSE:
                why = "%d %s" % (self._ws.close_code, piece.decode())
                raise NetError("closed", "%s closed the WebSocket: %s" % (self._stream.where, why.rstrip()))

    def frame(self, packet):
        """The bytes that carry one MQTT packet."""
        return self._ws.send(packet) if self._ws else packet

    async def write(self, frame):
        await self._stream.write(frame)

    async def ended(self):
        """Waits until the peer closes. Closing first, with something of it unread, is a reset, which can overtake what
        was written last."""
        try:
            while await self._stream.readinto(self._buf):
                pass
        except (OSError, NetError):
            pass

    async def close(self, code=1000):
        """Says goodbye if that goes quickly, and closes in any case."""
        stream = self._stream
        if stream is None:
            return
        self._stream = None
        try:
            farewell = self._ws.close(code) if self._ws else b""
            if farewell:
                await asyncio.wait_for(stream.write(farewell), _CLOSE_MS / 1000)
        except (OSError, NetError, ValueError, asyncio.TimeoutError):
            pass  # the connection is over; how it ends changes nothing
        finally:
            stream.close()
