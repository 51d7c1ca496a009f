"""Which devices are on a bus: each unit id is asked, at each speed and format, until something answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from ..errors import KoblerError
from . import pdu
from .errors import BusFailure, DeviceRefused, Garbled, NoAnswer
from .line import Format, Line, Unsupported
from .remote import Coupler
from .way import Way

_PROBE = pdu.read("holding", 0, 1)  # an exception is an answer too
_IDENTIFY_S = 0.5
_OVERHEAR_S = 0.5
_PARTS = 4  # a device may tell its three objects in so many answers
_CHUNK_MS = 4000  # of the bus's time, until the coupler reads its points again


@dataclass(frozen=True)
class Device:
    """A unit that answers, and what it says it is."""

    unit: int
    vendor: str = ""
    product: str = ""
    revision: str = ""

    def __str__(self) -> str:
        return " ".join(text for text in (self.vendor, self.product, self.revision) if text)


class Report(Protocol):
    """Who follows the scan."""

    def begin(self, form: Format | None) -> None:
        """From now on at this speed and format, None: those of the coupler's bus."""

    def step(self, units: int) -> None:
        """So many units more have been asked."""

    def found(self, device: Device) -> None:
        """One answered."""

    def note(self, text: str) -> None:
        """Something strange."""


def scan_line(
    line: Line, forms: Sequence[Format], units: Sequence[int], timeout: float, every: bool, to: Report
) -> None:
    """Ask through an adapter; with `every`, at all formats even if something answered. KoblerError."""
    if line.overhear(_OVERHEAR_S):
        to.note(
            f"{line.port}: somebody talks on this bus already: stop the other master, or the two disturb each other"
        )
    refused: Unsupported | None = None
    tried = False
    for form in forms:
        try:
            if line.settable:
                line.use(form)
        except Unsupported as error:
            refused = error
            to.note(str(error))
            continue
        tried = True
        to.begin(form if line.settable else None)
        known: set[int] = set()
        strange: Garbled | None = None
        for unit in units:
            answers = unit in known or _answers(line, unit, timeout)
            if isinstance(answers, Garbled):
                strange = strange or answers
            elif answers and unit not in known:
                known.add(unit)
                to.found(identified(line, unit, timeout))
            # Slower than the timeout, but there.
            for late in sorted(line.late - known):
                known.add(late)
                to.found(identified(line, late, 4 * timeout))
            line.late.clear()
            to.step(1)
        if strange:
            to.note(str(strange))
        if (known and not every) or not line.settable:
            return
    if refused and not tried:
        raise refused


def _answers(line: Line, unit: int, timeout: float) -> bool | Garbled:
    strange: Garbled | None = None
    for _ in range(2):
        try:
            line.request(unit, _PROBE, timeout)
        except NoAnswer:
            break
        except DeviceRefused:
            return True
        except Garbled as error:
            # Once more: it may have met the late answer of another.
            strange = None if line.late else error
        else:
            return True
    return strange or False


def scan_coupler(
    coupler: Coupler, forms: Sequence[Format | None], units: Sequence[int], timeout: float, every: bool, to: Report
) -> None:
    """Ask through a coupler, which goes on reading its points in between. KoblerError."""
    ms = round(timeout * 1000)
    for form in forms:
        to.begin(form)
        found = False
        line = {} if form is None else {"baud": form.baud, "parity": form.parity, "stop": form.stop}
        for first, last in runs(units):
            while first <= last:
                end = min(last, first + _CHUNK_MS // ms)
                answer = coupler.call("scan", bus=coupler.bus, to=end, timeout=ms, **line, **{"from": first})
                for unit in _numbers(answer.get("found")):
                    found = True
                    # Requests go at the bus's own speed.
                    to.found(identified(coupler, unit, timeout) if form is None else Device(unit))
                following = answer.get("next", end + 1)
                if not isinstance(following, int) or following <= first:
                    raise KoblerError(f"the coupler {coupler.device} does not get on with the scan: is its bus in use?")
                to.step(following - first)
                first = following
        if found and not every:
            return


def _numbers(found: object) -> list[int]:
    return [unit for unit in found if isinstance(unit, int)] if isinstance(found, list) else []


def runs(units: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    first = last = units[0]
    for unit in units[1:]:
        if unit != last + 1:
            yield first, last
            first = unit
        last = unit
    yield first, last


def identified(way: Way, unit: int, timeout: float) -> Device:
    """The unit with its basic identification (function 43/14), as far as it tells."""
    found: dict[int, str] = {}
    first: int | None = 0
    try:
        for _ in range(_PARTS):
            if first is None:
                break
            objects, first = pdu.objects_of(way.request(unit, pdu.identify(first), max(timeout, _IDENTIFY_S)))
            found |= objects
    except BusFailure:
        pass  # many devices have none
    return Device(unit, *(found.get(number, "") for number in range(3)))
