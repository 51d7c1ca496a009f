"""The stock tools see one flash: what mpremote changes, esptool reads back, and littlefs outside mounts."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import littlefs
import pytest

_VFS_OFFSET, _VFS_SIZE, _BLOCK = 0x200000, 0x100000, 4096


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("sim")
    with (folder / "log").open("w") as log:
        sim = subprocess.Popen(
            [sys.executable, "-m", "kobler", "sim", "run", "--json", "--state", folder / "state"],
            stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        assert sim.stdout is not None
        yield str(json.loads(sim.stdout.readline())["usb"])
        sim.send_signal(signal.SIGINT)
        assert sim.wait(15) in (0, 130)


def _tool(*arguments: str) -> str:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_esptool_reads_back_what_mpremote_wrote(port: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 30
    (tmp_path / "note.bin").write_bytes(content)
    _tool("mpremote", "connect", port, "mkdir", ":/notes", "+", "fs", "cp", str(tmp_path / "note.bin"), ":/notes/a.bin")
    image = tmp_path / "vfs.bin"
    _tool("esptool", "--port", port, "read-flash", hex(_VFS_OFFSET), hex(_VFS_SIZE), str(image))
    filesystem = littlefs.LittleFS(block_size=_BLOCK, block_count=_VFS_SIZE // _BLOCK, mount=False)
    filesystem.context.buffer = bytearray(image.read_bytes())
    filesystem.mount()
    with filesystem.open("/notes/a.bin", "rb") as file:
        assert file.read() == content
    # esptool's hard reset started the firmware again, and mpremote finds it there.
    assert "a.bin" in _tool("mpremote", "connect", port, "fs", "ls", ":/notes")
