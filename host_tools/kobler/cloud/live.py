"""The live table: every point with its newest value, how good and how old it is, and how often it comes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from .feed import Event, Presence, Reported, Sample

_RATE_WINDOW = 30.0
_OLD_S = 90.0


@dataclass
class _Row:
    sample: Sample
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=64))


@dataclass
class Live:
    """What has been seen so far; take() events, render() at any time. `now` arguments are time.monotonic()."""

    title: str
    began: float = field(default_factory=time.monotonic)
    samples: int = 0
    good: int = 0
    online: bool = False
    bus: tuple[int, int] = (0, 0)
    qualities: dict[str, int] = field(default_factory=dict)
    _rows: dict[str, _Row] = field(default_factory=dict)
    _reported: Reported | None = None
    _presence: Presence | None = None

    def take(self, event: Event, now: float) -> None:
        """Take in one event."""
        if isinstance(event, Sample):
            self.samples += 1
            self.good += event.good
            self.qualities[event.quality] = self.qualities.get(event.quality, 0) + 1
            row = self._rows.setdefault(event.point, _Row(event))
            row.sample = event
            row.arrivals.append(now)
        elif isinstance(event, Presence):
            self.online, self._presence = event.online, event
        else:
            self._reported, self.bus = event, event.bus()

    def failure(self) -> str | None:
        """Why this was no success: None when at least one value that was read from the bus has arrived."""
        if self.good:
            return None
        if self._presence is None:
            return "the coupler did not come online: run `kobler doctor` while ./flash.sh runs"
        if not self.samples:
            return "the coupler is online, but no value arrived: does its configuration name any point?"
        bad = ", ".join(f"{count} x {quality}" for quality, count in sorted(self.qualities.items()))
        return f"no value could be read from the bus ({bad}): check wiring, baud rate, parity and unit ids"

    def render(self, now: float) -> RenderableType:
        """The table as rich draws it."""
        table = Table(title=self.title, title_justify="left", expand=False)
        table.add_column("Point", no_wrap=True)
        table.add_column("Value", justify="right", min_width=10)
        table.add_column("Unit")
        table.add_column("Quality")
        table.add_column("Age", justify="right", min_width=6)
        table.add_column("Rate", justify="right", min_width=8)
        for name in sorted(self._rows):
            row = self._rows[name]
            sample, age = row.sample, now - row.arrivals[-1]
            table.add_row(
                name,
                _value(sample),
                sample.unit,
                Text(sample.quality, style="green" if sample.good else "red"),
                Text(_age(age), style="yellow" if age > _OLD_S else ""),
                _rate(row.arrivals, now),
            )
        return Group(table, self._status(now))

    def _status(self, now: float) -> Text:
        if self._presence is None:
            text = f"waiting for the coupler to come online ({now - self.began:.0f} s)"
            if now - self.began > 30:
                text += ": `kobler doctor` in another terminal says what is in the way"
            return Text(text, style="yellow")
        state = Text("online" if self.online else "offline", style="green" if self.online else "red")
        requests, errors = self.bus
        rest = f"  {self.samples} samples   bus: {requests} requests, {errors} errors   Ctrl-C ends"
        return state.append(rest, style="default")


def _value(sample: Sample) -> str:
    value = sample.value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        # A device's text may hold anything, escape sequences for this terminal included.
        return "".join(char if char.isprintable() else "?" for char in value[:40])
    return "" if value is None else str(value)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _rate(arrivals: deque[float], now: float) -> str:
    recent = [moment for moment in arrivals if now - moment <= _RATE_WINDOW]
    if len(recent) < 2:
        return ""
    per_second = (len(recent) - 1) / (recent[-1] - recent[0] or 1)
    return f"{per_second:.1f}/s" if per_second >= 0.1 else f"{per_second * 60:.1f}/min"
