"""The runtime `cpython`: the firmware's sources over the same overlay, on the same flash."""

import asyncio
import textwrap

from guest_rig import BANNER, SIZE, TABLE, Rig, rig, vfs_files
from kobler.sim.flash import Flash
from kobler.sim.guest import GuestOptions


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
            said = (await board.until(BANNER)).decode()
            lines = said.split("\r\n")
            assert lines[:5] == ["boot", "woke True", "ticks True", "127.0.0.1 1 a0b1c2d3e4f5", "b'before' None"]
            assert "ZeroDivisionError" in said
            board.guest.write(b"\x04")
            await board.until(b"MPY: soft reboot\r\nboot\r\n")
            await board.until(BANNER)
            await board.guest.stop()
            assert "seen" not in vfs_files(board.flash)

        # What CPython wrote, MicroPython finds.
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


def test_what_micropython_wrote_cpython_reads(tmp_path):
    (tmp_path / "main.py").write_text(
        "import guestfs\nprint(len(guestfs.read('/by/chip')))\nguestfs.write('/by/chip', b'x')\n"
    )

    async def main():
        async with rig(tmp_path) as board:
            await board.until(BANNER)
            await board.line("import os; os.mkdir('by'); f = open('by/chip', 'w'); n = f.write('y' * 9000); f.close()")
        flash = Flash(tmp_path / "flash.bin", SIZE)
        board = Rig(flash, GuestOptions(runtime="cpython", firmware=tmp_path), TABLE)
        await board.guest.start()
        try:
            assert await board.until(b"\r\n") == b"9000\r\n"
            await board.until(BANNER)
            board.guest.write(b"\x04")
            assert (await board.until(BANNER)).split(b"\r\n")[2] == b"1"
        finally:
            await board.guest.stop()
            flash.close()

    asyncio.run(main())


def test_the_repl_on_cpython_is_the_chips(tmp_path):
    (tmp_path / "parts.py").write_text("def halve(n):\n    return n / 2\n")
    (tmp_path / "boot.py").write_text("print('boot')\n")
    (tmp_path / "main.py").write_text("import asyncio\nprint('main')\nasyncio.run(asyncio.sleep(100))\n")

    async def main():
        async with rig(tmp_path, {}, GuestOptions(runtime="cpython", firmware=tmp_path)) as board:
            await board.until(b"boot\r\nmain\r\n")
            board.guest.write(b"\x03")
            assert b"KeyboardInterrupt" in await board.until(BANNER)
            assert await board.line("import parts; parts.halve(9)") == "4.5"
            assert await board.line("1 / 0") == (
                'Traceback (most recent call last):\r\n  File "<stdin>", line 1, in <module>\r\n'
                "ZeroDivisionError: division by zero"
            )
            assert await board.execute("import guestfs\nguestfs.write('/x', b'raw')\nn = 7") == ""
            assert await board.execute("print(n, guestfs.read('/x'))") == "7 b'raw'\n"
            board.guest.write(b"\x01")
            await board.until(b"raw REPL; CTRL-B to exit\r\n>")
            board.guest.write(b"print('on')\nwhile True: pass\x04")
            await board.until(b"OKon\r\n")
            board.guest.write(b"\x03")
            assert (await board.until(b"\x04>")).startswith(b"\x04Traceback")
            board.guest.write(b"\x04")
            said = await board.until(b"raw REPL; CTRL-B to exit\r\n>")
            assert said == b"\r\nMPY: soft reboot\r\nboot\r\nraw REPL; CTRL-B to exit\r\n>"
            assert board.exits == []

    asyncio.run(main())
