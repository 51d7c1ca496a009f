"""A blocking MQTT client for the host's commands: minimqtt over a Link."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable
from typing import Any

from .mqtt_link import Credentials, Endpoint, Link, LinkError, protocol_error

__all__ = ["Credentials", "Endpoint", "Link", "LinkError", "MqttClient"]

_SLICE_S = 0.25


class MqttClient:
    """A connection that publishes and subscribes; `link` may have been opened step by step before."""

    def __init__(self, link: Link, client_id: str = "") -> None:
        from adafruit_minimqtt.adafruit_minimqtt import MQTT, MMQTTException

        self._failure: tuple[type[Exception], ...] = (
            MMQTTException, OSError, AssertionError, IndexError, KeyError, ValueError, protocol_error()
        )  # fmt: skip
        self._link = link
        self._mqtt = MQTT(
            broker=link.endpoint.host,
            port=link.endpoint.port,
            client_id=client_id or f"kobler-{secrets.token_hex(4)}",
            socket_pool=_Pool(link),
            socket_timeout=_SLICE_S,
            recv_timeout=link.timeout,
            connect_retries=1,
            keep_alive=30,
            use_binary_mode=True,
        )

    def connect(self) -> None:
        """CONNECT; raises LinkError when the broker refuses."""
        try:
            self._mqtt.connect()
        except self._failure as error:
            reason = error.__cause__ or error
            text = f"the broker does not accept this client ({_first(reason)})"
            raise LinkError(text, "use a certificate of the authority that the broker trusts") from None

    def subscribe(self, pattern: str, callback: Callable[[str, bytes], None]) -> None:
        """Subscribe at QoS 1; `callback(topic, payload)` runs inside loop() and publish()."""
        self._mqtt.on_message = lambda _client, topic, payload: callback(topic, bytes(payload))
        self._guard(self._mqtt.subscribe, pattern, 1)

    def publish(self, topic: str, payload: bytes, retain: bool = False) -> None:
        """Publish at QoS 1; returns when the broker has acknowledged."""
        self._guard(self._mqtt.publish, topic, payload, retain, 1)

    def loop(self, seconds: float) -> None:
        """Take what arrives for so long (at least a quarter of a second)."""
        self._guard(self._mqtt.loop, max(seconds, _SLICE_S))

    def close(self) -> None:
        """Leave in order."""
        try:
            self._mqtt.disconnect()
        except self._failure:
            self._link.close()

    def _guard(self, work: Callable[..., object], *arguments: object) -> None:
        try:
            work(*arguments)
        except self._failure as error:
            raise LinkError(f"the connection broke ({_first(error)})", "is the broker still running?") from None


class _Pool:
    """What minimqtt takes for the module `socket`: a pool that holds one open link."""

    SOCK_STREAM = socket.SOCK_STREAM
    timeout = TimeoutError

    def __init__(self, link: Link) -> None:
        self._link = link

    def getaddrinfo(self, host: str, port: int, *_rest: object) -> list[tuple[Any, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port))]

    def socket(self, *_kind: object) -> Link:
        return self._link


def _first(error: BaseException) -> str:
    return str(error.args[0] if error.args else error) or type(error).__name__
