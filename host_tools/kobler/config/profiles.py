"""The library of device profiles: one TOML file a device, with its points, limits and where they were found.

`load` puts the points of a unit's profile among its own; a point of the unit replaces the profile's of that name.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from ..errors import UsageError
from ..toml_model import Table, validate
from ..toml_source import Key, Problem, TomlSource
from .models import PAUSE, TIMEOUT, Bus, Config, Limits, Name, Point, Text, Unit
from .rules import beyond_limits, check_points, each

_LIBRARY = Path(__file__).resolve().parents[1] / "profiles"


class Profile(Table):
    """A profile's file. Files of the library have all of it; one's own need the name and the points."""

    name: Name
    manufacturer: Text | None = None
    model: Text | None = None
    description: str = ""
    sources: list[str] = []
    timeout: Annotated[int, TIMEOUT] | None = None
    pause: Annotated[int, PAUSE] | None = None
    limits: Limits | None = None
    holes: bool | None = None
    write_multiple: bool | None = None
    point: Annotated[list[Point], Field(min_length=1)]


def names() -> list[str]:
    """The profiles that come with Kobler."""
    return sorted(path.stem for path in _LIBRARY.glob("*.toml"))


def load_profile(name: str, beside: Path | None = None) -> Profile:
    """A profile by name, or from a file of one's own (ends in .toml; `beside` is what a relative path starts from)."""
    if name.endswith(".toml"):
        path = (beside or Path()) / name
    else:
        known = names()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            choice = "`kobler config profiles` lists them; allowed too: the path of a .toml file"
            raise UsageError(f"there is no profile {name!r}{hint}; {choice}")
        path = _LIBRARY / f"{name}.toml"
    source = TomlSource.read(path, "profile")
    profile = validate(source, Profile)
    problems = list(check_points(profile.point, ()))
    if problems:
        raise source.error(problems)
    return profile


def expand(config: Config) -> tuple[Config, list[Problem]]:
    """The configuration with the points of its profiles, and what is wrong with asking for them."""
    problems: list[Problem] = []
    base = config.source.path.parent
    buses: list[Bus] = []
    for at, bus in each(config.bus, "bus", ()):
        units = [_unit(unit, unit_at, base, problems) for unit_at, unit in each(bus.unit, "unit", at)]
        buses.append(bus.model_copy(update={"unit": units}))
    return config.model_copy(update={"bus": buses}), problems


def _unit(unit: Unit, at: Key, base: Path, problems: list[Problem]) -> Unit:
    if unit.profile is not None:
        try:
            profile = load_profile(unit.profile, base)
        except UsageError as e:
            problems += [Problem((*at, "profile"), line) for line in str(e).splitlines()]
            return unit
        problems += _unknown(unit, profile, at)
        unit = merge(unit, profile)
    problems += beyond_limits(unit, at)
    return unit


def _unknown(unit: Unit, profile: Profile, at: Key) -> list[Problem]:
    known = [point.name for point in profile.point]
    found = []
    for index, name in enumerate(unit.points or []):
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else f"; it has: {', '.join(known)}"
            found.append(Problem((*at, "points", index), f"the profile has no point {name!r}{hint}"))
    return found


def merge(unit: Unit, profile: Profile) -> Unit:
    """The unit with what it takes of the profile; what it says itself prevails."""
    own = {point.name: point for point in unit.point}
    taken = [point for point in profile.point if unit.points is None or point.name in unit.points]
    points = [own.pop(point.name, point) for point in taken]
    update = {
        key: value
        for key in ("timeout", "pause", "limits", "holes", "write_multiple")
        if (value := getattr(profile, key)) is not None and key not in unit.model_fields_set
    }
    return unit.model_copy(update={**update, "point": points + list(own.values())})
