"""What can be wrong with a port, a cable and a board; provisioning itself is tested on the virtual board."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from kobler import serial_ports
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority
from kobler.provision import console, provision
from kobler.provision.cli import _only_port

MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("state") / "pki")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_READ_TIMEOUT", 0.5)
    monkeypatch.setattr(console, "_CONNECT_SECONDS", 1.0)


def refusal(port: str, authority: Authority) -> str:
    before = time.monotonic()
    with pytest.raises(KoblerError) as caught:
        provision(port, authority, b"{}")
    assert time.monotonic() - before < 15
    text = str(caught.value)
    assert "\n" not in text
    return text


@contextmanager
def serial_line() -> Iterator[tuple[int, str]]:
    """A pty: the unit's end as a file descriptor, the technician's as a path."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        yield master, os.ttyname(slave)
    finally:
        os.close(slave)
        os.close(master)


def test_a_port_that_is_not_there(authority: Authority) -> None:
    assert "there is no port /dev/ttyNONE" in refusal("/dev/ttyNONE", authority)


def test_a_virtual_board_that_is_not_running(authority: Authority) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert "kobler sim run" in refusal(f"rfc2217://127.0.0.1:{port}", authority)


def test_something_that_is_no_port(authority: Authority) -> None:
    assert "not a serial port" in refusal("gopher://somewhere", authority)


def test_a_port_that_another_program_uses(authority: Authority) -> None:
    with serial_line() as (_, path), Path(path).open("rb", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "is busy: close the other program" in refusal(path, authority)


def test_a_device_that_says_nothing(authority: Authority) -> None:
    with serial_line() as (_, path):
        assert "no MicroPython answers" in refusal(path, authority)


def test_a_device_that_never_stops_talking(authority: Authority) -> None:
    with serial_line() as (master, path):
        done = threading.Event()

        def talk() -> None:
            while not done.is_set():
                if select.select([], [master], [], 0.05)[1]:
                    os.write(master, b"$GPGGA,123519,4807.038,N*47\r\n")
                time.sleep(0.002)

        talker = threading.Thread(target=talk)
        talker.start()
        try:
            assert "no MicroPython answers" in refusal(path, authority)
        finally:
            done.set()
            talker.join()


@contextmanager
def micropython(hang_up_after: int = 1 << 30) -> Iterator[str]:
    """The real MicroPython at a pty. Like a board's console it outlives a soft reset; the line may break."""
    with serial_line() as (line, path):
        done = threading.Event()
        board = threading.Thread(target=_serve, args=(line, done, hang_up_after))
        board.start()
        try:
            yield path
        finally:
            done.set()
            board.join()


def _serve(line: int, done: threading.Event, left: int) -> None:
    first = True
    while not done.is_set():
        inner, slave = pty.openpty()
        tty.setraw(slave)
        process = subprocess.Popen([str(MICROPYTHON), "-i"], stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        try:
            if not first:
                os.write(line, b"MPY: soft reboot\r\n")
                os.write(inner, b"\x01")
            first = False
            while not done.is_set() and process.poll() is None:
                for source in select.select([line, inner], [], [], 0.02)[0]:
                    data = os.read(source, 256)
                    if source == inner:
                        data = data[:left]
                        left -= len(data)
                    os.write(line if source == inner else inner, data)
        except OSError:
            pass  # the interpreter has ended
        finally:
            process.kill()
            process.wait()
            os.close(inner)


def test_a_board_with_micropython_but_without_the_firmware(authority: Authority) -> None:
    with micropython() as path:
        assert "runs MicroPython, but not Kobler: run `kobler flash`" in refusal(path, authority)


@pytest.mark.parametrize("heard", [0, 60, 130, 200])
def test_a_cable_that_breaks(authority: Authority, heard: int) -> None:
    with micropython(hang_up_after=heard) as path:
        text = refusal(path, authority)
        assert "no MicroPython answers" in text or "stopped answering while" in text


def test_without_a_port_the_only_one_is_taken_and_several_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, words in ((["/dev/one"], ""), (["/dev/one", "/dev/two"], "/dev/one, /dev/two"), ([], "plug")):
        monkeypatch.setattr(serial_ports, "ports", lambda found=found: found)
        if words:
            with pytest.raises(UsageError, match=words):
                _only_port()
        else:
            assert _only_port() == "/dev/one"
