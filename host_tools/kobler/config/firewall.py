"""What a site's firewall must let out for a configuration, and nothing else: all of it is outbound."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Config


@dataclass(frozen=True)
class Rule:
    """One outbound rule."""

    domain: str
    port: int
    protocol: str
    note: str


def rules(config: Config) -> list[Rule]:
    """The rules of a configuration; none while the cloud is off, since then the unit opens no socket."""
    url = config.cloud.url
    if not config.cloud.enabled or url is None:
        return []
    how = "MQTT in a TLS WebSocket" if url.scheme == "wss" else "MQTT over TLS"
    found = [Rule(url.host, url.port, "TCP", f"{how}; TLS must not be intercepted")]
    for server in config.network.ntp:
        host, _, port = server.partition(":")
        found.append(Rule(host, int(port or 123), "UDP", "time (NTP)"))
    if config.network.address == "dhcp":
        found.append(Rule("DNS servers from DHCP", 53, "UDP", "names of the above"))
        found.append(Rule("DHCP server of the site", 67, "UDP", "address"))
    else:
        found += [Rule(server, 53, "UDP", "names of the above (DNS)") for server in config.network.dns]
    return found
