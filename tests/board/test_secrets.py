"""No byte that a coupler says has a secret in it: not its console through starts, crashes and tracebacks, not its
messages, not the answer to any method, not what the commands at its port print.

All other modules of the HIL suite are searched too, for what they made the coupler send (running_coupler.py). How the
key is made and certified is watched byte for byte in tests/host/test_provision_board.py.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import serial
from kobler.pki import secret
from leaks import forms, leaks, private_number
from running_coupler import Caller, Coupler

pytestmark = [pytest.mark.board, pytest.mark.filterwarnings("ignore:set(Daemon|Name):DeprecationWarning")]

PASSWORD = "Kx8-plant-room-7Qz"
EST_PASSWORD = "Vn4-one-time-9Lw"
DEMO = Path(__file__).parents[2] / "host_tools" / "kobler" / "sim" / "demo.toml"
_WIFI = f'[[network.fallback]]\nkind = "wifi"\nssid = "plant"\npassword = "{PASSWORD}"\n\n[est]\nurl = "https://localhost:1"\n\n[cloud]'
CONFIG = DEMO.read_text(encoding="utf-8").replace("[cloud]", _WIFI, 1)
CALLS: list[tuple[str, dict[str, object]]] = [
    ("describe", {}),
    ("diagnose", {}),
    ("history", {"point": "field/meter/power"}),
    ("read", {"point": "field/meter/power"}),
    ("read", {"point": "/etc/key.der"}),
    ("write", {"point": "field/meter/power", "value": 1}),
    ("request", {"bus": "field", "unit": 17, "pdu": "0300000001"}),
    ("scan", {"bus": "field", "from": 1, "to": 2, "timeout": 20}),
    ("upload", {"what": "/etc/key.der", "url": "https://localhost:1/"}),
    ("read", {"point": "/etc/bootstrap"}),
    ("renew", {}),
    ("upload", {"url": "https://localhost:1/"}),
    ("unlock", {"token": "a.b.c"}),
    ("identify", {}),
    ("cloud", {"enabled": True}),
    ("nonesuch", {}),
]
# Typed at the prompt: what goes wrong with the key in hand.
CRASHES = (
    "from coupler import hal;h=hal.get()",
    "from coupler.trust import csr,enrol,p256,switch,vault,x509",
    "csr.read_key(h.read_file(switch.KEY)+b'x')",
    "csr.read_key(h.read_file(switch.KEY)[:-3])",
    "x509.Certificate(h.read_file(switch.KEY))",
    "p256.sign(csr.read_key(h.read_file(switch.KEY)),b'')",
    "p256.point(h.read_file(switch.KEY))",
    "enrol.stage(h,'key',h.read_file(switch.KEY),'')",
    "enrol.status(h)",
    "enrol.commit(h)",
    "import tls;c=tls.SSLContext(tls.PROTOCOL_TLS_CLIENT)",
    "c.load_cert_chain(h.read_file(switch.KEY),h.read_file(switch.KEY))",
    "c.load_cert_chain(h.read_file(switch.CERT),h.read_file(switch.KEY)[:60])",
    "h.board['nonesuch']",
    "x509.Certificate(h.read_file(switch.BOOTSTRAP))",
    "enrol.stage(h,'bootstrap',h.read_file(switch.BOOTSTRAP)[1:],'')",
    "from coupler.trust import anchors;anchors.read(h.read_file(switch.BOOTSTRAP))",
    "from coupler import compose;compose.check(h,h.read_file(switch.CONFIG)+b'}')",
)


class Wire:
    """All that comes out of a serial port while it is open."""

    def __init__(self, port: str) -> None:
        self.said = bytearray()
        self._port = serial.serial_for_url(port, 115200, timeout=0.05)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(serial.SerialException):
                self.said += self._port.read(4096)

    def type(self, data: bytes, then: bytes, seconds: float = 20) -> None:
        start, until = len(self.said), time.monotonic() + seconds
        self._port.write(data)
        while then not in self.said[start:]:
            assert time.monotonic() < until, bytes(self.said[start:])
            time.sleep(0.02)

    def close(self) -> None:
        self._ending.set()
        self._thread.join(5)
        self._port.close()


def key_of(coupler: Coupler) -> bytes:
    text = coupler.mpremote(
        "exec", "import binascii;print(binascii.hexlify(open('/etc/key.der','rb').read()).decode())"
    )
    coupler.mpremote("reset")
    return private_number(bytes.fromhex(text.strip()))


def said_by(coupler: Coupler, *command: str) -> bytes:
    shell = [sys.executable, "-P", "-m", "kobler", *command, "--port", coupler.usb]
    environment = {**os.environ, secret.EST: "line-7:" + EST_PASSWORD}
    done = subprocess.run(shell, capture_output=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr


def provisioned(coupler: Coupler, *options: str) -> bytes:
    """What `kobler provision` says; the coupler keeps its configuration."""
    return said_by(coupler, "provision", "--json", "--state", str(coupler.state), *options)


def test_the_search_finds_a_planted_key_in_every_form() -> None:
    secret = bytes(range(7, 255, 8)) + b"\x9c"
    assert len(secret) == 32
    around = b"\x01log: {" + bytes(40), b'"}\r\n'
    for name, form in forms(secret).items():
        assert leaks(secret, [around[0] + form + around[1]]), name
    assert leaks(secret, [base64.encodebytes(b"x" * 50 + secret + b"y" * 50)]), "broken into lines"
    assert leaks(secret, [str(int.from_bytes(secret, "big")).encode()])
    assert not leaks(secret, [os.urandom(1 << 16), b"", secret[:7]])


def test_nothing_that_a_coupler_says_has_its_key_or_password_in_it(coupler: Coupler) -> None:
    heard = [provisioned(coupler, "--est", "unit", "--est-roots", str(coupler.state / "pki" / "ca.pem"))]
    key = key_of(coupler)
    coupler.wait(lambda kind, _: kind == "telemetry", 90)
    wire, caller = Wire(coupler.usb), Caller(coupler)
    try:
        for method, arguments in CALLS:
            heard.append(json.dumps(caller.call(method, **arguments)).encode())
        heard.append(json.dumps(caller.call("restart")).encode())
        wire.type(b"", b"kobler: no new certificate:", 60)  # the EST secret is in use
        coupler.wait(lambda kind, _: kind == "telemetry", 90)
        wire.type(b"\x03", b">>> ")
        for line in CRASHES:
            wire.type(line.encode() + b"\r", b">>> ")
        wire.type(b"import machine;machine.reset()\r", b"kobler: firmware", 60)
    finally:
        caller.close()
        wire.close()
    console = bytes(wire.said)
    # The observer was there: it saw the starts, and errors of every kind.
    assert console.count(b"kobler: firmware") >= 2
    assert console.count(b"Traceback") >= 12, console[-4000:]
    coupler.wait(lambda kind, _: kind == "telemetry", 90)

    heard += [said_by(coupler, "doctor", "--json"), provisioned(coupler)]
    after = key_of(coupler)
    assert after != key
    kinds = {topic.split("/")[2] for topic, _ in coupler.heard}
    assert {"telemetry", "presence", "reported", "result"} <= kinds
    heard += [console, coupler.log().encode(), *(payload for _, payload in coupler.heard)]
    words = {"Wi-Fi password": PASSWORD.encode(), "EST password": EST_PASSWORD.encode()}
    for name, hidden in {"old key": key, "new key": after, **words}.items():
        assert leaks(hidden, heard) == [], name
