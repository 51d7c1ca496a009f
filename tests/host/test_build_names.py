"""Private names that modules share: what they mean stays the same."""

from __future__ import annotations

import io
import re
import tokenize
from pathlib import Path

import pytest
from kobler.build.modules import sources
from kobler.build.names import share

FIRMWARE = Path(__file__).parents[2] / "firmware"
PRIVATE = re.compile(r"\b_[A-Za-z]\w*")

BASE = """
from coupler.const import const
_SIZE = const(4)
class Base:
    def __init__(self):
        self._buf = self._make(_SIZE)
        self._told = "_told"
    def _make(self, _n):
        return [_n]
"""
CHILD = """
from base import Base
import queue as _queue
def _helper(one, _call=_queue.Queue):
    return one._io
class Child(Base):
    def __init__(self):
        super().__init__()
        self._mine = 1
        self._more = _helper
"""
OTHER = """
_first = 1
def other():
    global _count
    _count = _first
    return dict(_key=_first)
"""


def words(text: str) -> list[str]:
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    return [token.string for token in tokens if token.type != tokenize.COMMENT]


@pytest.fixture
def shared() -> dict[str, str]:
    return share({"base": BASE, "child": CHILD, "other": OTHER})


def test_modules_whose_classes_inherit_share_nothing(shared: dict[str, str]) -> None:
    made = {"_buf", "_make", "_n", "_mine", "_more", "_helper", "_call", "_queue"}
    names = set(PRIVATE.findall(shared["base"] + shared["child"]))
    assert not names & made
    assert len(names - {"_SIZE", "_told", "_io"}) == len(made)


def test_other_modules_use_the_same_names_again(shared: dict[str, str]) -> None:
    short = set(PRIVATE.findall(shared["other"])) - {"_count", "_key"}
    assert len(short) == 1 and short <= set(PRIVATE.findall(shared["base"] + shared["child"]))


def test_what_a_string_a_keyword_or_someone_else_names_is_kept(shared: dict[str, str]) -> None:
    assert "_SIZE = const(4)" in shared["base"] and 'self._told = "_told"' in shared["base"]
    assert "one._io" in shared["child"]
    assert "global _count" in shared["other"] and "dict(_key=" in shared["other"]


def test_a_short_name_that_is_taken_already_is_left_out() -> None:
    assert share({"one": "_a = 'x'\n_b = [_a]\nprint('_a')\n"})["one"] == "_a = 'x'\n_c = [_a]\nprint('_a')\n"


def test_the_firmware_differs_in_names_only_and_within_a_module_none_meets_another() -> None:
    texts = {path.relative_to(FIRMWARE).as_posix(): path.read_text() for path in sources(FIRMWARE)}
    texts = {name.removesuffix(".py").replace("/", ".").removesuffix(".__init__"): t for name, t in texts.items()}
    shared = share(texts)
    fewer = {name for text in shared.values() for name in PRIVATE.findall(text)}
    assert len(fewer) < 0.5 * len({name for text in texts.values() for name in PRIVATE.findall(text)})
    for module, text in texts.items():
        before, after = words(text), words(shared[module])
        assert [PRIVATE.sub("_", word) for word in before] == [PRIVATE.sub("_", word) for word in after]
        pairs = {pair for pair in zip(before, after, strict=True) if PRIVATE.fullmatch(pair[0])}
        assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs), module
