"""The REPL of the guest, as the chip's: friendly, paste, raw, raw paste, Ctrl-C and soft resets."""

import asyncio
import textwrap

from guest_rig import BANNER, PROMPT, rig, vfs_files


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
            await board.until(b"())")  # it is at the line's end: while it completes, Ctrl-C would end that
            board.guest.write(b"\x03")
            await board.until(b">>> ")
            board.guest.write(b"import sys\r")
            await board.until(b"import sys\r\n>>> ")
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
