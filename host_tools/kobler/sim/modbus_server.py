"""A Modbus RTU server as a careful device maker would write it (Application Protocol V1.1b3,
Serial Line V1.02).

Sans-IO: a frame in, an answer or silence out. It is silent on wrong CRCs, other unit ids and broadcasts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from ..rtu_frame import crc16, sealed

ILLEGAL_FUNCTION = 1
ILLEGAL_ADDRESS = 2
ILLEGAL_VALUE = 3
DEVICE_FAILURE = 4

COIL, DISCRETE, HOLDING, INPUT = "coil", "discrete", "holding", "input"


class ModbusFault(Exception):
    """The server answers with this exception code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exception {code}")
        self.code = code


class Model(Protocol):
    """The device behind the server. Addresses are protocol addresses, from 0; values are words or bits."""

    identity: dict[int, bytes]  # objects of FC 43/14: 0 vendor, 1 product code, 2 revision, 3.. optional

    def refresh(self, t: float) -> None:
        """Bring all values up to time t (seconds)."""

    def read(self, table: str, address: int, count: int) -> list[int]:
        """The values, or ModbusFault when one of them does not exist."""

    def check(self, table: str, address: int, values: list[int]) -> None:
        """ModbusFault unless all of this could be written."""

    def write(self, table: str, address: int, values: list[int]) -> None:
        """Write what `check` has passed."""


class ModbusServer:
    """One unit on the line."""

    def __init__(self, unit: int, model: Model) -> None:
        self.unit = unit
        self.model = model
        self.requests = 0
        self.exceptions = 0
        self.bad_frames = 0  # wrong CRC or impossible length
        self.others = 0  # frames for other units, or from them
        self._functions: dict[int, Callable[[bytes], bytes]] = {
            1: lambda d: self._read_bits(COIL, d),
            2: lambda d: self._read_bits(DISCRETE, d),
            3: lambda d: self._read_registers(HOLDING, d),
            4: lambda d: self._read_registers(INPUT, d),
            5: self._write_coil,
            6: self._write_register,
            15: self._write_coils,
            16: self._write_registers,
            22: self._mask_write,
            23: self._read_write,
            43: self._identify,
        }

    def answer(self, frame: bytes, t: float) -> bytes | None:
        """The answer to a frame that ended at t (seconds), or None where the standard asks for silence."""
        if not 4 <= len(frame) <= 256 or crc16(frame) != 0:
            self.bad_frames += 1
            return None
        unit, function = frame[0], frame[1]
        if unit not in (0, self.unit):
            self.others += 1
            return None
        if unit == 0 and function not in (5, 6, 15, 16, 22):
            return None  # only writes can be broadcast
        self.requests += 1
        self.model.refresh(t)
        try:
            handler = self._functions.get(function)
            if handler is None:
                raise ModbusFault(ILLEGAL_FUNCTION)
            body = bytes((self.unit, function)) + handler(frame[2:-2])
        except ModbusFault as fault:
            self.exceptions += 1
            body = bytes((self.unit, function & 0x7F | 0x80, fault.code))
        return sealed(body) if unit else None

    # Reading

    def _read_bits(self, table: str, data: bytes) -> bytes:
        address, count = _span(data, 2000)
        bits = self.model.read(table, address, count)
        packed = sum((1 << i) for i, bit in enumerate(bits) if bit)
        size = (count + 7) // 8
        return bytes((size,)) + packed.to_bytes(size, "little")

    def _read_registers(self, table: str, data: bytes) -> bytes:
        address, count = _span(data, 125)
        return self._registers(self.model.read(table, address, count))

    @staticmethod
    def _registers(values: list[int]) -> bytes:
        return bytes((2 * len(values),)) + struct.pack(f">{len(values)}H", *values)

    # Writing

    def _set(self, table: str, address: int, values: list[int]) -> None:
        if address + len(values) > 0x10000:
            raise ModbusFault(ILLEGAL_ADDRESS)
        self.model.check(table, address, values)
        self.model.write(table, address, values)

    def _write_coil(self, data: bytes) -> bytes:
        address, value = _words(data, 2)
        if value not in (0x0000, 0xFF00):
            raise ModbusFault(ILLEGAL_VALUE)
        self._set(COIL, address, [int(value != 0)])
        return data

    def _write_register(self, data: bytes) -> bytes:
        address, value = _words(data, 2)
        self._set(HOLDING, address, [value])
        return data

    def _write_coils(self, data: bytes) -> bytes:
        address, count = _span(data[:4], 1968)
        size = (count + 7) // 8
        if len(data) != 5 + size or data[4] != size:
            raise ModbusFault(ILLEGAL_VALUE)
        packed = int.from_bytes(data[5:], "little")
        self._set(COIL, address, [packed >> i & 1 for i in range(count)])
        return data[:4]

    def _write_registers(self, data: bytes) -> bytes:
        address, count = _span(data[:4], 123)
        self._set(HOLDING, address, _counted(data[4:], count))
        return data[:4]

    def _mask_write(self, data: bytes) -> bytes:
        address, keep, set_ = _words(data, 3)
        value = self.model.read(HOLDING, address, 1)[0]
        self._set(HOLDING, address, [value & keep | set_ & ~keep & 0xFFFF])
        return data

    def _read_write(self, data: bytes) -> bytes:
        address, count = _span(data[:4], 125)
        write_address, write_count = _span(data[4:8], 121)
        values = _counted(data[8:], write_count)
        self.model.read(HOLDING, address, count)  # nothing is written if the read is impossible
        self._set(HOLDING, write_address, values)
        return self._registers(self.model.read(HOLDING, address, count))

    # Identification

    def _identify(self, data: bytes) -> bytes:
        """FC 43 / 14, read device identification: conformity 0x82 (regular, stream and individual)."""
        if not data or data[0] != 14:
            raise ModbusFault(ILLEGAL_FUNCTION)
        if len(data) != 3 or not 1 <= data[1] <= 4:
            raise ModbusFault(ILLEGAL_VALUE)
        code, first = data[1], data[2]
        objects = self.model.identity
        if code == 4:
            if first not in objects:
                raise ModbusFault(ILLEGAL_ADDRESS)
            chosen = [first]
        else:
            top = {1: 0x02, 2: 0x7F, 3: 0xFF}[code]
            # The stream starts over when the object asked for is not there (6.21 of the standard).
            begin = first if first in objects and first <= top else 0
            chosen = [i for i in sorted(objects) if begin <= i <= top]
        body = b""
        sent = 0
        for number in chosen:
            text = objects[number]
            if 8 + len(body) + 2 + len(text) > 253:
                break
            body += bytes((number, len(text))) + text
            sent += 1
        more = sent < len(chosen)
        return bytes((14, code, 0x82, 0xFF if more else 0, chosen[sent] if more else 0, sent)) + body


def _words(data: bytes, count: int) -> list[int]:
    if len(data) != 2 * count:
        raise ModbusFault(ILLEGAL_VALUE)
    return list(struct.unpack(f">{count}H", data))


def _span(data: bytes, most: int) -> tuple[int, int]:
    """Address and count; the count is checked before the address, as the standard's state diagrams do."""
    address, count = _words(data, 2)
    if not 1 <= count <= most:
        raise ModbusFault(ILLEGAL_VALUE)
    if address + count > 0x10000:
        raise ModbusFault(ILLEGAL_ADDRESS)
    return address, count


def _counted(data: bytes, count: int) -> list[int]:
    """Register values behind their byte count."""
    if len(data) != 1 + 2 * count or data[0] != 2 * count:
        raise ModbusFault(ILLEGAL_VALUE)
    return _words(data[1:], count)
