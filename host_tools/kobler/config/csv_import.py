"""Lists of points as spreadsheets have them (CSV) to points of the configuration.

A header row, then a row a point; the columns may come in any order. Comma or semicolon; with semicolons numbers may
have a decimal comma. Where a point is: `table` or `function` with `address` (from 0), or `register` in the old notation
(30053 is input register 52). `min` and `max` limit what may be written, which they allow; `write` alone allows it too.
"""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..errors import UsageError
from ..toml_model import problems
from ..toml_source import Key, read_text
from .models import Point
from .points import check_point

_TABLES = {"1": "coil", "2": "discrete", "3": "holding", "4": "input"}
_REGISTERS = {"0": "coil", "1": "discrete", "3": "input", "4": "holding"}
_NUMBERS = ("scale", "offset", "min", "max")
_PLAIN = ("name", "type", "order", "unit", "poll")
COLUMNS = (*_PLAIN, *_NUMBERS, "table", "function", "register", "address", "missing", "write")
_NEEDED = ("name", "type")
_YES_NO = {"": None, "yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True)
class Row:
    """A point as the configuration's TOML has it, and the line it came from."""

    line: int
    fields: dict[str, Any]
    point: Point


class _Bad(Exception):
    def __init__(self, column: str, what: str) -> None:
        super().__init__(what)
        self.column = column


def read(path: Path) -> list[Row]:
    """The points of a file; UsageError with one line a mistake, each with file, line and column."""
    text = read_text(path, "list of points")
    first = text.partition("\n")[0]
    delimiter = ";" if ";" in first else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    mistakes: list[str] = []
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        header = _header(path, next(reader, []))
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found = _row(path, line, header, cells, delimiter, mistakes)
                if found is not None:
                    name = found.point.name
                    if name in seen:
                        mistakes.append(f"{path}:{line}: name: {name!r} is already the name in line {seen[name]}")
                    seen.setdefault(name, line)
                    rows.append(found)
            line = reader.line_num + 1
    except csv.Error as e:
        mistakes.append(f"{path}:{reader.line_num}: not CSV: {e}")
    if mistakes:
        raise UsageError("\n".join(mistakes))
    if not rows:
        raise UsageError(f"{path}:1: has no points")
    return rows


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    while header and not header[-1]:
        header.pop()
    found = []
    for index, name in enumerate(header):
        if name not in COLUMNS:
            found.append(f"{path}:1: column {index + 1}: {name!r} is not known; allowed: {', '.join(COLUMNS)}")
        elif name in header[:index]:
            found.append(f"{path}:1: column {index + 1}: {name!r} is there twice")
    found += [f"{path}:1: {name}: is missing" for name in _NEEDED if name not in header]
    if "register" not in header and not ("address" in header and {"table", "function"} & set(header)):
        found.append(f"{path}:1: register: is missing; or table (or function) and address")
    if found:
        raise UsageError("\n".join(found))
    return header


def _row(path: Path, line: int, header: list[str], cells: list[str], delimiter: str, mistakes: list[str]) -> Row | None:
    if len(cells) > len(header) and any(cell.strip() for cell in cells[len(header) :]):
        mistakes.append(f"{path}:{line}: column {len(header) + 1}: the header names only {len(header)} columns")
        return None
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=False) if cell.strip()}
    try:
        fields = _fields(row, delimiter == ";")
    except _Bad as e:
        mistakes.append(f"{path}:{line}: {e.column}: {e}")
        return None
    try:
        point = Point.model_validate(fields)
        found = [(problem.where, problem.what) for problem in check_point(point, ())]
    except ValidationError as e:
        found = [(problem.where, problem.what) for problem in problems(e, fields, Point)]
    if found:
        mistakes += [f"{path}:{line}: {_column(where, row)}: {what}" for where, what in found]
        return None
    return Row(line, fields, point)


def _column(where: Key, row: dict[str, str]) -> str:
    """The column that a key of the point came from."""
    key = str(where[-1]) if where else "row"
    if key in {"table", "address"} and key not in row:
        return "register" if "register" in row else "function" if key == "table" else key
    if key == "write" and key not in row:
        return "min" if "min" in row else "max"
    return key


def _fields(row: dict[str, str], semicolons: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {key: row[key] for key in _PLAIN if key in row}
    fields |= _place(row)
    numbers = {key: _number(key, row[key], semicolons) for key in _NUMBERS if key in row}
    fields |= {key: numbers[key] for key in ("scale", "offset") if key in numbers}
    limits = {key: numbers[key] for key in ("min", "max") if key in numbers}
    write = _YES_NO.get(row.get("write", "").lower(), "?")
    if write == "?":
        raise _Bad("write", f"{row['write']!r} is neither yes nor no")
    if write is False and limits:
        raise _Bad("write", "min and max say what may be written; leave them empty")
    if write or limits:
        fields["write"] = limits
    if "missing" in row:
        items = [_missing(item.strip(), semicolons) for item in re.split(r"[|/]", row["missing"])]
        fields["missing"] = items[0] if len(items) == 1 else items
    return fields


def _place(row: dict[str, str]) -> dict[str, Any]:
    if "register" in row:
        for other in ("table", "function", "address"):
            if other in row:
                raise _Bad(other, "does not go with register, which says it all")
        number = row["register"]
        match = re.fullmatch(r"([0134])(\d{4,5})", number)
        if match is None or not 1 <= int(match[2]) <= 65536:
            raise _Bad(
                "register", f"{number!r} is no register; allowed: such as 30053 or 400001 (a table and a number)"
            )
        return {"table": _REGISTERS[match[1]], "address": int(match[2]) - 1}
    if ("table" in row) == ("function" in row):
        what = "does not go with function" if "table" in row else "is missing; or function, or register"
        raise _Bad("table", what)
    if "address" not in row:
        raise _Bad("address", "is missing")
    if "function" in row and row["function"] not in _TABLES:
        raise _Bad("function", f"{row['function']!r} reads nothing; allowed: 1, 2, 3 or 4")
    if not re.fullmatch(r"\d{1,9}|0[xX][0-9a-fA-F]{1,8}", row["address"]):
        raise _Bad("address", f"{row['address']!r} is not a whole number; allowed: 0 to 65535, or 0x0 to 0xFFFF")
    address = int(row["address"], 16 if row["address"][:2].lower() == "0x" else 10)
    return {"table": row.get("table", "").lower() or _TABLES[row["function"]], "address": address}


def _number(column: str, text: str, semicolons: bool) -> float:
    plain = text.replace(",", ".") if semicolons and text.count(",") == 1 and "." not in text else text
    if not re.fullmatch(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", plain):
        raise _Bad(column, f"{text!r} is not a number")
    value = float(plain)
    if value in (float("inf"), float("-inf")):
        raise _Bad(column, f"{text!r} is not a finite number")
    return value


def _missing(text: str, semicolons: bool) -> int | float | str:
    if text.lower() == "nan" or text[:2].lower() == "0x":
        return text.lower()
    if re.fullmatch(r"-?\d{1,20}", text):
        return int(text)
    return _number("missing", text, semicolons)
