"""The planner of reads: the cheapest there is by the model of the wire, and none that a device could not answer."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kobler.config import planner
from kobler.config.models import Bus
from kobler.config.planner import Plan, Read, Span, plan
from kobler.config.wire import DEVICE_NS, Wire, wire_of

WIRES = [
    Wire(16_500_000, 573_000),  # a serial bus at 19200 baud
    Wire(9_900_000, 95_500),  # at 115200 baud: holes are cheap
    Wire(1_000_000, 900_000),  # requests are cheap: hardly anything is read together
    Wire(5, 2),  # costs that tie
]


def cost(reads: Sequence[Read], wire: Wire, fc: int) -> Fraction:
    return sum((Fraction(wire.read_ns(fc, read.count), read.ms) for read in reads), Fraction(0))


def partitions(items: list[int]) -> Iterator[list[list[int]]]:
    """All ways to part the items into groups."""
    if not items:
        yield []
        return
    for rest in partitions(items[1:]):
        yield [[items[0]], *rest]
        for i, group in enumerate(rest):
            yield [*rest[:i], [items[0], *group], *rest[i + 1 :]]


def cheapest(spans: list[Span], wire: Wire, fc: int, most: int, holes: bool) -> Fraction:
    """By trying everything: each group of points is a read at its shortest period."""
    named = {n for span in spans for n in range(span.start, span.end)}
    known: dict[tuple[int, ...], Fraction | None] = {}

    def price(group: list[int]) -> Fraction | None:
        key = tuple(sorted(group))
        if key not in known:
            start = min(spans[i].start for i in group)
            end = max(spans[i].end for i in group)
            fits = end - start <= most and (holes or named.issuperset(range(start, end)))
            ms = min(spans[i].ms for i in group)
            known[key] = Fraction(wire.read_ns(fc, end - start), ms) if fits else None
        return known[key]

    best: Fraction | None = None
    for groups in partitions(list(range(len(spans)))):
        prices = [price(group) for group in groups]
        if None not in prices:
            total = sum((p for p in prices if p is not None), Fraction(0))
            best = total if best is None or total < best else best
    assert best is not None
    return best


def check(found: Plan, spans: Sequence[Span], most: int, holes: bool) -> None:
    """Every point is read whole, once, and in time; no read is too long or touches what it must not."""
    named = {n for span in spans for n in range(span.start, span.end)}
    served = [i for read in found.reads for i in read.members]
    assert sorted(served) == list(range(len(spans)))
    for read in found.reads:
        assert 1 <= read.count <= most
        assert read.ms == min(spans[i].ms for i in read.members)
        for i in read.members:
            assert read.start <= spans[i].start and spans[i].end <= read.start + read.count
        if not holes:
            assert named.issuperset(range(read.start, read.start + read.count))


def maps(periods: list[int], points: int = 7) -> st.SearchStrategy[list[Span]]:
    """Small maps with overlaps, duplicates, neighbours and holes."""
    span = st.builds(Span, st.integers(0, 40), st.sampled_from([1, 1, 2, 4, 9]), st.sampled_from(periods))
    return st.lists(span, min_size=1, max_size=points)


@pytest.mark.parametrize("wire", WIRES, ids=str)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_points_of_one_period_are_planned_at_the_least_cost_there_is(wire: Wire, data: st.DataObject) -> None:
    spans = data.draw(maps([1000]))
    fc = data.draw(st.sampled_from([1, 3]))
    most = data.draw(st.integers(9, 60))
    holes = data.draw(st.booleans())
    found = plan(spans, wire, fc, most, holes)
    check(found, spans, most, holes)
    assert found.exact
    assert cost(found.reads, wire, fc) == cheapest(spans, wire, fc, most, holes)


@pytest.mark.parametrize("wire", WIRES, ids=str)
@settings(max_examples=120, deadline=None)
@given(st.data())
def test_points_of_several_periods_are_planned_at_the_least_cost_there_is(wire: Wire, data: st.DataObject) -> None:
    spans = data.draw(maps([1000, 1500, 2000, 5000, 60000]))
    fc = data.draw(st.sampled_from([1, 3]))
    most = data.draw(st.integers(9, 60))
    holes = data.draw(st.booleans())
    found = plan(spans, wire, fc, most, holes)
    check(found, spans, most, holes)
    assert found.exact
    assert cost(found.reads, wire, fc) == cheapest(spans, wire, fc, most, holes)


@settings(max_examples=60, deadline=None)
@given(maps([1000, 5000, 60000], 40), st.sampled_from([1, 3]), st.integers(9, 2000), st.booleans())
def test_plans_of_larger_maps_are_sound(spans: list[Span], fc: int, most: int, holes: bool) -> None:
    check(plan(spans, WIRES[0], fc, most, holes), spans, most, holes)


def crowded(seed: int) -> list[Span]:
    """100 points of five periods in 200 registers, far denser than the maps of devices."""
    r = random.Random(seed)
    periods = [1000, 2000, 5000, 10000, 60000]
    return [Span(r.randrange(200), r.choice([1, 1, 2, 2, 4]), r.choice(periods)) for _ in range(100)]


@pytest.mark.parametrize("seed", range(3))
def test_a_search_that_had_to_be_cut_short_says_so_and_costs_at_most_one_per_cent_more(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = crowded(seed)
    short = plan(spans, WIRES[0], 3, 125, True)
    check(short, spans, 125, True)
    monkeypatch.setattr(planner, "STATES", 1000)
    whole = plan(spans, WIRES[0], 3, 125, True)
    assert whole.exact
    best = cost(whole.reads, WIRES[0], 3)
    assert best <= cost(short.reads, WIRES[0], 3) <= best * Fraction(101, 100)
    monkeypatch.setattr(planner, "STATES", 3)
    poor = plan(spans, WIRES[0], 3, 125, True)
    assert not poor.exact
    check(poor, spans, 125, True)
    assert cost(poor.reads, WIRES[0], 3) <= best * Fraction(3, 2)


def test_a_slow_point_rides_along_only_where_that_is_cheaper() -> None:
    wire = WIRES[0]  # a read of its own costs as much as some 14 registers
    fast = Span(0, 2, 1000)
    assert [r.count for r in plan([fast, Span(2, 2, 2000)], wire, 3, 125, True).reads] == [4]
    assert [r.count for r in plan([fast, Span(2, 2, 60000)], wire, 3, 125, True).reads] == [2, 2]
    inside = plan([fast, Span(4, 2, 1000), Span(2, 2, 60000)], wire, 3, 125, True)
    assert [(r.count, r.members) for r in inside.reads] == [(6, (0, 2, 1))]


def test_holes_are_read_along_up_to_what_a_request_costs() -> None:
    wire = WIRES[0]
    for gap, reads in ((14, 1), (15, 2)):
        found = plan([Span(0, 1, 1000), Span(1 + gap, 1, 1000)], wire, 3, 125, True)
        assert len(found.reads) == reads, gap
    assert len(plan([Span(0, 1, 1000), Span(2, 1, 1000)], wire, 3, 125, False).reads) == 2
    # A register that any point names is no hole, whatever its period.
    named = plan([Span(0, 1, 1000), Span(1, 1, 60000), Span(2, 1, 1000)], wire, 3, 125, False)
    assert [(r.start, r.count) for r in named.reads] == [(0, 3)]


def test_what_a_read_costs_on_the_wire() -> None:
    def read_us(count: int, **serial: object) -> float:
        wire = wire_of(Bus.model_validate({"name": "b", "kind": "rtu", **serial}))
        return (wire.read_ns(4, count) - DEVICE_NS) / 1000

    # 8 characters there, 5 + 2n back, 3.5 of silence before each; a character of 8E1 has 11 bits.
    assert read_us(2, baudrate=9600) == pytest.approx((8 + 9 + 7) * 11e6 / 9600, rel=1e-5)
    assert read_us(10, baudrate=19200, parity="none") == pytest.approx((8 + 25 + 7) * 10e6 / 19200, rel=1e-5)
    # Above 19200 the silence is fixed.
    assert read_us(2, baudrate=115200, parity="none", stop_bits=2) == pytest.approx(17 * 11e6 / 115200 + 3500, rel=1e-5)
    tcp = wire_of(Bus.model_validate({"name": "b", "kind": "tcp", "host": "plc", "in_flight": 4}))
    assert tcp.lanes == 4 and tcp.read_ns(3, 10) > tcp.base
