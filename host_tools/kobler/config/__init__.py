"""A site's configuration: read and checked from TOML, compiled for the unit."""

from __future__ import annotations

from pathlib import Path

from ..boards import Board
from ..toml_model import validate
from ..toml_source import Problem, TomlSource
from .compiler import compile_config
from .models import Config
from .profiles import expand
from .rules import contradictions, each
from .schedule import advice, schedule
from .sizing import SECTORS_IN_FILES, doubts, room, room_of, shortages

__all__ = ["Config", "compile_config", "load", "must_fit", "warnings"]


def load(path: str | Path) -> Config:
    """Read and check a configuration; UsageError with one line a mistake, each with file, line and field."""
    source = TomlSource.read(Path(path), "configuration")
    config = validate(source, Config)
    config._source = source
    problems = list(contradictions(config))
    config, more = expand(config)
    if problems or more:
        raise source.error(problems + more)
    return config


def must_fit(config: Config, sectors: int | None) -> list[str]:
    """What may not fit a unit's flash, one line each; UsageError for what does not. None: the history is in files."""
    has = room(SECTORS_IN_FILES if sectors is None else sectors, "the unit")
    problems = list(shortages(config, has))
    if problems:
        raise config.source.error(problems)
    return _lines(config, list(doubts(config, has)))


def warnings(config: Config, board: Board | None = None) -> list[str]:
    """What is right but will not go well, on the board if given, one line each, with file and line."""
    found = list(doubts(config, room_of(board))) if board is not None else []
    for (at, _), plan in zip(each(config.bus, "bus", ()), schedule(config), strict=True):
        what = advice(plan)
        if what is not None:
            found.append(Problem(at, what))
    return _lines(config, found)


def _lines(config: Config, found: list[Problem]) -> list[str]:
    return str(config.source.error(found)).splitlines() if found else []
