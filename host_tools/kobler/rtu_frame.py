"""The CRC of Modbus RTU frames (Modbus over Serial Line V1.02, section 2.5.1.2)."""

from __future__ import annotations


def crc16(data: bytes | bytearray) -> int:
    """CRC of a frame's bytes; over a frame with its CRC it is 0."""
    crc = 0xFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ 0xA001 if crc & 1 else crc >> 1
    return crc


def sealed(data: bytes) -> bytes:
    """The frame: unit and PDU with their CRC, low byte first."""
    return data + crc16(data).to_bytes(2, "little")
