"""The console's lock on the virtual board: the button, a flash that lost files, flashing, the moments of a start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from kobler.build import Build
from kobler.errors import KoblerError, UsageError
from kobler.provision.cli import provision
from kobler.provision.console import Console, Locked
from kobler.provision.lock import open_console, owner_of
from kobler.provision.lock_cli import lock, unlock
from kobler.provision.steps import at
from kobler.sim.flash import Flash
from running_board import RunningBoard
from typer import Typer
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

LOCKED = b"is locked"
PROMPTS = (b">>>", b"raw REPL", b"KeyboardInterrupt", b"MPY:")
BUTTON = 0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "owner.pem"
    form = serialization.PrivateFormat.PKCS8
    made = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(made.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return path


class Unit(RunningBoard):
    """A board with the firmware and no configuration; `said`: what came out of its console."""

    def __init__(self, folder: Path, built: Build, **options: str) -> None:
        flash = Flash(folder / "flash.bin", 4 << 20)
        for offset, file in built.regions:
            flash.program(offset, file.read_bytes())
        flash.close()
        super().__init__(folder / "flash.bin", **options)
        self.said = bytearray()

    def __enter__(self) -> Unit:
        super().__enter__()
        write = self.board.usb.write
        self.board.usb.write = lambda data: (self.said.extend(data), write(data))[1]  # type: ignore[method-assign]
        return self

    def lock(self, key: Path | None) -> None:
        start = len(self.said)
        with at(self.url, lambda _: None) as unit:
            unit.lock(owner_of(key) if key else None)
        self.until(LOCKED, start)

    def until(self, words: bytes, start: int, seconds: float = 15) -> bytes:
        limit = time.monotonic() + seconds
        while words not in self.said[start:]:
            assert time.monotonic() < limit, bytes(self.said[start:])
            time.sleep(0.02)
        return bytes(self.said[start:])

    def press(self, down: bool) -> None:
        self.loop.call_soon_threadsafe(self.board.processor.set_pin, BUTTON, 0 if down else 1)

    def type(self, data: bytes) -> None:
        self.loop.call_soon_threadsafe(self.board.processor.write, data)

    def power_cycle(self) -> int:
        """-> where in `said` the new start begins."""
        self.do(self.board.power_off())
        start = len(self.said)
        self.do(self.board.power_on())
        return start

    def no_prompt_since(self, start: int) -> None:
        assert not any(words in self.said[start:] for words in PROMPTS), bytes(self.said[start:])


@pytest.fixture
def unit(tmp_path: Path, built: Build) -> Iterator[Unit]:
    with Unit(tmp_path, built) as one:
        yield one


def test_the_button_opens_and_nothing_but_a_press_in_the_first_minute(unit: Unit) -> None:
    unit.lock(None)
    start = unit.power_cycle()
    unit.until(LOCKED, start)
    unit.type(b"\x03\x01\x04\r\n")
    time.sleep(0.3)
    unit.press(True)
    time.sleep(1.5)
    unit.press(False)
    time.sleep(0.5)
    unit.no_prompt_since(start)
    unit.press(True)
    unit.until(b"unlocked by the button", start)
    assert unit.mpremote("exec", "print('in')").ok().strip() == "in"
    start = unit.power_cycle()
    unit.until(b">>>", start)  # for good: until it is locked again
    unit.lock(None)
    start = unit.power_cycle()
    unit.until(LOCKED, start)
    unit.no_prompt_since(start)


def test_ctrl_c_at_any_moment_of_a_start_opens_nothing(unit: Unit, key: Path) -> None:
    unit.lock(key)
    for n in range(6):
        start = unit.power_cycle()
        for _ in range(40):
            unit.type(b"\x03" * (1 + n))
            time.sleep(0.01 + 0.003 * n)
        unit.until(LOCKED, start)
        unit.no_prompt_since(start)
    with pytest.raises(KoblerError, match="does not know the time"):  # nobody has told it since the power failed
        open_console(unit.url, None, key)


def test_a_ctrl_c_during_the_start_of_an_unlocked_unit_still_stops_it(unit: Unit) -> None:
    start = unit.power_cycle()
    unit.type(b"\x03")
    assert b"kobler: firmware" not in unit.until(b">>>", start)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("os.remove('/main.py')", b"the firmware does not start"),
        ("os.remove('/coupler/hal/__init__.mpy')", b"the firmware does not start"),
        ("h.write_file('/main.py',b'import sys\\nsys.exit()')", b"the firmware does not start"),
        ("h.write_file('/etc/config.json',b'{')", b"the configuration cannot be run"),
        ("h.write_file('/board.json',b'[')", b"the firmware does not start"),
    ],
)
def test_a_unit_that_cannot_start_gives_no_prompt_either(unit: Unit, damage: str, words: bytes) -> None:
    with Console(unit.url) as console:
        console.run("from coupler import hal\nh=hal.get()\nfrom coupler.trust import lock\nlock.shut(h)", "locking")
        console.run(f"import os\n{damage}", "damaging")
        start = len(unit.said)
        console.reset("import time\ntime.sleep(0.1)\nh.reset()")
    unit.until(words, start)
    before = unit.board.resets
    time.sleep(0.5)
    unit.type(b"\x03\x03\r\n\x01\x04")
    time.sleep(0.5)
    unit.no_prompt_since(start + unit.said[start:].index(b"kobler:"))
    assert unit.board.resets == before, "it must not restart in a hurry"


def test_a_soft_reset_out_of_the_raw_repl_leads_into_the_lock(unit: Unit) -> None:
    with Console(unit.url) as console:
        console.run("from coupler import hal\nfrom coupler.trust import lock\nlock.shut(hal.get())", "locking")
        start = len(unit.said)
        console.send(b"\x04")
        unit.until(LOCKED, start)
    start += unit.said[start:].index(b"soft reboot") + 4
    unit.type(b"\x03\x01")
    time.sleep(0.5)
    unit.no_prompt_since(start + 10)


def test_it_can_be_flashed_and_stays_locked(unit: Unit, built: Build, key: Path) -> None:
    unit.lock(key)
    pairs = [part for offset, file in built.regions for part in (hex(offset), file)]
    unit.esptool("--chip", "esp32", "--baud", "921600", "write-flash", *pairs).ok()
    with pytest.raises(Locked, match="kobler unlock --port"), Console(unit.url):
        pass


@pytest.mark.parametrize("batch", [False, True])
def test_provisioning_ends_with_the_lock_and_a_locked_unit_is_not_provisioned_again(
    unit: Unit, key: Path, tmp_path: Path, batch: bool
) -> None:
    (tmp_path / "orders.csv").write_text("serial\nK1-001\n")
    shell = [sys.executable, "-P", "-m", "kobler", "provision", "--port", unit.url, "--state", str(tmp_path / "state")]
    shell += ["--batch", str(tmp_path / "orders.csv"), "--wait", "20"] if batch else []
    done = subprocess.run([*shell, "--lock", "--owner-key", key], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    start = len(unit.said)
    unit.until(LOCKED, start - 200)
    again = subprocess.run([*shell[:7], "--state", str(tmp_path / "state")], capture_output=True, text=True, timeout=60)
    assert again.returncode == 1 and again.stderr.splitlines()[-1].startswith("kobler: the console of unit")
    assert open_console(unit.url, None, key) == unit.board.mac.hex()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["provision", "--owner-key", "KEY"], "--owner-key goes with --lock"),
        (["provision", "--lock", "--csr-out", "x"], "--lock goes with --cert-in"),
        (["provision", "--lock", "--owner-key", "RSA"], "is no P-256 key"),
        (["lock", "--owner-key", "/nonexistent"], "cannot read /nonexistent"),
        (["lock", "--owner-key", "TEXT"], "has no key in PEM"),
        (["unlock"], "give --token or --key"),
        (["unlock", "--key", "KEY", "--token", "x"], "give --token or --key"),
        (["unlock", "--token", " "], "no compact JWS"),
    ],
)
def test_mistakes_are_told_before_a_unit_is_touched(key: Path, tmp_path: Path, command: list[str], words: str) -> None:
    made = rsa.generate_private_key(65537, 2048).public_key()
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    (tmp_path / "rsa.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM, form))
    (tmp_path / "text").write_text("hello")
    named = {"KEY": str(key), "RSA": str(tmp_path / "rsa.pem"), "TEXT": str(tmp_path / "text")}
    arguments = [named.get(word, word) for word in command]
    done = CliRunner().invoke(_app(), [*arguments, "--port", "/dev/ttyNONE"])
    assert isinstance(done.exception, UsageError) and words in str(done.exception), done.output


def _app() -> Typer:
    app = Typer()
    for one in (provision, lock, unlock):
        app.command()(one)
    return app


def test_the_firmware_on_cpython_locks_too(tmp_path: Path, built: Build, key: Path) -> None:
    with Unit(tmp_path, built, runtime="cpython") as unit:
        unit.lock(key)
        start = unit.power_cycle()
        unit.type(b"\x03\x03")
        unit.until(LOCKED, start)
        unit.type(b"\x03\x01")
        unit.no_prompt_since(start)
        assert open_console(unit.url, None, key) == unit.board.mac.hex()
