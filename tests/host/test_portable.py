"""Windows and macOS: outside `kobler.sim` nothing POSIX-only is imported."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What Windows' CPython lacks.
_HIDDEN = ("termios", "pty", "tty", "fcntl", "pwd", "grp", "resource", "syslog", "posix")
_CHOSEN = ("serial.serialposix", "mpremote.console")
_CONFIG = Path(__file__).parents[2] / "host_tools" / "kobler" / "sim" / "demo.toml"

# Runs `kobler ARGUMENTS` while the hidden modules cannot be imported by any code of Kobler's: neither directly nor
# through a package that Kobler imports. The standard library, and the halves of pyserial and mpremote that
# are chosen by the system's name, are let through.
_RUN = """
import builtins, sys
hidden, stdlib = {hidden!r}, sys.base_prefix
real = builtins.__import__

def guarded(name, globals=None, locals=None, fromlist=(), level=0):
    who = globals or {{}}
    system = str(who.get("__file__", "")).startswith(stdlib) or who.get("__name__") in {chosen!r}
    if name in hidden and not system:
        raise ModuleNotFoundError(f"No module named {{name!r}} (hidden as on Windows)", name=name)
    return real(name, globals, locals, fromlist, level)

builtins.__import__ = guarded
sys.argv = ["kobler", *{arguments!r}]
from kobler.__main__ import main
main()
"""


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    program = _RUN.format(hidden=_HIDDEN, chosen=_CHOSEN, arguments=arguments)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=folder, check=False
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["build", "--board", "virtual", "--state", "state"],
        ["config", "check", str(_CONFIG)],
        ["config", "compile", str(_CONFIG), "-o", "config.json"],
        ["pki", "issue", "someone", "--state", "state"],
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_command_works_without_posix_modules(arguments: list[str], tmp_path: Path) -> None:
    done = run(arguments, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flash", "--board", "virtual", "--port", "no-such-port", "--state", "state"], "no-such-port"),
        (["provision", "--port", "no-such-port", "--config", str(_CONFIG), "--state", "state"], "no-such-port"),
        (["doctor", "--url", "wss://localhost:1/mqtt"], "localhost"),
        (["bus", "scan", "--port", "no-such-port"], "no-such-port"),
        (["bus", "read", "a/b/c", "--broker", "wss://localhost:1/mqtt", "--device", "x"], "nothing answers on TCP"),
    ],
    ids=["flash", "provision", "doctor", "bus at a port", "bus through a coupler"],
)
def test_command_gets_as_far_as_its_peer_without_posix_modules(arguments: list[str], said: str, tmp_path: Path) -> None:
    run(["build", "--board", "virtual", "--state", "state"], tmp_path)
    done = run(arguments, tmp_path)
    assert done.returncode == 1 and said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr and "hidden as on Windows" not in done.stderr


def test_the_virtual_board_is_the_one_that_needs_posix(tmp_path: Path) -> None:
    """The guard works: what does need a pty says so."""
    done = run(["sim", "run", "--state", "state"], tmp_path)
    assert done.returncode != 0
