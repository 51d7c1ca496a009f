"""`kobler build`: build a board's flash contents and say what each module costs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .output import Build

BoardName = Annotated[str, typer.Option("--board", help="A board's name, or the path of a board file.")]
ImageFile = Annotated[
    Path | None, typer.Option("--image", help="A base MicroPython image instead of the one to be downloaded.")
]
Sha256 = Annotated[str | None, typer.Option("--sha256", help="The SHA-256 that the base image must have.")]
State = Annotated[Path, typer.Option("--state", help="Where keys, images and databases are kept.")]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]

STATE = Path(".kobler")


def folder_of(state: Path, board: str) -> Path:
    """Where the build of a board is kept."""
    return state / "build" / board


def build(
    board: BoardName,
    image: ImageFile = None,
    sha256: Sha256 = None,
    state: State = STATE,
    as_json: Json = False,
) -> None:
    """Compile the firmware, make the file system and the partition table, fetch and slice the base image."""
    from rich.console import Console

    from .. import boards
    from . import build as make

    chosen = boards.load(board)
    log = Console(stderr=True, highlight=False)
    out = folder_of(state, chosen.name)
    done = make(chosen, out, image, sha256, lambda text: log.print(text, style="dim"), cache=state / "cache")
    if as_json:
        print(json.dumps({"event": "built", "folder": str(out.absolute()), **done.contents.model_dump()}))
    else:
        _show(done)


def _show(done: Build) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    contents = done.contents
    costs = Table("on the unit", box=box.SIMPLE_HEAD)
    costs.add_column("bytes", justify="right")
    for module in contents.modules:
        costs.add_row(f"/{module.file}", f"{module.bytes:,}")
    costs.add_section()
    compiled = sum(m.bytes for m in contents.modules if m.file.endswith(".mpy"))
    vfs = next(part for part in contents.layout if part.name == "vfs")
    costs.add_row("compiled modules", f"{compiled:,}")
    costs.add_row(f"used in the file system of {vfs.size:,}", f"{contents.vfs_used:,}")
    regions = Table("offset", "region", "file", box=box.SIMPLE_HEAD)
    regions.add_column("bytes", justify="right")
    for region in contents.regions:
        regions.add_row(f"{region.offset:#x}", region.name, str(done.folder / region.file), f"{region.size:,}")
    console = Console(highlight=False)
    console.print(costs)
    console.print(regions)
    console.print(f"{contents.board}: {contents.base.name or 'stand-in for the base image'}")
