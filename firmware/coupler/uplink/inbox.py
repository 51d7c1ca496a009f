# What comes down: desired properties, methods and the store's acknowledgements, each checked before anyone sees it.
import json

from coupler.uplink import plain


class Inbox:
    """desired(dict) and call(method name, arguments) -> (status, answer) are set by who can act on them."""

    def __init__(self, session):
        self._session = session
        self.desired = None
        self.call = None

    def message(self, topic, payload):
        session = self._session
        try:
            content = session.dialect.incoming(topic, payload)
        except (ValueError, RuntimeError) as e:  # RuntimeError: nested too deep
            session.count["refused"] += 1
            request_id = session.dialect.request_id(topic)
            if request_id is not None:
                self._answer(400, request_id, {"error": "the arguments are not JSON: %s" % e})
            return
        if content is None:
            session.count["refused"] += 1
            return
        kind, value, name, request_id = content
        if kind == plain.STORED:
            session.outbox.stored(value)
            session.wake()
        elif kind == plain.DESIRED:
            if self.desired:
                self.desired(value)
        else:
            status, answer = self._call(name, value)
            self._answer(status, request_id, answer)

    def _call(self, name, arguments):
        if not self.call:
            return 404, {"error": "no method %s" % name}
        try:
            return self.call(name, arguments)
        except Exception as e:  # noqa: BLE001 - a method that fails is answered, and never ends the link
            return 500, {"error": "%s: %s" % (type(e).__name__, e)}

    def _answer(self, status, request_id, answer):
        session = self._session
        if not session.post(session.dialect.result(status, request_id), json.dumps(answer).encode()):
            session.count["answers_lost"] += 1
