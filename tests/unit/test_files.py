import os
import random

from check import raises
from coupler.store.files import Files
from coupler.store.layout import layout, open_flash
from coupler.store.settings import Settings
from coupler.trust import switch
from nor import SECTOR, Nor
from test_hal import clean, make


def test_regions_follow_from_the_number_of_sectors_and_nothing_else():
    assert layout(256) == {
        "settings": (0, 2),
        "vault": (2, 2),
        "names": (4, 8),
        "hours": (12, 36),
        "days": (48, 76),
        "journal": (124, 132),
    }
    for sectors in (32, 33, 63, 64, 100, 256, 1024):
        regions = layout(sectors)
        at = 0
        for name in ("settings", "vault", "names", "hours", "days", "journal"):
            first, count = regions.pop(name)
            assert first == at and count >= 2
            at += count
        assert at == sectors and not regions
    for sectors in (0, 4, 31):
        assert "at least 32" in str(raises(ValueError, layout, sectors))


def test_a_host_without_the_chips_flash_has_none():
    h, folder = make()
    try:
        assert h.flash() is None
        assert isinstance(open_flash(h)[0], Files)
        h.flash = lambda: Nor(8)
        assert isinstance(open_flash(h)[0], Files), "not enough of it"
        h.flash = lambda: Nor(32)
        assert isinstance(open_flash(h)[0], Nor)
    finally:
        clean(folder)


def test_a_file_is_opened_in_place_and_absent_is_none():
    h, folder = make()
    try:
        assert h.open_file("/a", "r+b") is None and h.open_file("/a", "rb") is None
        h.write_file("/a", b"abc")
        with h.open_file("/a", "r+b") as f:
            f.seek(0, 2)
            f.write(b"de")
            h.flush(f)
            assert h.read_file("/a") == b"abcde"
    finally:
        clean(folder)


def _read(flash, at, n):
    buf = bytearray(n + 2)
    flash.read(at, memoryview(buf)[1 : n + 1])
    assert buf[0] == buf[n + 1] == 0
    return bytes(buf[1 : n + 1])


def test_sectors_are_files_and_what_is_not_there_is_blank():
    h, folder = make()
    try:
        flash = Files(h)
        assert flash.sectors == 64
        assert _read(flash, 63 * SECTOR, SECTOR) == b"\xff" * SECTOR
        flash.program(2 * SECTOR + 8, b"abc")
        flash.program(2 * SECTOR + 20, memoryview(b"def"))
        assert os.listdir(folder + "/journal") == ["2"]
        assert _read(Files(h), 2 * SECTOR + 6, 20) == b"\xff\xffabc" + b"\xff" * 9 + b"def" + b"\xff" * 3
        flash.program(3 * SECTOR - 2, b"wxyz")
        assert _read(flash, 3 * SECTOR - 3, 6) == b"\xffwxyz\xff"
        flash.erase(2)
        flash.erase(2)
        assert _read(flash, 3 * SECTOR - 3, 6) == b"\xff\xff\xffyz\xff"
        flash.program(2 * SECTOR, b"\0")
        assert _read(flash, 2 * SECTOR, 2) == b"\0\xff"
    finally:
        clean(folder)


def test_a_byte_is_programmed_once_and_blank_ones_may_be_inside():
    h, folder = make()
    try:
        flash = Files(h, 2)
        flash.program(0, b"ab\xff\xff\xff")
        error = raises(ValueError, flash.program, 1, b"x")
        assert "/journal/0" in str(error) and "erase" in str(error)
        raises(ValueError, flash.program, 0, b"ab")
        flash.program(3, b"xyz")  # a torn program may have left blank bytes behind
        assert _read(flash, 0, 8) == b"ab\xffxyz\xff\xff"
        for what in ((flash.read, 2 * SECTOR, bytearray(1)), (flash.program, 2 * SECTOR, b"x"), (flash.erase, 2)):
            assert "no sector 2" in str(raises(ValueError, *what))
        raises(ValueError, flash.read, -1, bytearray(1))
    finally:
        clean(folder)


def test_files_do_what_the_flash_does():
    random.seed(8)
    h, folder = make()
    try:
        flash = Files(h, 3)
        model = Nor(3)
        done = 0
        for _ in range(400):
            at = random.getrandbits(14) % (3 * SECTOR)
            n = min(random.getrandbits(random.choice((3, 7, 10))), 3 * SECTOR - at)
            what = random.getrandbits(3)
            if what == 0:
                flash.erase(at // SECTOR)
                model.erase(at // SECTOR)
            elif what < 6 and not _read(model, at, n).strip(b"\xff"):
                data = bytes(random.getrandbits(8) for _ in range(n))
                flash.program(at, data)
                model.program(at, data)
                done += 1
            assert _read(flash, at, n) == _read(model, at, n)
        assert done > 50
        assert _read(flash, 0, 3 * SECTOR) == _read(model, 0, 3 * SECTOR)
    finally:
        clean(folder)


def test_settings_live_in_files_too():
    h, folder = make()
    try:
        for i in range(150):
            Settings(Files(h), 0).update({"n": i, "pad": "x" * 100})
        assert Settings(Files(h), 0).get("n") == 149
        assert sorted(os.listdir(folder + "/journal")) == ["0", "1"]
    finally:
        clean(folder)


def test_the_identitys_second_place_may_be_files():
    h, folder = make()
    try:
        for n in (1, 5):
            for path in switch.IDENTITY:
                h.write_file(switch.STAGED[path], b"%d" % n * 30 + path.encode())
            switch.begin(h, switch.IDENTITY)
            assert switch.finish(h) == []
        assert switch.recover(h) == "clean"
        h.write_file(switch.CERT, b"flipped")
        h.remove(switch.KEY)
        assert switch.recover(h) == "restored"
        for path in switch.IDENTITY:
            assert h.read_file(path) == b"5" * 30 + path.encode()
        clean(folder + "/journal")
        assert switch.recover(h) == "clean"
        clean(folder + "/etc")
        assert switch.recover(h) == "restored"
    finally:
        clean(folder)
