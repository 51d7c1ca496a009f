"""machine.UART of the virtual chip, on the real MicroPython and on CPython, over the link to the simulated bus."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from guest_program import PRELUDE, run_guest
from kobler.errors import KoblerError
from kobler.sim.devices import EnergyMeter
from kobler.sim.interpreter import micropython
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_uart import UartNode

CHAR_19200 = 572.917  # microseconds, 8E1


class Parrot:
    """Answers every frame with the same bytes."""

    name = "parrot"

    def __init__(self, answer: bytes, turnaround: float = 0.005) -> None:
        self.bytes = answer
        self.turnaround = turnaround
        self.heard: list[bytes] = []

    def answer(self, frame: bytes, t: float) -> bytes | None:
        self.heard.append(frame)
        return self.bytes


@pytest.fixture(params=["micropython", "cpython"])
def guest(request: pytest.FixtureRequest) -> Callable[..., Any]:
    if request.param == "cpython":
        program = sys.executable
    else:
        try:
            program = str(micropython())
        except KoblerError as error:
            pytest.skip(str(error))

    def run(script: str, *devices: Any, during: Callable[[Bus, UartNode], None] | None = None, **hooks: Any) -> Any:
        return asyncio.run(run_guest(program, PRELUDE + script, devices, during=during, **hooks))

    run.runtime = request.param  # type: ignore[attr-defined]
    return run


READ_METER = """
request = b"\\x11\\x04\\x00\\x34\\x00\\x02\\x32\\x95"
idle = []
u.irq(lambda u: idle.append(_chip.now()), UART.IRQ_RXIDLE)
for i in range(20):
    send(request)
    del idle[:]
    until = _chip.now() + 300000
    while not idle and _chip.now() < until:
        _chip.wait(until)
    answer = u.read() or b""
    say(answer=[b for b in answer], idle=idle)
"""


def test_a_program_reads_a_device_and_lets_the_driver_go_in_time(guest: Callable[..., Any]) -> None:
    lines, bus = guest(READ_METER, EnergyMeter(17))
    assert [len(line["answer"]) for line in lines] == [9] * 20
    assert all(line["answer"][:3] == [17, 4, 4] for line in lines)
    stats = bus.stats
    assert (stats.bytes, stats.lost, stats.collisions) == (20 * 17, 0, 0)
    late = sorted(stats.de_late_us)
    assert late[0] >= 0
    assert late[10] < 300
    # RXIDLE: one to two periods of 20 bit times (1042 us) after the last stop bit; the host may add to it.
    ends = [(f.t_us + 9 * CHAR_19200) for f in stats.trace if f.node == "meter"]
    waits = sorted(line["idle"][0] - end for line, end in zip(lines, ends, strict=True))
    assert waits[0] >= 1040
    assert waits[0] <= 2 * 1042 + 700  # the others are as late as the host makes them


def test_characters_become_visible_when_their_stop_bit_ends(guest: Callable[..., Any]) -> None:
    script = """
for i in range(8):
    send(b"x")
    seen = []
    until = _chip.now() + 200000
    while len(seen) < 20 and _chip.now() < until:
        n = u.any()
        while len(seen) < n:
            seen.append(_chip.now())
    say(seen=seen, data=[b for b in u.read()])
"""
    lines, bus = guest(script, Parrot(bytes(range(20)), 0.02))
    starts = [f.t_us for f in bus.stats.trace if f.node == "parrot"]
    waits = []
    for line, start in zip(lines, starts, strict=True):
        assert line["data"] == list(range(20))
        waits += [seen - (start + (i + 1) * CHAR_19200) for i, seen in enumerate(line["seen"])]
    assert min(waits) > -2
    assert min(waits) < 500  # the others are as late as the host's scheduler makes them


def test_sending_takes_its_time_and_flush_waits_for_it(guest: Callable[..., Any]) -> None:
    script = """
de(1)
begin = _chip.now()
n = u.write(bytes(50))
wrote = _chip.now()
busy = not u.txdone()
u.flush()
flushed = _chip.now()
# 600 bytes do not fit into buffer and FIFO (384): write returns when the rest does.
u.write(bytes(600))
blocked = _chip.now()
u.flush()
say(n=n, wrote=wrote - begin, busy=busy, flushed=flushed - begin, blocked=blocked - flushed, done=u.txdone())
de(0)
"""
    lines, bus = guest(script)
    got = lines[0]
    assert (got["n"], got["busy"], got["done"]) == (50, True, True)
    assert got["wrote"] < 25_000
    assert 50 * CHAR_19200 <= got["flushed"] < 50 * CHAR_19200 + 200_000
    assert 216 * CHAR_19200 - 1000 <= got["blocked"] < 216 * CHAR_19200 + 200_000
    assert bus.stats.bytes == 650
    assert bus.stats.lost == 0


def test_what_nobody_reads_overflows_and_is_counted(guest: Callable[..., Any]) -> None:
    script = """
u.init(rxbuf=129)
send(b"x")
rest(130)
say(any=u.any(), overflow=u._receiver.overflow, first=[b for b in u.read(3)], left=u.any())
"""
    lines, _ = guest(script, Parrot(bytes(range(200))))
    assert lines == [{"any": 129, "overflow": 71, "first": [0, 1, 2], "left": 126}]


def test_reading_as_a_stream(guest: Callable[..., Any]) -> None:
    script = """
say(empty=[u.read(), u.read(5), u.readline(), u.readinto(bytearray(4)), u.any()])
send(b"x")
u.init(timeout=200, timeout_char=20)
first = u.read(4)
buf = bytearray(3)
n = u.readinto(buf)
line = u.readline()
rest(50)
say(first=first.decode(), n=n, buf=bytes(buf).decode(), line=line.decode(), rest=u.read().decode(), end=u.read(1))
"""
    lines, _ = guest(script, Parrot(b"0123abc45\nrest", 0.02))
    assert lines[0]["empty"] == [None, None, None, None, 0]
    assert lines[1] == {"first": "0123", "n": 3, "buf": "abc", "line": "45\n", "rest": "rest", "end": None}


def test_wrong_arguments_are_refused_as_on_the_chip(guest: Callable[..., Any]) -> None:
    script = """
def refused(fn):
    try:
        fn()
    except (ValueError, OSError) as e:
        return [type(e).__name__, str(e.args[-1])]
say(
    id=refused(lambda: UART(3)),
    bits=refused(lambda: UART(1, bits=9)),
    stop=refused(lambda: UART(1, stop=3)),
    invert=refused(lambda: UART(1, invert=1)),
    flow=refused(lambda: UART(1, flow=4)),
    small=refused(lambda: UART(1, rxbuf=100)),
    repl=refused(lambda: UART(0, rxbuf=512)),
    hard=refused(lambda: u.irq(lambda u: None, UART.IRQ_RX, True)),
    trigger=refused(lambda: u.irq(lambda u: None, 0x8001)),
    handler=refused(lambda: u.irq(5, UART.IRQ_RX)),
    pin=refused(lambda: UART(1, tx=77)),
)
same = UART(1) is u
say(same=same, text=repr(u))
u.deinit()
say(closed=refused(u.any), read=u.read(1), write=u.write(b"x"))
"""
    lines, _ = guest(script)
    assert lines[0] == {
        "id": ["ValueError", "UART(3) does not exist"],
        "bits": ["ValueError", "invalid data bits"],
        "stop": ["ValueError", "invalid stop bits"],
        "invert": ["ValueError", "invalid inversion mask"],
        "flow": ["ValueError", "invalid flow control mask"],
        "small": ["OSError", "ESP_FAIL"],
        "repl": ["ValueError", "REPL UART buffer size is fixed"],
        "hard": ["ValueError", "hard IRQ is not supported"],
        "trigger": ["ValueError", "trigger 0x8000 unsupported"],
        "handler": ["ValueError", "handler must be None or callable"],
        "pin": ["ValueError", "invalid pin"],
    }
    assert lines[1]["same"] is True
    assert lines[1]["text"].startswith("UART(1, baudrate=19200, bits=8, parity=0, stop=1, tx=17, rx=18,")
    assert lines[2] == {"closed": ["OSError", "ESP_FAIL"], "read": None, "write": None}


def test_interrupts_for_data_and_for_a_break(guest: Callable[..., Any]) -> None:
    script = """
events = []
irq = u.irq(lambda u: events.append(irq.flags()), UART.IRQ_RX | UART.IRQ_BREAK)
send(b"x")
rest(60)
say(events=events, data=[b for b in u.read()], old=irq.trigger(UART.IRQ_RX), new=irq.trigger())
"""

    def during(bus: Bus, _: UartNode) -> None:
        node = bus.nodes[0]
        original = node.device.answer  # type: ignore[attr-defined]

        def answer(frame: bytes, t: float) -> bytes:
            bus.transmit(node, round((t + 0.025) * 1e9), b"", 13)
            return original(frame, t)  # type: ignore[no-any-return]

        node.device.answer = answer  # type: ignore[attr-defined]

    lines, _ = guest(script, Parrot(b"ab"), during=during)
    got = lines[0]
    assert got["data"] == [97, 98, 0]  # a break leaves a zero in the FIFO
    assert 2 in got["events"]
    assert 1 <= got["events"].count(1) <= 3
    assert (got["old"], got["new"]) == (3, 1)


def test_characters_told_ahead_are_forgotten_when_a_collision_destroys_them(guest: Callable[..., Any]) -> None:
    def during(bus: Bus, _: UartNode) -> None:
        first, second = bus.nodes[0], bus.nodes[1]
        original = first.device.answer  # type: ignore[attr-defined]

        def answer(frame: bytes, t: float) -> bytes:
            # The answer takes from 50 to 188 ms after the request; the other, told at 60 ms, breaks in at 150 ms.
            now = asyncio.get_running_loop().time()
            asyncio.get_running_loop().call_later(
                t + 0.06 - now, lambda: bus.transmit(second, round((t + 0.15) * 1e9), bytes(20))
            )
            return original(frame, t)  # type: ignore[no-any-return]

        first.device.answer = answer  # type: ignore[attr-defined]

    script = "send(b'x')\nrest(300)\nsay(data=[b for b in u.read()])"
    lines, bus = guest(script, Parrot(bytes(range(240)), 0.05), Parrot(b""), during=during)
    data = lines[0]["data"]
    # 174 characters of 0.573 ms had ended 100 ms after the start.
    assert data[:174] == list(range(174))
    assert data[175:187] != list(range(175, 187))
    assert len(data) > 200  # the rest came; without a gap it may be read out of step
    assert bus.stats.collisions == 1


def test_a_break_from_the_program_spoils_the_frame_for_a_device(guest: Callable[..., Any]) -> None:
    def answers(script: str) -> list[bytes]:
        parrot = Parrot(b"ok")
        guest(script, parrot)
        return parrot.heard

    assert answers("de(1); u.sendbreak(); de(0); rest(40)") == []
    assert answers("send(b'xyz'); rest(40)") == [b"xyz"]


LATE = """
de(1)
u.write(b"xyz")
while not u.txdone():
    pass
{late}
de(0)
rest(5)
"""


@pytest.mark.parametrize(
    ("late", "least_us"),
    [
        ("rest(3)", 2700),
        # Computing, not sleeping. Some kernels count processor time by the tick.
        ("stop = _chip._cpu() + 8000\nwhile _chip._cpu() < stop: pass", 5000),
    ],
)
def test_the_programs_own_lateness_is_measured(guest: Callable[..., Any], late: str, least_us: int) -> None:
    _, bus = guest(LATE.format(late=late))
    assert least_us <= bus.stats.de_late_us[0] < 20_000


def test_what_the_host_holds_up_is_not_the_programs_lateness(guest: Callable[..., Any]) -> None:
    # The process is stopped for 20 ms while it waits for the last stop bit: on a chip nothing could do that.
    script = """
import os
de(1)
u.write(bytes(20))
say(pid=1)
while not u.txdone():
    pass
de(0)
rest(5)
"""

    async def stop(process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        await process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.03)
        process.send_signal(signal.SIGCONT)

    _, bus = guest(script, meanwhile=stop)
    assert 0 <= bus.stats.de_late_us[0] < 10_000  # a kernel may count processor time by the tick


def test_asyncio_streams_read_and_write_the_uart() -> None:
    script = """
import asyncio
async def main():
    reader = asyncio.StreamReader(u)
    de(1)
    writer = asyncio.StreamWriter(u, {})
    writer.write(b"xyz")
    await writer.drain()
    u.flush()
    de(0)
    data = await asyncio.wait_for(reader.readexactly(5), 1)
    say(data=data.decode())
asyncio.run(main())
"""
    parrot = Parrot(b"hello")
    lines, _ = asyncio.run(run_guest(str(micropython()), PRELUDE + script, [parrot]))
    assert lines == [{"data": "hello"}]
    assert parrot.heard == [b"xyz"]


def test_a_hundred_reads_take_little_more_than_the_wire_needs(guest: Callable[..., Any]) -> None:
    script = READ_METER.replace("range(20)", "range(100)")
    begin = time.monotonic()
    lines, bus = guest(script, EnergyMeter(17))
    assert sum(len(line["answer"]) == 9 for line in lines) >= 97  # a host under load may stop the guest for too long
    stats = bus.stats
    # Request, turnaround, answer, and the two ticks of 1042 us after which RXIDLE comes at the latest.
    least = 100 * (17 * CHAR_19200 + 6000) + 99 * 1042
    span = stats.last_us - (stats.first_us or 0)
    assert span >= least
    assert span < (time.monotonic() - begin) * 1e6
    assert stats.utilisation == pytest.approx(1700 * CHAR_19200 / span, rel=0.001)
