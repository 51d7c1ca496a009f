"""The chip's address space as the serial protocol sees it: memory, eFuses and the flash's SPI controller."""

from __future__ import annotations

import struct
from collections.abc import Callable

from kobler.sim.flash import Flash
from kobler.sim.rom_chips import Chip

_CRYSTAL_HZ = 40_000_000
_USR_START = 1 << 18
_USR_MISO = 1 << 28
_WATCHDOG_ENABLE = 1 << 31
_WINBOND = 0xEF


class Registers:
    """`watchdog` is called when the host starts the RTC watchdog to restart the chip."""

    def __init__(self, chip: Chip, mac: bytes, flash: Flash, watchdog: Callable[[], None]) -> None:
        self._chip = chip
        self._flash = flash
        self._watchdog = watchdog
        self._fixed = chip.efuses(mac)
        self._words: dict[int, int] = {}
        self._status = bytearray(3)
        self.baud = 115200

    def reset(self) -> None:
        self._words.clear()

    def read(self, address: int) -> int:
        if address in self._fixed:
            return self._fixed[address]
        if address == self._chip.uart_clkdiv:
            return _CRYSTAL_HZ // self.baud
        return self._words.get(address, 0)

    def write(self, address: int, value: int, mask: int) -> None:
        self._words[address] = self.read(address) & ~mask | value & mask
        if address == self._chip.spi.base and value & _USR_START:
            self._run_spi()
        elif address == self._chip.watchdog and value & _WATCHDOG_ENABLE:
            self._watchdog()

    def _run_spi(self) -> None:
        spi = self._chip.spi
        base = spi.base
        command = self.read(base + spi.usr2) & 0xFF
        address = self.read(base + 4)
        if spi.address_msb:
            address >>= 8
        sent = struct.pack("<I", self.read(base + spi.w0))
        answer = self._flash_command(command, address & 0xFFFFFF, sent)
        if self.read(base + spi.usr) & _USR_MISO:
            bits = self.read(base + spi.miso_len) + 1
            word = int.from_bytes(answer[:4].ljust(4, b"\xff"), "little")
            self._words[base + spi.w0] = word & (1 << bits) - 1
        # The start bit clears itself when the transfer is done.
        self._words[base] = self._words[base] & ~_USR_START

    def _flash_command(self, command: int, address: int, sent: bytes) -> bytes:
        """A Winbond-like chip's JEDEC ID, SFDP and status registers; esptool programs by other commands."""
        if command == 0x9F:
            return bytes((_WINBOND, 0x40, self._flash.size.bit_length() - 1))
        if command == 0x5A:
            return _sfdp(self._flash.size)[address : address + 4]
        if command in (0x05, 0x35, 0x15):
            return bytes((self._status[(0x05, 0x35, 0x15).index(command)],))
        if command in (0x01, 0x31, 0x11):
            self._status[(0x01, 0x31, 0x11).index(command)] = sent[0] & 0xFC
        return b""


def _sfdp(size: int) -> bytes:
    """JESD216: header, the basic table's and the vendor's, and the first words of the basic table."""
    header = b"SFDP" + bytes((5, 1, 1, 0xFF))
    basic = bytes((0x00, 5, 1, 4, 0x30, 0, 0, 0xFF))
    vendor = bytes((_WINBOND, 0, 1, 0, 0, 0, 0, 0xFF))
    words = struct.pack("<IIII", 0xFFF920E5, size * 8 - 1, 0x6B08EB44, 0xBB423B08)
    return (header + basic + vendor).ljust(0x30, b"\xff") + words
