"""Which registers are read together: the reads of one table of one unit that cost the least bus time per second.

A point is an interval with a period. A read covers an interval at a period, costs (base + byte * data bytes) / period,
and serves every point inside it whose period is not shorter. Wanted is the cheapest set of reads that serves all.

Two facts make it tractable. Of two reads of one period, none need lie inside the other, and a point that both could
serve belongs to the later one. So with the points in order of their start, only the last read opened at each period can
still grow. A state of the search is therefore one open read a period; a point joins one of them, or opens a new one.

A state is dropped when another can imitate it at no more than its cost, whatever points may follow (`_no_worse`).
What is left is small (some ten states for maps of real devices), and the result is the optimum. Should more than
`STATES` be left, the cheapest go on, and the result says that it may not be the optimum.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .wire import Wire, data_bytes

STATES = 150


@dataclass(frozen=True)
class Span:
    """What a point needs: `count` registers or bits from `start` on, every `ms` milliseconds or more often."""

    start: int
    count: int
    ms: int

    @property
    def end(self) -> int:
        """The first one behind it."""
        return self.start + self.count


@dataclass(frozen=True)
class Read:
    """One read, and which of the spans (by index) it serves."""

    start: int
    count: int
    ms: int
    members: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """The reads; whether they are known to be the cheapest."""

    reads: list[Read]
    exact: bool


Open = tuple[int, int]  # the start and the end of a read that can still grow
_Steps: TypeAlias = "tuple[_Steps | None, int, bool]"  # (those before, index of the period, is it a new read)


_Bound: TypeAlias = tuple[int, list[tuple[int, int, int, int]]]  # paid; (anew, start, end, bytes) by period


@dataclass(frozen=True, slots=True)
class _State:
    paid: int  # for closed reads, and the base of the open ones
    opened: tuple[Open | None, ...]  # by period
    steps: _Steps | None  # one for each point so far


def plan(spans: Sequence[Span], wire: Wire, fc: int, most: int, holes: bool) -> Plan:
    """The cheapest reads for `spans`, each of at most `most` registers or bits.

    Without `holes` a read covers nothing but what some span names."""
    reads: list[Read] = []
    exact = True
    for members in _parts(spans, wire, fc, most, holes):
        search = _Search(spans, members, wire, fc, most)
        reads += search.run()
        exact = exact and search.exact
    return Plan(sorted(reads, key=lambda r: (r.ms, r.start)), exact)


def _parts(spans: Sequence[Span], wire: Wire, fc: int, most: int, holes: bool) -> Iterator[list[int]]:
    """The spans in order of their start, parted where reading the gap can never pay."""
    part: list[int] = []
    end = 0
    for index in sorted(range(len(spans)), key=lambda i: (spans[i].start, spans[i].end, spans[i].ms)):
        gap = spans[index].start - end
        saved = wire.byte * (2 * gap if fc > 2 else max(0, gap - 14) // 8)
        if part and gap > 0 and (not holes or gap >= most or saved >= wire.base):
            yield part
            part = []
        part.append(index)
        end = max(end, spans[index].end) if len(part) > 1 else spans[index].end
    if part:
        yield part


class _Search:
    def __init__(self, spans: Sequence[Span], members: list[int], wire: Wire, fc: int, most: int) -> None:
        self.spans = spans
        self.members = members
        self.periods = sorted({spans[i].ms for i in members})
        whole = math.lcm(*self.periods)
        # Costs are per `whole` milliseconds, so that they are whole numbers.
        self.base = [wire.base * (whole // ms) for ms in self.periods]
        self.byte = [wire.byte * (whole // ms) for ms in self.periods]
        self.fc = fc
        self.most = most
        self.cap = STATES
        self.exact = True

    def run(self) -> list[Read]:
        states = [_State(0, (None,) * len(self.periods), None)]
        for index in self.members:
            states = self._pruned([after for state in states for after in self._after(state, index)], index)
        return self._reads(min(states, key=self._cost))

    def _bytes(self, period: int, read: Open | None) -> int:
        return self.byte[period] * data_bytes(self.fc, read[1] - read[0]) if read else 0

    def _cost(self, state: _State) -> int:
        return state.paid + sum(self._bytes(k, read) for k, read in enumerate(state.opened))

    def _after(self, state: _State, index: int) -> Iterator[_State]:
        """The states that follow when one more point is served."""
        span = self.spans[index]
        allowed = range(self.periods.index(span.ms), -1, -1)  # its own period first, then the shorter ones
        for k in allowed:
            read = state.opened[k]
            if read and span.end <= read[1]:
                # Costs nothing, so nothing else can be better. The slowest such read is asked the least for it.
                yield _State(state.paid, state.opened, (state.steps, k, False))
                return
        for k in allowed:
            read = state.opened[k]
            if read and span.end - read[0] <= self.most:
                yield _State(state.paid, self._with(state, k, (read[0], span.end)), (state.steps, k, False))
            paid = state.paid + self.base[k] + self._bytes(k, read)
            yield _State(paid, self._with(state, k, (span.start, span.end)), (state.steps, k, True))

    def _with(self, state: _State, k: int, read: Open) -> tuple[Open | None, ...]:
        return (*state.opened[:k], read, *state.opened[k + 1 :])

    def _pruned(self, states: list[_State], index: int) -> list[_State]:
        now = self.spans[index].start
        kept: list[_State] = []
        for state in sorted(states, key=self._cost):
            bound = self._bound(state, now)
            if not any(self._no_worse(other, bound) for other in kept):
                if len(kept) == self.cap:
                    self.exact = False
                    break
                kept.append(state)
        return kept

    def _bound(self, b: _State, now: int) -> _Bound:
        """What tells whether another state is no worse than `b`; no point that is to come starts before `now`."""
        rows = []
        for k, read in enumerate(b.opened):
            if read is None:
                rows.append((0, 0, -1, 0))
            else:
                size = self._bytes(k, read)
                # Whoever opens a new read where b serves its next point with this one pays so much more.
                rows.append((max(-size, self.base[k] - self._shorter(k, now - read[0])), *read, size))
        return b.paid, rows

    def _no_worse(self, a: _State, bound: _Bound) -> bool:
        """Whether `a` can imitate whatever may come after the other state, without paying more than it.

        What is open is paid for (by byte) when it is closed."""
        left = bound[0] - a.paid
        for k, read in enumerate(a.opened):
            anew, start, end, size = bound[1][k]
            if read is None:
                left -= anew
                continue
            mine = self._bytes(k, read)
            excess = mine + anew
            if end >= 0 and read[0] >= start:
                # Go on with this read where the other goes on with its own.
                follow = -self._shorter(k, read[0] - start)
                if read[1] >= end:
                    follow = max(follow, mine - size)
                excess = min(excess, follow)
            left -= excess
        return left >= 0

    def _shorter(self, k: int, by: int) -> int:
        """What a read that starts `by` later and ends at the same place saves, at least."""
        return self.byte[k] * (2 * by if self.fc > 2 else by // 8)

    def _reads(self, state: _State) -> list[Read]:
        steps: list[tuple[int, bool]] = []
        step = state.steps
        while step is not None:
            before, k, new = step
            steps.append((k, new))
            step = before
        groups: list[list[int]] = []
        last: dict[int, list[int]] = {}
        for index, (k, new) in zip(self.members, reversed(steps), strict=True):
            if new:
                last[k] = []
                groups.append(last[k])
            last[k].append(index)
        return [self._read(group) for group in groups]

    def _read(self, group: list[int]) -> Read:
        spans = [self.spans[i] for i in group]
        start = min(span.start for span in spans)
        return Read(start, max(span.end for span in spans) - start, min(span.ms for span in spans), tuple(group))
