"""Which broker and which coupler a command means, and the connection to it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import KoblerError, UsageError
from ..mqtt_client import Credentials, MqttClient
from .state import read_endpoint
from .watch import connect

if TYPE_CHECKING:
    from ..bus.remote import Coupler

_PRESENCE_S = 1.0
_NO_ID = set("/+#\0")


@dataclass(frozen=True)
class At:
    """The options that name a broker and a coupler; without `config` and `url`, what runs on the state folder."""

    state: Path
    config: Path | None
    url: str | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    device: str | None

    def place(self) -> tuple[str, str | None]:
        """The broker's URL, and the coupler's id if it is clear. UsageError, KoblerError."""
        if self.config is not None and self.url is not None:
            raise UsageError("--config and --url both name a broker: give one of them")
        if self.device is not None and (not self.device or set(self.device) & _NO_ID):
            raise UsageError(f"--device {self.device}: give the coupler's id, such as 0242ac110002")
        if self.url is not None:
            return self.url, self.device
        if self.config is not None:
            return _broker_of(self.config), self.device
        where = read_endpoint(self.state)
        found = where.get("device")
        return where["broker"], self.device or (found if isinstance(found, str) else None)

    def credentials(self, name: str) -> Credentials:
        """What is named; for the rest, what STATE's authority issues to `name`."""
        return Credentials.of(self.state, name, self.ca, self.cert, self.key)

    def coupler(self, name: str) -> Coupler:
        """The coupler, for its methods; a context manager."""
        from ..bus.remote import Coupler

        url, device = self.place()
        client = connect(url, self.credentials(name))
        try:
            return Coupler(client, device or _only(client))
        except BaseException:
            client.close()
            raise


def _broker_of(config: Path) -> str:
    from ..config import load
    from ..mqtt_link import Endpoint

    cloud = load(config).cloud
    if cloud.url is None:
        raise UsageError(f"{config} names no broker: give [cloud] a url")
    if cloud.dialect == "azure":
        raise UsageError(
            f"{config}: a hub of Azure admits its devices only; ask it with its own tools, such as "
            "`az iot hub monitor-events` and `az iot hub invoke-device-method`"
        )
    return Endpoint(cloud.url.scheme, cloud.url.host, cloud.url.port, cloud.url.path).url


def _only(client: MqttClient) -> str:
    """The one coupler that is online; UsageError if there are several, KoblerError if there is none."""
    online: dict[str, bool] = {}

    def take(topic: str, payload: bytes) -> None:
        try:
            online[topic.split("/")[1]] = json.loads(payload)["state"] == "online"
        except (ValueError, KeyError, TypeError, IndexError):
            return  # not a coupler's

    client.subscribe("kobler/+/presence", take)
    deadline = time.monotonic() + _PRESENCE_S
    while time.monotonic() < deadline:
        client.loop(0.25)
    found = sorted(name for name, there in online.items() if there)
    if len(found) > 1:
        raise UsageError(f"several couplers are online: choose one of {', '.join(found)} with --device")
    if not found:
        known = f"; offline: {', '.join(sorted(online))}" if online else ""
        raise KoblerError(f"no coupler is online at this broker{known}: `kobler doctor` says what may be in the way")
    return found[0]
