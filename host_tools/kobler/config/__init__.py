"""A site's configuration: read and checked from TOML, compiled for the unit."""

from __future__ import annotations

from pathlib import Path

from ..toml_model import validate
from ..toml_source import Problem, TomlSource
from .compiler import compile_config
from .models import Config
from .profiles import expand
from .rules import contradictions, each
from .schedule import advice, schedule

__all__ = ["Config", "compile_config", "load", "warnings"]


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


def warnings(config: Config) -> list[str]:
    """What is right but will not go well, one line each, with file and line."""
    found = []
    for (at, _), plan in zip(each(config.bus, "bus", ()), schedule(config), strict=True):
        what = advice(plan)
        if what is not None:
            found.append(Problem(at, what))
    return str(config.source.error(found)).splitlines() if found else []
