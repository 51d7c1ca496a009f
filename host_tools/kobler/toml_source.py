"""TOML files whose mistakes can be shown by file, line and field.

`tomllib` says where a syntax error is but not where a key is. `locate` walks text that `tomllib` has accepted
and notes the line of every key, table and array element, so it may rely on the text being well formed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UsageError

Key = tuple[str | int, ...]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_LONG_NUMBER = re.compile(r"\d(?:_?\d){4300}")
_DEEPEST = 32  # far more than any model here has
_SCALAR = re.compile(r"[^,\]}\n#]+")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'",
    re.DOTALL,
)


class _Locator:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Key, int] = {(): 1}
        self.tables: dict[Key, int] = {}  # how many elements an array of tables has so far

    def note(self, key: Key, at: int) -> None:
        self.lines.setdefault(key, self.text.count("\n", 0, at) + 1)

    def skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            return ""
        self.at = match.end()
        return match.group()

    def dotted(self) -> list[tuple[str, int]]:
        """The parts of a key such as `a."b c".d`, each with its place."""
        parts = []
        while True:
            self.skip(_BLANK)
            at = self.at
            quoted = self.skip(_STRING)
            name = tomllib.loads(f"k = {quoted}")["k"] if quoted else self.skip(_BARE)
            parts.append((name, at))
            self.skip(_BLANK)
            if self.text[self.at] != ".":
                return parts
            self.at += 1

    def header(self) -> Key:
        array = self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        parts = self.dotted()
        self.at += 2 if array else 1
        key: Key = ()
        for index, (name, at) in enumerate(parts):
            key += (name,)
            self.note(key, at)
            if array and index == len(parts) - 1:
                self.tables[key] = self.tables.get(key, 0) + 1
            if key in self.tables:
                key += (self.tables[key] - 1,)
                self.note(key, at)
        return key

    def pair(self, table: Key) -> None:
        key = table
        for name, at in self.dotted():
            key += (name,)
            self.note(key, at)
        self.at += 1  # the equals sign
        self.skip(_BLANK)
        self.value(key)

    def value(self, key: Key) -> None:
        opener = self.text[self.at]
        if opener not in "{[":
            self.skip(_STRING) or self.skip(_SCALAR)
            return
        closer = "}" if opener == "{" else "]"
        self.at += 1
        index = 0
        while True:
            self.skip(_SPACE)
            if self.text[self.at] == closer:
                self.at += 1
                return
            if self.text[self.at] == ",":
                self.at += 1
            elif opener == "{":
                self.pair(key)
            else:
                self.note((*key, index), self.at)
                self.value((*key, index))
                index += 1

    def run(self) -> dict[Key, int]:
        table: Key = ()
        self.skip(_SPACE)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
            self.skip(_SPACE)
        return self.lines


def locate(text: str) -> dict[Key, int]:
    """The line (from 1) of every key path of a well-formed TOML text."""
    return _Locator(text).run()


@dataclass(frozen=True)
class Problem:
    """What is wrong with the value at a key path."""

    where: Key
    what: str


def read_text(path: Path, what: str) -> str:
    """A file's text, which is UTF-8, without a byte order mark; `what` names its kind in errors."""
    try:
        return path.read_bytes().decode("utf-8").removeprefix("\ufeff")
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such {what}") from None
    except UnicodeDecodeError as e:
        raise UsageError(f"{path}: not UTF-8 text (byte {e.start}); save the {what} as UTF-8") from None
    except OSError as e:
        raise UsageError(f"{path}: cannot read the {what}: {e.strerror}") from None


@dataclass(frozen=True)
class TomlSource:
    """A TOML file: its data, and where in the text each part of it is."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[Key, int]

    @classmethod
    def read(cls, path: Path, what: str) -> TomlSource:
        """Read a file; `what` names its kind in errors ("configuration", "board file")."""
        text = read_text(path, what).replace("\r\n", "\n")
        try:
            data = tomllib.loads(text)
            lines = locate(text)
        except tomllib.TOMLDecodeError as e:
            raise UsageError(_syntax(path, text, str(e))) from None
        except ValueError:
            # Python converts no whole number this long.
            match = _LONG_NUMBER.search(text)
            number = text.count("\n", 0, match.start()) + 1 if match else 1
            raise UsageError(f"{path}:{number}: not TOML: a number with too many digits") from None
        except RecursionError:
            raise UsageError(f"{path}:1: not TOML: nested too deeply") from None
        for key, number in lines.items():
            if len(key) > _DEEPEST:
                raise UsageError(f"{path}:{number}: not a {what}: nested too deeply")
        return cls(path, data, lines)

    def line(self, where: Key) -> int:
        """The line of a key path, or of the nearest thing around it that is in the text."""
        for length in range(len(where), -1, -1):
            if where[:length] in self.lines:
                return self.lines[where[:length]]
        return 1

    def error(self, problems: Sequence[Problem]) -> UsageError:
        """All problems in one error, one a line, in the order of the file."""
        found = sorted({(self.line(p.where), field(p.where), p.what) for p in problems})
        return UsageError("\n".join(f"{self.path}:{n}: {name}: {what}" for n, name, what in found))


def field(where: Key) -> str:
    """A key path as a person writes it: `bus[0].unit[1].point[0].type`."""
    text = ""
    for part in where:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def _syntax(path: Path, text: str, message: str) -> str:
    """tomllib ends its messages with `(at line 3, column 5)` or `(at end of document)`."""
    match = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", message)
    if match is None:
        return f"{path}:1: not TOML: {message}"
    line = match[1] or str(text.count("\n") + 1)
    return f"{path}:{line}: not TOML: {message[: match.start()]}"
