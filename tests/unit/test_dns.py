"""DNS: the question, and which answers are believed."""

from check import raises
from coupler.net import dns
from coupler.net.dns import DnsError

NAME = "broker.example.com"
WIRE = b"\x06broker\x07example\x03com\0"
QUESTION = WIRE + b"\0\x01\0\x01"


def head(ident=0x1234, flags=b"\x81\x80", answers=1):
    return ident.to_bytes(2, "big") + flags + b"\0\x01" + answers.to_bytes(2, "big") + b"\0\0\0\0"


def record(data, kind=1, owner=b"\xc0\x0c", group=1):
    return owner + bytes((0, kind, 0, group, 0, 0, 0, 60)) + len(data).to_bytes(2, "big") + data


def test_the_question():
    assert dns.query(NAME, 0x1234) == b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0" + QUESTION
    assert dns.query(NAME + ".", 0x1234) == dns.query(NAME, 0x1234)


def test_what_is_no_host_name_is_not_asked():
    for name in ("", ".", "a..b", "a b", "x" * 64, "é.example", ".".join(["x" * 60] * 5), "a\0b"):
        raises(ValueError, dns.query, name, 1)


def test_every_address_of_the_name_is_found():
    data = (
        head(answers=3) + QUESTION + record(b"\xc0\0\x02\x01") + record(b"\xc0\0\x02\x02") + record(b"\xc0\0\x02\x01")
    )
    assert dns.is_answer(data, 0x1234, NAME)
    assert dns.answer(data) == ["192.0.2.1", "192.0.2.2"]


def test_aliases_are_followed_and_other_names_ignored():
    alias = b"\x01n\x05cloud\xc0\x1b"  # n.cloud + ".com" of the question
    data = head(answers=3) + QUESTION
    data += record(alias, 5)
    data += record(b"\x0a\0\0\x01", owner=b"\x05other\0")
    data += record(b"\xc0\0\x02\x07", owner=b"\x01N\x05Cloud\x03com\0")
    assert dns.answer(data) == ["192.0.2.7"]


def test_names_are_compared_without_case():
    data = head() + QUESTION.replace(b"broker", b"BROKER") + record(b"\xc0\0\x02\x01")
    assert dns.is_answer(data, 0x1234, "Broker.Example.com") and dns.answer(data) == ["192.0.2.1"]


def test_forged_late_and_foreign_packets_are_no_answers():
    good = head() + QUESTION + record(b"\xc0\0\x02\x01")
    for data in (
        b"",
        good[:11],
        head(0x1235) + good[12:],
        head(flags=b"\x01\0") + good[12:],  # a question
        head(flags=b"\x89\x80") + good[12:],  # another opcode
        good.replace(b"broker", b"breker"),
        good.replace(QUESTION, WIRE + b"\0\x1c\0\x01"),
        good[:4] + b"\0\x02" + good[6:],
        head() + b"\xc0\x0c\0\x01\0\x01",
    ):
        assert not dns.is_answer(data, 0x1234, NAME)


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
    error = raises(DnsError, dns.answer, head(answers=0) + QUESTION)
    assert "no address" in str(error)


def test_a_truncated_answer_still_gives_the_addresses_that_fit():
    data = head(flags=b"\x83\x80", answers=9) + QUESTION + record(b"\xc0\0\x02\x01")
    assert dns.answer(data) == ["192.0.2.1"]
