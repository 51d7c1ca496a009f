"""What the chips differ in: register addresses and contents, ROM messages, where the bootloader lies.

Addresses and fields are those that esptool reads (esptool/targets/esp32.py, esp32s3.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kobler.chips import CHIPS
from kobler.errors import KoblerError


@dataclass(frozen=True)
class Spi:
    """Offsets of the flash SPI controller's registers from its base."""

    base: int
    usr: int
    usr2: int
    miso_len: int
    w0: int
    address_msb: bool


@dataclass(frozen=True)
class Chip:
    name: str
    image_id: int
    bootloader_offset: int
    spi: Spi
    uart_clkdiv: int
    efuses: Callable[[bytes], dict[int, int]]
    security_info: bool
    watchdog: int | None
    banner: str
    download: str
    fast_boot: str
    causes: dict[str, str]


def _esp32_registers(mac: bytes) -> dict[int, int]:
    """A D0WD-V3, revision 3.1, 40 MHz crystal, external flash on the default pins."""
    efuse = 0x3FF5A000
    return {
        0x40001000: 0x00F01D83,
        efuse + 0x04: int.from_bytes(mac[2:], "big"),
        efuse + 0x08: _crc8(mac) << 16 | int.from_bytes(mac[:2], "big"),
        efuse + 0x0C: 1 << 15 | 1 << 13 | 1 << 9,
        efuse + 0x10: 5 << 8 | 128,
        efuse + 0x14: 1 << 24 | 1 << 20,
        0x3FF6607C: 1 << 31 | 0x16042000,
        0x3FF5F06C: 800 << 7,
        0x3FF44038: 0x13,
    }


def _esp32s3_registers(mac: bytes) -> dict[int, int]:
    """Revision 0.2 with 8 MB PSRAM in the package, flash outside (a WROOM-1 N16R8)."""
    efuse = 0x60007000
    return {
        0x40001000: 0x00000009,
        efuse + 0x44: int.from_bytes(mac[2:], "big"),
        efuse + 0x48: int.from_bytes(mac[:2], "big"),
        efuse + 0x50: 2 << 18 | 3 << 24,
        efuse + 0x54: 1 << 7 | 1 << 3,
        efuse + 0x6C: 1,
        0x60004038: 0x08,
    }


def _crc8(mac: bytes) -> int:
    """The MAC's check byte in the eFuses: Dallas/Maxim CRC-8, reflected polynomial 0x8C."""
    crc = 0
    for byte in mac:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8C if crc & 1 else 0)
    return crc


ESP32 = Chip(
    name="esp32",
    image_id=CHIPS["esp32"].image_id,
    bootloader_offset=CHIPS["esp32"].bootloader_offset,
    spi=Spi(0x3FF42000, usr=0x1C, usr2=0x24, miso_len=0x2C, w0=0x80, address_msb=True),
    uart_clkdiv=0x3FF40014,
    efuses=_esp32_registers,
    security_info=False,
    watchdog=None,
    banner="ets Jul 29 2019 12:21:46\r\n\r\n",
    download="boot:0x3 (DOWNLOAD_BOOT(UART0/UART1/SDIO_REI_REO_V2))",
    fast_boot="boot:0x13 (SPI_FAST_FLASH_BOOT)",
    causes={
        "power": "rst:0x1 (POWERON_RESET)",
        "software": "rst:0xc (SW_CPU_RESET)",
        "deep-sleep": "rst:0x5 (DEEPSLEEP_RESET)",
        "rtc-watchdog": "rst:0x10 (RTCWDT_RTC_RESET)",
    },
)

ESP32S3 = Chip(
    name="esp32s3",
    image_id=CHIPS["esp32s3"].image_id,
    bootloader_offset=CHIPS["esp32s3"].bootloader_offset,
    spi=Spi(0x60002000, usr=0x18, usr2=0x20, miso_len=0x28, w0=0x58, address_msb=False),
    uart_clkdiv=0x60000014,
    efuses=_esp32s3_registers,
    security_info=True,
    watchdog=0x60008098,
    banner="ESP-ROM:esp32s3-20210327\r\nBuild:Mar 27 2021\r\n",
    download="boot:0x0 (DOWNLOAD(USB/UART0))",
    fast_boot="boot:0x8 (SPI_FAST_FLASH_BOOT)",
    causes={
        "power": "rst:0x1 (POWERON)",
        "software": "rst:0xc (RTC_SW_CPU_RST)",
        "deep-sleep": "rst:0x5 (DSLEEP)",
        "rtc-watchdog": "rst:0x10 (RTCWDT_RTC_RST)",
    },
)

_ROMS = {chip.name: chip for chip in (ESP32, ESP32S3)}


def chip_named(name: str) -> Chip:
    try:
        return _ROMS[name]
    except KeyError:
        raise KoblerError(f"chip {name!r} cannot be simulated; choose {' or '.join(_ROMS)}") from None
