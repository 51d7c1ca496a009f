from check import raises
from coupler.bus.mbap import Framer, adu

ONE = adu(0x1234, 17, b"\x03\x02\xab\xcd")
TWO = adu(0xFFFF, 255, b"\x83\x02")


def feed(framer, data, most=260):
    """What comes out of a stream that delivers at most so many bytes at once."""
    out = []
    while data:
        space = framer.space()
        assert len(space) > 0
        n = min(len(space), len(data), most)
        space[:n] = data[:n]
        data = data[n:]
        framer.took(n)
        while framer.next():
            out.append((framer.tid, framer.unit, bytes(framer.pdu)))
    return out


def test_an_adu_is_transaction_protocol_length_and_unit_before_the_pdu():
    # Modbus Messaging on TCP/IP Implementation Guide V1.0b, 3.1.3.
    assert ONE == b"\x12\x34\x00\x00\x00\x05\x11\x03\x02\xab\xcd"
    assert adu(0, 0, bytes(253))[:7] == b"\0\0\0\0\0\xfe\0"


def test_adus_are_found_in_any_pieces():
    longest = adu(7, 1, bytes(range(253)))
    for stream, out in (
        (ONE, [(0x1234, 17, b"\x03\x02\xab\xcd")]),
        (ONE + TWO + ONE, [(0x1234, 17, b"\x03\x02\xab\xcd"), (0xFFFF, 255, b"\x83\x02"), (0x1234, 17, ONE[7:])]),
        (longest * 3 + ONE, [(7, 1, longest[7:])] * 3 + [(0x1234, 17, ONE[7:])]),
        (adu(1, 0, b"\x07") * 60, [(1, 0, b"\x07")] * 60),
    ):
        for most in (1, 2, 5, 7, 11, 100, 259, 260):
            framer = Framer()
            assert feed(framer, stream, most) == out
            assert not framer.partial()


def test_an_adu_that_has_begun_is_known_as_such():
    for cut in range(1, len(ONE)):
        framer = Framer()
        assert feed(framer, ONE[:cut]) == [] and framer.partial()
        assert feed(framer, ONE[cut:]) == [(0x1234, 17, ONE[7:])] and not framer.partial()


def test_what_is_not_modbus_is_refused_as_soon_as_it_shows():
    for stream, shows in (
        (b"\x12\x34\x00\x01", 4),
        (b"\x12\x34\x01\x00\x00\x05", 4),
        (b"GET / HTTP/1.1\r\n", 4),
        (b"\x12\x34\x00\x00\x00\x00", 6),
        (b"\x12\x34\x00\x00\x00\x01\x11", 6),
        (b"\x12\x34\x00\x00\x00\xff\x11", 6),
        (b"\x12\x34\x00\x00\xff\xff\x11", 6),
        (b"\x12\x34\x00\x00\x01\x05\x11", 6),
    ):
        for before in (b"", ONE):
            framer = Framer()
            assert len(feed(framer, before + stream[: shows - 1], 3)) == (1 if before else 0)
            assert str(raises(ValueError, feed, framer, stream[shows - 1 : shows]))
