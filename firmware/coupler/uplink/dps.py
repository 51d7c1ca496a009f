# Azure's Device Provisioning Service: tells a unit with an X.509 certificate which hub is its own (api-version
# 2019-03-31 over MQTT). Registration id, device id and the certificate's common name are all the unit's id.
import asyncio
import json

from coupler.const import const
from coupler.net.errors import NetError

_PAUSE_S = const(3)  # where the service does not say how long
_PAUSE_MAX_S = const(120)
_REQUESTS = const(40)
_TOPIC = "$dps/registrations/"

SUBSCRIPTION = _TOPIC + "res/#"


class Registration:
    """Sans-IO: publish what request() gives, feed incoming(), wait for `pause` seconds and again, until hub is set."""

    def __init__(self, device_id, scope):
        self.client_id = device_id
        self.user = "%s/registrations/%s/api-version=2019-03-31" % (scope, device_id)
        self.hub = None
        self.pause = 0
        self._operation = None
        self._count = 0

    def request(self):
        """(topic, payload)"""
        self._count += 1
        if self._count > _REQUESTS:
            _fail("it does not come to an end")
        if self._operation:
            what = "GET/iotdps-get-operationstatus/?$rid=%d&operationId=%s" % (self._count, self._operation)
            return _TOPIC + what, b""
        payload = json.dumps({"registrationId": self.client_id}).encode()
        return _TOPIC + "PUT/iotdps-register/?$rid=%d" % self._count, payload

    def incoming(self, topic, payload):
        """Whether this is the answer to the last request. NetError("dps") when the service refuses the unit."""
        head, _, query = topic.partition("/?")
        given = {}
        for pair in query.split("&"):
            name, _, value = pair.partition("=")
            given[name] = value
        if not head.startswith(_TOPIC + "res/") or given.get("$rid") != str(self._count):
            return False
        status = head[23:]
        try:
            content = json.loads(payload)
            self._answer(int(status), content, content.get("status"))
        except (ValueError, KeyError, TypeError, AttributeError):
            _fail("malformed answer %s" % status)
        pause = given.get("retry-after", "")
        self.pause = min(int(pause) if pause.isdigit() else _PAUSE_S, _PAUSE_MAX_S)
        return True

    def _answer(self, status, content, state):
        if status == 429 or status >= 500:
            return  # the same request again
        if status >= 300 or state not in ("assigning", "assigned"):
            found = content.get("registrationState") or content
            _fail("%d %s: %s" % (status, state or "", found.get("errorMessage") or found.get("message")))
        if state == "assigning":
            self._operation = content["operationId"]
            return
        found = content["registrationState"]
        if found["deviceId"] != self.client_id:
            _fail("the device id is %s; leave it empty in the enrolment" % found["deviceId"])
        self.hub = found["assignedHub"]


def _fail(text):
    raise NetError("dps", "the provisioning service: " + text)


async def register(hal, cloud, identity, stage, bus=None):
    """The assigned hub's name. cloud: where the service is, and the scope. NetError."""
    from coupler.net.dial import dial
    from coupler.net.resolve import resolve
    from coupler.uplink.errors import ProtocolError
    from coupler.uplink.link import Link

    faults = []
    try:
        addresses = await resolve(hal, cloud["host"])
        stream, ip, _ = await dial(hal, addresses, cloud["port"], Link.tcp_ms, faults.append)
    finally:
        del dial
        hal.forget("coupler.net.dial")
    if not stream:
        raise faults[-1]
    task = Registration(identity["id"], cloud["scope"])
    link = Link(hal, dict(cloud, path="/$iothub/websocket"), identity, bus)
    try:
        await _talk(link, ip, stream, stage, task)
    except ProtocolError as e:
        _fail(str(e))
    except asyncio.TimeoutError:
        _fail("no answer in %d ms" % link.tls_ms)
    finally:
        await link.close()
    return task.hub


async def _talk(link, ip, stream, stage, task):
    from coupler.uplink import mqtt

    client = mqtt.Mqtt(task.client_id, 300, max_packet=2048, user=task.user, clean=True)
    events = []

    async def event(*wanted):
        # The next event of these kinds.
        while True:
            while events:
                found = events.pop(0)
                if found[0] == mqtt.REPLY:
                    await link.write(link.frame(found[1]))
                elif found[0] in wanted:
                    return found
            replies = []
            await link.receive(lambda view: events.extend(client.receive(view)), replies.append)
            for reply in replies:
                await link.write(reply)

    async def within(*wanted):
        return await asyncio.wait_for(event(*wanted), link.tls_ms / 1000)

    await link.open(ip, stage, client.connect(), stream)
    stage("registering")
    await within(mqtt.CONNECTED)
    await link.write(link.frame(client.subscribe([SUBSCRIPTION])))
    if 128 in (await within(mqtt.SUBSCRIBED))[1]:
        _fail("it refused the subscription")
    while True:
        stage("registering")
        topic, payload = task.request()
        await link.write(link.frame(client.publish(topic, payload)))
        while True:
            _, topic, payload = await within(mqtt.MESSAGE, mqtt.REPEATED)
            if task.incoming(topic, payload):
                break
        if task.hub:
            break
        await asyncio.sleep(task.pause)
    await link.write(link.frame(client.disconnect()))
