"""The overlay against the official ESP32 image: its modules' names, constants and errors, and what they do."""

import ast
import asyncio
import json
import struct
import textwrap
import zlib
from pathlib import Path

import pytest
from guest_rig import BANNER, OTA_TABLE, SIZE, Rig, rig
from kobler.sim import link as messages
from kobler.sim.flash import Flash
from kobler.sim.guest import GuestOptions
from kobler.sim.partitions import Partition

_API = Path(__file__).parents[3] / "shared" / "data" / "api-esp32-1.24.0.json"

# What the chip has and the virtual board has not: nothing is there that could be measured, counted or written to.
# A program sees what it sees on a chip of the family that lacks the peripheral: the name is not there.
ABSENT = {
    "machine": {"ADCBlock", "DAC", "I2S", "SDCard", "TouchPad", "mem8", "mem16", "mem32", "dht_readinto"},
    "esp32": {"RMT", "ULP"},
    "network": {"PPP"},
    "time": set(),
    "os": set(),
    "neopixel": set(),
    "micropython": set(),
    "asyncio": set(),
    "vfs": set(),
}
ABSENT_MEMBERS = {("ThreadSafeFlag", "ioctl")}

_LOOK = """
import json
def look(names, module):
    found = {}
    m = __import__(module)
    for name, members in names:
        if not hasattr(m, name):
            continue
        thing = getattr(m, name)
        found[name] = [
            [n for n in members if hasattr(thing, n)], thing if isinstance(thing, int) else None, callable(thing)
        ]
    return found
for module, names in json.loads(WANTED).items():
    print(json.dumps([module, look(names, module)]))
"""


def test_every_public_name_of_the_official_image_is_there(tmp_path):
    if not _API.exists():
        pytest.skip(f"{_API} is not there")
    api = json.loads(_API.read_text())["modules"]
    wanted = {
        module: [
            (name, what if isinstance(what, list) else [])
            for name, what in api[module].items()
            if not name.startswith("_")
        ]
        for module in ABSENT
    }

    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            said = await board.execute(f"WANTED = {json.dumps(wanted)!r}\n{_LOOK}")
            return dict(json.loads(line) for line in said.splitlines())

    found = asyncio.run(main())
    for module, absent in ABSENT.items():
        names = dict(wanted[module])
        assert set(names) - set(found[module]) == absent, module
        for name, (members, value, is_callable) in found[module].items():
            what = api[module][name]
            lacking = {m for m in names[name] if m not in members and (name, m) not in ABSENT_MEMBERS}
            assert not lacking, f"{module}.{name} lacks {lacking}"
            if isinstance(what, int) and not isinstance(what, bool):
                assert value == what, f"{module}.{name}"
            if isinstance(what, list) or what == "function":
                assert is_callable, f"{module}.{name}"


# (expression, what it gives) or (expression, the exception's repr)
_ANSWERS = [
    ("machine.Pin(99)", "ValueError('invalid pin',)"),
    ("machine.Pin(24)", "ValueError('invalid pin',)"),
    ("machine.Pin(34, machine.Pin.OUT)", "ValueError('pin can only be input',)"),
    ("machine.Pin('GPIO5') is machine.Pin.board.GPIO5", "True"),
    ("machine.Pin(5, machine.Pin.OUT, value=1).value()", "1"),
    ("machine.Pin(6, machine.Pin.IN, machine.Pin.PULL_UP)()", "1"),
    ("machine.Signal(7, machine.Pin.OUT, invert=True, value=0).value()", "1"),
    ("machine.freq(3)", "ValueError('frequency must be 20MHz, 40MHz, 80Mhz, 160MHz or 240MHz',)"),
    ("machine.WDT(1)", "ValueError()"),
    ("machine.WDT(timeout=0)", "ValueError('WDT timeout too short',)"),
    ("machine.Timer(9)", "ValueError('invalid Timer number',)"),
    ("machine.RTC().datetime((2001, 2, 3))", "ValueError('requested length 8 but object has length 3',)"),
    ("machine.unique_id()", "b'\\x02\\x00\\x00\\x00\\xc0\\xb1'"),
    ("machine.SoftI2C(machine.Pin(22), machine.Pin(21)).scan()", "[]"),
    ("machine.I2C(0).readfrom(0x20, 1)", "OSError(19,)"),
    ("machine.reset_cause()", "1"),
    (
        "sys.platform, os.uname()[0], sys.implementation._machine",
        "('esp32', 'esp32', 'Virtual Kobler board with ESP32')",
    ),
    ("time.mktime((2024, 2, 29, 12, 0, 0, 0, 0))", "762523200"),
    ("time.gmtime(762523200)", "(2024, 2, 29, 12, 0, 0, 3, 60)"),
    ("time.gmtime(0)", "(2000, 1, 1, 0, 0, 0, 5, 1)"),
    ("time.mktime((2025, 13, 1, 0, 0, 0))", "TypeError('mktime needs a tuple of length 8 or 9 (6 given)',)"),
    ("time.ticks_diff(time.ticks_add(time.ticks_us(), -5), time.ticks_us()) < 0", "True"),
    ("time.ticks_add(0x3fffffff, 2)", "1"),
    ("time.ticks_diff(1, 0x3fffffff)", "2"),
    ("network.LAN()", "TypeError"),
    ("network.LAN(phy_addr=0, phy_type=1)", "ValueError('mdc and mdio must be specified',)"),
    ("network.LAN(phy_addr=0, phy_type=network.PHY_W5500)", "ValueError('spi must be specified',)"),
    ("network.WLAN(5)", "ValueError('invalid interface identifier',)"),
    ("network.WLAN(network.STA_IF).connect('x')", "OSError('Wifi Not Started',)"),
    ("network.WLAN(0) is network.WLAN(0)", "True"),
    ("network.WLAN(0).status()", "1000"),
    ("network.country()", "'XX'"),
    ("esp32.Partition('none')", "OSError(2,)"),
    ("[p.info() for p in esp32.Partition.find(1, label='journal')]", "[(1, 64, 3145728, 65536, 'journal', False)]"),
    ("esp32.Partition(esp32.Partition.RUNNING).info()[4]", "'factory'"),
    ("esp32.Partition(esp32.Partition.RUNNING).get_next_update()", "OSError(2,)"),
    ("esp32.Partition('journal').ioctl(4, 0), esp32.Partition('journal').ioctl(5, 0)", "(16, 4096)"),
    ("esp32.Partition('journal').readblocks(16, bytearray(1))", "OSError(-260, 'ESP_ERR_INVALID_SIZE')"),
    ("esp32.Partition('journal').readblocks(17, bytearray(1))", "OSError(-258, 'ESP_ERR_INVALID_ARG')"),
    ("esp32.NVS('a').get_i32('none')", "OSError(-4354, 'ESP_ERR_NVS_NOT_FOUND')"),
    ("esp32.NVS('a').erase_key('none')", "OSError(-4354, 'ESP_ERR_NVS_NOT_FOUND')"),
    ("esp32.NVS('a').set_i32('sixteen_letters_', 1)", "OSError(-4361, 'ESP_ERR_NVS_KEY_TOO_LONG')"),
]


def test_values_and_errors_are_the_chips(tmp_path):
    program = """
        import esp32, machine, network, os, sys, time
        for e in QUESTIONS:
            try:
                print(repr(eval(e)))
            except Exception as x:
                print(repr(x))
        """
    questions = [question for question, _ in _ANSWERS]

    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            return await board.execute(f"QUESTIONS = {questions!r}\n" + textwrap.dedent(program))

    answers = asyncio.run(main()).splitlines()
    assert len(answers) == len(_ANSWERS)
    for (question, wanted), answer in zip(_ANSWERS, answers, strict=True):
        assert answer == wanted or answer.replace('"', "'").startswith(wanted), question


async def _run(folder: Path, program: str, table: list[Partition] | None = None) -> tuple[str, Rig]:
    async with rig(folder, {} if table is None else None, table=table) as board:
        await board.until(BANNER)
        return await board.execute(textwrap.dedent(program)), board


def test_a_partition_is_raw_nor_flash(tmp_path):
    program = """
        from esp32 import Partition
        p = Partition.find(Partition.TYPE_DATA, label="journal")[0]
        p.ioctl(6, 3)
        p.writeblocks(3, b"\\x0f\\xf0", 10)
        p.writeblocks(3, b"\\x0e\\x10", 10)
        b = bytearray(3)
        p.readblocks(3, b, 9)
        print(b)
        try:
            p.writeblocks(3, b"\\xff", 10)
        except OSError as e:
            print(repr(e))
        p.writeblocks(3, b"ab")
        p.readblocks(3, b, 0)
        print(b)
        """
    said, _ = asyncio.run(_run(tmp_path, program))
    assert said.splitlines() == ["bytearray(b'\\xff\\x0e\\x10')", "OSError(22,)", "bytearray(b'ab\\xff')"]
    flash = Flash(tmp_path / "flash.bin", SIZE)
    assert flash.read(0x300000 + 3 * 4096, 3) == b"ab\xff"
    flash.close()


def test_the_boot_slot_is_written_as_esp_idf_writes_it(tmp_path):
    program = """
        from esp32 import Partition
        print(Partition(Partition.BOOT).info()[4])
        other = Partition(Partition.RUNNING).get_next_update()
        try:
            other.set_boot()
        except OSError as e:
            print(e)
        other.writeblocks(0, b"\\xe9" + bytes(15))
        other.set_boot()
        print(Partition(Partition.BOOT).info()[4], Partition(Partition.RUNNING).info()[4])
        Partition("ota_0").writeblocks(0, b"\\xe9" + bytes(15))
        Partition("ota_0").set_boot()
        Partition.mark_app_valid_cancel_rollback()
        """
    said, _ = asyncio.run(_run(tmp_path, program, OTA_TABLE))
    assert said.splitlines() == ["ota_0", "(-5379, 'ESP_ERR_OTA_VALIDATE_FAILED')", "ota_1 ota_0"]
    flash = Flash(tmp_path / "flash.bin", SIZE)
    entries = [flash.read(0xD000 + 4096 * i, 32) for i in (0, 1)]
    flash.close()
    found = sorted(struct.unpack("<I20xII", entry) for entry in entries)
    # As otatool.py of ESP-IDF has it: crc32 over the sequence alone, from 0xffffffff; 0 is "new", 2 "valid".
    assert found == [(n, state, zlib.crc32(struct.pack("<I", n), 0xFFFFFFFF)) for n, state in ((2, 0), (3, 2))]


def test_values_in_nvs_outlive_resets_and_are_durable_from_commit_on(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            await board.until(BANNER)
            await board.line(
                "import esp32, machine; n = esp32.NVS('unit'); n.set_i32('a', -2); n.set_blob('b', b'xyz')"
            )
            await board.line("n.commit(); n.set_i32('a', 5); n.erase_key('b')")
            assert await board.line("n.get_i32('a')") == "5"
            board.guest.write(b"machine.reset()\r")
            await board.until(BANNER)
            await board.line("import esp32; n = esp32.NVS('unit'); b = bytearray(5)")
            assert await board.line("n.get_i32('a'), n.get_blob('b', b), b") == "(-2, 3, bytearray(b'xyz\\x00\\x00'))"
            assert "ESP_ERR_NVS_INVALID_LENGTH" in await board.line("n.get_blob('b', bytearray(2))")
            assert "ESP_ERR_NVS_NOT_FOUND" in await board.line("n.get_i32('b')")
            assert "ESP_ERR_NVS_NOT_FOUND" in await board.line("esp32.NVS('other').get_i32('a')")
            assert "ESP_ERR_NVS_NOT_ENOUGH_SPACE" in await board.line("n.set_blob('big', bytes(40000))")

    asyncio.run(main())


def test_pins_tell_the_board_and_hear_from_it(tmp_path):
    program = """
        import time, machine
        from machine import Pin
        de = Pin(21, Pin.OUT, value=0)
        de.on()
        de.off()
        heard = []
        button = Pin(0, Pin.IN)
        button.irq(lambda p: heard.append(p()), Pin.IRQ_FALLING | Pin.IRQ_RISING)
        de.on()
        t = time.ticks_ms()
        while len(heard) < 2 and time.ticks_diff(time.ticks_ms(), t) < 2000:
            time.sleep_ms(1)
        print(heard)
        """

    async def main():
        async with rig(tmp_path, {}) as board:
            levels = []

            def pressed(payload):
                pin, level, t = struct.unpack("<BBQ", payload)
                levels.append((pin, level, 0 <= messages.now_us() - t < 1_000_000))
                if len(levels) == 4:
                    board.guest.link.send(messages.GPIO_IN, b"\x00\x00")
                    board.guest.link.send(messages.GPIO_IN, b"\x00\x01")

            board.guest.link.on(messages.GPIO_OUT, pressed)
            await board.until(BANNER)
            said = await board.execute(textwrap.dedent(program))
            assert levels == [(21, 0, True), (21, 1, True), (21, 0, True), (21, 1, True)]
            assert len(ast.literal_eval(said)) == 2

    asyncio.run(main())


def test_the_watchdog_is_started_fed_and_timed_anew_over_the_link(tmp_path):
    async def main():
        async with rig(tmp_path, {}) as board:
            fed = []
            board.guest.link.on(messages.WDT, lambda payload: fed.append(int.from_bytes(payload, "little")))
            await board.until(BANNER)
            await board.line("import machine; w = machine.WDT(timeout=8000); w.feed(); w = machine.WDT(0, 600000)")
            # The prompt and the link's messages come by different ways, so either may be first.
            for _ in range(500):
                if len(fed) == 3:
                    break
                await asyncio.sleep(0.01)
            assert fed == [8000, 0, 600000]

    asyncio.run(main())


def test_interfaces_come_up_after_a_while_with_the_machines_address(tmp_path):
    program = """
        import network, time
        from machine import Pin
        lan = network.LAN(phy_addr=0, phy_type=network.PHY_LAN8720, mdc=Pin(23), mdio=Pin(18), power=Pin(12))
        print(lan is network.LAN(phy_addr=1, phy_type=0, mdc=Pin(1), mdio=Pin(2)), lan.status(), lan.isconnected())
        print(Pin(12).value(), lan.config('mac'))
        lan.active(True)
        states = []
        t = time.ticks_ms()
        while not lan.isconnected() and time.ticks_diff(time.ticks_ms(), t) < 5000:
            if lan.status() not in states:
                states.append(lan.status())
                print(lan.ifconfig()[0])
            time.sleep_ms(5)
        print(states, lan.ifconfig()[:3], lan.ipconfig('addr4'), lan.ipconfig('has_dhcp4'))
        print(lan.ifconfig()[3] == network.ipconfig('dns'))
        lan.ifconfig(('192.0.2.10', '255.255.255.0', '192.0.2.1', '192.0.2.2'))
        print(lan.ifconfig(), lan.ipconfig('dhcp4'))
        sta = network.WLAN(network.WLAN.IF_STA)
        sta.active(True)
        sta.connect('site', 'secret')
        print(sta.isconnected(), sta.status(), sta.config('ssid'))
        while not sta.isconnected():
            time.sleep_ms(5)
        print(sta.status(), sta.status('rssi') < 0)
        sta.disconnect()
        print(sta.isconnected())
        """
    said, _ = asyncio.run(_run(tmp_path, program))
    assert said.splitlines() == [
        "True 0 False",
        "1 b'\\x02\\x00\\x00\\x00\\xc0\\xb4'",
        "0.0.0.0",
        "0.0.0.0",
        "[1, 3] ('127.0.0.1', '255.0.0.0', '127.0.0.1') ('127.0.0.1', '255.0.0.0') True",
        "True",
        "('192.0.2.10', '255.255.255.0', '192.0.2.1', '192.0.2.2') False",
        "False 1001 site",
        "1010 True",
        "False",
    ]


def test_an_s3_has_its_own_pins(tmp_path):
    async def main():
        async with rig(tmp_path, {}, GuestOptions(chip="esp32s3")) as board:
            await board.until(BANNER)
            assert "invalid pin" in await board.line("from machine import Pin; Pin(24)")
            assert await board.line("Pin(48, Pin.OUT, value=1).value()") == "1"
            assert "ESP32S3" in await board.line("import os; os.uname().machine")

    asyncio.run(main())
