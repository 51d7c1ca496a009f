"""The unmodified mpremote against the guest's serial line."""

import asyncio
import hashlib
import os

from guest_rig import BANNER, mpremote, rig, serial_port, vfs_files
from kobler.sim.flash import Flash
from running_board import RunningBoard


def test_mpremote_executes_and_evaluates(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board, serial_port(board.guest) as port:
            assert await mpremote(port, "exec", "import sys; print(sys.platform)") == (0, "esp32\n")
            assert await mpremote(port, "eval", "6*7") == (0, "42\n")
            status, said = await mpremote(port, "exec", "def f():\n  return 1/0\nf()")
            assert status == 1
            assert said == (
                "Traceback (most recent call last):\n"
                '  File "<stdin>", line 3, in <module>\n'
                '  File "<stdin>", line 2, in f\n'
                "ZeroDivisionError: divide by zero\n"
            )

    asyncio.run(main())


def test_mpremote_changes_files_that_a_foreign_littlefs_reads_back(tmp_path):
    data = os.urandom(20000) + bytes(range(256))
    (tmp_path / "data.bin").write_bytes(data)

    async def main():
        async with rig(tmp_path) as board, serial_port(board.guest) as port:
            assert (await mpremote(port, "fs", "cp", "data.bin", ":data.bin", cwd=tmp_path))[0] == 0
            status, said = await mpremote(port, "fs", "sha256sum", ":data.bin")
            assert hashlib.sha256(data).hexdigest() in said
            status, said = await mpremote(port, "fs", "mkdir", ":sub", "+", "fs", "ls", "+", "df")
            assert status == 0
            assert "20256 data.bin" in said and "sub/" in said and "<VfsLfs2>" in said
            assert (await mpremote(port, "fs", "cp", ":data.bin", "back.bin", cwd=tmp_path))[0] == 0
            assert (tmp_path / "back.bin").read_bytes() == data
            assert vfs_files(board.flash)["data.bin"] == data
            assert (await mpremote(port, "fs", "rm", ":data.bin"))[0] == 0
            assert "data.bin" not in vfs_files(board.flash)

    asyncio.run(main())


def test_mpremote_runs_a_program_and_mounts_a_folder(tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    # Every byte value crosses the line both ways, Ctrl-C and line feeds among them.
    (here / "all.bin").write_bytes(bytes(range(256)) * 5)
    (here / "thing.py").write_text("print('imported over the wire')\n")
    (tmp_path / "program.py").write_text("print('ran')\n")

    async def main():
        async with rig(tmp_path, {}) as board, serial_port(board.guest) as port:
            assert await mpremote(port, "run", "program.py", cwd=tmp_path) == (0, "ran\n")
            program = (
                "import thing\nd = open('all.bin', 'rb').read()\nf = open('copy.bin', 'wb')\nf.write(d)\nf.close()"
            )
            status, said = await mpremote(port, "mount", str(here), "exec", program)
            assert status == 0, said
            assert "imported over the wire" in said
            assert (here / "copy.bin").read_bytes() == bytes(range(256)) * 5

    asyncio.run(main())


def test_mpremote_resets_and_sets_the_clock(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board, serial_port(board.guest) as port:
            assert (await mpremote(port, "rtc", "--set"))[0] == 0
            _, said = await mpremote(port, "exec", "import time; print(time.gmtime()[0])")
            assert int(said) >= 2024
            assert (await mpremote(port, "soft-reset"))[0] == 0
            cause = "import machine; print(machine.reset_cause())"
            assert await mpremote(port, "exec", cause) == (0, "5\n")
            board.said.clear()
            assert (await mpremote(port, "reset"))[0] == 0
            await board.until(BANNER)
            assert await mpremote(port, "resume", "exec", cause) == (0, "2\n")
            assert board.resets == [b"\x02"]

    asyncio.run(main())


def test_mpremote_gets_in_while_main_runs_for_ever(tmp_path):
    async def main():
        busy = {"main.py": "while True:\n    pass\n", "boot.py": "BOOTED = 1\n"}
        async with rig(tmp_path, busy) as board, serial_port(board.guest) as port:
            assert await mpremote(port, "exec", "print(BOOTED)") == (0, "1\n")
            assert b"KeyboardInterrupt" in board.said

    asyncio.run(main())


def test_mpremote_reaches_the_whole_board_through_its_usb_port(tmp_path, built):
    image = tmp_path / "flash.bin"
    flash = Flash(image, 4 << 20)
    for offset, file in built.regions:
        flash.program(offset, file.read_bytes())
    flash.close()
    here = tmp_path / "here"
    here.mkdir()
    (here / "all.bin").write_bytes(bytes(range(256)) * 20)
    copy = str(here / "copy.bin")
    compare = "print(open('all.bin', 'rb').read() == open('/all.bin', 'rb').read())"
    with RunningBoard(image) as board:
        for arguments, answer in (
            (("eval", "1 + 1"), "2"),
            (("fs", "cp", str(here / "all.bin"), ":all.bin"), "all.bin"),
            (("fs", "cp", ":all.bin", copy), "all.bin"),
            (("mount", str(here), "exec", compare), "True"),
            (("reset",), ""),
            (("exec", "import machine; print('cause', machine.reset_cause())"), "cause 5"),
        ):
            done = board.mpremote(*arguments)
            assert answer in done.ok(), arguments
        assert (here / "copy.bin").read_bytes() == bytes(range(256)) * 20
