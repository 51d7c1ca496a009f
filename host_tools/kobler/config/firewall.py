"""What a site's firewall must let through for a configuration, and nothing else: outbound, but for a Modbus gateway.

The table is made of what a unit can also say of itself (`kobler doctor --port`): see `Needs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from .models import Config

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("domain", "port", "protocol", "note")
_DHCP_DNS = "DNS servers from DHCP"
_TLS = "TLS must not be intercepted"
_HUBS, _BLOBS = "*.azure-devices.net", "*.blob.core.windows.net"


@dataclass(frozen=True)
class Rule:
    """One rule: outbound to `domain`, unless the note says inbound, from `domain`."""

    domain: str
    port: int
    protocol: str
    note: str

    @property
    def cells(self) -> tuple[str, str, str, str]:
        """As COLUMNS."""
        return self.domain, str(self.port), self.protocol, self.note


class Broker(NamedTuple):
    """Where a coupler connects to."""

    scheme: str
    host: str
    port: int


@dataclass(frozen=True)
class Needs:
    """What decides about connections. `brokers`: none while the cloud is off; `bus` as compiled."""

    dhcp: bool
    dns: list[str]
    ntp: list[str]
    brokers: list[Broker]
    azure: bool
    scope: bool  # the brokers are provisioning services, which assign
    hub: str | None  # this one, if that is known
    history: bool
    bus: list[Mapping[str, Any]]
    est: tuple[str, int] | None = None  # host and port of the server that issues certificates

    @classmethod
    def of(cls, config: Config) -> Needs:
        """Of a configuration."""
        network, cloud = config.network, config.cloud
        urls = cloud.urls if cloud.enabled else []
        dhcp = any(one.address == "dhcp" for one in network.interfaces)
        dns = [server for one in network.interfaces for server in one.dns]
        return cls(
            dhcp,
            [*dns, _DHCP_DNS] if dns and dhcp else dns,
            network.ntp,
            [Broker(url.scheme, url.host, url.port) for url in urls],
            cloud.dialect == "azure",
            cloud.scope is not None,
            None,
            any(point.history for bus in config.bus for unit in bus.unit for point in unit.point),
            [
                {"name": bus.name, "host": bus.host, "port": bus.port}
                | ({"gw": {"port": bus.gateway.port, "allow": bus.gateway.allow}} if bus.gateway else {})
                for bus in config.bus
            ],
            None if config.est is None else (config.est.url.host, config.est.url.port),
        )

    @classmethod
    def said(cls, line: Mapping[str, Any]) -> Needs:
        """As a unit says it. Raises KeyError, TypeError, ValueError for what no unit says."""
        cloud = line["cloud"]
        urls = [cloud, *cloud.get("more", [])] if cloud["enabled"] else []
        return cls(
            line["network"]["address"] == "dhcp",
            [str(one) for one in line["dns"]],
            [str(one) for one in line["ntp"]],
            [Broker(str(url["scheme"]), str(url["host"]), int(url["port"])) for url in urls],
            cloud["dialect"] == "azure",
            "scope" in cloud,
            line["hub"],
            bool(line["history"]),
            [{**bus} for bus in line["bus"]],
            _place(line.get("est")),
        )


def rules(config: Config) -> list[Rule]:
    """The rules of a configuration; none while the cloud is off, no EST server, no bus on the network and no
    point with history."""
    return table_of(Needs.of(config))


def table_of(needs: Needs) -> list[Rule]:
    """The rules, each once, the cloud's first."""
    outside = [*_cloud(needs), *_est(needs), *_time(needs)]
    inside = list(_modbus(needs))
    named = any(bus.get("host") and not _is_address(bus["host"]) for bus in needs.bus)
    return list(dict.fromkeys([*outside, *inside, *(_names(needs) if outside or named else ())]))


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdecimal()


def _cloud(needs: Needs) -> Iterator[Rule]:
    for scheme, host, port in needs.brokers:
        how = f"{'MQTT in a TLS WebSocket' if scheme == 'wss' else 'MQTT over TLS'}; {_TLS}"
        if not needs.azure:
            yield Rule(host, port, "TCP", how)
        elif needs.scope:
            yield Rule(host, port, "TCP", f"Azure's provisioning service: {how}")
            yield Rule(needs.hub or _HUBS, port, "TCP", f"the IoT Hub that it assigns: {how}")
        else:
            yield Rule(host, port, "TCP", f"IoT Hub: {how}")
    if needs.azure and needs.brokers:
        yield Rule(_BLOBS, 443, "TCP", "files for the hub's storage (logs, backups), by HTTPS")


def _place(url: Any) -> tuple[str, int] | None:
    if url is None:
        return None
    parts = urlsplit(str(url))
    return parts.hostname or "", parts.port or 443


def _est(needs: Needs) -> Iterator[Rule]:
    if needs.est is not None:
        yield Rule(*needs.est, "TCP", f"certificates for the unit (EST, HTTPS); {_TLS}")


def _time(needs: Needs) -> Iterator[Rule]:
    # Certificates need it, and what is kept.
    if not needs.brokers and not needs.history and needs.est is None:
        return
    for server in needs.ntp:
        host, _, port = server.partition(":")
        yield Rule(host, int(port or 123), "UDP", "time (NTP)")


def _modbus(needs: Needs) -> Iterator[Rule]:
    for bus in needs.bus:
        if bus.get("host"):
            yield Rule(bus["host"], bus["port"], "TCP", f"Modbus TCP, bus {bus['name']}; inside the building")
        if bus.get("gw"):
            note = f"inbound from there: Modbus TCP to bus {bus['name']}; inside the building"
            for source in bus["gw"]["allow"]:
                yield Rule(source, bus["gw"]["port"], "TCP", note)


def _names(needs: Needs) -> Iterator[Rule]:
    for server in needs.dns:
        yield Rule(server, 53, "UDP", "names of the above (DNS)")
    if needs.dhcp:
        if not needs.dns:
            yield Rule(_DHCP_DNS, 53, "UDP", "names of the above")
        yield Rule("DHCP server of the site", 67, "UDP", "address")


def as_table(found: Iterable[Rule]) -> Table:
    """For people."""
    from rich import box
    from rich.table import Table

    table = Table(*COLUMNS, box=box.SIMPLE_HEAD)
    for rule in found:
        table.add_row(*rule.cells)
    return table


def as_markdown(found: Iterable[Rule]) -> str:
    """For a ticket to the site's IT."""
    return markdown(COLUMNS, (rule.cells for rule in found))


def markdown(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    heads = list(columns)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
