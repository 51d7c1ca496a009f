"""Which address of this computer a coupler can reach."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

from ..errors import UsageError


def address_for(port: str) -> str:
    """The address to listen on for the unit at a serial port: loopback for one that is simulated on this
    computer, else the address of the network that the default route leads to.
    """
    if "://" in port and _is_here(urlsplit(port).hostname or ""):
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: a datagram socket only looks up its route
        except OSError:
            raise UsageError(
                "this computer has no network that the coupler could reach it by: "
                "name its address in the coupler's network with --listen, or use --no-broker"
            ) from None
        return str(probe.getsockname()[0])


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
