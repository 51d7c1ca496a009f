"""Whether a unit's flash holds the history that a configuration asks for.

What is promised must fit at the rate at which samples certainly come: one each `report.max`. That they come as fast as
they can, one each reading or each `report.min`, is seldom and gets a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ..boards import SECTOR, Board
from ..toml_source import Problem
from .models import Config, Point, Report
from .schedule import schedule

# How the firmware divides the sectors of the journal partition (store/layout.py).
SETTINGS = 2
VAULT = 2
SECTORS_IN_FILES = 64  # where there is no such partition
SPARE = 2  # of a ring: one is being filled, one is about to be erased

# Bytes in flash, with what a record takes around them.
STATISTICS = 16  # of a point, in an hour or a day
STATISTICS_HEAD = 16  # of an hour or a day
NUMBER = 3  # a sample of a number or a status, on average: differences are kept
NAME = 20  # of a point, besides the names of bus, unit and point
TEXT_HEAD = 12  # a sample of a text, without the text

REPORT_MAX = 60_000  # ms; of a point that names none (points/load.py)
_HOUR = 3_600_000
_DAY = 24 * _HOUR
_CHOSEN = "points with history"
_ELSE = "or take a board with larger flash"


@dataclass(frozen=True)
class Room:
    """The bytes that a unit has for certain: for samples, for statistics of hours, for those of days, for names."""

    owner: str
    samples: int
    hours: int
    days: int
    names: int


def room(sectors: int, owner: str) -> Room:
    """What `sectors` of flash have room for; `owner` names them in messages."""
    names, hours, days = max(8, sectors // 32), sectors * 9 // 64, sectors * 19 // 64
    samples = sectors - SETTINGS - VAULT - names - hours - days
    return Room(owner, *(max(0, ring - SPARE) * SECTOR for ring in (samples, hours, days, names)))


def room_of(board: Board) -> Room:
    """What a board has room for."""
    return room(board.part("journal").size // SECTOR, f"the board {board.name}")


def shortages(config: Config, has: Room) -> Iterator[Problem]:
    """What cannot be kept as long as the configuration says."""
    points = sum(point.history for bus in config.bus for unit in bus.unit for point in unit.point)
    spans = config.history
    yield from _statistics("hours", "h", -(-spans.hours // _HOUR), points, has.hours, has.owner)
    yield from _statistics("days", "d", -(-spans.days // _DAY), points, has.days, has.owner)
    yield from _names(config, has)
    kept = _kept(config)
    rate = sum(each.bytes / each.slowest for each in kept)
    if rate * spans.instant <= has.samples:
        return
    who, why = ("points", " (while the cloud is enabled, all are kept)") if config.cloud.enabled else (_CHOSEN, "")
    what = f"{len(kept)} {who}{why} take {_up(rate * spans.instant)} in {_span(spans.instant)} even if no value changes"
    ways = [f"{_quoted(int(has.samples / rate / 60_000), 'm')}a longer report.max", f"fewer {who}"]
    yield Problem(("history", "instant"), _short(what, has.samples, has.owner, ways))


def doubts(config: Config, has: Room) -> Iterator[Problem]:
    """What is kept as long as the configuration says only while values do not change all the time."""
    rate = sum(each.bytes / each.fastest for each in _kept(config))
    if rate * config.history.instant > has.samples:
        worst = f"if every reading were a sample, {has.owner} would keep {_span(int(has.samples / rate))}"
        what = f"{worst} of the {_span(config.history.instant)}; a deadband or a longer report.min makes samples fewer"
        yield Problem(("history", "instant"), what)


@dataclass(frozen=True)
class _Kept:
    """The samples of one point: bytes of each, ms from one to the next at most and at least."""

    bytes: int
    slowest: int
    fastest: int


def _kept(config: Config) -> list[_Kept]:
    """The points whose samples go to flash: all that the cloud is to get, else those with history."""
    return [
        _Kept(_bytes(point), *intervals(point.report or Report(), block.ms))
        for bus in schedule(config)
        for unit in bus.units
        for block in unit.blocks
        for point in block.points
        if point.history or config.cloud.enabled
    ]


def _bytes(point: Point) -> int:
    if point.enum:
        return TEXT_HEAD + max(len(text.encode()) for text in point.enum.values())
    return TEXT_HEAD + point.type.length if point.type.kind == "string" else NUMBER


def intervals(report: Report, period: int) -> tuple[int, int]:
    """(most, least) ms between the samples of a point that is read every `period` ms and keeps its quality."""
    most = max(REPORT_MAX, report.min) if report.max is None else report.max

    def readings(ms: int) -> int:
        # The unit takes a reading that comes half a period early for the one that was meant.
        return max(1, -(-(ms - period // 2) // period))

    return readings(most) * period, readings(report.min) * period


def _names(config: Config, has: Room) -> Iterator[Problem]:
    # Of this configuration and of the one before, whose samples may still wait.
    rows = [
        len(f"{bus.name}/{unit.name}/{point.name}{point.unit or ''}".encode()) + NAME
        for bus in config.bus
        for unit in bus.unit
        for point in unit.point
        if config.cloud.enabled or point.history
    ]
    if sum(rows) * 2 > has.names:
        what = f"the names of {len(rows)} points take {_up(sum(rows))}, {has.owner} has {has.names // 2048} KB for them"
        yield Problem(("bus",), f"{what}: use shorter names, fewer points, {_ELSE}")


def _statistics(key: str, unit: str, steps: int, points: int, has: int, owner: str) -> Iterator[Problem]:
    need = (points * STATISTICS + STATISTICS_HEAD) * steps
    if not points or need <= has:
        return
    what = f"{points} {_CHOSEN} take {_up(need)} over {steps} {key}"
    fewer = (has // steps - STATISTICS_HEAD) // STATISTICS
    ways = [f"{_quoted(has // (need // steps), unit)}fewer {_CHOSEN}"]
    if fewer > 0:
        ways[0] += f" (at most {fewer})"
    yield Problem(("history", key), _short(what, has, owner, ways))


def _short(what: str, has: int, owner: str, ways: list[str]) -> str:
    return f"{what}, {owner} has {has // 1024} KB for them: ask for {', '.join(ways)}, {_ELSE}"


def _quoted(most: int, unit: str) -> str:
    return f'at most "{most}{unit}", ' if most else ""


def _up(size: float) -> str:
    return f"{int(-(-size // 1024))} KB"


def _span(ms: int) -> str:
    """Such as `1 h 35 min`: the two largest units, rounded down."""
    parts: list[str] = []
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (60_000, "min"), (1000, "s")):
        count, ms = divmod(ms, size)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part) or "less than a second"
