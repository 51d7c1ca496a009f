"""What a technician can do about a failure that a unit has found, by the check and the kind of the failure."""

from __future__ import annotations

from ..mqtt_link import http_remedy

# The firmware's own words for the kinds: coupler/net/errors.py, uplink/errors.py and doctor.py.
_BY_KIND = {
    ("configuration", "missing"): "give it one: `kobler provision --port PORT --config FILE`",
    ("configuration", "config"): "check the file with `kobler config check FILE` and provision it again; "
    "if it is right, the firmware is older than it: `kobler flash`",
    ("identity", "missing"): "give it one: `kobler provision --port PORT`",
    ("identity", "identity"): "give it a new one: `kobler provision --port PORT`",
    ("identity", "expired"): "check the unit's clock (the line `time`); if it is right, `kobler provision` gives it a "
    "new certificate",
    ("network", "network"): "is the cable plugged in, and does the switch's port show a link? with DHCP: does the site "
    "have a free address for this unit? on Wi-Fi: name and password of the network",
    ("network", "config"): "name an interface that this board has in [network] kind, and provision again",
    ("time", "config"): "name a time server in [network] ntp, and provision again",
    ("time", "dns"): "the name of the time server is not known here: see to DNS, or name a time server of the site in "
    "[network] ntp",
    ("time", "timeout"): "let UDP port {port} out to {host}, and the answers in; or name a time server of the site in "
    "[network] ntp",
    ("registration", "dps"): "is the unit enrolled in the provisioning service, with this certificate's authority? "
    "check [cloud] scope",
    ("cloud", "disabled"): "that is as it should be, unless it is to report: set [cloud] enabled = true, and provision "
    "again",
    ("cloud", "switched"): "that is as it should be, unless it is to report: `kobler provision` switches it on again",
    ("mqtt", "mqtt-refused"): "ask whoever runs the broker whether this unit's certificate may connect; one that knows "
    "its clients by their MQTT client id refuses the doctor's (ID-doctor), but not the unit's own",
    ("mqtt", "timeout"): "the broker took the connection and says nothing: is it overloaded or starting?",
    ("mqtt", "closed"): "ask whoever runs the broker why it hangs up: is this unit's certificate known there?",
    ("tls", "tls-clock"): "check the line `time`; if the unit's clock is right, whoever runs {host} has to renew its "
    "certificate",
    ("tls", "tls-authority"): "the unit trusts the authority it was provisioned with, and no other: provision it with "
    "the one of {host}; if it was, something in between breaks TLS open: ask the site's IT to let {host} pass "
    "without inspection",
    ("tls", "tls-name"): "use the name that is in the certificate in [cloud] url, or have the certificate made for "
    "{host}",
    ("tls", "tls-refused"): "the broker does not take this unit's certificate: it has to trust the root above it (and "
    "know the authorities that the unit does not show, see identity), or provision the unit under the broker's "
    "authority",
    ("tls", "tls"): "there is no TLS at port {port} of {host}: check the port in [cloud] url; a firewall that answers "
    "in its place looks like this too",
    ("tls", "memory"): "restart the unit and try again; if it stays so, send the maker this report",
}
_BY_CHECK = {
    "dns": "check the name in [cloud] url; let UDP port 53 out to this server, or have the site's IT name another "
    "(in DHCP, or in [network] dns)",
    "tcp": "let TCP port {port} out to {host}; if the firewall does, is the broker running?",
    "tls": "something in between swallows or cuts the connection, a firewall or a proxy: ask the site's IT to let "
    "TCP port {port} pass to {host} unchanged",
    "websocket": "something in between swallows or cuts the connection, a firewall or a proxy: ask the site's IT to "
    "let TCP port {port} pass to {host} unchanged",
    "registration": "ask the site's IT to let TCP port {port} pass to {host} unchanged",
}
_UNKNOWN = "restart the unit and try again; if it stays so, send the maker this report"


def remedy(check: str, kind: str, detail: str, host: str, port: int) -> str:
    """One line for whoever stands before the unit."""
    if kind == "http":
        return http_remedy(detail, host, port)
    text = _BY_KIND.get((check, kind)) or _BY_CHECK.get(check) or _UNKNOWN
    return text.format(host=host or "the server", port=port or "?")
