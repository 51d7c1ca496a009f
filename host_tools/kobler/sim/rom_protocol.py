"""Espressif's serial protocol: the command numbers, the error codes, and how a command's data is laid out."""

from __future__ import annotations

import struct
from enum import IntEnum


class Op(IntEnum):
    """What the host asks for."""

    FLASH_BEGIN = 0x02
    FLASH_DATA = 0x03
    FLASH_END = 0x04
    MEM_BEGIN = 0x05
    MEM_END = 0x06
    MEM_DATA = 0x07
    SYNC = 0x08
    WRITE_REG = 0x09
    READ_REG = 0x0A
    SPI_SET_PARAMS = 0x0B
    SPI_ATTACH = 0x0D
    READ_FLASH_SLOW = 0x0E
    CHANGE_BAUDRATE = 0x0F
    DEFL_BEGIN = 0x10
    DEFL_DATA = 0x11
    DEFL_END = 0x12
    SPI_FLASH_MD5 = 0x13
    GET_SECURITY_INFO = 0x14
    ERASE_FLASH = 0xD0
    ERASE_REGION = 0xD1
    READ_FLASH = 0xD2
    RUN_USER_CODE = 0xD3


INVALID, FAILED, BAD_CHECKSUM, WRITE_ERROR, DEFLATE_ERROR = 0x05, 0x06, 0x07, 0x08, 0x0B


class LoaderError(Exception):
    """A command failed; `code` is the second status byte."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def words(data: bytes, count: int) -> tuple[int, ...]:
    """The first `count` words; a command may be longer than what is used of it."""
    if len(data) < 4 * count:
        raise LoaderError(INVALID, "the command is too short")
    return struct.unpack_from(f"<{count}I", data)


def payload(data: bytes) -> bytes:
    size = words(data, 4)[0]
    if size != len(data) - 16:
        raise LoaderError(INVALID, "the block's length does not match")
    return data[16:]


def xor_all(data: bytes) -> int:
    """All bytes XORed, starting from 0xEF. Folded in halves: a loop over 16 KB takes a millisecond."""
    value = int.from_bytes(data, "little")
    bits = 8
    while bits < 8 * len(data):
        bits *= 2
    while bits > 8:
        bits //= 2
        value = value >> bits ^ value & (1 << bits) - 1
    return value ^ 0xEF
