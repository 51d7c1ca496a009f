"""SNTP: the request, the arithmetic of the answer, and answers that are not to be believed."""

import struct

from check import raises
from coupler.net.errors import NetError
from coupler.net.resolve import split
from coupler.net.sntp import SntpError, parse, request

COOKIE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
NOW = 1764500000  # Unix seconds


def answer(seconds=NOW, fraction=0, first=0x24, stratum=2, cookie=COOKIE, inside_ms=0):
    received = (seconds + 2208988800) * 4294967296 + fraction
    sent = received + inside_ms * 4294967296 // 1000
    stamp = lambda t: struct.pack(">II", t // 4294967296 % 4294967296, t % 4294967296)  # noqa: E731
    return bytes((first, stratum)) + bytes(10) + b"RATE" + bytes(8) + cookie + stamp(received) + stamp(sent)


def test_the_request_is_a_version_4_client_packet_with_the_cookie():
    out = request(COOKIE)
    assert len(out) == 48 and out[0] == 0x23 and out[40:] == COOKIE and out[1:40] == bytes(39)


def test_half_the_way_is_added():
    assert parse(answer(), COOKIE, 0) == NOW * 1000
    assert parse(answer(), COOKIE, 100) == NOW * 1000 + 50
    assert parse(answer(inside_ms=60), COOKIE, 100) in (NOW * 1000 + 79, NOW * 1000 + 80)
    assert parse(answer(fraction=0x80000000), COOKIE, 0) == NOW * 1000 + 500


def test_the_era_after_2036_is_known():
    later = 2085978496 + 100  # NTP seconds start again at 0 here
    assert parse(answer(later), COOKIE, 0) == later * 1000


def test_answers_that_are_not_to_be_believed():
    for data, words in (
        (b"", "not an answer"),
        (answer()[:47], "not an answer"),
        (answer(cookie=bytes(8)), "not an answer"),
        (answer(first=0x23), "not a server"),
        (answer(stratum=0), "RATE"),
        (answer(first=0xE4), "not set"),
        (answer(stratum=16), "not set"),
        (answer(seconds=1577836800), "2025"),
        (answer(inside_ms=5000), "contradict"),
        (answer(inside_ms=-20), "contradict"),
    ):
        error = raises(SntpError, parse, data, COOKIE, 10)
        assert words in str(error), str(error)
    raises(SntpError, parse, answer(), COOKIE, 2000)


def test_a_server_may_name_its_port():
    assert split("pool.ntp.org", 123) == ("pool.ntp.org", 123)
    assert split("127.0.0.1:12345", 123) == ("127.0.0.1", 12345)
    for bad in ("a:b", "a:0", "a:65536", "a:1:2"):
        raises(NetError, split, bad, 123)
