"""Fewer names for the unit to keep in memory.

MicroPython keeps every name of every module that was ever imported, once, for good: some 1,300 of them were a quarter
of the firmware's heap. A private name means something in its own module only, so private names of different modules
may be the same one: `_a`, `_b` and so on. Line numbers stay, so a traceback of the unit leads to the place in the
source; only the function's name in it is not the one that stands there. See docs/decisions/0043.
"""

from __future__ import annotations

import ast
import io
import itertools
import string
import tokenize
from collections import defaultdict
from collections.abc import Iterator, Mapping

_FIRST = "abcdefghijklmnopqrstuvwxyz"
_MORE = string.ascii_letters + string.digits


def share(sources: Mapping[str, str]) -> dict[str, str]:
    """The sources by module (`coupler.bus.rtu`), with their private names shared between modules.

    Names that are told by a string or a keyword somewhere, or that are not our own, stay as they are.
    """
    trees = {module: ast.parse(text) for module, text in sources.items()}
    families = _families(trees)
    places: dict[str, set[str]] = defaultdict(set)
    for module, tree in trees.items():
        for name in _private(tree):
            places[name].add(families[module])
    kept = set().union(*(_kept(tree) for tree in trees.values()))
    own = set().union(*(_defined(tree) for tree in trees.values()))
    free = {name: where for name, where in places.items() if name in own and name not in kept}
    chosen = _choose(free, set(places))
    return {module: _renamed(text, chosen) for module, text in sources.items()}


def _choose(places: Mapping[str, set[str]], known: set[str]) -> dict[str, str]:
    # Those that are in most places first: what is left for the others is then the same everywhere.
    taken: dict[str, set[str]] = defaultdict(set)
    chosen = {}
    for name in sorted(places, key=lambda name: (-len(places[name]), name)):
        short = next(short for short in _shorts() if short not in known and not taken[short] & places[name])
        taken[short] |= places[name]
        chosen[name] = short
    return chosen


def _shorts() -> Iterator[str]:
    for length in itertools.count():
        for more in itertools.product(_MORE, repeat=length):
            for first in _FIRST:
                yield "_" + first + "".join(more)


def _families(trees: Mapping[str, ast.Module]) -> dict[str, str]:
    # Classes that inherit from one another meet in one object, so their modules' names must differ.
    family = {module: module for module in trees}
    for module, tree in trees.items():
        imported = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module in trees
            for alias in node.names
        }
        for node in ast.walk(tree):
            for base in node.bases if isinstance(node, ast.ClassDef) else ():
                root = base
                while isinstance(root, ast.Attribute):
                    root = root.value
                other = imported.get(root.id) if isinstance(root, ast.Name) else None
                if other is not None:
                    old, new = family[module], family[other]
                    family = {key: new if value == old else value for key, value in family.items()}
    return family


def _is_private(name: str) -> bool:
    return len(name) > 1 and name[0] == "_" and name[1] != "_"


def _private(tree: ast.Module) -> set[str]:
    return {name for name in (_name(node) for node in ast.walk(tree)) if name and _is_private(name)}


def _name(node: ast.AST) -> str | None:
    match node:
        case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name) | ast.alias(asname=name):
            return name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
    return None


def _defined(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        reads = isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
        name = None if reads else _name(node)
        if name and _is_private(name):
            found.add(name)
    return found


def _kept(tree: ast.Module) -> set[str]:
    # mpy-cross leaves private constants out by itself.
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text.isidentifier():
                found.add(text)
            case ast.keyword(arg=str(name)) | ast.alias(name=name, asname=None):
                found.add(name)
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="const"))):
                found.add(name)
            case ast.Global(names=names) | ast.Nonlocal(names=names):
                found.update(names)
    return found


def _renamed(text: str, chosen: Mapping[str, str]) -> str:
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    for token in reversed(tokens):
        if token.type == tokenize.NAME and token.string in chosen:
            row, column = token.start
            line = lines[row - 1]
            lines[row - 1] = line[:column] + chosen[token.string] + line[token.end[1] :]
    return "".join(lines)
