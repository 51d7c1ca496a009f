"""The two ways to a bus: a serial adapter of this computer, or a coupler that runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import KoblerError, UsageError

if TYPE_CHECKING:
    from .line import Format, Line
    from .remote import Coupler


class Way(Protocol):
    """How a request gets to a device."""

    def request(self, unit: int, request: bytes, timeout: float) -> bytes:
        """The PDU that answers the request's; `timeout` in seconds, until it begins. BusFailure, KoblerError."""


@dataclass(frozen=True)
class Where:
    """The options that name a bus."""

    port: str | None
    state: Path
    broker: str | None
    ca: Path | None
    cert: Path | None
    key: Path | None
    device: str | None
    bus: str | None

    @property
    def local(self) -> bool:
        """Whether it is a port of this computer."""
        return self.port is not None

    def check(self) -> None:
        """UsageError for options that do not go together."""
        ours = {"--broker": self.broker, "--device": self.device, "--bus": self.bus, "--ca": self.ca,
                "--cert": self.cert, "--key": self.key}  # fmt: skip
        named = [name for name, value in ours.items() if value is not None]
        if self.local and named:
            raise UsageError(f"--port is an adapter of this computer, {named[0]} is for a coupler: leave one of them")
        if self.broker is not None and self.device is None:
            raise UsageError("--broker: which of its couplers? give --device ID too")

    def line(self, form: Format) -> Line:
        """The adapter."""
        from .line import Line

        assert self.port is not None
        return Line(self.port, form)

    def coupler(self) -> Coupler:
        """The coupler, connected to."""
        from ..cloud.state import read_endpoint
        from ..cloud.watch import connect
        from ..mqtt_client import Credentials
        from .remote import Coupler

        broker, device = self.broker, self.device
        if broker is None:
            try:
                where = read_endpoint(self.state)
            except KoblerError as error:
                raise KoblerError(f"{error}; or name a serial adapter with --port") from None
            broker, device = where["broker"], device or where.get("device")
        if not isinstance(device, str) or not device or set(device) & set("/+#\0"):
            raise UsageError(f"--device {device}: give the coupler's id, such as 0242ac110002")
        return Coupler(
            connect(broker, Credentials.of(self.state, "bus", self.ca, self.cert, self.key)), device, self.bus
        )
