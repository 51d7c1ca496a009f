"""The journal's partition as the firmware has it: the real MicroPython, the compiled hal, NOR flash underneath."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from guest_rig import BANNER, OTA_TABLE, Rig
from kobler.build import Build
from kobler.build.modules import compile_all
from kobler.errors import KoblerError
from kobler.provision.console import Console, Refused
from kobler.resources import firmware_dir
from kobler.sim.flash import Flash
from kobler.sim.guest import GuestOptions
from littlefs import LittleFS
from running_board import RunningBoard

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

SIZE = 4 << 20
_TIMES = """
import time
def took(fn, *args):
    t = time.ticks_us()
    fn(*args)
    return time.ticks_diff(time.ticks_us(), t)
"""


def powered(folder: Path, built: Build, **options: bool) -> RunningBoard:
    path = folder / "flash.bin"
    flash = Flash(path, SIZE)
    for offset, file in built.regions:
        flash.program(offset, file.read_bytes())
    flash.close()
    return RunningBoard(path, flash_size=SIZE, **options)


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory, built: Build) -> Iterator[RunningBoard]:
    with powered(tmp_path_factory.mktemp("board"), built) as it:
        yield it


@pytest.fixture
def console(unit: RunningBoard) -> Iterator[Console]:
    with Console(unit.url) as it:
        it.run("from coupler import hal\nh=hal.get()\nf=h.flash()", "asking for the flash")
        it.run("def read(at, n):\n b = bytearray(n)\n f.read(at, b)\n return b.hex()", "reading")
        yield it


def test_it_is_the_journals_partition_and_nothing_else(unit: RunningBoard, built: Build, console: Console) -> None:
    part = next(part for part in built.layout if part.name == "journal")
    assert console.ask("f.sectors", "x") == part.size // 4096
    console.run("f.erase(1)\nf.program(4096+10, b'here')", "x")
    assert unit.board.flash.read(part.offset + 4096 + 10, 4) == b"here"
    console.run("f.program(4096 * f.sectors - 2, memoryview(b'.end.')[1:3])", "x")
    assert unit.board.flash.read(part.offset + part.size - 2, 2) == b"en"
    for code in ("f.program(4096 * f.sectors - 2, b'end')", "f.erase(f.sectors)", "read(4096 * f.sectors, 1)"):
        with pytest.raises(Refused):
            console.run(code, "x")


def test_programming_clears_bits_and_only_an_erase_sets_them(console: Console) -> None:
    console.run("f.erase(4)\nat = 4 * 4096 + 100", "x")
    assert console.ask("read(at, 3)", "x") == "ffffff"
    console.run("f.program(at, b'\\xf0')\nf.program(at, b'\\x30')", "x")
    with pytest.raises(Refused) as caught:
        console.run("f.program(at, b'\\x31')", "x")
    assert caught.value.kind == "OSError"
    assert console.ask("read(at - 1, 3)", "x") == "ff30ff", "programmed in place, without an erase"
    console.run("f.erase(4)", "x")
    assert console.ask("read(at - 1, 3)", "x") == "ffffff"


def test_a_program_and_a_read_may_pass_pages_and_sectors(console: Console) -> None:
    console.run("f.erase(8)\nf.erase(9)\nd = bytes(range(256)) * 5\nf.program(9 * 4096 - 700, d)", "x")
    assert console.ask("read(9 * 4096 - 700, 1280) == d.hex()", "x")
    assert console.ask("read(9 * 4096 - 701, 1) + read(9 * 4096 + 580, 1)", "x") == "ffff"


def test_power_lost_in_a_program_leaves_what_was_programmed(tmp_path: Path, built: Build) -> None:
    part = next(part for part in built.layout if part.name == "journal")
    with powered(tmp_path, built) as it:
        with Console(it.url) as console:
            console.run("from coupler import hal\nf=hal.get().flash()\nf.erase(3)", "x")
            it.board.cut_power_after(1, 7)
            with pytest.raises(KoblerError):
                console.run("f.program(3 * 4096, bytes(512))", "x")
        at = part.offset + 3 * 4096
        assert it.board.flash.read(at, 512) == bytes(256 + 7) + b"\xff" * (256 - 7)


@pytest.mark.parametrize("chip_time", [True, False])
def test_the_chip_stands_still_while_its_flash_is_busy(tmp_path: Path, built: Build, chip_time: bool) -> None:
    with powered(tmp_path, built, chip_time=chip_time) as it, Console(it.url) as console:
        console.run(_TIMES + "from coupler import hal\nf=hal.get().flash()", "x")
        erase, page, four, read = (
            console.ask(expression, "x")
            for expression in (
                "min(took(f.erase, 5) for _ in range(3))",
                "min(took(f.program, 5 * 4096 + 256 * i, bytes(256)) for i in range(3))",
                "took(f.program, 5 * 4096 + 1000, bytes(800))",
                "took(f.read, 5 * 4096, bytearray(256))",
            )
        )
        if chip_time:
            assert 45000 <= erase < 60000
            assert 700 <= page < 5000
            assert 2800 <= four < 12000
        else:
            assert erase < 40000 and page < 40000
        assert read < 40000


# On a stock layout: the same interface over files, the identity's second place in them.
_STOCK = """
from coupler import hal
from coupler.store.files import Files
from coupler.trust import switch
h = hal.get()
print(h.flash())
f = Files(h)
f.erase(9)
f.program(9 * 4096 + 100, b"abc")
f.program(9 * 4096 + 300, b"def")
b = bytearray(210)
f.read(9 * 4096 + 98, b)
print(bytes(b) == b"\\xff\\xffabc" + b"\\xff" * 197 + b"def" + b"\\xff" * 5)
for path in switch.IDENTITY:
    h.write_file(path, path.encode() * 50)
print(switch.recover(h))
h.write_file(switch.CERT, b"flipped")
print(switch.recover(h), h.read_file(switch.CERT) == switch.CERT.encode() * 50, switch.recover(h))
"""


_NEEDED = tuple("coupler/" + name for name in ("__init__", "const", "hal/", "store/", "trust/"))


@pytest.mark.parametrize("runtime", ["micropython", "cpython"])
def test_a_stock_layout_has_files_instead(tmp_path: Path, runtime: Literal["micropython", "cpython"]) -> None:
    (tmp_path / "coupler").symlink_to(firmware_dir() / "coupler")
    (tmp_path / "main.py").write_text(_STOCK)
    part = next(part for part in OTA_TABLE if part.name == "vfs")
    fs = LittleFS(block_size=4096, block_count=part.size // 4096, disk_version=0x20000)
    for module in compile_all(firmware_dir()):
        if module.target.startswith(_NEEDED):
            fs.makedirs(str(Path(module.target).parent), exist_ok=True)
            with fs.open(module.target, "wb") as file:
                file.write(module.data)
    with fs.open("main.py", "wb") as file:
        file.write(_STOCK.encode())

    async def main() -> None:
        flash = Flash(tmp_path / "flash.bin", SIZE)
        flash.program(part.offset, bytes(fs.context.buffer))
        board = Rig(flash, GuestOptions(runtime=runtime, firmware=tmp_path), OTA_TABLE)
        await board.guest.start()
        try:
            said = (await board.until(BANNER)).decode().split("\r\n")
            assert said[:4] == ["None", "True", "clean", "restored True clean"], said
        finally:
            await board.guest.stop()
            flash.close()

    asyncio.run(main())
