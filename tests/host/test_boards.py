"""Board files: those that come along are right, and a mistake in one is named by file, line and field."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from kobler import boards
from kobler.errors import UsageError
from kobler.resources import boards_dir
from kobler.toml_source import Key, locate


def test_the_boards_to_start_with_are_there() -> None:
    wanted = {"virtual", "waveshare-esp32-s3-eth-8di-8do", "olimex-esp32-poe", "lilygo-t-can485", "esp32-generic"}
    assert wanted <= set(boards.names())


@pytest.mark.parametrize("name", boards.names())
def test_a_board_that_comes_along_is_right(name: str) -> None:
    board = boards.load(name)
    assert board.name == name
    image = {"esp32": "ESP32_GENERIC", "esp32s3": "ESP32_GENERIC_S3"}[board.chip] + "-20250415-v1.25.0.bin"
    assert board.image == (None if name == "virtual" else image)
    rows = {p.name: (p.type, p.subtype, p.offset) for p in board.partition}
    assert rows["nvs"] == (1, 0x02, 0x9000)
    assert rows["phy"] == (1, 0x01, 0xF000)
    assert rows["factory"] == (0, 0x00, 0x10000)
    assert rows["vfs"] == (1, 0x83, 0x200000)
    assert rows["journal"][:2] == (1, 0x40)


@pytest.mark.parametrize("name", boards.names())
def test_a_board_names_the_source_of_each_pin(name: str) -> None:
    """Whoever doubts a pin must see where it comes from; a pin of one's own choice says so too."""
    if name == "virtual":
        return  # its wiring is explained as a whole, at the top
    text = (boards_dir() / f"{name}.toml").read_text(encoding="utf-8")
    pins = r"^(tx|rx|de|mdc|mdio|clk|power|reset|sck|mosi|miso|cs|int|pin|button) = \d+"
    bare = [line for line in text.splitlines() if re.match(pins, line) and "#" not in line]
    assert bare == []


def test_the_wiring_for_the_unit() -> None:
    wiring = boards.load("waveshare-esp32-s3-eth-8di-8do").wiring()
    assert wiring["rs485"] == {
        "uart": 1, "tx": 17, "rx": 18, "de": 21, "auto": False, "enable": [],
    }  # fmt: skip
    ethernet = wiring["ethernet"]
    assert (ethernet["phy"], ethernet["sck"], ethernet["int"], ethernet["reset"]) == ("W5500", 15, 12, 39)
    assert wiring["led"] == 38
    t_can = boards.load("lilygo-t-can485").wiring()
    assert t_can["ethernet"] is None
    assert t_can["rs485"]["auto"] is True
    assert sorted(t_can["rs485"]["enable"]) == [16, 17, 19]


def changed(tmp_path: Path, base: str, old: str, new: str) -> Path:
    text = (boards_dir() / f"{base}.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


S3 = "waveshare-esp32-s3-eth-8di-8do"
# (board, replaced, replacement, the field, what the error must say)
WRONG = [
    ("virtual", 'chip = "esp32"', 'chip = "esp8266"', "chip", "'esp32' or 'esp32s3'"),
    ("virtual", "button = 0", "buton = 0", "buton", "did you mean 'button'"),
    ("virtual", "power = 12", "power = 12\ncolour = 1", "ethernet.colour", "allowed: addr"),
    ("virtual", "de = 33", "de = 4", "rs485.de", "already used by rs485.tx"),
    ("virtual", "pin = 2 ", "pin = 36 ", "led.pin", "already used by rs485.rx"),
    ("virtual", "de = 33", "de = 34", "rs485.de", "input only"),
    ("virtual", "tx = 4", "tx = 35", "rs485.tx", "input only"),
    ("virtual", "de = 33", "de = 24", "rs485.de", "no pin 24"),
    ("virtual", "de = 33", "de = 6", "rs485.de", "the flash chip"),
    ("virtual", "de = 33", "de = 11", "rs485.de", "the flash chip"),
    ("virtual", "de = 33", "de = 21", "rs485.de", "RMII"),
    ("virtual", "de = 33", "de = 3", "rs485.de", "the console"),
    ("virtual", "de = 33", "", "rs485", "`auto = true`"),
    ("virtual", "de = 33", "de = 33\nauto = true", "rs485", "needs one of"),
    ("virtual", "de = 33", "de = 99", "rs485.de", "<= 48"),
    ("virtual", "clk = 17", "clk = 5", "ethernet.clk", "allowed: 0, 16, 17"),
    ("virtual", "mdc = 23\n", "", "ethernet.mdc", "is missing"),
    ("virtual", 'phy = "LAN8720"', 'phy = "W5500"', "ethernet.phy", "not connected by rmii"),
    ("virtual", 'flash_size = "4MB"', 'flash_size = "4"', "flash_size", "'4MB'"),
    ("virtual", 'flash_size = "4MB"', 'flash_size = "4MB"\npsram = "octal"', "psram", "takes no octal"),
    ("virtual", 'flash_size = "4MB"', 'flash_size = "4MB"\nconsole = "usb"', "console", "allowed: uart0"),
    ("esp32-generic", 'flash_size = "4MB"', 'flash_size = "4MB"\npsram = "quad"', "rs485.tx", "quad PSRAM"),
    ("esp32-generic", 'image = "ESP32', 'image = "../ESP32', "image", "pattern"),
    (S3, "de = 21", "de = 30", "rs485.de", "the flash chip"),
    (S3, "de = 21", "de = 35", "rs485.de", "the octal PSRAM"),
    (S3, "de = 21", "de = 22", "rs485.de", "no pin 22"),
    (S3, "de = 21", "de = 19", "rs485.de", "the console (usb)"),
    (S3, 'kind = "spi"', 'kind = "rmii"', "ethernet.kind", "no RMII"),
    ("virtual", "offset = 0x300000", "offset = 0x2FF000", "partition[4].offset", "overlaps 'vfs'"),
    ("virtual", "offset = 0x300000", "offset = 0x300800", "partition[4].offset", "multiple of 0x1000"),
    ("virtual", "offset = 0x10000\n", "offset = 0x11000\n", "partition[2].offset", "multiple of 0x10000"),
    ("virtual", 'flash_size = "4MB"', 'flash_size = "2MB"', "partition[4].size", "behind the flash"),
    ("virtual", 'name = "journal"', 'name = "diary"', "partition", "'journal' is missing"),
    ("virtual", 'name = "journal"', 'name = "vfs"', "partition[4].name", "there twice"),
    ("virtual", "subtype = 0x40", "subtype = 0x41", "partition[4].subtype", "subtype 0x40"),
    ("virtual", 'subtype = "phy"', 'subtype = "fy"', "partition[1].subtype", "'phy'"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "old", "new", "field", "says"), WRONG, ids=[f"{w[2]}-{w[3]}" for w in WRONG])
def test_a_mistake_is_named_by_file_line_and_field(
    tmp_path: Path, base: str, old: str, new: str, field: str, says: str
) -> None:
    path = changed(tmp_path, base, old, new)
    with pytest.raises(UsageError) as caught:
        boards.load(path)
    wanted = [line for line in str(caught.value).splitlines() if f": {field}: " in line]
    assert wanted, caught.value
    assert says in wanted[0]
    number = int(wanted[0].removeprefix(f"{path}:").partition(":")[0])
    key = field.rpartition(".")[2].partition("[")[0]
    assert key in path.read_text(encoding="utf-8").splitlines()[number - 1] or "is missing" in says


def test_an_unknown_board_is_refused_with_the_choice() -> None:
    with pytest.raises(UsageError, match=r"there is no board 'olimex'; boards: .*olimex-esp32-poe.*"):
        boards.load("olimex")
    with pytest.raises(UsageError, match=r"mine\.toml: there is no such board file"):
        boards.load("mine.toml")


# Where things are in TOML text: the locator against texts that tomllib reads, by hand.
LOCATED: list[tuple[str, dict[Key, int]]] = [
    ("a = 1\nb = 2\n", {("a",): 1, ("b",): 2}),
    ("# x = 1\n\n[t]\n\nx = 1", {("t",): 3, ("t", "x"): 5}),
    ("[a.b]\nc.d = 1\n", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 2, ("a", "b", "c", "d"): 2}),
    ("[[t]]\nx = 1\n[[t]]\nx = 2\n", {("t", 0, "x"): 2, ("t", 1): 3, ("t", 1, "x"): 4}),
    (
        "[[a]]\n[[a.b]]\nx = 1\n[[a.b]]\nx = 2\n[[a]]\n[[a.b]]\nx = 3\n[a.c]\ny = 4",
        {("a", 0, "b", 0, "x"): 3, ("a", 0, "b", 1, "x"): 5, ("a", 1, "b", 0, "x"): 8, ("a", 1, "c", "y"): 10},
    ),
    ("t = { a = 1, b = { c = [1, 2] } }\nz = 1", {("t", "b", "c", 1): 1, ("z",): 2}),
    (
        "l = [ # one\n  1,\n  [2, 3],\n  { x = 4 },\n]\nz = 1",
        {("l", 0): 2, ("l", 1, 1): 3, ("l", 2, "x"): 4, ("z",): 6},
    ),
    ('s = "[t]\\"#"\nz = 1', {("s",): 1, ("z",): 2}),
    ("s = '''\n[t]\nx = 1\n'''\nz = 1", {("s",): 1, ("z",): 5}),
    ('s = """\n"" \\" x = 1\n\n"""\nz = 1', {("s",): 1, ("z",): 5}),
    ("\"a.b\" . 'c d' = 1\nz = 1979-05-27 07:32:00\n", {("a.b", "c d"): 1, ("z",): 2}),
]


@pytest.mark.parametrize(("text", "places"), LOCATED, ids=[text[:20] for text, _ in LOCATED])
def test_keys_are_found_in_toml_text(text: str, places: dict[Key, int]) -> None:
    found = locate(text)
    assert {key: found.get(key) for key in places} == places
    assert paths(tomllib.loads(text)) == set(found)


def paths(data: Any, at: Key = ()) -> set[Key]:
    items: list[tuple[Any, Any]] = []
    if isinstance(data, dict):
        items = list(data.items())
    elif isinstance(data, list):
        items = list(enumerate(data))
    return {at}.union(*(paths(value, (*at, key)) for key, value in items))


@pytest.mark.parametrize("name", boards.names())
def test_every_key_of_a_real_file_is_found(name: str) -> None:
    text = (boards_dir() / f"{name}.toml").read_text(encoding="utf-8")
    assert paths(tomllib.loads(text)) == set(locate(text))
