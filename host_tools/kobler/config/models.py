"""The configuration as the contract has it: every key, what it may hold, and its default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PrivateAttr

from ..errors import UsageError
from ..toml_model import Table
from ..toml_source import TomlSource
from . import values

Name = Annotated[str, BeforeValidator(values.name)]
Text = Annotated[str, BeforeValidator(values.text(64))]
Number = Annotated[float, Field(allow_inf_nan=False)]
Port = Annotated[int, Field(ge=1, le=65535)]
_HOUR = 3_600_000
_DAY = 24 * _HOUR


def _time(low_ms: int, high_ms: int, allowed: str) -> BeforeValidator:
    return BeforeValidator(values.duration(low_ms, high_ms, allowed))


TIMEOUT = _time(10, 20_000, '"10ms" to "20s"')  # with all who may queue before a poll, within the watchdog's patience
PAUSE = _time(0, 60_000, '"0s" to "60s"')


class Device(Table):
    name: Text


class Interface(Table):
    """A way into the site's network."""

    kind: Literal["ethernet", "wifi", "modem"] = "ethernet"
    address: Annotated[str, BeforeValidator(values.address)] = "dhcp"
    gateway: Annotated[str, BeforeValidator(values.ipv4)] | None = None
    dns: list[Annotated[str, BeforeValidator(values.ipv4)]] = []
    ssid: str | None = None
    password: str | None = None


class Fallback(Interface):
    """The way that is taken when the one before has had no address for so long."""

    after: Annotated[int, _time(1000, _HOUR, '"1s" to "1h"')] = 30_000


class Network(Interface):
    ntp: list[Annotated[str, BeforeValidator(values.time_server)]] = ["pool.ntp.org"]
    fallback: list[Fallback] = []

    @property
    def interfaces(self) -> list[Interface]:
        """All of them, the preferred one first."""
        return [self, *self.fallback]


class Cloud(Table):
    enabled: bool = False
    urls: Annotated[
        list[Annotated[values.CloudUrl, BeforeValidator(values.cloud_url)]],
        Field(alias="url", min_length=1, max_length=4),
        BeforeValidator(values.cloud_urls),
    ] = []
    dialect: Literal["plain", "azure"] = "plain"
    ack: Literal["broker", "store"] = "broker"
    scope: Annotated[str, BeforeValidator(values.text(64))] | None = None
    interval: Annotated[int, _time(0, _HOUR, '"0s" to "1h"')] = 0
    backlog: Annotated[int, Field(ge=0, le=100_000)] = 0

    @property
    def url(self) -> values.CloudUrl | None:
        """The preferred one; the others of `urls` are for when it cannot be reached."""
        return self.urls[0] if self.urls else None


class Est(Table):
    """The server that issues the unit's certificates, by EST (RFC 7030)."""

    url: Annotated[values.EstUrl, BeforeValidator(values.est_url)]
    label: Annotated[str, BeforeValidator(values.est_label)] | None = None

    @property
    def base(self) -> str:
        """What the unit puts its operations behind."""
        return f"https://{self.url.host}:{self.url.port}/.well-known/est" + (f"/{self.label}" if self.label else "")


class Store(Table):
    """How soon a value that was read survives a power cut."""

    sync: Annotated[int, _time(0, 60_000, '"0s" to "60s"')] = 0


class History(Table):
    """How far back the unit has to remember; `kobler.config.sizing` says whether it can."""

    instant: Annotated[int, _time(60_000, 365 * _DAY, '"1m" to "365d"')] = 5 * _HOUR
    hours: Annotated[int, _time(_HOUR, 3650 * _DAY, '"1h" to "3650d"')] = 7 * _DAY
    days: Annotated[int, _time(_DAY, 3650 * _DAY, '"1d" to "3650d"')] = 365 * _DAY


class Report(Table):
    deadband: Annotated[values.Deadband, BeforeValidator(values.deadband)] | None = None
    min: Annotated[int, _time(0, _DAY, '"0s" to "1d"')] = 0
    max: Annotated[int, _time(100, _DAY, '"100ms" to "1d"')] | None = None
    aggregate: Literal["last", "mean", "min", "max", "sum", "count"] = "last"


class Write(Table):
    min: Number | None = None
    max: Number | None = None
    verify: bool = False
    role: Literal["operator", "admin"] = "operator"
    interval: Annotated[int, _time(0, _DAY, '"0s" to "1d"')] = 0


class Point(Table):
    name: Name
    table: Literal["coil", "discrete", "input", "holding"]
    address: Annotated[int, Field(ge=0, le=65535)]
    type: Annotated[values.PointType, BeforeValidator(values.point_type)]
    order: Literal["ABCD", "CDAB", "BADC", "DCBA"] = "ABCD"
    scale: Number = 1.0
    offset: Number = 0.0
    unit: Annotated[str, BeforeValidator(values.text(32))] | None = None
    missing: Annotated[tuple[int | float | str, ...], BeforeValidator(values.missing)] = ()
    enum: Annotated[dict[int, str], BeforeValidator(values.enumeration)] = {}
    poll: Annotated[int, _time(10, _DAY, '"10ms" to "1d"')] = 1000
    report: Report | None = None
    history: bool = False
    write: Write | None = None


class Limits(Table):
    """The most that one request may ask of a device."""

    max_registers: Annotated[int, Field(ge=1, le=125)] = 125
    max_bits: Annotated[int, Field(ge=1, le=2000)] = 2000


class Unit(Table):
    """A device; `load` has put the points of its profile among its own."""

    id: Annotated[int, Field(ge=0, le=255)]
    name: Name
    timeout: Annotated[int, TIMEOUT] = 500
    pause: Annotated[int, PAUSE] = 0
    profile: str | None = None
    points: list[str] | None = None
    limits: Limits | None = None
    holes: bool | None = None
    write_multiple: bool | None = None
    point: list[Point] = []


class Gateway(Table):
    """Who may reach the units of a serial bus by Modbus TCP."""

    port: Port = 502
    allow: Annotated[list[Annotated[str, BeforeValidator(values.network)]], Field(min_length=1, max_length=16)]
    write: bool = False


class Bus(Table):
    name: Name
    kind: Literal["rtu", "tcp"]
    baudrate: Annotated[int, Field(ge=300, le=1_000_000)] = 19200
    parity: Literal["even", "odd", "none"] = "even"
    stop_bits: Annotated[int, Field(ge=1, le=2)] = 1
    turnaround: Annotated[int, _time(1, 10_000, '"1ms" to "10s"')] = 100
    gateway: Gateway | None = None
    host: Annotated[str, BeforeValidator(values.server)] | None = None
    port: Port = 502
    in_flight: Annotated[int, Field(ge=1, le=16)] = 1
    unit: list[Unit] = []


class Config(Table):
    """A whole configuration; times in milliseconds. Made by `kobler.config.load`."""

    device: Device
    network: Network = Network()
    cloud: Cloud = Cloud()
    est: Est | None = None
    store: Store = Store()
    history: History = History()
    bus: list[Bus] = []

    _source: TomlSource | None = PrivateAttr(None)

    @property
    def source(self) -> TomlSource:
        """The file it was read from, for errors."""
        return self._source or TomlSource(Path("configuration"), {}, {})

    def with_cloud(self, url: str) -> Config:
        """The same, connected to the broker at `url` by the plain dialect."""
        try:
            own = self.cloud
            update = {"urls": [values.cloud_url(url)], "interval": own.interval, "backlog": own.backlog}
            cloud = Cloud(enabled=True).model_copy(update=update)
        except ValueError as e:
            raise UsageError(f"broker: {e}") from None
        return self._changed(cloud=cloud)

    def with_ntp(self, servers: list[str]) -> Config:
        """The same, with other time servers (`host` or `host:port`)."""
        try:
            checked = [values.time_server(server) for server in servers]
        except ValueError as e:
            raise UsageError(f"time server: {e}") from None
        return self._changed(network=self.network.model_copy(update={"ntp": checked}))

    def _changed(self, **parts: Any) -> Config:
        return self.model_copy(update=parts)
