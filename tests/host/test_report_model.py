"""Reporting against a slow model of it: all readings of a point at hand, exact fractions, no ticks that wrap.

And with the floats of the chip, which have 24 bits."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import pytest
from coupler.points.load import reporting
from coupler.points.report import BOTH
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

PERIOD = 1 << 30  # of the ticks
NEAR = Fraction(1, 10**9)  # what doubles cannot be expected to decide

Value = int | float | Fraction
Reading = tuple[int, Value | str]  # ms after the start, the value or its bad quality
Sample = tuple[int, Any, str | None]


@dataclass(frozen=True)
class Rules:
    aggregate: str
    period: int
    min: int
    max: int
    deadband: int  # absolute, or
    percent: int

    @property
    def compiled(self) -> dict[str, Any]:
        band = {"db": self.deadband} if self.deadband else {"pct": self.percent} if self.percent else {}
        return {"agg": self.aggregate, "min": self.min, "max": self.max, **band}


def diff(end: int, start: int) -> int:
    return (end - start + PERIOD // 2) % PERIOD - PERIOD // 2


def unit(rules: Rules, readings: Sequence[Reading], begin: int) -> list[Sample]:
    report = reporting(rules.compiled, rules.period, True, "r", begin)
    samples: list[Sample] = []
    for ms, reading in readings:
        value, quality = (None, reading) if isinstance(reading, str) else (reading, None)
        due = report.feed(value, quality, (begin + ms) % PERIOD, diff)
        if due == BOTH:
            samples.append((ms, report.rest, None))
        if due:
            samples.append((ms, report.sent, quality))
    return samples


def mean(readings: Sequence[Reading], begin: int, end: int) -> Fraction | None:
    """The mean of what held from `begin` to `end`, None if nothing did for any time."""
    area = Fraction(0)
    time = 0
    for (ms, reading), (after, _) in zip(readings, [*readings[1:], (end, "")], strict=True):
        held = min(after, end) - max(ms, begin)
        if held > 0 and not isinstance(reading, str):
            area += Fraction(reading) * held
            time += held
    return area / time if time else None


def aggregate(kind: str, readings: Sequence[Reading], last: int, i: int) -> Fraction | None:
    """Of what came after the sample at reading `last` up to reading i; None if that is nothing."""
    values = [Fraction(value) for _, value in readings[last + 1 : i + 1] if not isinstance(value, str)]
    if kind == "mean":
        return mean(readings[: i + 1], readings[last][0], readings[i][0])
    if not values:
        return None
    if kind == "count":
        return Fraction(len(values))
    return Fraction(sum(values)) if kind == "sum" else min(values) if kind == "min" else max(values)


def model(rules: Rules, readings: Sequence[Reading]) -> list[Sample]:
    half = rules.period // 2
    kind = rules.aggregate
    samples: list[Sample] = []
    last: int | None = None  # index of the reading at which the last sample was taken
    for i, (ms, reading) in enumerate(readings):
        quality = reading if isinstance(reading, str) else None
        value = None if isinstance(reading, str) else Fraction(1) if kind == "count" else Fraction(reading)
        before = readings[i - 1][1] if i else None
        if last is None or quality != (before if isinstance(before, str) else None):
            if last is not None and kind != "last":
                rest = aggregate(kind, readings, last, i - 1 if quality is None or kind != "mean" else i)
                if rest is not None:
                    samples.append((ms, rest, None))
            samples.append((ms, value, quality))
            last = i
            continue
        age = ms - readings[last][0]
        if kind == "last":
            over = age >= rules.min - half
        elif rules.min <= rules.period:
            over = True
        else:
            over = (ms + half) // rules.min > ((readings[i - 1][0] if i else 0) + half) // rules.min
        forced = age >= rules.max - half
        if quality is None and kind != "last":
            value = aggregate(kind, readings, last, i)
            if value is None:
                assert kind == "mean"
                value = Fraction(reading)
        if kind == "last" and not over:
            continue
        if forced or (over and quality is None and news(rules, samples[-1][1], value)):
            samples.append((ms, value, quality))
            last = i
    return samples


def news(rules: Rules, sent: Fraction, value: Fraction | None) -> bool:
    assert value is not None
    moved = abs(value - sent)
    band = max(Fraction(rules.deadband), abs(sent) * rules.percent / 100)
    assume(rules.aggregate != "mean" or abs(moved - band) >= NEAR)
    if rules.aggregate in ("sum", "count") and not rules.deadband and not rules.percent:
        return True
    return moved > 0 and moved >= band


@st.composite
def cases(draw: st.DrawFn) -> tuple[Rules, list[Reading]]:
    period = draw(st.sampled_from([1, 200, 1000, 60000]))
    least = draw(st.integers(0, 6 * period))
    most = draw(st.integers(max(1, least), 20 * period + least))
    band = draw(st.sampled_from([(0, 0), (3, 0), (0, 25)]))
    kind = draw(st.sampled_from(["last", "mean", "mean", "min", "max", "sum", "count"]))
    values = st.integers(-40, 40) | st.integers(-64, 64).map(lambda n: n / 8)
    readings: list[Reading] = []
    ms = draw(st.integers(0, 3 * period))
    for reading in draw(st.lists(values | st.sampled_from(["timeout", "crc"]) | values, max_size=30)):
        readings.append((ms, reading))
        ms += draw(st.integers(0, 2 * period) | st.just(period) | st.just(7 * period))
    return Rules(kind, period, least, most, *band), readings


@settings(max_examples=1500, deadline=None)
@given(cases(), st.integers(0, PERIOD - 1) | st.integers(PERIOD - 100000, PERIOD - 1))
@example((Rules("mean", 1000, 3000, 60000, 0, 0), [(0, 7), (1000, 1), (3000, 4)]), PERIOD - 1500)
def test_the_samples_are_those_of_the_model(case: tuple[Rules, list[Reading]], begin: int) -> None:
    rules, readings = case
    expected = model(rules, readings)
    samples = unit(rules, readings, begin)
    assert [(ms, quality) for ms, _, quality in samples] == [(ms, quality) for ms, _, quality in expected]
    for (_, got, _), (_, value, _) in zip(samples, expected, strict=True):
        if value is None or rules.aggregate != "mean":
            assert got == value
        else:
            assert float(got) == pytest.approx(float(value), rel=1e-12, abs=1e-12)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_sums_and_counts_lose_no_reading(case: tuple[Rules, list[Reading]]) -> None:
    rules, readings = case
    values = [value for _, value in readings if not isinstance(value, str)]
    # A change of quality at the end brings out what is still gathered.
    readings = [*readings, (readings[-1][0] if readings else 0, "stale")]
    for kind, total in (("sum", sum(Fraction(value) for value in values)), ("count", len(values))):
        counted = Rules(kind, rules.period, rules.min, rules.max, rules.deadband, rules.percent)
        assert sum(Fraction(v) for _, v, quality in unit(counted, readings, 0) if quality is None) == total


def rounded(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def binary(name: str) -> Callable[[Any, Any], Any]:
    def operate(self: Single, other: Any) -> Any:
        return Single(getattr(float, name)(float(self), rounded(float(other))))

    return operate


class Single(float):
    """A float as the chip has it: each result is rounded to 24 bits."""

    def __new__(cls, value: float) -> Single:
        return super().__new__(cls, rounded(value))

    __add__ = binary("__add__")
    __radd__ = binary("__radd__")
    __sub__ = binary("__sub__")
    __rsub__ = binary("__rsub__")
    __mul__ = binary("__mul__")
    __rmul__ = binary("__rmul__")
    __truediv__ = binary("__truediv__")
    __rtruediv__ = binary("__rtruediv__")

    def __abs__(self) -> Single:
        return Single(abs(float(self)))


def test_the_floats_of_this_test_are_those_of_the_chip() -> None:
    a, b = Single(230.1), Single(0.1)
    assert float(a) == 230.10000610351562 and float(a + b) == 230.20001220703125 and float(a - b) == 230.0
    for result in (a + 1, 1 + a, a * 3, 3 * a, a / 3, 1 / a, a - 1, 1 - a, abs(-1 * a), a + 0.1, 0.1 + a):
        assert type(result) is Single and rounded(result) == result
    assert Single(16777216.0) + 1 == 16777216 and Single(3e38) + Single(3e38) == float("inf")


def steady(_: int) -> float:
    return 230.1


def late(i: int) -> float:
    return 0.0 if i < 2 else 230.1


def drift(i: int) -> float:
    return 20 + i / 1000


def noise(i: int) -> float:
    return 230.1 + random.Random(i).uniform(-3, 3)


def pressure(i: int) -> float:
    return 101325 + i % 7


@pytest.mark.parametrize("values", [steady, late, drift, noise, pressure])
def test_an_hour_of_seconds_costs_the_floats_of_the_chip_no_digit(values: Callable[[int], float]) -> None:
    n = 3600
    rng = random.Random(1)
    readings: list[Reading] = [(1000 * i + rng.randrange(300), Single(values(i))) for i in range(n)]
    readings.append((1000 * n, Single(values(n))))
    exact = [(ms, Fraction(float(value))) for ms, value in readings if not isinstance(value, str)]
    expected = {"mean": mean(exact, exact[0][0], 1000 * n), "sum": sum(value for _, value in exact[1:])}
    for kind, right in expected.items():
        samples = unit(Rules(kind, 1000, 1000 * n, 1000 * n, 0, 0), readings, PERIOD - 100000)
        assert [ms for ms, _, _ in samples] == [readings[0][0], 1000 * n]
        got = samples[1][1]
        assert type(got) is Single
        assert right is not None and abs(Fraction(float(got)) - right) <= abs(Fraction(right)) / (1 << 23), (
            kind,
            float(got),
        )


def test_a_mean_of_what_does_not_change_is_that_value_to_the_last_bit() -> None:
    readings: list[Reading] = [(977 * i, Single(230.1)) for i in range(5000)]
    samples = unit(Rules("mean", 1000, 60000, 60000, 0, 0), readings, 0)
    assert len(samples) > 80 and {float(value) for _, value, _ in samples} == {rounded(230.1)}
    assert len(unit(Rules("mean", 1000, 60000, 86400000, 0, 0), readings, 0)) == 1


def test_too_large_for_the_floats_of_the_chip_is_no_value() -> None:
    large = Single(3e38)
    readings: list[Reading] = [(1000 * i, v) for i, v in enumerate([Single(1), large, large, Single(2), Single(3)])]
    samples = unit(Rules("sum", 1000, 2000, 60000, 0, 0), readings, 0)
    assert samples == [(0, 1, None), (2000, None, None), (3000, 2, None), (4000, 3, None)]
