"""The boot ROM's serial loader, and the stub flasher that esptool uploads into it.

Commands and answers are those of Espressif's serial protocol as the unmodified esptool 5 speaks it
(esptool/loader.py). Code in RAM is not executed: an uploaded program that carries the stub's greeting is
taken for the stub, any other program is silence, as from a chip that has left the loader.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Protocol

from kobler.sim import slip
from kobler.sim.flash import SECTOR, Flash, FlashError
from kobler.sim.rom_chips import Chip
from kobler.sim.rom_flash import (
    BAD_CHECKSUM,
    FAILED,
    INVALID,
    WRITE_ERROR,
    Download,
    LoaderError,
    ReadOut,
    md5,
)
from kobler.sim.rom_registers import Registers

FLASH_BEGIN, FLASH_DATA, FLASH_END, MEM_BEGIN, MEM_END, MEM_DATA, SYNC = range(0x02, 0x09)
WRITE_REG, READ_REG, SPI_SET_PARAMS = range(0x09, 0x0C)
SPI_ATTACH, READ_FLASH_SLOW, CHANGE_BAUDRATE = range(0x0D, 0x10)
DEFL_BEGIN, DEFL_DATA, DEFL_END, SPI_FLASH_MD5, GET_SECURITY_INFO = range(0x10, 0x15)
ERASE_FLASH, ERASE_REGION, READ_FLASH, RUN_USER_CODE = range(0xD0, 0xD4)

_ROM_ONLY = {READ_FLASH_SLOW}
_STUB_ONLY = {ERASE_FLASH, ERASE_REGION, READ_FLASH, RUN_USER_CODE}
_CHECKSUMMED = {MEM_DATA, FLASH_DATA, DEFL_DATA}
_SYNC = b"\x07\x07\x12\x20" + 32 * b"\x55"
_GREETING = b"OHAI"
_MAX_RAM = 0x100000

# An answer: the value word of the header, and data before the status bytes.
Answer = tuple[int, bytes]


class Wire(Protocol):
    """What the loader needs of the board around it."""

    def send(self, data: bytes) -> None: ...

    def set_baud(self, baud: int) -> None: ...

    def restart(self, cause: str) -> None:
        """`software`: the straps stay latched, so back into the loader; `rtc-watchdog`: they are read anew;
        `run`: no reset, the program in flash is started."""


class Loader:
    def __init__(self, chip: Chip, mac: bytes, flash: Flash, wire: Wire) -> None:
        self.chip = chip
        self._flash = flash
        self._wire = wire
        self._registers = Registers(chip, mac, flash, lambda: wire.restart("rtc-watchdog"))
        self._handlers: dict[int, Callable[[bytes], Answer]] = {
            FLASH_BEGIN: lambda data: self._begin(data, compressed=False),
            FLASH_DATA: self._flash_data,
            FLASH_END: self._flash_end,
            MEM_BEGIN: self._mem_begin,
            MEM_END: self._mem_end,
            MEM_DATA: self._mem_data,
            WRITE_REG: self._write_reg,
            READ_REG: lambda data: (self._registers.read(_words(data, 1)[0]), b""),
            SPI_SET_PARAMS: self._accept,
            SPI_ATTACH: self._accept,
            READ_FLASH_SLOW: self._read_slow,
            CHANGE_BAUDRATE: self._change_baud,
            DEFL_BEGIN: lambda data: self._begin(data, compressed=True),
            DEFL_DATA: self._defl_data,
            DEFL_END: self._flash_end,
            SPI_FLASH_MD5: self._md5,
            GET_SECURITY_INFO: self._security_info,
            ERASE_FLASH: lambda _: self._erase(0, self._flash.size),
            ERASE_REGION: lambda data: self._erase(*_words(data, 2)),
            READ_FLASH: self._read_flash,
            RUN_USER_CODE: lambda _: self._leave("run"),
        }
        self.reset()

    def reset(self) -> None:
        """The chip has come up in download mode."""
        self.stub = False
        self.synced = False
        self._running_program = False
        self._ram: dict[int, bytearray] = {}
        self._segment = 0
        self._reading: ReadOut | None = None
        self._after: Callable[[], None] | None = None
        self._registers.reset()
        self._download = Download(self._flash, stub=False)
        self._decoder = slip.Decoder()

    def feed(self, data: bytes) -> None:
        """Bytes from the host. Lets PowerCut through: the board then goes dark in the middle of a command."""
        for packet in self._decoder.feed(data):
            if self._reading is not None:
                self._acknowledged(packet)
            elif not self._running_program:
                self._packet(packet)

    def set_baud(self, baud: int) -> None:
        """The ROM measures the host's rate when it synchronises; the UART's divider register shows it."""
        self._registers.baud = baud

    def _packet(self, packet: bytes) -> None:
        if len(packet) < 8 or packet[0] != 0:
            return
        _, op, size, checksum = struct.unpack_from("<BBHI", packet)
        data = packet[8:]
        if op == SYNC:
            self._sync(data)
            return
        handler = self._handlers.get(op)
        if handler is None or op in (_ROM_ONLY if self.stub else _STUB_ONLY) or self._unsupported(op):
            self._refuse(op)
            return
        try:
            if size != len(data):
                raise LoaderError(INVALID, "the length does not match")
            if op in _CHECKSUMMED and _checksum(data[16:]) != checksum:
                raise LoaderError(BAD_CHECKSUM, "the checksum does not match")
            value, answer = handler(data)
        except LoaderError as error:
            self._answer(op, 0, b"", error.code)
        except FlashError:
            self._answer(op, 0, b"", WRITE_ERROR)
        else:
            self._answer(op, value, answer, 0)
        after, self._after = self._after, None
        if after is not None:
            after()

    def _answer(self, op: int, value: int, data: bytes, code: int) -> None:
        # A failed command answers with the status alone; the ROM's status has two reserved bytes.
        status = bytes((1 if code else 0, code)) + (b"" if self.stub else b"\0\0")
        body = (b"" if code else data) + status
        self._wire.send(slip.encode(struct.pack("<BBHI", 1, op, len(body), value) + body))

    def _unsupported(self, op: int) -> bool:
        return op == GET_SECURITY_INFO and not self.chip.security_info

    def _refuse(self, op: int) -> None:
        if self.stub:
            self._answer(op, 0, b"", 0xFF)
            return
        # The ROM does not name the command it did not know, and says so eight times.
        for _ in range(8):
            self._answer(0, 0, b"", INVALID)

    def _sync(self, data: bytes) -> None:
        if data != _SYNC:
            self._refuse(SYNC)
            return
        self.synced = True
        for _ in range(8):
            self._answer(SYNC, 0 if self.stub else 0x20120707, b"", 0)

    # - memory and registers

    def _mem_begin(self, data: bytes) -> Answer:
        size, _, _, offset = _words(data, 4)
        if size > _MAX_RAM:
            raise LoaderError(FAILED, "larger than the memory")
        self._segment = offset
        self._ram[offset] = bytearray()
        return 0, b""

    def _mem_data(self, data: bytes) -> Answer:
        size, _ = _words(data, 2)
        segment = self._ram.get(self._segment)
        if segment is None or size != len(data) - 16 or len(segment) + size > _MAX_RAM:
            raise LoaderError(FAILED, "no such download into memory")
        segment += data[16:]
        return 0, b""

    def _mem_end(self, data: bytes) -> Answer:
        _, entry = _words(data, 2)
        if entry:
            self._after = lambda: self._execute(entry)
        return 0, b""

    def _execute(self, entry: int) -> None:
        program = [part for start, part in self._ram.items() if start <= entry < start + len(part)]
        if program and any(_GREETING in part for part in self._ram.values()):
            self.stub = True
            self._download = Download(self._flash, stub=True)
            self._wire.send(slip.encode(_GREETING))
        else:
            self._running_program = True

    def _write_reg(self, data: bytes) -> Answer:
        if not data or len(data) % 16:
            raise LoaderError(INVALID, "not address, value, mask, delay")
        for address, value, mask, _ in struct.iter_unpack("<IIII", data):
            self._registers.write(address, value, mask)
        return 0, b""

    def _change_baud(self, data: bytes) -> Answer:
        baud = _words(data, 1)[0]
        if not baud:
            raise LoaderError(FAILED, "no baud rate")

        def change() -> None:
            # The answer leaves at the old rate.
            self._registers.baud = baud
            self._wire.set_baud(baud)

        self._after = change
        return 0, b""

    def _security_info(self, data: bytes) -> Answer:
        return 0, struct.pack("<I8BII", 0, 0, *([0] * 7), self.chip.image_id, 0)

    # - flash

    def _accept(self, data: bytes) -> Answer:
        """Pins and geometry: the flash is wired and sized as it is."""
        _words(data, 1)
        return 0, b""

    def _begin(self, data: bytes, compressed: bool) -> Answer:
        size, _, _, offset = _words(data, 4)
        self._download.begin(size, offset, compressed)
        return 0, b""

    def _flash_data(self, data: bytes) -> Answer:
        self._download.data(_block(data))
        return 0, b""

    def _defl_data(self, data: bytes) -> Answer:
        self._download.deflated(_block(data))
        return 0, b""

    def _flash_end(self, data: bytes) -> Answer:
        stay = _words(data, 1)[0]
        self._download.end()
        if not stay:
            self._after = lambda: self._wire.restart("software")
        elif not self.stub:
            # The stub stays where it is; the ROM leaves its loader and runs what is in flash.
            self._after = lambda: self._wire.restart("run")
        return 0, b""

    def _read_slow(self, data: bytes) -> Answer:
        offset, length = _words(data, 2)
        if length > 64:
            raise LoaderError(FAILED, "more than 64 bytes")
        return 0, self._flash.read(offset, length).ljust(64, b"\0")

    def _read_flash(self, data: bytes) -> Answer:
        offset, length, block, ahead = _words(data, 4)
        reading = ReadOut(self._flash, offset, length, block, ahead)

        def start() -> None:
            self._reading = reading
            self._send_read()

        self._after = start
        return 0, b""

    def _acknowledged(self, packet: bytes) -> None:
        assert self._reading is not None
        if len(packet) == 4:
            self._reading.acknowledge(int.from_bytes(packet, "little"))
            self._send_read()
        elif len(packet) >= 8 and packet[0] == 0:
            # The host gave the transfer up and asks for something new.
            self._reading = None
            self._packet(packet)

    def _send_read(self) -> None:
        assert self._reading is not None
        for packet in self._reading.packets():
            self._wire.send(slip.encode(packet))
        if self._reading.done:
            self._reading = None

    def _md5(self, data: bytes) -> Answer:
        offset, length, _, _ = _words(data, 4)
        digest = md5(self._flash, offset, length)
        return 0, digest if self.stub else digest.hex().encode()

    def _erase(self, offset: int, length: int) -> Answer:
        if offset % SECTOR or length % SECTOR:
            raise LoaderError(FAILED, "not whole sectors")
        self._flash.erase(offset, length)
        return 0, b""

    def _leave(self, cause: str) -> Answer:
        self._after = lambda: self._wire.restart(cause)
        return 0, b""


def _words(data: bytes, count: int) -> tuple[int, ...]:
    """The first `count` words; a command may be longer than what is used of it."""
    if len(data) < 4 * count:
        raise LoaderError(INVALID, "the command is too short")
    return struct.unpack_from(f"<{count}I", data)


def _block(data: bytes) -> bytes:
    size = _words(data, 4)[0]
    if size != len(data) - 16:
        raise LoaderError(INVALID, "the block's length does not match")
    return data[16:]


def _checksum(data: bytes) -> int:
    """All bytes XORed, starting from 0xEF. Folded in halves: a loop over 16 KB takes a millisecond."""
    value = int.from_bytes(data, "little")
    bits = 8
    while bits < 8 * len(data):
        bits *= 2
    while bits > 8:
        bits //= 2
        value = value >> bits ^ value & (1 << bits) - 1
    return value ^ 0xEF
