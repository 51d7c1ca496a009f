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
from kobler.sim.rom_flash import Download, ReadOut, md5
from kobler.sim.rom_protocol import (
    BAD_CHECKSUM,
    FAILED,
    INVALID,
    WRITE_ERROR,
    LoaderError,
    Op,
    payload,
    words,
    xor_all,
)
from kobler.sim.rom_registers import Registers

_ROM_ONLY = {Op.READ_FLASH_SLOW}
_STUB_ONLY = {Op.ERASE_FLASH, Op.ERASE_REGION, Op.READ_FLASH, Op.RUN_USER_CODE}
_CHECKSUMMED = {Op.MEM_DATA, Op.FLASH_DATA, Op.DEFL_DATA}
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
            Op.FLASH_BEGIN: lambda data: self._begin(data, compressed=False),
            Op.FLASH_DATA: self._flash_data,
            Op.FLASH_END: self._flash_end,
            Op.MEM_BEGIN: self._mem_begin,
            Op.MEM_END: self._mem_end,
            Op.MEM_DATA: self._mem_data,
            Op.WRITE_REG: self._write_reg,
            Op.READ_REG: lambda data: (self._registers.read(words(data, 1)[0]), b""),
            Op.SPI_SET_PARAMS: self._accept,
            Op.SPI_ATTACH: self._accept,
            Op.READ_FLASH_SLOW: self._read_slow,
            Op.CHANGE_BAUDRATE: self._change_baud,
            Op.DEFL_BEGIN: lambda data: self._begin(data, compressed=True),
            Op.DEFL_DATA: self._defl_data,
            Op.DEFL_END: self._flash_end,
            Op.SPI_FLASH_MD5: self._md5,
            Op.GET_SECURITY_INFO: self._security_info,
            Op.ERASE_FLASH: lambda _: self._erase(0, self._flash.size),
            Op.ERASE_REGION: lambda data: self._erase(*words(data, 2)),
            Op.READ_FLASH: self._read_flash,
            Op.RUN_USER_CODE: lambda _: self._leave("run"),
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
        if op == Op.SYNC:
            self._sync(data)
            return
        handler = self._handlers.get(op)
        if handler is None or op in (_ROM_ONLY if self.stub else _STUB_ONLY) or self._unsupported(op):
            self._refuse(op)
            return
        try:
            if size != len(data):
                raise LoaderError(INVALID, "the length does not match")
            if op in _CHECKSUMMED and xor_all(data[16:]) != checksum:
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
        return op == Op.GET_SECURITY_INFO and not self.chip.security_info

    def _refuse(self, op: int) -> None:
        if self.stub:
            self._answer(op, 0, b"", 0xFF)
            return
        # The ROM does not name the command it did not know, and says so eight times.
        for _ in range(8):
            self._answer(0, 0, b"", INVALID)

    def _sync(self, data: bytes) -> None:
        if data != _SYNC:
            self._refuse(Op.SYNC)
            return
        self.synced = True
        for _ in range(8):
            self._answer(Op.SYNC, 0 if self.stub else 0x20120707, b"", 0)

    # - memory and registers

    def _mem_begin(self, data: bytes) -> Answer:
        size, _, _, offset = words(data, 4)
        if size > _MAX_RAM:
            raise LoaderError(FAILED, "larger than the memory")
        self._segment = offset
        self._ram[offset] = bytearray()
        return 0, b""

    def _mem_data(self, data: bytes) -> Answer:
        size, _ = words(data, 2)
        segment = self._ram.get(self._segment)
        if segment is None or size != len(data) - 16 or len(segment) + size > _MAX_RAM:
            raise LoaderError(FAILED, "no such download into memory")
        segment += data[16:]
        return 0, b""

    def _mem_end(self, data: bytes) -> Answer:
        _, entry = words(data, 2)
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
        baud = words(data, 1)[0]
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
        words(data, 1)
        return 0, b""

    def _begin(self, data: bytes, compressed: bool) -> Answer:
        size, _, _, offset = words(data, 4)
        self._download.begin(size, offset, compressed)
        return 0, b""

    def _flash_data(self, data: bytes) -> Answer:
        self._download.data(payload(data))
        return 0, b""

    def _defl_data(self, data: bytes) -> Answer:
        self._download.deflated(payload(data))
        return 0, b""

    def _flash_end(self, data: bytes) -> Answer:
        stay = words(data, 1)[0]
        self._download.end()
        if not stay:
            self._after = lambda: self._wire.restart("software")
        elif not self.stub:
            # The stub stays where it is; the ROM leaves its loader and runs what is in flash.
            self._after = lambda: self._wire.restart("run")
        return 0, b""

    def _read_slow(self, data: bytes) -> Answer:
        offset, length = words(data, 2)
        if length > 64:
            raise LoaderError(FAILED, "more than 64 bytes")
        return 0, self._flash.read(offset, length).ljust(64, b"\0")

    def _read_flash(self, data: bytes) -> Answer:
        offset, length, block, ahead = words(data, 4)
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
        offset, length, _, _ = words(data, 4)
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
