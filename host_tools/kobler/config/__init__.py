"""A site's configuration: read and checked from TOML, compiled for the unit."""

from __future__ import annotations

from pathlib import Path

from ..toml_model import validate
from ..toml_source import TomlSource
from .compiler import compile_config
from .models import Config
from .rules import contradictions, without_effect

__all__ = ["Config", "compile_config", "load", "warnings"]


def load(path: str | Path) -> Config:
    """Read and check a configuration; UsageError with one line a mistake, each with file, line and field."""
    source = TomlSource.read(Path(path), "configuration")
    config = validate(source, Config)
    config._source = source
    problems = list(contradictions(config))
    if problems:
        raise source.error(problems)
    return config


def warnings(config: Config) -> list[str]:
    """What the configuration asks for that does nothing in this version, one line each."""
    problems = without_effect(config)
    return str(config.source.error(problems)).splitlines() if problems else []
