from check import raises
from nor import SECTOR, FlashError, Nor, PowerCut


def _at(flash, at, n=1):
    buf = bytearray(n)
    flash.read(at, buf)
    return bytes(buf)


def test_programming_clears_bits_and_erasing_sets_them():
    flash = Nor(2)
    assert _at(flash, 0, 2 * SECTOR) == b"\xff" * (2 * SECTOR)
    flash.program(10, b"\xf0\x0f")
    flash.program(10, memoryview(b"\x30\x0f"))
    error = raises(FlashError, flash.program, 9, b"\x00\x30\x1f")
    assert "0xb " in str(error)
    assert _at(flash, 9, 3) == b"\xff\x30\x0f"
    flash.erase(0)
    assert _at(flash, 9, 3) == b"\xff\xff\xff"
    assert flash.erases == [1, 0] and flash.programmed == 4 and flash.operations == 3


def test_a_program_over_a_page_is_two_operations():
    flash = Nor(1)
    flash.program(250, bytes(10))
    assert flash.operations == 2
    flash.program(512, bytes(512))
    assert flash.operations == 4


def test_nothing_lies_outside():
    flash = Nor(1)
    for what in ((flash.read, -1, bytearray(1)), (flash.read, SECTOR, bytearray(1)), (flash.erase, 1)):
        raises(FlashError, *what)
    raises(FlashError, flash.program, SECTOR - 1, b"\0\0")


def test_power_fails_before_and_inside_an_operation():
    for within, torn, left in ((0, 0xFF, b"\xff\xff\xff"), (1, 0x0F, b"\xf0\xff\xff"), (2, 0xFF, b"\0\0\xff")):
        flash = Nor(1)
        flash.cut_after(1, within, torn)
        flash.program(0, b"\0")
        raises(PowerCut, flash.program, 1, bytes(3))
        raises(PowerCut, flash.erase, 0)
        assert _at(flash, 0, 4) == b"\0" + left
        flash.power()
        flash.program(1, bytes(3))
        flash.cut_after(0, 2, 0xC0)
        raises(PowerCut, flash.erase, 0)
        assert _at(flash, 0, 4) == b"\xff\xc0\0\0"
        assert flash.erases == [0]
