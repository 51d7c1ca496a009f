"""A coupler whose console is locked: it works on, and gives nobody a prompt but who has the owner's token.

The owner's key stays in the coupler's state folder until the end, where the console is opened again whatever came
between. The button and what a damaged flash does are tested on the virtual board (tests/host/test_lock_board.py).
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from kobler.provision.lock import signed
from running_coupler import Caller, Coupler

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")]

WORDS = "the console of unit"


def kobler(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-P", "-m", "kobler", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code and "Traceback" not in done.stderr, done.stdout + done.stderr
    return done.stderr


def key_file(path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return path


def becomes(coupler: Coupler, state: str, boot: int = 0) -> Any:
    """Wait until it reports this of its console, after this start."""

    def does(kind: str, said: Any) -> bool:
        return kind == "reported" and said.get("console", {}).get("state") == state and said["boot"] > boot

    return coupler.wait(does, 90)


@pytest.fixture(scope="module")
def owner(coupler: Coupler) -> Path:
    return key_file(coupler.state / "owner.pem")


@pytest.fixture
def locked(coupler: Coupler, owner: Path) -> Iterator[Coupler]:
    coupler.wait(lambda kind, _: kind == "telemetry")
    assert "is locked" in kobler("lock", "--port", coupler.usb, "--owner-key", str(owner))
    assert becomes(coupler, "locked")["console"]["refused"] == 0
    yield coupler
    if b"is locked" not in typed(coupler, b"\r", 1):
        return
    subprocess.run(
        [sys.executable, "-P", "-m", "kobler", "unlock", "--port", coupler.usb, "--key", str(owner)],
        capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def typed(coupler: Coupler, data: bytes, seconds: float) -> bytes:
    """What the unit says to this, typed over and over."""
    said = b""
    with serial.serial_for_url(coupler.usb, 115200, timeout=0.05) as port:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            port.write(data)
            said += port.read(4096)
    return said


def test_it_gives_no_prompt_works_on_and_opens_for_the_owners_token(locked: Coupler, owner: Path) -> None:
    coupler = locked
    for keys in (
        b"\x03",
        b"\x03\x03\x01",
        b"\x04\x02\r\n",
        b"\x05import machine\r\x04",
        b"\x01\x05A\x01machine.reset()\x04",
    ):
        said = typed(coupler, keys, 1)
        assert b"is locked" in said, said
        assert not any(words in said for words in (b">>>", b"raw REPL", b"KeyboardInterrupt", b"MPY:", b"rst:")), said
    coupler.wait(lambda kind, _: kind == "telemetry")
    done = subprocess.run(
        [sys.executable, "-m", "mpremote", "connect", coupler.usb, "exec", "print('in')"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode and "could not enter raw repl" in done.stderr
    for command in (["doctor"], ["provision", "--state", str(coupler.state)], ["lock"]):
        said_to_user = kobler(*command, "--port", coupler.usb, code=1).splitlines()[-1]
        assert WORDS in said_to_user and "kobler unlock" in said_to_user
    coupler.wait(lambda kind, _: kind == "telemetry")

    device = str(coupler.endpoint["device"])
    other = key_file(coupler.state / "other.pem")
    begun = asked = time.monotonic()
    for token, words in (
        (signed(other, device), "unknown key"),
        (signed(owner, "0123456789ab"), "for another unit"),
    ):
        while "try again" in (error := kobler("unlock", "--port", coupler.usb, "--token", token, code=1)):
            time.sleep(0.5)
            asked = time.monotonic()
        assert words in error
    # A token that is good is not looked at so soon after, for two seconds.
    said_to_user = kobler_unlock(coupler, owner)
    assert "try again in" in said_to_user or time.monotonic() > asked + 2, said_to_user
    while "is unlocked" not in said_to_user:
        assert time.monotonic() < begun + 60
        time.sleep(0.5)
        said_to_user = kobler_unlock(coupler, owner)
    becomes(coupler, "unlocked by a token")
    assert coupler.mpremote("exec", "print('in')").strip() == "in"
    coupler.mpremote("reset")


def kobler_unlock(coupler: Coupler, owner: Path) -> str:
    command = [sys.executable, "-P", "-m", "kobler", "unlock", "--port", coupler.usb, "--key", str(owner)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr


def test_the_cloud_may_bring_the_token_and_no_other(locked: Coupler, owner: Path) -> None:
    coupler, device = locked, str(locked.endpoint["device"])
    caller = Caller(coupler)
    try:
        assert caller.call("unlock")[0] == 400
        token = signed(owner, device)
        assert caller.call("unlock", token="a.b.c")[0] == 403
        status, answer = caller.call("unlock", token=token)
        assert status == 429 and "try again in" in answer["error"]
        time.sleep(2)
        boot = caller.call("diagnose")[1]["boot"]
        assert caller.call("unlock", token=signed(owner, device)) == (200, {})
        becomes(coupler, "unlocked by a token", boot)  # it may say so before it restarts
        assert caller.call("unlock", token=signed(owner, device))[0] == 409
    finally:
        caller.close()


def test_a_flood_of_ctrl_c_at_every_moment_of_a_start_opens_nothing(locked: Coupler) -> None:
    coupler = locked
    caller = Caller(coupler)
    try:
        assert caller.call("restart")[0] == 200
    finally:
        caller.close()
    said = typed(coupler, b"\x03" * 64, 6)
    assert b"kobler: firmware" in said, "it did not restart"
    assert not any(words in said for words in (b">>>", b"raw REPL", b"KeyboardInterrupt", b"MPY:")), said
    coupler.wait(lambda kind, _: kind == "telemetry", 60)
