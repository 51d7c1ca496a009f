"""Datagrams, messages and values of any kind: a right answer or a named error, and packs that are always JSON."""

from __future__ import annotations

import contextlib
import json
import math
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from coupler.net import sntp
from coupler.points.codec import ORDERS
from coupler.points.encode import encode, limits, mask
from coupler.points.kinds import width
from coupler.points.table import Point
from coupler.points.write import check_raw, holds, plan_write, read_back
from coupler.uplink.plain import Plain
from coupler.uplink.senml import pack
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

quick = settings(max_examples=150, deadline=None)


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
    samples = [
        (seq, SimpleNamespace(name=name, unit=unit, history=False), value, quality, ms)
        for seq, (name, value, quality, ms, unit) in enumerate(rows)
    ]

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


# - Points: what is written is what is read

_KINDS = ("u16", "i16", "u32", "i32", "u64", "i64", "float32", "float64", "bits", "bool", "string")
_ANYONE = {"role": "operator"}
scales = st.sampled_from([1, 1, 0.1, 0.01, 0.001, 10, 2.5, -1, -0.5, 1 / 3])
offsets = st.sampled_from([0, 0, 20, -273.15, 0.5])


def block_of(row: dict[str, Any], fc: int = 3) -> dict[str, Any]:
    block: dict[str, Any] = {"fc": fc, "a": 1000, "n": 125, "ms": 1000}
    block["p"] = [Point({"n": "a", "o": 0, "wr": _ANYONE, **row}, block, "p")]
    return block


@st.composite
def rows(draw: Any, kinds: tuple[str, ...] = _KINDS) -> dict[str, Any]:
    """A row of the compiled configuration."""
    kind = draw(st.sampled_from(kinds))
    row: dict[str, Any] = {"t": kind, "w": draw(st.sampled_from(ORDERS)), "o": draw(st.integers(0, 2))}
    if kind == "bits":
        first = draw(st.integers(0, 15))
        row |= {"from": first, "count": draw(st.integers(1, 16 - first))}
    elif kind == "string":
        row["len"] = draw(st.integers(1, 40))
    if kind not in ("bool", "string"):
        row |= {"k": draw(scales), "b": draw(offsets)}
    return row


@settings(max_examples=1500, deadline=None)
@given(rows(), st.data())
def test_what_is_encoded_is_decoded_as_the_same_value(row: dict[str, Any], data: Any) -> None:
    point = block_of(row)["p"][0]
    scale, offset = row.get("k", 1), row.get("b", 0)
    value: Any
    if row["t"] == "bool":
        value = data.draw(st.booleans())
    elif row["t"] == "string":
        latin = st.characters(codec="latin-1", exclude_categories=["Cc"])
        value = data.draw(st.text(latin, max_size=row["len"]))
    else:
        low, high = limits(point)
        whole = low is not None
        most = 2**52 * abs(scale) if whole else 1e30  # beyond, a float64 has no steps left
        least, most = (max(-most, low), min(most, high)) if whole else (-most, most)
        value = data.draw(st.floats(float(least), float(most)))
        if whole and scale == 1 and not offset:
            value = data.draw(st.just(value) | st.integers(low, high))
    encoded = encode(point, value)
    assert len(encoded) == 2 * width(point)
    if row["t"] == "bits":
        assert (encoded[0] << 8 | encoded[1]) & ~mask(point) == 0
    got = point.read(bytes(2 * point.at) + encoded + b"\xff")
    if isinstance(value, str):
        assert got == value.rstrip()
    elif row["t"] == "bool" or (isinstance(value, int) and row["t"][0] != "f"):
        assert got is value or got == value
    elif row["t"][0] == "f":
        near = 1e-6 if row["t"] == "float32" else 1e-12
        assert math.isclose(got, value, rel_tol=near, abs_tol=near * max(1, abs(offset)))
    else:
        assert abs(got - value) <= abs(scale) * 0.5 * (1 + 1e-6) + 1e-12 * (abs(value) + abs(offset))


@settings(max_examples=600, deadline=None)
@given(rows(), st.data())
def test_what_is_decoded_is_encoded_as_the_same_registers(row: dict[str, Any], data: Any) -> None:
    point = block_of(row)["p"][0]
    scale, offset = row.get("k", 1), row.get("b", 0)
    wire = data.draw(st.binary(min_size=2 * width(point), max_size=2 * width(point)))
    value = point.read(bytes(2 * point.at) + wire)
    assume(value is not None)
    if isinstance(value, (int, float)) and abs(value) > 2**53 * abs(scale):
        assume(scale == 1 and not offset)
    if row["t"] in ("bool", "string"):
        assume(row["t"] == "bool" or "?" not in value)
        assert point.read(bytes(2 * point.at) + encode(point, value)) == value
    elif row["t"][0] == "f":
        assume(scale == 1 and not offset)
        assert encode(point, value) == wire
    else:
        own = mask(point).to_bytes(2, "big") * width(point)
        assert encode(point, value) == bytes(a & b for a, b in zip(wire, own, strict=True))


@settings(max_examples=600, deadline=None)
@given(rows(), values | st.lists(st.integers(), max_size=2) | st.binary(max_size=3))
@example({"t": "u16", "k": 1e-300}, 10**400)
def test_any_value_is_written_or_refused_with_the_reason(row: dict[str, Any], value: Any) -> None:
    block = block_of(row)
    with contextlib.suppress(ValueError):
        plan_write(block["p"][0], block, value)


@settings(max_examples=600, deadline=None)
@given(rows(_KINDS[:9]), st.data())
def test_no_value_is_encoded_as_one_that_means_not_available(row: dict[str, Any], data: Any) -> None:
    bits = row.get("count") or int(row["t"][-2:])
    na = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=1, max_size=3))
    plain = block_of(row)["p"][0]
    point = block_of({**row, "na": na})["p"][0]
    raw = data.draw(st.sampled_from(na))
    straight = (raw << row.get("from", 0)).to_bytes(2 * width(point), "big")
    words = [straight[i : i + 2] for i in range(0, len(straight), 2)]
    words = words[::-1] if row["w"] in ("CDAB", "DCBA") else words
    wire = b"".join(word[::-1] if row["w"] in ("BADC", "DCBA") else word for word in words)
    sent = bytes(2 * point.at) + wire
    assert point.read(sent) == ()
    value = plain.read(sent)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return
    if isinstance(value, float) and abs(value) > 2**53 * abs(row["k"]):
        return  # it may be rounded to more than the type holds
    near = encode(plain, value)
    if near == wire:
        with pytest.raises(ValueError, match="not available"):
            encode(point, value)
    elif point.read(bytes(2 * point.at) + near) != ():
        assert encode(point, value) == near


@settings(max_examples=600, deadline=None)
@given(rows(), st.booleans(), st.data())
def test_every_planned_write_passes_for_a_foreign_request_and_reads_back(
    row: dict[str, Any], multi: bool, data: Any
) -> None:
    wr: dict[str, Any] = dict(_ANYONE)
    if row["t"] not in ("bool", "string"):
        low, high = sorted(data.draw(st.tuples(st.integers(-500, 500), st.integers(-500, 500))))
        wr |= {"min": low / 10, "max": high / 10}
    block = block_of({**row, "wr": wr}, data.draw(st.sampled_from([1, 3])) if row["t"] == "bool" else 3)
    point = block["p"][0]
    near = st.floats(wr.get("min", 0), wr.get("max", 0))
    value = data.draw(near | st.booleans() | st.text("abc", max_size=3) | st.integers(-60, 60))
    try:
        pdu = plan_write(point, block, value, multi)
    except ValueError as error:
        assert str(error).startswith("a: ")
        return
    check_raw({"blocks": [block]}, pdu[0], pdu[1] << 8 | pdu[2], pdu[3:])
    if "min" in wr:
        assert wr["min"] <= value <= wr["max"]
    fc, address, count = read_back(pdu)
    assert (fc, address, count) == (block["fc"], 1000 + point.at, width(point))
    noise = data.draw(st.integers(0, 0xFFFF)) & ~mask(point)
    sent = pdu[3:5] if pdu[0] in (5, 6) else pdu[5:7] if pdu[0] == 22 else pdu[6:]
    if pdu[0] == 22:
        sent = (noise | int.from_bytes(sent, "big")).to_bytes(2, "big")
    assert holds(pdu, sent)


@settings(max_examples=600, deadline=None)
@given(st.data())
def test_a_foreign_request_that_passes_leaves_every_point_within_its_limits(data: Any) -> None:
    block = block_of({"t": "i16", "k": 0.1, "wr": {**_ANYONE, "min": -5, "max": 2000.1}})
    for at, kind, wr in (
        (1, "u32", {"min": 70000, "max": 1e9}),
        (3, "float32", {"min": 0, "max": 1e9}),
        (5, "bits", {"min": 1, "max": 6}),
        (6, "u16", None),
    ):
        row = {"n": str(at), "o": at, "t": kind, "wr": wr and _ANYONE | wr, "from": 3, "count": 3}
        block["p"].append(Point(row, block, "p"))
    device = {register: 0xABCD for register in range(990, 1020)} | dict(
        zip(range(1000, 1007), (7, 2, 2, 0x3F80, 0, 0x0008, 99), strict=True)
    )
    before = dict(device)
    fc = data.draw(st.sampled_from([6, 16, 16, 22, 23]))
    address = data.draw(st.integers(998, 1007))
    words = st.sampled_from([0, 1, 8, 0x10, 0x38, 0xFFC7, 0xFFFF, 0x3F80, 0x7FC0, 20001]) | st.integers(0, 0xFFFF)
    count = 2 if fc == 22 else 1 if fc == 6 else data.draw(st.integers(1, 6))
    sent = [data.draw(words) for _ in range(count)]
    wire = b"".join(word.to_bytes(2, "big") for word in sent)
    if fc == 22:
        device[address] = device[address] & sent[0] | sent[1] & ~sent[0]
    else:
        device.update(enumerate(sent, address))
    head = bytes([0, count, 2 * count]) if fc in (16, 23) else b""
    try:
        check_raw({"blocks": [block]}, fc, address, head + wire)
    except (LookupError, ValueError) as error:
        assert str(error)
        return
    changed = {register for register in device if device[register] != before[register]}
    assert changed <= {1000, 1001, 1002, 1003, 1004, 1005}
    assert device[1005] & ~0x38 == 0
    after = b"".join(device[register].to_bytes(2, "big") for register in range(1000, 1007))
    for point in block["p"][:-1]:
        assert point.wr["min"] <= point.read(after) <= point.wr["max"], point.name
