"""Provisioning from end to end: mpremote's transport, the virtual board, the real MicroPython, the flash."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kobler import boards
from kobler.build import Build, build
from kobler.config import compile_config, load
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority
from kobler.provision import Provisioned, provision
from kobler.provision.cli import provision as command
from kobler.sim.board import Board
from kobler.sim.flash import Flash
from littlefs import LittleFS
from typer import Typer
from typer.testing import CliRunner

pytestmark = pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")  # pyserial's

SIZE = 4 << 20
IDENTITY = ("ca.der", "cert.der", "config.json", "identity", "key.der")
SITE = """
[device]
name = "test"
[network]
kind = "ethernet"
address = "dhcp"
"""


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("state") / "pki")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(boards.load("virtual"), tmp_path_factory.mktemp("build") / "build" / "virtual")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("site") / "site.toml"
    path.write_text(SITE)
    return path


@pytest.fixture(scope="module")
def config(site: Path) -> bytes:
    return compile_config(load(site))


class Unit:
    """A virtual board that runs beside the test, which blocks as `kobler provision` does."""

    def __init__(self, path: Path, built: Build) -> None:
        self.vfs = next(part for part in built.layout if part.name == "vfs")
        flash = Flash(path, SIZE)
        for offset, file in built.regions:
            flash.program(offset, file.read_bytes())
        flash.close()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.board = self.run(self._start(path))
        self.wire = bytearray()
        write, feed = self.board.usb.write, self.board.processor.write
        self.board.usb.write = lambda data: (self.wire.extend(data), write(data))[1]  # type: ignore[method-assign]
        self.board.processor.write = lambda data: (self.wire.extend(data), feed(data))[1]  # type: ignore[method-assign]

    async def _start(self, path: Path) -> Board:
        board = Board(path, flash_size=SIZE)
        await board.start()
        return board

    def run(self, task: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(task, self._loop).result(30)

    def cut_power_after(self, operations: int) -> None:
        async def arm() -> None:
            self.board.cut_power_after(operations)

        self.run(arm())

    def files(self) -> dict[str, bytes]:
        """/etc as a foreign littlefs finds it in the flash."""
        fs = self.volume()
        found = {}
        for name in fs.listdir("/etc") if "etc" in fs.listdir("/") else []:
            with fs.open("/etc/" + name, "rb") as file:
                found[name] = file.read()
        return found

    def replace_files(self, image: bytes) -> None:
        """Another file system, put there while the board has no power."""

        async def replace() -> None:
            await self.board.power_off()
            self.board.flash.power(True)
            self.board.flash.erase(self.vfs.offset, self.vfs.size)
            self.board.flash.program(self.vfs.offset, image)
            await self.board.power_on()

        self.run(replace())

    def volume(self) -> LittleFS:
        """The files in the flash as they are now; a copy of them."""
        fs = LittleFS(block_size=4096, block_count=self.vfs.size // 4096, mount=False)
        fs.context.buffer = bytearray(self.board.flash.read(self.vfs.offset, self.vfs.size))
        fs.mount()
        return fs

    def said_since(self, start: int, text: bytes) -> None:
        limit = time.monotonic() + 15
        while text not in self.wire[start:]:
            assert time.monotonic() < limit, bytes(self.wire[start:])
            time.sleep(0.05)

    def close(self) -> None:
        self.run(self.board.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def unit(path: Path, built: Build) -> Iterator[Unit]:
    it = Unit(path, built)
    try:
        yield it
    finally:
        it.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, built: Build) -> Iterator[Unit]:
    with unit(tmp_path_factory.mktemp("board") / "flash.bin", built) as it:
        yield it


def private_key(der: bytes) -> ec.EllipticCurvePrivateKey:
    # OpenSSL's DER reader takes SEC 1's ECPrivateKey as it is
    key = serialization.load_der_private_key(der, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def check_identity(files: dict[str, bytes], authority: Authority, it: Unit) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(files["cert.der"])
    certificate.verify_directly_issued_by(authority.certificate)
    assert certificate.public_key() == private_key(files["key.der"]).public_key()
    assert certificate.subject.rfc4514_string() == f"CN={it.board.mac.hex()}"
    assert files["ca.der"] == authority.ca_der
    return certificate


def test_a_fresh_unit_gets_an_identity_and_its_key_never_crosses_the_wire(
    shared: Unit, authority: Authority, config: bytes
) -> None:
    start = len(shared.wire)
    found = provision(shared.board.usb_url, authority, config)
    files = shared.files()
    assert sorted(files) == sorted(IDENTITY)
    check_identity(files, authority, shared)
    assert files["config.json"] == config
    assert found == Provisioned(
        shared.board.mac.hex(), found.fingerprint, found.not_after, json.loads(config)["rev"], found.seconds
    )
    secret = private_key(files["key.der"]).private_numbers().private_value.to_bytes(32, "big")
    wire = bytes(shared.wire[start:])
    assert files["cert.der"][:90] in base64.b64decode(base64.b64encode(files["cert.der"]))
    assert base64.b64encode(files["cert.der"][:90]) in wire  # so it is the wire that is being searched
    for form in (secret, secret.hex().encode(), str(int.from_bytes(secret, "big")).encode()):
        assert form not in wire
    for shift in range(3):
        assert base64.b64encode(bytes(shift) + secret)[4:40] not in wire
    shared.said_since(start, b"kobler: firmware")  # it was reset and runs


def test_provisioning_again_replaces_key_and_certificate_and_keeps_the_configuration(
    shared: Unit, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    before = shared.files()
    found = provision(shared.board.usb_url, authority, None)
    after = shared.files()
    assert sorted(after) == sorted(IDENTITY)
    assert after["key.der"] != before["key.der"]
    assert after["config.json"] == before["config.json"]
    assert found.rev == json.loads(config)["rev"]
    check_identity(after, authority, shared)


@pytest.mark.parametrize(
    ("broken", "words"),
    [(b"{", "configuration is not JSON"), (b'{"v":2}', "version"), (b'{"v":1}', "configuration: name")],
)
def test_a_configuration_that_the_unit_refuses_changes_nothing_and_the_unit_goes_back_to_work(
    shared: Unit, authority: Authority, config: bytes, broken: bytes, words: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    with pytest.raises(KoblerError, match=words) as caught:
        provision(shared.board.usb_url, authority, broken)
    assert "it keeps what it had" in str(caught.value)
    shared.said_since(start, b"kobler: firmware")
    after = shared.files()
    assert {name: after[name] for name in IDENTITY} == before


def at_step(words: str, action: Callable[[], None]) -> Callable[[str], None]:
    def progress(text: str) -> None:
        if words in text:
            action()

    return progress


@pytest.mark.parametrize("step", ["makes its key", "copying", "checks what it got"])
def test_a_cable_pulled_at_any_step_is_an_error_and_the_next_attempt_succeeds(
    shared: Unit, authority: Authority, config: bytes, step: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before = shared.files()
    started = time.monotonic()
    with pytest.raises(KoblerError, match="check the cable"):
        pull = at_step(step, lambda: shared.run(shared.board.usb.unplug()))
        provision(shared.board.usb_url, authority, config, pull)
    assert time.monotonic() - started < 15
    after = shared.files()
    assert {name: after[name] for name in IDENTITY} == before
    shared.run(shared.board.usb.plug())
    provision(shared.board.usb_url, authority, config)
    assert sorted(shared.files()) == sorted(IDENTITY)
    check_identity(shared.files(), authority, shared)


# The switch takes some forty flash operations; each is a place where the power may go.
@pytest.mark.parametrize(
    "cuts", [(0, 4, 12, 18), pytest.param(range(42), marks=[pytest.mark.long, pytest.mark.timeout(400)])]
)
def test_power_lost_while_the_unit_switches_leaves_one_whole_identity(
    shared: Unit, authority: Authority, config: bytes, cuts: Iterable[int]
) -> None:
    provision(shared.board.usb_url, authority, config)
    outcomes = set()
    for operations in cuts:
        before, start = shared.files(), len(shared.wire)
        cut = at_step("checks what it got", lambda n=operations: shared.cut_power_after(n))
        try:
            provision(shared.board.usb_url, authority, config, cut)
        except KoblerError:
            shared.run(shared.board.power_on())
        else:
            assert operations > 20  # the last ones of the table may fall behind the end of the switch
            shared.cut_power_after(1 << 30)
        shared.said_since(start, b"kobler: firmware")
        after = shared.files()
        check_identity(after, authority, shared)
        assert not {"key.new", "cert.new", "ca.new", "config.new", "commit"} & set(after)
        assert after["config.json"] == config
        outcomes.add("old" if after["key.der"] == before["key.der"] else "new")
    assert outcomes == {"old", "new"}


def test_the_identity_comes_back_after_the_file_system_was_made_anew(
    shared: Unit, built: Build, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    fresh = next(file for offset, file in built.regions if offset == shared.vfs.offset)
    shared.replace_files(fresh.read_bytes())
    shared.said_since(start, b"kobler: identity restored")
    shared.said_since(start, b"kobler: firmware")
    after = shared.files()
    assert {**after, "config.json": config} == before
    check_identity(after, authority, shared)
    start = len(shared.wire)
    shared.run(shared.board.power_off())
    shared.run(shared.board.power_on())
    shared.said_since(start, b"kobler: firmware")
    assert b"restored" not in shared.wire[start:], "once is enough"


@pytest.mark.parametrize("name", ["key.der", "cert.der", "ca.der"])
def test_a_file_of_the_identity_that_flipped_comes_back(
    shared: Unit, authority: Authority, config: bytes, name: str
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    fs = shared.volume()
    data = bytearray(before[name])
    data[len(data) // 2] ^= 0x10
    with fs.open("/etc/" + name, "wb") as file:
        file.write(data)
    shared.replace_files(bytes(fs.context.buffer))
    shared.said_since(start, b"kobler: identity restored")
    shared.said_since(start, b"kobler: firmware")
    assert shared.files() == before
    secret = private_key(before["key.der"]).private_numbers().private_value.to_bytes(32, "big")
    assert secret not in shared.wire[start:] and secret.hex().encode() not in shared.wire[start:]


def test_a_new_identity_replaces_the_old_one_in_both_places(
    shared: Unit, built: Build, authority: Authority, config: bytes
) -> None:
    provision(shared.board.usb_url, authority, config)
    old = shared.files()
    provision(shared.board.usb_url, authority, config)
    new, start = shared.files(), len(shared.wire)
    assert new["key.der"] != old["key.der"]
    fresh = next(file for offset, file in built.regions if offset == shared.vfs.offset)
    shared.replace_files(fresh.read_bytes())
    shared.said_since(start, b"kobler: firmware")
    assert shared.files()["key.der"] == new["key.der"]


def test_a_port_in_use_by_another_program(shared: Unit, authority: Authority) -> None:
    import serial

    port = serial.serial_for_url(shared.board.usb_url)
    try:
        with pytest.raises(KoblerError, match="is busy"):
            provision(shared.board.usb_url, authority, None)
    finally:
        port.close()


def test_history_that_the_units_flash_cannot_hold_is_refused_before_it_makes_a_key(
    shared: Unit, authority: Authority, config: bytes, tmp_path: Path
) -> None:
    provision(shared.board.usb_url, authority, config)
    before, start = shared.files(), len(shared.wire)
    bus = '[[bus]]\nname = "b"\nkind = "tcp"\nhost = "plc"\n[[bus.unit]]\nid = 1\nname = "u"\n'
    point = '[[bus.unit.point]]\nname = "p%d"\ntable = "holding"\naddress = %d\ntype = "u16"\nhistory = true\n'
    site = tmp_path / "site.toml"
    site.write_text(SITE + bus + "".join(point % (i, i) for i in range(60)))
    app = Typer()
    app.command()(command)
    arguments = ["--port", shared.board.usb_url, "--config", str(site), "--state", str(tmp_path)]
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, UsageError)
    assert "history.hours: 60 points with history take 161 KB over 168 hours, the unit has" in str(done.exception)
    assert "makes its key" not in done.stderr
    shared.said_since(start, b"kobler: firmware")
    assert shared.files() == before
    site.write_text(SITE + '[history]\ninstant = "30h"\n' + bus + "".join(point % (i, i) for i in range(30)))
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert re.search(r"warning: \S+ history\.instant: if every reading were a sample, the unit would keep", done.stderr)


def test_the_command_prints_one_event(shared: Unit, site: Path, tmp_path: Path) -> None:
    app = Typer()
    app.command()(command)
    arguments = ["--port", shared.board.usb_url, "--config", str(site), "--state", str(tmp_path), "--json"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    event = json.loads(done.stdout)
    assert event["event"] == "provisioned"
    assert event["id"] == shared.board.mac.hex()
    assert "signing its certificate" in done.stderr
