"""What a chip's package fixes: which pins there are, what they cannot do, and where its boot ROM looks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chip:
    """Pins by GPIO number. Sources: the chips' datasheets (pin definitions), esptool's targets."""

    name: str
    image_id: int  # chip id in the extended image header
    bootloader_offset: int
    pins: frozenset[int]
    input_only: frozenset[int]
    flash: frozenset[int]  # the flash chip hangs on these
    psram: dict[str, frozenset[int]]  # by kind of PSRAM
    console: dict[str, frozenset[int]]  # by console: the REPL is reached over these
    rmii: frozenset[int]  # data lines of an RMII PHY: the chip allows no other pins; empty: no RMII
    rmii_clock: dict[str, frozenset[int]]  # by direction of the 50 MHz clock
    data_address: int  # where an application's constants are mapped
    ram_address: int  # where a bootloader's data is loaded


_ESP32 = Chip(
    name="esp32",
    image_id=0,
    bootloader_offset=0x1000,
    pins=frozenset([*range(6), *range(6, 20), 21, 22, 23, 25, 26, 27, *range(32, 40)]),
    input_only=frozenset(range(34, 40)),
    flash=frozenset(range(6, 12)),
    psram={"none": frozenset(), "quad": frozenset([16, 17])},
    console={"uart0": frozenset([1, 3])},
    rmii=frozenset([19, 21, 22, 25, 26, 27]),
    rmii_clock={"in": frozenset([0]), "out": frozenset([0, 16, 17])},
    data_address=0x3F400020,
    ram_address=0x3FFF0030,
)

_ESP32S3 = Chip(
    name="esp32s3",
    image_id=9,
    bootloader_offset=0,
    pins=frozenset([*range(22), *range(26, 49)]),
    input_only=frozenset(),
    flash=frozenset(range(26, 33)),
    psram={"none": frozenset(), "quad": frozenset(), "octal": frozenset(range(33, 38))},
    console={"uart0": frozenset([43, 44]), "usb": frozenset([19, 20])},
    rmii=frozenset(),
    rmii_clock={},
    data_address=0x3C000020,
    ram_address=0x3FCE3810,
)

CHIPS = {chip.name: chip for chip in (_ESP32, _ESP32S3)}
