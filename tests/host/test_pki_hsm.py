"""Keys in a PKCS#11 token, SoftHSM2's: made there, used there, never to be had."""

from __future__ import annotations

import gc
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from kobler.errors import KoblerError
from kobler.pki import Authority
from kobler.pki.cli import app
from test_pki import UNIT, pem_of_unit, verify
from typer.testing import CliRunner

_LIBRARIES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/opt/homebrew/lib/softhsm/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
)
LIBRARY = next((path for path in _LIBRARIES if Path(path).exists()), "")
PIN, ROOT_PIN = "4711-pin-of-the-line", "0815-pin-of-the-root"

pytest.importorskip("PyKCS11", reason="PyKCS11 is not here (pip install kobler[hsm])")
pytestmark = pytest.mark.skipif(
    not LIBRARY or shutil.which("softhsm2-util") is None, reason="SoftHSM2 is not here (apt install softhsm2)"
)


@pytest.fixture(scope="module", autouse=True)
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two tokens; the library reads its settings once for the process."""
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    settings = folder / "softhsm2.conf"
    settings.write_text(f"directories.tokendir = {folder / 'tokens'}\nlog.level = ERROR\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOFTHSM2_CONF", str(settings))
        for label, pin in (("line", PIN), ("root", ROOT_PIN)):
            command = [
                "softhsm2-util",
                "--init-token",
                "--free",
                "--label",
                label,
                "--pin",
                pin,
                "--so-pin",
                "12345678",
            ]
            subprocess.run(command, check=True, capture_output=True)
        yield folder / "tokens"


@pytest.fixture(autouse=True)
def pins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBLER_PKCS11_PIN", PIN)
    monkeypatch.setenv("KOBLER_ROOT_PIN", ROOT_PIN)
    gc.collect()  # a session of the test before would still be logged in, for the whole process


def init(tmp_path: Path, *options: str) -> Any:
    state = ["--state", str(tmp_path / "state")]
    done = CliRunner().invoke(app, ["init", "--pkcs11", LIBRARY, *options, *state])
    assert PIN not in done.output + str(done.exception) and ROOT_PIN not in done.output + str(done.exception)
    return done


def test_root_and_intermediate_in_tokens_sign_what_openssl_verifies(tmp_path: Path) -> None:
    medium = tmp_path / "medium"
    done = init(tmp_path, "--token", "line", "--root-token", "root", "--root-out", str(medium))
    assert done.exit_code == 0, done.exception
    authority = Authority.open(tmp_path / "state" / "pki")
    assert "OK" in verify(authority, pem_of_unit(authority, tmp_path))
    assert "OK" in verify(authority, authority.server().cert_pem)
    taken = authority.revoke(UNIT)
    assert [entry.status for entry in taken] == ["revoked"]
    with pytest.raises(AssertionError, match="certificate revoked"):
        verify(authority, tmp_path / "unit.pem")
    for path in (*authority.folder.iterdir(), *medium.iterdir()):
        assert path.is_dir() or b"PRIVATE" not in path.read_bytes(), path
    again = CliRunner().invoke(app, ["crl", "--root", str(medium), "--state", str(tmp_path / "state")])
    assert again.exit_code == 0, again.exception


def test_the_key_cannot_be_taken_out_of_the_token(tmp_path: Path) -> None:
    import PyKCS11

    assert init(tmp_path, "--token", "line").exit_code == 0
    key = Authority.open(tmp_path / "state" / "pki")._private()
    with pytest.raises(ValueError, match="never leaves it"):
        key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    session, handle = key._token._session, key._handle  # type: ignore[attr-defined]
    names = (PyKCS11.CKA_SENSITIVE, PyKCS11.CKA_EXTRACTABLE, PyKCS11.CKA_NEVER_EXTRACTABLE, PyKCS11.CKA_LOCAL)
    assert session.getAttributeValue(handle, names) == [True, False, True, True]
    assert session.getAttributeValue(handle, [PyKCS11.CKA_VALUE]) == [None]
    with pytest.raises(PyKCS11.PyKCS11Error):
        session.setAttributeValue(handle, [(PyKCS11.CKA_EXTRACTABLE, True)])


def test_what_needs_no_signature_needs_no_pin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert init(tmp_path, "--token", "line").exit_code == 0
    first = Authority.open(tmp_path / "state" / "pki").issue_client("watch")
    monkeypatch.delenv("KOBLER_PKCS11_PIN")
    authority = Authority.open(tmp_path / "state" / "pki")
    assert authority.issue_client("watch") == first and not authority.refresh_crl()
    with pytest.raises(KoblerError, match="set KOBLER_PKCS11_PIN"):
        authority.issue_client("another")


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        (["--token", "nobodys"], {}, "shows no token 'nobodys'; there: 'line', 'root'"),
        (["--token", "line"], {"KOBLER_PKCS11_PIN": "wrong-pin"}, "refused the PIN"),
        (["--token", "line", "--pkcs11", "/nowhere/lib.so"], {}, "cannot use the PKCS#11 library /nowhere/lib.so"),
    ],
)
def test_a_token_that_does_not_help_is_an_error_that_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], variables: dict[str, str], words: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run = CliRunner().invoke(app, ["init", "--pkcs11", LIBRARY, *options, "--state", str(tmp_path / "state")])
    assert isinstance(run.exception, KoblerError)
    text = str(run.exception).replace("'root', 'line'", "'line', 'root'")
    assert words in text and "\n" not in text and "wrong-pin" not in text + run.output
    assert not (tmp_path / "state" / "pki").exists()


def test_an_authority_that_could_not_be_finished_leaves_no_key_in_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: Path
) -> None:
    from kobler.pki import authority

    before = len(list(tokens.rglob("*.object")))

    def fails(*_: Any) -> None:
        raise KoblerError("the disk is full")

    monkeypatch.setattr(authority, "_fill", fails)
    assert isinstance(init(tmp_path, "--token", "line").exception, KoblerError)
    assert len(list(tokens.rglob("*.object"))) == before


def test_another_token_of_the_same_name_is_not_taken(tmp_path: Path) -> None:
    assert init(tmp_path, "--token", "line").exit_code == 0
    place = tmp_path / "state" / "pki" / "issuer.token"
    if os.name == "posix":
        assert place.stat().st_mode & 0o777 == 0o600
    place.write_text(json.dumps({**json.loads(place.read_text()), "serial": "0000"}))
    with pytest.raises(KoblerError, match="connect that one"):
        Authority.open(tmp_path / "state" / "pki").issue_client("viewer")


@pytest.mark.parametrize(("pin", "words"), [(PIN, b"scan the serial number"), ("wrong-pin", b"refused the PIN")])
def test_a_line_asks_for_the_pin_before_it_reads_serial_numbers_from_the_same_terminal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pin: str, words: bytes
) -> None:
    assert init(tmp_path, "--token", "line").exit_code == 0
    monkeypatch.delenv("KOBLER_PKCS11_PIN")
    command = [
        "-P",
        "-m",
        "kobler",
        "provision",
        "--scan",
        "--port",
        "/dev/ttyNONE",
        "--state",
        str(tmp_path / "state"),
    ]
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, *command])
    said, asked, limit = b"", False, time.monotonic() + 30
    try:
        while words not in said and time.monotonic() < limit:
            said += os.read(terminal, 4096)
            if not asked and b"PIN of the token 'line': " in said:
                asked = True
                assert b"scan" not in said
                os.write(terminal, pin.encode() + b"\n")
        assert asked and words in said, said
        assert pin.encode() not in said
    finally:
        if pin == PIN:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(terminal)
    assert pin == PIN or os.waitstatus_to_exitcode(status) == 1, "no second try: tokens lock themselves"
