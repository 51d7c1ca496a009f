# The plain dialect: which topic carries what on a broker of one's own. The Azure dialect has the same methods.
import json

from coupler.uplink.inbox import DESIRED, METHOD, STORED


class Plain:
    user = None
    retain = True
    max_packet = 4096
    prepare = None  # what is to be done before each attempt
    due = None  # what the dialect has to publish itself, see the Azure dialect

    def __init__(self, device_id, cloud=None):
        self.id = self.client_id = device_id
        self.cloud = cloud
        self._root = "kobler/" + device_id + "/"
        self.telemetry = self._root + "telemetry"
        self.presence = self._root + "presence"
        self.reported = self._root + "reported"

    def subscriptions(self, ack):
        """ack: who moves the cursor, "broker" or "store"."""
        topics = [self._root + "desired", self._root + "method/+/+"]
        if ack == "store":
            topics.append(self._root + "ack")
        return topics

    def state(self, state, info):
        """The payload of presence; state: online or offline."""
        return json.dumps({"state": state, "boot": info.get("boot", 0), "firmware": info.get("firmware", "")}).encode()

    def report(self, properties):
        return json.dumps(properties).encode()

    def incoming(self, topic, payload):
        """(DESIRED, object, None, None), (METHOD, arguments, name, request id), (STORED, seq, None, None), None.

        ValueError when the payload is not what the topic asks for."""
        if not topic.startswith(self._root):
            return None
        parts = topic[len(self._root) :].split("/")
        if parts[0] == "method" and len(parts) == 3:
            return METHOD, json.loads(payload) if payload else None, parts[1], parts[2]
        if len(parts) != 1 or parts[0] not in ("desired", "ack"):
            return None
        content = json.loads(payload)
        if not isinstance(content, dict):
            raise ValueError("not an object")
        if parts[0] == "desired":
            return DESIRED, content, None, None
        seq = content.get("seq")
        if not isinstance(seq, int) or isinstance(seq, bool):
            raise ValueError("seq is not a number")
        return STORED, seq, None, None

    def request_id(self, topic):
        """Of a method's topic, so that a malformed request can be answered; None for other topics."""
        parts = topic[len(self._root) :].split("/")
        return parts[2] if topic.startswith(self._root) and parts[0] == "method" and len(parts) == 3 else None

    def result(self, status, request_id):
        return "%sresult/%d/%s" % (self._root, status, request_id)
