"""The guest: what the chip's firmware does after a reset, its REPL, its time, and how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from guest_rig import BANNER, PROMPT, VFS, rig, vfs_files
from kobler.errors import KoblerError
from kobler.sim import interpreter
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
    from guest_rig import SIZE
    from kobler.sim.flash import Flash

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
        print(os.listdir("/"), [n for n in ("getenv", "system", "VfsPosix") if hasattr(os, n)], hasattr(vfs, "VfsPosix"))
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


# - REPL


def test_the_friendly_repl_edits_continues_and_completes(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            assert await board.line("2 + 3") == "5"
            assert await board.line("1 / 0") == (
                'Traceback (most recent call last):\r\n  File "<stdin>", line 1, in <module>\r\n'
                "ZeroDivisionError: divide by zero"
            )
            board.guest.write(b"for i in range(2):\rprint('n', i)\r\r")  # the second line is indented by itself
            assert b"n 0\r\nn 1\r\n" in await board.until(b">>> ")
            board.guest.write(b"a = [1,\r2]\r")
            await board.until(b"... 2]" + PROMPT)
            assert await board.line("a") == "[1, 2]"
            board.guest.write(b"import mach\tprint(machine.reset_cau\t())")
            board.said.clear()
            board.guest.write(b"\x03")
            await board.until(b">>> ")
            board.guest.write(b"import sys\r")
            await board.until(b">>> ")
            board.guest.write(b"sys.platf\t\r")
            assert b"sys.platform\r\n'esp32'" in await board.until(b">>> ")
            board.guest.write(b"7 * 6x\x7f\r")
            assert b"\r\n42\r\n" in await board.until(b"\r\n>>> ")
            board.guest.write(b"\x1b[A\x1b[D\x1b[D\x1b[D\x1b[D0\r")  # the last line again, 70 * 6
            assert b"\r\n420\r\n" in await board.until(b"\r\n>>> ")
            board.guest.write(b"\x05")
            await board.until(b"=== ")
            board.guest.write(b"def f():\r    return 9\r\rprint(f())\r\x04")
            assert b"\r\n9\r\n" in await board.until(b">>> ")

    asyncio.run(main())


def test_raw_paste_takes_long_programs_and_reports_errors(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            board.guest.write(b"\x01")
            await board.until(b"raw REPL; CTRL-B to exit\r\n>")
            board.guest.write(b"\x05A\x01")
            head = await board.until(b"\x01", 5)
            assert head == b"R\x01"
            window = int.from_bytes((await board.until(b"\x01"))[:2], "little")
            program = b"x = 0\n" + b"x += 1  # %s\n" % (b"." * 80) * 200 + b"print(x)\n"
            for at in range(0, len(program), window):
                board.guest.write(program[at : at + window])
                if len(program[at : at + window]) == window:
                    await board.until(b"\x01")
            board.guest.write(b"\x04")
            assert await board.until(b"\x04\x04>") == b"\x04200\r\n\x04\x04>"
            board.guest.write(b"print('x'\x04")
            said = await board.until(b"\x04>")
            assert said.startswith(b"OK\x04Traceback") and b"SyntaxError" in said

    asyncio.run(main())


def test_ctrl_c_stops_main_also_when_nothing_reads_what_was_typed_before(tmp_path):
    main_py = "import time\nprint('go')\ntime.sleep(100)\n"

    async def main():
        async with rig(tmp_path, {"main.py": main_py}) as board:
            await board.until(b"go\r\n")
            board.guest.write(b"#" * 20000)
            await asyncio.sleep(0.1)
            board.guest.write(b"\x03\x03\x03")
            await board.until(b"KeyboardInterrupt")
            await board.until(BANNER)
            assert board.exits == []

    asyncio.run(main())


def test_soft_reset_starts_afresh_and_skips_main_in_raw_mode(tmp_path):
    files = {"boot.py": "print('boot')\n", "main.py": "import machine\nprint('main', machine.reset_cause())\n"}

    async def main():
        async with rig(tmp_path, files) as board:
            await board.until(b"main 1\r\n")
            await board.until(BANNER)
            first = board.guest.pid
            await board.line("kept = 1")
            board.guest.write(b"\x04")
            assert await board.until(BANNER) > b"\r\nMPY: soft reboot\r\nboot\r\nmain 5\r\nMicroPython"
            assert board.guest.pid != first
            assert "NameError" in await board.line("kept")
            board.guest.write(b"\x01")
            await board.until(b"raw REPL; CTRL-B to exit\r\n>")
            board.guest.write(b"\x04")
            said = await board.until(b"raw REPL; CTRL-B to exit\r\n>")
            assert said == b"\r\nMPY: soft reboot\r\nboot\r\nraw REPL; CTRL-B to exit\r\n>"
            assert board.exits == []

    asyncio.run(main())


def test_a_program_that_exits_causes_a_soft_reset(tmp_path):
    main_py = """
        import machine, sys
        n = machine.RTC().memory()
        machine.RTC().memory(n + b'x')
        print('run', len(n))
        if len(n) < 2:
            (sys.exit if n else machine.soft_reset)()
        """

    async def main():
        async with rig(tmp_path, {"main.py": textwrap.dedent(main_py)}) as board:
            said = await board.until(BANNER)
            assert said.startswith(b"run 0\r\nMPY: soft reboot\r\nrun 1\r\nMPY: soft reboot\r\nrun 2\r\nMicroPython")

    asyncio.run(main())


def test_ctrl_c_in_the_middle_of_writing_leaves_the_file_system_whole(tmp_path):
    main_py = """
        import os
        n = 0
        print('go')
        while True:
            with open('f%d' % (n % 5), 'w') as f:
                f.write('x' * 700)
            n += 1
        """

    async def main():
        async with rig(tmp_path, {"main.py": textwrap.dedent(main_py)}) as board:
            for _ in range(8):
                await board.until(b"go\r\n")
                await asyncio.sleep(0.05)
                board.guest.write(b"\x03")
                assert b"KeyboardInterrupt" in await board.until(BANNER)
                assert "main.py" in await board.line("import os; os.listdir()")
                board.guest.write(b"\x04")
            await board.until(b"go\r\n")
            await board.guest.stop()
            assert set(vfs_files(board.flash)) >= {"f0", "main.py"}

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


# - time

_TIMES = """
import asyncio, machine, time

def took(start):
    return time.ticks_diff(time.ticks_us(), start)

async def main():
    for ms in (1, 11):
        each = []
        for _ in range(15):
            t = time.ticks_us()
            await asyncio.sleep_ms(ms)
            each.append(took(t))
        print(sorted(each)[7])
    flag = asyncio.ThreadSafeFlag()
    fired = 0
    def fire(_):
        nonlocal fired
        fired = time.ticks_us()
        flag.set()
    late = []
    timer = machine.Timer(0)
    for i in range(15):
        t = time.ticks_us()
        timer.init(mode=machine.Timer.ONE_SHOT, period=3 + i, callback=fire)
        await flag.wait()
        late.append(took(fired))
        assert took(t) >= (3 + i) * 1000
    print(sorted(late)[7])

asyncio.run(main())
ran = []
timer = machine.Timer(1)
timer.init(mode=machine.Timer.PERIODIC, period=5, callback=lambda t: ran.append(1))
t = time.ticks_us()
time.sleep_ms(53)
print(took(t))
timer.deinit()
print(len(ran))
"""


@pytest.mark.parametrize("chip_time", [True, False])
def test_asyncio_sleeps_in_ticks_and_soft_interrupts_wake_it_at_once(tmp_path, chip_time):
    async def main():
        async with rig(tmp_path, {}, GuestOptions(chip_time=chip_time)) as board:
            await board.until(BANNER)
            one, eleven, flag, sleep, ran = (int(word) for word in (await board.execute(_TIMES)).split())
            if chip_time:
                assert 5000 < one < 12000
                assert 15000 < eleven < 24000
            else:
                assert one < 4000
                assert 10900 <= eleven < 14000
            assert flag < 1000
            assert 53000 <= sleep < 56000
            assert ran == 10

    asyncio.run(main())


_IDLE = """
import asyncio

async def main():
    await asyncio.sleep(100)

asyncio.run(main())
"""


def test_an_idle_program_costs_the_machine_next_to_nothing(tmp_path):
    async def main():
        async with rig(tmp_path, {"main.py": _IDLE}) as board:
            await asyncio.sleep(0.5)
            stat = Path(f"/proc/{board.guest.pid}/schedstat")
            before = int(stat.read_text().split()[0])
            await asyncio.sleep(1.5)
            assert (int(stat.read_text().split()[0]) - before) / 1.5e9 < 0.05

    asyncio.run(main())


# - the same on CPython


def test_the_cpython_runtime_runs_sources_over_the_same_overlay_and_flash(tmp_path):
    firmware = tmp_path / "firmware"
    firmware.mkdir()
    (firmware / "boot.py").write_text("print('boot')\n")
    (firmware / "main.py").write_text(
        textwrap.dedent(
            """
            import asyncio, time
            import esp32, guestfs, machine, network
            from micropython import const

            async def main():
                flag = asyncio.ThreadSafeFlag()
                timer = machine.Timer(0)
                timer.init(mode=machine.Timer.ONE_SHOT, period=13, callback=lambda t: flag.set())
                t = time.ticks_ms()
                await flag.wait()
                print('woke', 12 < time.ticks_diff(time.ticks_ms(), t) < 16)
                t = time.ticks_ms()
                await asyncio.sleep_ms(11)
                print('ticks', 10 < time.ticks_diff(time.ticks_ms(), t) < 24)
                lan = network.LAN(phy_addr=0, phy_type=network.PHY_LAN8720, mdc=machine.Pin(23), mdio=machine.Pin(18))
                lan.active(True)
                while not lan.isconnected():
                    await asyncio.sleep(0.01)
                print(lan.ifconfig()[0], machine.reset_cause(), machine.unique_id().hex())

            asyncio.run(main())
            print(guestfs.read('/seen'), guestfs.read('/absent'))
            guestfs.write('/deep/er/new', bytes(5000))
            guestfs.remove('/seen')
            nvs = esp32.NVS('unit')
            nvs.set_i32('boots', -7)
            nvs.commit()
            1 / 0
            """
        )
    )

    async def main():
        options = GuestOptions(runtime="cpython", firmware=firmware, mac=bytes.fromhex("a0b1c2d3e4f5"))
        async with rig(tmp_path, {"seen": "before"}, options) as board:
            said = (await board.until(b"restarts the program")).decode()
            lines = said.split("\r\n")
            assert lines[:5] == ["boot", "woke True", "ticks True", "127.0.0.1 1 a0b1c2d3e4f5", "b'before' None"]
            assert "ZeroDivisionError" in said
            board.guest.write(b"\x04")
            await board.until(b"MPY: soft reboot\r\nboot\r\n")
            await board.until(b"restarts the program")
            await board.guest.stop()
            assert "seen" not in vfs_files(board.flash)

        # What CPython wrote, MicroPython finds.
        from guest_rig import SIZE, TABLE, Rig
        from kobler.sim.flash import Flash

        board = Rig(Flash(tmp_path / "flash.bin", SIZE), GuestOptions(), TABLE)
        await board.guest.start()
        try:
            await board.until(BANNER)
            assert await board.line("import os, esp32; os.stat('/deep/er/new')[6]") == "5000"
            assert await board.line("esp32.NVS('unit').get_i32('boots')") == "-7"
        finally:
            await board.guest.stop()
            board.flash.close()

    asyncio.run(main())
