"""The small languages inside a configuration's texts: durations, types, dead bands, addresses, names.

Each parser takes what TOML gave and raises ValueError with what is allowed.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SCALARS = {
    "bool": 1, "u16": 1, "i16": 1, "u32": 2, "i32": 2, "u64": 4, "i64": 4, "float32": 2, "float64": 4,
}  # fmt: skip
_TYPES = f"{' '.join(_SCALARS)} string(N) bits(FROM,COUNT)"
_LONGEST_STRING = 250  # characters in the 125 registers of one request
_MOST_MISSING = 8
_MOST_TEXTS = 64
_LABEL = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")


@dataclass(frozen=True)
class PointType:
    """What the registers of a point mean; `registers` is how many it takes."""

    kind: str
    registers: int
    length: int = 0  # of a string
    first: int = 0  # of bits
    count: int = 0

    @property
    def numeric(self) -> bool:
        """Whether scale, dead band and statistics make sense."""
        return self.kind not in {"bool", "string"}


@dataclass(frozen=True)
class Deadband:
    """How far a value must move: absolute, or in per cent of the last reported one."""

    value: float
    percent: bool


@dataclass(frozen=True)
class EstUrl:
    """Where the EST server is."""

    host: str
    port: int


@dataclass(frozen=True)
class CloudUrl:
    """Where the broker is."""

    scheme: str
    host: str
    port: int
    path: str


def duration(low_ms: int, high_ms: int, allowed: str) -> Any:
    """A parser for durations such as "500ms", "1s", "5m", "2h", "7d"; gives milliseconds."""

    def parse(value: Any) -> int:
        match = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)", value) if isinstance(value, str) else None
        if match is None:
            raise ValueError(f'{value!r} is not a duration; allowed: a number with ms, s, m, h or d, such as "5s"')
        ms = int(match[1]) * _UNITS_MS[match[2]]
        if not low_ms <= ms <= high_ms:
            raise ValueError(f"{value!r} is out of range; allowed: {allowed}")
        return ms

    return parse


def point_type(value: Any) -> PointType:
    if isinstance(value, str):
        if value in _SCALARS:
            return PointType(value, _SCALARS[value])
        if match := re.fullmatch(r"string\((\d{1,4})\)", value):
            length = int(match[1])
            if not 1 <= length <= _LONGEST_STRING:
                raise ValueError(f"{value!r}: allowed: string(1) to string({_LONGEST_STRING})")
            return PointType("string", (length + 1) // 2, length=length)
        if match := re.fullmatch(r"bits\((\d{1,3}), *(\d{1,3})\)", value):
            first, count = int(match[1]), int(match[2])
            if count < 1 or first + count > 16:
                raise ValueError(f"{value!r} is not within one register; allowed: COUNT >= 1, FROM + COUNT <= 16")
            return PointType("bits", 1, first=first, count=count)
    raise ValueError(f"{value!r} is not a type; allowed: {_TYPES}")


def deadband(value: Any) -> Deadband:
    if isinstance(value, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)%", value)
        if match and float(match[1]) <= 100:
            return Deadband(float(match[1]), True)
    elif isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return Deadband(float(value), False)
    raise ValueError(f'{value!r} is not a dead band; allowed: a number >= 0, or "0%" to "100%"')


def name(value: Any) -> str:
    """A part of a point's full name: it must fit into a topic and a SenML name (RFC 8428, section 4.5.1)."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,31}", value):
        what = "1 to 32 of A-Z a-z 0-9 _ . : -, the first a letter or digit (no / + #, no spaces)"
        raise ValueError(f"{value!r} cannot be part of a topic; allowed: {what}")
    return value


def text(longest: int) -> Any:
    """A parser for free text of one line."""

    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
            raise ValueError(f"{value!r}: allowed: one line of 1 to {longest} printable characters")
        return value

    return parse


def host(value: str) -> str:
    """A host name (RFC 1123), or an IPv4 address."""
    labels = value.removesuffix(".").split(".")
    if labels[-1].isdecimal():
        try:
            return str(ipaddress.IPv4Address(value))
        except ValueError:
            raise ValueError(f"{value!r} is not an IPv4 address") from None
    if len(value) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(
            f"{value!r} is not a host name; allowed: letters, digits and - between dots, or an IPv4 address"
        )
    return value.lower()


def server(value: Any) -> str:
    """The host of a Modbus TCP server."""
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is not a host; allowed: a name or an IPv4 address")
    return host(value)


def time_server(value: Any) -> str:
    """`host` or `host:port`."""
    if not isinstance(value, str):
        raise ValueError(f'{value!r} is not a time server; allowed: "HOST" or "HOST:PORT"')
    name, colon, port = value.partition(":")
    if colon and not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError(f'{value!r} is not a time server; allowed: "HOST" or "HOST:PORT", PORT 1 to 65535')
    return host(name) + colon + port


def network(value: Any) -> str:
    """An IPv4 network, or one address, as `ADDRESS/PREFIX`."""
    try:
        if isinstance(value, str):
            found = ipaddress.IPv4Network(value)
            if found.prefixlen:
                return str(found)
    except ValueError:
        pass
    raise ValueError(f'{value!r} names no network; allowed: such as "192.0.2.0/24" or "192.0.2.7", not all of them')


def missing(value: Any) -> tuple[int | float | str, ...]:
    """Raw values that mean "not available": one, or a list of numbers, `"0x8000"` or `"nan"`."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        pattern = isinstance(item, str) and re.fullmatch(r"nan|0[xX][0-9a-fA-F]{1,16}", item)
        number = isinstance(item, int | float) and not isinstance(item, bool) and item - item == 0
        if not (pattern or number):
            what = 'a raw value, bits such as "0x8000", "nan", or a list of these'
            raise ValueError(f"{item!r} is no value that could mean not available; allowed: {what}")
    if not 1 <= len(items) <= _MOST_MISSING:
        raise ValueError(f"{len(items)} values; allowed: 1 to {_MOST_MISSING}")
    return tuple(items)


def enumeration(value: Any) -> dict[int, str]:
    """Raw whole numbers (decimal or 0x) and the texts they stand for."""
    if not isinstance(value, dict) or not 1 <= len(value) <= _MOST_TEXTS:
        raise ValueError(f'allowed: a table of 1 to {_MOST_TEXTS} texts, such as {{ 0 = "off", 1 = "heat" }}')
    found: dict[int, str] = {}
    for key, label in value.items():
        if not re.fullmatch(r"-?\d{1,20}|0[xX][0-9a-fA-F]{1,16}", key):
            raise ValueError(f"{key!r} is not a raw value; allowed: a whole number")
        raw = int(key, 0) if key[:2].lower() == "0x" else int(key)
        if raw in found:
            raise ValueError(f"{key!r} is there twice")
        found[raw] = text(32)(label)
    return found


def ipv4(value: Any) -> str:
    try:
        if isinstance(value, str):
            return str(ipaddress.IPv4Address(value))
    except ValueError:
        pass
    raise ValueError(f'{value!r} is not an IPv4 address; allowed: such as "192.0.2.1"')


def address(value: Any) -> str:
    """`dhcp`, or an address with its prefix length."""
    if value == "dhcp":
        return "dhcp"
    try:
        if isinstance(value, str) and "/" in value:
            own = ipaddress.IPv4Interface(value)
            edge = own.ip in (own.network.network_address, own.network.broadcast_address)
            odd = own.ip.is_multicast or own.ip.is_loopback or own.ip.is_unspecified
            if own.network.prefixlen <= 30 and not edge and not odd:
                return str(own)
    except ValueError:
        pass
    raise ValueError(f'{value!r} is not an address of a host; allowed: "dhcp", or such as "192.0.2.10/24"')


def cloud_urls(value: Any) -> list[Any]:
    """One address or a list of them, which `cloud_url` has still to look at."""
    return value if isinstance(value, list) else [cloud_url(value)]


def _split(value: Any, what: str, allowed: str) -> tuple[SplitResult, int | None]:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError(f"{value!r} is not {what}; allowed: {allowed}")
    try:
        parts = urlsplit(value)
        return parts, parts.port
    except ValueError as e:
        raise ValueError(f"{value!r}: {e}; allowed: {allowed}") from None


def cloud_url(value: Any) -> CloudUrl:
    if isinstance(value, CloudUrl):
        return value
    allowed = "wss://HOST[:PORT]/PATH or mqtts://HOST[:PORT], always encrypted"
    parts, port = _split(value, "an address of a broker", allowed)
    if parts.scheme not in {"wss", "mqtts"}:
        raise ValueError(f"{value!r}: the scheme {parts.scheme!r} is not known; allowed: {allowed}")
    if parts.username is not None or parts.fragment:
        raise ValueError(f"{value!r}: no user, password or fragment here; the certificate identifies the unit")
    if not parts.hostname or parts.netloc.startswith("[") or port == 0:
        raise ValueError(f"{value!r}: no host; allowed: {allowed}, HOST a name or an IPv4 address")
    if parts.scheme == "mqtts":
        if parts.path not in {"", "/"} or parts.query:
            raise ValueError(f"{value!r}: mqtts has no path; allowed: {allowed}")
        return CloudUrl("mqtts", host(parts.hostname), port or 8883, "")
    path = (parts.path or "/mqtt") + (f"?{parts.query}" if parts.query else "")
    return CloudUrl("wss", host(parts.hostname), port or 443, path)


def est_url(value: Any) -> EstUrl:
    """https://HOST[:PORT]; the path is given by EST itself."""
    if isinstance(value, EstUrl):
        return value
    allowed = "https://HOST[:PORT]; its path is /.well-known/est always, and what may follow is the `label`"
    parts, port = _split(value, "the address of an EST server", allowed)
    if parts.scheme != "https" or not parts.hostname or parts.netloc.startswith("[") or port == 0:
        raise ValueError(f"{value!r} is not the address of an EST server; allowed: {allowed}")
    if parts.username is not None:
        raise ValueError("no user and no password here: the secret is handed over when the unit is provisioned")
    if parts.path.rstrip("/") not in {"", "/.well-known/est"} or parts.query or parts.fragment:
        raise ValueError(f"{value!r}: its path is not EST's; allowed: {allowed}")
    return EstUrl(host(parts.hostname), port or 443)


_EST_OPERATIONS = {"cacerts", "simpleenroll", "simplereenroll", "fullcmc", "serverkeygen", "csrattrs"}


def est_label(value: Any) -> str:
    """Which of a server's authorities is meant (RFC 7030, 3.2.2)."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9._~-]{1,64}", value) or set(value) == {"."}:
        raise ValueError(f"{value!r} is not a label; allowed: up to 64 letters, digits and . _ ~ -")
    if value in _EST_OPERATIONS:
        raise ValueError(f"{value!r} is one of EST's operations, and cannot be a label")
    return value
