"""`kobler config profiles` and `kobler config import`: points from the library, and from lists."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from .models import Point
    from .profiles import Profile

Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]


def profiles(
    name: Annotated[str | None, typer.Argument(help="Show this one: a name, or the path of a .toml file.")] = None,
    as_json: Json = False,
) -> None:
    """List the device profiles, or show the points of one."""
    from .profiles import load_profile, names

    if name is not None:
        profile = load_profile(name)
        if as_json:
            print(json.dumps({"event": "profile", **_facts(profile)}))
            for point in profile.point:
                print(json.dumps({"event": "point", **_row(point)}))
        else:
            _show(profile)
        return
    found = [load_profile(each) for each in names()]
    if as_json:
        for profile in found:
            print(json.dumps({"event": "profile", **_facts(profile)}))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table("profile", "points", "device", box=box.SIMPLE_HEAD)
    for profile in found:
        table.add_row(profile.name, str(len(profile.point)), f"{profile.manufacturer} {profile.model}")
    Console(highlight=False).print(table)


def _facts(profile: Profile) -> dict[str, Any]:
    limits = profile.limits.model_dump() if profile.limits else None
    return {
        "name": profile.name, "manufacturer": profile.manufacturer, "model": profile.model,
        "description": profile.description, "sources": profile.sources, "limits": limits, "holes": profile.holes,
        "points": len(profile.point),
    }  # fmt: skip


def _row(point: Point) -> dict[str, Any]:
    kind = point.type.kind
    if kind == "string":
        kind = f"string({point.type.length})"
    elif kind == "bits":
        kind = f"bits({point.type.first},{point.type.count})"
    row: dict[str, Any] = {"point": point.name, "table": point.table, "address": point.address, "type": kind}
    row |= {"order": point.order, "scale": point.scale, "offset": point.offset, "unit": point.unit}
    row |= {"poll_ms": point.poll, "missing": list(point.missing), "enum": point.enum}
    return row | {"write": point.write.model_dump(exclude_none=True) if point.write else None}


def _show(profile: Profile) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(f"{profile.name}: {profile.manufacturer} {profile.model}. {profile.description}", markup=False)
    table = Table("point", "table", "address", "type", "unit", "poll", "write", box=box.SIMPLE_HEAD)
    table.columns[0].no_wrap = True
    for point in profile.point:
        row = _row(point)
        scale = f" x {point.scale:g}" if point.scale != 1 else ""
        order = f" {point.order}" if point.order != "ABCD" and point.type.registers > 1 else ""
        unit = point.unit or ("texts" if point.enum else "")
        write = point.write
        limits = "" if write is None else "yes" if write.min is write.max is None else _limits(write.min, write.max)
        cells = (point.name, point.table, str(point.address), f"{row['type']}{order}{scale}", unit)
        table.add_row(*cells, f"{point.poll / 1000:g} s", limits)
    console.print(table)
    for point in profile.point:
        if point.enum:
            texts = ", ".join(f"{raw} {text}" for raw, text in point.enum.items())
            console.print(f"{point.name}: {texts}", markup=False)
    for source in profile.sources:
        console.print(f"source: {source}", markup=False)


def _limits(low: float | None, high: float | None) -> str:
    return " ".join(f"{word} {value:g}" for word, value in (("from", low), ("to", high)) if value is not None)


def import_csv(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Comma or semicolon, a header row, UTF-8.")],
    profile_name: Annotated[str | None, typer.Option(help="Write a profile of that name.")] = None,
    unit: Annotated[int | None, typer.Option(help="Write a bus with a unit of that id.")] = None,
    bus: Annotated[str | None, typer.Option(help="The name of that bus.")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write; else standard output.")] = None,
) -> None:
    """Turn a list of points (CSV) into a profile, into a bus with one unit, or else into points of a unit."""
    from ..build.files import write_atomic
    from ..errors import KoblerError, UsageError
    from . import csv_import, values
    from .toml_text import points_toml, table

    if (unit is None) != (bus is None):
        raise UsageError("--unit and --bus go together")
    if profile_name is not None and unit is not None:
        raise UsageError("--profile-name does not go with --unit and --bus")
    if unit is not None and not 1 <= unit <= 247:
        raise UsageError(f"--unit: {unit} is out of range; allowed: 1 to 247")
    for option, name in (("--profile-name", profile_name), ("--bus", bus)):
        try:
            if name is not None:
                values.name(name)
        except ValueError as e:
            raise UsageError(f"{option}: {e}") from None
    points = [row.fields for row in csv_import.read(file)]
    if profile_name is not None:
        text = table({"name": profile_name}) + "\n" + points_toml("point", points)
    elif unit is not None:
        stem = re.sub(r"[^A-Za-z0-9_.:-]+", "-", file.stem).strip("-_.:")[:32] or f"unit{unit}"
        text = (
            "[[bus]]\n" + table({"name": bus, "kind": "rtu"}) + "\n[[bus.unit]]\n" + table({"id": unit, "name": stem})
        )
        text += "\n" + points_toml("bus.unit.point", points)
    else:
        text = points_toml("bus.unit.point", points)
    if out is None:
        print(text, end="")
        return
    try:
        write_atomic(out, text.encode())
    except OSError as e:
        raise KoblerError(f"{out}: cannot be written: {e.strerror}") from None
