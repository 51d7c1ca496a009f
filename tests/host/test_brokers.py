"""mosquitto and nats-server as deploy/ starts them: the same unit, unchanged, and who is let in to what."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import shown
from brokers import DEPLOY, NAME, NODES, Broker, Mosquitto, Nats, context, listens, started, unit_files
from cryptography.hazmat.primitives import serialization
from kobler.pki import Authority
from store_process import StoreProcess
from uplink_world import INTERPRETERS, UNIT_ID, unit

ROOT = f"kobler/{UNIT_ID}"
OTHER = "0000000000aa"
KINDS: dict[str, Callable[..., Broker]] = {"mosquitto": Mosquitto, "nats": Nats}

both = pytest.mark.parametrize("interpreter", INTERPRETERS)
schemes = pytest.mark.parametrize("scheme", ["wss", "mqtts"])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("authority") / "pki")


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unit")
    unit_files(authority, folder / "other", OTHER)
    for name in ("store", "viewer"):
        authority.issue_client(name)
    return unit_files(authority, folder)


@pytest.fixture(scope="module", params=KINDS)
def broker(
    request: pytest.FixtureRequest, authority: Authority, files: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with started(KINDS[request.param](authority, tmp_path_factory.mktemp("broker") / request.param)) as one:
        yield one


class Client:
    """An independent MQTT client; what it receives is in `got`."""

    def __init__(self, broker: Broker, tls: ssl.SSLContext, name: str, scheme: str = "wss", clean: bool = True) -> None:
        versions: Any = getattr(paho, "CallbackAPIVersion", None)
        transport = "websockets" if scheme == "wss" else "tcp"
        first = [versions.VERSION1] if versions else []
        self._client: Any = paho.Client(*first, client_id=name, clean_session=clean, transport=transport)
        self._client.tls_set_context(tls)
        if scheme == "wss":
            self._client.ws_set_options("/mqtt")
        self.got: list[tuple[str, bytes]] = []
        self.code: int | None = None
        self.granted: list[int] = []
        self._client.on_message = lambda _c, _u, message: self.got.append((message.topic, message.payload))
        self._client.on_connect = lambda _c, _u, _f, code: setattr(self, "code", code)
        self._client.on_subscribe = lambda _c, _u, _m, granted: self.granted.extend(granted)
        self._client.connect(NAME, broker.port(scheme))
        self._client.loop_start()
        self.wait(lambda: self.code is not None)

    def wait(self, reached: Callable[[], bool], seconds: float = 10) -> None:
        until = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < until, (self.code, self.got[-3:])
            time.sleep(0.01)

    def subscribe(self, topic: str) -> int:
        before = len(self.granted)
        self._client.subscribe(topic, 1)
        self.wait(lambda: len(self.granted) > before)
        return self.granted[-1]

    def publish(self, topic: str, payload: bytes) -> None:
        self._client.publish(topic, payload, 1)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def holder(authority: Authority, name: str) -> ssl.SSLContext:
    issued = authority.issue_client(name)
    return context(authority, issued.cert_pem, issued.key_pem)


def as_unit(authority: Authority, files: Path, tmp_path: Path) -> ssl.SSLContext:
    """The unit's own key and certificate in the hands of another program."""
    key = ssl.DER_cert_to_PEM_cert((files / "key.der").read_bytes()).replace("CERTIFICATE", "EC PRIVATE KEY")
    (tmp_path / "key.pem").write_text(key)
    chain = shown.certificates((files / "cert.der").read_bytes())
    (tmp_path / "cert.pem").write_bytes(b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain))
    return context(authority, tmp_path / "cert.pem", tmp_path / "key.pem")


@both
@schemes
def test_samples_are_stored_and_the_stores_acknowledgement_moves_the_cursor(
    broker: Broker, authority: Authority, files: Path, tmp_path: Path, interpreter: str, scheme: str
) -> None:
    issued = authority.issue_client("store")
    with StoreProcess(tmp_path, issued, broker.port(scheme), scheme) as store:
        store.connected()
        cloud = {"port": broker.port(scheme), "scheme": scheme, "ack": "store"}
        # A journal of its own for each run, whose numbers begin where those of the last run ended for nobody else.
        given = {"flash": str(tmp_path / "flash"), "log": str(tmp_path / "log"), "boot": 1, "period_ms": 5}
        with unit(interpreter, files, cloud, **given, until={"acked": 100}) as one:
            end = one.ended()
        assert end["acked"] >= 100 and end["status"]["count"]["connects"] == 1
        kept = store.history(UNIT_ID)
        assert kept and all(value == seq * 1000 + 1 for seq, value in kept.items())
        assert [seq for seq in range(1, 101) if seq % 3] == [seq for seq in sorted(kept) if seq <= 100]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broker_that_knows_the_root_alone_lets_units_in(
    kind: str, authority: Authority, files: Path, tmp_path: Path
) -> None:
    shutil.copytree(authority.folder, tmp_path / "pki")
    there = Authority.open_or_create(tmp_path / "pki")
    assert there.chain, "else this shows nothing"
    there.chain_pem.write_bytes(there.ca_pem.read_bytes())
    with started(KINDS[kind](there, tmp_path / kind)) as broker:
        for interpreter in INTERPRETERS:
            for scheme in ("wss", "mqtts"):
                with unit(interpreter, files, {"port": broker.port(scheme), "scheme": scheme}) as one:
                    one.acked(3)
        alone = tmp_path / "alone"
        shutil.copytree(files, alone)
        (alone / "cert.der").write_bytes(shown.der(shown.certificates((files / "cert.der").read_bytes())[0]))
        with unit("micropython", alone, {"port": broker.mqtts, "scheme": "mqtts"}) as one:
            one.fails_with("tls-refused")


def test_a_client_that_comes_later_finds_presence_and_a_dead_unit_leaves_its_will(
    broker: Broker, authority: Authority, files: Path
) -> None:
    viewer = Client(broker, holder(authority, "viewer"), "viewer")
    try:
        with unit("cpython", files, {"port": broker.wss}) as one:
            one.acked(3)
            viewer.subscribe(f"{ROOT}/presence")
            viewer.wait(lambda: any(b"online" in payload for _, payload in viewer.got))
            viewer.got.clear()
        viewer.wait(lambda: any(b"offline" in payload for _, payload in viewer.got))
    finally:
        viewer.close()


def test_a_method_is_answered(broker: Broker, authority: Authority, files: Path) -> None:
    viewer = Client(broker, holder(authority, "viewer"), "viewer")
    try:
        viewer.subscribe("kobler/+/result/#")
        with unit("micropython", files, {"port": broker.wss}) as one:
            one.acked(3)
            viewer.publish(f"{ROOT}/method/read/r1", b'{"point": "power"}')
            viewer.wait(lambda: bool(viewer.got))
        topic, payload = viewer.got[0]
        assert topic == f"{ROOT}/result/200/r1" and json.loads(payload)["got"] == {"point": "power"}
    finally:
        viewer.close()


@schemes
def test_no_certificate_and_one_of_another_authority_are_refused(
    broker: Broker, authority: Authority, tmp_path: Path, scheme: str
) -> None:
    stranger = Authority.open_or_create(tmp_path / "strangers").issue_client("store")
    server = authority.server([NAME])
    for cert, key in ((None, None), (stranger.cert_pem, stranger.key_pem), (server.cert_pem, server.key_pem)):
        assert silent(broker.port(scheme), context(authority, cert, key), scheme)
    mine = authority.issue_client("viewer")
    assert not silent(broker.port(scheme), context(authority, mine.cert_pem, mine.key_pem), scheme)


def silent(port: int, tls: ssl.SSLContext, scheme: str) -> bool:
    """Whether a client gets no word out of this port; with TLS 1.3 its own handshake may succeed even so."""
    connect = b"\x10\x10\0\x04MQTT\x04\2\0\x3c\0\4test"
    request = (
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    try:
        with (
            socket.create_connection((NAME, port), 5) as raw,
            tls.wrap_socket(raw, server_hostname=NAME) as peer,
        ):
            peer.sendall(request if scheme == "wss" else connect)
            return not peer.recv(100)
    except (ssl.SSLError, ConnectionError):
        return True


@both
def test_a_unit_of_another_authority_is_told_so(
    broker: Broker, authority: Authority, tmp_path: Path, interpreter: str
) -> None:
    other = Authority.open_or_create(tmp_path / "other")
    stranger = unit_files(other, tmp_path / "unit", trusting=authority)
    with unit(interpreter, stranger, {"port": broker.wss}) as one:
        assert "refused" in one.fails_with("tls-refused")


def test_a_unit_reaches_only_its_own_topics(broker: Broker, authority: Authority, files: Path, tmp_path: Path) -> None:
    viewer = Client(broker, holder(authority, "viewer"), "viewer")
    thief = Client(broker, as_unit(authority, files, tmp_path), UNIT_ID)
    try:
        viewer.subscribe("kobler/#")
        for topic in (f"kobler/{OTHER}/method/+/+", "kobler/#", "#", "$MQTT/sub/#", "$MQTT/#", f"kobler/{OTHER}/ack"):
            thief.subscribe(topic)  # refused in the SUBACK or granted in vain
        for kind in ("method/read/r1", "ack", "desired"):
            viewer.publish(f"kobler/{OTHER}/{kind}", b"secret")
        viewer.wait(lambda: len(viewer.got) >= 3)
        viewer.got.clear()
        thief.publish(f"{ROOT}/telemetry", b"true")
        viewer.wait(lambda: bool(viewer.got))
        for topic in (f"kobler/{OTHER}/telemetry", f"{ROOT}/ack", f"{ROOT}/method/read/r1", f"{ROOT}/desired"):
            thief.publish(topic, b"forged")  # a broker may well end the connection for it
        time.sleep(1)
        viewer.publish(f"kobler/{OTHER}/ack", b"last")
        viewer.wait(lambda: viewer.got[-1][1] == b"last")
        assert not [entry for entry in viewer.got if entry[1] == b"forged"], viewer.got
        assert not [entry for entry in thief.got if entry[1] == b"secret"], thief.got
    finally:
        thief.close()
        viewer.close()


def test_another_client_cannot_speak_for_a_unit(broker: Broker, authority: Authority) -> None:
    viewer = Client(broker, holder(authority, "viewer"), "viewer")
    store = Client(broker, holder(authority, "store"), "store")
    try:
        viewer.subscribe("kobler/#")
        store.publish(f"{ROOT}/telemetry", b"forged")
        store.publish(f"{ROOT}/presence", b"forged")
        store.publish(f"{ROOT}/ack", b"true")
        viewer.wait(lambda: any(payload == b"true" for _, payload in viewer.got))
        assert not [entry for entry in viewer.got if entry[1] == b"forged"]
    finally:
        store.close()
        viewer.close()


def test_nobody_takes_up_anothers_session_at_mosquitto(authority: Authority, files: Path, tmp_path: Path) -> None:
    with started(Mosquitto(authority, tmp_path / "mosquitto")) as broker:
        store = Client(broker, holder(authority, "store"), "store", clean=False)
        thief = Client(broker, holder(authority, "viewer"), "store", clean=False)
        try:
            store.subscribe(f"{ROOT}/telemetry")
            assert "as viewer (" in broker.log(), "the certificate's name, not the one it says"
            with unit("cpython", files, {"port": broker.wss}, until={"acked": 10}) as one:
                one.ended()
            store.wait(lambda: bool(store.got))
            assert not thief.got
        finally:
            thief.close()
            store.close()


def test_who_takes_up_anothers_session_at_nats_reads_and_ends_nothing(
    authority: Authority, files: Path, tmp_path: Path
) -> None:
    """nats-server 2.9 does not tie the client identifier to the certificate."""
    (tmp_path / "other").mkdir()
    with started(Nats(authority, tmp_path / "nats")) as broker:
        topic = f"kobler/{OTHER}/telemetry"
        store = Client(broker, holder(authority, "store"), "store", clean=False)
        store.subscribe("kobler/+/telemetry")
        store.close()
        other = Client(broker, as_unit(authority, files / "other", tmp_path / "other"), OTHER)
        other.publish(topic, b"first")
        thief = Client(broker, as_unit(authority, files, tmp_path), "store", clean=False)
        other.publish(topic, b"second")
        time.sleep(3)  # longer than the broker waits for a PUBACK
        assert thief.got == []
        thief.close()
        store = Client(broker, holder(authority, "store"), "store", clean=False)
        try:
            store.wait(lambda: {payload for _, payload in store.got} == {b"first", b"second"})
        finally:
            store.close()
            other.close()


def test_each_broker_listens_where_it_was_told(broker: Broker) -> None:
    for scheme in ("wss", "mqtts"):
        assert listens(NODES[0], broker.port(scheme)) and not listens(NODES[1], broker.port(scheme))


def test_a_certificate_that_is_no_user_of_nats_is_refused_until_the_users_are_read_again(
    authority: Authority, files: Path, tmp_path: Path
) -> None:
    with started(Nats(authority, tmp_path / "nats")) as broker:
        late = "0000000000cc"
        newcomer = unit_files(authority, tmp_path / "late", late)
        with unit("cpython", newcomer, {"port": broker.wss}, id=late) as one:
            one.fails_with("mqtt-refused")
            state = tmp_path / "nats" / "state"
            script = [str(DEPLOY / "nats" / "users.sh"), str(authority.folder)]
            (state / "users.conf").write_bytes(subprocess.run(script, capture_output=True, check=True).stdout)
            pid = (state / "nats.pid").read_text()
            subprocess.run(["nats-server", "--signal", f"reload={pid}"], check=True, capture_output=True)
            one.online()


def test_units_and_clients_cannot_speak_nats_itself(authority: Authority, files: Path, tmp_path: Path) -> None:
    with started(Nats(authority, tmp_path / "nats")) as broker:
        conf = (tmp_path / "nats" / "state" / "node.conf").read_text()
        port = int(conf.split('\nlisten: "127.0.0.1:')[1].split('"')[0])
        assert broker.ready()
        for tls in (as_unit(authority, files, tmp_path), holder(authority, "viewer")):
            with socket.create_connection((NAME, port), 5) as raw:
                assert raw.recv(4096).startswith(b"INFO ")
                with tls.wrap_socket(raw, server_hostname=NAME) as peer:
                    peer.sendall(b'CONNECT {"verbose":false,"pedantic":false,"tls_required":true}\r\nPING\r\n')
                    answer = peer.recv(4096)
                    assert b"PONG" not in answer and (not answer or b"-ERR" in answer), answer
