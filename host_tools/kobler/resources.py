"""Where the firmware's sources and the boards' files are: beside the package in a wheel, in the clone otherwise."""

from __future__ import annotations

from pathlib import Path

from .errors import KoblerError

_PACKAGE = Path(__file__).resolve().parent


def _folder(name: str) -> Path:
    for place in (_PACKAGE / "_data" / name, _PACKAGE.parents[1] / name):
        if place.is_dir():
            return place
    raise KoblerError(f"this installation of kobler lacks its folder {name!r}: install the wheel again")


def firmware_dir() -> Path:
    """The folder that holds boot.py, main.py and coupler/."""
    return _folder("firmware")


def boards_dir() -> Path:
    """The folder with one TOML file a board."""
    return _folder("boards")
