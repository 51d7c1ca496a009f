"""`kobler bus scan`, `read` and `write`: the command lines."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import KoblerError, UsageError

if TYPE_CHECKING:
    from .line import Format
    from .transfer import Place
    from .value import Coding
    from .way import Where

_LOCAL, _REMOTE = "A serial adapter of this computer", "A coupler"

Port = Annotated[
    str | None,
    typer.Option("--port", help="Device, or URL such as socket://HOST:PORT; else a coupler.", rich_help_panel=_LOCAL),
]
Baud = Annotated[int | None, typer.Option("--baud", help="Else 19200.", rich_help_panel=_LOCAL)]
Bauds = Annotated[
    str | None,
    typer.Option("--baud", metavar="LIST", help="Else 9600,19200,38400,115200; a coupler's: its bus's own."),
]
Parity = Annotated[str | None, typer.Option("--parity", help="even, none or odd; else even.", rich_help_panel=_LOCAL)]
Parities = Annotated[str | None, typer.Option("--parity", metavar="LIST", help="Else even,none,odd.")]
Stop = Annotated[int | None, typer.Option("--stop-bits", min=1, max=2, help="Else 1.", rich_help_panel=_LOCAL)]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="Until an answer begins.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
State = Annotated[Path, typer.Option("--state", help="Folder of a running `kobler up`.", rich_help_panel=_REMOTE)]
Broker = Annotated[
    str | None, typer.Option("--broker", "--url", help="Another broker, wss://… or mqtts://…", rich_help_panel=_REMOTE)
]
Ca = Annotated[
    Path | None, typer.Option("--ca", help="Authority to trust (PEM), unless STATE's.", rich_help_panel=_REMOTE)
]
Cert = Annotated[
    Path | None, typer.Option("--cert", help="Our certificate (PEM), unless STATE's.", rich_help_panel=_REMOTE)
]
Key = Annotated[Path | None, typer.Option("--key", help="Its key (PEM).", rich_help_panel=_REMOTE)]
Device = Annotated[
    str | None, typer.Option("--device", metavar="ID", help="The coupler's id.", rich_help_panel=_REMOTE)
]
Bus = Annotated[
    str | None, typer.Option("--bus", metavar="NAME", help="Which bus, if it has several.", rich_help_panel=_REMOTE)
]
Type = Annotated[
    str | None, typer.Option("--type", help="u16 i16 u32 i32 u64 i64 float32 float64 bool string(N) bits(FROM,COUNT)")
]
Order = Annotated[str, typer.Option("--order", help="ABCD CDAB BADC DCBA")]
Scale = Annotated[float, typer.Option("--scale", help="Value = raw * scale + offset.")]
Offset = Annotated[float, typer.Option("--offset")]

_STATE = Path(".kobler")
_BAUDS, _PARITIES = "9600,19200,38400,115200", "even,none,odd"


def scan(
    port: Port = None,
    baud: Bauds = None,
    parity: Parities = None,
    stop_bits: Annotated[int | None, typer.Option("--stop-bits", min=1, max=2, help="Else 1.")] = None,
    units: Annotated[str, typer.Option("--units", metavar="LIST", help="Such as 1-32 or 1,5,17.")] = "1-247",
    timeout: Timeout = "200ms",
    every: Annotated[bool, typer.Option("--all", help="Go on at the next speed even if something answered.")] = False,
    as_json: Json = False,
    state: State = _STATE,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Device = None,
    bus: Bus = None,
) -> None:
    """Find the devices on a bus: which unit ids answer, at which speed and format, and what they say they are.

    Reads register 0 of every id, which changes nothing. At a port no other master may be active meanwhile.
    """
    from ..cloud.interrupt import Interrupts, Stopped
    from .scan import scan_coupler, scan_line
    from .scan_report import ScanReport

    where = _where(port, state, broker, ca, cert, key, device, bus)
    chosen, seconds = unit_list(units), _seconds(timeout, 2000)
    forms: list[Format | None] = []
    own = where.local or baud is not None or parity is not None or stop_bits is not None
    if own and not where.local and baud is None:
        raise UsageError("--parity and --stop-bits: through a coupler give --baud with them")
    if own:
        bauds = [_number(item, "--baud", 300, 1_000_000) for item in (baud or _BAUDS).split(",")]
        forms += [_form(one, other, stop_bits or 1) for one in bauds for other in (parity or _PARITIES).split(",")]
    else:
        forms.append(None)
    with Interrupts(), ScanReport(as_json, len(chosen), len(forms)) as report:
        try:
            if where.local:
                known = [form for form in forms if form is not None]
                with where.line(known[0]) as line:
                    scan_line(line, known, chosen, seconds, every, report)
            else:
                with where.coupler() as coupler:
                    scan_coupler(coupler, forms, chosen, seconds, every, report)
        except Stopped as stopped:
            report.end(stopped=True)
            raise typer.Exit(stopped.exit_code) from None
        report.end(stopped=False)
    if not report.devices:
        raise KoblerError(
            "no device answered: is it powered, are A and B the right way round, is the speed another one?"
        )


def read(
    what: Annotated[str, typer.Argument(metavar="UNIT|POINT", help="A unit id; or a point such as field/meter/power.")],
    table: Annotated[str | None, typer.Argument(metavar="[TABLE", help="coil, discrete, input or holding.")] = None,
    address: Annotated[str | None, typer.Argument(metavar="ADDRESS", help="From 0.")] = None,
    count: Annotated[str | None, typer.Argument(metavar="[COUNT]]", help="Registers or bits; else 1 value.")] = None,
    kind: Type = None,
    order: Order = "ABCD",
    scale: Scale = 1.0,
    offset: Offset = 0.0,
    timeout: Timeout = "1s",
    as_json: Json = False,
    port: Port = None,
    baud: Baud = None,
    parity: Parity = None,
    stop_bits: Stop = None,
    state: State = _STATE,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Device = None,
    bus: Bus = None,
) -> None:
    """Read registers or coils of a device, or what a coupler has of a point."""
    from .transfer import fetch, fetch_point, show

    where = _where(port, state, broker, ca, cert, key, device, bus)
    seconds = _seconds(timeout, 60_000)
    if "/" in what:
        _only_point(where, table, kind)
        with where.coupler() as coupler:
            fetch_point(coupler, what, as_json)
        return
    if table is None or address is None:
        raise UsageError("give UNIT TABLE ADDRESS [COUNT], or a point's name such as field/meter/power")
    coding = _coding(kind, order, scale, offset, table)
    size = coding.type.registers if coding else 1
    place = _place(what, table, address, _number(count, "COUNT", 1, 2000) if count else size)
    if place.count % size:
        raise UsageError(f"COUNT {place.count}: a {kind} takes {size} registers")
    _ = place.request  # its limits
    form = _single_form(where, baud, parity, stop_bits)
    with where.line(form) if form else where.coupler() as way:
        show(fetch(way, place, coding, seconds), as_json)


def write(
    what: Annotated[
        str, typer.Argument(metavar="UNIT|POINT", help="A unit id; or a point such as field/ahu/setpoint.")
    ],
    rest: Annotated[
        list[str],
        typer.Argument(metavar="[TABLE ADDRESS] VALUE...", help="TABLE coil or holding; ADDRESS from 0."),
    ],
    kind: Type = None,
    order: Order = "ABCD",
    scale: Scale = 1.0,
    offset: Offset = 0.0,
    multiple: Annotated[bool, typer.Option("--multiple", help="Function 15 or 16 for one value too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    timeout: Timeout = "1s",
    as_json: Json = False,
    port: Port = None,
    baud: Baud = None,
    parity: Parity = None,
    stop_bits: Stop = None,
    state: State = _STATE,
    broker: Broker = None,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    device: Device = None,
    bus: Bus = None,
) -> None:
    """Write registers or coils of a device, or a point of a coupler; then read back and show what it holds.

    On a terminal it asks first. Through a coupler only what its configuration makes writable can be written.
    """
    from .transfer import Change, store, store_point

    where = _where(port, state, broker, ca, cert, key, device, bus)
    seconds, confirm = _seconds(timeout, 60_000), _confirmation(yes)
    if "/" in what:
        if len(rest) != 1:
            raise UsageError("a point takes one value")
        _only_point(where, None, kind)
        with where.coupler() as coupler:
            store_point(coupler, what, rest[0], confirm, as_json)
        return
    if len(rest) < 3:
        raise UsageError("give UNIT TABLE ADDRESS VALUE..., or a point's name and its value")
    table, address, *texts = rest
    coding = _coding(kind, order, scale, offset, table)
    place = _place(what, table, address, 1)
    change = Change.of(place.unit, table, place.address, texts, coding, multiple)
    form = _single_form(where, baud, parity, stop_bits)
    with where.line(form) if form else where.coupler() as way:
        store(way, change, seconds, confirm, as_json)


def _where(
    port: str | None, state: Path, broker: str | None, ca: Path | None, cert: Path | None, key: Path | None,
    device: str | None, bus: str | None,
) -> Where:  # fmt: skip
    from .way import Where

    where = Where(port, state, broker, ca, cert, key, device, bus)
    where.check()
    return where


def _only_point(where: Where, table: str | None, kind: str | None) -> None:
    if where.local:
        raise UsageError("a point's name says something to a coupler only: leave --port, or give UNIT TABLE ADDRESS")
    if table is not None or kind is not None:
        raise UsageError("the coupler knows the point's place and type: give its name alone")


def _single_form(where: Where, baud: int | None, parity: str | None, stop: int | None) -> Format | None:
    if where.local:
        return _form(_number(str(baud or 19200), "--baud", 300, 1_000_000), parity or "even", stop or 1)
    if (baud, parity, stop) != (None, None, None):
        raise UsageError("--baud, --parity and --stop-bits are for --port; a coupler knows its bus's own")
    return None


def _form(baud: int, parity: str, stop: int) -> Format:
    from .line import PARITIES, Format

    if parity not in PARITIES:
        raise UsageError(f"--parity {parity}: allowed: {', '.join(PARITIES)}")
    return Format(baud, parity, stop)


def _place(unit: str, table: str, address: str, count: int) -> Place:
    from .transfer import Place

    return Place(_number(unit, "UNIT", 0, 255), table, _number(address, "ADDRESS", 0, 65535), count)


def _coding(kind: str | None, order: str, scale: float, offset: float, table: str) -> Coding | None:
    from ..config.schedule import FUNCTIONS
    from .value import Coding

    if table not in FUNCTIONS:
        raise UsageError(f"TABLE {table}: allowed: {', '.join(FUNCTIONS)}")
    if kind is None:
        if (order, scale, offset) != ("ABCD", 1.0, 0.0):
            raise UsageError("--order, --scale and --offset need --type")
        return None
    if table in ("coil", "discrete"):
        raise UsageError(f"--type: a {table} is on or off")
    return Coding.of(kind, order, scale, offset)


def _confirmation(yes: bool) -> Callable[[str], bool]:
    if yes or not sys.stdin.isatty():
        return lambda _question: True
    return lambda question: typer.confirm(question, err=True)


def _seconds(text: str, most: int) -> float:
    from ..config.values import duration

    try:
        return int(duration(10, most, f'"10ms" to "{most / 1000:g}s"')(text)) / 1000
    except ValueError as error:
        raise UsageError(f"--timeout: {error}") from None


def _number(text: str, what: str, low: int, high: int) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise UsageError(f"{what} {text}: allowed: {low} to {high}")
    return number


def unit_list(text: str) -> list[int]:
    """Unit ids from numbers and ranges between commas, each once. UsageError."""
    found: set[int] = set()
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,3})(?:\s*-\s*(\d{1,3}))?\s*", item)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 247:
            raise UsageError(f"--units {text}: allowed: ids from 1 to 247, such as 1-32 or 1,5,17")
        found.update(range(first, last + 1))
    return sorted(found)
