"""Characters and wires, in event time: expectations are worked out by hand from the baud rate."""

from __future__ import annotations

from typing import Any

import pytest
from kobler.sim.rs485_format import BREAK, FRAMING_ERROR, PARITY_ERROR, Edge, Format, Received
from kobler.sim.rs485_line import Line, Tap

MS = 1_000_000
F9600 = Format(9600, "even", 1)  # 11 bits of 104.1667 us: 1145.833 us a character
CHAR = 1_145_833
BIT = 104_167


# Character formats


@pytest.mark.parametrize(
    ("fmt", "char_ns", "silence_ns"),
    [
        (Format(9600, "even", 1), 1_145_833, 4_010_415),  # 11 bits; E1: t3.5 = 4.01 ms
        (Format(9600, "none", 1), 1_041_667, 3_645_834),  # 10 bits
        (Format(9600, "none", 2), 1_145_833, 4_010_415),
        (Format(19200, "even", 1), 572_917, 2_005_209),  # t3.5 = 2.01 ms
        (Format(38400, "odd", 1), 286_458, 1_750_000),  # above 19200 the silence is fixed
        (Format(115200, "none", 1), 86_806, 1_750_000),
    ],
)
def test_a_character_takes_its_bits_at_the_baud_rate(fmt: Format, char_ns: int, silence_ns: int) -> None:
    assert (fmt.char_ns, fmt.silence_ns) == (char_ns, silence_ns)


def test_long_runs_do_not_drift() -> None:
    assert Format(19200).span_ns(256 * 11) == 146_666_667  # 256 characters: 2816 / 19200 s


def test_the_levels_on_the_wire_are_start_data_low_bit_first_parity_stop() -> None:
    # 0x53 = 0101 0011: four ones, so even parity is 0 and odd parity 1.
    assert Format(9600, "even", 1).levels(b"\x53") == bytes([0, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1])
    assert Format(9600, "odd", 2).levels(b"\x53") == bytes([0, 1, 1, 0, 0, 1, 0, 1, 0, 1, 1, 1])


@pytest.mark.parametrize("parity", ["even", "odd", "none"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_receiver_decodes_what_a_sender_of_its_format_sends(parity: Any, stop: int) -> None:
    fmt = Format(19200, parity, stop)
    data = bytes(range(256))
    wave = [Edge(0, 1)]
    for k, level in enumerate(fmt.levels(data)):
        if level != wave[-1].level:
            wave.append(Edge(1000 + fmt.span_ns(k), level))
    got = fmt.decode(wave)
    assert bytes(r.value for r in got) == data
    assert all(r.error == 0 for r in got)
    assert abs(got[-1].t - (1000 + 256 * fmt.width * 1e9 / 19200)) < 3


@pytest.mark.parametrize(
    ("edges", "expected"),
    [
        # 0x00 has even parity 0: low for 10 bits, then the stop bit.
        ([(0, 0), (10 * BIT, 1)], [(0x00, 0)]),
        # Low for one bit: a start bit, then ones; even parity of 0xFF would be 0, but the line is 1.
        ([(0, 0), (BIT, 1)], [(0xFF, PARITY_ERROR)]),
        # Less than half a bit is a glitch.
        ([(0, 0), (BIT * 4 // 10, 1)], []),
        # Low through the stop bit and beyond is a break; only one, however long.
        ([(0, 0), (40 * BIT, 1)], [(0x00, FRAMING_ERROR | BREAK)]),
        # Data 0x01 (parity 1), then low where the stop bit should be.
        (
            [(0, 0), (BIT, 1), (2 * BIT, 0), (9 * BIT, 1), (10 * BIT, 0), (12 * BIT, 1)],
            [(0x01, FRAMING_ERROR)],
        ),
    ],
)
def test_what_a_receiver_makes_of_a_wave(edges: list[tuple[int, int]], expected: list[tuple[int, int]]) -> None:
    wave = [Edge(0, 1)] + [Edge(MS + t, level) for t, level in edges]
    assert [(r.value, r.error) for r in F9600.decode(wave)] == expected


# Drivers


def two_taps(**options: Any) -> tuple[Line, Tap, Tap]:
    line = Line(**options)
    a, b = Tap("a", F9600, auto=False), Tap("b", F9600)
    line.taps += [a, b]
    return line, a, b


def values(received: list[Received]) -> bytes:
    return bytes(r.value for r in received)


def test_a_byte_is_heard_at_the_end_of_its_stop_bit() -> None:
    line, a, b = two_taps()
    line.drive(a, 0, True)
    line.transmit(a, 2 * MS, b"\x11\x03")
    assert line.hear(b, 0) == [Received(2 * MS + CHAR, 0x11), Received(2 * MS + 2_291_667, 0x03)]


def test_without_its_driver_a_node_sends_into_nothing() -> None:
    line, a, b = two_taps()
    run = line.transmit(a, 0, b"\x11\x03")
    assert line.hear(b, 0) == []
    assert line.carried(run) == 0


@pytest.mark.parametrize(
    ("on", "off", "carried", "heard"),
    [
        (0, 5 * CHAR, 4, b"\x11\x22\x33\x44"),
        (-500_000, 4 * CHAR + 2, 4, b"\x11\x22\x33\x44"),
        # On within the second byte's last bits (0x22: 0, 0, then parity 0): a start bit is seen there, too late.
        (CHAR + 7 * BIT, 5 * CHAR, 2, None),
        (CHAR, 5 * CHAR, 3, b"\x22\x33\x44"),
        # Off before the last stop bit: the bias makes the same level, so the byte is whole, by luck.
        (0, 4 * CHAR - BIT // 2, 3, b"\x11\x22\x33\x44"),
        # Off after start bit and four data bits of 0x44: ones follow, which is 0xF4.
        (0, 3 * CHAR + 5 * BIT, 3, b"\x11\x22\x33\xf4"),
        (0, 3 * CHAR + 2, 3, b"\x11\x22\x33"),
    ],
)
def test_only_what_is_sent_while_the_driver_is_on_is_heard(
    on: int, off: int, carried: int, heard: bytes | None
) -> None:
    line, a, b = two_taps()
    start = 10 * MS
    line.drive(a, start + on, True)
    run = line.transmit(a, start, b"\x11\x22\x33\x44")
    line.drive(a, start + off, False)
    assert line.carried(run) == carried
    got = values(line.hear(b, 0))
    if heard is None:
        assert got != b"\x11\x22\x33\x44"
    else:
        assert got == heard


def test_a_byte_cut_by_the_driver_falls_back_to_ones() -> None:
    # Off after start bit and four data bits of 0x00: the idle line makes ones of the other bits and the parity.
    line, a, b = two_taps()
    line.drive(a, 0, True)
    line.transmit(a, MS, b"\x00")
    line.drive(a, MS + 5 * BIT, False)
    assert line.hear(b, 0) == [Received(MS + CHAR, 0xF0, PARITY_ERROR)]


def test_the_release_is_measured_from_the_last_stop_bit() -> None:
    for off, expected in ((4 * CHAR + 250_000, 250_000), (4 * CHAR - 300_000, -300_000)):
        line, a, _ = two_taps()
        line.drive(a, 0, True)
        run = line.transmit(a, MS, b"\x11\x22\x33\x44")
        line.drive(a, MS + off, False)
        assert run.de_late == pytest.approx(expected, abs=2)


def test_two_drivers_garble_each_other_for_all_who_listen() -> None:
    line, a, b = two_taps()
    c = Tap("c", F9600)
    line.taps.append(c)
    sent = bytes(range(0x20, 0x30))
    line.drive(a, 0, True)
    first = line.transmit(a, MS, sent)
    second = line.transmit(b, MS + CHAR // 3, bytes(reversed(sent)))
    heard = values(line.hear(c, 0))
    assert heard
    assert heard not in (sent, bytes(reversed(sent)))
    assert [d.node for d in line.rivals(first)] == [b]
    assert [d.node for d in line.rivals(second)] == [a]


def test_a_driver_that_stays_on_destroys_the_start_of_the_answer_only() -> None:
    line, a, b = two_taps()
    c = Tap("c", F9600)
    line.taps.append(c)
    line.drive(a, 0, True)
    line.transmit(a, MS, b"\x11\x03")
    answer = b"\x11\x03\x02\x00\x07\x38\x45"
    start = 8 * MS
    line.transmit(b, start, answer)
    line.drive(a, start + 2 * CHAR + CHAR // 2, False)  # two and a half bytes too late
    heard = line.hear(c, 0)
    assert values(heard)[:2] == b"\x11\x03"
    after = [r for r in heard if r.t > start]
    assert values(after) != answer
    assert values(after)[-3:] == answer[-3:]
    # The node itself hears nothing at all while its driver holds its receiver off.
    assert all(r.t > start + 2 * CHAR for r in line.hear(a, 0))


def test_an_adapter_that_echoes_hears_itself_and_others_do_not_hear_twice() -> None:
    line, a, b = two_taps()
    line.drive(a, 0, True)
    line.transmit(a, MS, b"\x11\x03")
    assert line.hear(a, 0) == []
    a.echo = True
    assert values(line.hear(a, 0)) == b"\x11\x03"
    assert values(line.hear(b, 0)) == b"\x11\x03"


def test_another_baud_rate_or_parity_garbles() -> None:
    for other in (Format(19200), Format(4800), Format(9600, "odd"), Format(9600, "none", 1)):
        line, a, _ = two_taps()
        c = Tap("c", other)
        line.taps.append(c)
        line.drive(a, 0, True)
        line.transmit(a, MS, b"\x11\x03\x00\x6b\x00\x03\x76\x87")
        heard = line.hear(c, 0)
        assert any(r.error for r in heard) or values(heard) != b"\x11\x03\x00\x6b\x00\x03\x76\x87", other


def test_a_line_without_bias_makes_stray_bytes_when_a_driver_lets_go() -> None:
    strays = []
    for seed in range(20):
        line, a, b = two_taps(bias=False, seed=seed)
        line.drive(a, 0, True)
        line.transmit(a, MS, b"\x11")
        line.drive(a, 4 * MS, False)
        heard = line.hear(b, 0)
        assert heard[0].value == 0x11
        assert len(heard) == 2
        assert heard[1].t > 4 * MS
        strays.append(heard[1].value)
    assert set(strays) == {0x00, 0xFF}
    line, a, b = two_taps()
    line.drive(a, 0, True)
    line.transmit(a, MS, b"\x11")
    line.drive(a, 4 * MS, False)
    assert values(line.hear(b, 0)) == b"\x11"


def test_noise_flips_about_as_many_bits_as_it_should_and_the_same_again() -> None:
    def heard(seed: int) -> tuple[bytes, int]:
        line, a, b = two_taps()
        line.noise(0.01, seed)
        line.drive(a, 0, True)
        runs = [line.transmit(a, MS * 20 * (k + 1), bytes(10)) for k in range(100)]
        flips = sum(mask.bit_count() for run in runs for mask in run.flips.values())
        return values(line.hear(b, 0)), flips

    data, flips = heard(7)
    assert 80 <= flips <= 140  # 11,000 bits at 1 %: 110, standard deviation 10.4
    assert sum(byte != 0 for byte in data) > 40
    assert heard(7) == (data, flips)
    assert heard(8)[0] != data
