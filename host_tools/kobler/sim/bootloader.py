"""What boot ROM and second-stage bootloader (ESP-IDF) check and print before the program starts."""

from __future__ import annotations

from dataclasses import dataclass

from kobler.sim import partitions
from kobler.sim.flash import Flash
from kobler.sim.partitions import Partition, PartitionError
from kobler.sim.rom_chips import Chip

IMAGE_MAGIC = 0xE9
_MAX_SEGMENTS = 16
# The ROM tries again this often before its watchdog resets the chip.
_TRIES = 8


@dataclass(frozen=True)
class Boot:
    """`table` is None when nothing could be started; `text` is what the chip says on its serial port."""

    text: str
    table: list[Partition] | None


def boot(flash: Flash, chip: Chip) -> Boot:
    header = flash.read(chip.bootloader_offset, 24)
    if header[0] != IMAGE_MAGIC:
        word = int.from_bytes(header[:4], "little")
        return Boot(f"invalid header: 0x{word:08x}\r\n" * _TRIES, None)
    try:
        table = partitions.parse(flash.read(partitions.TABLE_OFFSET, partitions.TABLE_SIZE), flash.size)
    except PartitionError as error:
        text = f"E (59) flash_parts: {error}\r\nE (64) boot: Failed to verify partition table\r\n"
        return Boot(text + "E (69) boot: load partition table error!\r\n", None)
    text = ""
    for app in partitions.apps(table):
        reason = _unbootable(flash, chip, app)
        if reason is None:
            return Boot(text, table)
        text += f"E (71) esp_image: {app.name}: {reason}\r\n"
    return Boot(text + "E (85) boot: No bootable app partitions in the partition table\r\n", None)


def _unbootable(flash: Flash, chip: Chip, app: Partition) -> str | None:
    header = flash.read(app.offset, 24)
    if header[0] != IMAGE_MAGIC:
        return f"image at 0x{app.offset:x} has invalid magic byte 0x{header[0]:02x} (nothing flashed here?)"
    if not 0 < header[1] <= _MAX_SEGMENTS:
        return f"image at 0x{app.offset:x} has invalid segment count {header[1]}"
    image_id = int.from_bytes(header[12:14], "little")
    if image_id != chip.image_id:
        return f"mismatch chip ID, expected {chip.image_id}, found {image_id}"
    return None
