"""`tests/run PATTERN` is a promise too: a part of a name chooses tests of every kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_part_of_a_name_chooses_tests_on_every_interpreter() -> None:
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "-k", "test_senml", "tests/unit"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    names = [line for line in done.stdout.splitlines() if line.startswith("tests/unit/test_senml.py::")]
    assert any(name.endswith("[micropython]") for name in names)
    assert any("[" not in name for name in names)
