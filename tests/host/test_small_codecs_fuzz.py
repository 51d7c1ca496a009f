"""Datagrams, messages and values of any kind: a right answer or a named error, and packs that are always JSON."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from typing import Any

from coupler.net import dns, sntp
from coupler.uplink.plain import Plain
from coupler.uplink.senml import pack
from hypothesis import given, settings
from hypothesis import strategies as st

quick = settings(max_examples=150, deadline=None)

HEADER = b"\x12\x34\x81\x80\0\1\0\2\0\0\0\0"
QUESTION = b"\1a\2bc\0\0\1\0\1"


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=80), st.booleans())
def test_any_dns_answer(tail: bytes, asked: bool) -> None:
    data = HEADER + (QUESTION if asked else b"") + tail
    dns.is_answer(data, 0x1234, "a.bc")
    with contextlib.suppress(dns.DnsError):
        for address in dns.answer(data):
            assert len(address.split(".")) == 4


@quick
@given(st.binary(max_size=60), st.integers(0, 3000))
def test_any_sntp_answer(data: bytes, rtt: int) -> None:
    with contextlib.suppress(sntp.SntpError):
        sntp.parse(data[:24] + bytes(8) + data[24:], bytes(8), rtt)


@quick
@given(
    st.sampled_from(["desired", "ack", "method/read/1", "method/x", "", "x"]),
    st.binary(max_size=40) | st.just(b"[" * 5000),
)
def test_any_message_from_the_cloud(name: str, payload: bytes) -> None:
    with contextlib.suppress(ValueError, RuntimeError):
        Plain("id").incoming("kobler/id/" + name, payload)


values = st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=20)
sample = st.tuples(
    st.text(min_size=1, max_size=20), values, st.none() | st.text(min_size=1, max_size=9),
    st.none() | st.integers(1, 2**42), st.none() | st.text(min_size=1, max_size=5),
)  # fmt: skip


@quick
@given(st.lists(sample, max_size=8))
def test_every_pack_is_json_that_says_what_was_measured(
    rows: list[tuple[str, Any, str | None, int | None, str | None]],
) -> None:
    samples = [(seq, name, value, quality, ms, 0, unit) for seq, (name, value, quality, ms, unit) in enumerate(rows)]

    def refuse(text: str) -> None:
        raise AssertionError(f"{text} is not JSON")

    records = json.loads(pack("id", samples), parse_constant=refuse)
    assert len(records) == len(rows)
    base = 0.0
    for (name, value, quality, ms, unit), (seq, record) in zip(rows, enumerate(records), strict=True):
        assert (record["n"], record.get("u"), record["seq"]) == (name, unit, seq)
        base = record.get("bt", base)
        assert math.isclose(base + record.get("t", 0), (ms or 0) / 1000, abs_tol=1e-5 + base * 1e-15)
        assert len({"v", "vs", "vb"} & set(record)) == 1
        if isinstance(value, bool):
            assert record["vb"] is value
        elif isinstance(value, str):
            assert record["vs"] == value
        elif value is None or not math.isfinite(value):
            assert record["vs"] == ""
        elif isinstance(value, int):
            assert record["v"] == value
        else:
            assert math.isclose(record["v"], value, rel_tol=1e-7, abs_tol=1e-45)
            assert (
                math.isclose(record["v"], value, rel_tol=1e-14)
                or struct.unpack("f", struct.pack("f", value))[0] == value
            )
        assert record.get("q") == (
            quality or ("range" if isinstance(value, float) and not math.isfinite(value) else None)
        )
