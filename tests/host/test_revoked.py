"""revoked: a certificate that was taken back opens no broker, and ends the connection that it had opened."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from brokers import DEPLOY, Mosquitto, Nats, started, unit_files
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.errors import KoblerError
from kobler.pki import Authority, revocation
from kobler.pki.authority import create
from kobler.pki.root import Root
from mqtt_peer import Peer, observer
from mqtt_peer import unit as as_peer
from uplink_world import INTERPRETERS, UNIT_ID, unit
from websockets.exceptions import InvalidStatus

OTHER = "0000000000aa"
both = pytest.mark.parametrize("interpreter", INTERPRETERS)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_create(tmp_path / "pki")


@pytest.fixture
def broker(authority: Authority) -> Iterator[Broker]:
    one = Broker(authority)
    with Background(one):
        yield one


@both
def test_a_units_connection_ends_when_it_is_revoked_and_it_does_not_come_back(
    broker: Broker, authority: Authority, tmp_path: Path, interpreter: str
) -> None:
    files, spared = unit_files(authority, tmp_path / "unit"), unit_files(authority, tmp_path / "other", OTHER)
    cloud = {"port": broker.port, "scheme": "wss"}
    with (
        unit(interpreter, files, cloud) as one,
        unit(interpreter, spared, cloud, id=OTHER) as other,
        Peer(broker.url, observer(authority, "watcher")) as watcher,
    ):
        one.online()
        other.online()
        watcher.join()
        watcher.subscribe(f"kobler/{UNIT_ID}/presence")
        authority.revoke(UNIT_ID, "key-compromise")
        words = one.fails_with("http")
        assert "revoked" in words or "403" in words
        assert any(b'"offline"' in payload for _, payload, _ in watcher.settle())  # its will
        before = other.until(lambda report: report["acked"] > 0)["acked"]
        assert other.acked(before + 20)["status"]["count"]["connects"] == 1


@both
def test_a_revoked_unit_is_let_in_again_with_a_new_certificate(
    broker: Broker, authority: Authority, tmp_path: Path, interpreter: str
) -> None:
    old = unit_files(authority, tmp_path / "old")
    authority.revoke(UNIT_ID, "superseded")
    new = unit_files(authority, tmp_path / "new")
    cloud = {"port": broker.port, "scheme": "wss"}
    with unit(interpreter, new, cloud) as one:
        one.online()
        with unit(interpreter, old, cloud) as thief:
            thief.fails_with("http")


def test_a_tls_session_that_is_taken_up_again_brings_a_revoked_client_no_further(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    context = as_peer(authority, UNIT_ID, tmp_path).context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def answer(session: ssl.SSLSession | None) -> tuple[bytes, ssl.SSLSession | None, bool | None]:
        raw = socket.create_connection(("127.0.0.1", broker.port), 5)
        with context.wrap_socket(raw, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return tls.recv(100), tls.session, tls.session_reused

    first, session, _ = answer(None)
    assert b" 403 " not in first
    authority.revoke(UNIT_ID)
    time.sleep(2)
    second, _, reused = answer(session)
    assert reused and b" 403 " in second


def test_a_damaged_list_changes_nothing_and_the_next_good_one_is_taken(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    holders = {name: as_peer(authority, name, tmp_path) for name in (UNIT_ID, OTHER)}
    authority.revoke(UNIT_ID)
    time.sleep(2)
    good = authority.crl_pem.read_bytes()
    authority.crl_pem.write_bytes(good[:200])
    time.sleep(2)
    with pytest.raises(InvalidStatus, match="403"):
        Peer(broker.url, holders[UNIT_ID])
    with Peer(broker.url, holders[OTHER]) as one:
        one.join()
        authority.revoke(OTHER)
        assert one.ended() is not None


def test_a_broker_does_not_start_with_a_list_that_is_not_its_authoritys(authority: Authority, tmp_path: Path) -> None:
    foreign = Authority.open_or_create(tmp_path / "foreign")
    lists = [*revocation.read(authority.crl_pem), revocation.read(foreign.crl_pem)[0]]
    authority.crl_pem.write_bytes(revocation.pem(lists))
    with pytest.raises(KoblerError, match="did not sign"), Background(Broker(authority)):
        pass


def _hang_up(path: Path) -> None:
    os.kill(int(path.read_text()), signal.SIGHUP)


def _tell_mosquitto(authority: Authority, folder: Path) -> None:
    command = [str(DEPLOY / "mosquitto" / "run.sh"), "--name", "localhost", "--pki", str(authority.folder)]
    subprocess.run([*command, "--state", str(folder / "state"), "--acl-only"], check=True)
    _hang_up(folder / "state" / "mosquitto.pid")


def _tell_nats(authority: Authority, folder: Path) -> None:
    users = subprocess.run([str(DEPLOY / "nats" / "users.sh"), str(authority.folder)], check=True, capture_output=True)
    (folder / "state" / "users.conf").write_bytes(users.stdout)
    _hang_up(folder / "state" / "nats.pid")


# As docs/pki.md says. 2.0.11 reads no list for WebSockets: a revoked unit comes in there, and can do nothing.
@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "tell", "scheme", "refusal"),
    [
        (Mosquitto, _tell_mosquitto, "mqtts", "tls-refused"),
        (Mosquitto, _tell_mosquitto, "wss", None),
        (Nats, _tell_nats, "mqtts", "mqtt-refused"),
        (Nats, _tell_nats, "wss", "mqtt-refused"),
    ],
)
def test_brokers_of_production_lock_a_revoked_unit_out(
    authority: Authority,
    tmp_path: Path,
    kind: type[Mosquitto] | type[Nats],
    tell: Callable[[Authority, Path], None],
    scheme: str,
    refusal: str | None,
) -> None:
    files, spared = unit_files(authority, tmp_path / "unit"), unit_files(authority, tmp_path / "other", OTHER)
    watcher = authority.issue_client("watcher")
    with started(kind(authority, tmp_path / "broker")) as broker:
        cloud = {"port": broker.port(scheme), "scheme": scheme}
        with unit("micropython", files, cloud) as one, unit("micropython", spared, cloud, id=OTHER) as other:
            one.online()
            other.online()
            authority.revoke(UNIT_ID)
            tell(authority, tmp_path / "broker")
            one.until(lambda report: report["status"]["state"] == "waiting")  # its connection was ended
            if refusal:
                one.fails_with(refusal)
            seen = listened(broker.port("mqtts"), authority, watcher)
            assert f"kobler/{OTHER}/telemetry" in seen and f"kobler/{UNIT_ID}/telemetry" not in seen
        assert listens_still(broker)


def listens_still(broker: Mosquitto | Nats) -> bool:
    broker._script.check()
    return bool(broker.ready())


def listened(port: int, authority: Authority, watcher: object) -> set[str]:
    """Topics of new messages within two seconds, by an independent client."""
    import paho.mqtt.client as paho
    from brokers import context

    versions = getattr(paho, "CallbackAPIVersion", None)
    client = paho.Client(*([versions.VERSION1] if versions else []), client_id="watcher")
    client.tls_set_context(context(authority, watcher.cert_pem, watcher.key_pem))  # type: ignore[attr-defined]
    seen: set[str] = set()
    client.on_message = lambda _c, _u, message: None if message.retain else seen.add(message.topic)
    client.on_connect = lambda one, *_: one.subscribe("kobler/#", 1)
    client.connect("localhost", port)
    client.loop_start()
    try:
        until = time.monotonic() + 10
        while not any(topic.endswith("/telemetry") for topic in seen):
            assert time.monotonic() < until
            time.sleep(0.05)
        time.sleep(2)
    finally:
        client.disconnect()
        client.loop_stop()
    return seen


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Authority, Authority]:
    """Under one root. Who has the other's certificate can show it in TLS."""
    monkeypatch.setenv("KOBLER_ROOT_PASSPHRASE", "several words that nobody knows")
    root = Root.create(tmp_path / "root")
    for name in ("pki", "other"):
        create(tmp_path / name, root)
    return Authority.open(tmp_path / "pki"), Authority.open(tmp_path / "other")


def test_what_an_intermediate_signed_whose_list_is_not_here_is_not_let_in(
    two: tuple[Authority, Authority], tmp_path: Path
) -> None:
    authority, other = two
    broker = Broker(authority)
    with Background(broker):
        with Peer(broker.url, observer(authority, "viewer")):
            pass
        with pytest.raises(InvalidStatus) as caught, Peer(broker.url, observer(other, "viewer")):
            pass
        said = caught.value.response.body or b""
        assert b"issued by" in said and b"revocations are not known here" in said
        with unit("micropython", unit_files(other, tmp_path / "unit"), {"port": broker.port, "scheme": "wss"}) as one:
            assert "403" in one.fails_with("http")


def test_mosquitto_lets_in_what_an_intermediate_signed_whose_list_it_has(
    two: tuple[Authority, Authority], tmp_path: Path
) -> None:
    authority, other = two
    files = [unit_files(one, tmp_path / one.folder.name / "unit") for one in two]
    with started(Mosquitto(authority, tmp_path / "one")) as broker:
        cloud = {"port": broker.mqtts, "scheme": "mqtts"}
        with unit("micropython", files[0], cloud) as one:
            one.online()
        with unit("micropython", files[1], cloud) as one:
            one.fails_with("tls-refused")
    authority.crl_pem.write_bytes(authority.crl_pem.read_bytes() + other.crl_pem.read_bytes())
    with started(Mosquitto(authority, tmp_path / "both")) as broker:
        for each in files:
            with unit("micropython", each, {"port": broker.mqtts, "scheme": "mqtts"}) as one:
                one.online()
