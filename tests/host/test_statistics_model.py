"""Statistics against a model with exact fractions: any samples, clocks, restarts, configurations and power cuts."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from coupler.store import entries
from coupler.store.cells import DAY, HOUR
from history_world import UNIX, Unit, points
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nor import PowerCut

many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 53), 1 << 53),  # beyond, a fraction of the same point in the same hour costs the last digits
    st.integers(-50, 50),
    st.sampled_from([0.1, 0.2, 21.5, 231.4, -0.5, 1e-9, 3e38, -1e300, "on", "off"]),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(-1e6, 1e6),
)
PAUSES = st.one_of(st.integers(0, 5000), st.integers(0, HOUR), st.sampled_from([HOUR, 3 * HOUR, DAY + 1, 600000]))
STEPS = st.one_of(
    st.integers(-10000, 10000), st.integers(-3 * DAY, 3 * DAY), st.sampled_from([HOUR, -HOUR, DAY, -DAY, 400 * DAY])
)
ACTIONS = st.one_of(
    st.tuples(st.just("sample"), PAUSES, st.integers(0, 2), VALUES),
    st.tuples(st.just("sample"), PAUSES, st.integers(0, 2), VALUES),
    st.tuples(st.just("sample"), PAUSES, st.integers(0, 2), VALUES),
    st.tuples(st.just("clock"), STEPS),
    st.tuples(st.just("boot"), st.booleans()),
    st.tuples(st.just("configure"), st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True)),
    st.tuples(st.just("step"), st.integers(0, 40)),
    st.tuples(st.just("ask")),
)


def act(unit: Any, action: tuple[Any, ...]) -> None:
    if action[0] == "sample":
        _, ms, index, value = action
        unit.sample(ms, index % len(unit.points), value, "timeout" if value is None else None)
    elif action[0] == "clock":
        unit.set_clock(max(UNIX, (unit.hal.unix or UNIX) + action[1]))
    elif action[0] == "boot":
        now = unit.hal.unix
        unit.boot()
        if action[1] and now:
            unit.set_clock(now + 60000)
    elif action[0] == "configure":
        now = unit.hal.unix
        unit.configure(points(*action[1]))
        if now:
            unit.set_clock(now + 60000)
    elif action[0] == "step":
        for _ in range(action[1]):
            if not unit.history.step(3):
                break
    else:
        for point in unit.points:
            unit.hours(point.name)
            unit.days(point.name)


def check(unit: Any) -> None:
    """As the model says, to a millionth of the range or the precision of a double."""
    samples = unit.durable()
    for name in {sample[0] for sample in samples}:
        assert [row[1] for row in unit.raw(name)] == [sample[1] for sample in samples if sample[0] == name]
    numbers = [abs(sample[1]) for sample in samples if isinstance(sample[1], (int, float))]
    unit.check(Fraction, Close(max(numbers, default=0)))


class Close:
    """Times the range of the values: how far a mean may be off, at this greatest value."""

    def __init__(self, most: float) -> None:
        self._slack = float(most) * 1e-13

    def __mul__(self, span: float) -> float:
        return 1e-6 * float(span) + self._slack


@many
@given(st.lists(ACTIONS, max_size=80), st.sampled_from([None, UNIX, UNIX + 7 * HOUR + 59 * 60000]))
@example([("sample", 0, 0, 3e38), ("sample", 1000, 0, -3e38), ("sample", DAY, 0, 0.1)], UNIX)
def test_any_course_of_events(actions: list[tuple[Any, ...]], clock: int | None) -> None:
    unit = Unit(points=3)
    if clock:
        unit.set_clock(clock)
    for action in actions:
        act(unit, action)
    unit.settle()
    check(unit)
    now = unit.hal.unix
    unit.boot()
    unit.set_clock((now or UNIX) + 1000)
    unit.settle()
    check(unit)


@many
@given(
    st.lists(ACTIONS, min_size=5, max_size=40), st.lists(ACTIONS, max_size=20), st.integers(0, 60), st.integers(0, 255)
)
def test_power_may_fail_at_any_time(
    actions: list[tuple[Any, ...]], more: list[tuple[Any, ...]], operations: int, within: int
) -> None:
    unit = Unit(points=3)
    unit.set_clock(UNIX + 7 * HOUR)
    unit.flash.cut_after(operations, within, 0x5A)
    try:
        for action in actions:
            act(unit, action)
            unit.settle(2)
    except PowerCut:
        pass
    unit.flash.power()
    unit.boot()
    unit.set_clock(UNIX + 30 * DAY)
    unit.settle()
    check(unit)
    for action in more:
        act(unit, action)
    unit.settle()
    check(unit)


NUMBERS = st.one_of(
    st.lists(st.integers(-(1 << 64), 1 << 64), min_size=4, max_size=4),
    st.lists(
        st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([231.4, 0.25, 7])),
        min_size=4,
        max_size=4,
    ),
)


@many
@given(st.integers(0, 90000), st.integers(0, DAY), NUMBERS, st.floats(0, 1), st.booleans(), st.integers(1, 60000))
def test_any_entry_comes_back(count: int, duration: int, values: list[Any], part: float, held: bool, step: int) -> None:
    low, first, last, high = sorted(values)
    entry = [count, duration, first, last, low, high, part if low != high and duration else 0, held]
    out = bytearray(entries.MOST + 8)
    end = entries.encode(out, 5, step, entry, HOUR)
    assert end - 5 <= entries.MOST and end == 6 + out[5] and entries.step_at(out, 5) == step
    found = entries.decode(out, 5, HOUR)
    assert found[:6] == entry[:6] and bool(found[7]) == held and abs(found[6] - entry[6]) < 1e-7
