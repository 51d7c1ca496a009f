"""What a build puts into flash, judged by esptool, littlefs and the real MicroPython rather than by ourselves."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kobler import boards, resources
from kobler.build import Build, build
from kobler.build.cli import build as command
from kobler.build.image import Image, slice_base
from kobler.build.modules import compile_all, sources
from kobler.errors import KoblerError, UsageError
from littlefs import LittleFS
from typer import Typer
from typer.testing import CliRunner

S3 = "waveshare-esp32-s3-eth-8di-8do"
MICROPYTHON = os.environ.get("KOBLER_MICROPYTHON") or shutil.which("micropython", path=str(Path(sys.executable).parent))


@pytest.fixture(scope="module")
def virtual(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(boards.load("virtual"), tmp_path_factory.mktemp("build") / "virtual")


def region(done: Build, name: str) -> bytes:
    (found,) = (r for r in done.contents.regions if r.name == name)
    return (done.folder / found.file).read_bytes()


def unpack(done: Build) -> dict[str, bytes]:
    """Every file of the file system image, read by littlefs with its own defaults."""
    data = region(done, "vfs")
    fs = LittleFS(block_size=4096, block_count=len(data) // 4096, mount=False)
    fs.context.buffer = bytearray(data)
    fs.mount()
    return {
        f"{folder}/{name}".replace("//", "/"): fs.open(f"{folder}/{name}", "rb").read()
        for folder, _, names in fs.walk("/")
        for name in names
    }


def base_image(name: str, app_size: int = 5000) -> tuple[bytes, bytes, bytes]:
    """(a MicroPython image as the project publishes it, its bootloader, its application)"""
    board = boards.load(name)
    chip = board.chip_info
    bootloader = Image.make(chip, chip.ram_address, b"\x11" * 3000).data
    app = Image.make(chip, chip.data_address, bytes(range(256)) * (app_size // 256)).data
    table = b"\xaa\x50 another partition table"
    whole = bytearray(b"\xff" * (0x10000 - chip.bootloader_offset)) + app
    whole[: len(bootloader)] = bootloader
    at = 0x8000 - chip.bootloader_offset
    whole[at : at + len(table)] = table
    return bytes(whole), bootloader, app


def test_every_module_is_compiled_and_boot_and_main_are_source(virtual: Build) -> None:
    firmware = resources.firmware_dir()
    files = unpack(virtual)
    for path in sources(firmware):
        target = "/" + path.relative_to(firmware).with_suffix(".mpy").as_posix()
        assert files.pop(target)[:2] == b"M\x06", target
    assert json.loads(files.pop("/board.json")) == boards.load("virtual").wiring()
    assert files == {f"/{name}": (firmware / name).read_bytes() for name in ("boot.py", "main.py")}


def test_no_other_runtime_of_hal_is_on_the_unit(virtual: Build) -> None:
    assert not [name for name in unpack(virtual) if "cpython" in name or "circuitpython" in name]


def test_the_manifest_tells_what_each_file_costs_and_holds_no_path_of_this_machine(virtual: Build) -> None:
    files = unpack(virtual)
    assert {f"/{m.file}": m.bytes for m in virtual.contents.modules} == {n: len(d) for n, d in files.items()}
    text = virtual.manifest.read_text(encoding="utf-8")
    assert str(Path.home()) not in text
    assert str(resources.firmware_dir()) not in text
    for r in virtual.contents.regions:
        data = (virtual.folder / r.file).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (r.size, r.sha256)


def test_two_builds_are_the_same_byte_for_byte(virtual: Build, tmp_path: Path) -> None:
    started = time.monotonic()
    again = build(boards.load("virtual"), tmp_path / "elsewhere")
    assert time.monotonic() - started < 10
    names = sorted(path.name for path in virtual.folder.iterdir())
    assert names == sorted(path.name for path in again.folder.iterdir())
    for name in names:
        assert (virtual.folder / name).read_bytes() == (again.folder / name).read_bytes(), name


def test_a_build_does_not_depend_on_where_the_firmware_lies(virtual: Build, tmp_path: Path) -> None:
    copy = tmp_path / "deep" / "er" / "firmware"
    shutil.copytree(resources.firmware_dir(), copy)
    other = build(boards.load("virtual"), tmp_path / "out", firmware=copy)
    assert region(other, "vfs") == region(virtual, "vfs")


@pytest.mark.skipif(MICROPYTHON is None, reason="no MicroPython here: set KOBLER_MICROPYTHON")
def test_the_real_micropython_mounts_the_file_system_and_imports_from_it(virtual: Build, tmp_path: Path) -> None:
    vfs = next(r for r in virtual.contents.regions if r.name == "vfs")
    script = tmp_path / "mount.py"
    script.write_text(
        """
import os, sys, vfs
class Flash:
    def __init__(self, path):
        self.f = open(path, "r+b")
        self.count = self.f.seek(0, 2) // 4096
    def readblocks(self, n, buf, off=0):
        self.f.seek(n * 4096 + off)
        self.f.readinto(buf)
    def writeblocks(self, n, buf, off=None):
        self.f.seek(n * 4096 + (off or 0))
        self.f.write(buf)
    def ioctl(self, op, arg):
        if op == 4: return self.count
        if op == 5: return 4096
        if op == 6:
            self.f.seek(arg * 4096)
            self.f.write(b"\\xff" * 4096)
            return 0
vfs.mount(vfs.VfsLfs2(Flash(sys.argv[1])), "/unit")
import json
sys.path[:] = ["/unit"]
from coupler.net import dns
from coupler import const
with open("/unit/etc/note.new", "w") as f: f.write("x" * 5000)
os.rename("/unit/etc/note.new", "/unit/etc/note")
print(dns.__file__, json.load(open("/unit/board.json"))["name"], os.stat("/unit/etc/note")[6])
"""
    )
    image = tmp_path / "vfs.bin"
    shutil.copyfile(virtual.folder / vfs.file, image)
    command = [str(MICROPYTHON), str(script), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["/unit/coupler/net/dns.mpy", "virtual", "5000"], done.stderr


@pytest.mark.parametrize("name", boards.names())
def test_the_partition_table_is_what_the_bootloader_reads(name: str, tmp_path: Path) -> None:
    # The format by hand, from ESP-IDF's documentation.
    board = boards.load(name)
    image = tmp_path / "base.bin"
    image.write_bytes(base_image(name)[0])
    table = region(build(board, tmp_path / "out", image), "partitions")
    assert len(table) == 0xC00
    rows = []
    for at in range(0, len(table), 32):
        row = table[at : at + 32]
        if row[:2] != b"\xaa\x50":
            break
        offset, size = struct.unpack("<II", row[4:12])
        rows.append((row[12:28].rstrip(b"\0").decode(), row[2], row[3], offset, size))
        assert row[28:] == bytes(4)
    assert rows == [(p.name, p.type, p.subtype, p.offset, p.size) for p in board.partition]
    assert table[at : at + 16] == b"\xeb\xeb" + b"\xff" * 14
    assert table[at + 16 : at + 32] == hashlib.md5(table[:at]).digest()
    assert table[at + 32 :].strip(b"\xff") == b""


def image_info(path: Path, chip: str) -> str:
    line = [sys.executable, "-m", "esptool", "--chip", chip, "image-info", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("part", ["bootloader", "app"])
def test_esptool_accepts_the_stand_in(virtual: Build, part: str) -> None:
    said = image_info(virtual.folder / f"{part}.bin", "esp32")
    assert "Checksum" in said
    assert said.count("(valid)") == 2
    assert "Flash size: 4MB" in said


def test_the_regions_lie_apart_and_leave_counters_and_journal_alone(virtual: Build) -> None:
    spans = [(offset, offset + path.stat().st_size) for offset, path in virtual.regions]
    assert spans == sorted(spans)
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for part in virtual.layout:
        if part.name in {"nvs", "journal"}:
            assert not any(start < part.offset + part.size and part.offset < end for start, end in spans)


@pytest.mark.parametrize("name", ["olimex-esp32-poe", S3])
def test_a_base_image_is_sliced_around_its_partition_table(name: str, tmp_path: Path) -> None:
    board = boards.load(name)
    whole, bootloader, app = base_image(name)
    image = tmp_path / "base.bin"
    image.write_bytes(whole)
    digest = hashlib.sha256(whole).hexdigest()
    done = build(board, tmp_path / "out", image, digest.upper())
    assert region(done, "app") == app
    ours = region(done, "bootloader")
    assert ours[4:-32] == bootloader[4:-32]
    assert done.regions[0][0] == {"esp32": 0x1000, "esp32s3": 0}[board.chip]
    # The bootloader must know of all the flash that the partitions use, and still be whole.
    said = image_info(done.folder / "bootloader.bin", board.chip)
    assert f"Flash size: {board.flash_size >> 20}MB" in said
    assert said.count("(valid)") == 2
    assert done.contents.base.sha256 == digest


def spoil(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_a_base_image_that_is_none_is_refused_in_words(tmp_path: Path) -> None:
    board = boards.load("olimex-esp32-poe")
    whole, _, app = base_image(board.name)
    at_app = len(whole) - len(app)
    cases = {
        b"<!DOCTYPE html>": "not an ESP32 image",
        b"": "not an ESP32 image",
        whole[:2000]: "truncated",
        whole[:-40]: "truncated",
        whole[: at_app + 100]: "truncated",
        whole[:at_app]: "application at 0x10000: not an ESP32 image",
        spoil(whole, 100): "damaged: its checksum",
        spoil(whole, len(whole) - 1): "damaged: its SHA-256",
        base_image(S3)[0]: "made for esp32s3, but olimex-esp32-poe has an esp32",
        base_image(board.name, 0x1F0000)[0]: "'factory'",
    }
    for data, says in cases.items():
        with pytest.raises(KoblerError, match=r"^FILE[:,] ") as caught:
            slice_base(data, board, "FILE")
        assert says in str(caught.value)


def test_wrong_options_are_refused_and_leave_no_build(tmp_path: Path) -> None:
    board = boards.load("olimex-esp32-poe")
    whole = base_image(board.name)[0]
    image = tmp_path / "base.bin"
    image.write_bytes(whole)
    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"--image .*nothing\.bin: cannot be read"):
        build(board, out, tmp_path / "nothing.bin")
    with pytest.raises(KoblerError, match=r"its SHA-256 is .*, but --sha256 says 0000"):
        build(board, out, image, "0" * 64)
    with pytest.raises(UsageError, match="64 hexadecimal digits"):
        build(board, out, image, "abc")
    with pytest.raises(UsageError, match="no base image to check"):
        build(boards.load("virtual"), out, None, "0" * 64)
    assert not out.exists()


def test_a_mistake_in_the_firmware_is_named_by_file_and_line(tmp_path: Path) -> None:
    firmware = tmp_path / "firmware"
    (firmware / "coupler").mkdir(parents=True)
    with pytest.raises(KoblerError, match=r"no firmware here: boot\.py, main\.py is missing"):
        compile_all(firmware)
    (firmware / "boot.py").write_text("")
    (firmware / "main.py").write_text("")
    (firmware / "coupler" / "broken.py").write_text("x = 1\ndef f(:\n")
    with pytest.raises(KoblerError, match=r"broken\.py: mpy-cross refuses it: .*line 2.*SyntaxError"):
        compile_all(firmware)


def test_a_changed_or_unfinished_build_is_not_flashed(virtual: Build, tmp_path: Path) -> None:
    with pytest.raises(KoblerError, match="no finished build here"):
        Build.load(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(virtual.folder, copy)
    assert Build.load(copy).contents == virtual.contents
    (copy / "app.bin").write_bytes(b"other")
    with pytest.raises(KoblerError, match=r"app\.bin: not what was built"):
        Build.load(copy)
    (copy / "manifest.json").write_text("{}")
    with pytest.raises(KoblerError, match=r"manifest\.json: cannot be used"):
        Build.load(copy)


def test_the_command_shows_what_each_module_costs(tmp_path: Path) -> None:
    app = Typer()
    app.command()(command)
    run = CliRunner()
    shown = run.invoke(app, ["--board", "virtual", "--state", str(tmp_path)], env={"COLUMNS": "200"})
    assert shown.exit_code == 0, shown.output
    assert "/coupler/net/dns.mpy" in shown.stdout
    as_json = run.invoke(app, ["--board", "virtual", "--state", str(tmp_path), "--json"])
    event = json.loads(as_json.stdout)
    assert (event["event"], event["board"]) == ("built", "virtual")
    assert Build.load(Path(event["folder"])).contents.modules[0].bytes == event["modules"][0]["bytes"]


def test_the_manifest_for_a_custom_build_freezes_the_same_modules() -> None:
    firmware = resources.firmware_dir()
    frozen: list[str] = []
    calls = {
        "include": lambda path: None,
        "module": lambda name, opt: frozen.append(name),
        "package": lambda name, files, opt: frozen.extend(Path(name, file).as_posix() for file in files),
    }
    here = Path.cwd()
    os.chdir(firmware)  # as MicroPython's makemanifest.py does
    try:
        exec((firmware / "manifest.py").read_text(encoding="utf-8"), calls)
    finally:
        os.chdir(here)
    wanted = [path.relative_to(firmware).as_posix() for path in sources(firmware)] + ["boot.py", "main.py"]
    assert sorted(frozen) == sorted(wanted)
