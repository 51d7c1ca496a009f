"""Modbus framing and decoding against hostile lines: no wrong value is ever taken, and the next answer is found."""

from __future__ import annotations

import itertools
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from bus_fakes import Hal, Port, frame, run
from coupler.bus import rtu
from coupler.bus.client import Client
from coupler.bus.errors import BusError
from coupler.points import codec

units = st.integers(1, 247)
functions = st.sampled_from([3, 4])
counts = st.integers(1, 125)
noise = st.binary(max_size=40)


@st.composite
def transactions(draw: Any) -> tuple[int, int, int, bytes, bytes]:
    """(unit, function, count, data, answer)"""
    unit, fc, count = draw(units), draw(functions), draw(counts)
    data = draw(st.binary(min_size=2 * count, max_size=2 * count))
    return unit, fc, count, data, frame(unit, fc, 2 * count, data)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def feed(receiver: rtu.Receiver, stream: list[bytes], quiet_between: bool = False) -> int:
    state = rtu.PENDING
    for piece in stream:
        while piece:
            space = receiver.space()
            n = min(len(space), len(piece))
            space[:n] = piece[:n]
            piece = piece[n:]
            state = receiver.took(n)
            if state != rtu.PENDING:
                return state
        if quiet_between:
            state = receiver.quiet()
            if state in (rtu.ANSWER, rtu.EXCEPTION):
                return state
    return receiver.quiet()


def expecting(unit: int, fc: int, count: int) -> rtu.Receiver:
    receiver = rtu.Receiver()
    receiver.expect(unit, fc, 2 * count)
    return receiver


@given(transactions(), st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_an_answer_in_any_pieces_and_with_any_gaps_is_found(
    t: tuple[int, int, int, bytes, bytes], cuts: list[int], quiet: bool
) -> None:
    unit, fc, count, data, answer = t
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(answer, cuts), quiet) == rtu.ANSWER
    assert bytes(receiver.data) == data


@given(transactions(), noise, noise, st.lists(st.integers(0, 300), max_size=4))
def test_an_answer_between_noise_is_found(
    t: tuple[int, int, int, bytes, bytes], before: bytes, after: bytes, cuts: list[int]
) -> None:
    unit, fc, count, data, answer = t
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(before + answer + after, cuts)) == rtu.ANSWER
    assert bytes(receiver.data) == data


@given(transactions(), st.binary(max_size=6), st.lists(st.integers(0, 300), max_size=4))
def test_noise_that_begins_like_an_answer_hides_none(
    t: tuple[int, int, int, bytes, bytes], more: bytes, cuts: list[int]
) -> None:
    unit, fc, count, data, answer = t
    start = bytes([unit, fc, 2 * count]) + more
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(start + answer, cuts)) == rtu.ANSWER
    assert bytes(receiver.data) == data


@given(transactions(), st.data())
def test_no_error_of_up_to_three_bits_is_overlooked(t: tuple[int, int, int, bytes, bytes], more: Any) -> None:
    # The CRC's Hamming distance is 4 at these lengths, so this holds without exception.
    unit, fc, count, _, answer = t
    broken = bytearray(answer)
    bits = more.draw(st.sets(st.integers(0, 8 * len(answer) - 1), min_size=1, max_size=3))
    for bit in bits:
        broken[bit >> 3] ^= 1 << (bit & 7)
    receiver = expecting(unit, fc, count)
    assert feed(receiver, [bytes(broken)]) in (rtu.PENDING, rtu.BROKEN)
    assert receiver.data is None


@given(transactions(), st.integers(0, 300), st.integers(1, 65535))
def test_no_burst_of_up_to_sixteen_bits_is_overlooked(
    t: tuple[int, int, int, bytes, bytes], at: int, burst: int
) -> None:
    unit, fc, count, _, answer = t
    broken = bytearray(answer)
    at %= len(answer) - 1
    # Bits go over the line least significant first, so the second byte holds the later ones.
    broken[at] ^= burst & 255
    broken[at + 1] ^= burst >> 8
    receiver = expecting(unit, fc, count)
    assert feed(receiver, [bytes(broken)]) in (rtu.PENDING, rtu.BROKEN)
    assert receiver.data is None


@given(transactions(), st.integers(0, 300), st.integers(1, 20))
def test_an_answer_that_lost_bytes_is_refused(t: tuple[int, int, int, bytes, bytes], at: int, lost: int) -> None:
    unit, fc, count, _, answer = t
    at %= len(answer)
    short = answer[:at] + answer[at + lost :]
    assume(len(short) < len(answer))
    receiver = expecting(unit, fc, count)
    state = feed(receiver, [short])
    # Fewer bytes than the answer has: nothing but an exception frame could be in there, and data may spell one.
    assert state != rtu.ANSWER


@given(transactions(), transactions(), st.lists(st.integers(0, 600), max_size=4))
def test_the_answer_to_another_request_is_never_taken(
    wanted: tuple[int, int, int, bytes, bytes], other: tuple[int, int, int, bytes, bytes], cuts: list[int]
) -> None:
    unit, fc, count, data, answer = wanted
    assume((unit, fc, count) != other[:3])
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(other[4] + answer, cuts)) == rtu.ANSWER
    assert bytes(receiver.data) == data


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), units, functions, counts)
def test_noise_alone_is_survived(stream: list[bytes], unit: int, fc: int, count: int) -> None:
    receiver = expecting(unit, fc, count)
    feed(receiver, stream, True)
    receiver.expect(unit, fc, 2)
    answer = frame(unit, fc, 2, b"\x12\x34")
    assert feed(receiver, [answer]) == rtu.ANSWER
    assert bytes(receiver.data) == b"\x12\x34"


# - The client on a line that delays, breaks, repeats and drops answers

_FATES = st.sampled_from(["good", "late", "lost", "broken", "exception", "foreign", "stray", "cut"])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(_FATES, st.integers(1, 2), st.integers(0, 9), st.integers(0, 2000)), min_size=1, max_size=25))
def test_whatever_the_line_does_a_value_is_that_of_the_register_asked_for(
    fates: list[tuple[str, int, int, int]],
) -> None:
    hal = Hal()
    plan = list(fates)
    turn = 0

    def answer(request: bytes) -> list[tuple[float, bytes]]:
        fate, _, _, spice = plan[turn]
        unit, fc, address = request[0], request[1], request[3]
        # The value names its register and the turn, so that an answer of an earlier turn shows.
        good = frame(unit, fc, 2, bytes([address, turn]))
        ms = 10 + spice % 400
        if fate == "good":
            return [(ms, good)]
        if fate == "late":
            return [(505 + spice % 990, good)]
        if fate == "lost":
            return []
        if fate == "broken":
            broken = bytearray(good)
            broken[spice % len(good)] ^= 1 + spice % 255
            return [(ms, bytes(broken))]
        if fate == "exception":
            return [(ms, frame(unit, fc | 0x80, 1 + spice % 11))]
        if fate == "foreign":
            return [(ms, frame(unit % 2 + 1, fc, 2, b"\xee\xee"))]
        if fate == "stray":
            return [(ms, bytes([unit, fc, 2][: spice % 4])), (ms + 1, good)]
        return [(ms, good[: spice % len(good)])]

    client = Client(Port(hal, answer), hal)
    for turn, (fate, unit, address, _) in enumerate(fates):
        try:
            data = bytes(run(client.read(unit, 3, address, 1, 500)))
        except BusError as error:
            assert fate not in ("good", "stray") or client.stats["foreign"] or error.kind == "crc"
        else:
            assert data == bytes([address, turn]), (turn, fate)


# - Values

_KINDS = {"u16": "H", "i16": "h", "u32": "I", "i32": "i", "u64": "Q", "i64": "q", "float32": "f", "float64": "d"}


@pytest.mark.parametrize("kind", sorted(_KINDS))
@given(st.data())
def test_each_order_is_the_rearrangement_its_name_says(kind: str, data: Any) -> None:
    form = ">" + _KINDS[kind]
    wire = data.draw(st.binary(min_size=struct.calcsize(form), max_size=struct.calcsize(form)))
    value = struct.unpack(form, wire)[0]
    words = [wire[i : i + 2] for i in range(0, len(wire), 2)]
    orders = {
        "ABCD": wire,
        "CDAB": b"".join(reversed(words)),
        "BADC": b"".join(word[::-1] for word in words),
        "DCBA": wire[::-1],
    }
    for order, sent in orders.items():
        got = codec.decode(kind, order, b"\x5a\x5a" + sent + b"\x5a", 1)
        if isinstance(value, float) and value - value != 0:
            assert got is None
        else:
            assert got == value


@given(st.binary(min_size=2, max_size=250), st.sampled_from(codec.ORDERS), st.integers(1, 250))
def test_any_bytes_are_some_text(data: bytes, order: str, length: int) -> None:
    assume((length + 1) // 2 * 2 <= len(data))
    text = codec.decode("string", order, data, 0, length)
    assert len(text) <= length
    assert all(c.isprintable() or c in "\xa0\xad" for c in text)
