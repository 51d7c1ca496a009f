"""The bus's far end as a pty, with pymodbus and plain system calls on the other side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guest_program import PRELUDE, run_guest
from kobler.errors import KoblerError
from kobler.sim.devices import demonstration
from kobler.sim.interpreter import micropython
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_format import Format
from pymodbus.client import ModbusSerialClient
from test_devices import Registers


def on_a_pty(path: Path, devices: list[Any], work: Callable[[ModbusSerialClient], Any]) -> tuple[Any, Bus]:
    """Run blocking `work` with a pymodbus client on the pty, the devices on the bus."""

    async def run() -> tuple[Any, Bus]:
        bus = Bus(Format(115200, "none"))
        for device in devices:
            bus.attach(device)
        bus.attach_pty(path)
        client = ModbusSerialClient(str(path), baudrate=115200, timeout=0.5, retries=0)
        assert await asyncio.to_thread(client.connect)
        try:
            return await asyncio.to_thread(work, client), bus
        finally:
            client.close()
            bus.close()

    return asyncio.run(run())


def test_pymodbus_reads_and_writes_the_devices_through_the_pty(tmp_path: Path) -> None:
    def work(client: ModbusSerialClient) -> None:
        for _ in range(3):
            power = client.read_input_registers(52, count=2, device_id=17)
            watts = client.convert_from_registers(power.registers, client.DATATYPE.FLOAT32)
            assert 500 < watts < 4500
        assert client.write_register(0, 215, device_id=1).registers == [215]
        assert client.read_holding_registers(0, count=1, device_id=1).registers == [215]
        assert client.read_discrete_inputs(0, count=3, device_id=1).bits[:3][2] is True
        assert not client.write_coil(0, False, device_id=1).isError()
        assert client.read_coils(0, count=1, device_id=1).bits[0] is False
        assert client.read_holding_registers(400, device_id=1).exception_code == 2
        assert not client.mask_write_register(address=4, and_mask=0xF2, or_mask=0x25, device_id=9).isError()
        # Register 4 held 4: 4 and 0xF2 is 0, 0x25 and not 0xF2 is 5.
        assert client.read_holding_registers(4, device_id=9).registers == [5]
        both = client.readwrite_registers(read_address=0, read_count=3, write_address=1, values=[7, 8], device_id=9)
        assert both.registers == [0, 7, 8]
        assert not client.write_registers(0, [1, 2, 3], device_id=9).isError()
        assert not client.write_coils(0, [True] * 10, device_id=9).isError()
        assert client.read_coils(0, count=10, device_id=9).bits[:10] == [True] * 10
        names = client.read_device_information(read_code=1, object_id=0, device_id=5).information
        assert names[0] == b"Kobler"
        assert names[1] == b"heatpump"
        with contextlib.suppress(Exception):  # nobody has unit 33: pymodbus raises when nothing comes
            assert client.read_holding_registers(0, device_id=33).isError()
        assert client.read_holding_registers(1, device_id=9).registers == [2]

    path = tmp_path / "rs485"
    _, bus = on_a_pty(path, [*demonstration(), Registers(9)], work)
    assert not path.is_symlink()
    stats = bus.stats
    assert (stats.collisions, stats.lost) == (0, 0)
    assert stats.frames["pty"] == 18
    assert stats.frames["meter"] == 3


def test_bytes_reach_the_program_only_as_they_end_on_the_wires(tmp_path: Path) -> None:
    async def run() -> list[tuple[int, int]]:
        bus = Bus(Format(9600))
        bus.attach_pty(tmp_path / "far")
        link: Any = type("NoLink", (), {"on": lambda *_: None, "send": lambda *_: None})()
        node = bus.attach_uart(link)
        fd = os.open(tmp_path / "far", os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        try:
            await asyncio.sleep(0.05)
            start = bus.clock.now()
            bus.transmit(node, start, bytes(range(20)))
            got: list[tuple[int, int]] = []
            while len(got) < 20:
                with contextlib.suppress(BlockingIOError):
                    now = (bus.clock.now() - start) // 1000
                    got += [(now, value) for value in os.read(fd, 100)]
                await asyncio.sleep(0.0005)
            return got
        finally:
            os.close(fd)
            bus.close()

    got = asyncio.run(asyncio.wait_for(run(), 5))
    assert [value for _, value in got] == list(range(20))
    waits = [now - (i + 1) * 1_145_833 // 1000 for i, (now, _) in enumerate(got)]
    assert min(waits) >= -600  # the clock is read before the bytes are
    assert min(waits) < 5_000  # the others are as late as the host's scheduler makes them


def test_a_program_that_asks_for_parity_can_open_the_pty_again_and_again(tmp_path: Path) -> None:
    def set_up() -> None:
        fd = os.open(tmp_path / "far", os.O_RDWR | os.O_NOCTTY)
        try:
            settings = termios.tcgetattr(fd)
            settings[2] |= termios.PARENB | termios.CREAD
            settings[4] = settings[5] = termios.B38400  # the rate a terminal has from the start
            termios.tcsetattr(fd, termios.TCSANOW, settings)
        finally:
            os.close(fd)

    async def run() -> None:
        bus = Bus()
        bus.attach_pty(tmp_path / "far")
        try:
            for _ in range(3):
                await asyncio.to_thread(set_up)
                await asyncio.sleep(0.1)
        finally:
            bus.close()

    asyncio.run(run())


def test_a_path_that_is_taken_or_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "stale").symlink_to(tmp_path / "gone")

    async def offer(path: Path) -> None:
        bus = Bus()
        try:
            bus.attach_pty(path)
            assert path.is_symlink()
        finally:
            bus.close()

    with pytest.raises(KoblerError, match="something is there already; remove it"):
        asyncio.run(offer(tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(KoblerError, match=r"No such file or directory; choose a path"):
        asyncio.run(offer(tmp_path / "no" / "where"))
    asyncio.run(offer(tmp_path / "stale"))
    assert not (tmp_path / "stale").is_symlink()
    # The next terminal gets the lowest free number, so the one that a killed run had.
    master, slave = os.openpty()
    (tmp_path / "again").symlink_to(os.ttyname(slave))
    os.close(master)
    os.close(slave)
    asyncio.run(offer(tmp_path / "again"))
    assert not (tmp_path / "again").is_symlink()


SERVER = """
import sys
from pymodbus.datastore import ModbusDeviceContext, ModbusSequentialDataBlock, ModbusServerContext
from pymodbus.server import StartSerialServer
block = ModbusSequentialDataBlock(1, [0] * 52 + [0x4448, 0xC000] + [0] * 10)
units = {17: ModbusDeviceContext(hr=block, ir=block)}
StartSerialServer(ModbusServerContext(devices=units, single=False), port=sys.argv[1], baudrate=19200)
"""

GUEST = """
request = b"\\x11\\x04\\x00\\x34\\x00\\x02\\x32\\x95"
idle = []
u.irq(lambda u: idle.append(1), UART.IRQ_RXIDLE)
answers = []
tries = 0
while len(answers) < 10 and tries < 60:
    tries += 1
    u.read()
    send(request)
    del idle[:]
    until = _chip.now() + 200000
    while not idle and _chip.now() < until:
        _chip.wait(until)
    answer = u.read()
    if answer:
        answers.append([b for b in answer])
say(answers=answers)
"""


def test_a_foreign_server_on_the_pty_answers_the_guest(tmp_path: Path) -> None:
    path = tmp_path / "rs485"

    async def run() -> tuple[list[Any], Bus]:
        server: list[asyncio.subprocess.Process] = []

        async def furnish(bus: Bus) -> None:
            bus.attach_pty(path)
            server.append(await asyncio.create_subprocess_exec(sys.executable, "-c", SERVER, str(path)))
            await asyncio.sleep(0.5)

        try:
            return await run_guest(str(micropython()), PRELUDE + GUEST, [], prepare=furnish)
        finally:
            with contextlib.suppress(ProcessLookupError):
                server[0].kill()
            await server[0].wait()

    lines, bus = asyncio.run(run())
    float_803 = [17, 4, 4, 0x44, 0x48, 0xC0, 0x00]
    answers = lines[0]["answers"]
    assert len(answers) == 10
    assert [a[:7] for a in answers] == [float_803] * 10
    assert (bus.stats.collisions, bus.stats.lost) == (0, 0)
