"""DNS answers of any kind: addresses or a DnsError, and always an end. The builder below shares no code with the
parser: it compresses each name as far as it can, as name servers do."""

from __future__ import annotations

import ipaddress
import struct

from coupler.net import dns
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=200, deadline=None)
ASKED = "broker.example.com"
KINDS = st.sampled_from([dns.A, dns.AAAA])


class Message:
    """An answer under construction; known: where a name's ending is already."""

    def __init__(self, ident: int, kind: int, count: int) -> None:
        self.data = bytearray(struct.pack(">HHHHHH", ident, 0x8180, 1, count, 0, 0))
        self.known: dict[str, int] = {}
        self.name(ASKED)
        self.data += struct.pack(">HH", kind, 1)

    def name(self, text: str) -> None:
        while text:
            at = self.known.get(text.lower())
            if at is not None:
                self.data += struct.pack(">H", 0xC000 | at)
                return
            self.known[text.lower()] = len(self.data)
            label, _, text = text.partition(".")
            self.data += bytes((len(label),)) + label.encode()
        self.data.append(0)

    def record(self, owner: str, kind: int, body: bytes | str) -> None:
        self.name(owner)
        self.data += struct.pack(">HHIH", kind, 1, 60, 0)
        start = len(self.data)
        if isinstance(body, str):
            self.name(body)
        else:
            self.data += body
        self.data[start - 2 : start] = struct.pack(">H", len(self.data) - start)


names = st.lists(st.text("abcXYZ019-", min_size=1, max_size=12), min_size=1, max_size=4).map(".".join)
v4 = st.integers(0, 2**32 - 1).map(ipaddress.IPv4Address)
v6 = st.integers(0, 2**128 - 1).map(ipaddress.IPv6Address)
addresses = st.lists(st.one_of(v4, v6), max_size=6)


def build(
    ident: int, kind: int, aliases: list[str], found: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> bytes:
    message = Message(ident, kind, len(aliases) + len(found))
    owner = ASKED
    for alias in aliases:
        message.record(owner, 5, alias)
        owner = alias
    for address in found:
        message.record(owner.upper(), dns.A if address.version == 4 else dns.AAAA, address.packed)
    return bytes(message.data)


aliases = st.lists(names, max_size=4, unique=True)


@quick
@given(st.integers(0, 65535), KINDS, aliases, addresses)
def test_every_address_of_the_kind_is_found_behind_any_aliases(
    ident: int, kind: int, aliases: list[str], found: list[ipaddress.IPv4Address | ipaddress.IPv6Address]
) -> None:
    data = build(ident, kind, aliases, found)
    assert dns.is_answer(data, ident, ASKED.upper(), kind)
    assert not dns.is_answer(data, ident ^ 1, ASKED, kind) and not dns.is_answer(data, ident, "x." + ASKED, kind)
    wanted = [address for address in found if (address.version == 4) == (kind == dns.A)]
    assert [ipaddress.ip_address(text) for text in dns.answer(data)] == list(dict.fromkeys(wanted))


def judge(data: bytes) -> None:
    for kind in (dns.A, dns.AAAA):
        if dns.is_answer(data, 7, ASKED, kind):
            try:
                found = dns.answer(data)
            except dns.DnsError:
                continue
            assert all(ipaddress.ip_address(text).version == (4 if kind == dns.A else 6) for text in found)


@quick
@given(
    KINDS,
    aliases,
    addresses,
    st.lists(st.tuples(st.integers(12, 600), st.integers(1, 255)), max_size=4),
    st.integers(0, 300),
)
def test_a_corrupted_or_cut_answer_gives_addresses_or_an_error(
    kind: int,
    aliases: list[str],
    found: list[ipaddress.IPv4Address | ipaddress.IPv6Address],
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    data = bytearray(build(7, kind, aliases, found))
    body = len(data) - 12
    for at, bits in flips:
        data[12 + at % body] ^= bits
    judge(bytes(data[: max(12, len(data) - cut)]))
    judge(bytes(data))


@quick
@given(KINDS, st.binary(max_size=500))
def test_any_bytes_behind_the_question(kind: int, data: bytes) -> None:
    judge(bytes(Message(7, kind, 65535).data) + data)
    dns.is_answer(data, 7, ASKED, kind)


@quick
@given(names)
def test_a_question_is_what_the_builder_makes_of_it(name: str) -> None:
    made = Message(7, dns.A, 0).data[:12] + dns.query(name, 7, dns.A)[12:]
    assert dns.is_answer(bytes(made), 7, name, dns.A) and dns.answer(bytes(made)) == []
