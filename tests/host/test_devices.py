"""The simulated Modbus servers, and the bus's far end as a pty, checked against pymodbus on the other side."""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from guest_program import PRELUDE, run_guest
from kobler.errors import KoblerError
from kobler.sim.devices import AirHandlingUnit, EnergyMeter, HeatPump, SimulatedDevice, Writable, demonstration
from kobler.sim.interpreter import micropython
from kobler.sim.modbus_server import HOLDING, INPUT, ModbusServer, crc16, sealed
from kobler.sim.rs485 import Bus
from kobler.sim.rs485_format import Format
from pymodbus.client import ModbusSerialClient


class Registers(SimulatedDevice):
    """Ten holding registers 0-9 and ten coils, all writable, values 0-255; input register 7."""

    name = "registers"

    def __init__(self, unit: int = 9) -> None:
        super().__init__(unit)
        self.tables["holding"] = {i: i for i in range(10)}
        self.tables["coil"] = {i: i % 2 for i in range(10)}
        self.tables["input"] = {7: 0xBEEF, 0xFFFF: 1}
        self.writable = {("holding", i): Writable(0, 255) for i in range(10)}
        self.writable |= {("coil", i): Writable() for i in range(10)}
        self.identity = {0: b"V" * 100, 1: b"P" * 100, 2: b"1.0", 4: b"N" * 60, 0x80: b"own"}

    def update(self, t: float, step: float) -> None:
        pass


def ask(server: ModbusServer, pdu: str, unit: int = 9) -> str | None:
    """The answer's PDU in hexadecimal; its address and CRC are checked."""
    frame = server.answer(sealed(bytes((unit,)) + bytes.fromhex(pdu)), 0.0)
    if frame is None:
        return None
    assert crc16(frame) == 0
    assert frame[0] == unit
    return frame[1:-2].hex(" ")


def test_the_crc_is_the_standards() -> None:
    # Modbus over Serial Line V1.02, the example of 2.5.1.2 and a frame seen in every textbook.
    assert sealed(bytes.fromhex("0207")).hex() == "02074112"
    assert sealed(bytes.fromhex("11030 06b0003".replace(" ", ""))).hex() == "1103006b00037687"


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("03 0000 0003", "03 06 00 00 00 01 00 02"),
        ("04 0007 0001", "04 02 be ef"),
        ("04 ffff 0001", "04 02 00 01"),
        ("01 0000 000a", "01 02 aa 02"),  # 0101010101, low bit first
        ("03 0008 0003", "83 02"),  # beyond what is there
        ("03 0000 0000", "83 03"),
        ("03 0000 007e", "83 03"),  # 126 registers
        ("04 ffff 0002", "84 02"),
        ("01 0000 07d1", "81 03"),
        ("02 0000 0001", "82 02"),
        ("03 0000", "83 03"),
        ("03 0000 0001 00", "83 03"),
        ("05 0002 ff00", "05 00 02 ff 00"),
        ("05 0002 1234", "85 03"),
        ("05 000a ff00", "85 02"),
        ("06 0001 00ff", "06 00 01 00 ff"),
        ("06 0001 0100", "86 03"),  # the register takes 0-255
        ("06 000a 0001", "86 02"),
        ("0f 0000 000a 02 ff 03", "0f 00 00 00 0a"),
        ("0f 0000 000a 01 ff", "8f 03"),
        ("10 0000 0002 04 0011 0022", "10 00 00 00 02"),
        ("10 0000 0002 03 0011 0022", "90 03"),
        ("10 0009 0002 04 0011 0022", "90 02"),
        ("16 0004 00f2 0025", "16 00 04 00 f2 00 25"),
        ("17 0003 0002 0001 0001 02 00ff", "17 04 00 03 00 04"),
        ("17 0003 0000 0001 0001 02 00ff", "97 03"),
        ("2b 0e 04 02", "2b 0e 04 82 00 00 01 02 03 31 2e 30"),
        ("2b 0e 04 03", "ab 02"),
        ("2b 0e 05 00", "ab 03"),
        ("2b 0d", "ab 01"),
        ("07", "87 01"),
        ("64 00", "e4 01"),
    ],
)
def test_answers_are_the_standards(request_: str, answer: str) -> None:
    assert ask(Registers().server, request_) == answer


def test_what_is_written_is_read_back() -> None:
    server = Registers().server
    ask(server, "10 0001 0002 04 0011 0022")
    assert ask(server, "03 0001 0002") == "03 04 00 11 00 22"
    ask(server, "0f 0000 0003 01 07")
    assert ask(server, "01 0000 0003") == "01 01 07"
    # The standard's example of FC 22: 0x12 and 0xF2, or 0x25 and not 0xF2, is 0x17.
    ask(server, "06 0004 0012")
    ask(server, "16 0004 00f2 0025")
    assert ask(server, "03 0004 0001") == "03 02 00 17"
    # FC 23 writes before it reads.
    assert ask(server, "17 0002 0002 0003 0001 02 0055") == "17 04 00 22 00 55"


def test_a_write_of_which_one_value_is_impossible_changes_nothing() -> None:
    server = Registers().server
    assert ask(server, "10 0000 0002 04 0011 0122") == "90 03"
    assert ask(server, "03 0000 0002") == "03 04 00 00 00 01"


def test_identification_goes_on_where_it_had_to_stop() -> None:
    server = Registers().server
    first = ask(server, "2b 0e 03 00")
    assert first is not None
    assert first.startswith("2b 0e 03 82 ff 04 03 00 64 56")  # objects 0, 1 and 2 fitted; go on at 4
    second = ask(server, "2b 0e 03 04")
    assert second is not None
    assert second.startswith("2b 0e 03 82 00 00 02 04 3c 4e")
    assert second.endswith("80 03 6f 77 6e")


def test_silence_is_kept_where_the_standard_asks_for_it() -> None:
    device = Registers()
    server = device.server
    assert ask(server, "03 0000 0001", unit=8) is None
    good = sealed(bytes.fromhex("0903 0000 0001".replace(" ", "")))
    for spoilt in (good[:-1], good[:-1] + bytes((good[-1] ^ 1,)), good + b"\x01", b"\x09", b"", bytes(257)):
        assert server.answer(spoilt, 0.0) is None
    assert server.bad_frames == 6
    # A broadcast is carried out, not answered; a read cannot be broadcast.
    assert server.answer(sealed(bytes.fromhex("000600050042")), 0.0) is None
    assert ask(server, "03 0005 0001") == "03 02 00 42"
    assert server.answer(sealed(bytes.fromhex("000300000001")), 0.0) is None


# The demonstration's devices


def float32(device: SimulatedDevice, address: int) -> float:
    words = device.read(INPUT, address, 2)
    return float(struct.unpack(">f", struct.pack(">HH", *words))[0])


def test_the_meters_energy_is_the_integral_of_its_power() -> None:
    meter = EnergyMeter(seed=3, start=0.0)
    steps = 20_000
    for begin, end in ((0.0, 100.0), (500.0, 4000.0)):
        dt = (end - begin) / steps
        sum_ = sum(meter.power(begin + (i + 0.5) * dt) for i in range(steps)) * dt
        assert meter.energy(end) - meter.energy(begin) == pytest.approx(sum_ / 3.6e6, rel=1e-6)
    meter.refresh(60.0)
    # Power is voltage times current times power factor, and all are plausible.
    volts, amps, factor, watts = (float32(meter, a) for a in (0, 6, 30, 52))
    assert volts * amps * factor == pytest.approx(watts, rel=1e-5)
    assert 220 < volts < 240
    assert 500 < watts < 4500
    assert 49.9 < float32(meter, 70) < 50.1


def test_values_repeat_with_the_seed_and_move_with_time() -> None:
    def history(seed: int) -> list[dict[str, dict[int, int]]]:
        out = []
        for device in demonstration(seed):
            for t in (1000.0, 1001.0, 1005.0, 1060.0):
                device.refresh(t)
                out.append({name: dict(table) for name, table in device.tables.items()})
        return out

    first = history(1)
    assert history(1) == first
    assert history(2) != first
    assert all(a != b for a, b in zip(first[:3], first[1:4], strict=True))


def test_the_supply_air_follows_its_setpoint_with_a_lag() -> None:
    unit = AirHandlingUnit(start=0.0)
    unit.refresh(600.0)
    assert unit.supply == pytest.approx(19.5, abs=0.01)
    assert unit.answer(sealed(bytes.fromhex("0106000000fa")), 600.0) is not None  # 25.0
    unit.refresh(600.0 + unit.lag_s)
    assert unit.supply == pytest.approx(25.0 - 5.5 / 2.71828, abs=0.01)
    unit.refresh(900.0)
    assert abs(unit.tenths(HOLDING, 1) - 25.0) < 0.5
    assert unit.answer(sealed(bytes.fromhex("010600000130")), 900.0) == sealed(bytes.fromhex("018603"))  # 30.4


def test_the_heat_pump_counts_hours_and_defrosts() -> None:
    pump = HeatPump(start=0.0)
    pump.refresh(0.0)
    high, low = pump.read(INPUT, 4, 2)
    states = set()
    for t in range(0, 7200, 10):
        pump.refresh(float(t))
        states.add(pump.read(INPUT, 6, 1)[0] & 3)
        assert pump.tenths(INPUT, 0) > pump.tenths(INPUT, 1)
        assert (pump.read(INPUT, 2, 1)[0] == 0) == (pump.read(INPUT, 6, 1)[0] & 2 == 2)
    assert states == {1, 2}
    assert pump.read(INPUT, 4, 2) == [high, low + 1]


# The far end of the bus


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
        both = client.readwrite_registers(
            read_address=0, read_count=3, write_address=1, values=[7, 8], device_id=9
        )
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
    assert sorted(waits)[10] < 5_000


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
