"""Readings as real sites give them, from a seed: what points show at each poll, put through the firmware's own Report.

A poll's answer comes some 5 ms after it is due, a few ms earlier or later (half of a normal distribution with a
deviation of 1.5 ms), and one in a hundred is up to 60 ms late. What is not said otherwise is reported when it changed,
and once a minute in any case.
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator

from coupler.points.report import Report

# ms since the start, number of the point, value
Sample = tuple[int, int, float]
# The whole number that a register shows at so many seconds.
Reading = Callable[[float], int]

_LOADS = ((1800, 0.4), (150, 0.9), (2000, 0.2), (60, 2.0), (900, 0.5), (3200, 0.08))  # W, switched on so often an hour
_STATES: dict[int, tuple[float, tuple[tuple[int, float], ...]]] = {
    # A machine: idle, starts, runs, stops, waits for material, fails: mean seconds, and what follows how often.
    0: (900, ((1, 0.9), (7, 0.1))),
    1: (30, ((2, 1.0),)),
    2: (1500, ((3, 0.85), (5, 0.15))),
    3: (60, ((0, 0.7), (2, 0.3))),
    5: (120, ((2, 0.9), (7, 0.1))),
    7: (300, ((0, 1.0),)),
}


def _late(rng: random.Random) -> int:
    return round(abs(rng.gauss(0, 1.5)) + (rng.uniform(5, 60) if rng.random() < 0.01 else 0))


def _report(period: int, band: float = 0, part: float = 0) -> Report:
    # Half a period early is on time: as coupler.points.load has it.
    return Report(0, 60000 - period // 2, band, part)


def _one(n: int, period: int, scale: int, reading: Reading, rng: random.Random) -> Iterator[Sample]:
    report = _report(period)
    due = count = 0
    while count < n:
        now = due + 5 + _late(rng)
        value = reading(due / 1000)
        if report.feed(value / scale if scale > 1 else value, None, now, int.__sub__):
            yield now, 0, report.sent
            count += 1
        due += period


def meter(n: int) -> Iterator[Sample]:
    """Active power of a house in 0.1 W, read each second: a base load with its noise, and six machines."""
    rng = random.Random(1)
    left = [0] * len(_LOADS)
    drift = 0.0

    def reading(t: float) -> int:
        nonlocal drift
        drift += rng.gauss(0, 1) - 0.02 * drift
        power = 420 + 40 * math.sin(t / 3600) + 2 * drift + rng.gauss(0, 0.4)
        for i, (watts, often) in enumerate(_LOADS):
            if left[i]:
                left[i] -= 1
                power += watts * (1 + rng.gauss(0, 0.0015))
            elif rng.random() < often / 3600:
                left[i] = int(rng.expovariate(1 / 600)) + 20
        return round(10 * power)

    return _one(n, 1000, 10, reading, rng)


def temperature(n: int) -> Iterator[Sample]:
    """A room in 0.1 K, read every 5 s: the day, a controller that swings in 36 minutes, noise of 0.03 K."""
    rng = random.Random(2)
    return _one(n, 5000, 10, _warmth(21, ((0.9, 86400), (0.5, 2160)), rng), rng)


def status(n: int) -> Iterator[Sample]:
    """The state of a machine, read each second."""
    rng = random.Random(3)
    return _one(n, 1000, 1, _machine(rng), rng)


def _warmth(mean: float, waves: tuple[tuple[float, float], ...], rng: random.Random) -> Reading:
    begin = rng.random()

    def reading(t: float) -> int:
        swing = sum(size * math.sin(math.tau * (t / period + begin)) for size, period in waves)
        return round(10 * (mean + swing + rng.gauss(0, 0.03)))

    return reading


def _machine(rng: random.Random) -> Reading:
    state, until = 0, 0.0

    def reading(t: float) -> int:
        nonlocal state, until
        if t >= until:
            following = _STATES[state][1]
            state = rng.choices([each for each, _ in following], [share for _, share in following])[0]
            until = t + max(2, _STATES[state][0] * rng.lognormvariate(-0.32, 0.8))
        return state

    return reading


def _near(mean: float, step: float, noise: float, scale: int, rng: random.Random) -> Reading:
    drift = 0.0

    def reading(t: float) -> int:
        nonlocal drift
        drift += rng.gauss(0, step) - 0.03 * drift
        return round(scale * (mean + drift + rng.gauss(0, noise)))

    return reading


def _counter(rate: float, rng: random.Random) -> Reading:
    count = rng.randrange(10**7)

    def reading(t: float) -> int:
        nonlocal count
        count += int(rng.expovariate(1 / rate))
        return count

    return reading


POINTS = 50


def site(n: int) -> Iterator[Sample]:
    """50 points in six blocks on one bus: three meters of eight values every 5 s, with the dead bands one gives them
    (2 % of power and current, 0.5 V, 10 Wh); two air handlers of eight every 10 s; a heat pump of ten every 5 s."""
    rng = random.Random(4)
    blocks: list[tuple[int, list[tuple[Reading, int, float, float]]]] = []
    for m in range(1, 4):
        rows: list[tuple[Reading, int, float, float]] = [(_near(2000 * m, 15, 3, 10, rng), 10, 0, 0.02)]
        rows += [(_near(230, 0.15, 0.08, 10, rng), 10, 0.5, 0) for _ in range(3)]
        rows += [(_near(4 * m, 0.03, 0.008, 1000, rng), 1000, 0, 0.02) for _ in range(3)]
        blocks.append((5000, [*rows, (_counter(3 * m, rng), 1, 10, 0)]))
    for _ in range(2):
        rows = [(_warmth(20 + 5 * i, ((1.5, 3600 * (2 + i)),), rng), 10, 0, 0) for i in range(5)]
        rows += [(_near(40, 0.3, 0.2, 1, rng), 1, 0, 0), (_machine(rng), 1, 0, 0), (_machine(rng), 1, 0, 0)]
        blocks.append((10000, rows))
    rows = [(_warmth(30 + 5 * i, ((3, 1500 * (2 + i)),), rng), 10, 0, 0) for i in range(7)]
    rows += [(_machine(rng), 1, 0, 0), (_machine(rng), 1, 0, 0), (_counter(2, rng), 1, 0, 0)]
    blocks.append((5000, rows))
    return _bus(n, blocks, rng)


def _bus(
    n: int, blocks: list[tuple[int, list[tuple[Reading, int, float, float]]]], rng: random.Random
) -> Iterator[Sample]:
    polls = [(20 * i, i) for i in range(len(blocks))]
    first = [sum(len(rows) for _, rows in blocks[:i]) for i in range(len(blocks))]
    reports = [[_report(period, band, part) for _, _, band, part in rows] for period, rows in blocks]
    busy = count = 0
    while count < n:
        due, block = heapq.heappop(polls)
        period, rows = blocks[block]
        now = max(due, busy) + 40 + _late(rng)
        busy = now + 3
        for i, (reading, scale, _, _) in enumerate(rows):
            value = reading(now / 1000)
            report = reports[block][i]
            if report.feed(value / scale if scale > 1 else value, None, now, int.__sub__):
                yield now, first[block] + i, report.sent
                count += 1
        heapq.heappush(polls, (due + period, block))
