"""The unit's own doctor, on the real MicroPython and on CPython: each failure is named, with a remedy that fits."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from azure_hub import Azure
from cryptography.hazmat.primitives import serialization
from kobler.cloud.background import Background
from kobler.cloud.ntp import NtpServer
from kobler.config.firewall import Needs, table_of
from kobler.doctor.finding import Finding
from kobler.doctor.unit import _event
from uplink_peers import CONNACK, Peer, Server, says, silence, then, ws
from uplink_world import INTERPRETERS, UNIT_ID, Ca, Loop

HERE = Path(__file__).parent
FIRMWARE = HERE.parents[1] / "firmware"
ALL = ["configuration", "network", "time", "identity", "dns", "tcp", "tls", "websocket", "mqtt"]
PROXY = says(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n")


class Dns:
    """A DNS server on loopback: every name has `addresses`, or there is none such."""

    def __init__(self, *addresses: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.place = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._addresses = addresses
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                data, peer = self._socket.recvfrom(512)
            except OSError:
                return
            count, code = len(self._addresses), 0 if self._addresses else 3
            answer = data[:2] + bytes((0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0)) + data[12:]
            for address in self._addresses:
                answer += b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(address)
            self._socket.sendto(answer, peer)

    def __enter__(self) -> Dns:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


@contextmanager
def mute() -> Iterator[str]:
    """A place where nobody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{found.getsockname()[1]}"


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def clock() -> Iterator[str]:
    server = NtpServer()
    with Background(server):
        yield server.address


@pytest.fixture(params=INTERPRETERS)
def unit(request: pytest.FixtureRequest, ca: Ca, clock: str, tmp_path: Path) -> Unit:
    return Unit(request.param, ca, clock, tmp_path)


@pytest.fixture
def chip(ca: Ca, clock: str, tmp_path: Path) -> Unit:
    """On MicroPython only, for what takes seconds."""
    return Unit("micropython", ca, clock, tmp_path)


class Unit:
    """A unit's files in a folder; examine() runs its doctor."""

    def __init__(self, interpreter: str, ca: Ca, clock: str, root: Path) -> None:
        beside = Path(sys.executable).with_name("micropython")
        self._command = [str(beside)] if interpreter == "micropython" else [sys.executable, "-u"]
        self.root, self.version = root, 1
        self.etc = ca.unit(root / "etc")
        self.cloud: dict[str, Any] = {"enabled": True, "scheme": "wss", "host": "localhost", "port": 1, "path": "/mqtt"}
        self.cloud |= {"dialect": "plain", "ack": "broker"}
        self.net: dict[str, Any] = {"kind": "ethernet", "address": "dhcp", "ntp": [clock]}
        self.settings: dict[str, Any] = {"id": UNIT_ID, "root": str(root), "dns": []}
        self.needs: Needs | None = None
        self.configure()

    def configure(self) -> None:
        whole = {"v": self.version, "rev": "abc", "name": "test", "net": self.net, "cloud": self.cloud, "bus": []}
        (self.etc / "config.json").write_text(json.dumps(whole))

    def examine(self) -> dict[str, list[Finding]]:
        """The findings by check, as the host understands the unit's lines."""
        if (self.etc / "config.json").exists():
            self.configure()
        settings = self.root / "settings.json"
        settings.write_text(json.dumps(self.settings))
        command = [*self._command, str(HERE / "doctor_unit.py"), str(FIRMWARE), str(settings)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and not done.stderr, done.stdout + done.stderr
        found: dict[str, list[Finding]] = {}
        for line in done.stdout.splitlines():
            event = _event(json.loads(line))
            if isinstance(event, Finding):
                found.setdefault(event.check, []).append(event)
            elif isinstance(event, Needs):
                self.needs = event
        return found

    def at(self, peer: Peer, loop: Loop, ca: Ca | None, name: str = "localhost") -> dict[str, list[Finding]]:
        """With this peer as the broker."""
        server = Server(loop, peer, ca, name)
        try:
            self.cloud["port"] = server.port
            return self.examine()
        finally:
            server.close()


def fails(found: dict[str, list[Finding]], check: str, detail: str, remedy: str) -> None:
    """It is the first to fail of the way to the broker; what needs it is not tried."""
    assert list(found) == ALL
    at = ALL.index(check)
    for name in ALL[:at]:
        assert all(one.ok for one in found[name]), found
    (one,) = found[check]
    assert one.ok is False and detail in one.detail and remedy in one.remedy, one
    for name in ALL[at + 1 :]:
        assert all(one.ok is None and one.detail.startswith("not tried") for one in found[name]), found


def test_all_is_well(unit: Unit, loop: Loop, ca: Ca) -> None:
    packets: list[bytes] = []

    async def broker(reader: Any, writer: Any) -> None:
        from uplink_peers import frame, upgrade

        await upgrade(reader, writer)
        packets.append((await frame(reader))[1])
        writer.write(ws(CONNACK))
        packets.append((await frame(reader))[1])

    found = unit.at(broker, loop, ca)
    assert list(found) == ALL and all(one.ok and not one.remedy for rows in found.values() for one in rows), found
    connect, goodbye = packets
    assert connect[9] == 2, "a clean session without a will"
    assert connect.endswith(f"{UNIT_ID}-doctor".encode()), "not the id of the unit's own session"
    assert goodbye == b"\xe0\0"
    assert unit.needs and [rule.port for rule in table_of(unit.needs)][:1] == [unit.cloud["port"]]


def test_each_dns_server_is_asked_and_named(chip: Unit) -> None:
    chip.cloud |= {"host": "broker.example", "port": closed_port()}
    with mute() as silent, Dns("127.0.0.1", "127.0.0.2") as good, Dns() as other:
        chip.settings["dns"] = [silent, good.place, other.place]
        found = chip.examine()
    first, second, third = found["dns"]
    assert not first.ok and silent in first.detail and "no answer" in first.detail and "UDP port 53" in first.remedy
    assert second.ok and f"{good.place} says: broker.example is 127.0.0.1, 127.0.0.2" in second.detail
    assert not third.ok and "no such name" in third.detail
    (tcp,) = found["tcp"]
    assert tcp.ok is False and "127.0.0.1:" in tcp.detail and "127.0.0.2:" in tcp.detail
    assert f"let TCP port {chip.cloud['port']} out to broker.example" in tcp.remedy


def test_a_name_that_nobody_knows(unit: Unit) -> None:
    unit.cloud["host"] = "broker.example"
    with Dns() as server:
        unit.settings["dns"] = [server.place]
        fails(unit.examine(), "dns", f"broker.example: {server.place} said: no such name", "check the name")


def test_a_network_without_a_dns_server(unit: Unit) -> None:
    unit.cloud["host"] = "broker.example"
    fails(unit.examine(), "dns", "no DNS server", "[network] dns")


def test_a_port_where_nobody_listens(unit: Unit) -> None:
    unit.cloud["port"] = closed_port()
    fails(unit.examine(), "tcp", "ECONNREFUSED", "out to localhost")


PEERS: list[tuple[str, Peer, str, str, str]] = [
    ("a proxy that wants a password", PROXY, "websocket", "HTTP 407", "without the proxy"),
    ("a web server", says(b"HTTP/1.1 200 OK\r\n\r\n"), "websocket", "HTTP 200", "check the URL's path"),
    ("a broker that refuses", then(ws(b"\x20\x02\0\x05")), "mqtt", "not authorised", "whether this unit's certificate"),
    ("a broker that hangs up", then(ws(b"\x03\xf0go away", 8)), "mqtt", "go away", "why it hangs up"),
]


@pytest.mark.parametrize(("peer", "check", "detail", "remedy"), [c[1:] for c in PEERS], ids=[c[0] for c in PEERS])
def test_behind_tls(unit: Unit, loop: Loop, ca: Ca, peer: Peer, check: str, detail: str, remedy: str) -> None:
    fails(unit.at(peer, loop, ca), check, detail, remedy)


def test_an_authority_that_the_unit_does_not_trust(unit: Unit, loop: Loop, tmp_path: Path) -> None:
    other = Ca(tmp_path / "other", "Other CA")
    fails(unit.at(silence, loop, other), "tls", "localhost", "the authority it was provisioned with")


def test_a_certificate_for_another_name(unit: Unit, loop: Loop, ca: Ca) -> None:
    fails(unit.at(silence, loop, ca, "elsewhere.example"), "tls", "another name", "use the name that is in")


def test_a_broker_that_does_not_know_the_units_authority(unit: Unit, loop: Loop, ca: Ca, tmp_path: Path) -> None:
    Ca(tmp_path / "other", "Other CA").unit(unit.etc, trusting=ca)
    fails(unit.at(silence, loop, ca), "tls", "refused", "does not take this unit's certificate")


def test_a_port_that_speaks_no_tls(unit: Unit, loop: Loop) -> None:
    fails(unit.at(says(b"SSH-2.0-OpenSSH_9.2\r\n" * 20), loop, None), "tls", "localhost", "there is no TLS at port")


def test_a_silent_time_server_and_a_clock_that_is_not_set(chip: Unit, loop: Loop, ca: Ca) -> None:
    with mute() as silent:
        chip.net["ntp"] = [silent]
        chip.settings["no_clock"] = True
        found = chip.at(silence, loop, ca)
    (time_,) = found["time"]
    assert time_.ok is False and silent in time_.detail
    assert f"let UDP port {silent.partition(':')[2]} out to 127.0.0.1" in time_.remedy
    assert all(one.ok for name in ("identity", "dns", "tcp") for one in found[name])
    assert [found[name][0].detail for name in ALL[6:]] == [
        "not tried: without the time no certificate can be judged"
    ] * 3


def test_a_time_server_that_is_silent_beside_one_that_is_not(chip: Unit, loop: Loop, ca: Ca, clock: str) -> None:
    with mute() as silent:
        chip.net["ntp"] = [silent, clock]
        chip.settings["no_clock"] = True
        found = chip.at(then(ws(CONNACK)), loop, ca)
    assert [one.ok for one in found["time"]] == [False, True]
    assert "this unit's clock was not set" in found["time"][1].detail
    assert found["mqtt"][0].ok


def test_a_unit_without_a_configuration(unit: Unit) -> None:
    (unit.etc / "config.json").unlink()
    fails(unit.examine(), "configuration", "has no configuration", "--config FILE")
    assert unit.needs is None


def test_a_configuration_that_the_firmware_cannot_run(unit: Unit) -> None:
    unit.version = 2
    fails(unit.examine(), "configuration", "version 1", "kobler config check")


def test_a_unit_without_an_identity_still_tries_name_and_tcp(unit: Unit, loop: Loop, ca: Ca) -> None:
    (unit.etc / "key.der").unlink()
    found = unit.at(silence, loop, ca)
    (identity,) = found["identity"]
    assert identity.ok is False and "key is missing" in identity.detail and "kobler provision" in identity.remedy
    assert found["dns"][0].ok and found["tcp"][0].ok
    assert [found[name][0].detail for name in ALL[6:]] == ["not tried: the unit has no good certificate"] * 3


def test_a_certificate_of_another_unit(unit: Unit, loop: Loop, ca: Ca) -> None:
    ca.unit(unit.etc, name="0123456789ab")
    found = unit.at(silence, loop, ca)
    assert found["identity"][0].ok is False and "is for 0123456789ab" in found["identity"][0].detail


def test_the_cloud_is_off_and_nothing_is_connected(unit: Unit, loop: Loop, ca: Ca) -> None:
    unit.cloud["enabled"] = False
    server = Server(loop, silence, ca)
    try:
        unit.cloud["port"] = server.port
        found = unit.examine()
        assert server.connections == 0
    finally:
        server.close()
    assert list(found) == ["configuration", "network", "cloud"]
    (cloud,) = found["cloud"]
    assert cloud.ok is None and "off" in cloud.detail and "enabled = true" in cloud.remedy
    assert unit.needs and table_of(unit.needs) == []


def test_no_address(unit: Unit) -> None:
    unit.settings["up"] = False
    found = unit.examine()
    assert found["network"][0].ok is False and "cable" in found["network"][0].remedy
    assert found["identity"][0].ok
    assert all(found[name][0].ok is None for name in ("time", *ALL[4:]))


def test_what_the_unit_shows_with_its_certificate_is_said(unit: Unit, ca: Ca) -> None:
    unit.settings["up"] = False
    (before,) = unit.examine()["identity"]
    own, above = (unit.etc / "cert.der").read_bytes(), ca.certificate.public_bytes(serialization.Encoding.DER)
    (unit.etc / "cert.der").write_bytes(own + above)
    (after,) = unit.examine()["identity"]
    assert after.ok and after.detail == before.detail + ", with 1 of the authorities above it"


def test_an_interface_that_stands_in_for_a_preferred_one(unit: Unit, loop: Loop, ca: Ca) -> None:
    unit.net["fallback"] = [{"kind": "wifi", "address": "dhcp", "ssid": "site", "after": 3600000}]
    unit.settings["kind"] = "wifi"
    found = unit.at(then(ws(CONNACK)), loop, ca)
    first, second = found["network"]
    assert first.ok is False and "ethernet: no address" in first.detail and "cable" in first.remedy
    assert second.ok and second.detail.startswith("wifi: 127.0.0.1") and found["mqtt"][0].ok


def test_every_broker_of_the_configuration_is_tried(unit: Unit, loop: Loop, ca: Ca) -> None:
    unit.cloud["more"] = [{"scheme": "mqtts", "host": "127.0.0.1", "port": closed_port(), "path": ""}]
    found = unit.at(then(ws(CONNACK)), loop, ca)
    assert [one.ok for one in found["tcp"]] == [True, False]
    assert [one.ok for one in found["websocket"]] == [True], "the other one has none"
    assert [one.ok for one in found["mqtt"]] == [True, None]
    assert unit.needs and [rule.port for rule in table_of(unit.needs)[:2]] == [
        unit.cloud["port"], unit.cloud["more"][0]["port"]
    ]  # fmt: skip


def test_a_broker_that_says_nothing_ends_the_examination(unit: Unit, loop: Loop, ca: Ca) -> None:
    fails(unit.at(then(b""), loop, ca), "mqtt", "no answer", "says nothing")


def test_a_hub_that_the_provisioning_service_assigns(unit: Unit, loop: Loop, ca: Ca) -> None:
    azure = Azure(loop, ca, ("hub-1.localhost",), "dps.localhost", "0ne00ABCDEF")
    azure.dps.enrolments[UNIT_ID], azure.dps.polls, azure.dps.retry_after = "hub-1.localhost", 0, 0
    try:
        unit.cloud |= {"host": "dps.localhost", "port": azure.ports["wss"], "dialect": "azure", "scope": "0ne00ABCDEF"}
        found = unit.examine()
        assert [name for name in found if name not in ALL[:4]] == [
            "dns",
            "tcp",
            "registration",
            "tls",
            "websocket",
            "mqtt",
        ]
        assert [one for rows in found.values() for one in rows if not one.ok] == []
        assert found["registration"][0].detail == "the unit's hub is hub-1.localhost"
        assert len(found["dns"]) == len(found["tcp"]) == 2
        azure.assert_no_complaints()
        assert unit.needs
        assert [rule.domain for rule in table_of(unit.needs)[:3]] == [
            "dps.localhost", "hub-1.localhost", "*.blob.core.windows.net"
        ]  # fmt: skip
        unit.cloud["scope"] = "another"
        (one,) = unit.examine()["registration"]
        assert one.ok is False and "scope" in one.remedy
    finally:
        azure.close()
