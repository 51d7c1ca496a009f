"""What a coupler does for its user, from the bus to the broker, on whatever board this is."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.board

SENML_KEYS = {"bn", "bt", "n", "v", "vs", "vb", "u", "t", "seq", "after", "q", "h"}


def _records(payload: Any) -> list[dict[str, Any]]:
    """SenML resolved as RFC 8428, section 4.6, says: absolute names and times."""
    base: dict[str, Any] = {}
    found = []
    for record in payload:
        base.update({key: record[key] for key in ("bn", "bt") if key in record})
        assert set(record) <= SENML_KEYS, record
        assert len({"v", "vs", "vb"} & set(record)) == 1, record
        found.append(record | {"name": base["bn"] + record["n"], "time": base.get("bt", 0) + record.get("t", 0)})
    return found


def test_presence_is_online_and_says_which_boot_this_is(coupler: Any) -> None:
    presence = coupler.wait(lambda kind, _: kind == "presence")
    assert presence["state"] == "online" and presence["boot"] >= 1 and presence["firmware"]


def test_samples_are_senml_with_rising_numbers_and_the_right_time(coupler: Any) -> None:
    import time

    seen: list[int] = []
    while len(seen) < 10:
        for record in _records(coupler.wait(lambda kind, _: kind == "telemetry")):
            assert record["name"].startswith(f"urn:dev:kobler:{coupler.endpoint['device']}:field/")
            assert abs(record["time"] - time.time()) < 120
            seen.append(record["seq"])
    assert seen == sorted(set(seen))


def test_reported_tells_configuration_bus_and_heap(coupler: Any) -> None:
    reported = coupler.wait(lambda kind, _: kind == "reported")
    assert len(reported["revision"]) == 8 and reported["heap_free"] > 0
    assert set(reported["bus"]) == {"field"} and {"requests", "errors"} <= set(reported["bus"]["field"])


def test_a_technician_at_the_cable_can_look_and_leave(coupler: Any) -> None:
    """mpremote interrupts the firmware; a reset puts it back to work, with a new boot number and rising samples."""
    last = _records(coupler.wait(lambda kind, _: kind == "telemetry"))[-1]["seq"]
    before = coupler.wait(lambda kind, _: kind == "reported")["boot"]
    files = coupler.mpremote("fs", "ls", ":/etc")
    assert "config.json" in files and "key.der" in files
    coupler.mpremote("reset")
    # The broker noticed that the unit was gone: its last will says so, before the unit is back.
    states = []
    while True:
        presence = coupler.wait(lambda kind, _: kind == "presence", 90)
        states.append(presence["state"])
        if presence["state"] == "online" and presence["boot"] > before:
            break
    assert "offline" in states
    record = _records(coupler.wait(lambda kind, _: kind == "telemetry"))[0]
    assert record["seq"] > last


def test_a_unit_that_was_only_interrupted_can_go_on_from_the_repl(coupler: Any) -> None:
    out = coupler.mpremote("exec", "import json; print(json.load(open('/board.json'))['name'])")
    assert out.strip()
    coupler.mpremote("reset")
    coupler.wait(lambda kind, payload: kind == "presence" and payload["state"] == "online", 90)


def test_the_private_key_is_nowhere_in_what_the_unit_sent(coupler: Any) -> None:
    text = coupler.mpremote(
        "exec", "import binascii; print(binascii.hexlify(open('/etc/key.der','rb').read()).decode())"
    )
    # SEC1 ECPrivateKey: SEQUENCE, INTEGER 1, OCTET STRING of 32 bytes.
    key = bytes.fromhex(text.strip())[7:39]
    coupler.mpremote("reset")
    coupler.wait(lambda kind, _: kind == "telemetry", 90)
    for topic, payload in coupler.messages:
        assert key not in payload and key.hex().encode() not in payload, topic
    assert json.loads(coupler.messages[-1][1])
