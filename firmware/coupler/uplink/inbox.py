# What comes down: desired properties, methods and the store's acknowledgements, each checked before anyone sees it.
import asyncio
import json

from coupler.const import const

# What a dialect makes of a message
TAKEN = const(0)  # it was for the dialect itself; the value is what went wrong, or None
DESIRED = const(1)
METHOD = const(2)
STORED = const(3)

_AT_ONCE = const(4)  # methods that may be under way
_TIMEOUT_S = const(30)
_RECENT = const(8)


class Inbox:
    """Who can act sets desired(dict) and call(method name, arguments), a coroutine that gives (status, answer)."""

    def __init__(self, session):
        self._session = session
        self._under_way = 0
        self._recent = []  # topics of the last methods
        self.desired = None
        self.call = None

    def message(self, topic, payload, again=False):
        """again: the broker has sent it before, and may not know that it came. A method is not run twice for that."""
        session = self._session
        try:
            content = session.dialect.incoming(topic, payload)
        # Nested too deep, or more than the heap holds: it must not end the link, or the broker sends it for ever.
        except (ValueError, RuntimeError, MemoryError) as e:
            session.count["refused"] += 1
            request_id = session.dialect.request_id(topic)
            if request_id is not None:
                self._answer(400, request_id, {"error": "the arguments are not JSON: %s" % e})
            return
        if content is None:
            session.count["refused"] += 1
            return
        kind, value, name, request_id = content
        if kind == STORED:
            session.outbox.stored(value)
            session.wake()
        elif kind == TAKEN:
            if value:
                session.count["refused"] += 1
                session.status["text"] = value
        elif kind == DESIRED:
            if self.desired:
                self.desired(value)
        elif again and topic in self._recent:
            pass
        elif not self.call:
            self._answer(404, request_id, {"error": "no method %s" % name})
        elif self._under_way >= _AT_ONCE:
            self._answer(429, request_id, {"error": "%d methods are under way: ask again later" % _AT_ONCE})
        else:
            self._recent = self._recent[1 - _RECENT :] + [topic]
            self._under_way += 1
            asyncio.create_task(self._run(self.call, name, value, request_id))

    async def _run(self, call, name, arguments, request_id):
        try:
            status, answer = await asyncio.wait_for(call(name, arguments), _TIMEOUT_S)
        except asyncio.TimeoutError:
            status, answer = 504, {"error": "%s took more than %d s" % (name, _TIMEOUT_S)}
        except Exception as e:  # noqa: BLE001 - a method that fails is answered, and never ends the link
            status, answer = 500, {"error": "%s: %s" % (type(e).__name__, e)}
        finally:
            self._under_way -= 1
        try:
            self._answer(status, request_id, answer)
        except MemoryError:
            self._answer(500, request_id, {"error": "no memory for the answer of %s" % name})

    def _answer(self, status, request_id, answer):
        session = self._session
        if not session.post(session.dialect.result(status, request_id), json.dumps(answer).encode()):
            session.count["answers_lost"] += 1
