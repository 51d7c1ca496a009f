"""The live table: every point with its newest value, how good and how old it is, and how often it comes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .feed import Event, Presence, Reported, Sample

_RATE_WINDOW = 30.0
_OLD_S = 90.0
# Title, and cells at least, so that numbers do not make the table jump. Where room is short, the last ones go first.
_COLUMNS = (("Point", 0), ("Value", 10), ("Unit", 0), ("Quality", 0), ("Age", 6), ("Rate", 8))
_FEWEST = 3
_NAME_CELLS = 24  # rather than a shorter name, a column less
_TAIL_CELLS = 3


@dataclass
class _Row:
    sample: Sample
    arrivals: deque[float] = field(default_factory=lambda: deque(maxlen=64))


@dataclass
class Live:
    """What has been seen so far; take() events, render() at any time. `now` arguments are time.monotonic().

    Samples from before `since`, Unix time, were only remembered by the unit: they show nothing of the bus of now."""

    title: str
    since: float = 0.0
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
            self.good += event.good and (event.time is None or event.time >= self.since)
            self.qualities[event.quality] = self.qualities.get(event.quality, 0) + 1
            row = self._rows.setdefault(event.point, _Row(event))
            # After an outage what is old comes beside what is new.
            if event.seq is None or row.sample.seq is None or event.seq >= row.sample.seq:
                row.sample = event
            row.arrivals.append(now)
        elif isinstance(event, Presence):
            self.online, self._presence = event.online, event
        else:
            self._reported, self.bus = event, event.bus()

    @property
    def heap_free(self) -> int | None:
        """Bytes free on the unit, as it said last."""
        found = self._reported.properties.get("heap_free") if self._reported else None
        return found if isinstance(found, int) else None

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
        """What rich draws, in the columns that the terminal has room for."""
        return _Picture(self, now)

    def table(self, now: float, width: int) -> Table:
        """At most `width` cells wide: first columns are left away, then the names lose their heads, never a value."""
        for count in range(len(_COLUMNS), _FEWEST - 1, -1):
            columns = _COLUMNS[:count]
            rows = [_cells(self._rows[name], now, count) for name in sorted(self._rows)]
            wide = [
                max([least, cell_len(title), *(row[at].cell_len for row in rows)])
                for at, (title, least) in enumerate(columns)
            ]
            room = width - 3 * count - 1 - sum(wide[1:])  # a column has a space on either side, and a border
            if room >= min(wide[0], _NAME_CELLS):
                break
        table = Table(title=escape(self.title), title_justify="left", expand=False)
        names = min(wide[0], max(room, _TAIL_CELLS))
        table.add_column(columns[0][0], width=names, no_wrap=True)
        for title, least in columns[1:]:
            table.add_column(title, justify="right" if least else "left", min_width=least or None, overflow="fold")
        for row in rows:
            table.add_row(_tail(row[0], names), *row[1:])
        return table

    def status(self, now: float) -> Text:
        """The line below the table."""
        if self._presence is None:
            text = f"waiting for the coupler to come online ({now - self.began:.0f} s)"
            if now - self.began > 30:
                text += ": `kobler doctor` in another terminal says what is in the way"
            return Text(text, style="yellow")
        state = Text("online" if self.online else "offline", style="green" if self.online else "red")
        requests, errors = self.bus
        rest = f"  {self.samples} samples   bus: {requests} requests, {errors} errors   Ctrl-C ends"
        return state.append(rest, style="default")


@dataclass(frozen=True)
class _Picture:
    live: Live
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield self.live.table(self.now, options.max_width)
        yield self.live.status(self.now)


def _cells(row: _Row, now: float, count: int) -> list[Text]:
    """The first `count` cells of a row; without its quality, a value that is not good is marked."""
    sample, age = row.sample, now - row.arrivals[-1]
    texts = (sample.point, _value(sample), sample.unit, sample.quality, _age(age), _rate(row.arrivals, now))
    # What units say may hold anything, escape sequences for this terminal included; as Text it is no markup of rich's.
    cells = [Text("".join(char if char.isprintable() else "?" for char in text)) for text in texts]
    cells[3].stylize("green" if sample.good else "red")
    cells[4].stylize("yellow" if age > _OLD_S else "")
    if count == _FEWEST and not sample.good:
        cells[1] = Text(f"{cells[1]} !".lstrip(), "red")
    return cells[:count]


def _tail(name: Text, width: int) -> Text:
    """The end of a name, which tells points apart, in so many cells."""
    if name.cell_len <= width:
        return name
    text = name.plain
    while cell_len(text) >= width:
        text = text[1:]
    return Text("…" + text)


def _value(sample: Sample) -> str:
    value = sample.value
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, str):
        return value[:40]
    return "" if value is None else str(value)


def _age(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _rate(arrivals: deque[float], now: float) -> str:
    recent = [moment for moment in arrivals if now - moment <= _RATE_WINDOW]
    if len(recent) < 2:
        return ""
    per_second = (len(recent) - 1) / (recent[-1] - recent[0] or 1)
    return f"{per_second:.1f}/s" if per_second >= 0.1 else f"{per_second * 60:.1f}/min"
