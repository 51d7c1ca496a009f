"""The door in front of the embedded broker: one TLS WebSocket per client, known by its certificate, packet by
packet.

amqtt checks less than a broker on a building's network must (docs/decisions/0010-embedded-broker.md), so
nothing reaches it that has not been read here first: the first packet in time, whole and lawful packets only,
publishing and wills within the holder's topics, keep-alive enforced, and a session name that begins with the
certificate's holder, so that no client can take up another's session by choosing its client identifier.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from amqtt.adapters import ReaderAdapter, WriterAdapter
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from . import packets
from .identity import Identity, IdentityError
from .packets import PacketError, Splitter

log = logging.getLogger("kobler.broker")
log.addHandler(logging.NullHandler())  # heard only by those who ask

PATH = "/mqtt"
MAX_PACKET = 1 << 20
FIRST_PACKET_S = 10.0
SEND_S = 10.0
CLOSE_S = 2.0
_POLICY, _PROTOCOL = 1008, 1002


class Refused(Exception):
    """The client may not do that; the connection ends."""


class Client(ReaderAdapter, WriterAdapter):  # type: ignore[misc]
    """One connection, as amqtt reads and writes it."""

    def __init__(self, socket: ServerConnection, identity: Identity) -> None:
        self.identity = identity
        self.certificate = _certificate(socket)
        self.session = ""
        self.connect: packets.Connect | None = None
        self.over = asyncio.Event()
        self._socket = socket
        self._splitter = Splitter(MAX_PACKET)
        self._ready = bytearray()
        self._outgoing = bytearray()
        self._idle: float | None = FIRST_PACKET_S
        self._said_goodbye = False
        self._ending: asyncio.Task[None] | None = None

    async def next_packet(self) -> packets.Packet | None:
        """The next whole packet; None when the peer is gone or has been silent for too long."""
        while (packet := self._splitter.take()) is None:
            try:
                async with asyncio.timeout(self._idle):
                    message = await self._socket.recv(decode=False)
            except TimeoutError:
                log.info("%s: silent for %.0f s", self.identity.name, self._idle)
                self._hang_up(_POLICY, "silent for too long")
                return None
            except ConnectionClosed:
                return None
            self._splitter.feed(message)
        return packet

    def accept(self, connect: packets.Connect, session: str) -> None:
        """Hand the CONNECT to amqtt under a session name of ours, and start to enforce the client's keep-
        alive.
        """
        self.connect, self.session = connect, session
        self._ready += connect.named(session).encode()
        self._idle = connect.keep_alive * 1.5 or None  # MQTT-3.1.2-24

    async def read(self, n: int = -1) -> bytes:
        """n bytes for amqtt, empty at the end of the connection."""
        while len(self._ready) < n:
            if self._said_goodbye:
                # amqtt handles DISCONNECT in a task of its own; an end seen before it ran would publish the
                # will.
                await self.over.wait()
                return b""
            try:
                packet = await self.next_packet()
                if packet is None:
                    return b""
                self._check(packet)
            except (PacketError, Refused) as error:
                log.warning("%s: %s", self.identity.name, error)
                self._hang_up(_POLICY if isinstance(error, Refused) else _PROTOCOL, str(error))
                return b""
            self._ready += packet.encode()
        part = bytes(self._ready[:n])
        del self._ready[:n]
        return part

    def _check(self, packet: packets.Packet) -> None:
        if packet.kind == packets.CONNECT:
            raise PacketError("a second CONNECT")  # MQTT-3.1.0-2
        if packet.kind == packets.PUBLISH:
            topic = packets.read_topic(packet)
            # MQTT 3.1.1 cannot refuse one message; to acknowledge it and drop it would lose data unnoticed.
            if not self.identity.may_publish(topic):
                raise Refused(f"may not publish to {topic}")
        elif packet.kind in (packets.SUBSCRIBE, packets.UNSUBSCRIBE):
            packets.check_list(packet)
        else:
            packets.check_short(packet)
            self._said_goodbye = packet.kind == packets.DISCONNECT

    def feed_eof(self) -> None:
        """Nothing to do: the end of the WebSocket is the end."""

    def write(self, data: bytes) -> None:
        """Queue bytes for the client."""
        self._outgoing += data

    async def drain(self) -> None:
        """Send what is queued as one message; a client that does not take it in time is dropped."""
        message, self._outgoing = bytes(self._outgoing), bytearray()
        if not message:
            return
        try:
            async with asyncio.timeout(SEND_S):
                await self._socket.send(message)
        except (TimeoutError, ConnectionClosed) as error:
            self._socket.transport.abort()
            raise ConnectionResetError("the client takes nothing any more") from error

    def get_peer_info(self) -> tuple[str, int] | None:
        """Address and port of the client."""
        peer = self._socket.remote_address
        return (peer[0], peer[1]) if peer else None

    def get_ssl_info(self) -> ssl.SSLObject | None:
        """The TLS object; nothing behind the gate needs it."""
        return None

    async def close(self) -> None:
        """End the connection in the ordinary way (called by amqtt too)."""
        if self._ending is None:
            self._hang_up(1000, "")
        assert self._ending is not None
        await self._ending

    def _hang_up(self, code: int, reason: str) -> None:
        """End the connection without waiting: a peer that does not answer must not hold up its own will."""
        if self._ending is None:
            self._ending = asyncio.create_task(self.end(code, reason))

    async def end(self, code: int, reason: str, patience: float = CLOSE_S) -> None:
        """Close the WebSocket with a code, and drop it when the peer does not play its part in time."""
        self.over.set()
        try:
            async with asyncio.timeout(patience):
                await self._socket.close(code, reason.encode()[:120].decode(errors="ignore"))
        except TimeoutError:
            self._socket.transport.abort()


class Gate:
    """Admits clients and passes them to amqtt; `active` holds them by session name.

    `objection` says of a certificate (DER) why nobody may be let in with it. It is asked here and not in TLS, where a
    session that is taken up again brings no certificate to be judged.
    """

    def __init__(self, deliver: Callable[[Client], Awaitable[None]], objection: Callable[[bytes], str | None]) -> None:
        self.active: dict[str, Client] = {}
        self._clients: set[Client] = set()
        self._deliver, self._objection = deliver, objection
        self._gone: dict[str, asyncio.Event] = {}

    def answer(self, socket: ServerConnection, request: Request) -> Response | None:
        """Refuse what is not for us before it becomes a WebSocket."""
        if request.path.partition("?")[0] != PATH:
            return socket.respond(HTTPStatus.NOT_FOUND, f"MQTT is at {PATH}\n")
        try:
            identity = _identify(socket)
            if objection := self._objection(_certificate(socket)):
                raise IdentityError(f"{objection}: {identity.name}")
        except IdentityError as error:
            log.warning("refused: %s", error)
            return socket.respond(HTTPStatus.FORBIDDEN, f"{error}\n")
        return None

    async def expel(self) -> None:
        """End the connections of those who were revoked since they came."""
        await asyncio.gather(*map(self._expel, list(self._clients)), return_exceptions=True)

    async def _expel(self, client: Client) -> bool:
        # -> whether there was a reason to
        objection = self._objection(client.certificate)
        if objection:
            log.warning("%s: %s", client.identity.name, objection)
            await client.end(_POLICY, objection, patience=0.2)
        return objection is not None

    async def serve(self, socket: ServerConnection) -> None:
        """One client from its first packet to its end."""
        client = Client(socket, _identify(socket))
        self._clients.add(client)
        try:
            # It may have been revoked since its request was answered; from here on `expel` finds it.
            if not await self._expel(client):
                await self._serve(client)
        finally:
            self._clients.discard(client)

    async def _serve(self, client: Client) -> None:
        name = client.identity.name
        try:
            session = await self._admit(client)
        except PacketError as error:
            log.warning("%s: %s", name, error)
            await client.end(_PROTOCOL, str(error))
            return
        except Refused as error:
            log.warning("%s: %s", name, error)
            await client.end(_POLICY, str(error))
            return
        if not session:
            return
        self.active[session], gone = client, asyncio.Event()
        self._gone[session] = gone
        try:
            await self._deliver(client)
        except Exception:
            log.exception("%s: the broker failed on this connection", name)
        finally:
            client.over.set()
            del self.active[session], self._gone[session]
            gone.set()

    async def _admit(self, client: Client) -> str:
        packet = await client.next_packet()
        if packet is None:
            return ""
        connect = packets.read_connect(packet)
        if connect.level != 4:
            await self._refuse(client, 1, f"MQTT level {connect.level}; 4 (MQTT 3.1.1) is spoken here")
        if not connect.client_id and not connect.clean:
            await self._refuse(client, 2, "a lasting session without a client identifier")
        if connect.will_topic is not None and not client.identity.may_publish(connect.will_topic):
            await self._refuse(client, 5, f"may not have a will on {connect.will_topic}")
        role = "unit" if client.identity.unit else "observer"
        session = f"{role}/{client.identity.name}/{connect.client_id or secrets.token_hex(8)}"
        while (former := self.active.get(session)) is not None:  # MQTT-3.1.4-2
            gone = self._gone[session]
            # Most often the former connection is dead and will not answer; the new one should not wait for
            # it.
            await former.end(_POLICY, "the same client connected again", patience=0.2)
            await gone.wait()
        client.accept(connect, session)
        return session

    @staticmethod
    async def _refuse(client: Client, code: int, reason: str) -> None:
        client.write(packets.connack(code))
        try:
            await client.drain()
        except ConnectionResetError:
            pass
        raise Refused(reason)


def _certificate(socket: ServerConnection) -> bytes:
    tls = socket.transport.get_extra_info("ssl_object")
    return (tls.getpeercert(True) if tls else None) or b""


def _identify(socket: ServerConnection) -> Identity:
    tls = socket.transport.get_extra_info("ssl_object")
    return Identity.of((tls.getpeercert() if tls else None) or {})
