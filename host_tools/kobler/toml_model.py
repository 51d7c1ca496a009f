"""Check a TOML file against a pydantic model; a mistake is named by file, line, field and what is allowed."""

from __future__ import annotations

import difflib
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from .toml_source import Key, Problem, TomlSource


class Table(BaseModel):
    """A TOML table: unknown keys are mistakes, and 17 is not "17"."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


M = TypeVar("M", bound=Table)


def validate(source: TomlSource, model: type[M]) -> M:
    """The file's data as `model`; raises UsageError with one line a mistake."""
    try:
        return model.model_validate(source.data)
    except ValidationError as e:
        found = problems(e, source.data, model)
    raise source.error(found)


def problems(error: ValidationError, data: Any, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found wrong with `data` as `model`."""
    return [Problem(_where(each["loc"], data), _what(each, model)) for each in error.errors()]


def _where(loc: Key, data: Any) -> Key:
    """pydantic's location without the parts that are not in the file (validators, union members)."""
    where: Key = ()
    for index, part in enumerate(loc):
        missing_key = isinstance(data, dict) and isinstance(part, str) and index == len(loc) - 1
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            return (*where, part) if missing_key else where
        where += (part,)
    return where


_RANGES = {"greater_than": ">", "greater_than_equal": ">=", "less_than": "<", "less_than_equal": "<="}
_KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "list_type": "a list [...]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "finite_number": "a finite number",
}


def _what(error: Any, model: type[BaseModel]) -> str:
    kind, ctx = error["type"], error.get("ctx", {})
    shown = "the value" if error["loc"][-1:] == ("password",) else _shown(error["input"])
    if kind == "extra_forbidden":
        return _unknown(str(error["loc"][-1]), model, error["loc"][:-1])
    if kind == "missing":
        return "is missing"
    if kind == "literal_error":
        return f"{shown} is not allowed; allowed: {ctx['expected']}"
    if kind in _KINDS:
        return f"{shown} must be {_KINDS[kind]}"
    if kind in _RANGES:
        return f"{shown} is out of range; allowed: {_RANGES[kind]} {next(iter(ctx.values()))}"
    if kind in {"too_short", "too_long"}:
        bound = f">= {ctx['min_length']}" if kind == "too_short" else f"<= {ctx['max_length']}"
        return f"has {ctx['actual_length']} entries; allowed: {bound}"
    if kind == "value_error":
        return str(ctx["error"])
    return f"{shown}: {error['msg']}"


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unknown(name: str, model: type[BaseModel], loc: Key) -> str:
    allowed = sorted(_keys(model, loc))
    close = difflib.get_close_matches(name, allowed, 1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"unknown key{hint}; allowed: {', '.join(allowed)}"


def _keys(model: type[BaseModel], loc: Key) -> list[str]:
    """The keys of the table that `loc` leads to."""
    for part in loc:
        if isinstance(part, int):
            continue
        by_key = {f.alias or name: f for name, f in model.model_fields.items()}
        inner = _table_in(by_key[part].annotation) if part in by_key else None
        if inner is None:
            break  # a union's member: the fields are those of the last table found
        model = inner
    return [f.alias or name for name, f in model.model_fields.items()]


def _table_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        found = _table_in(inner)
        if found is not None:
            return found
    return None
