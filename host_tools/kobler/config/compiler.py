"""From a checked configuration to what the unit loads: planned reads, in compact JSON."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from typing import Any

from ..boards import Board
from ..toml_source import Problem
from . import raw, sizing
from .models import Bus, Cloud, Config, Interface, Network, Point, Write
from .rules import interfaces, unsupported
from .schedule import Block, BusPlan, UnitPlan, schedule

Json = dict[str, Any]


def compile_config(config: Config, board: Board | None = None) -> bytes:
    """The compiled configuration; UsageError for what this version, or the board if given, cannot do."""
    problems = list(unsupported(config))
    for at, interface in interfaces(config.network):
        if board is not None and interface.kind == "ethernet" and board.ethernet is None:
            problems.append(Problem((*at, "kind"), f"the board {board.name} has no Ethernet; allowed: 'wifi'"))
    if board is not None:
        problems += sizing.shortages(config, sizing.room_of(board))
    if problems:
        raise config.source.error(problems)
    rest: Json = {
        "name": config.device.name,
        "net": _network(config.network),
        "cloud": _cloud(config.cloud),
        "bus": [_bus(plan) for plan in schedule(config)],
    }
    if config.est is not None:
        rest["est"] = {"url": config.est.base}
    if config.store.sync:
        rest["store"] = {"sync": config.store.sync}
    revision = hashlib.sha256(_compact(rest)).hexdigest()[:8]
    return _compact({"v": 1, "rev": revision, **rest})


def _compact(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _network(network: Network) -> Json:
    result = _interface(network) | {"ntp": network.ntp}
    if network.fallback:
        result["fallback"] = [_interface(one) | {"after": one.after} for one in network.fallback]
    return result


def _interface(network: Interface) -> Json:
    result: Json = {"kind": network.kind, "address": "dhcp"}
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
    places = [{"scheme": one.scheme, "host": one.host, "port": one.port, "path": one.path} for one in cloud.urls]
    for place in places[:1]:
        result |= place
    result |= {"dialect": cloud.dialect, "ack": cloud.ack}
    if places[1:]:
        result["more"] = places[1:]
    if cloud.interval:
        result["interval"] = cloud.interval
    if cloud.backlog:
        result["backlog"] = cloud.backlog
    if cloud.scope is not None:
        result["scope"] = cloud.scope
    return result


def _bus(plan: BusPlan) -> Json:
    bus = plan.bus
    result: Json = {"name": bus.name, "kind": bus.kind}
    if bus.kind == "tcp":
        result |= {"host": bus.host, "port": bus.port, "flight": bus.in_flight}
    else:
        result |= {"baud": bus.baudrate, "parity": bus.parity, "stop": bus.stop_bits}
        if bus.turnaround != 100:
            result["turn"] = bus.turnaround
        if bus.gateway is not None:
            result["gw"] = {"port": bus.gateway.port, "allow": bus.gateway.allow, "write": bus.gateway.write}
    return result | {"units": [_unit(bus, unit) for unit in plan.units]}


def _unit(bus: Bus, plan: UnitPlan) -> Json:
    unit = plan.unit
    result: Json = {"id": unit.id, "name": unit.name, "timeout": unit.timeout}
    if unit.pause:
        result["pause"] = unit.pause
    if unit.write_multiple:
        result["multi"] = True
    return result | {"blocks": [_block(block, f"{bus.name}/{unit.name}") for block in plan.blocks]}


def _block(block: Block, prefix: str) -> Json:
    points = [_point(point, f"{prefix}/{point.name}", point.address - block.address) for point in block.points]
    return {"fc": block.fc, "a": block.address, "n": block.count, "ms": block.ms, "p": points}


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
    if point.missing:
        found = (pattern for item in point.missing for pattern in raw.patterns(point.type, item))
        result["na"] = list(dict.fromkeys(found))
    if point.enum:
        result["e"] = {str(value): text for value, text in point.enum.items()}
    if point.write is not None:
        result["wr"] = _write(point.write)
    if point.report is not None:
        result["r"] = _report(point)
    if point.history:
        result["h"] = True
    return result


def _write(write: Write) -> Json:
    result: Json = {}
    if write.min is not None:
        result["min"] = write.min
    if write.max is not None:
        result["max"] = write.max
    if write.verify:
        result["verify"] = True
    result["role"] = write.role
    if write.interval:
        result["ms"] = write.interval
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
