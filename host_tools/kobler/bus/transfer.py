"""`kobler bus read` and `kobler bus write`: registers and coils of a device, and points of a coupler."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import KoblerError, UsageError
from . import pdu
from .errors import BusFailure, DeviceRefused, Garbled, NoAnswer
from .remote import Coupler, MethodRefused
from .value import Coding, Value, truth, word
from .way import Way

_FRESH_S = 10.0  # how long to wait until the coupler has read a written point again
_BAD_REQUEST = 400
_BITS = ("coil", "discrete")


@dataclass(frozen=True)
class Place:
    """So many bits or registers of a table of a unit."""

    unit: int
    table: str
    address: int
    count: int

    def __str__(self) -> str:
        return f"unit {self.unit}, {pdu.place(self.table, self.address, self.count)}"

    @property
    def request(self) -> bytes:
        return pdu.read(self.table, self.address, self.count)


@dataclass(frozen=True)
class Shown:
    """What is there: bits or registers, and the values they stand for, if a type was given."""

    place: Place
    raw: list[int]
    coding: Coding | None

    @property
    def values(self) -> list[Value]:
        coding = self.coding
        if coding is None:
            return []
        size = coding.type.registers
        return [coding.decode(self.raw[i : i + size]) for i in range(0, len(self.raw), size)]

    @property
    def hex(self) -> str:
        return " ".join(f"{one:04x}" for one in self.raw)

    def fields(self) -> dict[str, Any]:
        """For programs."""
        found: dict[str, Any] = {**vars(self.place), "raw": self.raw}
        if self.place.table not in _BITS:
            found["hex"] = self.hex
        if self.coding:
            found |= {"type": self.coding.type.kind, "order": self.coding.order, "values": _plain(self.values)}
        return found

    def __str__(self) -> str:
        # In a line.
        if self.coding:
            return ", ".join(map(text, self.values))
        if self.place.table in _BITS:
            return ", ".join("on" if bit else "off" for bit in self.raw)
        return ", ".join(f"{one} (hex {one:04x})" for one in self.raw)


def text(value: object) -> str:
    """A value for people."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:.9g}" if isinstance(value, float) else str(value)


def _plain(values: Sequence[Value]) -> list[Value]:
    # JSON has no NaN.
    return [str(one) if isinstance(one, float) and not math.isfinite(one) else one for one in values]


def fetch(way: Way, place: Place, coding: Coding | None, timeout: float) -> Shown:
    """What the device has at a place. BusFailure, KoblerError."""
    answer = way.request(place.unit, place.request, timeout)
    raw = pdu.bits_of(answer, place.count) if place.table in _BITS else pdu.words_of(answer)
    return Shown(place, raw, coding)


def show(found: Shown, as_json: bool) -> None:
    """All of it, one row a register or bit, then the values."""
    place, coding = found.place, found.coding
    if as_json:
        print(json.dumps({"event": "read", **found.fields()}))
        return
    print(place)
    for at, one in enumerate(found.raw, place.address):
        if place.table in _BITS:
            print(f"{at:6}  {'on' if one else 'off'}")
        else:
            print(f"{at:6}  {one:04x}  {one:6}" + (f"  ({one - 0x10000})" if one & 0x8000 else ""))
    if coding:
        for at, value in enumerate(found.values):
            print(f"{place.address + at * coding.type.registers:6}  {coding.type.kind} {coding.order}  {text(value)}")
    elif place.table not in _BITS:
        print(f'What does it mean? kobler bus decode "{found.hex}"')


@dataclass(frozen=True)
class Change:
    """What is to be written where, and the request that does it."""

    place: Place
    raw: list[int]
    mask: int
    request: bytes
    coding: Coding | None

    @classmethod
    def of(
        cls, unit: int, table: str, address: int, texts: Sequence[str], coding: Coding | None, multiple: bool
    ) -> Change:
        """From the command line. UsageError."""
        if table not in ("coil", "holding"):
            raise UsageError(f"{table}: read only; coil or holding can be written")
        mask = 0xFFFF
        if table == "coil":
            raw = [int(truth(one)) for one in texts]
            request = pdu.write_coils(address, [bool(one) for one in raw], multiple)
        elif coding is not None and coding.type.kind == "bits":
            if len(texts) != 1:
                raise UsageError("bits: one value")
            raw, mask = coding.encode(texts[0]), coding.mask
            request = pdu.write_bits(address, mask, raw[0])
        else:
            raw = [one for item in texts for one in (coding.encode(item) if coding else [word(item)])]
            request = pdu.write_registers(address, raw, multiple)
        return cls(Place(unit, table, address, len(raw)), raw, mask, request, coding)

    @property
    def wanted(self) -> Shown:
        return Shown(self.place, self.raw, self.coding)

    def is_in(self, found: Shown) -> bool:
        """Whether that is there."""
        return [one & self.mask for one in found.raw] == self.raw


def store(way: Way, change: Change, timeout: float, confirm: Callable[[str], bool], as_json: bool) -> None:
    """Write, read back, and show what the device holds. KoblerError."""
    before = _peek(way, change, timeout)
    if not confirm(f"{change.place}: {before or 'it cannot be read'} -> {change.wanted}. Write it?"):
        raise KoblerError("nothing was written")
    doubt: BusFailure | None = None
    try:
        way.request(change.place.unit, change.request, timeout)
    except (NoAnswer, Garbled) as error:
        doubt = error
    try:
        after: Shown | None = fetch(way, change.place, change.coding, timeout)
    except DeviceRefused:
        after = None  # it can only be written
    except BusFailure as error:
        if doubt is None:
            raise KoblerError(f"written, but it could not be read back: {error}") from None
        after = None
    if doubt is not None and (after is None or not change.is_in(after)):
        raise KoblerError(f"{doubt}; " + (f"it holds {after}" if after else "not known whether it was written"))
    if doubt is not None:
        print(f"kobler: {doubt}; it holds the value all the same", file=sys.stderr)
    if as_json:
        row = {
            "event": "written",
            **change.wanted.fields(),
            "before": before and before.raw,
            "after": after and after.raw,
        }
        print(json.dumps(row))
    elif after is None:
        print(f"{change.place}: {change.wanted} written; it cannot be read back")
    else:
        print(f"{change.place}: {f'was {before}, ' if before else ''}holds {after}")
    if after is not None and not change.is_in(after):
        raise KoblerError(f"{change.place}: the device took {change.wanted}, but holds {after}")


def _peek(way: Way, change: Change, timeout: float) -> Shown | None:
    # What was there; it also shows that the device is there, and whether the adapter hears itself.
    try:
        return fetch(way, change.place, change.coding, timeout)
    except DeviceRefused:
        return None


def fetch_point(coupler: Coupler, name: str, as_json: bool) -> None:
    """Show what the coupler has of a point. KoblerError."""
    _show_point(coupler.call("read", point=name), "point", as_json)


def _show_point(answer: dict[str, Any], event: str, as_json: bool, **more: Any) -> None:
    if as_json:
        print(json.dumps({"event": event, **answer, **more}))
        return
    unit = f" {answer['unit']}" if answer.get("unit") else ""
    value = "no value" if answer.get("value") is None else text(answer["value"]) + unit
    print(f"{answer.get('point')}: {value}, {answer.get('quality')}, read {answer.get('age')} s ago")


def store_point(coupler: Coupler, name: str, item: str, confirm: Callable[[str], bool], as_json: bool) -> None:
    """Write a point by the rules of the configuration, and show what the device holds then. KoblerError."""
    before = coupler.call("read", point=name)
    if not confirm(f"{name}: {text(before.get('value'))} -> {item}. Write it?"):
        raise KoblerError("nothing was written")
    verified = bool(_write_point(coupler, name, candidates(item)).get("verified"))
    written = asked = time.monotonic()
    answer = coupler.call("read", point=name)
    # A value as old as the write may have been read before it; its age was true when we asked, or later.
    while not verified and asked - written <= int(answer.get("age", 0)) + 1:
        if asked - written > _FRESH_S:
            print(f"kobler: {name} is written, but the coupler has not read it again yet", file=sys.stderr)
            break
        time.sleep(0.5)
        asked = time.monotonic()
        answer = coupler.call("read", point=name)
    _show_point(answer, "written", as_json, verified=verified)


def candidates(item: str) -> list[Value]:
    """What a text may stand for, the likeliest first: the unit knows the point's type, and refuses all others."""
    found: list[Value] = []
    if item in ("true", "false"):
        found.append(item == "true")
    for kind in (int, float):
        try:
            number = kind(item)
        except ValueError:
            continue
        if math.isfinite(number):
            found.append(number)
            break
    found.append(item)
    if item in ("on", "off"):
        found.append(item == "on")
    return found


def _write_point(coupler: Coupler, name: str, values: list[Value]) -> dict[str, Any]:
    first: MethodRefused | None = None
    for value in values:
        try:
            return coupler.call("write", point=name, value=value)
        except MethodRefused as refused:
            if refused.status != _BAD_REQUEST:  # the value was not what kept it from being written
                raise
            first = first or refused
    assert first is not None
    raise first
