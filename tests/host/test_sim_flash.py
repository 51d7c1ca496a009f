"""The virtual board's flash is NOR flash: bits are cleared by programming and set by erasing, power may fail."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kobler.errors import KoblerError
from kobler.sim import identity, partitions
from kobler.sim.flash import PAGE, SECTOR, Flash, FlashError, PowerCut

SIZE = 1 << 20


@pytest.fixture
def flash(tmp_path):
    chip = Flash(tmp_path / "flash.bin", SIZE)
    yield chip
    chip.close()


def test_a_new_image_is_blank_and_has_the_boards_size(flash):
    assert flash.path.stat().st_size == SIZE
    assert flash.read(0, SIZE) == b"\xff" * SIZE


def test_programming_clears_bits_and_only_erasing_sets_them(flash):
    flash.program(100, b"\x0f")
    flash.program(100, b"\x01")
    assert flash.read(99, 3) == b"\xff\x01\xff"
    with pytest.raises(FlashError):
        flash.program(100, b"\x02")
    assert flash.read(99, 3) == b"\xff\x01\xff"
    flash.erase(0, SECTOR)
    assert flash.read(99, 3) == b"\xff\xff\xff"


def test_the_error_names_the_first_byte_that_is_not_erased(flash):
    flash.program(0x1234, b"\x00")
    with pytest.raises(FlashError, match="0x1234 is not erased"):
        flash.program(0x1200, b"\xaa" * 0x100)
    assert flash.read(0x1200, 0x34) == b"\xff" * 0x34, "nothing was programmed"


@pytest.mark.parametrize(
    "call",
    [
        lambda flash: flash.program(SIZE - 1, b"ab"),
        lambda flash: flash.read(SIZE, 1),
        lambda flash: flash.read(-1, 1),
        lambda flash: flash.erase(1, SECTOR),
        lambda flash: flash.erase(0, 100),
        lambda flash: flash.erase(SIZE, SECTOR),
    ],
)
def test_what_the_chip_cannot_do_is_refused(flash, call):
    with pytest.raises(FlashError):
        call(flash)


def test_operations_are_page_programs_and_sector_erases(flash):
    flash.program(PAGE - 1, bytes(2))
    assert flash.operations == 2
    flash.erase(0, 3 * SECTOR)
    assert flash.operations == 5


def test_power_fails_between_any_two_operations(tmp_path):
    """The same job, cut after each number of operations: exactly that many are on the image."""
    job = bytes(range(1, 11)) * 100

    def do(chip: Flash) -> None:
        chip.erase(0, 2 * SECTOR)
        chip.program(10, job)

    whole = Flash(tmp_path / "whole", SIZE)
    do(whole)
    steps = whole.operations
    whole.close()
    assert steps == 2 + 4
    for cut in range(steps):
        chip = Flash(tmp_path / f"cut{cut}", SIZE)
        chip.cut_after(cut)
        with pytest.raises(PowerCut):
            do(chip)
        assert chip.operations == cut
        written = max(0, PAGE * (cut - 2) - 10) if cut > 2 else 0
        assert chip.read(10, len(job)) == job[:written].ljust(len(job), b"\xff")
        with pytest.raises(PowerCut):
            chip.program(0x8000, b"\0")
        chip.power(True)
        chip.program(0x8000, b"\0")
        chip.close()


def test_power_fails_inside_a_program(flash):
    flash.cut_after(1, within=7)
    with pytest.raises(PowerCut):
        flash.program(0, bytes(2 * PAGE))
    assert flash.read(0, 2 * PAGE) == bytes(PAGE + 7).ljust(2 * PAGE, b"\xff")


def test_the_image_outlives_a_killed_process(tmp_path):
    image = tmp_path / "flash.bin"
    code = (
        "import os, sys; from pathlib import Path; from kobler.sim.flash import Flash\n"
        f"Flash(Path(sys.argv[1]), {SIZE}).program(5, b'kept'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(image)], check=False).returncode == -9
    again = Flash(image, SIZE)
    assert again.read(5, 4) == b"kept"
    again.close()


def test_two_boards_never_share_an_image(tmp_path, flash):
    with pytest.raises(KoblerError, match=r"flash\.bin is in use by another virtual board"):
        Flash(flash.path, SIZE)
    flash.close()
    Flash(flash.path, SIZE).close()


def test_an_image_of_another_size_or_place_is_one_line(tmp_path):
    (tmp_path / "small").write_bytes(b"abc")
    with pytest.raises(KoblerError, match=f"3 bytes, the board's flash {SIZE}"):
        Flash(tmp_path / "small", SIZE)
    with pytest.raises(KoblerError, match="No such file or directory"):
        Flash(tmp_path / "missing" / "flash.bin", SIZE)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_it_behaves_as_the_and_of_all_that_was_programmed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("nor") / "flash.bin"
    model = bytearray(b"\xff" * SECTOR)
    chip = Flash(path, SIZE)
    for _ in range(data.draw(st.integers(1, 12))):
        if data.draw(st.booleans()):
            offset = data.draw(st.integers(0, SECTOR - 1))
            new = data.draw(st.binary(min_size=1, max_size=min(600, SECTOR - offset)))
            old = model[offset : offset + len(new)]
            if any(n & ~o for n, o in zip(new, old, strict=True)):
                with pytest.raises(FlashError):
                    chip.program(offset, new)
                new = bytes(n & o for n, o in zip(new, old, strict=True))
            chip.program(offset, new)
            model[offset : offset + len(new)] = new
        elif data.draw(st.integers(0, 4)) == 0:
            chip.erase(0, SECTOR)
            model[:] = b"\xff" * SECTOR
        assert chip.read(0, SECTOR) == model
    chip.close()


def test_a_chips_address_is_made_once_and_stays(tmp_path):
    image = tmp_path / "flash.bin"
    first = identity.open_or_create(image, "esp32", 4 << 20)
    assert first.mac_bytes[0] & 3 == 2, "locally administered, unicast"
    assert identity.open_or_create(image, "esp32", 4 << 20) == first
    assert identity.open_or_create(tmp_path / "other", "esp32", 4 << 20).mac != first.mac
    with pytest.raises(KoblerError, match="chip esp32, not esp32s3"):
        identity.open_or_create(image, "esp32s3", 4 << 20)


@pytest.mark.parametrize("text", ["", "{}", '{"chip": "esp32", "flash_size": 4194304, "mac": "zz"}', "[1]"])
def test_a_damaged_identity_is_named(tmp_path, text):
    image = tmp_path / "flash.bin"
    identity.beside(image).write_text(text)
    with pytest.raises(KoblerError, match=r"flash\.bin\.json: "):
        identity.load(image)


def table(*rows: tuple[str, int, int, int, int]) -> bytes:
    packed = b"".join(
        struct.pack("<2sBBII16sI", b"\xaa\x50", kind, sub, offset, size, name.encode(), 0)
        for name, kind, sub, offset, size in rows
    )
    packed += b"\xeb\xeb" + b"\xff" * 14 + hashlib.md5(packed).digest()
    return packed.ljust(partitions.TABLE_SIZE, b"\xff")


GOOD = (("nvs", 1, 2, 0x9000, 0x6000), ("factory", 0, 0, 0x10000, 0x1F0000), ("vfs", 1, 0x83, 0x200000, 0x100000))


def test_a_partition_table_is_read():
    rows = partitions.parse(table(*GOOD), 4 << 20)
    assert [row.name for row in rows] == ["nvs", "factory", "vfs"]
    assert partitions.find(rows, "vfs").offset == 0x200000
    assert [row.name for row in partitions.apps(rows)] == ["factory"]
    with pytest.raises(partitions.PartitionError, match="'journal'; there are nvs, factory, vfs"):
        partitions.find(rows, "journal")


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (b"\xff" * 0xC00, "empty"),
        (bytes(0xC00), "partition 0 invalid magic number 0x0"),
        (table(*GOOD).replace(b"vfs", b"vfz"), "MD5"),
        (table(*GOOD, GOOD[0]), "'nvs' is there twice"),
        (table(("a", 1, 2, 0x9000, 0x2000), ("b", 1, 2, 0xA000, 0x1000)), "'b' overlaps partition 'a'"),
        (table(("a", 1, 2, 0x9100, 0x1000)), "'a' starts at 0x9100"),
        (table(("app", 0, 0, 0x11000, 0x1000)), "'app' starts at 0x11000"),
        (table(("a", 1, 2, 0x3FF000, 0x2000)), "'a' ends at 0x401000"),
        (table(("a", 1, 2, 0x8000, 0x1000)), "overlaps the partition table"),
    ],
)
def test_a_bad_partition_table_is_refused_by_name(broken, says):
    with pytest.raises(partitions.PartitionError, match=says):
        partitions.parse(broken, 4 << 20)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=0xC00))
def test_no_bytes_break_the_partition_parser(data):
    try:
        rows = partitions.parse(data, 4 << 20)
    except partitions.PartitionError:
        return
    assert all(row.end <= 4 << 20 for row in rows)
