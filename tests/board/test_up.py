"""From nothing to live values: `kobler up`, which is what ./flash.sh runs, as a user and a script meet it."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = [sys.executable, "-P", "-m", "kobler"]
# Most of it is waiting for esptool; a busy machine may need several times as long as the seven seconds of an idle one.
PATIENCE = 60.0


class Running:
    """A `kobler` process in a session of its own, its JSON lines as they come."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._listen)]
        for thread in self._threads:
            thread.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def until(self, event: str, **wanted: Any) -> dict[str, Any]:
        """Wait for an event with these fields."""
        deadline = time.monotonic() + PATIENCE
        while True:
            line = self._lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            assert line is not None, f"ended before {event}: {self.errors}"
            found = json.loads(line)
            self.events.append(found)
            if found.get("event") == event and wanted.items() <= found.items():
                return found

    def end(self, number: int | None = None) -> int:
        """The exit code, after a signal to all of its group if one is given (as Ctrl-C does)."""
        if number is not None:
            os.killpg(self.process.pid, number)
        code = self.process.wait(PATIENCE)
        for thread in self._threads:
            thread.join(5)
        while (line := self._lines.get()) is not None:
            self.events.append(json.loads(line))
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def start() -> Iterator[Any]:
    running: list[Running] = []

    def begin(*arguments: str) -> Running:
        running.append(Running(*arguments))
        return running[-1]

    yield begin
    for one in running:
        one.kill()


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


def processes_about(text: str) -> list[str]:
    """Running processes with a text in their command line or, as the board's interpreter has it, environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            said = b"".join((folder / name).read_bytes() for name in ("cmdline", "environ"))
            line = said.replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if folder.name != str(os.getpid()) and text in line:
            found.append(line)
    return found


def assert_nothing_left(state: Path) -> None:
    deadline = time.monotonic() + 5
    while processes_about(str(state)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_about(str(state)) == []
    assert not (state / "endpoint.json").exists()


def test_from_nothing_to_live_values_and_all_that_surrounds_them(start: Any, state: Path) -> None:
    up = start("up", "--json", "--for", "12s", "--state", str(state))
    device = up.until("provisioned")["device"]
    up.until("sample", point="field/meter/power")
    where = json.loads((state / "endpoint.json").read_text())
    assert where["device"] == device and where["broker"].startswith("wss://localhost:")
    assert Path(where["ca"]).is_absolute() and Path(where["ca"]).exists()

    second = start("up", "--for", "1s", "--state", str(state))
    watch = start("watch", "--json", "--for", "3s", "--state", str(state))
    doctor = start("doctor", "--json", "--state", str(state))
    assert second.end() == 1
    assert second.errors.count("\n") == 1 and "another kobler runs there" in second.errors
    assert watch.end() == 0, watch.errors
    assert {event["device"] for event in watch.events} == {device}
    assert doctor.end() == 0, doctor.errors
    command = [sys.executable, "-P", "-m", "kobler", "watch", "--json", "--for", "10s", "--state", str(state)]
    piped = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert piped.stdout is not None and piped.stderr is not None
    assert piped.stdout.readline().startswith(b'{"event": "sample"')
    piped.stdout.close()  # as `head -1` does
    assert piped.stderr.read() == b"" and piped.wait() == 1
    piped.stderr.close()
    assert [line["check"] for line in doctor.events] == ["dns", "tcp", "tls", "websocket", "mqtt", "time"]

    assert up.end() == 0, up.errors
    order = [event["event"] for event in up.events if event["event"] != "sample"]
    assert order == ["built", "flashed", "provisioned", "online", "summary"]
    samples = [event for event in up.events if event["event"] == "sample"]
    assert {sample["quality"] for sample in samples} == {"good"}
    assert all(abs(sample["time"] - time.time()) < 60 for sample in samples)
    power = [sample for sample in samples if sample["point"] == "field/meter/power"]
    assert len(power) >= 3 and {sample["unit"] for sample in power} == {"W"}
    assert all(isinstance(sample["value"], float) and 100 < sample["value"] < 100_000 for sample in power)
    numbers = [sample["seq"] for sample in samples]
    assert numbers == sorted(set(numbers))
    summary = up.events[-1]
    assert summary["samples"] == len(samples)
    assert summary["bus"]["requests"] > 10 and summary["bus"]["errors"] == 0
    assert_nothing_left(state)


def test_a_silent_bus_is_no_success(start: Any, state: Path, tmp_path: Path) -> None:
    up = start("up", "--json", "--for", "4s", "--state", str(state), "--rs485", str(tmp_path / "bus"))
    assert up.end() == 1
    assert "no value could be read from the bus" in up.errors.splitlines()[-1]
    assert up.events[-1]["event"] == "summary" and up.events[-1]["good"] == 0
    assert_nothing_left(state)


def test_the_firmware_on_cpython_is_provisioned_and_reports_too(start: Any, tmp_path: Path) -> None:
    up = start("up", "--runtime", "cpython", "--json", "--for", "30s", "--state", str(tmp_path))
    sample = up.until("sample", point="field/meter/power")
    assert sample["quality"] == "good" and 100 < sample["value"] < 100_000
    assert any("_boot_cpython" in process for process in processes_about(str(tmp_path)))
    assert up.end(signal.SIGINT) == 0, up.errors
    assert up.events[-1]["good"] > 0 and up.events[-1]["bus"]["errors"] == 0
    assert_nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        (None, signal.SIGINT, 130),
        ("built", signal.SIGINT, 130),  # esptool runs
        ("flashed", signal.SIGTERM, 143),  # the unit makes its key
        ("sample", signal.SIGINT, 0),  # live: this is how one leaves
        ("sample", signal.SIGHUP, 0),
    ],
)
def test_ctrl_c_at_any_moment_leaves_nothing_behind(
    start: Any, state: Path, moment: str | None, number: signal.Signals, code: int
) -> None:
    up = start("up", "--json", "--state", str(state))
    if moment is None:
        time.sleep(0.4)
    else:
        up.until(moment)
        time.sleep(0.3)
    assert up.end(number) == code, up.errors
    assert "Traceback" not in up.errors
    assert_nothing_left(state)


def test_the_board_does_not_outlive_a_killed_parent(start: Any, state: Path) -> None:
    up = start("up", "--json", "--state", str(state))
    up.until("flashed")
    up.end(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while processes_about(str(state)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_about(str(state)) == []


def test_a_board_at_a_port_is_flashed_as_hardware_is(start: Any, state: Path, tmp_path: Path) -> None:
    sim = start("sim", "run", "--json", "--state", str(tmp_path / "sim"))
    board = sim.until("powered")
    up = start("up", "--json", "--for", "4s", "--state", str(tmp_path / "up"), "--port", board["usb"])
    assert up.end() == 0, up.errors
    assert up.events[-1]["good"] > 5
    provisioned = next(event for event in up.events if event["event"] == "provisioned")
    assert provisioned["device"] == board["device"]
    assert sim.end(signal.SIGINT) == 0, sim.errors


def test_no_broker_leaves_the_cloud_to_the_configuration(start: Any, state: Path, tmp_path: Path) -> None:
    from kobler.cloud.background import Background
    from kobler.cloud.broker import Broker
    from kobler.pki import Authority

    broker = Broker(Authority.open_or_create(state / "pki"))
    with Background(broker):
        demo = Path(__file__).parents[2] / "host_tools/kobler/sim/demo.toml"
        text = demo.read_text().replace("wss://localhost:8443/mqtt", broker.url)
        # The clock of the virtual board is right without a time server.
        site = tmp_path / "site.toml"
        site.write_text(text)
        up = start("up", "--json", "--for", "5s", "--state", str(state), "--config", str(site), "--no-broker")
        up.until("provisioned")
        up.until("sample")
        assert json.loads((state / "endpoint.json").read_text())["broker"] == broker.url
        watch = start("watch", "--json", "--for", "2s", "--state", str(state), "--config", str(site))
        assert watch.end() == 0 and watch.events, watch.errors
        assert up.end() == 0, up.errors


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--config", "/nonexistent.toml"], 2, "/nonexistent.toml"),
        (["--board", "nonesuch"], 2, "nonesuch"),
        (["--board", "olimex-esp32-poe"], 2, "--port"),
        (["--port", "/dev/ttyUSB0"], 2, "--board"),  # the stand-in of the virtual board is for no real chip
        (["--port", "rfc2217://127.0.0.1:1"], 1, "rfc2217://127.0.0.1:1"),
        (["--listen", "0.0.0.0"], 2, "one address"),
        (["--for", "20"], 2, "20s"),
        (["--listen", "192.0.2.1", "--no-broker"], 2, "--no-broker"),
        (["--listen", "192.0.2.1"], 1, "192.0.2.1"),
        (["--rs485", "/tmp/x", "--port", "rfc2217://127.0.0.1:1"], 2, "--rs485"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    start: Any, state: Path, options: list[str], code: int, said: str
) -> None:
    up = start("up", "--json", "--for", "5s", "--state", str(state), *options)
    assert up.end() == code
    # Above it may stand what was done before; the last line is the error.
    last = up.errors.splitlines()[-1]
    assert last.startswith("kobler: ") and said in last and "Traceback" not in up.errors
    assert_nothing_left(state)


@pytest.mark.parametrize(("name", "folder"), [("endpoint.json", True), ("endpoint.new", True), ("board", False)])
def test_what_lies_in_the_way_in_the_state_folder_is_named(start: Any, tmp_path: Path, name: str, folder: bool) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / name).mkdir() if folder else (state / name).touch()
    up = start("up", "--json", "--for", "5s", "--state", str(state))
    assert up.end() == 1
    last = up.errors.splitlines()[-1]
    assert last.startswith("kobler: cannot ") and str(state / name) in last and "Traceback" not in up.errors


def test_a_malformed_configuration_names_file_and_line(start: Any, state: Path, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text('[device]\nname = "x"\n\n[[bus]]\nname = "field"\nkind = "rtu"\nbaudrate = "fast"\n')
    up = start("up", "--state", str(state), "--config", str(site))
    assert up.end() == 2
    assert f"{site}:7" in up.errors and "baudrate" in up.errors


def test_a_port_that_never_answers_is_given_up(start: Any, state: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:  # accepts, and never says a word of RFC 2217
        url = f"rfc2217://127.0.0.1:{listener.getsockname()[1]}"
        up = start("up", "--json", "--state", str(state), "--port", url)
        up.until("built")
        assert up.end() == 1
    assert url in up.errors.splitlines()[-1]


@pytest.mark.long
@pytest.mark.timeout(600)
def test_flash_sh_in_a_fresh_clone_with_nothing_but_path_and_home(tmp_path: Path) -> None:
    clone = tmp_path / "a clone with spaces"
    root = Path(__file__).parents[2]
    skipped = shutil.ignore_patterns(".*_cache", ".venv", ".git", ".kobler", ".typings", ".hypothesis", "__pycache__")
    shutil.copytree(root, clone, ignore=skipped)
    bare = {name: os.environ[name] for name in ("PATH", "HOME")}
    command = [clone / "flash.sh", "--json", "--for", "5s", "--state", tmp_path / "state"]
    for first in (True, False):
        began = time.monotonic()
        done = subprocess.run(command, env=bare, cwd="/", capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        events = [json.loads(line) for line in done.stdout.splitlines()]
        assert events[0]["event"] == "built" and events[-1]["good"] > 5
        assert ("installing" in done.stderr) is first
        assert time.monotonic() - began < (180 if first else 60)
