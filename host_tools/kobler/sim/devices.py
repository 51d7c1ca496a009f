"""Demonstration devices: an energy meter, an air handling unit and a heat pump.

Their values are functions of the seed and of the time since they were made, so a run can be repeated.
"""

from __future__ import annotations

import math
import random
import struct
from dataclasses import dataclass, field

from .modbus_server import (
    COIL,
    DISCRETE,
    HOLDING,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    INPUT,
    ModbusFault,
    ModbusServer,
)


@dataclass(frozen=True)
class Writable:
    """A register or coil that may be written, between raw words `low` and `high` (signed)."""

    low: int = 0
    high: int = 1


class SimulatedDevice:
    """Tables of words and bits behind a Modbus server, brought up to date for each request."""

    name = "device"
    turnaround = 0.005

    def __init__(self, unit: int, seed: int = 0, start: float | None = None) -> None:
        self.tables: dict[str, dict[int, int]] = {COIL: {}, DISCRETE: {}, HOLDING: {}, INPUT: {}}
        self.writable: dict[tuple[str, int], Writable] = {}
        name = self.name.encode()
        self.identity = {0: b"Kobler", 1: name, 2: b"1.0", 4: b"demonstration " + name}
        self.server = ModbusServer(unit, self)
        self.seed = seed
        self._start = start  # time of the first request unless given
        self.now = 0.0

    def answer(self, frame: bytes, t: float) -> bytes | None:
        return self.server.answer(frame, t)

    def refresh(self, t: float) -> None:
        if self._start is None:
            self._start = t
        elapsed = max(t - self._start, self.now)
        step, self.now = elapsed - self.now, elapsed
        self.update(elapsed, step)

    def update(self, t: float, step: float) -> None:
        """Set the tables for t seconds after the start, `step` after the last update."""
        raise NotImplementedError

    def read(self, table: str, address: int, count: int) -> list[int]:
        values = self.tables[table]
        try:
            return [values[address + i] for i in range(count)]
        except KeyError:
            raise ModbusFault(ILLEGAL_ADDRESS) from None

    def check(self, table: str, address: int, values: list[int]) -> None:
        for i, value in enumerate(values):
            rule = self.writable.get((table, address + i))
            if rule is None:
                raise ModbusFault(ILLEGAL_ADDRESS)
            signed = value - 0x10000 if rule.low < 0 and value & 0x8000 else value
            if not rule.low <= signed <= rule.high:
                raise ModbusFault(ILLEGAL_VALUE)

    def write(self, table: str, address: int, values: list[int]) -> None:
        for i, value in enumerate(values):
            self.tables[table][address + i] = value

    # Storing values

    def put_float(self, table: str, address: int, value: float) -> None:
        """An IEEE 754 float32 in two registers, high word first (ABCD)."""
        high, low = struct.unpack(">HH", struct.pack(">f", value))
        self.tables[table].update({address: high, address + 1: low})

    def put_u32(self, table: str, address: int, value: int) -> None:
        self.tables[table].update({address: value >> 16 & 0xFFFF, address + 1: value & 0xFFFF})

    def put_tenths(self, table: str, address: int, value: float) -> None:
        """A signed 16-bit number of tenths."""
        self.tables[table][address] = round(value * 10) & 0xFFFF

    def tenths(self, table: str, address: int) -> float:
        word = self.tables[table][address]
        return (word - 0x10000 if word & 0x8000 else word) / 10


@dataclass
class Waves:
    """A slow random-looking function of time with a known integral: a sum of sines with seeded phases."""

    seed: str
    periods: tuple[float, ...]
    amplitudes: tuple[float, ...]
    phases: tuple[float, ...] = field(init=False)

    def __post_init__(self) -> None:
        draw = random.Random(self.seed)
        self.phases = tuple(draw.uniform(0, 2 * math.pi) for _ in self.periods)

    def at(self, t: float) -> float:
        parts = zip(self.periods, self.amplitudes, self.phases, strict=True)
        return sum(a * math.sin(2 * math.pi * t / p + phase) for p, a, phase in parts)

    def integral(self, t: float) -> float:
        """From 0 to t."""
        parts = zip(self.periods, self.amplitudes, self.phases, strict=True)
        turn = 2 * math.pi
        return sum(a * p / turn * (math.cos(phase) - math.cos(turn * t / p + phase)) for p, a, phase in parts)


class EnergyMeter(SimulatedDevice):
    """A single-phase meter with float32 input registers.

    0 voltage V, 6 current A, 12 apparent power VA, 30 power factor, 52 active power W, 70 frequency Hz,
    72 imported energy kWh; holding 28 the unit id (read only).
    """

    name = "meter"
    turnaround = 0.006

    def __init__(self, unit: int = 17, seed: int = 0, start: float | None = None) -> None:
        super().__init__(unit, seed, start)
        self._power = Waves(f"power{seed}", (7.0, 31.0, 173.0, 3600.0), (120.0, 260.0, 410.0, 700.0))
        self._voltage = Waves(f"voltage{seed}", (11.0, 97.0), (0.8, 1.9))
        self._frequency = Waves(f"frequency{seed}", (5.0, 61.0), (0.006, 0.018))
        self._energy = 4711.0 + random.Random(f"energy{seed}").random() * 1000

    def power(self, t: float) -> float:
        """Active power in W: a base load of 2.4 kW and consumers that come and go."""
        return 2400.0 + self._power.at(t)

    def energy(self, t: float) -> float:
        """Imported energy in kWh, the integral of the power."""
        return self._energy + (2400.0 * t + self._power.integral(t)) / 3.6e6

    def update(self, t: float, step: float) -> None:
        power = self.power(t)
        voltage = 230.0 + self._voltage.at(t)
        factor = 0.90 + 0.08 * power / 4000.0
        apparent = power / factor
        values = (
            (0, voltage),
            (6, apparent / voltage),
            (12, apparent),
            (30, factor),
            (52, power),
            (70, 50.0 + self._frequency.at(t)),
            (72, self.energy(t)),
        )
        for address, value in values:
            self.put_float(INPUT, address, value)
        self.tables[HOLDING][28] = self.server.unit


class AirHandlingUnit(SimulatedDevice):
    """Ventilation with heating; holding registers, temperatures in signed tenths of a degree.

    Holding 0 setpoint (10.0-30.0, writable), 1 supply, 2 extract, 3 outdoor, 4 fan speed % (writable, 0-100);
    coil 0 running (writable); discrete 0 filter alarm, 1 heating, 2 running.
    """

    name = "ahu"
    turnaround = 0.012
    lag_s = 20.0  # how fast the supply air follows its setpoint

    def __init__(self, unit: int = 1, seed: int = 0, start: float | None = None) -> None:
        super().__init__(unit, seed, start)
        self._outdoor = Waves(f"outdoor{seed}", (86400.0, 1800.0, 300.0), (4.0, 0.6, 0.2))
        self._room = Waves(f"room{seed}", (5400.0, 240.0), (0.5, 0.15))
        self._ripple = Waves(f"ripple{seed}", (9.0, 23.0), (0.12, 0.2))
        self._filter = random.Random(f"filter{seed}").uniform(40.0, 80.0)
        self.supply = 16.0
        self.put_tenths(HOLDING, 0, 19.5)
        self.tables[HOLDING][4] = 65
        self.tables[COIL][0] = 1
        self.writable = {
            (HOLDING, 0): Writable(100, 300),
            (HOLDING, 4): Writable(0, 100),
            (COIL, 0): Writable(),
        }

    def update(self, t: float, step: float) -> None:
        running = self.tables[COIL][0]
        outdoor = 5.0 + self._outdoor.at(t)
        extract = 22.0 + self._room.at(t)
        setpoint = self.tenths(HOLDING, 0)
        target = max(setpoint, outdoor) if running else extract - 2.0
        # The exact solution of a first-order lag: the same however often it is asked for.
        self.supply = target + (self.supply - target) * math.exp(-step / self.lag_s)
        self.put_tenths(HOLDING, 1, self.supply + self._ripple.at(t))
        self.put_tenths(HOLDING, 2, extract)
        self.put_tenths(HOLDING, 3, outdoor)
        # The filter clogs with the air that went through it, and is changed once an hour of simulated life.
        load = self._filter + 40.0 * (t % 3600.0) / 3600.0
        heating = running and self.supply < setpoint + 0.05 and outdoor < setpoint
        self.tables[DISCRETE].update({0: int(load > 100.0), 1: int(heating), 2: running})


class HeatPump(SimulatedDevice):
    """An air-to-water heat pump with input registers.

    Input 0 flow and 1 return temperature (tenths), 2 compressor frequency (tenths of Hz), 3 COP (hundredths),
    4-5 operating hours (u32), 6 status bits: 0 running, 1 defrosting, 2 alarm, 3 domestic hot water;
    holding 0 flow setpoint (20.0-60.0 tenths, writable).
    """

    name = "heatpump"
    turnaround = 0.009
    lag_s = 30.0
    cycle_s = 240.0  # of which the last tenth is spent defrosting

    def __init__(self, unit: int = 5, seed: int = 0, start: float | None = None) -> None:
        super().__init__(unit, seed, start)
        self._load = Waves(f"load{seed}", (45.0, 400.0), (4.0, 9.0))
        draw = random.Random(f"pump{seed}")
        self._hours = draw.randrange(3000, 70000)
        self._phase = draw.uniform(0.0, self.cycle_s)
        self.flow = 34.0
        self.put_tenths(HOLDING, 0, 38.0)
        self.writable = {(HOLDING, 0): Writable(200, 600)}

    def update(self, t: float, step: float) -> None:
        place = (t + self._phase) % self.cycle_s
        defrosting = place > 0.9 * self.cycle_s
        hot_water = place < 0.15 * self.cycle_s
        setpoint = self.tenths(HOLDING, 0) + (8.0 if hot_water else 0.0)
        target = setpoint - 6.0 if defrosting else setpoint
        self.flow = target + (self.flow - target) * math.exp(-step / self.lag_s)
        demand = 52.0 + self._load.at(t) + 4.0 * (setpoint - self.flow)
        speed = 0.0 if defrosting else min(90.0, max(20.0, demand))
        spread = 1.5 if defrosting else 2.0 + speed / 20.0
        cop = 0.0 if defrosting else 6.2 - 0.055 * self.flow - 0.008 * speed
        self.put_tenths(INPUT, 0, self.flow)
        self.put_tenths(INPUT, 1, self.flow - spread)
        self.put_tenths(INPUT, 2, speed)
        self.tables[INPUT][3] = round(100 * cop)
        self.put_u32(INPUT, 4, self._hours + int(t // 3600.0))
        self.tables[INPUT][6] = int(not defrosting) | defrosting << 1 | hot_water << 3


def demonstration(seed: int = 0) -> list[SimulatedDevice]:
    """The devices that `demo.toml` reads."""
    return [EnergyMeter(seed=seed), AirHandlingUnit(seed=seed), HeatPump(seed=seed)]
