"""MQTT 3.1.1 as a client must keep it: packets, window, repetition, time, and brokers that break the rules."""

from check import raises
from coupler.uplink import mqtt
from coupler.uplink.errors import ProtocolError
from coupler.uplink.mqtt import Mqtt

CONNACK = b"\x20\x02\0\0"


def client(**options):
    options.setdefault("max_packet", 200)
    c = Mqtt("unit", **options)
    c.connect()
    return c


def connected(**options):
    c = client(**options)
    assert events(c, CONNACK) == [(mqtt.CONNECTED, False, None)]
    return c


def events(c, data, step=0):
    out = []
    for i in range(0, len(data), step or len(data) or 1):
        out += list(c.receive(data[i : i + step] if step else data))
    return out


def publish(topic, payload, qos=0, ident=7, flags=0):
    body = len(topic).to_bytes(2, "big") + topic + (ident.to_bytes(2, "big") if qos else b"") + payload
    size = len(body)
    digits = b""
    while True:
        digits += bytes((size & 127 | (128 if size > 127 else 0),))
        size >>= 7
        if not size:
            break
    return bytes((0x30 | qos << 1 | flags,)) + digits + body


def fails(data, c=None):
    error = raises(ProtocolError, events, c or connected(), data)
    assert error.kind == "mqtt", (error.kind, str(error))
    return str(error)


def test_connect_says_who_we_are_and_keeps_the_session():
    assert Mqtt("ab", keep_alive_s=60).connect() == b"\x10\x0e\0\x04MQTT\x04\x00\0\x3c\0\x02ab"
    assert Mqtt("ab", clean=True).connect()[9] == 2


def test_connect_carries_will_user_and_password():
    c = Mqtt("ab", 10, will=("t/p", b"gone", True), user="u", password=b"pw")
    body = b"\0\x02ab" + b"\0\x03t/p" + b"\0\x04gone" + b"\0\x01u" + b"\0\x02pw"
    assert c.connect() == bytes((0x10, 10 + len(body))) + b"\0\x04MQTT\x04\xec\0\x0a" + body
    assert Mqtt("ab", will=("t", b"", False)).connect()[9] == 0x0C
    assert Mqtt("ab", user="u").connect()[9] == 0x80
    raises(ValueError, Mqtt("x" * 65536).connect)


def test_publish_and_its_acknowledgement():
    c = connected()
    assert c.publish("a/b", b"hi", 0) == b"\x30\x07\0\x03a/bhi"
    assert c.publish("a/b", b"hi", 1, True, "first") == b"\x33\x09\0\x03a/b\0\x01hi"
    assert c.publish("a/b", b"", 1, False, "second") == b"\x32\x07\0\x03a/b\0\x02"
    assert events(c, b"\x40\x02\0\x02\x40\x02\0\x01", 1) == [
        (mqtt.ACKED, "second", None),
        (mqtt.ACKED, "first", None),
    ]
    assert c.in_flight == [] and events(c, b"\x40\x02\0\x01") == [] and c.strays == 1


def test_long_packets_have_a_long_length():
    out = connected().publish("t", bytes(200), 0)
    assert out[:3] == b"\x30\xcb\x01" and len(out) == 206
    assert connected().publish("t", bytes(16381), 0)[:4] == b"\x30\x80\x80\x01"


def test_the_window_is_bounded_and_opens_by_acknowledgement():
    c = connected(window=2)
    c.publish("t", b"1")
    c.publish("t", b"2")
    assert c.room() == 0 and c.publish("t", b"3") is None and c.publish("t", b"4", 0) is not None
    events(c, b"\x40\x02\0\x01")
    assert c.room() == 1 and c.publish("t", b"3")[5:7] == b"\0\x03"


def test_packet_ids_wrap_and_never_repeat_what_is_on_the_way():
    c = connected(window=3)
    c.publish("t", b"", token="old")
    c._last_id = 65534
    assert c.publish("t", b"")[5:7] == b"\xff\xff"
    assert c.publish("t", b"")[5:7] == b"\0\x02"
    assert bytes(c.subscribe(["a"])[2:4]) == b"\0\x03"


def test_after_a_reconnect_what_was_on_the_way_goes_again_in_order_with_dup():
    c = connected()
    c.publish("t", b"1", token=1)
    c.publish("t", b"2", token=2)
    events(c, b"\x30")  # half a packet that the new connection must forget
    assert c.connect()[0] == 0x10
    assert events(c, b"\x20\x02\x01\0") == [(mqtt.CONNECTED, True, None)]
    assert [bytes(p) for p in c.resume(True)] == [b"\x3a\x06\0\x01t\0\x011", b"\x3a\x06\0\x01t\0\x022"]
    assert events(c, b"\x40\x02\0\x01\x40\x02\0\x02") == [(mqtt.ACKED, 1, None), (mqtt.ACKED, 2, None)]


def test_to_a_broker_that_lost_the_session_it_is_the_first_attempt():
    c = connected()
    c.publish("t", b"1")
    assert [p[0] for p in c.resume(True)] == [0x3A]
    assert [p[0] for p in c.resume(False)] == [0x32]


def test_an_acknowledgement_during_the_repetition_skips_nothing():
    c = connected()
    for i in range(3):
        c.publish("t", b"", token=i)
    again = c.resume(True)
    c.publish("t", b"", token="new")
    assert next(again)[6] == 1
    events(c, b"\x40\x02\0\x01")
    assert [p[6] for p in again] == [2, 3]


def test_subscribe_and_what_was_granted():
    c = connected()
    assert c.subscribe(["a/#", "b"]) == b"\x82\x0c\0\x01\0\x03a/#\x01\0\x01b\x01"
    assert events(c, b"\x90\x04\0\x01\x01\x80") == [(mqtt.SUBSCRIBED, [1, 128], None)]


def test_messages_arrive_in_whatever_pieces_and_are_acknowledged_after_they_were_handed_over():
    data = publish(b"a/b", b"one") + publish("ü".encode(), b"two", 1, 513) + b"\xd0\0" + publish(b"x", b"", 1, 9, 8)
    want = [
        (mqtt.MESSAGE, "a/b", b"one"),
        (mqtt.MESSAGE, "ü", b"two"),
        (mqtt.REPLY, b"\x40\x02\x02\x01", None),
        (mqtt.PONG, None, None),
        (mqtt.REPEATED, "x", b""),
        (mqtt.REPLY, b"\x40\x02\0\x09", None),
    ]
    for step in (0, 1, 2, 5):
        assert events(connected(), data, step) == want, step


def test_a_message_over_the_limit_is_acknowledged_and_dropped_so_it_does_not_return_for_ever():
    data = publish(b"big", bytes(1000), 1, 5) + publish(b"a", b"next")
    for step in (0, 1, 100, 333):
        assert events(connected(), data, step) == [
            (mqtt.OVERSIZE, "big", 1007),
            (mqtt.REPLY, b"\x40\x02\0\x05", None),
            (mqtt.MESSAGE, "a", b"next"),
        ], step
    assert len(events(connected(), publish(b"t", bytes(197)))) == 1
    assert events(connected(), publish(b"t", bytes(198)))[0][0] == mqtt.OVERSIZE


def test_a_payload_that_is_longer_than_the_buffer_can_be_taken_in_pieces():
    for topic, n in ((b"t", 100000), (b"t" * 194, 300), (b"t" * 196, 300), (b"t" * 198, 300)):
        payload = bytes([i * i >> 3 & 255 for i in range(n)])
        for qos in (0, 1):
            data = publish(topic, payload, qos, 5) + publish(b"a", b"next")
            for step in (1, 7, 100, 1460):
                if n // step > 20000:
                    continue
                c = connected()
                got = bytearray()

                def piece(name, at, view, size):
                    assert (name.encode(), at, size) == (topic, len(got), n) and len(view) <= max(step, 200)
                    got.extend(view)

                c.pieces = piece
                found = events(c, data, step)
                assert got == payload, (topic, qos, step)
                assert found[0] == (mqtt.OVERSIZE, topic.decode(), 2 + len(topic) + 2 * qos + n)
                assert found[-1] == (mqtt.MESSAGE, "a", b"next") and len(got) == n
    c = connected()
    got = []
    c.pieces = lambda *piece: got.append(piece)
    events(c, publish(b"x" * 300, bytes(300)) + publish(b"a", b"fits"))
    assert got == []


def test_a_message_of_any_size_is_passed_over_and_its_bytes_are_signs_of_life():
    c = connected()
    assert events(c, b"\x32\xff\xff\xff\x7f\0\x01t\0\x05") == []  # 256 MB, the most that MQTT has
    c.publish("t", b"")
    for _ in range(10):
        assert c.elapsed(15000, 20000) in (None, b"\xc0\0")
        assert events(c, bytes(300)) == []
    raises(ProtocolError, c.elapsed, 20000, 20000)


def test_a_topic_over_the_limit_is_passed_over_too():
    for n in (195, 196, 197, 198, 199, 300):
        for qos in (0, 1):
            data = publish(b"x" * n, b"payload", qos, 0x1234) + publish(b"a", b"next")
            for step in (0, 1, 7, 100, 199, 200):
                found = events(connected(), data, step)
                topic = "x" * n if n <= 198 else None
                want = [(mqtt.OVERSIZE, topic, n + 9 + 2 * qos), (mqtt.MESSAGE, "a", b"next")]
                if qos:
                    want.insert(1, (mqtt.REPLY, b"\x40\x02\x12\x34", None))
                assert found == want, (n, qos, step)
    fails(b"\x32\xcb\x01\x00\xff" + bytes(201))  # longer than its packet


def test_topics_that_no_broker_may_take_are_not_sent():
    c = connected()
    for topic in ("", "a/+", "#", "a\0b"):
        raises(ValueError, c.publish, topic, b"")
        raises(ValueError, c.publish, topic, b"", 0)
    raises(ValueError, c.publish, "x" * 65536, b"")
    assert c.in_flight == [] and c.publish("$a/b", b"") is not None


def test_malformed_and_unexpected_packets_end_the_connection():
    for data in (
        b"\x30\xff\xff\xff\xff\x01",  # remaining length of five bytes
        b"\x30\x80\x00",  # not the shortest form
        b"\x90\xc9\x01",  # a SUBACK larger than the limit
        b"\x36\x05\0\x01a\0\x01",  # QoS 3
        b"\x34\x05\0\x01a\0\x01",  # QoS 2 was not subscribed
        b"\x38\x03\0\x01a",  # DUP at QoS 0
        b"\x30\x02\0\0",  # no topic
        b"\x30\x01\0",
        b"\x30\x00",
        b"\x30\x03\0\x02a",  # topic longer than the packet
        b"\x32\x04\0\x01a\0",
        b"\x32\x05\0\x01a\0\0",  # packet id 0
        b"\x30\x03\0\x01+",  # wildcards in a topic name
        b"\x30\x03\0\x01#",
        b"\x30\x03\0\x01\0",
        b"\x30\x03\0\x01\xff",
        b"\x40\x03\0\x01\0",  # PUBACK too long, too short, with flags
        b"\x40\x01\0",
        b"\x42\x02\0\x01",
        b"\x50\x02\0\x01",  # PUBREC
        b"\x90\x03\0\x01\0",  # nothing was subscribed
        b"\xd0\x01\0",
        b"\xd1\x00",
        b"\xc0\x00",  # what only clients send
        b"\x10\x00",
        b"\xe0\x00",
        b"\x00\x00",
        b"\xf0\x00",
        CONNACK,  # a second one
    ):
        fails(data)
    c = connected()
    c.subscribe(["a"])
    fails(b"\x90\x03\0\x02\0", c)
    fails(b"\x90\x03\0\x01\x03", connected_waiting())
    fails(b"\x90\x04\0\x01\0\0", connected_waiting())  # two codes for one filter


def connected_waiting():
    c = connected()
    c.subscribe(["a"])
    return c


def test_nothing_but_a_connack_may_come_first():
    for data in (b"\xd0\0", publish(b"a", b""), b"\x21\x02\0\0", b"\x20\x03\0\0\0", b"\x20\x02\x02\0"):
        fails(data, client())
    fails(b"\x20\x02\x01\0", client(clean=True))
    fails(b"\x30\xff\xff\xff\x7f", client())  # nor does it have 256 MB of time


def test_a_refusal_is_named():
    for code, words in ((1, "protocol version"), (5, "not authorised"), (9, "code 9")):
        error = raises(ProtocolError, events, client(), bytes((0x20, 2, 0, code)))
        assert error.kind == "mqtt-refused" and words in str(error)


def test_a_ping_goes_out_before_the_keep_alive_is_over_and_needs_its_answer():
    c = connected(keep_alive_s=60)
    assert c.elapsed(44000, 20000) is None
    assert c.elapsed(1000, 20000) == b"\xc0\0"
    assert c.elapsed(19000, 20000) is None
    assert events(c, b"\xd0\0") == [(mqtt.PONG, None, None)]
    assert c.elapsed(25000, 20000) is None
    assert c.elapsed(1000, 20000) == b"\xc0\0"
    error = raises(ProtocolError, c.elapsed, 20000, 20000)
    assert "20 s" in str(error)


def test_sending_alone_does_not_hide_a_silent_broker():
    c = connected(keep_alive_s=60)
    pings = 0
    for _ in range(46):
        c.publish("t", b"", 0)
        pings += c.elapsed(1000, 20000) is not None
    assert pings == 1


def test_an_unanswered_packet_of_any_kind_has_an_end():
    raises(ProtocolError, client().elapsed, 20000, 20000)
    c = connected()
    c.publish("t", b"")
    raises(ProtocolError, c.elapsed, 20000, 20000)
    raises(ProtocolError, connected_waiting().elapsed, 20000, 20000)
    c = connected()
    c.publish("t", b"")
    c.elapsed(19000, 20000)
    events(c, publish(b"a", b""))  # a sign of life
    assert c.elapsed(19000, 20000) is None


def test_ping_and_disconnect_are_two_bytes():
    c = connected()
    assert c.ping() == b"\xc0\0" and c.disconnect() == b"\xe0\0"
