"""The simulated Modbus servers, frame by frame, and the demonstration's devices, in a time of their own."""

from __future__ import annotations

import itertools
import struct

import pytest
from kobler.rtu_frame import crc16, sealed
from kobler.sim.devices import AirHandlingUnit, EnergyMeter, HeatPump, SimulatedDevice, Writable, demonstration
from kobler.sim.modbus_server import HOLDING, INPUT, ModbusServer


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
    assert all(a != b for a, b in itertools.pairwise(first[:4]))


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
