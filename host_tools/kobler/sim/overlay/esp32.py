"""Stands in for `esp32`: partitions of the flash image, non-volatile storage, errors as ESP-IDF names them."""

import errno

import _chip
import _flash
import _nvs
import _ota

HEAP_DATA = 4
HEAP_EXEC = 1
WAKEUP_ALL_LOW = False
WAKEUP_ANY_HIGH = True

# What the usual flash chips take for it (W25Q32, typical values).
_PAGE = 256
_PROGRAM_US = 700
_ERASE_US = 45000


def _fail(code, name):
    raise OSError(-code, name)


def _erase(offset, size):
    begin = _chip.now()
    _flash.erase(offset, size)
    _busy(begin, _ERASE_US * (size // _flash.SECTOR))


def _program(offset, buf):
    begin = _chip.now()
    _flash.program(offset, buf)
    _busy(begin, _PROGRAM_US * ((offset % _PAGE + len(buf) + _PAGE - 1) // _PAGE))


def _busy(begin, us):
    if _chip.chip_time:
        _chip.stall(begin + us)


class Partition:
    BOOT = 0
    RUNNING = 1
    TYPE_APP = 0
    TYPE_DATA = 1

    def __init__(self, id, block_size=_flash.SECTOR):
        if id == self.BOOT:
            row = _ota.boot()
        elif id == self.RUNNING:
            row = _ota.running()
        else:
            row = _flash.find(id)
        if row is None:
            raise OSError(errno.ENOENT)
        self._set(row, block_size)

    def _set(self, row, block_size):
        self._row = row
        self._type, self._subtype, self._offset, self._size, self._label = row
        self._block = block_size

    @classmethod
    def _of(cls, row, block_size=_flash.SECTOR):
        self = object.__new__(cls)
        self._set(row, block_size)
        return self

    @staticmethod
    def find(type=TYPE_APP, subtype=0xFF, label=None, block_size=_flash.SECTOR):
        found = []
        for row in _flash.partitions:
            if row[0] == type and subtype in (0xFF, row[1]) and label in (None, row[4]):
                found.append(Partition._of(row, block_size))
        return found

    def __repr__(self):
        return "<Partition type=%d, subtype=%d, address=%d, size=%d, label=%s, encrypted=0>" % self.info()[:5]

    def info(self):
        return (self._type, self._subtype, self._offset, self._size, self._label, False)

    def _at(self, block, offset, size):
        start = block * self._block + offset
        if start < 0 or start > self._size:
            _fail(0x102, "ESP_ERR_INVALID_ARG")
        if start + size > self._size:
            _fail(0x104, "ESP_ERR_INVALID_SIZE")
        return self._offset + start

    def readblocks(self, block, buf, offset=0):
        _flash.read(self._at(block, offset, len(buf)), buf)

    def writeblocks(self, block, buf, offset=None):
        """Two arguments erase and write whole blocks, three program without erasing."""
        start = self._at(block, offset or 0, len(buf))
        if offset is None:
            _erase(start, (len(buf) + _flash.SECTOR - 1) // _flash.SECTOR * _flash.SECTOR)
        _program(start, buf)

    def ioctl(self, op, arg):
        if op in (1, 2, 3):  # init, deinit, sync
            return 0
        if op == 4:
            return self._size // self._block
        if op == 5:
            return self._block
        if op == 6:
            _erase(self._at(arg, 0, self._block), self._block)
            return 0
        return None

    def set_boot(self):
        if self._type != self.TYPE_APP:
            _fail(0x102, "ESP_ERR_INVALID_ARG")
        if _flash.get(self._offset, 1)[0] != 0xE9:
            _fail(0x1503, "ESP_ERR_OTA_VALIDATE_FAILED")
        if not _ota.set_boot(self._row):
            _fail(0x105, "ESP_ERR_NOT_FOUND")

    def get_next_update(self):
        row = _ota.next_update()
        if row is None:
            raise OSError(errno.ENOENT)
        return Partition._of(row)

    @classmethod
    def mark_app_valid_cancel_rollback(cls):
        _ota.mark_valid()


_store = None


class NVS:
    """Keys of up to 15 characters in a namespace; changes are durable after `commit`."""

    def __init__(self, namespace):
        global _store
        self._prefix = self._check(namespace) + b"\0"
        if _store is None:
            _store = _nvs.Store()

    def _check(self, name):
        name = name.encode()
        if not 0 < len(name) <= 15:
            _fail(0x1109, "ESP_ERR_NVS_KEY_TOO_LONG")
        return name

    def _get(self, kind, key):
        value = _store.get(kind, self._prefix + self._check(key))
        if value is None:
            _fail(0x1102, "ESP_ERR_NVS_NOT_FOUND")
        return value

    def _set(self, kind, key, value):
        name = self._prefix + self._check(key)
        if _store.full(len(value)):
            _fail(0x1105, "ESP_ERR_NVS_NOT_ENOUGH_SPACE")
        _store.set(kind, name, value)

    def set_i32(self, key, value):
        self._set(_nvs.I32, key, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def get_i32(self, key):
        value = int.from_bytes(self._get(_nvs.I32, key), "little")
        return value - (1 << 32) if value >> 31 else value

    def set_blob(self, key, value):
        self._set(_nvs.BLOB, key, value.encode() if isinstance(value, str) else bytes(value))

    def get_blob(self, key, buf):
        value = self._get(_nvs.BLOB, key)
        if len(value) > len(buf):
            _fail(0x110C, "ESP_ERR_NVS_INVALID_LENGTH")
        buf[: len(value)] = value
        return len(value)

    def erase_key(self, key):
        name = self._prefix + self._check(key)
        if not (_store.erase(_nvs.I32, name) | _store.erase(_nvs.BLOB, name)):
            _fail(0x1102, "ESP_ERR_NVS_NOT_FOUND")

    def commit(self):
        _store.commit()


def idf_heap_info(capabilities):
    """[(total, free, largest free block, least free ever)] of each region."""
    import gc

    if not hasattr(gc, "mem_free"):
        return []
    free = gc.mem_free()
    return [(free + gc.mem_alloc(), free, free, free)]


def raw_temperature():
    """Degrees Fahrenheit, as the chip has it."""
    return 122


def gpio_deep_sleep_hold(enable):
    pass


def wake_on_ext0(pin, level):
    pass


def wake_on_ext1(pins, level):
    pass


def wake_on_touch(wake):
    pass


def wake_on_ulp(wake):
    pass
