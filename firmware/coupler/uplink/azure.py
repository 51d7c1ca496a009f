# The Azure IoT Hub dialect: the verbs of the plain dialect on the hub's topics, and what the hub asks of its devices.
# Which hub is this unit's comes from the configuration, or from the provisioning service if there is a scope.
import json

from coupler.const import const
from coupler.uplink.inbox import DESIRED, METHOD, STORED, TAKEN

_RETRY_MS = const(20000)  # between requests for the twin while it does not come, twice as long each time,
_RETRY_MAX_MS = const(600000)  # up to this
_TRIES = const(8)  # attempts in a row without a connection, until the provisioning service is asked again

_METHODS = "$iothub/methods/POST/"
_ANSWERS = "$iothub/twin/res/"
_PATCHES = "$iothub/twin/PATCH/properties/desired/"
_JSON = "%24.ct=application%2Fjson&%24.ce=utf-8"


class Azure:
    """assigned(scope, hub) is called when the provisioning service has assigned one; give it back to assign()."""

    retain = False  # the hub keeps no messages, it would only mark them
    max_packet = 8192  # the whole twin comes in one

    def __init__(self, device_id, cloud):
        self.id = self.client_id = device_id
        self._service = cloud
        self.cloud = dict(cloud, path="/$iothub/websocket")
        self.assigned = None
        self._tries = 0
        self._version = 0  # $version of the desired properties that were handed on
        self._keys = {}  # theirs, so that what is gone from the whole is known
        self._count = 0
        events = "devices/" + device_id + "/messages/events/"
        self.telemetry = events + _JSON
        self.presence = events + "kind=presence&" + _JSON  # the hub knows it itself too, as the connection's state
        self._bound = "devices/" + device_id + "/messages/devicebound/"
        self._join(None if "scope" in cloud else cloud["host"])

    def _join(self, hub):
        self._hub = hub
        if hub:
            self.cloud["host"] = hub
            self.user = "%s/%s/?api-version=2021-04-12" % (hub, self.id)

    # --- which hub

    def assign(self, scope, hub):
        """What assigned() was called with, at some time: it holds until the hub refuses the unit."""
        if scope == self._service.get("scope"):
            self._join(hub)

    async def prepare(self, hal, identity, stage, error, bus):
        """Before each attempt; error: what ended the last one. NetError."""
        self._tries += 1
        if "scope" not in self._service or self._hub and error != "mqtt-refused" and self._tries <= _TRIES:
            return
        from coupler.uplink import dps

        try:
            hub = await dps.register(hal, self._service, identity, stage, bus)
        finally:
            del dps
            hal.forget("coupler.uplink.dps")
        self._tries = 0
        if hub != self._hub:
            self._join(hub)
            if self.assigned:
                self.assigned(self._service["scope"], hub)

    # --- up

    @property
    def reported(self):
        return self._request("PATCH/properties/reported", "r")

    def _request(self, what, kind):
        self._count += 1
        return "$iothub/twin/%s/?$rid=%s%d" % (what, kind, self._count)

    def state(self, state, info):
        return json.dumps({"state": state, "boot": info.get("boot", 0), "firmware": info.get("firmware", "")}).encode()

    def report(self, properties):
        return json.dumps(_fit(properties)).encode()

    def result(self, status, request_id):
        return "$iothub/methods/res/%d/?$rid=%s" % (status, request_id)

    # --- down

    def subscriptions(self, ack):
        """Called once for each connection: no patch came while there was none."""
        self._tries = 0
        self._synced = False
        self._newest = 0  # a $version that is known to exist
        self._wait = self._pause = _RETRY_MS
        topics = [_ANSWERS + "#", _PATCHES + "#", _METHODS + "#"]
        if ack == "store":
            topics.append(self._bound + "#")
        return topics

    def due(self, ms):
        """What to publish now, (topic, payload); ms since the last call, None: the subscriptions hold from now on."""
        if self._wait is None:
            return ()
        if ms is not None and self._wait > ms:
            self._wait -= ms
            return ()
        self._wait = self._pause
        self._pause = min(_RETRY_MAX_MS, self._pause * 2)
        return ((self._request("GET", "g"), b""),)

    def incoming(self, topic, payload):
        rid = _rid(topic)
        if topic.startswith(_METHODS) and rid:
            return METHOD, json.loads(payload) if payload else None, topic[21:].split("/")[0], rid
        if topic.startswith(_PATCHES):
            return self._patch(_object(json.loads(payload)))
        if topic.startswith(_ANSWERS):
            status = topic[17:].split("/")[0]
            if status == "200" and rid[:1] == "g":
                return self._whole(_object(_object(json.loads(payload)).get("desired")))
            # A refused report is not repeated: the next one is due in a minute. A refused GET is, see due().
            return TAKEN, None if status == "204" else "the hub answered request %s with %s" % (rid, status), None, None
        if topic.startswith(self._bound):
            return STORED, _number(_object(json.loads(payload)), "seq"), None, None
        return None

    def request_id(self, topic):
        return topic.startswith(_METHODS) and _rid(topic) or None

    def _patch(self, patch):
        version = _number(patch, "$version")
        if self._synced and version == self._version + 1:
            return self._desired(patch, version)
        if version > (self._version if self._synced else 0):
            self._newest = version  # some are missing in between: the whole is on its way, or is asked for
            if self._synced:
                self._wait = 0
        return TAKEN, None, None, None

    def _whole(self, desired):
        version = _number(desired, "$version")
        old = self._version
        again = self._synced
        self._synced = True
        self._wait = 0 if version < self._newest else None
        self._newest = 0  # whatever the hub says next is believed
        # Smaller than before is a new twin of the same name, unless it is an answer that was overtaken.
        if version == old or again and version < old:
            return TAKEN, None, None, None
        _add_missing(self._keys, desired)
        self._keys = {}
        return self._desired(desired, version)

    def _desired(self, content, version):
        self._version = version
        for key in [key for key in content if key.startswith("$")]:
            del content[key]
        _note(self._keys, content)
        return DESIRED, content, None, None


def _rid(topic):
    for pair in topic[topic.find("?") + 1 :].split("&"):
        if pair.startswith("$rid="):
            return pair[5:]
    return ""


def _object(content):
    if not isinstance(content, dict):
        raise ValueError("not an object")
    return content


def _number(content, name):
    value = content.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError("%s is not a number" % name)
    return value


def _fit(properties):
    # A hub takes no key with a dot, and names of units may have some.
    if not isinstance(properties, dict):
        return properties
    return {key.replace(".", "_"): _fit(value) for key, value in properties.items()}


def _note(keys, patch):
    # The keys that exist after this merge patch (RFC 7396), without their values.
    for key, value in patch.items():
        if value is None:
            keys.pop(key, None)
        elif isinstance(value, dict):
            if not keys.get(key):
                keys[key] = {}
            _note(keys[key], value)
        else:
            keys[key] = None


def _add_missing(keys, whole):
    # Makes the whole a merge patch: what it has no longer is null in it.
    for key, below in keys.items():
        if key not in whole:
            whole[key] = None
        elif below and isinstance(whole[key], dict):
            _add_missing(below, whole[key])
