"""The embedded broker: amqtt behind the gate, in a TLS WebSocket, client certificates required."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from amqtt.broker import Broker as AmqttBroker
from amqtt.contexts import Action
from websockets.asyncio.server import Server, serve
from websockets.typing import Subprotocol

from ..errors import KoblerError
from .gate import CLOSE_S, PATH, Client, Gate

if TYPE_CHECKING:
    from ..pki import Authority
    from ..pki.revocation import Revocations

log = logging.getLogger("kobler.broker")
Callback = Callable[[str, bytes], None]

_HANDSHAKE_S = 10.0
_STOP_S = 5.0
_CRL_S = 1.0  # how soon a revocation is seen


class _Core(AmqttBroker):  # type: ignore[misc]
    """amqtt 0.12.1 with the few of its steps replaced that are wrong or unsafe here.

    docs/decisions/0010-embedded-broker.md says what and why; the version is pinned, and
    tests/host/test_broker.py checks each behaviour, so an upgrade that changes these internals is noticed.
    """

    def __init__(self, callbacks: list[Callback], objection: Callable[[bytes], str | None]) -> None:
        super().__init__({"listeners": {"default": {"type": "external"}}, "plugins": {}})
        self._callbacks = callbacks
        self._subscribing: set[str] = set()
        self.gate = Gate(self._deliver, objection)

    async def _deliver(self, client: Client) -> None:
        await self.external_connected(client, client, "default")

    async def _authenticate(self, session: Any, _listener: Any) -> bool:
        # TLS and the gate have done it. What a resumed session still says of its last connection is renewed
        # here.
        client = self.gate.active[session.client_id]
        assert client.connect is not None
        session.will_retain = client.connect.will_retain
        session.keep_alive = 0  # the gate enforces it; amqtt's own timer only logs, and can lose half a header
        return True

    async def _topic_filtering(self, session: Any, topic: str, action: Any) -> bool:
        # Never awaits: amqtt calls it while iterating over its subscriptions.
        if action != Action.SUBSCRIBE:
            return True
        client = self.gate.active.get(session.client_id)
        return client is not None and client.identity.may_subscribe(topic)

    async def _handle_subscription(self, session: Any, handler: Any, waiter: Any) -> None:
        self._subscribing.add(session.client_id)
        try:
            await super()._handle_subscription(session, handler, waiter)
        finally:
            self._subscribing.discard(session.client_id)

    async def _publish_retained_messages_for_subscription(self, subscription: Any, session: Any) -> None:
        # At a reconnect amqtt would send the retained messages of everyone's subscriptions to this one
        # session.
        if session.client_id in self._subscribing:
            await super()._publish_retained_messages_for_subscription(subscription, session)

    async def _broadcast_message(self, session: Any, topic: Any, data: Any, force_qos: int | None = None) -> None:
        for callback in self._callbacks:
            callback(topic, bytes(data or b""))
        await super()._broadcast_message(session, topic, data, force_qos)


class Broker:
    """An MQTT 3.1.1 broker for one computer or one building: `wss://HOST:PORT/mqtt`.

    `listen` is the name or address that units will use; the server certificate is made for it. With the default,
    the broker is `localhost` and out of reach for everyone else. Port 0 takes any free one.
    """

    def __init__(self, authority: Authority, port: int = 0, listen: str = "127.0.0.1") -> None:
        self._authority, self._port, self._listen = authority, port, listen
        self._callbacks: list[Callback] = []
        self._core: _Core | None = None
        self._server: Server | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def host(self) -> str:
        """The name in the broker's URL and certificate."""
        return "localhost" if _is_loopback(self._listen) else self._listen

    @property
    def port(self) -> int:
        """The TCP port in use."""
        return self._port

    @property
    def url(self) -> str:
        """Where clients connect."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"wss://{host}:{self._port}{PATH}"

    def subscribe(self, callback: Callback) -> None:
        """Call `callback(topic, payload)` for every message that is accepted, wills included. It must not
        block.
        """
        self._callbacks.append(callback)

    async def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish from inside, past the gate."""
        if self._core is None:
            raise KoblerError("the broker does not run")
        await self._core.internal_message_broadcast(topic, payload)
        if retain:
            await self._core.retain_message(None, topic, payload, 1)

    async def start(self) -> None:
        """Open the port. Raises KoblerError when it cannot."""
        for noisy in ("amqtt", "transitions", "websockets"):
            logging.getLogger(noisy).setLevel(logging.CRITICAL)
        self._authority.refresh_crl()
        revocations = self._authority.revocations()
        self._core = _Core(self._callbacks, revocations.objection)
        await self._core.start()
        try:
            self._server = await serve(
                self._core.gate.serve,
                self._listen,
                self._port,
                ssl=self._tls(),
                ssl_handshake_timeout=_HANDSHAKE_S,
                process_request=self._core.gate.answer,
                subprotocols=[Subprotocol("mqtt")],
                compression=None,
                max_size=1 << 20,
                ping_interval=None,  # MQTT has its own keep-alive
                close_timeout=CLOSE_S,
                server_header=None,
            )
        except (OSError, ssl.SSLError) as error:
            await self.stop()
            raise KoblerError(f"the broker cannot listen on {self._listen} port {self._port}: {error}") from error
        self._port = next(iter(self._server.sockets)).getsockname()[1]
        self._watch = asyncio.create_task(_watch(revocations, self._core.gate))
        log.info("listening on %s", self.url)

    async def stop(self) -> None:
        """Close every connection and the port; bounded, and safe to call twice."""
        server, self._server = self._server, None
        core, self._core = self._core, None
        if self._watch is not None:
            self._watch.cancel()
        for step in (_close(server) if server else None, core.shutdown() if core else None):
            if step is None:
                continue
            try:
                await asyncio.wait_for(step, _STOP_S)
            except TimeoutError:
                log.warning("the broker did not stop within %.0f s; dropped", _STOP_S)

    def _tls(self) -> ssl.SSLContext:
        issued = self._authority.server() if self.host == "localhost" else self._authority.server([self.host])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(issued.cert_pem, issued.key_pem)
        # Units that were provisioned by an earlier version send their own certificate only.
        context.load_verify_locations(self._authority.chain_pem)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context


async def _watch(revocations: Revocations, gate: Gate) -> None:
    # `kobler pki revoke` runs elsewhere and leaves a new list. One that is no good changes nothing.
    while True:
        await asyncio.sleep(_CRL_S)
        try:
            if revocations.update():
                await gate.expel()
        except KoblerError as error:
            log.warning("%s; the revocations known so far stay in force", error)


async def _close(server: Server) -> None:
    server.close()
    await server.wait_closed()


def _is_loopback(listen: str) -> bool:
    if listen == "localhost":
        return True
    try:
        return ipaddress.ip_address(listen).is_loopback
    except ValueError:
        return False
