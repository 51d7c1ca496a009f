"""The cloud link in the Azure dialect, and the official SDK, against one emulation of IoT Hub and DPS."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.iot.device import X509, IoTHubDeviceClient, Message, MethodResponse, ProvisioningDeviceClient, ProxyOptions
from azure.iot.device.exceptions import ClientError
from azure_hub import MAX_INTEGER, Azure, Hub, Packet, Proxy, unfit
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from uplink_world import INTERPRETERS, UNIT_ID, Ca, Loop, Unit, unit

HUB, OTHER, DPS, SCOPE = "hub-1.localhost", "hub-2.localhost", "dps.localhost", "0ne00ABCDEF"
SDK_ID = "sdk-1"
PRESENCE = {"kind": "presence"}

both = pytest.mark.parametrize("interpreter", INTERPRETERS)
# The SDK asks for TLS 1.2 in a way that Python has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:ssl.PROTOCOL_TLSv1_2:DeprecationWarning")
schemes = pytest.mark.parametrize("scheme", ["wss", "mqtts"])


@pytest.fixture
def azure(loop: Loop, ca: Ca) -> Iterator[Azure]:
    found = Azure(loop, ca, (HUB, OTHER), DPS, SCOPE)
    found.hubs[HUB].add(UNIT_ID)
    yield found
    found.close()


@pytest.fixture
def hub(azure: Azure) -> Hub:
    return azure.hubs[HUB]


def cloud(azure: Azure, scheme: str = "wss", **more: Any) -> dict[str, Any]:
    return {"host": HUB, "scheme": scheme, "port": azure.ports[scheme], "dialect": "azure", **more}


def telemetry(properties: dict[str, str], _: Any) -> bool:
    return "kind" not in properties and "iothub-MessageType" not in properties


def soon(what: Callable[[], Any], seconds: float = 10) -> Any:
    """Waits until what() is true."""
    until = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.02)
    return found


def desired(one: Unit, seconds: float = 10) -> Any:
    return one.until(lambda r: "desired" in r, seconds)["desired"]


# --- the unit


@both
@schemes
def test_samples_arrive_in_order_with_their_properties(
    azure: Azure, hub: Hub, files: Path, interpreter: str, scheme: str
) -> None:
    with unit(interpreter, files, cloud(azure, scheme), period_ms=5, until={"acked": 100}) as one:
        records: list[dict[str, Any]] = []
        while len(records) < 100:
            properties, pack = hub.event(telemetry)
            assert properties == {"$.ct": "application/json", "$.ce": "utf-8"}
            assert pack[0]["bn"] == f"urn:dev:kobler:{UNIT_ID}:"
            records += pack
        assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
        assert one.ended()["status"]["count"]["connects"] == 1
        properties, state = hub.event(lambda p, _: p.get("kind") == "presence")
        assert state == {"state": "offline", "boot": 7, "firmware": "test"} and "iothub-MessageType" not in properties
    azure.assert_no_complaints()
    assert hub.connects == 1


@both
def test_presence_is_an_event_of_its_kind_and_the_will_too(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    with unit(interpreter, files, cloud(azure)):
        properties, state = hub.event(lambda p, _: p.get("kind") == "presence")
        assert state["state"] == "online" and "mqtt-retain" not in properties
    properties, state = hub.event(lambda p, _: p.get("iothub-MessageType") == "Will")
    assert properties["kind"] == "presence" and state["state"] == "offline" and "mqtt-retain" not in properties
    azure.assert_no_complaints()


@both
def test_reported_properties_are_acknowledged_and_a_refused_report_is_named(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    with unit(interpreter, files, cloud(azure)) as one:
        soon(lambda: hub.reported(UNIT_ID) == {"revision": "abc"})
        one.acked(1)
        count = one.until(lambda r: r["status"]["count"]["received"] >= 2)["status"]["count"]
        assert count["refused"] == 0, "the answers to GET and PATCH"
    hub.twin_answers.append(429)  # to the first request, which is the GET
    with unit(interpreter, files, cloud(azure)) as one:
        assert "429" in one.until(lambda r: r["status"]["count"]["refused"] == 1)["status"]["text"]
        one.acked(3)


@both
def test_each_version_of_the_desired_properties_comes_once_also_across_reconnects(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    hub.desired(UNIT_ID, {"interval": 5, "old": {"a": 1, "b": 2}})
    with unit(interpreter, files, cloud(azure), seconds=60) as one:
        assert desired(one) == {"interval": 5, "old": {"a": 1, "b": 2}}
        hub.desired(UNIT_ID, {"interval": 6})
        assert desired(one) == {"interval": 6}
        hub.kick(UNIT_ID)
        soon(lambda: asked(azure) == 2)
        hub.desired(UNIT_ID, {"interval": 7})
        assert desired(one) == {"interval": 7}, "nothing in between: the version was the same"
        # What changes while it is away comes with the twin, and what is gone is null.
        away(azure, hub, lambda: hub.desired(UNIT_ID, {"interval": 8, "old": {"a": None}, "new": True}))
        assert desired(one) == {"interval": 8, "old": {"b": 2, "a": None}, "new": True}
        seen = [json.loads(line) for line in one.seen if line.startswith("{")]
        assert [r["desired"]["interval"] for r in seen if "desired" in r] == [5, 6, 7, 8]
    azure.assert_no_complaints()


def asked(azure: Azure) -> int:
    """How often the twin was sent."""
    answer = "$iothub/twin/res/200/"
    return sum(not p.up and p.fields.get("topic", "").startswith(answer) for p in list(azure.record))


def away(azure: Azure, hub: Hub, meanwhile: Callable[[], Any]) -> None:
    """Does something while the unit is not connected."""
    before = hub.connects
    azure.closed = True
    hub.kick(UNIT_ID)
    soon(lambda: hub.devices[UNIT_ID].connection is None)
    meanwhile()
    azure.closed = False
    soon(lambda: hub.connects > before)


@both
def test_methods_are_answered(azure: Azure, hub: Hub, files: Path, interpreter: str) -> None:
    with unit(interpreter, files, cloud(azure)) as one:
        one.acked(1)
        assert hub.method(UNIT_ID, "read", b'{"point": "x"}') == (200, {"method": "read", "got": {"point": "x"}})
        assert hub.method(UNIT_ID, "identify", b"null") == (200, {"method": "identify", "got": None})
        status, answer = hub.method(UNIT_ID, "read", b"{nonsense")
        assert status == 400 and "JSON" in answer["error"]
    assert hub.method("nobody", "read") == (404, None)
    azure.assert_no_complaints()


@both
def test_a_store_acknowledges_by_messages_to_the_device(azure: Azure, hub: Hub, files: Path, interpreter: str) -> None:
    with unit(interpreter, files, cloud(azure, ack="store"), samples=50, seconds=60) as one:
        last = 0
        while last < 50:
            last = hub.event(telemetry)[1][-1]["seq"]
        hub.send(UNIT_ID, b'{"seq": 20}')
        assert one.acked(1)["acked"] == 20
        away(azure, hub, lambda: hub.send(UNIT_ID, b'{"seq": 40}'))
        assert one.acked(21)["acked"] == 40, "it waited in the hub"
        soon(lambda: not hub.devices[UNIT_ID].queued)
    azure.assert_no_complaints()


@both
def test_what_was_not_acknowledged_comes_again_after_a_reconnect(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    azure.acknowledge = False
    with unit(interpreter, files, cloud(azure), samples=30, until={"acked": 30}) as one:
        hub.event(telemetry)
        azure.acknowledge = True
        hub.kick(UNIT_ID)
        assert one.ended()["status"]["count"]["repeated"] >= 1
    assert any(p.up and p.kind == "PUBLISH" and p.fields["dup"] for p in azure.record)
    azure.assert_no_complaints()


@both
def test_two_units_of_one_name_do_not_chase_each_other_at_full_speed(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    settings = {"base_ms": 1000, "cap_ms": 60000, "seconds": 60}
    with unit(interpreter, files, cloud(azure), **settings) as one, unit(interpreter, files, cloud(azure), **settings):
        one.fails_with("closed")
        assert one.until(lambda r: r["status"]["state"] == "waiting")
        time.sleep(5)
        assert hub.kicked >= 1 and hub.connects < 25, "without a growing pause it is hundreds"
    azure.assert_no_complaints()


@both
def test_a_twin_that_is_too_large_for_the_unit_is_counted_and_ends_nothing(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    hub.devices[UNIT_ID].reported = {str(n): "x" * 1000 for n in range(9)}
    with unit(interpreter, files, cloud(azure)) as one:
        assert one.until(lambda r: r["status"]["count"]["oversize"] == 1)["status"]["state"] == "online"
        one.acked(20)
        hub.desired(UNIT_ID, {"interval": 6})
        one.acked(40)
    assert hub.connects == 1
    azure.assert_no_complaints()


@both
def test_keep_alive_is_within_the_limits(azure: Azure, hub: Hub, files: Path, interpreter: str) -> None:
    with unit(interpreter, files, cloud(azure), samples=1) as one:
        one.acked(1)
    connect = next(p for p in azure.record if p.kind == "CONNECT")
    assert 0 < connect.fields["keep_alive"] <= 1177


@both
def test_the_hub_is_asked_of_the_provisioning_service_and_again_when_it_refuses(
    azure: Azure, hub: Hub, files: Path, interpreter: str
) -> None:
    hub.devices.clear()
    azure.dps.enrolments[UNIT_ID] = HUB
    azure.dps.polls = 2
    given = cloud(azure) | {"host": DPS, "scope": SCOPE}
    with unit(interpreter, files, given, seconds=60) as one:
        assert one.until(lambda r: "assigned" in r)["assigned"] == [SCOPE, HUB]
        one.acked(5)
        hub.kick(UNIT_ID)
        soon(lambda: hub.connects == 2)
        assert azure.dps.registered == 1, "a hub that has answered is asked first"
        azure.dps.enrolments[UNIT_ID] = OTHER
        hub.remove(UNIT_ID)
        assert one.until(lambda r: "assigned" in r, 30)["assigned"] == [SCOPE, OTHER]
        moved = one.online()["acked"]
        one.acked(moved + 5)
        assert azure.hubs[OTHER].event(telemetry)[1], "and what comes next goes there"
    assert azure.refusals and all("not registered" in why for why in azure.refusals)
    assert not azure.violations and not azure.unheard


@both
def test_a_hub_that_was_assigned_before_needs_no_provisioning(azure: Azure, files: Path, interpreter: str) -> None:
    given = cloud(azure) | {"host": DPS, "scope": SCOPE}
    with unit(interpreter, files, given, assigned=[SCOPE, HUB]) as one:
        one.acked(1)
    assert azure.dps.registered == 0
    azure.assert_no_complaints()


@both
@schemes
def test_a_unit_that_is_not_enrolled_is_told_so_and_one_that_has_to_wait_waits(
    azure: Azure, files: Path, interpreter: str, scheme: str
) -> None:
    given = cloud(azure, scheme) | {"host": DPS, "scope": SCOPE}
    with unit(interpreter, files, given, seconds=60) as one:
        assert "Unauthorized" in one.fails_with("dps")
        azure.dps.answers.append(429)
        azure.dps.enrolments[UNIT_ID] = HUB
        one.acked(1, 30)
    assert azure.dps.registered == 1 and not azure.violations and not azure.refusals


@both
def test_a_scope_that_is_not_this_units_is_refused(azure: Azure, files: Path, interpreter: str) -> None:
    with unit(interpreter, files, cloud(azure) | {"host": DPS, "scope": "0neOTHER"}) as one:
        assert "not authorised" in one.fails_with("dps")
    assert "user name" in azure.refusals[0]


# --- the official SDK, as it comes from the package registry


class Sdk:
    """Its clients, led to the emulation by the option for a proxy; nothing of the SDK is changed."""

    def __init__(self, loop: Loop, azure: Azure, ca: Ca, folder: Path) -> None:
        self.proxy = Proxy(loop, azure)
        certificate, key = ca.issue(SDK_ID)
        pem = folder / "sdk.pem"
        pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.TraditionalOpenSSL
        (folder / "sdk.key").write_bytes(
            key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
        )
        self.x509 = X509(str(pem), str(folder / "sdk.key"))
        self.trust = ca.pem.read_text()

    def options(self, scheme: str) -> dict[str, Any]:
        proxy = ProxyOptions("HTTP", "127.0.0.1", self.proxy.port)
        return {"server_verification_cert": self.trust, "websockets": scheme == "wss", "proxy_options": proxy}

    def device(self, scheme: str, hub: str = HUB, **more: Any) -> IoTHubDeviceClient:
        options = self.options(scheme) | more
        return IoTHubDeviceClient.create_from_x509_certificate(
            x509=self.x509, hostname=hub, device_id=SDK_ID, **options
        )

    def register(self, scheme: str) -> Any:
        client = ProvisioningDeviceClient.create_from_x509_certificate(
            provisioning_host=DPS, registration_id=SDK_ID, id_scope=SCOPE, x509=self.x509, **self.options(scheme)
        )
        return client.register()


@pytest.fixture
def sdk(loop: Loop, azure: Azure, ca: Ca, tmp_path: Path) -> Iterator[Sdk]:
    azure.hubs[HUB].add(SDK_ID)
    found = Sdk(loop, azure, ca, tmp_path)
    yield found
    found.proxy.close()


def exercise(client: IoTHubDeviceClient, hub: Hub) -> None:
    """Everything that the coupler does too, done with the SDK."""
    patches: list[Any] = []
    messages: list[Any] = []
    client.on_twin_desired_properties_patch_received = patches.append

    def answer(request: Any) -> None:
        client.send_method_response(MethodResponse.create_from_method_request(request, 200, {"got": request.payload}))

    client.on_method_request_received = answer
    client.on_message_received = messages.append
    client.connect()
    message = Message(json.dumps([{"seq": 1}]), content_type="application/json", content_encoding="utf-8")
    client.send_message(message)
    properties, content = hub.event(telemetry)
    assert (properties, content) == ({"$.ct": "application/json", "$.ce": "utf-8"}, [{"seq": 1}])
    client.patch_twin_reported_properties({"revision": "abc"})
    assert hub.reported(SDK_ID) == {"revision": "abc"}
    twin = client.get_twin()
    assert twin["desired"]["$version"] == 1 and twin["reported"] == {"revision": "abc", "$version": 2}
    hub.desired(SDK_ID, {"interval": 6})
    soon(lambda: {"interval": 6, "$version": 2} in patches)
    assert hub.method(SDK_ID, "read", b'{"point": "x"}') == (200, {"got": {"point": "x"}})
    hub.send(SDK_ID, b'{"seq": 1}', colour="red")
    soon(lambda: messages)
    assert messages[0].data == b'{"seq": 1}' and messages[0].custom_properties == {"colour": "red"}


@schemes
def test_the_official_sdk_works_against_the_same_emulation(azure: Azure, hub: Hub, sdk: Sdk, scheme: str) -> None:
    client = sdk.device(scheme)
    try:
        exercise(client, hub)
    finally:
        client.shutdown()
    assert sdk.proxy.asked == [f"{HUB}:{443 if scheme == 'wss' else 8883}"], "its own names and ports"
    azure.assert_no_complaints(but="unheard")  # it asks for the twin before it subscribes to answers


@schemes
def test_the_official_sdk_registers_with_the_emulated_provisioning_service(azure: Azure, sdk: Sdk, scheme: str) -> None:
    azure.dps.enrolments[SDK_ID] = HUB
    azure.dps.polls = 2
    result = sdk.register(scheme)
    assert result.status == "assigned"
    assert (result.registration_state.assigned_hub, result.registration_state.device_id) == (HUB, SDK_ID)
    azure.assert_no_complaints()


def test_the_official_sdk_fails_where_it_should(azure: Azure, hub: Hub, sdk: Sdk) -> None:
    with pytest.raises(ClientError) as refused:
        sdk.register("mqtts")
    assert "401" in str(refused.value.__cause__)
    hub.devices.clear()
    client = sdk.device("mqtts", connection_retry=False)
    with pytest.raises(ClientError):
        client.connect()
    client.shutdown()
    assert any("not registered" in why for why in azure.refusals)


# --- both side by side


def shape(packet: Packet) -> tuple[Any, ...]:
    """A packet without what must differ: ids, versions, the SDK's name in the user name."""
    fields = packet.fields

    def plain(text: str) -> str:
        for name in (SDK_ID, UNIT_ID):
            text = text.replace(name, "ID")
        text = re.sub(r"\$rid=[^&]+", "$rid=N", text)
        text = re.sub(r"operationId=[^&]+", "operationId=N", text)
        return re.sub(r"\$version=\d+", "$version=N", text)

    if packet.kind == "CONNECT":
        user, _, query = fields["user"].rpartition("?" if "?" in fields["user"] else "/")
        version = urllib.parse.parse_qs(query)["api-version"][0]
        will = fields["will"] and plain(fields["will"]["topic"])
        return ("CONNECT", fields["protocol"], plain(user), version, fields["password"], fields["clean"], will)
    if packet.kind == "PUBLISH":
        return ("PUBLISH", plain(fields["topic"]), fields["qos"], fields["retain"])
    if packet.kind == "SUBSCRIBE":
        return ("SUBSCRIBE", *sorted((plain(topic), qos) for topic, qos in fields["filters"]))
    return (packet.kind,)


def spoken(azure: Azure, service: str, name: str) -> list[Packet]:
    """What a client sent to a service."""
    mine = {p.connection for p in azure.record if p.kind == "CONNECT" and p.fields["client_id"] == name}
    return [p for p in azure.record if p.connection in mine and p.up and p.service == service]


def topics(packets: list[Packet]) -> set[Any]:
    return {shape(p)[1:] for p in packets if p.kind == "PUBLISH"}


def filters(packets: list[Packet]) -> set[Any]:
    return {row for p in packets if p.kind == "SUBSCRIBE" for row in shape(p)[1:]}


# Of CONNECT: protocol, user name up to its parameters, api-version, password, clean session, will.
CONNECTS = {
    (HUB, "sdk"): ("MQTT 4", f"{HUB}/ID/", "2019-10-01", None, False, None),
    (HUB, "unit"): (
        *("MQTT 4", f"{HUB}/ID/", "2021-04-12", None, False),
        "devices/ID/messages/events/kind=presence&%24.ct=application%2Fjson&%24.ce=utf-8",
    ),
    (DPS, "sdk"): ("MQTT 4", f"{SCOPE}/registrations/ID", "2019-03-31", None, False, None),
    (DPS, "unit"): ("MQTT 4", f"{SCOPE}/registrations/ID", "2019-03-31", None, True, None),
}
# Topic, QoS, RETAIN
TOPICS = {
    HUB: {
        ("devices/ID/messages/events/%24.ct=application%2Fjson&%24.ce=utf-8", 1, False),
        ("$iothub/twin/GET/?$rid=N", 1, False),
        ("$iothub/twin/PATCH/properties/reported/?$rid=N", 1, False),
        ("$iothub/methods/res/200/?$rid=N", 1, False),
    },
    DPS: {
        ("$dps/registrations/PUT/iotdps-register/?$rid=N", 1, False),
        ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=N&operationId=N", 1, False),
    },
}
OURS_ONLY = {
    HUB: {("devices/ID/messages/events/kind=presence&%24.ct=application%2Fjson&%24.ce=utf-8", 1, False)},
    DPS: set(),
}
# Filter, QoS
FILTERS = {
    HUB: {
        ("$iothub/twin/res/#", 1),
        ("$iothub/twin/PATCH/properties/desired/#", 1),
        ("$iothub/methods/POST/#", 1),
        ("devices/ID/messages/devicebound/#", 1),
    },
    DPS: {("$dps/registrations/res/#", 1)},
}


@both
@schemes
def test_the_packets_of_both_clients_are_alike(
    azure: Azure, hub: Hub, sdk: Sdk, files: Path, interpreter: str, scheme: str
) -> None:
    azure.dps.enrolments = {SDK_ID: HUB, UNIT_ID: HUB}
    sdk.register(scheme)
    client = sdk.device(scheme)
    try:
        exercise(client, hub)
    finally:
        client.shutdown()
    given = cloud(azure, scheme) | {"host": DPS, "scope": SCOPE, "ack": "store"}
    with unit(interpreter, files, given) as one:
        hub.event(telemetry)
        one.until(lambda r: r["status"]["count"]["received"] >= 2)
        assert hub.method(UNIT_ID, "read", b"{}")[0] == 200
        hub.desired(UNIT_ID, {"interval": 6})
        assert desired(one) == {"interval": 6}
    assert all(SDK_ID in text for text in azure.unheard)
    azure.assert_no_complaints(but="unheard")
    for service in (HUB, DPS):
        packets = {"sdk": spoken(azure, service, SDK_ID), "unit": spoken(azure, service, UNIT_ID)}
        for who, sent in packets.items():
            assert {shape(p)[1:] for p in sent if p.kind == "CONNECT"} == {CONNECTS[service, who]}, who
            assert filters(sent) == FILTERS[service], who
        assert topics(packets["sdk"]) == TOPICS[service]
        assert topics(packets["unit"]) == TOPICS[service] | OURS_ONLY[service]


# --- the emulation's own rules, so that an honest client is not honest by chance


class Raw:
    """Bytes over TLS; what the emulation thinks of them."""

    def __init__(self, azure: Azure, folder: Path, ca: Ca, server: str = HUB, name: str | None = UNIT_ID) -> None:
        context = ssl.create_default_context(cafile=str(ca.pem))
        if name:
            certificate, key = ca.issue(name)
            pem = folder / f"raw-{name}.pem"
            form = serialization.PrivateFormat.TraditionalOpenSSL
            none = serialization.NoEncryption()
            encoding = serialization.Encoding.PEM
            assert isinstance(certificate, x509.Certificate)
            pem.write_bytes(certificate.public_bytes(encoding) + key.private_bytes(encoding, form, none))
            context.load_cert_chain(pem)
        plain = socket.create_connection(("127.0.0.1", azure.ports["mqtts"]), 5)
        self.tls = context.wrap_socket(plain, server_hostname=server)

    def says(self, *packets: bytes) -> bytes:
        """What comes back until the connection ends, or half a second."""
        self.tls.sendall(b"".join(packets))
        self.tls.settimeout(0.5)
        found = b""
        try:
            while piece := self.tls.recv(4096):
                found += piece
            found += b"|closed"
        except TimeoutError:
            pass
        return found

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: Any) -> None:
        self.tls.close()


def text(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def raw(first: int, body: bytes) -> bytes:
    assert len(body) < 128 * 128
    size = bytes((len(body),)) if len(body) < 128 else bytes((len(body) & 127 | 128, len(body) >> 7))
    return bytes((first,)) + size + body


def connect(user: str | None = None, name: str = UNIT_ID, level: int = 4, keep_alive: int = 60) -> bytes:
    user = f"{HUB}/{name}/?api-version=2021-04-12" if user is None else user
    head = text("MQTT") + bytes((level, 0x82)) + keep_alive.to_bytes(2, "big")
    return raw(0x10, head + text(name) + text(user))


def publish(topic: str, payload: bytes = b"{}", flags: int = 2) -> bytes:
    return raw(0x30 | flags, text(topic) + b"\0\x07" + payload)


def subscribe(*topics: str, qos: int = 1) -> bytes:
    return raw(0x82, b"\0\x09" + b"".join(text(topic) + bytes((qos,)) for topic in topics))


ACCEPTED = b"\x20\x02\0\0"
REFUSED = b"\x20\x02\0\x05|closed"
EVENTS = f"devices/{UNIT_ID}/messages/events/"

BREACHES: list[tuple[str, list[bytes], str]] = [
    ("QoS 2", [publish(EVENTS, flags=4)], "QoS 2"),
    ("another device's topic", [publish("devices/other/messages/events/")], "other"),
    ("a topic of one's own", [publish("kobler/x/telemetry")], "kobler"),
    ("a bag that is none", [publish(EVENTS + "colour")], "property"),
    ("an unknown system property", [publish(EVENTS + "%24.colour=red")], "system"),
    ("a request without id", [publish("$iothub/twin/GET/")], "GET"),
    ("an answer to nothing", [publish("$iothub/methods/res/200/?$rid=9")], "no method"),
    ("a foreign subscription", [subscribe("devices/other/messages/devicebound/#")], "subscription"),
    ("all subscriptions", [subscribe("#")], "subscription"),
    ("a second CONNECT", [connect()], "second"),
    ("a packet of a server", [b"\x20\x02\0\0"], "type 2"),
]


@pytest.mark.parametrize(("packets", "why"), [b[1:] for b in BREACHES], ids=[b[0] for b in BREACHES])
def test_who_breaks_a_rule_is_disconnected(
    azure: Azure, ca: Ca, tmp_path: Path, packets: list[bytes], why: str
) -> None:
    with Raw(azure, tmp_path, ca) as client:
        assert client.says(connect(), *packets).endswith(b"|closed")
    assert len(azure.violations) == 1 and why in azure.violations[0]


@pytest.mark.parametrize(
    ("packet", "name", "answer"),
    [
        (connect(), UNIT_ID, ACCEPTED),
        (connect(), None, REFUSED),
        (connect(), "other", REFUSED),
        (connect(name="other", user=f"{HUB}/other/?api-version=2021-04-12"), "other", REFUSED),
        (connect(user=f"{HUB}/{UNIT_ID}/?api-version=2011-01-01"), UNIT_ID, REFUSED),
        (connect(user=f"{HUB}/{UNIT_ID}/"), UNIT_ID, REFUSED),
        (connect(user=f"{OTHER}/{UNIT_ID}/?api-version=2021-04-12"), UNIT_ID, REFUSED),
        (connect(level=5), UNIT_ID, b"\x20\x02\0\x01|closed"),
    ],
    ids=["right", "no certificate", "other name", "unknown", "version", "no version", "other hub", "MQTT 5"],
)
def test_who_is_let_in(azure: Azure, ca: Ca, tmp_path: Path, packet: bytes, name: str | None, answer: bytes) -> None:
    with Raw(azure, tmp_path, ca, name=name) as client:
        assert client.says(packet) == answer


def test_limits_that_do_not_end_the_connection(azure: Azure, hub: Hub, ca: Ca, tmp_path: Path) -> None:
    with Raw(azure, tmp_path, ca) as client:
        assert client.says(connect(), subscribe("$iothub/twin/res/#", qos=2)) == ACCEPTED + b"\x90\x03\0\x09\x01"
        assert client.says(publish(EVENTS + "a=b", b"1", flags=3)) == b"\x40\x02\0\x07"
        assert hub.event(lambda _, __: True) == ({"a": "b", "mqtt-retain": "true"}, 1)
        report = "$iothub/twin/PATCH/properties/reported/?$rid=1"
        assert b"/res/400/?$rid=1" in client.says(publish(report, b'{"a.b": 1}'))
        assert b"/res/204/?$rid=1&$version=2" in client.says(publish(report, b'{"a": 1}'))
        with Raw(azure, tmp_path, ca) as rival:
            assert rival.says(connect()) == ACCEPTED
            assert client.says(b"\xc0\0").endswith(b"|closed") and hub.kicked == 1
    assert not azure.violations


def test_silence_ends_a_connection_after_one_and_a_half_keep_alives(azure: Azure, ca: Ca, tmp_path: Path) -> None:
    with Raw(azure, tmp_path, ca) as client:
        began = time.monotonic()
        assert client.says(connect(keep_alive=1)) == ACCEPTED
        while not client.says().endswith(b"|closed"):
            assert time.monotonic() - began < 5
        assert time.monotonic() - began > 1.3
    assert azure.dropped


def test_properties_that_a_hub_takes() -> None:
    deep: Any = 1
    for _ in range(12):
        deep = {"a": deep}
    for fit in ({}, {"a": None}, {"a": [1, {"b": 1}]}, {"ä": "x" * 4096}, {"n": MAX_INTEGER}, deep["a"]):
        assert unfit(fit) is None, fit
    for bad in ({"a.b": 1}, {"$x": 1}, {"a b": 1}, {"a": {"": 1}}, {"s": "x" * 4097}, {"n": 2**52 + 1}, deep):
        assert unfit(bad), bad
