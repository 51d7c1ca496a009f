"""Tables for people: the plan of a bus, the readings of a block."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from ..config.schedule import BusPlan, advice
from .decode import ORDERS, Reading

_NAMES = 4  # points named in a row; more are counted


def show_plan(plans: list[BusPlan]) -> None:
    """A table and a summary a bus, one row a block."""
    console = Console(highlight=False)
    for plan in plans:
        table = Table("unit", "fc", "registers", "holes", "period", "wire", "share", "points", box=box.SIMPLE_HEAD)
        table.columns[0].no_wrap = True
        for column in table.columns[1:7]:
            column.justify = "right"
            column.no_wrap = True
        for unit in plan.units:
            for block in unit.blocks:
                names = [point.name for point in block.points[:_NAMES]]
                if len(block.points) > _NAMES:
                    names.append(f"and {len(block.points) - _NAMES} more")
                table.add_row(
                    f"{unit.unit.name} ({unit.unit.id})", str(block.fc),
                    f"{block.address}-{block.address + block.count - 1}", str(block.holes or ""),
                    f"{block.ms / 1000:g} s", f"{block.cost_ns / 1e6:.1f} ms",
                    f"{block.load / plan.wire.lanes:.1%}", ", ".join(names),
                )  # fmt: skip
        reads = sum(1000 / block.ms for unit in plan.units for block in unit.blocks)
        console.print(f"bus {plan.bus.name} ({_line(plan)})", markup=False)
        console.print(table)
        what = f"{plan.load:.1%} of the time of bus {plan.bus.name}, {reads:.2f} reads a second{_inexact(plan)}"
        console.print(what, markup=False)
        found = advice(plan)
        if found:
            console.print(f"warning: {found}", markup=False, style="bold")


def _line(plan: BusPlan) -> str:
    bus = plan.bus
    if bus.kind == "tcp":
        return f"{bus.host}:{bus.port}, {bus.in_flight} in flight"
    return f"{bus.baudrate} baud, 8{bus.parity[0].upper()}{bus.stop_bits}"


def _inexact(plan: BusPlan) -> str:
    found = [unit.unit.name for unit in plan.units if not unit.exact]
    return f"; cheaper reads may exist for {', '.join(found)}: too many to try them all" if found else ""


def show_readings(registers: list[int], found: list[Reading]) -> None:
    """One row a type and place, one column an order; plausible values are bold and marked."""
    console = Console(highlight=False)
    table = Table("at", "type", *ORDERS, box=box.SIMPLE_HEAD)
    rows: dict[tuple[int, str], dict[str, str]] = {}
    for reading in found:
        row = rows.setdefault((reading.at, reading.type), {})
        for order in reading.orders:
            row[order] = _value(reading)
    for (at, kind), row in rows.items():
        cells = [row.get(order, "") for order in ORDERS]
        if kind in {"u16", "i16"}:  # the order of the words says nothing about one word
            cells[1] = cells[3] = ""
        table.add_row(str(at), kind, *cells)
    console.print(" ".join(f"{word:04x}" for word in registers))
    console.print(table)
    console.print("* looks like a measured value or a text")


def _value(reading: Reading) -> str:
    from rich.markup import escape

    value = reading.value
    text = f"{value:.7g}" if isinstance(value, float) else escape(str(value))
    return f"[bold]{text} *[/bold]" if reading.plausible else f"[dim]{text}[/dim]"
