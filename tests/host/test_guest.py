"""The guest: what the chip's firmware does after a reset, and how an interpreter starts and ends."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from guest_rig import BANNER, SIZE, VFS, rig, vfs_files
from kobler.errors import KoblerError
from kobler.sim import interpreter
from kobler.sim.flash import Flash
from kobler.sim.guest import GuestOptions

# - starting


def test_a_blank_flash_gets_a_file_system_that_others_can_read(tmp_path):
    async def main():
        async with rig(tmp_path) as board:
            await board.until(b"Performing initial setup\r\n")
            said = await board.until(BANNER)
            assert said.startswith(b"MicroPython v") and b"with ESP32" in said
        assert "boot.py" in vfs_files_again(tmp_path)

    asyncio.run(main())


def vfs_files_again(folder):
    flash = Flash(folder / "flash.bin", SIZE)
    try:
        return vfs_files(flash)
    finally:
        flash.close()


def test_boot_then_main_run_from_the_image_in_one_name_space(tmp_path):
    files = {
        "boot.py": "print('boot', __name__)\nx = 1\n",
        "main.py": "import lib\nprint('main', x + lib.y)\n",
        "lib.py": "y = 41\n",
    }

    async def main():
        async with rig(tmp_path, files) as board:
            assert (await board.until(BANNER)).startswith(b"boot __main__\r\nmain 42\r\nMicroPython v")
            assert await board.line("x") == "1"

    asyncio.run(main())


def test_a_failing_main_shows_its_traceback_and_leaves_the_repl(tmp_path):
    async def main():
        async with rig(tmp_path, {"main.py": "def f():\n    raise ValueError('why')\nf()\n"}) as board:
            said = await board.until(BANNER)
            assert said.startswith(
                b"Traceback (most recent call last):\r\n"
                b'  File "main.py", line 3, in <module>\r\n'
                b'  File "main.py", line 2, in f\r\n'
                b"ValueError: why\r\n"
            )

    asyncio.run(main())


def test_the_machines_own_files_and_environment_are_out_of_reach(tmp_path):
    program = """
        import os, sys, vfs
        for name in ("/etc/passwd", "/proc/self/environ", "/tmp"):
            try:
                os.stat(name)
                print("visible", name)
            except OSError:
                pass
        names = [n for n in ("getenv", "system", "VfsPosix") if hasattr(os, n)]
        print(os.listdir("/"), names, hasattr(vfs, "VfsPosix"))
        """

    async def main():
        async with rig(tmp_path, {"main.py": textwrap.dedent(program)}) as board:
            assert (await board.until(b"\r\n")) == b"['main.py'] [] False\r\n"

    asyncio.run(main())


def test_a_damaged_file_system_is_not_overwritten(tmp_path):
    async def main():
        async with rig(tmp_path, {"main.py": "print('kept')\n"}) as board:
            await board.until(BANNER)
            damaged = bytes(4096)
            await board.guest.stop()
            for sector in (VFS.offset, VFS.offset + 4096):
                board.flash.program(sector, damaged)
            await board.guest.start()
            await board.until(b"looks corrupt")
            board.guest.write(b"\x03")
            await board.until(b">>> ")
            assert board.flash.read(VFS.offset, 4096) == damaged

    asyncio.run(main())


# - resets and power


def test_the_clock_outlives_resets_but_not_a_loss_of_power(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            assert (await board.line("import time, machine; time.gmtime()[:5]")) == "(2000, 1, 1, 0, 0)"
            await board.line("machine.RTC().datetime((2031, 2, 3, 0, 4, 5, 6, 0))")
            board.guest.write(b"machine.reset()\r")
            await board.until(BANNER)
            assert board.resets == [b"\x02"]
            assert await board.line("import time, machine; machine.reset_cause()") == "2"
            assert (await board.line("time.localtime()[:5]")) == "(2031, 2, 3, 4, 5)"
            await board.guest.start()
            await board.until(BANNER)
            assert (await board.line("import time; time.gmtime()[0]")) == "2000"

    asyncio.run(main())


def test_deep_sleep_asks_to_be_woken(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            board.guest.write(b"import machine; machine.deepsleep(1500)\r")
            await board.until(BANNER)
            assert board.resets == [b"\x04" + (1500).to_bytes(4, "little")]
            assert await board.line("import machine; machine.reset_cause(), machine.wake_reason()") == "(4, 4)"

    asyncio.run(main())


def test_a_power_cut_in_a_flash_operation_is_reported_and_nothing_is_answered(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            cuts = []
            board.guest.on_power_cut(lambda: cuts.append(1))
            board.flash.cut_after(3)
            board.guest.write(b"open('a', 'w').write('x' * 9000); print('do' 'ne')\r")
            async with asyncio.timeout(5):
                while not cuts:
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            assert b"done\r\n" not in board.said.split(b"\r\n", 1)[-1]
            await board.guest.stop()
            board.flash.power(True)
            await board.guest.start()
            await board.until(BANNER)

    asyncio.run(main())


def test_stopping_leaves_no_process_and_says_nothing_of_an_exit(tmp_path):
    async def main():
        async with rig(tmp_path, {"main.py": "while True: pass\n"}) as board:
            await asyncio.sleep(0.1)
            pid = board.guest.pid
            await board.guest.stop()
            assert board.exits == [] and not board.guest.running
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)

    asyncio.run(main())


def test_an_interpreter_that_dies_is_reported(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            os.kill(board.guest.pid, signal.SIGKILL)
            async with asyncio.timeout(5):
                while not board.exits:
                    await asyncio.sleep(0.01)
            assert board.exits == [-signal.SIGKILL] and not board.guest.running

    asyncio.run(main())


def test_no_guest_is_left_when_its_board_is_killed(tmp_path):
    program = """
        import asyncio, sys
        sys.path.insert(0, sys.argv[2])
        from pathlib import Path
        from guest_rig import rig

        async def main():
            async with rig(Path(sys.argv[1]), {"main.py": "while True: pass"}) as board:
                print(board.guest.pid, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
        """
    here = str(Path(__file__).parent)
    board = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), here], stdout=subprocess.PIPE
    )
    try:
        assert board.stdout is not None
        pid = int(board.stdout.readline())
        time.sleep(0.3)
    finally:
        board.kill()
        board.communicate()
    end = time.monotonic() + 5
    while _alive(pid):
        assert time.monotonic() < end, "the guest goes on without its board"
        time.sleep(0.02)


def _alive(pid):
    """Neither gone nor dead and waiting for init to notice."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# - the interpreter


def test_a_limited_heap_is_the_programs_alone(tmp_path):
    async def main():
        async with rig(tmp_path, {}, GuestOptions(heap=165_000)) as board:
            await board.until(BANNER)
            free = int(await board.line("import gc; n = gc.collect(); gc.mem_free()"))
            assert 0.93 * 165_000 < free < 1.07 * 165_000
            assert "MemoryError" in await board.line("x = bytearray(200000)")

    asyncio.run(main())


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        (None, "which is not a program"),
        ("#!/bin/sh\necho micropython 1 19 1\n", "is MicroPython 1.19.1"),
        ("#!/bin/sh\necho hello\n", "does not answer as MicroPython"),
        ("#!/bin/sh\necho micropython 1 24 0\nexit 1\n", "lacks the littlefs file system"),
    ],
)
def test_an_interpreter_that_will_not_do_is_named_with_the_remedy(tmp_path, monkeypatch, script, complaint):
    program = tmp_path / "interpreter"
    if script:
        program.write_text(script)
        program.chmod(0o755)
    monkeypatch.setenv("KOBLER_MICROPYTHON", str(program))
    with pytest.raises(KoblerError) as error:
        interpreter.micropython()
    assert complaint in str(error.value) and "1.24 or later" in str(error.value)
