"""The planned reads of a configuration, and how much of each bus's time they take."""

from __future__ import annotations

from dataclasses import dataclass

from .models import Bus, Config, Limits, Point, Unit
from .planner import Span, plan
from .wire import Wire, wire_of

FUNCTIONS = {"coil": 1, "discrete": 2, "holding": 3, "input": 4}
FULL = 1.0  # more than this cannot be read in time
HIGH = 0.7  # more than this leaves little room for writes, retries and devices that do not answer


@dataclass(frozen=True)
class Block:
    """One read: `count` registers or bits from `address` on, every `ms`; it takes the bus `cost_ns`."""

    fc: int
    address: int
    count: int
    ms: int
    points: tuple[Point, ...]
    cost_ns: int

    @property
    def holes(self) -> int:
        """How many of its registers or bits no point of it names."""
        named = {n for point in self.points for n in range(point.address, point.address + point.type.registers)}
        return self.count - len(named)

    @property
    def load(self) -> float:
        """The part of the time of one lane that it takes."""
        return self.cost_ns / 1e6 / self.ms


@dataclass(frozen=True)
class UnitPlan:
    """A unit's blocks; whether they are known to be the cheapest."""

    unit: Unit
    blocks: list[Block]
    exact: bool


@dataclass(frozen=True)
class BusPlan:
    """A bus's units, in the order of the configuration."""

    bus: Bus
    wire: Wire
    units: list[UnitPlan]

    @property
    def load(self) -> float:
        """The part of the bus's time that the plan takes; 1 is all of it."""
        return sum(block.load for unit in self.units for block in unit.blocks) / self.wire.lanes


def schedule(config: Config) -> list[BusPlan]:
    """The plan of every bus."""
    return [BusPlan(bus, wire_of(bus), [plan_unit(unit, wire_of(bus)) for unit in bus.unit]) for bus in config.bus]


def plan_unit(unit: Unit, wire: Wire) -> UnitPlan:
    """The reads of one unit's points."""
    limits = unit.limits or Limits()
    blocks: list[Block] = []
    exact = True
    for table, fc in FUNCTIONS.items():
        points = [point for point in unit.point if point.table == table]
        most = limits.max_bits if fc <= 2 else limits.max_registers
        found = plan(
            [Span(p.address, p.type.registers, p.poll) for p in points], wire, fc, most, unit.holes is not False
        )
        exact = exact and found.exact
        for read in found.reads:
            members = sorted((points[i] for i in read.members), key=lambda p: (p.address, p.name))
            cost = wire.read_ns(fc, read.count)
            blocks.append(Block(fc, read.start, read.count, read.ms, tuple(members), cost))
    return UnitPlan(unit, sorted(blocks, key=lambda b: (b.fc, b.ms, b.address)), exact)


def advice(found: BusPlan) -> str | None:
    """What is wrong with how much a bus has to do; None if nothing is."""
    if found.load <= HIGH:
        return None
    percent = f"{found.load:.0%} of the time of bus {found.bus.name!r} is asked for"
    if found.load > FULL:
        return f"{percent}: points will be read later than `poll` says; longer periods or fewer points help"
    return f"{percent}: that leaves little room for writes, retries and devices that do not answer"
