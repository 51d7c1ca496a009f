"""Modbus requests and their answers (Modbus Application Protocol V1.1b3), without any transport.

Written apart from the firmware's: what a coupler is checked with should not share its mistakes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from ..config.schedule import FUNCTIONS
from ..config.wire import data_bytes
from ..errors import UsageError

_TABLES = {fc: table for table, fc in FUNCTIONS.items()}
_COIL, _REGISTER, _COILS, _REGISTERS, _MASK, IDENTIFY = 5, 6, 15, 16, 22, 43
_WRITES = {_COIL: "coil", _REGISTER: "holding", _COILS: "coil", _REGISTERS: "holding", _MASK: "holding"}
ECHOED = (_COIL, _REGISTER, _MASK)  # their answers are the requests once more
_DEVICE_IDENTIFICATION = 14
_BASIC = 1
_MOST_READ = {"coil": 2000, "discrete": 2000, "holding": 125, "input": 125}
_MOST_WRITTEN = {"coil": 1968, "holding": 123}
_EXCEPTIONS = {
    1: "illegal function: the device does not have it",
    2: "illegal data address: the device has nothing there",
    3: "illegal data value: the device does not accept it",
    4: "device failure",
    5: "acknowledge: the device needs longer for it",
    6: "device busy: ask again later",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target did not respond",
}


def read(table: str, address: int, count: int) -> bytes:
    """The request that reads so many bits or registers. UsageError."""
    _check(table, address, count, _MOST_READ, "read")
    return struct.pack(">BHH", FUNCTIONS[table], address, count)


def write_coils(address: int, bits: Sequence[bool], multiple: bool = False) -> bytes:
    """The request that sets coils: function 5 for one of them, unless `multiple`, else 15. UsageError."""
    _check("coil", address, len(bits), _MOST_WRITTEN, "written")
    if len(bits) == 1 and not multiple:
        return struct.pack(">BHH", _COIL, address, 0xFF00 if bits[0] else 0)
    packed = sum(1 << i for i, bit in enumerate(bits) if bit).to_bytes((len(bits) + 7) // 8, "little")
    return struct.pack(">BHHB", _COILS, address, len(bits), len(packed)) + packed


def write_registers(address: int, words: Sequence[int], multiple: bool = False) -> bytes:
    """The request that sets holding registers: function 6 for one of them, unless `multiple`, else 16. UsageError."""
    _check("holding", address, len(words), _MOST_WRITTEN, "written")
    if len(words) == 1 and not multiple:
        return struct.pack(">BHH", _REGISTER, address, words[0])
    return struct.pack(f">BHHB{len(words)}H", _REGISTERS, address, len(words), 2 * len(words), *words)


def write_bits(address: int, mask: int, bits: int) -> bytes:
    """The request that sets the bits of `mask` in one holding register, function 22."""
    _check("holding", address, 1, _MOST_WRITTEN, "written")
    return struct.pack(">BHHH", _MASK, address, mask ^ 0xFFFF, bits & mask)


def identify(first: int = 0) -> bytes:
    """The request for a device's vendor, product and revision, from object `first` on."""
    return bytes((IDENTIFY, _DEVICE_IDENTIFICATION, _BASIC, first))


def _check(table: str, address: int, count: int, most: dict[str, int], what: str) -> None:
    if not 1 <= count <= most[table]:
        raise UsageError(f"{count} is no number of {_things(table, 2)} that can be {what} at once: 1 to {most[table]}")
    if not 0 <= address <= 65536 - count:
        raise UsageError(f"{place(table, address, count)}: addresses are 0 to 65535")


def answer_size(request: bytes, answer: bytes | bytearray) -> int | None:
    """How long the PDU is that begins like this: None if too little of it is there, 0 if it does not answer."""
    if not answer:
        return None
    fc = request[0]
    if answer[0] == fc | 0x80:
        return 2
    if fc == IDENTIFY:
        return _identity_size(request, answer)
    if fc in _TABLES:
        head = bytes((fc, data_bytes(fc, struct.unpack_from(">H", request, 3)[0])))
        size = 2 + head[1]
    else:
        size = 7 if fc == _MASK else 5
        head = request[:size]
    return size if answer[: len(head)] == head[: len(answer)] else 0


def _identity_size(request: bytes, answer: bytes | bytearray) -> int | None:
    if answer[:3] != request[: min(3, len(answer))]:
        return 0
    at = 7
    if len(answer) < at:
        return None
    for _ in range(answer[6]):
        if len(answer) < at + 2:
            return None
        at += 2 + answer[at + 1]
    return at


def bits_of(answer: bytes, count: int) -> list[int]:
    """The bits in the answer to a read of coils or discrete inputs."""
    return [answer[2 + i // 8] >> i % 8 & 1 for i in range(count)]


def words_of(answer: bytes) -> list[int]:
    """The registers in the answer to a read."""
    return list(struct.unpack_from(f">{answer[1] // 2}H", answer, 2))


def objects_of(answer: bytes) -> tuple[dict[int, str], int | None]:
    """The objects of an identification, and the one to go on with if there are more."""
    found, at = {}, 7
    for _ in range(answer[6]):
        raw = answer[at + 2 : at + 2 + answer[at + 1]]
        text = "".join(chr(c) if 32 <= c < 127 or c >= 160 else "?" for c in raw.rstrip(b"\0"))
        found[answer[at]] = text.strip()
        at += 2 + answer[at + 1]
    return found, answer[5] if answer[4] == 0xFF else None


def exception(code: int) -> str:
    """An exception's number and name."""
    return f"exception {code} ({_EXCEPTIONS.get(code, 'unknown')})"


def place(table: str, address: int, count: int) -> str:
    """Such as `input registers 52-53`."""
    return f"{_things(table, count)} {address}" + (f"-{address + count - 1}" if count > 1 else "")


def where(unit: int, request: bytes) -> str:
    """The unit, and what a request to it is about."""
    fc = request[0]
    if fc == IDENTIFY:
        return f"unit {unit}, identification"
    address, count = struct.unpack_from(">HH", request, 1)
    table = _TABLES.get(fc) or _WRITES[fc]
    return f"unit {unit}, {place(table, address, 1 if fc in ECHOED else count)}"


def _things(table: str, count: int) -> str:
    name = {"coil": "coil", "discrete": "discrete input"}.get(table, f"{table} register")
    return name + ("s" if count != 1 else "")
