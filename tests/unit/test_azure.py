"""The Azure dialect: topics both ways, desired properties by their version; and registration with DPS."""

import json

from check import raises
from coupler.net.errors import NetError
from coupler.uplink.azure import Azure
from coupler.uplink.dps import Registration
from coupler.uplink.inbox import DESIRED, METHOD, STORED, TAKEN

CLOUD = {"host": "hub.example", "port": 443, "scheme": "wss", "path": "/", "dialect": "azure", "ack": "broker"}
PATCH = "$iothub/twin/PATCH/properties/desired/?$version=%d"
BAG = "%24.ct=application%2Fjson&%24.ce=utf-8"
NOTHING = (TAKEN, None, None, None)


def azure(**more):
    cloud = dict(CLOUD)
    cloud.update(more)
    return Azure("u1", cloud)


def connected(a=None):
    """A dialect whose subscriptions hold, and the id of its request for the twin."""
    a = a or azure()
    a.subscriptions("broker")
    return a, rid(a.due(None))


def rid(requests):
    ((topic, payload),) = requests
    assert topic.startswith("$iothub/twin/GET/?$rid=") and payload == b""
    return topic[23:]


def whole(dialect, request, version, **desired):
    desired["$version"] = version
    payload = json.dumps({"desired": desired, "reported": {"x": 1, "$version": 9}}).encode()
    return dialect.incoming("$iothub/twin/res/200/?$rid=" + request, payload)


def patch(dialect, version, **desired):
    desired["$version"] = version
    return dialect.incoming(PATCH % version, json.dumps(desired).encode())


def test_who_it_is_and_where_it_connects():
    a = azure()
    assert a.client_id == "u1" and a.user == "hub.example/u1/?api-version=2021-04-12"
    assert a.cloud["path"] == "/$iothub/websocket" and a.cloud["host"] == "hub.example" and not a.retain
    assert CLOUD["path"] == "/", "the configuration stays as it is"


def test_topics_up():
    a = azure()
    assert a.telemetry == "devices/u1/messages/events/" + BAG
    assert a.presence == "devices/u1/messages/events/kind=presence&" + BAG
    assert a.reported == "$iothub/twin/PATCH/properties/reported/?$rid=r1"
    assert a.reported == "$iothub/twin/PATCH/properties/reported/?$rid=r2", "another request each time"
    assert a.result(404, "7f") == "$iothub/methods/res/404/?$rid=7f"
    assert json.loads(a.state("online", {"boot": 3, "firmware": "0.1"})) == {
        "state": "online",
        "boot": 3,
        "firmware": "0.1",
    }


def test_reported_properties_have_no_key_that_the_hub_refuses():
    given = {"bus": {"field": {"units": {"ahu.1": [1, 2], "b": {"c.d": None}}}}, "firmware": "0.1.0"}
    assert json.loads(azure().report(given)) == {
        "bus": {"field": {"units": {"ahu_1": [1, 2], "b": {"c_d": None}}}},
        "firmware": "0.1.0",
    }
    assert "ahu.1" in given["bus"]["field"]["units"], "what is reported belongs to others"


def test_five_subscriptions_are_the_limit_and_the_stores_is_there_only_if_it_counts():
    twin = ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"]
    assert azure().subscriptions("broker") == twin
    assert azure().subscriptions("store") == twin + ["devices/u1/messages/devicebound/#"]


def test_methods_come_with_name_and_request_id():
    a = azure()
    topic = "$iothub/methods/POST/%s/?$rid=%s"
    assert a.incoming(topic % ("read", "a1"), b'{"point": "x"}') == (METHOD, {"point": "x"}, "read", "a1")
    assert a.incoming(topic % ("identify", "2"), b"") == (METHOD, None, "identify", "2")
    assert a.incoming(topic % ("identify", "2"), b"null") == (METHOD, None, "identify", "2")
    raises(ValueError, a.incoming, topic % ("read", "3"), b"nope")
    assert a.request_id(topic % ("read", "3")) == "3" and a.request_id(PATCH % 3) is None
    for topic in ("$iothub/methods/POST/read/", "$iothub/methods/POST/read/?$rid="):
        assert a.incoming(topic, b"nope") is None and a.request_id(topic) is None


def test_the_store_acknowledges_by_a_message_of_the_cloud():
    a = azure(ack="store")
    topic = "devices/u1/messages/devicebound/%24.to=%2Fdevices%2Fu1%2Fmessages%2Fdevicebound"
    assert a.incoming(topic, b'{"seq": 12}') == (STORED, 12, None, None)
    for payload in (b"{}", b"[]", b"x", b'{"seq": true}'):
        raises(ValueError, a.incoming, topic, payload)


def test_other_topics_are_nothing():
    a, _ = connected()
    for topic in ("devices/u2/messages/devicebound/", "devices/u1/messages/events/", "$iothub/twin/GET/?$rid=1", "x"):
        assert a.incoming(topic, b"{}") is None


def test_the_twin_is_asked_for_once_the_subscriptions_hold_and_again_while_no_answer_comes():
    a = azure()
    a.subscriptions("broker")
    assert a.due(1000) == (), "an answer would not be heard yet"
    rid(a.due(None))
    waits = []
    for _ in range(7):
        seconds = 0
        while not a.due(1000):
            seconds += 1
        waits.append(seconds + 1)
    assert waits == [20, 40, 80, 160, 320, 600, 600]
    a, request = connected()
    assert whole(a, request, 4)[0] == DESIRED
    for _ in range(1000):
        assert a.due(1000) == ()


def test_a_refused_request_for_the_twin_is_made_again_and_named():
    a, request = connected()
    kind, text, _, _ = a.incoming("$iothub/twin/res/429/?$rid=" + request, b"{}")
    assert kind == TAKEN and "429" in text
    assert a.due(19000) == () and a.due(1000)


def test_a_report_is_acknowledged_or_refused():
    a, _ = connected()
    assert a.incoming("$iothub/twin/res/204/?$rid=r1&$version=5", b"") == NOTHING
    kind, text, _, _ = a.incoming("$iothub/twin/res/400/?$rid=r2", b"{}")
    assert kind == TAKEN and "r2" in text and "400" in text


def test_each_version_of_the_desired_properties_is_handed_on_once():
    a, request = connected()
    assert whole(a, request, 4, a=1) == (DESIRED, {"a": 1}, None, None)
    assert patch(a, 5, a=2) == (DESIRED, {"a": 2}, None, None)
    assert patch(a, 5, a=2) == NOTHING, "sent twice"
    assert patch(a, 4, a=1) == NOTHING
    _, request = connected(a)
    assert whole(a, request, 5, a=2) == NOTHING, "nothing changed while it was away"
    assert patch(a, 6, b=1) == (DESIRED, {"b": 1}, None, None)


def test_what_was_deleted_while_away_is_null():
    a, request = connected()
    whole(a, request, 4, a=1, b={"c": 1, "d": {"e": 1}}, f={"g": 1})
    patch(a, 5, a=None, h=3)
    _, request = connected(a)
    got = whole(a, request, 9, b={"d": {}, "x": 1}, f=2)
    assert got == (DESIRED, {"b": {"d": {"e": None}, "x": 1, "c": None}, "f": 2, "h": None}, None, None)
    _, request = connected(a)
    assert whole(a, request, 10, b={}, f=2)[1] == {"b": {"d": None, "x": None}, "f": 2}


def test_a_patch_that_was_missed_leads_to_a_question_for_the_whole():
    a, request = connected()
    whole(a, request, 4)
    assert patch(a, 6, b=1) == NOTHING
    request = rid(a.due(1000))
    assert whole(a, request, 6, a=1, b=1)[:2] == (DESIRED, {"a": 1, "b": 1})
    assert a.due(1000) == ()


def test_a_patch_that_comes_before_the_whole_waits_for_it():
    a, request = connected()
    assert patch(a, 6, b=1) == NOTHING
    assert whole(a, request, 5, a=1)[:2] == (DESIRED, {"a": 1}), "this answer was on its way already"
    request = rid(a.due(1000))
    assert whole(a, request, 6, a=1, b=1)[:2] == (DESIRED, {"a": 1, "b": 1})
    assert whole(a, request, 5, a=1) == NOTHING, "an answer that was overtaken"
    assert a.due(1000) == ()


def test_a_hub_that_promises_what_it_does_not_have_is_asked_once_more_only():
    a, request = connected()
    patch(a, 1000)
    whole(a, request, 5)
    whole(a, rid(a.due(1000)), 5)
    assert a.due(100000) == ()


def test_a_new_twin_of_the_same_name_begins_again():
    a, request = connected()
    whole(a, request, 40, a=1)
    _, request = connected(a)
    assert whole(a, request, 1) == (DESIRED, {"a": None}, None, None)
    assert patch(a, 2, a=3)[:2] == (DESIRED, {"a": 3})


def test_twins_that_make_no_sense_are_refused_and_change_nothing():
    a, request = connected()
    answer = "$iothub/twin/res/200/?$rid=" + request
    for payload in (b"", b"x", b"[]", b"{}", b'{"desired": 1}', b'{"desired": {}}', b'{"desired": {"$version": "1"}}'):
        raises(ValueError, a.incoming, answer, payload)
    for payload in (b"", b"[]", b"{}", b'{"$version": true}'):
        raises(ValueError, a.incoming, PATCH % 1, payload)
    assert whole(a, request, 1, a=1)[:2] == (DESIRED, {"a": 1})
    assert a.incoming("$iothub/twin/res/200/", b"")[0] == TAKEN


def test_an_assigned_hub_is_used_while_the_scope_is_the_same():
    a = azure(host="dps.example", scope="0ne1")
    assert a.cloud["host"] == "dps.example"
    a.assign("0ne2", "old.example")
    assert a.cloud["host"] == "dps.example"
    a.assign("0ne1", "hub.example")
    assert a.cloud["host"] == "hub.example" and a.user == "hub.example/u1/?api-version=2021-04-12"


def answered(r, status, content, more=""):
    topic, _ = r.request()
    request = topic[topic.find("$rid=") + 5 :].split("&")[0]
    topic = "$dps/registrations/res/%d/?$rid=%s%s" % (status, request, more)
    return r.incoming(topic, json.dumps(content).encode())


ASSIGNED = {
    "operationId": "4.op",
    "status": "assigned",
    "registrationState": {"assignedHub": "hub.example", "deviceId": "u1"},
}


def test_registration_polls_as_often_as_it_is_told_until_a_hub_is_assigned():
    r = Registration("u1", "0ne1")
    assert r.client_id == "u1" and r.user == "0ne1/registrations/u1/api-version=2019-03-31"
    topic, payload = r.request()
    assert topic == "$dps/registrations/PUT/iotdps-register/?$rid=1"
    assert json.loads(payload) == {"registrationId": "u1"}
    assigning = b'{"operationId": "4.op", "status": "assigning"}'
    assert not r.incoming("$dps/registrations/res/202/?$rid=7&retry-after=9", assigning), "of another request"
    assert not r.incoming("other", b"")
    assert r.incoming("$dps/registrations/res/202/?$rid=1&retry-after=9", assigning)
    assert r.hub is None and r.pause == 9
    assert r.request()[0] == "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=2&operationId=4.op"
    assert answered(r, 202, {"operationId": "4.op", "status": "assigning"}) and r.pause == 3, "it did not say how long"
    assert answered(r, 200, ASSIGNED) and r.hub == "hub.example"


def test_registration_asks_again_when_the_service_is_busy_but_not_for_ever():
    r = Registration("u1", "0ne1")
    assert answered(r, 429, {"errorCode": 429001}, "&retry-after=86400") and r.pause == 120
    assert answered(r, 500, {}) and "iotdps-register" in r.request()[0]
    for _ in range(37):
        answered(r, 503, {})
    assert "end" in str(raises(NetError, r.request))


def test_registration_says_why_it_failed():
    state = {"errorCode": 400207, "errorMessage": "custom words"}
    other = dict(ASSIGNED)
    other["registrationState"] = {"assignedHub": "hub.example", "deviceId": "boiler"}
    for status, content, words in (
        (401, {"errorCode": 401002, "message": "Unauthorized"}, "Unauthorized"),
        (200, {"operationId": "1", "status": "failed", "registrationState": state}, "custom words"),
        (200, {"operationId": "1", "status": "disabled"}, "disabled"),
        (200, other, "boiler"),
        (200, [], "malformed"),
        (200, {"status": "assigned"}, "malformed"),
        (202, {"status": "assigning"}, "malformed"),
    ):
        error = raises(NetError, answered, Registration("u1", "0ne1"), status, content)
        assert error.kind == "dps" and words in str(error), error
