"""The embedded broker: who gets in, who may say what, and that nothing a client sends brings it down."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from kobler.cloud.background import Background
from kobler.cloud.broker import Broker
from kobler.errors import KoblerError
from kobler.mqtt_client import Credentials, Endpoint, Link, LinkError, MqttClient
from kobler.pki import Authority
from mqtt_peer import Holder, Peer, connect_packet, observer, publish_packet, unit
from websockets.exceptions import InvalidHandshake, InvalidStatus

UNIT, OTHER = "0242ac110002", "0242ac110003"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open_or_create(tmp_path_factory.mktemp("broker") / "pki")


@pytest.fixture(scope="module")
def holders(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Holder]:
    folder = tmp_path_factory.mktemp("holders")
    units = {name: unit(authority, name, folder) for name in (UNIT, OTHER)}
    return units | {"viewer": observer(authority, "viewer"), "second": observer(authority, "second")}


@pytest.fixture
def broker(authority: Authority) -> Iterator[Broker]:
    found = Broker(authority)
    with Background(found):
        yield found


def test_a_units_telemetry_reaches_an_observer_and_the_callback(broker: Broker, holders: dict[str, Holder]) -> None:
    seen: list[tuple[str, bytes]] = []
    broker.subscribe(lambda topic, payload: seen.append((topic, payload)))
    with Peer(broker.url, holders["viewer"]) as viewer, Peer(broker.url, holders[UNIT]) as coupler:
        assert viewer.join() == b"\x20\x02\0\0"
        assert viewer.subscribe("kobler/#") == 1
        assert coupler.join(UNIT) == b"\x20\x02\0\0"
        coupler.publish(f"kobler/{UNIT}/telemetry", b"[]")
        assert viewer.settle() == [(f"kobler/{UNIT}/telemetry", b"[]", False)]
    assert seen == [(f"kobler/{UNIT}/telemetry", b"[]")]


@pytest.mark.parametrize(
    ("who", "topic"),
    [
        (UNIT, f"kobler/{OTHER}/telemetry"),
        (UNIT, f"kobler/{OTHER}/presence"),
        (UNIT, f"kobler/{UNIT}/desired"),
        (UNIT, f"kobler/{UNIT}/method/restart/1"),
        (UNIT, f"kobler/{UNIT}"),
        (UNIT, f"kobler/{UNIT}x/telemetry"),
        (UNIT, "telemetry"),
        (UNIT, "$SYS/broker/version"),
        ("viewer", f"kobler/{UNIT}/telemetry"),
        ("viewer", f"kobler/{UNIT}/reported"),
        ("viewer", f"kobler/{UNIT}/result/200/1"),
        ("viewer", "kobler/viewer/telemetry"),
        ("viewer", f"kobler/{UNIT}/method"),
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_not_ones_own_is_refused(
    broker: Broker, holders: dict[str, Holder], who: str, topic: str, qos: int
) -> None:
    with Peer(broker.url, holders["second"]) as witness, Peer(broker.url, holders[who]) as sender:
        witness.join()
        witness.subscribe("#")
        sender.join()
        sender.send(publish_packet(topic, b"forged", qos=qos, retain=True))
        assert sender.ended() == (1008, f"may not publish to {topic}")
        assert witness.settle(0.1) == []


@pytest.mark.parametrize("topic", [f"kobler/{UNIT}/desired", f"kobler/{UNIT}/ack", f"kobler/{UNIT}/method/read/17"])
def test_an_observer_speaks_down_to_a_unit(broker: Broker, holders: dict[str, Holder], topic: str) -> None:
    with Peer(broker.url, holders["viewer"]) as viewer, Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join()
        assert coupler.subscribe(f"kobler/{UNIT}/#") == 1
        viewer.join()
        viewer.publish(topic, b"{}")
        assert coupler.settle() == [(topic, b"{}", False)]


def test_an_observer_hears_the_results_of_any_unit_and_no_other_unit_does(
    broker: Broker, holders: dict[str, Holder]
) -> None:
    topics = [f"kobler/{name}/result/200/17" for name in (UNIT, OTHER)]
    with Peer(broker.url, holders["viewer"]) as viewer:
        viewer.join()
        for name in (UNIT, OTHER):
            assert viewer.subscribe(f"kobler/{name}/result/#") == 1
        for name, topic in zip((UNIT, OTHER), topics, strict=True):
            with Peer(broker.url, holders[name]) as coupler:
                coupler.join()
                assert coupler.subscribe(f"kobler/{UNIT if name == OTHER else OTHER}/result/#") == 0x80
                coupler.publish(topic, b"{}")
        assert viewer.settle() == [(topic, b"{}", False) for topic in topics]


@pytest.mark.parametrize(
    "pattern", ["kobler/#", "#", "+/+/desired", f"kobler/{OTHER}/desired", f"kobler/{UNIT}+/x", "kobler"]
)
def test_a_unit_subscribes_to_its_own_topics_only(broker: Broker, holders: dict[str, Holder], pattern: str) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join()
        assert coupler.subscribe(pattern) == 0x80
        assert coupler.subscribe(f"kobler/{UNIT}/desired") == 1


def test_the_certificate_is_the_identity_whatever_the_client_calls_itself(
    broker: Broker, holders: dict[str, Holder]
) -> None:
    with Peer(broker.url, holders[OTHER]) as impostor:
        assert impostor.join(UNIT, user=UNIT) == b"\x20\x02\0\0"
        assert impostor.subscribe(f"kobler/{UNIT}/#") == 0x80
        impostor.send(publish_packet(f"kobler/{UNIT}/telemetry", b"[]"))
        assert impostor.ended() == (1008, f"may not publish to kobler/{UNIT}/telemetry")


def test_another_holder_cannot_take_up_a_session_by_its_name(broker: Broker, holders: dict[str, Holder]) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join("session", clean=False)
        coupler.subscribe(f"kobler/{UNIT}/desired")
    with Peer(broker.url, holders["viewer"]) as viewer:
        viewer.join()
        viewer.publish(f"kobler/{UNIT}/desired", b"secret")
    with Peer(broker.url, holders[OTHER]) as thief:
        assert thief.join("session", clean=False) == b"\x20\x02\0\0"  # no session of its own was there
        assert thief.settle() == []
    with Peer(broker.url, holders[UNIT]) as coupler:
        assert coupler.join("session", clean=False) == b"\x20\x02\x01\0"
        assert [(topic, payload) for topic, payload, _ in coupler.settle()] == [(f"kobler/{UNIT}/desired", b"secret")]


def knock(port: int, context: ssl.SSLContext) -> None:
    """With TLS 1.3 a client learns that it was refused from its first read."""
    raw = socket.create_connection(("127.0.0.1", port), 5)
    with context.wrap_socket(raw, server_hostname="localhost") as secure:
        secure.sendall(b"GET /mqtt HTTP/1.1\r\n\r\n")
        if not secure.recv(1):
            raise ConnectionResetError


def test_no_certificate_no_connection(broker: Broker, authority: Authority) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        knock(broker.port, ssl.create_default_context(cafile=authority.ca_pem))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_of_a_foreign_authority_is_refused(
    broker: Broker, authority: Authority, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    foreign = Authority.open_or_create(tmp_path / "foreign")
    holder = unit(foreign, UNIT, tmp_path)
    context = ssl.create_default_context(cafile=authority.ca_pem)
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(holder.cert, holder.key)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        knock(broker.port, context)


def test_the_brokers_own_certificate_is_no_clients(broker: Broker, authority: Authority) -> None:
    served = authority.server()
    with pytest.raises((ConnectionError, InvalidHandshake, ssl.SSLError)):
        Peer(broker.url, Holder(served.cert_pem, served.key_pem, served.ca_pem))


def test_only_the_path_of_mqtt_is_served(broker: Broker, holders: dict[str, Holder]) -> None:
    with pytest.raises(InvalidStatus, match="404"):
        Peer(broker.url.replace("/mqtt", "/admin"), holders["viewer"])


def test_retained_messages_come_to_those_who_ask_and_to_nobody_else(broker: Broker, holders: dict[str, Holder]) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join()
        coupler.publish(f"kobler/{UNIT}/reported", b'{"v": 1}', retain=True)
        coupler.publish(f"kobler/{UNIT}/reported", b'{"v": 2}', retain=True)
    with Peer(broker.url, holders["viewer"]) as viewer, Peer(broker.url, holders[OTHER]) as other:
        viewer.join()
        viewer.subscribe("kobler/+/reported")
        assert viewer.settle() == [(f"kobler/{UNIT}/reported", b'{"v": 2}', True)]
        other.join()  # while the viewer's subscription exists
        assert other.settle() == []
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join()
        coupler.publish(f"kobler/{UNIT}/reported", b"", retain=True)
    with Peer(broker.url, holders["viewer"]) as viewer:
        viewer.join()
        viewer.subscribe("kobler/+/reported")
        assert viewer.settle() == []


@pytest.mark.parametrize("farewell", [False, True])
def test_the_will_speaks_for_those_who_left_without_a_word(
    broker: Broker, holders: dict[str, Holder], farewell: bool
) -> None:
    will = (f"kobler/{UNIT}/presence", b"offline")
    with Peer(broker.url, holders["viewer"]) as viewer:
        viewer.join()
        viewer.subscribe("kobler/#")
        coupler = Peer(broker.url, holders[UNIT])
        coupler.join(UNIT, will=will)
        if farewell:
            coupler.send(b"\xe0\0")
            coupler.socket.close()
        else:
            coupler.socket.shutdown(socket.SHUT_RDWR)
        expected = [] if farewell else [(*will, False)]
        assert viewer.settle() == expected
    with Peer(broker.url, holders["second"]) as late:
        late.join()
        late.subscribe("kobler/#")
        assert late.settle() == ([] if farewell else [(*will, True)])


def test_a_will_on_anothers_topic_is_refused(broker: Broker, holders: dict[str, Holder]) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.send(connect_packet(UNIT, will=(f"kobler/{OTHER}/presence", b"offline")))
        assert coupler.next() == b"\x20\x02\0\x05"
        assert coupler.ended() == (1008, f"may not have a will on kobler/{OTHER}/presence")


def test_a_silent_client_is_dropped_after_its_keep_alive_and_its_will_sent(
    broker: Broker, holders: dict[str, Holder]
) -> None:
    with Peer(broker.url, holders["viewer"]) as viewer, Peer(broker.url, holders[UNIT]) as coupler:
        viewer.join()
        viewer.subscribe("kobler/#")
        coupler.join(UNIT, keep_alive=1, will=(f"kobler/{UNIT}/presence", b"offline"))
        assert coupler.ended(4) == (1008, "silent for too long")
        assert viewer.settle() == [(f"kobler/{UNIT}/presence", b"offline", False)]


def test_a_second_connection_of_the_same_client_takes_over(broker: Broker, holders: dict[str, Holder]) -> None:
    with Peer(broker.url, holders[UNIT]) as first, Peer(broker.url, holders[UNIT]) as second:
        first.join(UNIT)
        assert second.join(UNIT) == b"\x20\x02\0\0"
        assert first.ended() == (1008, "the same client connected again")
        second.publish(f"kobler/{UNIT}/telemetry", b"[]")


def test_minimqtt_is_served(broker: Broker, holders: dict[str, Holder]) -> None:
    got: list[tuple[str, bytes]] = []
    holder = holders["viewer"]
    link = Link(Endpoint.parse(broker.url), Credentials(holder.ca, holder.cert, holder.key))
    link.open()
    client = MqttClient(link)
    client.connect()
    client.subscribe(f"kobler/{UNIT}/#", lambda topic, payload: got.append((topic, payload)))
    for number in range(20):
        client.publish(f"kobler/{UNIT}/desired", b"%d" % number)
    client.loop(0.3)
    client.close()
    assert got == [(f"kobler/{UNIT}/desired", b"%d" % number) for number in range(20)]


def test_amqtts_own_client_is_served(broker: Broker, holders: dict[str, Holder]) -> None:
    from amqtt.client import MQTTClient

    holder = holders["viewer"]

    async def exchange() -> bytes:
        settings = {"cafile": str(holder.ca), "certfile": str(holder.cert), "keyfile": str(holder.key)}
        client = MQTTClient(config={"auto_reconnect": False, "connection": {"uri": broker.url, **settings}})
        await client.connect(broker.url, cafile=str(holder.ca))
        await client.subscribe([("kobler/+/desired", 1)])
        await client.publish(f"kobler/{UNIT}/desired", b"{}", qos=1)
        message = await client.deliver_message(timeout_duration=5)
        await client.disconnect()
        assert message is not None
        return bytes(message.data)

    assert asyncio.run(asyncio.wait_for(exchange(), 10)) == b"{}"


def test_messages_for_an_absent_client_wait_for_it(broker: Broker, holders: dict[str, Holder]) -> None:
    with Peer(broker.url, holders[UNIT]) as coupler:
        coupler.join(UNIT, clean=False)
        coupler.subscribe(f"kobler/{UNIT}/method/#")
        coupler.send(b"\xe0\0")
    with Peer(broker.url, holders["viewer"]) as viewer:
        viewer.join()
        for number in range(3):
            viewer.publish(f"kobler/{UNIT}/method/read/{number}", b"{}")
    with Peer(broker.url, holders[UNIT]) as coupler:
        assert coupler.join(UNIT, clean=False) == b"\x20\x02\x01\0"
        assert [topic for topic, _, _ in coupler.settle()] == [f"kobler/{UNIT}/method/read/{n}" for n in range(3)]


def test_a_port_in_use_is_one_line(broker: Broker, authority: Authority) -> None:
    with pytest.raises(KoblerError, match=f"port {broker.port}"), Background(Broker(authority, broker.port)):
        pass


def test_what_is_published_from_inside_reaches_clients(authority: Authority, holders: dict[str, Holder]) -> None:
    found = Broker(authority)
    with Background(found) as background:
        background.call(found.publish(f"kobler/{UNIT}/desired", b"{}", retain=True), 5)
        with Peer(found.url, holders[UNIT]) as coupler:
            coupler.join(UNIT)
            coupler.subscribe(f"kobler/{UNIT}/desired")
            assert coupler.settle() == [(f"kobler/{UNIT}/desired", b"{}", True)]


def test_a_link_says_which_step_failed(broker: Broker, authority: Authority, holders: dict[str, Holder]) -> None:
    holder = holders["viewer"]
    good = Credentials(holder.ca, holder.cert, holder.key)
    for url, credentials, step in [
        (broker.url, Credentials(holder.ca), "hung up right behind the TLS handshake"),
        (broker.url, Credentials(None, holder.cert, holder.key), "not from a trusted authority"),
        (broker.url.replace("/mqtt", "/x"), good, "no WebSocket at /x"),
        (broker.url.replace("localhost", "127.0.0.2"), good, "nothing answers on TCP port"),
        ("wss://host.invalid/mqtt", good, "host.invalid has no address"),
    ]:
        link = Link(Endpoint.parse(url), credentials, timeout=5)
        with pytest.raises(LinkError, match=step):
            link.open()
        link.close()
