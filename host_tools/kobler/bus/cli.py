"""`kobler bus`: what is on a bus, how it is read, and what registers mean."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import commands

app = typer.Typer(no_args_is_help=True, help="The bus: its devices, how they are read, and what their registers mean.")
app.command()(commands.scan)
app.command()(commands.read)
app.command(context_settings={"ignore_unknown_options": True})(commands.write)  # a value may begin with a minus sign

Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]
_DEMO = Path(__file__).parents[1] / "sim" / "demo.toml"


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(metavar="[CONFIG]", help="Else the demonstration's.")] = _DEMO,
    as_json: Json = False,
) -> None:
    """Show which registers are read together, and how much of the bus's time that takes."""
    from ..config import load
    from ..config.schedule import BusPlan, advice, schedule

    plans = schedule(load(config))
    if not as_json:
        from .show import show_plan

        show_plan(plans)
        return

    def blocks(found: BusPlan) -> list[dict[str, Any]]:
        return [
            {
                "event": "block", "bus": found.bus.name, "unit": unit.unit.name, "id": unit.unit.id, "fc": block.fc,
                "address": block.address, "count": block.count, "holes": block.holes, "period_ms": block.ms,
                "points": [point.name for point in block.points], "wire_ms": round(block.cost_ns / 1e6, 3),
                "share": round(block.load / found.wire.lanes, 6),
            }
            for unit in found.units
            for block in unit.blocks
        ]  # fmt: skip

    for found in plans:
        for row in blocks(found):
            print(json.dumps(row))
        exact = all(unit.exact for unit in found.units)
        summary = {"event": "bus", "bus": found.bus.name, "kind": found.bus.kind, "utilisation": round(found.load, 6)}
        print(json.dumps({**summary, "exact": exact, "warning": advice(found)}))


@app.command()
def decode(
    block: Annotated[str | None, typer.Argument(metavar="HEX|-", help="Registers as hex words; - reads them.")] = None,
    values: Annotated[str | None, typer.Option("--values", help="Registers as numbers, such as 17,16840.")] = None,
    plausible: Annotated[bool, typer.Option("--plausible", help="Only what looks like a measured value.")] = False,
    as_json: Json = False,
) -> None:
    """Show a block of registers under every type and order, and mark what is plausible."""
    from ..errors import UsageError
    from . import decode as decoder

    if (block is None) == (values is None):
        raise UsageError("registers: give either hex (or - for standard input) or --values")
    if values is not None:
        registers = decoder.values(values)
    else:
        registers = decoder.words(sys.stdin.read() if block == "-" else block or "")
    found = [reading for reading in decoder.readings(registers) if reading.plausible or not plausible]
    if not as_json:
        from .show import show_readings

        show_readings(registers, found)
        return
    for reading in found:
        value = reading.value
        if isinstance(value, float) and not math.isfinite(value):
            value = str(value)  # JSON has no NaN
        row = {"at": reading.at, "type": reading.type, "orders": reading.orders, "value": value}
        print(json.dumps({"event": "reading", **row, "plausible": reading.plausible}))
