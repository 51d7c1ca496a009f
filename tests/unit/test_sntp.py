"""SNTP: the request, the arithmetic of the answer, answers that are not to be believed, and doubtful ones."""

import struct

import bus_fakes
from bus_fakes import run
from check import raises
from coupler import RELEASED_MS
from coupler.net import resolve as resolver
from coupler.net.errors import NetError
from coupler.net.resolve import split
from coupler.net.sntp import SntpError, date, parse, query, request

COOKIE = b"\x01\x02\x03\x04\x05\x06\x07\x08"
NOW = RELEASED_MS // 1000 + 1000000  # Unix seconds
HOUR = 3600000
YEAR = 8766 * HOUR
TRUE = RELEASED_MS + YEAR


class Sock:
    def __init__(self, hal, off, pause):
        self.hal = hal
        self.off = off
        self.pause = pause

    def send(self, packet):
        self.cookie = packet[40:]

    async def recv(self, timeout):
        if self.off is None:
            self.hal.us += timeout * 1000
            return None
        self.hal.us += self.pause * 1000
        ms = self.hal.time() + self.off
        return answer(ms // 1000, ms % 1000 * 4294967296 // 1000, cookie=self.cookie)

    def close(self):
        pass


class Hal(bus_fakes.Hal):
    """servers: {address: how many ms its clock is ahead of the true time; None: it is silent}."""

    doubt = None

    def __init__(self, servers, floor_ms):
        super().__init__()
        self.first = self.us
        self.servers = servers
        self.floor_ms = floor_ms
        self.asked = []
        self.net = self

    def time(self):
        return TRUE + (self.us - self.first) // 1000

    def urandom(self, n):
        return COOKIE

    def udp(self, ip, port):
        self.asked.append(ip)
        return Sock(self, self.servers[ip], 20)

    def ask(self):
        """How far the time is off that the servers make it, and who said so."""
        now, server, _ = run(query(self, sorted(self.servers)))
        return now - self.time(), server

    def refused(self):
        return str(raises(NetError, self.ask))


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
        (answer(seconds=RELEASED_MS // 1000 - 1), "2026-10-31 23:59, lies before this firmware's release"),
        (answer(seconds=0), "1970-01-01 00:00, lies before"),
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


def test_a_date_is_that_of_the_calendar():
    for unix_s, text in (
        (0, "1970-01-01 00:00"),
        (951782399, "2000-02-28 23:59"),
        (951782400, "2000-02-29 00:00"),
        (951868800, "2000-03-01 00:00"),
        (1798761599, "2026-12-31 23:59"),
        (1798761600, "2027-01-01 00:00"),
        (4107542399, "2100-02-28 23:59"),
        (4107542400, "2100-03-01 00:00"),
    ):
        assert date(1000 * unix_s + 999) == text, text


def test_the_first_good_answer_is_taken_and_nobody_else_is_asked():
    hal = Hal({"1.0.0.1": None, "1.0.0.2": 250, "1.0.0.3": 0}, TRUE - HOUR)
    off, server = hal.ask()
    assert 240 <= off <= 260 and server == "1.0.0.2"
    assert hal.asked == ["1.0.0.1", "1.0.0.2"]


def test_a_clock_that_ran_ahead_is_set_back_by_one_server():
    hal = Hal({"1.0.0.1": 0}, TRUE + HOUR - 1000)
    assert abs(hal.ask()[0]) < 20
    assert hal.floor_ms == TRUE + HOUR - 1000, "so nobody can lead the clock back, step by step"


def test_one_liar_below_the_floor_is_passed_over():
    hal = Hal({"1.0.0.1": -YEAR // 2, "1.0.0.2": 0}, TRUE - HOUR)
    assert hal.ask()[1] == "1.0.0.2"
    assert hal.doubt is None and hal.floor_ms == TRUE - HOUR


def test_two_servers_lower_a_floor_that_a_liar_had_raised():
    for behind in (5 * YEAR, 2 * HOUR):
        hal = Hal({"1.0.0.1": 0, "1.0.0.2": None, "1.0.0.3": 9000}, TRUE + behind)
        off, server = hal.ask()
        assert abs(off - 9000) < 20 and server == "1.0.0.3"
        assert abs(hal.floor_ms - TRUE - 11000) < 100
        hal.asked.clear()
        assert hal.ask()[1] == "1.0.0.1" and hal.asked == ["1.0.0.1"], "from then on one is enough again"


def test_the_addresses_of_one_name_are_different_servers():
    async def resolve(hal, name):
        return ["1.0.0.1", "1.0.0.2"]

    hal = Hal({"1.0.0.1": 0, "1.0.0.2": 0}, TRUE + YEAR)
    kept = resolver.resolve
    resolver.resolve = resolve
    try:
        assert run(query(hal, ["pool.example.org"]))[1] == "pool.example.org"
    finally:
        resolver.resolve = kept


def test_the_same_server_under_two_names_confirms_nothing():
    hal = Hal({"1.0.0.1": 0}, TRUE + YEAR)
    error = str(raises(NetError, run, query(hal, ["1.0.0.1", "1.0.0.1:123"])))
    assert "needs a second time server" in error, error


def test_servers_that_contradict_each_other_are_not_believed_however_long():
    hal = Hal({"1.0.0.1": 0, "1.0.0.2": 11000}, TRUE + YEAR)
    for _ in range(10):
        assert "needs a second time server" in hal.refused()
        hal.us += HOUR * 1000


def test_years_ahead_need_a_second_server_too():
    ahead = 10 * YEAR + 1000
    hal = Hal({"1.0.0.1": ahead}, TRUE)
    error = hal.refused()
    assert error.startswith("1.0.0.1 (1.0.0.1): says 2037-10-31 18:00, but the last time known is 2027-11-01"), error
    hal.servers["1.0.0.2"] = 0
    assert hal.ask()[1] == "1.0.0.2"
    hal.servers["1.0.0.2"] = ahead
    assert hal.ask()[1] == "1.0.0.2"


def test_the_only_server_is_refused_with_both_times_and_believed_after_six_hours():
    hal = Hal({"1.0.0.1": 0, "1.0.0.2": None}, TRUE + YEAR)
    for minutes in range(0, 6 * 60, 15):
        error = hal.refused()
        assert "says 2027-11-01 " in error and "time known is 2028-10-31 12:00: needs a second" in error, error
        hal.us += 15 * 60000000
    off, server = hal.ask()
    assert abs(off) <= 20 and server == "1.0.0.1"
    assert hal.floor_ms < TRUE + 7 * HOUR and hal.doubt is None


def test_six_hours_begin_again_when_the_only_server_changes_its_mind():
    hal = Hal({"1.0.0.1": 0}, TRUE + YEAR)
    hal.refused()
    hal.us += 5 * HOUR * 1000
    hal.servers["1.0.0.1"] = 60000
    hal.refused()
    hal.us += 2 * HOUR * 1000
    hal.refused()
    hal.servers["1.0.0.1"] = None
    assert "no answer" in hal.refused()
    hal.servers["1.0.0.1"] = 60000
    hal.us += 5 * HOUR * 1000
    assert abs(hal.ask()[0] - 60000) < 20
