"""DNS: the question, which answers are believed, and how the resolver asks its servers."""

import bus_fakes
from bus_fakes import run
from check import raises
from coupler.net import dns
from coupler.net.dns import AAAA, A, DnsError
from coupler.net.errors import NetError
from coupler.net.resolve import is_ip, resolve, split

NAME = "broker.example.com"
WIRE = b"\x06broker\x07example\x03com\0"
QUESTION = WIRE + b"\0\x01\0\x01"
QUESTION_6 = WIRE + b"\0\x1c\0\x01"
V6 = b"\x20\x01\x0d\xb8" + bytes(11)  # and one byte more


def head(ident=0x1234, flags=b"\x81\x80", answers=1):
    return ident.to_bytes(2, "big") + flags + b"\0\x01" + answers.to_bytes(2, "big") + b"\0\0\0\0"


def record(data, kind=1, owner=b"\xc0\x0c", group=1):
    return owner + bytes((0, kind, 0, group, 0, 0, 0, 60)) + len(data).to_bytes(2, "big") + data


def test_the_question():
    assert dns.query(NAME, 0x1234, A) == b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0" + QUESTION
    assert dns.query(NAME + ".", 0x1234, A) == dns.query(NAME, 0x1234, A)
    assert dns.query(NAME, 1, AAAA)[12:] == QUESTION_6


def test_what_is_no_host_name_is_not_asked():
    for name in ("", ".", "a..b", "a b", "x" * 64, "é.example", ".".join(["x" * 60] * 5), "a\0b"):
        raises(ValueError, dns.query, name, 1, A)


def test_every_address_of_the_name_is_found():
    data = (
        head(answers=3) + QUESTION + record(b"\xc0\0\x02\x01") + record(b"\xc0\0\x02\x02") + record(b"\xc0\0\x02\x01")
    )
    assert dns.is_answer(data, 0x1234, NAME, A)
    assert dns.answer(data) == ["192.0.2.1", "192.0.2.2"]


def test_an_answer_gives_the_kind_of_address_that_was_asked_for():
    records = record(b"\xc0\0\x02\x01") + record(V6 + b"\x01", AAAA) + record(V6 + b"\xff", AAAA)
    for question, found in (
        (QUESTION, ["192.0.2.1"]),
        (QUESTION_6, ["2001:db8:0:0:0:0:0:1", "2001:db8:0:0:0:0:0:ff"]),
    ):
        assert dns.answer(head(answers=3) + question + records) == found
        assert all([is_ip(ip) for ip in found])
    for data in (V6, V6 + b"\0\0", b"\xc0\0\x02\x01"):
        raises(DnsError, dns.answer, head() + QUESTION_6 + record(data, AAAA))


def test_aliases_are_followed_and_other_names_ignored():
    alias = b"\x01n\x05cloud\xc0\x1b"  # n.cloud + ".com" of the question
    data = head(answers=3) + QUESTION
    data += record(alias, 5)
    data += record(b"\x0a\0\0\x01", owner=b"\x05other\0")
    data += record(b"\xc0\0\x02\x07", owner=b"\x01N\x05Cloud\x03com\0")
    assert dns.answer(data) == ["192.0.2.7"]


def test_names_are_compared_without_case():
    data = head() + QUESTION.replace(b"broker", b"BROKER") + record(b"\xc0\0\x02\x01")
    assert dns.is_answer(data, 0x1234, "Broker.Example.com", A) and dns.answer(data) == ["192.0.2.1"]


def test_forged_late_and_foreign_packets_are_no_answers():
    good = head() + QUESTION + record(b"\xc0\0\x02\x01")
    for data in (
        b"",
        good[:11],
        head(0x1235) + good[12:],
        head(flags=b"\x01\0") + good[12:],  # a question
        head(flags=b"\x89\x80") + good[12:],  # another opcode
        good.replace(b"broker", b"breker"),
        good.replace(QUESTION, QUESTION_6),
        good[:4] + b"\0\x02" + good[6:],
        head() + b"\xc0\x0c\0\x01\0\x01",
    ):
        assert not dns.is_answer(data, 0x1234, NAME, A)
    assert not dns.is_answer(good, 0x1234, NAME, AAAA)


def test_compression_loops_and_cut_packets_are_refused():
    for answer in (
        record(b"\xc0\0\x02\x01", owner=b"\xc0\x24"),  # points at itself
        record(b"\xc0\0\x02\x01", owner=b"\x01a\xc0\x24"),
        record(b"\xc0\0\x02\x01", owner=b"\xc0\xff"),  # points ahead
        record(b"\xc0\0\x02\x01", owner=b"\x80"),
        record(b"\xc0\0\x02\x01", owner=b"\x40abc"),
        record(b"\xc0\0\x02"),
        record(b"\xc0\0\x02\x01")[:-1],
        record(b"\xc0\0\x02\x01")[:5],
        b"\xc0",
        b"\x3fabc",
        b"",
        record(b"\xc0\x30", 5),  # an alias that points at itself
    ):
        error = raises(DnsError, dns.answer, head() + QUESTION + answer)
        assert not error.final
    long = b"\x3f" + b"a" * 63
    raises(DnsError, dns.answer, head() + QUESTION + record(b"\xc0\0\x02\x01", owner=long * 5 + b"\0"))


def test_chained_pointers_end():
    owner = b"".join(b"\xc0" + bytes((0x24 + 2 * i - 2,)) for i in range(1, 30))
    raises(DnsError, dns.answer, head() + QUESTION + b"\xc0\x24" + owner + record(b"\xc0\0\x02\x01"))


def test_what_the_server_said_is_named_and_only_no_such_name_is_final():
    for code, words, final in (
        (3, "no such name", True),
        (2, "server failure", False),
        (5, "refused", False),
        (11, "11", False),
    ):
        error = raises(DnsError, dns.answer, head(flags=bytes((0x81, 0x80 | code)), answers=0) + QUESTION)
        assert words in str(error) and error.final == final
    assert dns.answer(head(answers=0) + QUESTION) == []


def test_a_truncated_answer_still_gives_the_addresses_that_fit():
    data = head(flags=b"\x83\x80", answers=9) + QUESTION + record(b"\xc0\0\x02\x01")
    assert dns.answer(data) == ["192.0.2.1"]
    raises(DnsError, dns.answer, head(flags=b"\x83\x80", answers=0) + QUESTION)


# --- the resolver


def says(*ends, code=0):
    """An answer that ends with these records."""
    return lambda query: (
        query[:2] + bytes((0x81, 0x80 | code, 0, 1, 0, len(ends))) + bytes(4) + query[12:] + b"".join(ends)
    )


def v4(last):
    return record(bytes((192, 0, 2, last)))


def v6(last):
    return record(V6 + bytes((last,)), AAAA)


V4_ONLY = {A: says(v4(1), v4(2)), AAAA: says()}
NONE = {A: says(code=3), AAAA: says(code=3)}


class Sock:
    def __init__(self, hal, server):
        self.hal = hal
        self.server = server
        self.waiting = []
        hal.open += 1

    def send(self, query):
        kind = query[-3]
        self.hal.asked.append((self.server, kind))
        if self.hal.servers[self.server] is None:
            raise OSError(101)
        reply = self.hal.servers[self.server].get(kind)
        if reply:
            for packet in self.hal.forged:
                self.waiting.append(packet(query))
            self.waiting.append(reply(query))

    async def recv(self, timeout):
        if self.waiting:
            self.hal.us += 10000
            return self.waiting.pop(0)
        self.hal.us += timeout * 1000
        return None

    def close(self):
        self.hal.open -= 1


class Hal(bus_fakes.Hal):
    """servers: {address: {kind: query -> answer; none: silence} or None: it cannot be reached}."""

    def __init__(self, servers, ip6="2001:db8::7"):
        super().__init__()
        self.began = self.us
        self.servers = servers
        self.ip6 = ip6
        self.asked = []
        self.forged = ()
        self.open = 0
        self.net = self

    def network_info(self):
        return {"dns": sorted(self.servers), "ip6": self.ip6}

    def urandom(self, n):
        return bytes([len(self.asked) + i for i in range(n)])

    def udp(self, ip, port):
        return Sock(self, ip if port == 53 else "[%s]:%d" % (ip, port))

    def resolve(self, name=NAME):
        try:
            return run(resolve(self, name))
        finally:
            assert not self.open, "no socket is left"

    def ms(self):
        return (self.us - self.began) // 1000

    def refused(self, name=NAME):
        return str(raises(NetError, self.resolve, name))


def test_both_families_are_asked_and_come_in_turn_the_newer_first():
    hal = Hal({"1.0.0.1": {A: says(v4(1), v4(2), v4(3)), AAAA: says(v6(1), v6(2))}})
    six = "2001:db8:0:0:0:0:0:"
    assert hal.resolve() == [six + "1", "192.0.2.1", six + "2", "192.0.2.2", "192.0.2.3"]
    assert hal.asked == [("1.0.0.1", AAAA), ("1.0.0.1", A)]
    many = {A: says(*[v4(i) for i in range(20)]), AAAA: says(*[v6(i) for i in range(20)])}
    found = Hal({"1.0.0.1": many}).resolve()
    assert len(found) == 8 and found[7] == "192.0.2.3"


def test_without_an_address_of_its_own_the_unit_does_not_ask_for_the_newer_family():
    hal = Hal({"1.0.0.1": {A: says(v4(1)), AAAA: says(v6(1))}}, None)
    assert hal.resolve() == ["192.0.2.1"]
    assert hal.asked == [("1.0.0.1", A)]


def test_one_family_is_enough_and_a_silent_other_costs_little():
    for other in (says(), says(code=2), says(code=3), None):
        hal = Hal({"1.0.0.1": {A: says(v4(1)), AAAA: other}})
        assert hal.resolve() == ["192.0.2.1"] and hal.ms() <= 150
    hal = Hal({"1.0.0.1": {AAAA: says(v6(9))}})
    assert hal.resolve() == ["2001:db8:0:0:0:0:0:9"] and hal.ms() <= 150


def test_the_next_server_is_asked_unless_there_is_no_such_name():
    for first in (None, {}, {A: says(), AAAA: says()}, {A: says(code=2), AAAA: says(code=5)}):
        hal = Hal({"1.0.0.1": first, "1.0.0.2": V4_ONLY})
        assert hal.resolve() == ["192.0.2.1", "192.0.2.2"]
    hal = Hal({"1.0.0.1": NONE, "1.0.0.2": V4_ONLY})
    assert "no such name" in hal.refused()
    assert [server for server, _ in hal.asked] == ["1.0.0.1", "1.0.0.1"]


def test_it_comes_to_an_end_and_says_who_did_not_answer():
    hal = Hal({"1.0.0.%d" % i: {} for i in range(1, 6)})
    assert "1.0.0.3: no answer in 2000 ms" in hal.refused()
    assert hal.ms() == 12000 and len(hal.asked) == 12, "three servers, twice, two questions"
    hal = Hal({"1.0.0.1": {A: says(), AAAA: says()}})
    assert "1.0.0.1 said: no address" in hal.refused()


def test_forged_answers_are_passed_over():
    good = says(v4(66))
    hal = Hal({"1.0.0.1": V4_ONLY})
    hal.forged = (
        lambda query: b"",
        lambda query: bytes((query[0] ^ 1,)) + good(query)[1:],
        lambda query: good(query).replace(b"broker", b"bricks"),
        lambda query: good(query)[:-20] + b"\0\x0f\0\x01" + good(query)[-16:],
        lambda query: query,
    )
    assert hal.resolve() == ["192.0.2.1", "192.0.2.2"]


def test_nothing_is_kept_from_one_time_to_the_next():
    hal = Hal({"1.0.0.1": {A: says(v4(1))}}, None)
    assert hal.resolve() == ["192.0.2.1"]
    hal.servers["1.0.0.1"][A] = says(v4(2))
    assert hal.resolve() == ["192.0.2.2"]


def test_what_needs_no_server_asks_none():
    hal = Hal({})
    for name, found in (
        ("192.0.2.9", "192.0.2.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("localhost", "127.0.0.1"),
        ("Hub.LOCALHOST.", "127.0.0.1"),
    ):
        assert hal.resolve(name) == [found]
    assert "no DNS server" in hal.refused()


def test_servers_are_written_with_and_without_a_port():
    assert split("192.0.2.1", 53) == ("192.0.2.1", 53)
    assert split("192.0.2.1:5353", 53) == ("192.0.2.1", 5353)
    assert split("2001:db8::1", 53) == ("2001:db8::1", 53)
    assert split("[2001:db8::1]", 53) == ("2001:db8::1", 53)
    assert split("[2001:db8::1]:5353", 53) == ("2001:db8::1", 5353)
    for bad in ("[2001:db8::1]:", "[::1]:0", "2001:db8:1:5353", ":53:53"):
        raises(NetError, split, bad, 53)
    hal = Hal({"[2001:db8::53]:5353": V4_ONLY})
    assert hal.resolve() == ["192.0.2.1", "192.0.2.2"]


def test_an_address_is_told_from_a_name():
    for text in ("::1", "2001:db8::", "fe80:0:0:0:1:2:3:4", "0.0.0.0"):  # noqa: S104
        assert is_ip(text), text
    for text in ("a:1:2", "example.com", "1.2.3", "1.2.3.256", "::g", "dead:beef", ""):
        assert not is_ip(text), text
