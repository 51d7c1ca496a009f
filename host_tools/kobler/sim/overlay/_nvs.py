"""Storage behind esp32.NVS, on the `nvs` partition: a log in one of two banks, copied to the other when full.

Bank:   header "KNVS", generation u32, crc32 of both; then records up to blank flash.
Record: kind u8, name length u8, value length u16, crc32 of these and of what follows; name, value; padded to 4.
A bank counts once its header is there, which is programmed last; the higher generation wins. A record that a
power cut left unfinished has a wrong CRC and ends the log; the next change copies the good ones to the other bank.
"""

import binascii
import struct

import _flash

I32 = 0x69
BLOB = 0x62
GONE = 0x67
_MAGIC = b"KNVS"
_HEADER = 12


def _crc(data):
    return binascii.crc32(data) & 0xFFFFFFFF


def _pack(kind, name, value):
    head = struct.pack("<BBH", kind, len(name), len(value))
    record = head + struct.pack("<I", _crc(head + name + value)) + name + value
    return record + b"\xff" * (-len(record) % 4)


class Store:
    """Values by (kind, name). `set` changes them in memory, `commit` makes the changes durable one by one."""

    def __init__(self, label="nvs"):
        _, _, offset, size, _ = _flash.find(label)
        self._size = size // 2 // _flash.SECTOR * _flash.SECTOR
        self._banks = (offset, offset + self._size)
        self._bank = None
        self._generation = 0
        self._values = {}
        self._dirty = {}
        for i in (0, 1):
            head = bytes(_flash.get(self._banks[i], _HEADER))
            generation, crc = struct.unpack("<II", head[4:])
            if head[:4] == _MAGIC and crc == _crc(head[:8]) and generation > self._generation:
                self._bank = i
                self._generation = generation
        self._end = self._size  # without a bank the first commit makes one
        if self._bank is not None:
            self._load(bytes(_flash.get(self._banks[self._bank], self._size)))

    def _load(self, data):
        at = _HEADER
        while at + 8 <= len(data) and data[at] != 0xFF:
            kind, n, m, crc = struct.unpack("<BBHI", data[at : at + 8])
            end = at + 8 + n + m
            if end > len(data) or crc != _crc(data[at : at + 4] + data[at + 8 : end]):
                return
            name = data[at + 8 : at + 8 + n]
            if kind == GONE:
                self._values.pop((data[at + 8 + n], name), None)
            else:
                self._values[(kind, name)] = data[at + 8 + n : end]
            at = end + (-(end - at) % 4)
        if data[at:].count(b"\xff") == len(data) - at:
            self._end = at

    def get(self, kind, name):
        return self._values.get((kind, name))

    def set(self, kind, name, value):
        if self._values.get((kind, name)) != value:
            self._values[(kind, name)] = value
            self._dirty[(kind, name)] = True

    def erase(self, kind, name):
        if self._values.pop((kind, name), None) is None:
            return False
        self._dirty[(kind, name)] = True
        return True

    def full(self, extra):
        """Would a value of `extra` bytes not fit any more?"""
        used = sum(8 + len(name) + len(value) + 3 for (_, name), value in self._values.items())
        return _HEADER + used + extra + 64 > self._size

    def commit(self):
        for key in list(self._dirty):
            kind, name = key
            value = self._values.get(key)
            record = _pack(GONE, name, bytes([kind])) if value is None else _pack(kind, name, value)
            if self._end + len(record) > self._size:
                self._copy()
                break
            _flash.program(self._banks[self._bank] + self._end, record)
            self._end += len(record)
        self._dirty.clear()

    def _copy(self):
        """Write all values, changes included, into the other bank; it counts from its header on."""
        bank = 0 if self._bank is None else 1 - self._bank
        base = self._banks[bank]
        _flash.erase(base, self._size)
        at = _HEADER
        for (kind, name), value in self._values.items():
            record = _pack(kind, name, value)
            _flash.program(base + at, record)
            at += len(record)
        head = _MAGIC + struct.pack("<I", self._generation + 1)
        _flash.program(base, head + struct.pack("<I", _crc(head)))
        self._bank = bank
        self._generation += 1
        self._end = at
