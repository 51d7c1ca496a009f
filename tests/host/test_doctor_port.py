"""`kobler doctor --port` at a virtual board: what it prints, and that the unit runs again however it ends."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kobler.build import Build
from kobler.doctor.cli import doctor
from kobler.doctor.unit import examine
from kobler.errors import KoblerError
from kobler.provision.console import Console
from kobler.sim.flash import Flash
from running_board import RunningBoard
from typer import Typer
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

command = Typer(pretty_exceptions_enable=False)
command.command()(doctor)
RUNS = b"kobler: firmware"


class Board(RunningBoard):
    """A board with the firmware and nothing else on it; `said`: all that came out of its console."""

    def __init__(self, folder: Path, built: Build | None) -> None:
        image = folder / "flash.bin"
        flash = Flash(image, 4 << 20)
        for offset, file in built.regions if built else ():
            flash.program(offset, file.read_bytes())
        flash.close()
        super().__init__(image)
        self.said = bytearray()

    def __enter__(self) -> Board:
        super().__enter__()
        write = self.board.usb.write
        self.board.usb.write = lambda data: (self.said.extend(data), write(data))[1]  # type: ignore[method-assign]
        return self

    def configure(self, **net: object) -> None:
        """A configuration with the cloud on, and no certificate."""
        cloud = {"enabled": True, "scheme": "wss", "host": "localhost", "port": 1, "path": "/mqtt"}
        cloud |= {"dialect": "plain", "ack": "broker"}
        config = {"v": 1, "rev": "abc", "name": "test", "cloud": cloud, "bus": []}
        config["net"] = {"kind": "ethernet", "address": "dhcp", "ntp": [], **net}
        with Console(self.url) as console:
            console.run("from coupler import hal\nh=hal.get()", "test")
            console.run(f"h.write_file('/etc/config.json',{json.dumps(config).encode()!r})", "test")

    def runs_again(self, since: int) -> None:
        deadline = time.monotonic() + 20
        while RUNS not in self.said[since:]:
            assert time.monotonic() < deadline, bytes(self.said[since:])
            time.sleep(0.05)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory, built: Build) -> Iterator[Board]:
    with Board(tmp_path_factory.mktemp("board"), built) as found:
        found.runs_again(0)
        yield found


def test_a_unit_that_was_never_provisioned(board: Board) -> None:
    started = len(board.said)
    result = CliRunner().invoke(command, ["--port", board.url, "--json"])
    assert result.exit_code == 1, result.output
    unit, first, *rest = [json.loads(line) for line in result.stdout.splitlines()]
    assert unit["event"] == "unit" and unit["id"] == board.board.mac.hex() and unit["board"] == "virtual"
    assert (first["event"], first["check"], first["ok"]) == ("check", "configuration", False)
    assert "kobler provision" in first["remedy"]
    assert rest and {line["ok"] for line in rest} == {None}
    assert "has not said that it runs again" not in result.stderr
    assert board.said[started:].count(RUNS) == 1


def test_people_and_tickets_get_the_same(board: Board) -> None:
    board.configure(ntp=["127.0.0.1:1"])
    lines = CliRunner().invoke(command, ["--port", board.url])
    text = [line.split()[:2] for line in lines.stdout.splitlines() if " ms  " in line]
    assert text[:4] == [["configuration", "ok"], ["network", "ok"], ["time", "FAILED"], ["identity", "FAILED"]]
    assert "-> let UDP port 1 out to 127.0.0.1" in lines.stdout
    ticket = CliRunner().invoke(command, ["--port", board.url, "--markdown"])
    rows = [line.split(" | ") for line in ticket.stdout.splitlines() if line.startswith("| ")]
    assert [row[0][2:] for row in rows[2 : 2 + len(text)]] == [row[0] for row in text]
    assert any(row[:3] == ["| 127.0.0.1", "1", "UDP"] for row in rows), "the firewall's table"
    assert lines.exit_code == ticket.exit_code == 1


def test_a_cable_pulled_in_the_middle_leaves_no_unit_stopped(board: Board) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        board.configure(ntp=[f"127.0.0.1:{mute.getsockname()[1]}"])
        events = examine(board.url, lambda _: None)
        next(events), next(events)  # it is at work
        started = len(board.said)
        board.do(board.board.usb.unplug())
        with pytest.raises(KoblerError, match="check the cable"):
            list(events)
        board.runs_again(started)
    board.do(board.board.usb.plug())


def test_whoever_stops_listening_sets_the_unit_going(board: Board) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        board.configure(ntp=[f"127.0.0.1:{mute.getsockname()[1]}"] * 3)
        events = examine(board.url, lambda _: None)
        next(events), next(events)
        started, began = len(board.said), time.monotonic()
        events.close()
        assert b"stopped from the console" in board.said[started:] and RUNS in board.said[started:]
        assert time.monotonic() - began < 6, "the time servers were not waited for"


def test_a_firmware_without_a_doctor(board: Board) -> None:
    started = len(board.said)
    with Console(board.url) as console:
        console.run("import os\nos.rename('/coupler/doctor.mpy','/coupler/away.mpy')", "test")
    result = CliRunner().invoke(command, ["--port", board.url])
    assert isinstance(result.exception, KoblerError) and "kobler flash" in str(result.exception)
    board.runs_again(started)
    with Console(board.url) as console:
        console.run("import os\nos.rename('/coupler/away.mpy','/coupler/doctor.mpy')", "test")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--port", "/nonexistent"], "no port /nonexistent"),
        (["--port", "x", "--url", "wss://localhost/mqtt"], "leave --url away"),
        (["--port", "x", "--ntp", "a"], "leave --ntp away"),
        (["--json", "--markdown"], "give one of them"),
    ],
)
def test_mistakes_are_one_line(options: list[str], said: str) -> None:
    result = CliRunner().invoke(command, options)
    assert isinstance(result.exception, KoblerError) and said in str(result.exception)
    assert "\n" not in str(result.exception)
