"""`kobler config`: check a configuration, compile it, list what a firewall must let out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .library_cli import import_csv, profiles

if TYPE_CHECKING:
    from .models import Config

app = typer.Typer(no_args_is_help=True, help="Check and compile configurations.")
app.command()(profiles)
app.command("import")(import_csv)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration in TOML.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]


def _load(file: Path, board: str | None = None) -> tuple[Config, bytes]:
    from .. import boards
    from . import compile_config, load, warnings

    on = boards.load(board) if board is not None else None
    config = load(file)
    compiled = compile_config(config, on)
    for line in warnings(config, on):
        print(f"warning: {line}", file=sys.stderr)
    return config, compiled


@app.command()
def check(
    file: File,
    board: Annotated[str, typer.Option("--board", help="A board's name, or the path of a board file.")] = "virtual",
    as_json: Json = False,
) -> None:
    """Say whether a configuration is right and fits a board, and every line that does not."""
    config, compiled = _load(file, board)
    units = [unit for bus in config.bus for unit in bus.unit]
    points = sum(len(unit.point) for unit in units)
    loaded = json.loads(compiled)
    reads = sum(len(unit["blocks"]) for bus in loaded["bus"] for unit in bus["units"])
    facts = {"revision": loaded["rev"], "buses": len(config.bus), "units": len(units)}
    facts |= {"points": points, "reads": reads, "bytes": len(compiled)}
    if as_json:
        print(json.dumps({"event": "checked", "file": str(file), **facts}))
    else:
        print(f"{file}: right; " + ", ".join(f"{value} {name}" for name, value in facts.items() if name != "revision"))


@app.command("compile")
def compile_(
    file: File,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Where to write; else standard output.")] = None,
) -> None:
    """Compile a configuration into what the unit loads."""
    from ..build.files import write_atomic
    from ..errors import KoblerError

    _, compiled = _load(file)
    if out is None:
        sys.stdout.buffer.write(compiled + b"\n")
        return
    try:
        write_atomic(out, compiled)
    except OSError as e:
        raise KoblerError(f"{out}: cannot be written: {e.strerror}") from None


@app.command()
def firewall(
    file: File,
    as_json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Markdown, for a ticket.")] = False,
) -> None:
    """List the connections that a site's firewall must allow."""
    from dataclasses import asdict

    from rich.console import Console

    from ..errors import UsageError
    from .firewall import as_markdown, as_table, rules

    if as_json and markdown:
        raise UsageError("--json and --markdown: give one of them")
    config, _ = _load(file)
    found = rules(config)
    if as_json:
        for rule in found:
            print(json.dumps({"event": "rule", **asdict(rule)}))
    elif not found:
        print("The cloud is off ([cloud] enabled = false) and no point has history: the unit opens no connection.")
    elif markdown:
        print(as_markdown(found))
    else:
        Console(highlight=False).print(as_table(found))
