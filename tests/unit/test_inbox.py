"""Methods and desired properties that come down: who gets them, and what goes back."""

import asyncio
import json

from test_session import session


def answered(s, topic, payload):
    posted = []
    s.post = lambda topic, payload, retain=False: posted.append((topic, json.loads(payload))) or True

    async def whole():
        s.inbox.message(topic, payload)
        for _ in range(5):
            await asyncio.sleep(0)

    asyncio.run(whole())
    return posted


def test_methods_are_answered_and_one_that_fails_harms_nobody():
    s = session()
    assert answered(s, "kobler/id/method/read/7", b"{}") == [("kobler/id/result/404/7", {"error": "no method read"})]

    async def echo(name, arguments):
        return 200, [name, arguments]

    async def broken(name, arguments):
        1 // 0

    s.inbox.call = echo
    assert answered(s, "kobler/id/method/read/7", b'{"a": 1}') == [("kobler/id/result/200/7", ["read", {"a": 1}])]
    s.inbox.call = broken
    topic, answer = answered(s, "kobler/id/method/read/7", b"")[0]
    assert topic == "kobler/id/result/500/7" and "ZeroDivisionError" in answer["error"]
    assert answered(s, "kobler/id/method/read/8", b"nope")[0][0] == "kobler/id/result/400/8"
    assert s.count["refused"] == 1


def test_what_the_broker_sends_again_is_not_done_again():
    s = session()
    done = []

    async def call(name, arguments):
        done.append(name)
        return 200, {}

    s.inbox.call = call

    def come(number, again):
        async def whole():
            s.inbox.message("kobler/id/method/write/%d" % number, b"{}", again)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        asyncio.run(whole())
        return len(done)

    assert come(1, False) == 1
    assert come(1, True) == 1
    assert come(2, True) == 2, "it did not come before"
    assert come(1, False) == 3, "a number that is used again is another request"
    for number in range(10, 20):
        come(number, False)
    assert len(s.inbox._recent) == 8


def test_only_so_many_methods_run_at_once():
    s = session()
    posted = []
    s.post = lambda topic, payload, retain=False: posted.append(topic) or True

    async def whole():
        gate = asyncio.Event()

        async def waits(name, arguments):
            await gate.wait()
            return 200, {}

        s.inbox.call = waits
        for i in range(6):
            s.inbox.message("kobler/id/method/read/%d" % i, b"{}")
        gate.set()
        for _ in range(9):
            await asyncio.sleep(0)

    asyncio.run(whole())
    assert sorted(posted) == [
        "kobler/id/result/%s" % end for end in ("200/0", "200/1", "200/2", "200/3", "429/4", "429/5")
    ]


def test_desired_properties_reach_who_wants_them_and_nonsense_does_not():
    s = session()
    got = []
    assert answered(s, "kobler/id/desired", b'{"a": 1}') == []
    s.inbox.desired = got.append
    answered(s, "kobler/id/desired", b'{"a": 1}')
    answered(s, "kobler/id/desired", b"[1]")
    answered(s, "kobler/other/desired", b'{"a": 2}')
    assert got == [{"a": 1}] and s.count["refused"] == 2


def test_a_message_that_the_heap_cannot_hold_is_refused_once_and_for_all():
    s = session()

    def full(topic, payload):
        raise MemoryError()

    s.dialect.incoming = full
    assert answered(s, "kobler/id/method/read/9", b"[" * 4000)[0][0] == "kobler/id/result/400/9"
    assert answered(s, "kobler/id/desired", b"[" * 4000) == [] and s.count["refused"] == 2
