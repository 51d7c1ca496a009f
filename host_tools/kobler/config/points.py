"""What no single field of a point can show: fields that do not go together."""

from __future__ import annotations

from collections.abc import Iterator

from ..toml_source import Key, Problem
from . import raw
from .models import Point

_LONGEST_WRITE = 246  # characters in the 123 registers of one request


def check_point(point: Point, at: Key) -> Iterator[Problem]:
    """Mistakes between the fields of one point, which is at that key."""
    bits = point.table in {"coil", "discrete"}
    kind = point.type.kind
    if bits and kind != "bool":
        yield Problem((*at, "type"), f"{kind!r} cannot be read from the table {point.table!r}; allowed: 'bool'")
    elif point.address + point.type.registers > 65536:
        what = f"{point.address} and the {point.type.registers} registers of the type end behind register 65535"
        yield Problem((*at, "address"), what)
    if point.scale == 0:
        yield Problem((*at, "scale"), "0 would make every value the same")
    numeric = point.type.numeric and not point.enum
    for key, neutral in (("scale", 1), ("offset", 0)):
        if not numeric and getattr(point, key) != neutral:
            yield Problem((*at, key), f"does not go with {_reason(point)}")
    yield from _missing(point, at)
    yield from _enum(point, at)
    if point.report is not None:
        yield from _report(point, at)
    if point.write is not None:
        yield from _write(point, at)


def _reason(point: Point) -> str:
    return "enum: its values are texts" if point.enum else f"the type {point.type.kind!r}"


def _missing(point: Point, at: Key) -> Iterator[Problem]:
    for item in point.missing:
        try:
            raw.patterns(point.type, item)
        except ValueError as e:
            yield Problem((*at, "missing"), str(e))


def _enum(point: Point, at: Key) -> Iterator[Problem]:
    if not point.enum:
        return
    found = raw.span(point.type)
    if found is None:
        what = f"does not go with the type {point.type.kind!r}; allowed: u16 i16 u32 i32 u64 i64 bits(FROM,COUNT)"
        yield Problem((*at, "enum"), what)
        return
    if point.unit is not None:
        yield Problem((*at, "unit"), "does not go with enum: its values are texts")
    for value in point.enum:
        if not found[0] <= value <= found[1]:
            what = f"{value} is not a raw value of the type {point.type.kind!r}; allowed: {found[0]} to {found[1]}"
            yield Problem((*at, "enum"), what)
    texts = list(point.enum.values())
    for text in sorted({text for text in texts if texts.count(text) > 1}) if point.write else ():
        yield Problem((*at, "enum"), f"{text!r} is there twice: which raw value should be written for it?")


def _report(point: Point, at: Key) -> Iterator[Problem]:
    report = point.report
    assert report is not None
    if report.max is not None and report.min > report.max:
        yield Problem((*at, "report", "min"), f"{report.min} ms is more than max, {report.max} ms")
    if point.type.numeric and not point.enum:
        return
    if report.deadband is not None:
        yield Problem((*at, "report", "deadband"), f"does not go with {_reason(point)}")
    if report.aggregate != "last":
        what = "enum allows only 'last'" if point.enum else f"the type {point.type.kind!r} allows only 'last'"
        yield Problem((*at, "report", "aggregate"), what)


def _write(point: Point, at: Key) -> Iterator[Problem]:
    write = point.write
    assert write is not None
    if point.table not in {"coil", "holding"}:
        yield Problem((*at, "write"), f"the table {point.table!r} is read only; allowed: 'coil', 'holding'")
    if point.type.length > _LONGEST_WRITE:
        what = f"{point.type.length} characters are more than the {_LONGEST_WRITE} that one request can write"
        yield Problem((*at, "write"), what)
    if write.min is not None and write.max is not None and write.min > write.max:
        yield Problem((*at, "write", "min"), f"{write.min} is more than max, {write.max}")
    possible = raw.limits(point)
    for key, value in (("min", write.min), ("max", write.max)):
        if value is None:
            continue
        if not point.type.numeric or point.enum:
            yield Problem((*at, "write", key), f"does not go with {_reason(point)}")
        elif possible and point.scale and not _within(value, *possible):
            what = f"{value} cannot be written; possible: {possible[0]:g} to {possible[1]:g}"
            yield Problem((*at, "write", key), what)


def _within(value: float, low: float, high: float) -> bool:
    hair = (high - low) * 1e-9  # scale and offset round
    return low - hair <= value <= high + hair
