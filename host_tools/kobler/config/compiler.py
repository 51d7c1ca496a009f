"""From a checked configuration to what the unit loads: planned reads, in compact JSON."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from typing import Any

from ..boards import Board
from ..toml_source import Problem
from .models import Bus, Cloud, Config, Network, Point, Unit
from .rules import unsupported

_FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
_MOST = {1: 2000, 2: 2000, 3: 125, 4: 125}  # bits or registers one request can read

Json = dict[str, Any]


def compile_config(config: Config, board: Board | None = None) -> bytes:
    """The compiled configuration; UsageError for what this version, or the board if given, cannot do."""
    problems = list(unsupported(config))
    if board is not None and config.network.kind == "ethernet" and board.ethernet is None:
        problems.append(Problem(("network", "kind"), f"the board {board.name} has no Ethernet; allowed: 'wifi'"))
    if problems:
        raise config.source.error(problems)
    rest: Json = {
        "name": config.device.name,
        "net": _network(config.network),
        "cloud": _cloud(config.cloud),
        "bus": [_bus(bus) for bus in config.bus],
    }
    revision = hashlib.sha256(_compact(rest)).hexdigest()[:8]
    return _compact({"v": 1, "rev": revision, **rest})


def _compact(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _network(network: Network) -> Json:
    result: Json = {"kind": network.kind, "address": "dhcp", "ntp": network.ntp}
    if network.address != "dhcp":
        own = ipaddress.IPv4Interface(network.address)
        result["address"] = {
            "ip": str(own.ip),
            "mask": str(own.netmask),
            "gateway": network.gateway,
            "dns": network.dns,
        }
    if network.ssid is not None:
        result["ssid"] = network.ssid
    if network.password is not None:
        result["password"] = network.password
    return result


def _cloud(cloud: Cloud) -> Json:
    result: Json = {"enabled": cloud.enabled}
    if cloud.url is not None:
        url = cloud.url
        result |= {"scheme": url.scheme, "host": url.host, "port": url.port, "path": url.path}
    return result | {"dialect": cloud.dialect, "ack": cloud.ack}


def _bus(bus: Bus) -> Json:
    return {
        "name": bus.name,
        "kind": bus.kind,
        "baud": bus.baudrate,
        "parity": bus.parity,
        "stop": bus.stop_bits,
        "units": [
            {"id": unit.id, "name": unit.name, "timeout": unit.timeout, "blocks": _blocks(bus, unit)}
            for unit in bus.unit
        ],
    }


def _blocks(bus: Bus, unit: Unit) -> list[Json]:
    """Reads of the unit's points: what touches or overlaps in one table at one period is read at once.

    Holes are not read: a device may refuse a whole read for one register it does not have.
    """
    blocks: list[Json] = []
    key = None
    for point in sorted(unit.point, key=lambda p: (_FUNCTIONS[p.table], p.poll, p.address)):
        fc = _FUNCTIONS[point.table]
        end = point.address + point.type.registers
        open_block = blocks[-1] if key == (fc, point.poll) else None
        if open_block and point.address <= open_block["a"] + open_block["n"] and end - open_block["a"] <= _MOST[fc]:
            open_block["n"] = max(open_block["n"], end - open_block["a"])
        else:
            open_block = {"fc": fc, "a": point.address, "n": end - point.address, "ms": point.poll, "p": []}
            blocks.append(open_block)
        key = (fc, point.poll)
        name = f"{bus.name}/{unit.name}/{point.name}"
        open_block["p"].append(_point(point, name, point.address - open_block["a"]))
    return blocks


def _point(point: Point, name: str, offset: int) -> Json:
    result: Json = {"n": name, "o": offset, "t": point.type.kind, "w": point.order}
    if point.type.kind == "string":
        result["len"] = point.type.length
    if point.type.kind == "bits":
        result |= {"from": point.type.first, "count": point.type.count}
    if point.scale != 1:
        result["k"] = point.scale
    if point.offset != 0:
        result["b"] = point.offset
    if point.unit is not None:
        result["u"] = point.unit
    if point.report is not None:
        result["r"] = _report(point)
    if point.history:
        result["h"] = True
    return result


def _report(point: Point) -> Json:
    report = point.report
    assert report is not None
    result: Json = {}
    if report.deadband is not None:
        result["pct" if report.deadband.percent else "db"] = report.deadband.value
    result["min"] = report.min
    if report.max is not None:
        result["max"] = report.max
    return result | {"agg": report.aggregate}
