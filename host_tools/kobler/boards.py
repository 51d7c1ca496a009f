"""The boards: one TOML file each, checked so that a wrong pin is found at the desk and not on the roof."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from .chips import CHIPS, Chip
from .errors import UsageError
from .resources import boards_dir
from .toml_model import Table, validate
from .toml_source import Key, Problem, TomlSource

Pin = Annotated[int, Field(ge=0, le=48)]
SECTOR = 0x1000
TABLE_OFFSET = 0x8000  # the partition table; what is in front of it belongs to the bootloader
FIRST_PARTITION = 0x9000

_TYPES = {"app": 0, "data": 1}
_SUBTYPES = {"factory": 0, "phy": 1, "nvs": 2}
_PARTITIONS = {
    "nvs": (1, 0x02),
    "phy": (1, 0x01),
    "factory": (0, 0x00),
    "vfs": (1, 0x83),
    "journal": (1, 0x40),
}


def _size(value: Any) -> Any:
    if isinstance(value, str) and value.endswith("MB") and value[:-2] in {"2", "4", "8", "16", "32"}:
        return int(value[:-2]) << 20
    raise ValueError(f"{value!r} is not a flash size; allowed: '2MB', '4MB', '8MB', '16MB', '32MB'")


def _named(names: dict[str, int]) -> BeforeValidator:
    def number(value: Any) -> Any:
        if isinstance(value, str) and value not in names:
            raise ValueError(f"{value!r} is not known; allowed: {', '.join(map(repr, names))} or a number")
        return names[value] if isinstance(value, str) else value

    return BeforeValidator(number)


class Partition(Table):
    """A row of the partition table; offset and size in bytes."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,15}$")]
    type: Annotated[int, _named(_TYPES), Field(ge=0, le=0xFE)]
    subtype: Annotated[int, _named(_SUBTYPES), Field(ge=0, le=0xFE)]
    offset: Annotated[int, Field(ge=FIRST_PARTITION)]
    size: Annotated[int, Field(gt=0)]

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + self.size


class Rs485(Table):
    """The transceiver: `de` drives its direction, or it finds the direction by itself (`auto`).

    The pins in `enable` are driven high before the first use; `echo`: what is sent is heard again (None: the unit
    learns whether it is).
    """

    uart: Annotated[int, Field(ge=1, le=2)]
    tx: Pin
    rx: Pin
    de: Pin | None = None
    auto: bool = False
    enable: list[Pin] = []
    echo: bool | None = None


class Ethernet(Table):
    """A PHY on RMII, or a controller on SPI; there MicroPython's driver needs the interrupt line."""

    kind: Literal["rmii", "spi"]
    phy: Literal["LAN8710", "LAN8720", "IP101", "RTL8201", "DP83848", "KSZ8041", "KSZ8081", "W5500", "DM9051"]
    addr: Annotated[int, Field(ge=0, le=31)] = 0
    mdc: Pin | None = None
    mdio: Pin | None = None
    clk: Pin | None = None
    clk_mode: Literal["in", "out"] | None = None
    power: Pin | None = None
    reset: Pin | None = None
    spi: Annotated[int, Field(ge=1, le=2)] | None = None
    sck: Pin | None = None
    mosi: Pin | None = None
    miso: Pin | None = None
    cs: Pin | None = None
    irq: Pin | None = Field(None, alias="int")


class Led(Table):
    """An indicator: a plain LED, or one WS2812."""

    pin: Pin
    kind: Literal["plain", "ws2812"] = "plain"


class Board(Table):
    """One board's file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    description: str
    chip: Literal["esp32", "esp32s3"]
    flash_size: Annotated[int, BeforeValidator(_size)]
    psram: Literal["none", "quad", "octal"] = "none"
    console: Literal["uart0", "usb"] = "uart0"
    image: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+-\d{8}-v\d+\.\d+\.\d+\.bin$")] | None = None
    partition: list[Partition]
    rs485: Rs485
    ethernet: Ethernet | None = None
    led: Led | None = None
    button: Pin | None = None

    @property
    def chip_info(self) -> Chip:
        """What the chip fixes."""
        return CHIPS[self.chip]

    def part(self, name: str) -> Partition:
        """The partition of that name, which the checks have made sure of."""
        return next(p for p in self.partition if p.name == name)

    def wiring(self) -> dict[str, Any]:
        """What the unit finds in its /board.json."""
        wiring: dict[str, Any] = {"name": self.name, "chip": self.chip}
        wiring["rs485"] = self.rs485.model_dump(exclude_none=True)
        wiring["ethernet"] = self.ethernet.model_dump(exclude_none=True, by_alias=True) if self.ethernet else None
        wiring["led"] = self.led.pin if self.led else None
        if self.led and self.led.kind != "plain":
            wiring["led_kind"] = self.led.kind
        wiring["button"] = self.button
        return wiring


def names() -> list[str]:
    """The boards that come with Kobler."""
    return sorted(path.stem for path in boards_dir().glob("*.toml"))


def load(name_or_path: str | Path) -> Board:
    """A board by name, or from a file of one's own (a path or a name that ends in .toml)."""
    path = Path(name_or_path)
    if path.suffix != ".toml":
        known = names()
        if str(name_or_path) not in known:
            choice = f"boards: {', '.join(known)}, or the path of a .toml file"
            raise UsageError(f"there is no board {str(name_or_path)!r}; {choice}")
        path = boards_dir() / f"{name_or_path}.toml"
    source = TomlSource.read(path, "board file")
    board = validate(source, Board)
    problems = [*_layout(board), *_pins(board)]
    if problems:
        raise source.error(problems)
    return board


def _layout(board: Board) -> Iterator[Problem]:
    """Every wanted partition is there once, aligned, inside the flash, and none overlaps another."""
    wanted = _PARTITIONS
    seen: dict[str, Partition] = {}
    for index, part in enumerate(board.partition):
        at: Key = ("partition", index)
        if part.name in seen:
            yield Problem((*at, "name"), f"the partition {part.name!r} is there twice")
        if part.name in wanted and (part.type, part.subtype) != wanted[part.name]:
            kind, sub = wanted[part.name]
            yield Problem((*at, "subtype"), f"{part.name!r} must have type {kind} and subtype {sub:#04x}")
        step = 0x10000 if part.type == 0 else SECTOR
        for name, value, unit in (("offset", part.offset, step), ("size", part.size, SECTOR)):
            if value % unit:
                yield Problem((*at, name), f"{value:#x} is not a multiple of {unit:#x}")
        if part.end > board.flash_size:
            yield Problem((*at, "size"), f"ends at {part.end:#x}, behind the flash's {board.flash_size:#x}")
        for other in seen.values():
            if part.offset < other.end and other.offset < part.end:
                yield Problem((*at, "offset"), f"overlaps {other.name!r}, which ends at {other.end:#x}")
        seen[part.name] = part
    for name in sorted(wanted.keys() - seen.keys()):
        yield Problem(("partition",), f"the partition {name!r} is missing")


# Which of a table's pins the chip drives; the others it only reads.
_OUTPUTS = {"tx", "de", "enable", "mdc", "mdio", "power", "reset", "sck", "mosi", "cs", "led"}


def _used(board: Board) -> Iterator[tuple[Key, int, bool]]:
    """(place in the file, pin, is it driven) of every pin the board's file names."""
    for name, table in (("rs485", board.rs485), ("ethernet", board.ethernet)):
        for key, value in table.model_dump(by_alias=True).items() if table else ():
            if key in {"uart", "addr", "spi"} or isinstance(value, bool):
                continue
            drives = key in _OUTPUTS or (key == "clk" and getattr(table, "clk_mode", None) == "out")
            for index, pin in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(pin, int):
                    yield ((name, key, index) if isinstance(value, list) else (name, key)), pin, drives
    if board.led is not None:
        yield ("led", "pin"), board.led.pin, True
    if board.button is not None:
        yield ("button",), board.button, False


def _pins(board: Board) -> Iterator[Problem]:
    chip = board.chip_info
    if board.psram not in chip.psram:
        allowed = ", ".join(chip.psram)
        yield Problem(("psram",), f"{chip.name} takes no {board.psram} PSRAM; allowed: {allowed}")
    if board.console not in chip.console:
        allowed = ", ".join(chip.console)
        yield Problem(("console",), f"{chip.name} has no console {board.console!r}; allowed: {allowed}")
    taken = dict.fromkeys(chip.flash, "the flash chip")
    taken |= dict.fromkeys(chip.psram.get(board.psram, ()), f"the {board.psram} PSRAM")
    taken |= dict.fromkeys(chip.console.get(board.console, ()), f"the console ({board.console})")
    if board.ethernet is not None:
        yield from _ethernet(board.ethernet, chip)
        if board.ethernet.kind == "rmii":
            taken |= dict.fromkeys(chip.rmii, "the data lines of RMII Ethernet, which the chip fixes")
    if board.rs485.auto == (board.rs485.de is not None):
        yield Problem(("rs485",), "needs one of `de` = the pin that drives the direction, and `auto = true`")
    for where, pin, drives in _used(board):
        if pin not in chip.pins:
            yield Problem(where, f"{chip.name} has no pin {pin}")
        elif pin in taken:
            yield Problem(where, f"pin {pin} is already used by {taken[pin]}")
        elif drives and pin in chip.input_only:
            yield Problem(where, f"pin {pin} of {chip.name} is input only and cannot drive anything")
        taken.setdefault(pin, ".".join(str(part) for part in where if isinstance(part, str)))


def _ethernet(ethernet: Ethernet, chip: Chip) -> Iterator[Problem]:
    """The keys its kind needs, no others, and a clock pin that the chip can use."""
    needs = {"rmii": ("mdc", "mdio", "clk", "clk_mode"), "spi": ("spi", "sck", "mosi", "miso", "cs", "int")}
    other = needs["spi" if ethernet.kind == "rmii" else "rmii"]
    spi_phy = ethernet.phy in {"W5500", "DM9051"}
    if spi_phy != (ethernet.kind == "spi"):
        yield Problem(("ethernet", "phy"), f"{ethernet.phy} is not connected by {ethernet.kind}")
    given = ethernet.model_dump(by_alias=True, exclude_none=True)
    for key in needs[ethernet.kind]:
        if key not in given:
            wanted = ", ".join(needs[ethernet.kind])
            yield Problem(("ethernet", key), f"is missing: kind = {ethernet.kind!r} needs {wanted}")
    for key in other:
        if key in given:
            yield Problem(("ethernet", key), f"does not belong to kind = {ethernet.kind!r}")
    if ethernet.kind == "rmii":
        if not chip.rmii:
            yield Problem(("ethernet", "kind"), f"{chip.name} has no RMII; allowed: 'spi'")
        elif ethernet.clk_mode and ethernet.clk not in chip.rmii_clock[ethernet.clk_mode]:
            allowed = ", ".join(map(str, sorted(chip.rmii_clock[ethernet.clk_mode])))
            what = f"pin {ethernet.clk} cannot be the RMII clock ({ethernet.clk_mode}); allowed: {allowed}"
            yield Problem(("ethernet", "clk"), what)
