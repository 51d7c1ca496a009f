"""Points written as TOML that `kobler.config` reads again."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def points_toml(header: str, points: Iterable[dict[str, Any]]) -> str:
    """A table `[[header]]` for each point."""
    return "\n".join(f"[[{header}]]\n{table(point)}" for point in points)


def table(fields: dict[str, Any]) -> str:
    """The lines of one table."""
    return "".join(f"{key} = {value_toml(value)}\n" for key, value in fields.items())


def value_toml(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # what may stand here is printable: the escapes are TOML's too
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {value_toml(item)}" for key, item in value.items()) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(value_toml(item) for item in value) + "]"
    return repr(value)
