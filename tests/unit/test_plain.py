"""The plain dialect's topics, both ways, as written in the contract."""

import json

from check import raises
from coupler.uplink.plain import DESIRED, METHOD, STORED, Plain

P = Plain("246f28aabbcc")


def test_topics_up():
    assert P.telemetry == "kobler/246f28aabbcc/telemetry"
    assert P.presence == "kobler/246f28aabbcc/presence"
    assert P.reported == "kobler/246f28aabbcc/reported"
    assert P.result(404, "r-1") == "kobler/246f28aabbcc/result/404/r-1"


def test_only_topics_under_the_own_id_are_subscribed_and_the_stores_only_if_it_counts():
    assert P.subscriptions("broker") == ["kobler/246f28aabbcc/desired", "kobler/246f28aabbcc/method/+/+"]
    assert P.subscriptions("store")[2:] == ["kobler/246f28aabbcc/ack"]


def test_presence_says_state_boot_and_firmware():
    got = json.loads(P.state("online", {"boot": 3, "firmware": "0.1.0"}))
    assert got == {"state": "online", "boot": 3, "firmware": "0.1.0"}


def test_what_comes_down_is_told_apart():
    root = "kobler/246f28aabbcc/"
    assert P.incoming(root + "desired", b'{"a": 1}') == (DESIRED, {"a": 1}, None, None)
    assert P.incoming(root + "method/read/7f", b'{"point": "x"}') == (METHOD, {"point": "x"}, "read", "7f")
    assert P.incoming(root + "method/identify/1", b"") == (METHOD, None, "identify", "1")
    assert P.incoming(root + "ack", b'{"seq": 12}') == (STORED, 12, None, None)


def test_other_topics_are_nothing():
    for topic in (
        "kobler/246f28aabbcc/telemetry",
        "kobler/246f28aabbcc/desired/x",
        "kobler/246f28aabbcc/method/read",
        "kobler/246f28aabbcc/method/read/1/2",
        "kobler/other/desired",
        "x",
    ):
        assert P.incoming(topic, b"{}") is None


def test_payloads_that_are_not_what_the_topic_asks_for_are_refused():
    root = "kobler/246f28aabbcc/"
    for topic, payload in (
        ("desired", b"[]"),
        ("desired", b"nope"),
        ("desired", b"\xff"),
        ("desired", b""),
        ("ack", b"{}"),
        ("ack", b'{"seq": "1"}'),
        ("ack", b'{"seq": true}'),
        ("ack", b'{"seq": null}'),
        ("method/read/1", b"nope"),
    ):
        raises(ValueError, P.incoming, root + topic, payload)
    assert P.request_id(root + "method/read/1") == "1" and P.request_id(root + "desired") is None
