"""What no single field can show: fields that do not go together, and what this version cannot do yet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from ..toml_source import Key, Problem
from .models import Bus, Config, Network, Point, Unit

_LATER = "is not supported by this version"


def contradictions(config: Config) -> Iterator[Problem]:
    """Mistakes between fields."""
    yield from _network(config.network)
    if config.cloud.enabled and config.cloud.url is None:
        yield Problem(("cloud", "url"), "is missing: enabled = true needs to know where to connect")
    if config.cloud.enabled and not config.network.ntp:
        yield Problem(("network", "ntp"), "is empty: certificates cannot be checked without the time")
    yield from _repeated(config.bus, "name", ())
    for at, bus in _each(config.bus, "bus", ()):
        if not bus.unit:
            yield Problem(at, "has no [[bus.unit]]")
        yield from _repeated(bus.unit, "name", at)
        yield from _repeated(bus.unit, "id", at)
        for unit_at, unit in _each(bus.unit, "unit", at):
            if not unit.point and not unit.profile:
                yield Problem(unit_at, "has no [[bus.unit.point]]")
            yield from _repeated(unit.point, "name", unit_at)
            for point_at, point in _each(unit.point, "point", unit_at):
                yield from _point(point, point_at)


def unsupported(config: Config) -> Iterator[Problem]:
    """What is right but cannot run on the firmware of this version: refused, not dropped."""
    if config.network.kind == "modem":
        yield Problem(("network", "kind"), f"'modem' {_LATER}; supported: 'ethernet', 'wifi'")
    if config.cloud.dialect != "plain":
        yield Problem(("cloud", "dialect"), f"{config.cloud.dialect!r} {_LATER}; supported: 'plain'")
    if config.cloud.ack != "broker":
        yield Problem(("cloud", "ack"), f"{config.cloud.ack!r} {_LATER}; supported: 'broker'")
    for at, bus in _each(config.bus, "bus", ()):
        if bus.kind != "rtu":
            yield Problem((*at, "kind"), f"{bus.kind!r} {_LATER}; supported: 'rtu'")
        if at[-1] != 0:
            yield Problem(at, f"more than one bus {_LATER}: boards have one RS-485 port")
        for unit_at, unit in _each(bus.unit, "unit", at):
            if unit.profile is not None:
                yield Problem((*unit_at, "profile"), f"{_LATER}; write the points as [[bus.unit.point]]")


def without_effect(config: Config) -> list[Problem]:
    """What is accepted and checked but does nothing yet."""
    return [
        Problem((*point_at, "write"), "is accepted, but this version does not write")
        for at, bus in _each(config.bus, "bus", ())
        for unit_at, unit in _each(bus.unit, "unit", at)
        for point_at, point in _each(unit.point, "point", unit_at)
        if point.write is not None
    ]


def _each(items: list[Any], name: str, at: Key) -> Iterator[tuple[Key, Any]]:
    return (((*at, name, index), item) for index, item in enumerate(items))


def _repeated(items: Iterable[Bus | Unit | Point], field: str, at: Key) -> Iterator[Problem]:
    seen: dict[Any, int] = {}
    for index, item in enumerate(items):
        value = getattr(item, field)
        if value in seen:
            table = type(item).__name__.lower()
            what = f"{value!r} is already the {field} of {table}[{seen[value]}]; each may be there once"
            yield Problem((*at, table, index, field), what)
        seen.setdefault(value, index)


def _network(network: Network) -> Iterator[Problem]:
    if network.address == "dhcp":
        if network.gateway is not None:
            yield Problem(("network", "gateway"), "comes from DHCP; allowed only with a static address")
        if network.dns:
            yield Problem(("network", "dns"), "comes from DHCP; allowed only with a static address")
    else:
        own = ipaddress.IPv4Interface(network.address)
        if network.gateway is None:
            yield Problem(("network", "gateway"), "is missing: a static address needs it")
        elif ipaddress.IPv4Address(network.gateway) not in own.network or network.gateway == str(own.ip):
            yield Problem(("network", "gateway"), f"{network.gateway!r} is no other host of {own.network}")
        if not network.dns:
            yield Problem(("network", "dns"), "is missing: a static address needs at least one server")
    if network.kind != "wifi":
        for key in ("ssid", "password"):
            if getattr(network, key) is not None:
                yield Problem(("network", key), "allowed only with kind = 'wifi'")
        return
    if not network.ssid or len(network.ssid.encode()) > 32:
        yield Problem(("network", "ssid"), "kind = 'wifi' needs the network's name, 1 to 32 bytes")
    if network.password is not None and not 8 <= len(network.password.encode()) <= 63:
        yield Problem(("network", "password"), "allowed: 8 to 63 bytes, or no password for an open network")


def _point(point: Point, at: Key) -> Iterator[Problem]:
    bits = point.table in {"coil", "discrete"}
    kind = point.type.kind
    if bits and kind != "bool":
        yield Problem((*at, "type"), f"{kind!r} cannot be read from the table {point.table!r}; allowed: 'bool'")
    elif point.address + point.type.registers > 65536:
        what = f"{point.address} and the {point.type.registers} registers of the type end behind register 65535"
        yield Problem((*at, "address"), what)
    if point.scale == 0:
        yield Problem((*at, "scale"), "0 would make every value the same")
    if not point.type.numeric:
        for key, neutral in (("scale", 1), ("offset", 0)):
            if getattr(point, key) != neutral:
                yield Problem((*at, key), f"does not go with the type {kind!r}")
    if point.report is not None:
        yield from _report(point, at)
    write = point.write
    if write is not None:
        if point.table not in {"coil", "holding"}:
            yield Problem((*at, "write"), f"the table {point.table!r} is read only; allowed: 'coil', 'holding'")
        if write.min is not None and write.max is not None and write.min > write.max:
            yield Problem((*at, "write", "min"), f"{write.min} is more than max, {write.max}")


def _report(point: Point, at: Key) -> Iterator[Problem]:
    report = point.report
    assert report is not None
    kind = point.type.kind
    if report.max is not None and report.min > report.max:
        yield Problem((*at, "report", "min"), f"{report.min} ms is more than max, {report.max} ms")
    if not point.type.numeric:
        if report.deadband is not None:
            yield Problem((*at, "report", "deadband"), f"does not go with the type {kind!r}")
        if report.aggregate != "last":
            yield Problem((*at, "report", "aggregate"), f"the type {kind!r} allows only 'last'")
