"""What no single field can show: fields that do not go together, and what this version cannot do yet."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from typing import Any

from ..toml_source import Key, Problem
from .models import Bus, Cloud, Config, Interface, Network, Point, Unit
from .points import check_point

_LATER = "is not supported by this version"
_ONLY = {  # keys that only one kind of bus has
    "baudrate": "rtu", "parity": "rtu", "stop_bits": "rtu", "turnaround": "rtu", "gateway": "rtu",
    "host": "tcp", "port": "tcp", "in_flight": "tcp",
}  # fmt: skip


def contradictions(config: Config) -> Iterator[Problem]:
    """Mistakes between fields, before the points of profiles are among those of their units."""
    for at, interface in interfaces(config.network):
        yield from _interface(interface, at)
    yield from _each_kind_once(config.network)
    if config.cloud.enabled and config.cloud.url is None:
        yield Problem(("cloud", "url"), "is missing: enabled = true needs to know where to connect")
    if config.cloud.enabled and not config.network.ntp:
        yield Problem(("network", "ntp"), "is empty: certificates cannot be checked without the time")
    yield from _cloud(config.cloud)
    yield from _repeated(config.bus, "name", ())
    for at, bus in each(config.bus, "bus", ()):
        yield from _bus(bus, at)
        yield from _repeated(bus.unit, "name", at)
        yield from _repeated(bus.unit, "id", at)
        for unit_at, unit in each(bus.unit, "unit", at):
            yield from _unit(unit, bus, unit_at)
            yield from check_points(unit.point, unit_at)


def check_points(points: list[Point], at: Key) -> Iterator[Problem]:
    """Mistakes in a list of points, which is below that key."""
    yield from _repeated(points, "name", at)
    for point_at, point in each(points, "point", at):
        yield from check_point(point, point_at)


def beyond_limits(unit: Unit, at: Key) -> Iterator[Problem]:
    """Points that take more registers than the unit hands out at once; of profiles too."""
    most = unit.limits.max_registers if unit.limits else 125
    for point in unit.point:
        if point.type.registers > most:
            what = f"{most} is less than the {point.type.registers} registers of the point {point.name!r}"
            yield Problem((*at, "limits", "max_registers"), what)


def unsupported(config: Config) -> Iterator[Problem]:
    """What is right but cannot run on the firmware of this version: refused, not dropped."""
    for at, interface in interfaces(config.network):
        if interface.kind == "modem":
            yield Problem((*at, "kind"), f"'modem' {_LATER}; supported: 'ethernet', 'wifi'")
    serial = [at for at, bus in each(config.bus, "bus", ()) if bus.kind == "rtu"]
    for at in serial[1:]:
        yield Problem((*at, "kind"), f"a second bus of kind 'rtu' {_LATER}: boards have one RS-485 port")


def interfaces(network: Network) -> Iterator[tuple[Key, Interface]]:
    """The interfaces in the order of preference, each with its key."""
    yield ("network",), network
    yield from each(network.fallback, "fallback", ("network",))


def each(items: list[Any], name: str, at: Key) -> Iterator[tuple[Key, Any]]:
    """The items of an array of tables, each with its key."""
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


def _cloud(cloud: Cloud) -> Iterator[Problem]:
    if cloud.scope is not None and cloud.dialect != "azure":
        yield Problem(("cloud", "scope"), "is of Azure's provisioning service; allowed only with dialect = 'azure'")
    if cloud.dialect == "azure":
        if len(cloud.urls) > 1:
            yield Problem(("cloud", "url", 1), "IoT Hub has one address, which Azure keeps reachable; allowed: one")
        if cloud.url is not None and cloud.url.path not in ("", "/", "/mqtt"):
            yield Problem(("cloud", "url"), f"{cloud.url.path!r}: IoT Hub has a path of its own; leave it away")
    for index, url in enumerate(cloud.urls):
        if url in cloud.urls[:index]:
            yield Problem(("cloud", "url", index), "is there twice; each may be in the list once")


def _each_kind_once(network: Network) -> Iterator[Problem]:
    # Both are looked after while the second is in use, and a board has one of each kind.
    seen: set[str] = set()
    for at, interface in interfaces(network):
        if interface.kind in seen:
            yield Problem((*at, "kind"), f"{interface.kind!r} is there before; each kind may be there once")
        seen.add(interface.kind)


def _interface(network: Interface, at: Key) -> Iterator[Problem]:
    if network.address == "dhcp":
        if network.gateway is not None:
            yield Problem((*at, "gateway"), "comes from DHCP; allowed only with a static address")
        if network.dns:
            yield Problem((*at, "dns"), "comes from DHCP; allowed only with a static address")
    else:
        own = ipaddress.IPv4Interface(network.address)
        if network.gateway is None:
            yield Problem((*at, "gateway"), "is missing: a static address needs it")
        elif ipaddress.IPv4Address(network.gateway) not in own.network or network.gateway == str(own.ip):
            yield Problem((*at, "gateway"), f"{network.gateway!r} is no other host of {own.network}")
        if not network.dns:
            yield Problem((*at, "dns"), "is missing: a static address needs at least one server")
    if network.kind != "wifi":
        for key in ("ssid", "password"):
            if getattr(network, key) is not None:
                yield Problem((*at, key), "allowed only with kind = 'wifi'")
        return
    if not network.ssid or len(network.ssid.encode()) > 32:
        yield Problem((*at, "ssid"), "kind = 'wifi' needs the network's name, 1 to 32 bytes")
    if network.password is not None and not 8 <= len(network.password.encode()) <= 63:
        yield Problem((*at, "password"), "allowed: 8 to 63 bytes, or no password for an open network")


def _bus(bus: Bus, at: Key) -> Iterator[Problem]:
    for key, kind in _ONLY.items():
        if key in bus.model_fields_set and kind != bus.kind:
            yield Problem((*at, key), f"allowed only with kind = {kind!r}")
    if bus.kind == "tcp" and bus.host is None:
        yield Problem((*at, "host"), "is missing: kind = 'tcp' needs to know where the server is")
    if not bus.unit:
        yield Problem(at, "has no [[bus.unit]]")


def _unit(unit: Unit, bus: Bus, at: Key) -> Iterator[Problem]:
    if bus.kind == "rtu" and not 1 <= unit.id <= 247:
        yield Problem((*at, "id"), f"{unit.id} is out of range; allowed on a bus of kind 'rtu': >= 1 and <= 247")
    if unit.profile is not None:
        if unit.points == [] and not unit.point:
            yield Problem((*at, "points"), "takes no point of the profile, and there is no [[bus.unit.point]]")
        return
    if unit.points is not None:
        yield Problem((*at, "points"), "chooses from a profile; allowed only with profile")
    if not unit.point:
        yield Problem(at, "has no [[bus.unit.point]]")
