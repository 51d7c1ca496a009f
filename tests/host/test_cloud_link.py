"""The whole cloud link on the real MicroPython and on CPython, against a real broker with client certificates."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from uplink_world import INTERPRETERS, UNIT_ID, Broker, Ca, Loop, free_port, unit

ROOT = f"kobler/{UNIT_ID}"

both = pytest.mark.parametrize("interpreter", INTERPRETERS)


@pytest.fixture(scope="module")
def brokers(loop: Loop, ca: Ca) -> Iterator[dict[str, Broker]]:
    found = {scheme: Broker(loop, ca.context(), scheme) for scheme in ("wss", "mqtts")}
    yield found
    for broker in found.values():
        broker.stop()


@both
@pytest.mark.parametrize("scheme", ["wss", "mqtts"])
def test_samples_arrive_in_order_and_presence_is_kept(
    brokers: dict[str, Broker], files: Path, interpreter: str, scheme: str
) -> None:
    broker = brokers[scheme]
    broker.drain()
    with unit(interpreter, files, {"port": broker.port, "scheme": scheme}, period_ms=5, until={"acked": 100}) as one:
        assert broker.next(ROOT + "/presence") == {"state": "online", "boot": 7, "firmware": "test"}
        assert broker.next(ROOT + "/reported") == {"revision": "abc"}
        assert broker.retained(ROOT + "/presence")["state"] == "online"
        records: list[dict[str, object]] = []
        while len(records) < 100:
            pack = broker.next(ROOT + "/telemetry")
            assert pack[0]["bn"] == f"urn:dev:kobler:{UNIT_ID}:"
            records += pack
        assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
        assert [r["v"] for r in records] == list(range(len(records)))
        end = one.ended()
        assert end["status"]["state"] == "stopped" and end["status"]["count"]["connects"] == 1
        if interpreter == "micropython":  # where the handshake's arithmetic stops the loop
            assert end["turns"] >= 1 and end["status"]["count"]["stalled_ms"] > 0, "no frame is on the serial bus then"
        assert broker.next(ROOT + "/presence")["state"] == "offline", "the goodbye"


@both
def test_a_unit_that_dies_leaves_its_will(brokers: dict[str, Broker], files: Path, interpreter: str) -> None:
    broker = brokers["wss"]
    broker.drain()
    with unit(interpreter, files, {"port": broker.port}) as one:
        one.acked(1)
        assert broker.next(ROOT + "/presence")["state"] == "online"
    assert broker.next(ROOT + "/presence") == {"state": "offline", "boot": 7, "firmware": "test"}
    assert broker.retained(ROOT + "/presence")["state"] == "offline"


@both
def test_methods_are_answered_over_the_same_link(brokers: dict[str, Broker], files: Path, interpreter: str) -> None:
    broker = brokers["wss"]
    broker.drain()
    with unit(interpreter, files, {"port": broker.port}) as one:
        one.acked(3)
        broker.publish(f"{ROOT}/method/read/r1", b'{"point": "power"}')
        assert broker.next(f"{ROOT}/result/200/r1") == {"method": "read", "got": {"point": "power"}}
        broker.publish(f"{ROOT}/method/read/r2", b"{nonsense")
        assert "JSON" in broker.next(f"{ROOT}/result/400/r2")["error"]


@both
def test_with_the_stores_acknowledgement_the_cursor_waits_for_the_store(
    brokers: dict[str, Broker], files: Path, interpreter: str
) -> None:
    broker = brokers["wss"]
    broker.drain()
    with unit(interpreter, files, {"port": broker.port, "ack": "store"}, samples=50) as one:
        seen = 0
        while seen < 50:
            seen = broker.next(ROOT + "/telemetry")[-1]["seq"]
        broker.publish(f"{ROOT}/ack", b'{"seq": 20}')
        assert one.acked(1)["acked"] == 20
        broker.publish(f"{ROOT}/ack", b'{"seq": 999999}')
        assert one.acked(21)["acked"] == 50, "what was never sent cannot be in the store"


@both
def test_a_broker_that_restarts_gets_everything_once_it_is_back(
    loop: Loop, ca: Ca, files: Path, interpreter: str
) -> None:
    broker = Broker(loop, ca.context())
    try:
        with unit(interpreter, files, {"port": broker.port}, period_ms=10, until={"acked": 150}) as one:
            one.acked(20)
            broker.stop()
            lost = one.until(lambda r: r["status"]["error"] == "tcp")
            assert "ECONNREFUSED" in lost["status"]["text"]
            broker.start()
            assert one.ended()["status"]["count"]["connects"] == 2
            # amqtt acknowledges before it hands on, so what it did with the last samples it took is its own affair.
            wanted = set(range(lost["acked"] + 1, 151))
            while wanted:
                wanted -= {record["seq"] for record in broker.next(ROOT + "/telemetry")}
    finally:
        broker.stop()


@both
def test_an_unknown_authority_is_named(brokers: dict[str, Broker], ca: Ca, tmp_path: Path, interpreter: str) -> None:
    files = ca.unit(tmp_path / "unit", trusting=Ca(tmp_path / "other", "Other CA"))
    with unit(interpreter, files, {"port": brokers["wss"].port}) as one:
        assert "localhost" in one.fails_with("tls-authority")
        one.until(lambda r: r["status"]["count"]["attempts"] >= 2)


@both
def test_a_certificate_for_another_name_is_named(loop: Loop, ca: Ca, files: Path, interpreter: str) -> None:
    broker = Broker(loop, ca.context(ca.server("example.com")))
    try:
        with unit(interpreter, files, {"port": broker.port}) as one:
            assert "another name" in one.fails_with("tls-name")
    finally:
        broker.stop()


@both
@pytest.mark.parametrize(("days", "words"), [((-5, -1), "expired"), ((1, 5), "not yet valid")])
def test_a_certificate_out_of_its_time_is_named(
    loop: Loop, ca: Ca, files: Path, interpreter: str, days: tuple[int, int], words: str
) -> None:
    broker = Broker(loop, ca.context(ca.server("localhost", days)))
    try:
        with unit(interpreter, files, {"port": broker.port}) as one:
            assert words in one.fails_with("tls-clock")
    finally:
        broker.stop()


@both
def test_a_unit_that_the_broker_does_not_trust_is_told_so(
    brokers: dict[str, Broker], ca: Ca, tmp_path: Path, interpreter: str
) -> None:
    files = Ca(tmp_path / "other", "Other CA").unit(tmp_path / "unit", trusting=ca)
    with unit(interpreter, files, {"port": brokers["wss"].port}) as one:
        assert "refused" in one.fails_with("tls-refused")


@both
def test_a_broker_that_is_not_there_is_named_and_tried_again_ever_more_slowly(files: Path, interpreter: str) -> None:
    with unit(interpreter, files, {"port": free_port()}, until={"attempts": 6}, base_ms=20, cap_ms=100) as one:
        assert "127.0.0.1" in one.fails_with("tcp")
        assert one.ended()["status"]["count"]["failures"] >= 6


@both
def test_a_name_that_no_server_knows_is_named(files: Path, interpreter: str) -> None:
    with unit(interpreter, files, {"port": 1, "host": "broker.invalid"}) as one:
        assert "no DNS server" in one.fails_with("dns")
