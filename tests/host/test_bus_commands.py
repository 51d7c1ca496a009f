"""`kobler bus`: the plan as people and programs see it, and what a block of registers may mean."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from config_example import CONTRACT
from hypothesis import given
from hypothesis import strategies as st
from kobler.bus import decode
from kobler.bus.cli import app
from kobler.config import load
from kobler.config.schedule import schedule
from kobler.errors import UsageError
from typer.testing import CliRunner


def lines(*arguments: str, stdin: str | None = None) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, [*arguments, "--json"], input=stdin, catch_exceptions=False)
    assert done.exit_code == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_plan_of_the_demonstration_is_shown_without_a_file() -> None:
    rows = lines("plan")
    assert [row["event"] for row in rows] == ["block"] * (len(rows) - 1) + ["bus"]
    summary = rows[-1]
    assert summary["bus"] == "field" and summary["exact"] and summary["warning"] is None
    assert summary["utilisation"] == pytest.approx(sum(row["share"] for row in rows[:-1]), abs=1e-4)
    shown = CliRunner().invoke(app, ["plan"]).stdout
    assert "heatpump (5)" in shown and f"{summary['utilisation']:.1%} of the time of bus field" in shown


def test_blocks_holes_and_shares_are_those_of_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    row = '[[bus.unit.point]]\nname = "energy"\ntable = "input"\naddress = 56\ntype = "u32"\npoll = "2s"\n'
    file.write_text(CONTRACT + row, encoding="utf-8")
    holding, block, _ = lines("plan", str(file))
    assert (block["fc"], block["address"], block["count"], block["holes"]) == (4, 52, 6, 2)
    assert block["points"] == ["power", "energy"] and block["period_ms"] == 1000
    # 8 + 5 + 12 characters and two silences of 3.5, 11 bits each at 19200 baud, and 5 ms in the device.
    assert block["wire_ms"] == pytest.approx((8 + 5 + 12 + 7) * 11e3 / 19200 + 5, abs=0.01)
    assert block["share"] == pytest.approx(block["wire_ms"] / 1000, rel=1e-3)
    assert holding["points"] == ["setpoint"] and holding["holes"] == 0


def test_a_bus_that_is_asked_too_much_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(CONTRACT.replace("19200", "300", 1), encoding="utf-8")
    (summary,) = [row for row in lines("plan", str(file)) if row["event"] == "bus"]
    assert summary["utilisation"] > 1
    assert "later than `poll` says" in summary["warning"]
    assert "warning: " in CliRunner().invoke(app, ["plan", str(file)]).stdout


def test_a_network_bus_counts_what_is_in_flight(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    tcp = CONTRACT.replace('kind = "rtu" ', 'kind = "tcp"\nhost = "plc"\nin_flight = 4 ', 1)
    for key in ("baudrate", "parity", "stop_bits"):
        tcp = tcp.replace(f"\n{key}", f"\n# {key}", 1)
    file.write_text(tcp, encoding="utf-8")
    (plan,) = schedule(load(file))
    assert plan.load == pytest.approx(sum(b.load for unit in plan.units for b in unit.blocks) / 4)
    assert "plc:502, 4 in flight" in CliRunner().invoke(app, ["plan", str(file)]).stdout


@pytest.mark.parametrize(
    "text", ["001141c8", "0011 41c8", "0x0011, 0x41C8", "00 11 41 c8", "00-11-41-c8", "0011\n41C8\n", "00:11:41:c8"]
)
def test_registers_are_read_from_hex_however_it_is_written(text: str) -> None:
    assert decode.words(text) == [17, 16840]


@pytest.mark.parametrize("text", ["", "xyz", "001", "0011 4", "11 41c8", "0011" * 126])
def test_what_are_no_registers_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="register"):
        decode.words(text)


def test_numbers_are_taken_too() -> None:
    assert decode.values("17,16840") == decode.values("0x11; 16840") == [17, 16840]
    assert decode.values("-1") == [65535]
    for text in ("x", "65536", "-32769", ""):
        with pytest.raises(UsageError, match="no register"):
            decode.values(text)


# (registers, the reading that a person would pick: type, order, value)
TELLING = [
    ("4366 3334", "float32", "ABCD", 230.2),
    ("3334 4366", "float32", "CDAB", 230.2),
    ("6643 3433", "float32", "BADC", 230.2),
    ("3433 6643", "float32", "DCBA", 230.2),
    ("0001 86a0", "u32", "ABCD", 100000),
    ("86a0 0001", "u32", "CDAB", 100000),
    ("fffe 7960", "i32", "ABCD", -100000),
    ("0000 0000 0001 86a0", "u64", "ABCD", 100000),
    ("406c c666 6666 6666", "float64", "ABCD", 230.2),
    ("00d5", "u16", "ABCD", 213),
    ("ff9c", "i16", "ABCD", -100),
    ("4b6f 626c 6572 0000", "string(8)", "ABCD", "Kobler"),
    ("6f4b 6c62 7265 0000", "string(8)", "BADC", "Kobler"),
]


@pytest.mark.parametrize(("text", "kind", "order", "value"), TELLING)
def test_the_telling_reading_is_marked_plausible(text: str, kind: str, order: str, value: Any) -> None:
    found = [r for r in decode.readings(decode.words(text)) if r.at == 0 and r.type == kind and order in r.orders]
    (reading,) = found
    assert reading.value == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value)
    assert reading.plausible


def test_what_cannot_be_measured_is_not_marked() -> None:
    for text in ("7fc0 0000", "ffff ffff", "0000 0000", "0000 0001"):
        found = [r for r in decode.readings(decode.words(text)) if r.type == "float32" and "ABCD" in r.orders]
        assert [r.plausible for r in found] == [False], text
    wrong = [r for r in decode.readings([0, 100]) if r.type in {"u32", "i32"} and "CDAB" in r.orders]
    assert not any(reading.plausible for reading in wrong)


@given(st.lists(st.integers(0, 65535), min_size=1, max_size=6))
def test_every_reading_is_what_the_unit_would_read(registers: list[int]) -> None:
    from coupler.points import codec

    data = b"".join(word.to_bytes(2) for word in registers)
    found = list(decode.readings(registers))
    for reading in found:
        kind, _, length = reading.type.rstrip(")").partition("(")
        for order in reading.orders:
            value = codec.decode(kind, order, data, reading.at, int(length or 0))
            if isinstance(reading.value, float) and not math.isfinite(reading.value):
                assert value is None
            else:
                assert value == reading.value, reading
    size = {"u16": 1, "i16": 1, "u32": 2, "i32": 2, "float32": 2, "u64": 4, "i64": 4, "float64": 4}
    for kind, length in size.items():
        for at in range(len(registers) - length + 1):
            orders = [o for r in found if (r.type, r.at) == (kind, at) for o in r.orders]
            assert sorted(orders) == ["ABCD", "BADC", "CDAB", "DCBA"]


def test_the_command_reads_arguments_and_standard_input() -> None:
    wanted = {"event": "reading", "at": 0, "type": "float32", "orders": ["CDAB"], "plausible": True}
    for arguments, stdin in (["0011 41c8"], None), (["-"], "0011 41c8\n"), (["--values", "17,16840"], None):
        rows = lines("decode", *arguments, stdin=stdin)
        assert any(wanted.items() <= row.items() and 24.9 < row["value"] < 25.1 for row in rows)
    assert any(row["value"] == "nan" for row in lines("decode", "7fc00000"))
    assert all(row["plausible"] for row in lines("decode", "0011 41c8", "--plausible"))
    shown = CliRunner().invoke(app, ["decode", "0011 41c8"]).stdout
    assert "25.00003 *" in shown
    for arguments in ([], ["0011", "--values", "1"]):
        with pytest.raises(UsageError, match="either hex"):
            CliRunner().invoke(app, ["decode", *arguments], catch_exceptions=False)
