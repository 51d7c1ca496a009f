"""What can be wrong with a port, a cable and a board; provisioning itself is tested on the virtual board."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import re
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import shown
from board_at_port import invoke
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from kobler import serial_ports
from kobler.errors import KoblerError, UsageError
from kobler.pki import Authority
from kobler.provision import console, external, lock, provision, steps, unit
from kobler.provision.cli import only_port
from kobler.provision.lock_cli import unlock
from local_unit import LocalConsole
from other_authority import OtherAuthority, pem
from typer import Typer
from typer.testing import CliRunner

MICROPYTHON = Path(os.environ.get("KOBLER_MICROPYTHON") or Path(sys.executable).with_name("micropython"))

UNIT = "246f28aabbcc"


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


class Says(console.Console):
    """A board whose answers are these, in turn."""

    def __init__(self, *answers: str) -> None:
        self.port = "/dev/ttyX"
        self._answers = list(answers)

    def run(self, code: str, step: str, seconds: float = 20.0) -> str:
        return "" if console.MARK not in code else f"{console.MARK}{self._answers.pop(0)}\n"


@pytest.mark.parametrize("said", ["5", "[]", "{}", "null", '"x"', "[" * 100_000, "{"])
def test_an_answer_that_is_none_is_one_line(said: str) -> None:
    with pytest.raises(KoblerError, match="answered nonsense while asking"):
        Says(said).ask("1", "asking")
    with pytest.raises(KoblerError, match="/dev/ttyX"):
        unit.Unit(Says('{"answer": ' + said + "}"))


@pytest.mark.parametrize("said", ["store", "cafe", "CAFE0001", "a" * 33, "cafe0001\n", "../cafe0001", 7, None])
def test_a_board_does_not_choose_its_name(said: object) -> None:
    answers = ('{"answer": [1, 24]}', json.dumps({"answer": said}))
    with pytest.raises(KoblerError, match=re.escape(f"/dev/ttyX says that its id is {said!r}, which no unit has")):
        unit.Unit(Says(*answers))


def test_what_a_unit_says_is_no_command_to_the_terminal() -> None:
    evil = json.dumps({"error": "OSError\x1b[2J", "text": "\x1b]0;x\x07\r\u202e" + "x" * 5000})
    with pytest.raises(console.Refused) as caught:
        Says(evil).ask("1", "asking")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1000
    assert caught.value.kind == "OSError?[2J" and caught.value.text.startswith("?]0;x???x")
    one = unit.Unit(Says('{"answer": [1, 24]}', '{"answer": "cafe0001"}', '{"answer": {"fingerprint": "\\u001b[2J"}}'))
    assert one.fingerprint() == "?[2J"


class Locked:
    """The console of a locked unit that refuses every token."""

    def __init__(self, port: str) -> None:
        self.port, self.heard = port, b""
        everyone.append(self)

    def send(self, data: bytes) -> None:
        self.heard += data

    def find(self, pattern: bytes, _seconds: float) -> Any:
        last = self.heard.split(b"\r")[-2]
        said = b"kobler: go on\r\n" if last.endswith(b"\\") else b"kobler: refused: un\x1b[2Jlucky\r\n"
        return re.search(pattern, said if last else b"kobler: the console of cafe0001 is locked: x")

    def close(self) -> None:
        pass


everyone: list[Locked] = []


@pytest.mark.parametrize("wanted", [None, "CAFE0001", "cafe0002"])
def test_unlock_says_for_which_unit_it_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str | None
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "owner.pem"
    form, kind = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(form, kind, serialization.NoEncryption()))
    monkeypatch.setattr(lock, "Console", Locked)
    app = Typer()
    app.command()(unlock)
    done = CliRunner().invoke(app, ["--port", "/dev/ttyX", "--key", str(path), *(["--id", wanted] if wanted else [])])
    heard = everyone.pop().heard
    assert isinstance(done.exception, KoblerError)
    if wanted == "cafe0002":
        assert str(done.exception) == "the unit at /dev/ttyX says that it is cafe0001, not cafe0002: it got no token"
        assert b"unlock" not in heard and not done.stderr
        return
    assert str(done.exception) == "the unit at /dev/ttyX refused the token: un?[2Jlucky"
    assert "signing a token for unit cafe0001" in done.stderr
    token = b"".join(line[7:].rstrip(b"\\") for line in heard.split(b"\r") if line.startswith(b"unlock "))
    claims = json.loads(base64.urlsafe_b64decode(token.split(b".")[1] + b"=="))
    assert claims["aud"] == "urn:dev:kobler:cafe0001:console" and claims["exp"] - claims["iat"] <= 120


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--csr-out", "unit.csr"], "it would make a key that waits for its certificate and keep its configuration"),
        (["--est", "unit"], "it would get what it needs for that and keep its configuration"),
        ([], "it would get a new key and certificate and keep its configuration"),
    ],
)
def test_a_dry_run_says_what_the_command_would_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "roots.pem").write_bytes(OtherAuthority().chain[0].public_bytes(serialization.Encoding.PEM))
    est = ["--est-roots", "roots.pem"] if "--est" in options else []
    board = LocalConsole(tmp_path / "unit", UNIT)
    monkeypatch.setattr(steps, "Console", lambda _: nullcontext(board))
    done = invoke("--port", "/dev/ttyX", *options, *est, "--dry-run")
    assert done.exit_code == 0, done.output
    assert f"unit {UNIT}: it has no certificate; {words}" in done.stderr
    assert not (tmp_path / "unit.csr").exists() and board.hal.read_file("/etc/key.csr") is None


@pytest.mark.parametrize("locks", [False, True])
def test_clocks_that_differ_are_told_before_anything_is_done(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locks: bool
) -> None:
    board, said = LocalConsole(tmp_path / "unit", UNIT), []
    monkeypatch.setattr(steps, "Console", lambda _: nullcontext(board))
    for ms, told in ((11 * 60_000, True), (9 * 60_000, False)):
        board.hal._correction = ms
        said.clear()
        try:
            provision("/dev/ttyX", authority, None, said.append, lock=steps.Lock(None) if locks else None)
            assert not (told and locks)
        except KoblerError as error:
            assert told and locks and "take the unit's power away for a moment" in str(error)
            assert board.hal.read_file("/etc/identity") is None
        assert any(line.startswith("warning: this computer's clock") for line in said) == (told and not locks)


def test_without_a_port_the_only_one_is_taken_and_several_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, words in ((["/dev/one"], ""), (["/dev/one", "/dev/two"], "/dev/one, /dev/two"), ([], "plug")):
        monkeypatch.setattr(serial_ports, "ports", lambda found=found: found)
        if words:
            with pytest.raises(UsageError, match=words):
                only_port()
        else:
            assert only_port() == "/dev/one"


LATE, EARLY = (-40, -10), (3, 30)
STRANGER = ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda ca, csr: pem(ca.sign(csr, key=STRANGER), *ca.chain), "none of these certificates is for the key"),
        (lambda ca, csr: pem(ca.sign(csr, name="246f28ffffff"), *ca.chain), "is for '246f28ffffff'"),
        (lambda ca, csr: pem(ca.sign(csr, days=LATE), *ca.chain), "expired at"),
        (lambda ca, csr: pem(ca.sign(csr, days=EARLY), *ca.chain), "is not valid before"),
        (lambda ca, csr: pem(ca.sign(csr, server=True), *ca.chain), "not for TLS clients"),
        (lambda ca, csr: pem(ca.sign(csr)), "'CN=Other 1' is missing: name its file with --ca-in"),
        (lambda ca, csr: pem(ca.sign(csr), ca.chain[1]), "'CN=Other 0' is missing"),
        (
            lambda ca, csr: pem(ca.sign(csr), *OtherAuthority().chain),
            "another key than that of the authority 'CN=Other 1' here",
        ),
        (
            lambda ca, csr: pem(ca.sign(csr), ca.chain[1], OtherAuthority().chain[0]),
            "another key than that of the authority 'CN=Other 0'",
        ),
        (lambda ca, csr: pem(ca.sign(csr))[:200], "has no certificate, neither in PEM nor in DER"),
        (lambda ca, csr: b"", "has no certificate"),
    ],
    ids=["key", "name", "expired", "not yet", "server", "alone", "no root", "fake", "fake root", "cut", "empty"],
)
def test_an_answer_of_an_authority_that_the_unit_must_not_take(tmp_path: Path, content: Any, words: str) -> None:
    request, answer_file, key = tmp_path / "unit.csr", tmp_path / "answer", ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    request.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    answer_file.write_bytes(content(OtherAuthority(), request))
    with pytest.raises(KoblerError, match=re.escape(words)):
        external.answer(external.read_certificates(answer_file), key.public_key(), UNIT)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"curve": ec.SECP384R1()}, "'Other 1' has a key on secp384r1; units know P-256, and RSA"),
        ({"digest": hashes.SHA384()}, "is signed with ecdsa-with-SHA384 .*, not with ECDSA or RSA"),
    ],
)
def test_an_authority_whose_signatures_the_unit_cannot_check_is_named(
    tmp_path: Path, options: dict[str, Any], words: str
) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), OtherAuthority(**options)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (tmp_path / "csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    with pytest.raises(KoblerError, match=words):
        external.answer([other.sign(tmp_path / "csr"), *other.chain], key.public_key(), UNIT)


@pytest.mark.parametrize(
    ("lengths", "words"),
    [((0, None), "'Other 0' may not have so many authorities below it (path length 0)"), ((1, 0), ""), ((2, 1), "")],
)
def test_a_chain_that_is_longer_than_its_authorities_allow_is_refused(
    tmp_path: Path, lengths: tuple[int | None, ...], words: str
) -> None:
    key, other = ec.generate_private_key(ec.SECP256R1()), OtherAuthority(lengths=lengths)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, UNIT)])
    signed = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    (tmp_path / "csr").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    found = [other.sign(tmp_path / "csr"), *other.chain]
    if words:
        with pytest.raises(KoblerError, match=re.escape(words)):
            external.answer(found, key.public_key(), UNIT)
    else:
        assert len(external.answer(found, key.public_key(), UNIT).chain) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("06082a8648ce3d030107", "06082a8648ce3d03017f"),  # the curve of its key
        ("06072a8648ce3d0201", "06072a8648ce3d027f"),  # the kind of its key
        ("a003020102", "a003020107"),  # its version
        ("0603551d0f", "0603551d13"),  # an extension twice
        ("0c074f746865722030", "0c07ffffffffffffff"),  # its name
    ],
)
def test_a_strange_certificate_in_the_answer_is_named(tmp_path: Path, old: str, new: str) -> None:
    good = OtherAuthority().chain[0].public_bytes(serialization.Encoding.DER)
    assert bytes.fromhex(old) in good
    (tmp_path / "answer").write_bytes(good.replace(bytes.fromhex(old), bytes.fromhex(new)))
    with pytest.raises(KoblerError, match=r"certificate 1 cannot be used|has no certificate, neither"):
        external.read_certificates(tmp_path / "answer")


@pytest.mark.parametrize(
    ("lengths", "early", "words"),
    [
        ((1, 0), False, ""),
        ((0, None), False, "'Other 0' may not have so many authorities below it"),
        ((1, 0), True, "is not valid yet"),
    ],
)
def test_the_unit_itself_refuses_a_chain_that_its_broker_would_not_take(
    tmp_path: Path, lengths: tuple[int | None, ...], early: bool, words: str
) -> None:
    other, board = OtherAuthority(lengths=lengths), LocalConsole(tmp_path / "unit", UNIT)
    one = unit.Unit(board)  # type: ignore[arg-type]
    (tmp_path / "csr").write_bytes(external.request_pem(one.request()))
    certificate = other.sign(tmp_path / "csr", days=(-9, 30))
    root, middle = (found.public_bytes(serialization.Encoding.DER) for found in other.chain)
    if early:  # for the intermediate and the root
        now = time.time() - 3 * 86400
        board.hal.now_ms = lambda: int(now * 1000)
    der = certificate.public_bytes(serialization.Encoding.DER)
    try:
        one.stage({"cert": der + middle, "ca": root})
        if words:
            with pytest.raises(KoblerError, match=f"refused while switching .*{words}"):
                one.switch(der)
        else:
            found = one.switch(der)
            assert found.fingerprint == certificate.fingerprint(hashes.SHA256()).hex() and found.chain == 1
    finally:
        one.restart()


def test_a_unit_with_older_firmware_is_told_apart_before_anything_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = LocalConsole(tmp_path / "unit", UNIT)
    one = unit.Unit(board)  # type: ignore[arg-type]
    with monkeypatch.context() as patch:
        patch.delattr("coupler.trust.x509.split")
        with pytest.raises(
            KoblerError, match=f"firmware of unit {UNIT} is older than this program: run `kobler flash`"
        ):
            one.stage({"cert": b"x", "ca": b"y"})
    one.restart()


def test_what_the_unit_cannot_show_of_a_long_chain_is_said(tmp_path: Path) -> None:
    other, board = OtherAuthority(3, keys=((4096,),) * 4), LocalConsole(tmp_path / "unit", UNIT)
    one, said = unit.Unit(board), list[str]()  # type: ignore[arg-type]
    (tmp_path / "csr").write_bytes(external.request_pem(one.request()))
    certificate = other.sign(tmp_path / "csr")
    given = external.answer([certificate, *other.chain], certificate.public_key(), UNIT)
    assert len(given.chain) == 3
    try:
        steps.install(one, given, None, said.append)
    finally:
        one.restart()
    kept = shown.certificates((tmp_path / "unit" / "etc" / "cert.der").read_bytes())
    assert kept == [certificate, *other.chain[:1:-1]]
    assert "warning: the unit shows 2 of its 3 intermediates (there is room for 4000 bytes)" in said[-1]
