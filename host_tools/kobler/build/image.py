"""Images that Espressif's boot ROM and bootloader accept: read, checked, sliced, made for the virtual board.

Format (esptool documentation, "Firmware Image Format"): 8 bytes of header, 16 of extended header, segments of
address, length and data, a checksum byte at the end of a 16 byte row, and the SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

from ..boards import TABLE_OFFSET, Board
from ..chips import CHIPS, Chip
from ..errors import KoblerError

_MAGIC = 0xE9
_HEADER = struct.Struct("<BBBBI")
_CHIP_ID_AT = 12
_HASH_FLAG_AT = 23
_SEGMENTS_AT = 24
_CHECKSUM_SEED = 0xEF
_SIZE_CODES = {1 << 20: 0, 2 << 20: 1, 4 << 20: 2, 8 << 20: 3, 16 << 20: 4, 32 << 20: 5}


@dataclass(frozen=True)
class Image:
    """A bootloader or an application as it lies in flash, without padding behind it."""

    data: bytes
    chip_id: int

    @classmethod
    def parse(cls, data: bytes, what: str) -> Image:
        """The image at the start of `data`; KoblerError says in what way it is none."""
        if len(data) < _SEGMENTS_AT or data[0] != _MAGIC:
            raise KoblerError(f"{what}: not an ESP32 image (it starts with {data[:4].hex(' ') or 'nothing'}, not e9)")
        at, checksum = _SEGMENTS_AT, _CHECKSUM_SEED
        for _ in range(data[1]):
            if at + 8 > len(data):
                raise KoblerError(f"{what}: truncated: a segment should start at byte {at} of {len(data)}")
            (length,) = struct.unpack_from("<I", data, at + 4)
            at += 8 + length
            if at > len(data):
                raise KoblerError(f"{what}: truncated: a segment ends at byte {at}, the file at {len(data)}")
            checksum ^= _xor(data[at - length : at])
        at += 16 - at % 16
        end = at + (32 if data[_HASH_FLAG_AT] else 0)
        if end > len(data):
            raise KoblerError(f"{what}: truncated: the image ends at byte {end}, the file at {len(data)}")
        if data[at - 1] != checksum:
            raise KoblerError(f"{what}: damaged: its checksum is {checksum:#04x}, the image says {data[at - 1]:#04x}")
        if data[_HASH_FLAG_AT] and hashlib.sha256(data[:at]).digest() != data[at:end]:
            raise KoblerError(f"{what}: damaged: its SHA-256 is not the one at its end")
        return cls(data[:end], struct.unpack_from("<H", data, _CHIP_ID_AT)[0])

    @classmethod
    def make(cls, chip: Chip, address: int, payload: bytes) -> Image:
        """An image with one segment that the ROM would load to `address`."""
        payload += bytes(-len(payload) % 4)
        extended = bytearray(16)
        extended[0] = 0xEE  # no write protect pin
        struct.pack_into("<H", extended, 4, chip.image_id)
        struct.pack_into("<H", extended, 9, 0xFFFF)  # up to any chip revision
        extended[15] = 1  # a SHA-256 follows
        size_40mhz = _SIZE_CODES[4 << 20] << 4
        body = _HEADER.pack(_MAGIC, 1, 2, size_40mhz, address) + extended
        body += struct.pack("<II", address, len(payload)) + payload
        body += bytes(15 - len(body) % 16) + bytes([_CHECKSUM_SEED ^ _xor(payload)])
        return cls(body + hashlib.sha256(body).digest(), chip.image_id)

    def for_flash_size(self, size: int) -> Image:
        """The same bootloader for a flash of `size` bytes.

        The bootloader refuses partitions behind the size in its own header. esptool can change it while it
        writes, but then the flash would not hold the bytes that were built.
        """
        data = bytearray(self.data)
        data[3] = _SIZE_CODES[size] << 4 | data[3] & 0x0F
        if data[_HASH_FLAG_AT]:
            data[-32:] = hashlib.sha256(data[:-32]).digest()
        return Image(bytes(data), self.chip_id)


def slice_base(base: bytes, board: Board, what: str) -> tuple[Image, Image]:
    """(bootloader, application) out of a MicroPython image that starts at the chip's bootloader offset.

    Its partition table and the empty space around it are left out: the board's own table takes their place.
    """
    chip = board.chip_info
    factory = board.part("factory")
    bootloader = Image.parse(base[: TABLE_OFFSET - chip.bootloader_offset], what)
    if bootloader.chip_id != chip.image_id:
        made_for = next((c.name for c in CHIPS.values() if c.image_id == bootloader.chip_id), "another chip")
        raise KoblerError(f"{what}: made for {made_for}, but {board.name} has an {chip.name}: take {board.image}")
    app = Image.parse(base[factory.offset - chip.bootloader_offset :], f"{what}, application at {factory.offset:#x}")
    if app.chip_id != chip.image_id:
        raise KoblerError(f"{what}: its bootloader and its application are for different chips")
    if len(app.data) > factory.size:
        room = f"the partition 'factory' of {board.name} has {factory.size:,}"
        raise KoblerError(f"{what}: its application has {len(app.data):,} bytes, {room}")
    return bootloader.for_flash_size(board.flash_size), app


def stand_in(board: Board) -> tuple[Image, Image]:
    """(bootloader, application) for a board without a base image: valid, with a note inside and no code."""
    chip = board.chip_info
    note = b"Kobler: stand-in for the MicroPython image. The virtual board runs the host's MicroPython."
    bootloader = Image.make(chip, chip.ram_address, b"bootloader\0" + note)
    app = Image.make(chip, chip.data_address, _app_description() + note)
    return bootloader.for_flash_size(board.flash_size), app


def _app_description() -> bytes:
    """esp_app_desc_t (ESP-IDF, esp_app_format): comes first in the application, and tools show it."""
    text = struct.pack("<32s32s16s16s32s32s", b"stand-in", b"micropython", b"", b"", b"", bytes(32))
    return struct.pack("<II8x", 0xABCD5432, 0) + text + bytes(80)


def _xor(data: bytes) -> int:
    """All bytes XORed together, by halves: a big int's XOR is 100 times faster than a loop over the bytes."""
    width = 1 << max(len(data) - 1, 0).bit_length()
    number = int.from_bytes(data, "little")
    while width > 1:
        width //= 2
        number = (number >> 8 * width) ^ (number & ((1 << 8 * width) - 1))
    return number
