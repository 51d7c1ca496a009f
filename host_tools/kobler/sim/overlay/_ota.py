"""Which app slot boots: the `otadata` partition in ESP-IDF's format, two sectors that are written in turn.

Entry: sequence u32, label 20 bytes, state u32, crc32 of the sequence. Slot = (highest sequence - 1) % slots.
"""

import binascii
import struct

import _flash

NEW = 0
VALID = 2
ABORTED = 4
_UNDEFINED = 0xFFFFFFFF
OTA_0 = 0x10
FACTORY = 0


def _apps():
    return [row for row in _flash.partitions if row[0] == 0]


def slots():
    return sorted((row for row in _apps() if OTA_0 <= row[1] < OTA_0 + 16), key=lambda row: row[1])


def _otadata():
    for row in _flash.partitions:
        if row[0] == 1 and row[1] == 0:
            return row[2]
    return None


def _crc(sequence):
    return binascii.crc32(struct.pack("<I", sequence), 0xFFFFFFFF) & 0xFFFFFFFF


def _entries():
    """(sequence, state, sector offset) of the two sectors; sequence 0 where the entry is not valid."""
    base = _otadata()
    entries = []
    for offset in (base, base + _flash.SECTOR):
        sequence, state, crc = struct.unpack("<I20xII", bytes(_flash.get(offset, 32)))
        if sequence in (0, _UNDEFINED) or crc != _crc(sequence) or state in (3, ABORTED):
            sequence = 0
        entries.append((sequence, state, offset))
    return entries


def boot():
    """The app partition that starts next."""
    apps = slots()
    if _otadata() is not None and apps:
        sequence = max(entry[0] for entry in _entries())
        if sequence:
            return apps[(sequence - 1) % len(apps)]
    for row in _apps():
        if row[1] == FACTORY:
            return row
    return apps[0] if apps else None


_running = boot()  # read before the program can change it


def running():
    return _running


def next_update():
    """The slot after the running one, or None without slots."""
    apps = slots()
    if not apps:
        return None
    if running() in apps:
        return apps[(apps.index(running()) + 1) % len(apps)]
    return apps[0]


def _write(offset, sequence, state):
    _flash.erase(offset, _flash.SECTOR)
    _flash.program(offset, struct.pack("<I20sII", sequence, b"\xff" * 20, state, _crc(sequence)))


def set_boot(row):
    """False without an otadata partition."""
    apps = slots()
    if _otadata() is None:
        return False
    if row[1] == FACTORY:
        _flash.erase(_otadata(), 2 * _flash.SECTOR)
        return True
    first, second = _entries()
    highest = max(first[0], second[0])
    sequence = highest + 1
    while (sequence - 1) % len(apps) != apps.index(row):
        sequence += 1
    _write(second[2] if first[0] >= second[0] and first[0] else first[2], sequence, NEW)
    return True


def mark_valid():
    if _otadata() is None:
        return
    sequence, state, offset = max(_entries())
    if sequence and state != VALID:
        _write(offset, sequence, VALID)
