"""What a site's firewall must let through for a configuration, and nothing else: outbound, but for a Modbus gateway."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Config


@dataclass(frozen=True)
class Rule:
    """One rule: outbound to `domain`, unless the note says inbound, from `domain`."""

    domain: str
    port: int
    protocol: str
    note: str


def rules(config: Config) -> list[Rule]:
    """The rules of a configuration; none while the cloud is off, no bus on the network and no point with history."""
    outside = [*_cloud(config), *_time(config)]
    if outside or any(bus.host and not bus.host.replace(".", "").isdecimal() for bus in config.bus):
        return [*outside, *_modbus(config), *_names(config)]
    return _modbus(config)


def _cloud(config: Config) -> list[Rule]:
    url = config.cloud.url
    if not config.cloud.enabled or url is None:
        return []
    how = "MQTT in a TLS WebSocket" if url.scheme == "wss" else "MQTT over TLS"
    return [Rule(url.host, url.port, "TCP", f"{how}; TLS must not be intercepted")]


def _time(config: Config) -> list[Rule]:
    # Certificates need it, and what is kept.
    history = any(point.history for bus in config.bus for unit in bus.unit for point in unit.point)
    if not config.cloud.enabled and not history:
        return []
    found = []
    for server in config.network.ntp:
        host, _, port = server.partition(":")
        found.append(Rule(host, int(port or 123), "UDP", "time (NTP)"))
    return found


def _modbus(config: Config) -> list[Rule]:
    found = []
    for bus in config.bus:
        if bus.host is not None:
            found.append(Rule(bus.host, bus.port, "TCP", f"Modbus TCP, bus {bus.name}; inside the building"))
        if bus.gateway is not None:
            note = f"inbound from there: Modbus TCP to bus {bus.name}; inside the building"
            found += [Rule(source, bus.gateway.port, "TCP", note) for source in bus.gateway.allow]
    return found


def _names(config: Config) -> list[Rule]:
    if config.network.address == "dhcp":
        return [
            Rule("DNS servers from DHCP", 53, "UDP", "names of the above"),
            Rule("DHCP server of the site", 67, "UDP", "address"),
        ]
    return [Rule(server, 53, "UDP", "names of the above (DNS)") for server in config.network.dns]
