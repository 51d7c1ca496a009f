"""What the session does when, and how long it waits: everything but the sockets."""

from check import raises
from coupler.uplink.session import Session
from journal_world import World
from nor import Nor

CLOUD = {"host": "h", "port": 443, "scheme": "wss", "path": "/mqtt", "dialect": "plain", "ack": "broker"}


def session(**cloud):
    merged = dict(CLOUD)
    merged.update(cloud)
    world = World(Nor(4))
    world.hal.random = b""
    return Session(world.hal, merged, {"id": "id"}, world.reader(), {"boot": 1, "firmware": "x"})


def test_the_back_off_doubles_to_its_cap_and_is_spread_over_the_whole_range():
    s = session()
    limits = []
    for failed in range(8):
        s._failed = failed
        s._hal.random = b"\xff\xff"
        limits.append(s.backoff_ms())
        s._hal.random = b"\0\0"
        assert s.backoff_ms() == 0
        s._hal.random = b"\x80\0"
        assert s.backoff_ms() == min(60000, 2000 << failed) // 2
    for got, want in zip(limits, (2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000)):
        assert want - 2 <= got < want
    s._failed = 100000
    assert s.backoff_ms() <= 60000


def test_an_unknown_dialect_is_refused():
    assert "bluemix" in str(raises(ValueError, lambda: session(dialect="bluemix")))


def test_nothing_is_posted_without_a_connection():
    s = session()
    assert s.post("t", b"") is False
    s.report()
    assert s.status["state"] == "idle" and s.status["error"] is None
