"""Modbus framing and decoding against hostile lines: no wrong value is ever taken, and the next answer is found."""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from bus_fakes import Hal, LiveHal, LivePort, Port, frame, run
from coupler.bus import mbap, request, rtu
from coupler.bus.client import Client
from coupler.bus.errors import BusError
from coupler.bus.tcp import TcpClient
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
    """The state it ends with; foreign frames are passed over, as the client does."""
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
    state = receiver.quiet()
    return rtu.PENDING if state == rtu.FOREIGN else state


def expecting(unit: int, fc: int, count: int) -> rtu.Receiver:
    receiver = rtu.Receiver()
    receiver.expect(bytes([unit, fc, 2 * count]), 2 * count + 5)
    return receiver


def data_of(receiver: rtu.Receiver) -> bytes:
    return bytes(receiver.frame[3:-2])


@given(transactions(), st.lists(st.integers(0, 300), max_size=6), st.booleans())
def test_an_answer_in_any_pieces_and_with_any_gaps_is_found(
    t: tuple[int, int, int, bytes, bytes], cuts: list[int], quiet: bool
) -> None:
    unit, fc, count, data, answer = t
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(answer, cuts), quiet) == rtu.ANSWER
    assert data_of(receiver) == data


@given(transactions(), noise, noise, st.lists(st.integers(0, 300), max_size=4))
def test_an_answer_between_noise_is_found(
    t: tuple[int, int, int, bytes, bytes], before: bytes, after: bytes, cuts: list[int]
) -> None:
    unit, fc, count, data, answer = t
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(before + answer + after, cuts)) == rtu.ANSWER
    assert data_of(receiver) == data


@given(transactions(), st.binary(max_size=6), st.lists(st.integers(0, 300), max_size=4))
def test_noise_that_begins_like_an_answer_hides_none(
    t: tuple[int, int, int, bytes, bytes], more: bytes, cuts: list[int]
) -> None:
    unit, fc, count, data, answer = t
    start = bytes([unit, fc, 2 * count]) + more
    receiver = expecting(unit, fc, count)
    assert feed(receiver, pieces(start + answer, cuts)) == rtu.ANSWER
    assert data_of(receiver) == data


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
    assert not receiver.frame


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
    assert not receiver.frame


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
    assert data_of(receiver) == data


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=12), units, functions, counts)
def test_noise_alone_is_survived(stream: list[bytes], unit: int, fc: int, count: int) -> None:
    receiver = expecting(unit, fc, count)
    feed(receiver, stream, True)
    receiver.expect(bytes([unit, fc, 2]), 7)
    answer = frame(unit, fc, 2, b"\x12\x34")
    assert feed(receiver, [answer]) == rtu.ANSWER
    assert data_of(receiver) == b"\x12\x34"


# - Any function

words = st.integers(0, 65535)


@st.composite
def exchanges(draw: Any) -> tuple[bytes, bytes]:
    """A request that may be sent, and an answer to it."""

    def span(most: int) -> tuple[int, int]:
        count = draw(st.integers(1, most))
        return draw(st.integers(0, 65536 - count)), count

    def some(size: int) -> bytes:
        return bytes(draw(st.binary(min_size=size, max_size=size)))

    fc = draw(st.sampled_from([1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43]))
    if fc <= 4:
        address, count = span(2000 if fc <= 2 else 125)
        size = (count + 7) // 8 if fc <= 2 else 2 * count
        return struct.pack(">BHH", fc, address, count), bytes([fc, size]) + some(size)
    if fc in (5, 6, 22):
        value = draw(st.sampled_from([0, 0xFF00])) if fc == 5 else draw(words)
        pdu = struct.pack(">BHH", fc, draw(words), value) + (some(2) if fc == 22 else b"")
        return pdu, pdu
    if fc in (15, 16):
        address, count = span(1968 if fc == 15 else 123)
        size = (count + 7) // 8 if fc == 15 else 2 * count
        pdu = struct.pack(">BHHB", fc, address, count, size) + some(size)
        return pdu, pdu[:5]
    if fc == 23:
        read, written = span(125), span(121)
        pdu = struct.pack(">BHHHHB", 23, *read, *written, 2 * written[1]) + some(2 * written[1])
        return pdu, bytes([23, 2 * read[1]]) + some(2 * read[1])
    code = draw(st.integers(1, 4))
    first = draw(st.integers(0, 255))
    numbers = [first] if code == 4 else sorted(draw(st.sets(st.integers(0, 255), max_size=8)))
    objects = b"".join(bytes([n, len(text := draw(st.binary(max_size=20)))]) + text for n in numbers)
    more = draw(st.sampled_from([0, 255]))
    return bytes([43, 14, code, first]), bytes([43, 14, code, 0x81, more, draw(units), len(numbers)]) + objects


def allowed(pdu: bytes) -> bool:
    """The limits of the Application Protocol V1.1b3, written once more and in another way."""

    def inside(at: int, most: int) -> bool:
        address, count = struct.unpack_from(">HH", pdu, at)
        return bool(1 <= count <= most and address + count <= 65536)

    if len(pdu) < 4 or pdu[0] not in (1, 2, 3, 4, 5, 6, 15, 16, 22, 23, 43):
        return False
    fc = pdu[0]
    if fc == 43:
        return len(pdu) == 4 and pdu[1] == 14 and pdu[2] in (1, 2, 3, 4)
    if fc <= 6:
        if len(pdu) != 5:
            return False
        return inside(1, 2000 if fc <= 2 else 125) if fc <= 4 else fc == 6 or pdu[3:] in (b"\xff\0", b"\0\0")
    if fc == 22:
        return len(pdu) == 7
    if fc == 23:
        return (
            len(pdu) > 10
            and inside(1, 125)
            and inside(5, 121)
            and pdu[9] == len(pdu) - 10 == 2 * (pdu[7] << 8 | pdu[8])
        )
    if len(pdu) < 7 or pdu[5] != len(pdu) - 6 or not inside(1, 1968 if fc == 15 else 123):
        return False
    count = pdu[3] << 8 | pdu[4]
    return pdu[5] == (-(-count // 8) if fc == 15 else 2 * count)


@settings(max_examples=500)
@given(exchanges(), st.integers(0, 300), st.binary(max_size=3), st.integers(0, 300))
def test_a_request_passes_if_and_only_if_a_server_may_be_asked_it(
    t: tuple[bytes, bytes], at: int, change: bytes, cut: int
) -> None:
    good = t[0]
    assert allowed(good)
    for pdu in (
        good,
        good[: at % len(good)] + change + good[at % len(good) + len(change) :],
        good[:cut],
        good + change,
    ):
        try:
            request.check_request(pdu)
        except ValueError as error:
            assert str(error) and not allowed(pdu), pdu
        else:
            assert allowed(pdu), pdu


@given(st.binary(max_size=260))
def test_any_bytes_are_a_request_or_are_not(pdu: bytes) -> None:
    try:
        request.check_request(pdu)
    except ValueError:
        assert not allowed(pdu)
    else:
        assert allowed(pdu)


@settings(max_examples=500)
@given(exchanges(), exchanges(), st.binary(max_size=260), st.integers(0, 260))
def test_the_length_of_an_answer_is_told_from_any_bytes(
    t: tuple[bytes, bytes], other: tuple[bytes, bytes], junk: bytes, have: int
) -> None:
    asked, right = t
    assert request.answer_size(asked, right, 0, len(right)) == len(right)
    assert request.answer_size(asked, right[:have] + junk, 0, min(have, len(right))) in (0, len(right))
    for data in (junk, other[1], right[: have % len(right)] + junk):
        size = request.answer_size(asked, data, 0, len(data))
        assert -1 <= size <= 253
        if data and size == len(data):
            # It would be taken: as an exception, or for what it begins with.
            assert data[0] == asked[0] | 0x80 or data.startswith(request.answer(asked)[0])


_PIECES = st.sampled_from(["right", "broken", "cut", "noise", "other", "exception", "echo", "head"])


@settings(max_examples=600)
@given(exchanges(), exchanges(), st.lists(st.tuples(_PIECES, st.integers(0, 2000)), max_size=6), units, st.booleans(),
       st.lists(st.integers(0, 1500), max_size=8), st.data())  # fmt: skip
def test_what_is_taken_from_any_line_is_sound_and_answers_the_request(
    t: tuple[bytes, bytes],
    foreign: tuple[bytes, bytes],
    plan: list[tuple[str, int]],
    unit: int,
    echo: bool,
    cuts: list[int],
    more: Any,
) -> None:
    asked, pdu = t
    sent, right = frame(unit, asked), frame(unit, pdu)
    stream = b""
    for what, spice in plan:
        if what == "right":
            stream += right
        elif what == "broken":
            stream += right[: spice % len(right)] + bytes([more.draw(units)]) + right[spice % len(right) + 1 :]
        elif what == "cut":
            stream += right[: spice % len(right)]
        elif what == "noise":
            stream += more.draw(noise)
        elif what == "other":
            stream += frame(unit if spice & 1 else unit % 247 + 1, foreign[1])
        elif what == "exception":
            stream += frame(unit, asked[0] | 0x80, spice & 255)
        elif what == "echo":
            stream += sent
        else:
            stream += right[: 3 + spice % 4]
    head, size = request.answer(asked)
    receiver = rtu.Receiver()
    receiver.expect(bytes([unit]) + head, size and size + 3, sent if echo else None)
    state = feed(receiver, pieces(stream, cuts), more.draw(st.booleans()))
    if state == rtu.ANSWER:
        got = bytes(receiver.frame)
        assert rtu.crc16(got) == 0 and got[0] == unit and got in stream
        assert got[1:].startswith(head) and len(got) == (size + 3 if size else len(got))
        if echo and got == sent:
            assert stream.count(sent) > 1, "one of them was the echo"
    elif state == rtu.EXCEPTION:
        assert frame(unit, asked[0] | 0x80, receiver.code) in stream
    elif "right" in [what for what, _ in plan[:1]] and not echo:
        raise AssertionError("it stood first and was not taken")


# - The client on a line that delays, breaks, repeats and drops answers

_FATES = st.sampled_from(
    ["good", "late", "lost", "broken", "exception", "late exception", "foreign", "stray", "cut", "twice", "noise"]
)
_ASKED = st.sampled_from(["one", "two", "write", "write many"])


@settings(max_examples=600, deadline=None)
@given(st.lists(st.tuples(_FATES, _ASKED, st.integers(1, 2), st.integers(0, 9), st.integers(0, 2000)), min_size=1,
                max_size=25))  # fmt: skip
def test_whatever_the_line_does_a_value_is_that_of_the_register_asked_for_and_a_write_was_done(
    fates: list[tuple[str, str, int, int, int]],
) -> None:
    hal = Hal()
    plan = list(fates)
    turn = 0
    last = {1: 0.0, 2: 0.0}  # by unit, when its last answer came: a device answers in order

    def play(sent: bytes) -> list[tuple[float, bytes]]:
        fate, _, _, _, spice = plan[turn]
        unit, fc, address = sent[0], sent[1], sent[3]
        # The value names its register and the turn, so that an answer of an earlier turn shows.
        good = frame(unit, fc, 2 * sent[5], bytes([address, turn]) * sent[5]) if fc == 3 else frame(sent[:6])
        wrong = frame(unit, fc | 0x80, 1 + spice % 11)
        ms: float = 520 + spice % 960 if fate in ("late", "late exception") else 10 + spice % 400
        now = hal.us / 1000
        ms = max(ms, last[unit] + 5 - now)
        if fate != "lost":
            last[unit] = now + ms
        broken = bytearray(good)
        broken[spice % len(good)] ^= 1 + spice % 255
        return {
            "good": [(ms, good)],
            "late": [(ms, good)],
            "lost": [],
            "broken": [(ms, bytes(broken))],
            "exception": [(ms, wrong)],
            "late exception": [(ms, wrong)],
            "foreign": [(ms, frame(9, fc, good[2:-2]))],
            "stray": [(ms - 9, bytes([unit, fc, 2][: spice % 4])), (ms, good)],
            "cut": [(ms, good[: spice % len(good)])],
            "twice": [(ms, good), (ms + 0.573 * len(good) + spice % 6, good)],
            "noise": [(ms / 2, b"\x55" * (1 + spice % 50)), (ms, good)],
        }[fate]

    client = Client(Port(hal, play, silence_us=2005), hal)
    for turn, (fate, asked, unit, address, _) in enumerate(fates):
        try:
            if asked in ("one", "two"):
                count = 1 if asked == "one" else 2
                data = bytes(run(client.read(unit, 3, address, count, 500)))
                assert data == bytes([address, turn]) * count, (turn, fate)
            else:
                # The same value each time, so that a late answer to an earlier write looks the same.
                pdu = bytes([6, 0, address, 0, 7]) if asked == "write" else bytes([16, 0, address, 0, 1, 2, 0, 7])
                assert bytes(run(client.transact(unit, pdu, 500))) == pdu[:5]
                assert fate in ("good", "stray", "twice", "noise"), (turn, fate)
        except BusError:
            assert fate not in ("good", "stray", "twice", "noise") or turn, "nothing came before"


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(_FATES, st.integers(0, 2), st.integers(0, 9), st.integers(0, 1500)), min_size=2, max_size=14),
       st.lists(st.integers(0, 40), max_size=3))  # fmt: skip
def test_callers_side_by_side_get_their_own_values_whoever_is_cancelled(
    fates: list[tuple[str, int, int, int]], cancelled: list[int]
) -> None:
    async def main() -> None:
        hal = LiveHal()
        answers: list[tuple[str, int]] = []

        def play(sent: bytes) -> list[tuple[float, bytes]]:
            fate, spice = plan.pop(0) if plan else ("good", 0)
            answers.append((fate, sent[3]))
            good = frame(sent[0], 3, 2, sent[3], len(answers))
            ms = 10 + spice % 300
            if fate == "late":
                return [(520 + spice % 900, good)]
            if fate == "exception":
                return [(ms, frame(sent[0], 0x83, 6))]
            return [] if fate in ("lost", "cut", "foreign") else [(ms, good)]

        async def one(address: int, unit: int) -> None:
            try:
                data = bytes(await client.read(unit + 1, 3, address, 1, 500))
            except BusError:
                return
            assert data[0] == address
            assert answers[data[1] - 1] == ("good", address) or answers[data[1] - 1][0] != "late"

        plan = [(fate, spice) for fate, _, _, spice in fates]
        client = Client(LivePort(hal, play, silence_us=2005), hal)
        tasks = [asyncio.create_task(one(address + 16 * i, unit)) for i, (_, unit, address, _) in enumerate(fates)]
        for i, turns in enumerate(cancelled):
            for _ in range(turns):
                await asyncio.sleep(0)
            tasks[(i * 7) % len(tasks)].cancel()
        await hal.drive(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()
        last = asyncio.create_task(client.read(9, 3, 5, 1, 500))
        plan.clear()
        await hal.drive(last)
        assert bytes(await last)[0] == 5

    asyncio.run(main())


# - Modbus TCP


@given(st.lists(st.tuples(words, st.integers(0, 255), st.binary(min_size=1, max_size=253)), max_size=8),
       st.lists(st.integers(0, 2200), max_size=12))  # fmt: skip
def test_adus_come_out_of_a_stream_however_it_is_cut(adus: list[tuple[int, int, bytes]], cuts: list[int]) -> None:
    stream = b"".join(mbap.adu(*each) for each in adus)
    framer = mbap.Framer()
    out = []
    for piece in pieces(stream, cuts):
        out += drink(framer, piece)
    assert out == adus and not framer.partial()


def drink(framer: mbap.Framer, piece: bytes) -> list[tuple[int, int, bytes]]:
    out = []
    while piece:
        space = framer.space()
        n = min(len(space), len(piece))
        assert n > 0
        space[:n] = piece[:n]
        piece = piece[n:]
        framer.took(n)
        while framer.next():
            out.append((framer.tid, framer.unit, bytes(framer.pdu)))
    return out


@given(st.lists(st.binary(min_size=1, max_size=400), max_size=10))
def test_any_stream_is_cut_into_adus_or_refused(stream: list[bytes]) -> None:
    framer = mbap.Framer()
    out = []
    try:
        for piece in stream:
            out += drink(framer, piece)
    except ValueError as error:
        assert str(error)
    assert b"".join(stream).startswith(b"".join(mbap.adu(*each) for each in out))


class _Stream:
    """A server that does to each request what the plan says."""

    where = "fuzz"

    def __init__(self, plan: list[tuple[str, bytes]], turn: list[int]) -> None:
        self.plan = plan
        self.turn = turn
        self.out = b""
        self.kept = b""
        self.ended = False
        self.news = asyncio.Event()

    async def write(self, data: bytes) -> None:
        await asyncio.sleep(0)
        if self.ended:
            return
        tid, unit, address = data[0] << 8 | data[1], data[6], data[9]
        fate, junk = self.plan.pop(0) if self.plan else ("good", b"")
        pdu = bytes([3, 2, address, self.turn[0]])
        good = mbap.adu(tid, unit, pdu)
        self.out += {
            "good": good,
            "late": b"",
            "lost": b"",
            "tid": mbap.adu(tid ^ 0x8000, unit, pdu),
            "unit": mbap.adu(tid, unit ^ 1, pdu),
            "pdu": mbap.adu(tid, unit, junk or b"\3"),
            "junk": junk,
            "twice": good + good,
            "cut": good[: len(junk) % len(good)],
            "close": b"",
        }[fate]
        if fate == "good":
            self.out += self.kept
        self.kept = good if fate == "late" else b""
        self.ended |= fate in ("cut", "close")
        self.news.set()

    async def readinto(self, buf: Any) -> int:
        while not self.out:
            if self.ended:
                return 0
            self.news.clear()
            await self.news.wait()
        n = min(len(buf), len(self.out))
        buf[:n] = self.out[:n]
        self.out = self.out[n:]
        await asyncio.sleep(0)
        return n

    def close(self) -> None:
        self.ended = True


_TCP_FATES = st.sampled_from(["good", "late", "lost", "tid", "unit", "pdu", "junk", "twice", "cut", "close"])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(_TCP_FATES, st.binary(max_size=40)), min_size=1, max_size=12), st.integers(1, 4))
def test_whatever_a_server_says_a_value_is_that_of_the_register_asked_for(
    fates: list[tuple[str, bytes]], flight: int
) -> None:
    class TcpHal(Hal):
        net: Any

        async def sleep_ms(self, ms: int) -> None:
            await asyncio.sleep(0)

        async def tcp(self, ip: str, port: int, timeout_ms: int) -> _Stream:
            return _Stream(plan, turn)

    async def resolve(hal: Any, host: str) -> list[str]:
        return ["192.0.2.1"]

    async def one(client: TcpClient, address: int) -> None:
        began = turn[0]
        try:
            data = bytes(await client.read(1, 3, address, 1, 8))
        except BusError:
            return
        assert data[0] == address and data[1] >= began

    plan, turn = list(fates), [0]

    async def main() -> None:
        hal = TcpHal()
        hal.net = hal
        client = TcpClient(hal, "x", 502, resolve, flight)
        while plan:
            turn[0] += 1
            await asyncio.gather(*[one(client, 16 * turn[0] + i) for i in range(flight + 1)])
            assert not client._pending and client._free == flight
        while True:
            try:
                assert bytes(await client.read(1, 3, 3, 1, 500))[0] == 3
                break
            except BusError as error:
                assert error.kind == "link"
                await asyncio.sleep(0.001)
        await client.close()

    asyncio.run(main())


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
