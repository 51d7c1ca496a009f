"""Nodes on the bus, in a time that moves only when a test says so; 9600 8E1, 1145.833 us a character."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest
from kobler.sim.link import GPIO_OUT, UART_CONFIG, UART_RX, UART_TX
from kobler.sim.modbus_server import sealed
from kobler.sim.rs485 import Bus, DeviceNode
from kobler.sim.rs485_format import Format
from kobler.sim.rs485_uart import FORGET, UART_LINE, UartNode

MS = 1_000_000
F9600 = Format(9600, "even", 1)
CHAR = 1_145_833


class VirtualClock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.t = 0
        self.calls: list[tuple[int, Callable[[], None]]] = []

    def now(self) -> int:
        return self.t

    def call_at(self, t: int, fn: Callable[[], None]) -> Callable[[], None]:
        call = (t, fn)
        self.calls.append(call)
        return lambda: self.calls.remove(call) if call in self.calls else None

    def advance(self, to: int) -> None:
        while self.calls and (call := min(self.calls, key=lambda c: c[0]))[0] <= to:
            self.calls.remove(call)
            self.t = max(self.t, call[0])
            call[1]()
        self.t = to


class GuestLink:
    """The board's side of a link without a guest: keeps what the guest would have been sent."""

    def __init__(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.sent: list[tuple[int, bytes]] = []

    def on(self, kind: int, fn: Any) -> None:
        self.handlers[kind] = fn

    def send(self, kind: int, payload: bytes = b"") -> None:
        self.sent.append((kind, payload))

    def tx(self, t_us: int, data: bytes) -> None:
        self.handlers[UART_TX](struct.pack("<BQ", 1, t_us) + data)

    def pin(self, t_us: int, level: int, pin: int = 21) -> None:
        self.handlers[GPIO_OUT](struct.pack("<BBQ", pin, level, t_us))

    def received(self) -> bytes:
        """What the guest ends up with: characters told, less those it was told to forget."""
        got: list[tuple[int, int]] = []
        for kind, payload in self.sent:
            if kind == UART_RX:
                _, t, char_ns = struct.unpack_from("<BQI", payload)
                got += [(t + i * char_ns // 1000, value) for i, value in enumerate(payload[13:])]
            elif kind == UART_LINE and payload[1] == FORGET:
                t = struct.unpack_from("<BBQ", payload)[2]
                got = [g for g in got if g[0] < t]
        return bytes(value for _, value in got)


class Answering:
    """A device that answers everything with the same bytes."""

    def __init__(self, answer: bytes, turnaround: float = 0.005, name: str = "device") -> None:
        self.bytes = answer
        self.turnaround = turnaround
        self.name = name
        self.heard: list[tuple[bytes, float]] = []

    def answer(self, frame: bytes, t: float) -> bytes | None:
        self.heard.append((frame, t))
        return self.bytes or None


def a_bus(**options: Any) -> tuple[VirtualClock, Bus]:
    clock = VirtualClock()
    return clock, Bus(F9600, clock=clock, **options)


def a_guest(bus: Bus, **options: Any) -> tuple[GuestLink, UartNode]:
    link = GuestLink()
    node = bus.attach_uart(link, 1, options.pop("de_pin", 21), **options)  # type: ignore[arg-type]
    link.handlers[UART_CONFIG](struct.pack("<BIBBBBB", 1, 9600, 8, 0, 1, 17, 18))
    return link, node


def test_a_device_answers_its_turnaround_after_the_request() -> None:
    clock, bus = a_bus()
    device = Answering(b"\x01\x02\x03", turnaround=0.010)
    bus.attach(device)
    link, _ = a_guest(bus)
    link.pin(1000, 1)
    link.tx(1000, b"\x11\x03\x00")
    end = 1000 + 3 * 1_145.833
    link.pin(round(end) + 20, 0)
    clock.advance(50 * MS)
    assert device.heard == [(b"\x11\x03\x00", pytest.approx(end / 1e6, abs=1e-8))]
    ((kind, payload),) = link.sent
    assert kind == UART_RX
    assert struct.unpack_from("<BQI", payload) == (1, round(end + 10_000 + 1_145.833 + 0.5), CHAR)
    assert payload[13:] == b"\x01\x02\x03"
    assert list(bus.stats.de_late_us) == [pytest.approx(20, abs=1)]
    assert (bus.stats.bytes, bus.stats.lost, bus.stats.collisions) == (6, 0, 0)


def test_a_turnaround_shorter_than_the_silence_cannot_be() -> None:
    clock, bus = a_bus()
    bus.attach(Answering(b"\x01", turnaround=0.0))
    link, _ = a_guest(bus, de_pin=None)
    link.tx(0, b"\x11")
    clock.advance(50 * MS)
    start = link.sent[0][1]
    assert struct.unpack_from("<BQ", start)[1] == -(-(2 * CHAR + 4_010_415) // 1000)


def test_when_events_are_reported_late_the_times_on_the_wire_do_not_change() -> None:
    def answer_time(report_late: int) -> bytes:
        clock, bus = a_bus()
        bus.attach(Answering(b"\x01\x02"))
        link, _ = a_guest(bus)
        link.pin(1000, 1)
        link.tx(1000, b"\x11\x03")
        clock.advance((1000 + 2292) * 1000 + report_late)
        link.pin(1000 + 2300, 0)
        clock.advance(100 * MS)
        assert link.received() == b"\x01\x02"
        return link.sent[-1][1]

    assert answer_time(0) == answer_time(3 * MS) == answer_time(15 * MS)


def test_a_driver_held_too_long_costs_the_answer_for_the_guest_too() -> None:
    for held_us, whole in ((3_000, True), (7_000, False)):
        clock, bus = a_bus()
        bus.attach(Answering(b"\x11\x03\x02\x00\x07\x38\x45", turnaround=0.005))
        link, _ = a_guest(bus)
        link.pin(1000, 1)
        link.tx(1000, b"\x11\x03")
        clock.advance((1000 + 2292 + held_us) * 1000)
        link.pin(1000 + 2292 + held_us, 0)
        clock.advance(100 * MS)
        assert (link.received() == b"\x11\x03\x02\x00\x07\x38\x45") is whole, held_us
        assert bus.stats.collisions == (0 if whole else 1)
        assert bus.stats.de_late_us[0] == pytest.approx(held_us, abs=2)


def test_a_guest_that_breaks_into_an_answer_is_told_to_forget_the_rest() -> None:
    clock, bus = a_bus()
    bus.attach(Answering(bytes(range(1, 21)), turnaround=0.005))
    link, _ = a_guest(bus)
    link.pin(0, 1)
    link.tx(0, b"\x11\x03")
    link.pin(2_300, 0)
    clock.advance(8 * MS)
    assert link.received() == bytes(range(1, 21))  # told ahead of time
    # The answer began at 7.29 ms; the sixth of its characters is on the wire at 14 ms.
    clock.advance(14 * MS)
    link.pin(14_000, 1)
    link.tx(14_000, b"\x22\x22")
    clock.advance(17 * MS)
    link.pin(16_300, 0)
    clock.advance(100 * MS)
    got = link.received()
    assert got[:5] == bytes(range(1, 6))
    assert got != bytes(range(1, 21))
    assert bus.stats.collisions == 1


def test_two_devices_with_one_unit_id_collide() -> None:
    clock, bus = a_bus()
    bus.attach(Answering(b"\x01\x02\x03\x04", 0.005, "one"))
    bus.attach(Answering(b"\x0f\x0e\x0d\x0c", 0.0052, "two"))
    link, _ = a_guest(bus, de_pin=None)
    link.tx(0, b"\x11")
    clock.advance(100 * MS)
    assert link.received() not in (b"\x01\x02\x03\x04", b"\x0f\x0e\x0d\x0c")
    assert bus.stats.collisions == 1


def test_a_transceiver_that_is_not_powered_neither_sends_nor_hears() -> None:
    clock, bus = a_bus()
    device = Answering(b"\x01")
    bus.attach(device)
    link, node = a_guest(bus, de_pin=None, enable=(16, 19))
    link.tx(0, b"\x11")
    clock.advance(50 * MS)
    assert (device.heard, bus.stats.lost) == ([], 1)
    link.pin(50_000, 1, pin=16)
    link.pin(50_000, 1, pin=19)
    link.tx(60_000, b"\x12")
    clock.advance(120 * MS)
    assert [frame for frame, _ in device.heard] == [b"\x12"]
    assert link.received() == b"\x01"
    assert node.tap.enabled


def test_a_reset_lets_the_driver_go() -> None:
    clock, bus = a_bus()
    device = Answering(b"")
    bus.attach(device)
    link, node = a_guest(bus)
    link.pin(0, 1)
    link.tx(0, bytes(100))
    clock.advance(20 * MS)
    node.reset()
    clock.advance(200 * MS)
    assert bus.line.held(node.tap) is None
    assert bus.stats.lost == 83  # 17 characters fit into the first 20 ms
    link.pin(200_000, 1)
    link.tx(200_000, b"\x05")
    link.pin(201_200, 0)
    clock.advance(300 * MS)
    assert device.heard[-1][0] == b"\x05"


def test_frames_are_cut_by_silence_and_spoilt_ones_dropped() -> None:
    clock, bus = a_bus()
    device = Answering(b"")
    node: DeviceNode = bus.attach(device)
    link, _ = a_guest(bus, de_pin=None)
    link.tx(0, b"\x01\x02")
    link.tx(2_292 + 3_900, b"\x03")  # a pause of 3.9 ms is inside the frame: t3.5 is 4.01 ms
    link.tx(2_292 + 3_900 + 1_146 + 4_100, b"\x04")
    clock.advance(50 * MS)
    assert [frame for frame, _ in device.heard] == [b"\x01\x02\x03", b"\x04"]
    bus.noise(0.2, 3)
    link.tx(60_000, bytes(50))
    clock.advance(200 * MS)
    assert len(device.heard) == 2
    assert node.spoilt >= 1
    assert bus.stats.flipped > 0


def test_the_wires_forget_what_is_long_past() -> None:
    clock, bus = a_bus()
    bus.attach(Answering(b"\x01\x02\x03", 0.005))
    link, _ = a_guest(bus, de_pin=None)
    for k in range(200):
        link.tx(k * 20_000, b"\x11\x03")
        clock.advance((k + 1) * 20 * MS)
    clock.advance(10_000 * MS)
    stats = bus.stats
    assert (stats.bytes, stats.frames["uart1"], stats.frames["device"]) == (1000, 200, 200)
    assert link.received() == b"\x01\x02\x03" * 200
    assert len(bus.line.runs) < 50
    # 5 characters of 1145.833 us in every 20 ms.
    assert stats.utilisation == pytest.approx(5 * 1.145833 / 20, rel=0.01)
    assert str(stats.trace[-1]).endswith("device: 01 02 03")


def test_a_request_after_a_crc_that_noise_broke_is_answered_as_ever() -> None:
    clock, bus = a_bus()
    device = Answering(sealed(b"\x11\x03\x02\x00\x07"))
    bus.attach(device)
    link, _ = a_guest(bus)
    answered = 0
    for k in range(100):
        bus.noise(0.02 if k < 50 else 0.0, k)
        base = 100_000 * k
        link.pin(base, 1)
        link.tx(base, b"\x11\x03\x00\x00\x00\x01\x86\x9a")
        clock.advance((base + 9_200) * 1000)
        link.pin(base + 9_200, 0)
        before = len(link.received())
        clock.advance((base + 99_000) * 1000)
        if k >= 50:
            answered += len(link.received()) - before == 7
    assert answered == 50
    assert bus.stats.flipped > 20
