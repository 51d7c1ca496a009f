"""Lists of points from spreadsheets: every way to write a row, every mistake by file, line and column."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest
from config_example import CONTRACT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kobler.config import load
from kobler.config.cli import app
from kobler.config.csv_import import read
from kobler.config.models import Point
from kobler.config.points import check_point
from kobler.config.profiles import load_profile
from kobler.errors import UsageError
from typer.testing import CliRunner

HEAD = "name,table,address,type,order,scale,offset,unit,poll,min,max\n"


def points(tmp_path: Path, text: str, encoding: str = "utf-8") -> dict[str, Point]:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode(encoding))
    return {row.point.name: row.point for row in read(path)}


def test_a_row_becomes_a_point(tmp_path: Path) -> None:
    found = points(
        tmp_path,
        HEAD
        + "power,input,52,float32,,,,W,1s,,\n\n"
        + "setpoint,holding,0x10,i16,,0.1,-5,Cel,5s,10,30\nrun,coil,3,bool,,,,,,,\n",
    )
    power, setpoint, run = found.values()
    assert (power.table, power.address, power.unit, power.poll, power.write) == ("input", 52, "W", 1000, None)
    assert (setpoint.address, setpoint.scale, setpoint.offset) == (16, 0.1, -5)
    assert setpoint.write and (setpoint.write.min, setpoint.write.max) == (10, 30)
    assert run.table == "coil" and run.poll == 1000


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_semicolons_decimal_commas_and_other_notations(tmp_path: Path, encoding: str, end: str) -> None:
    text = "Register;Name;Type;Scale;Unit;Missing;Write\n30053;a;float32;;°C;nan;\n400001;b;i16;0,1;;0x8000 | -1;yes\n"
    found = points(tmp_path, text.replace("\n", end), encoding)
    assert (found["a"].table, found["a"].address, found["a"].unit) == ("input", 52, "°C")
    assert (found["b"].table, found["b"].address, found["b"].scale) == ("holding", 0, 0.1)
    assert found["b"].missing == ("0x8000", -1)
    assert found["b"].write is not None
    by_function = points(tmp_path, "name;function;address;type\nc;2;7;bool\n")
    assert (by_function["c"].table, by_function["c"].address) == ("discrete", 7)


MISTAKES = [
    ("p,input,52,float33,,,,,,,", "type", "float32 float64"),
    ("p,input,x,u16,,,,,,,", "address", "whole number"),
    ("p,input,65536,u16,,,,,,,", "address", "<= 65535"),
    ("p,input,65535,u32,,,,,,,", "address", "behind register 65535"),
    ("p,inputs,1,u16,,,,,,,", "table", "'inputs'"),
    ("p,,1,u16,,,,,,,", "table", "is missing"),
    ("p,input,,u16,,,,,,,", "address", "is missing"),
    (",input,1,u16,,,,,,,", "name", "is missing"),
    ("p q,input,1,u16,,,,,,,", "name", "no spaces"),
    ("p,input,1,u16,ACBD,,,,,,", "order", "'ABCD'"),
    ('p,input,1,u16,,"0,1",,,,,', "scale", "not a number"),
    ("p,input,1,u16,,0,,,,,", "scale", "the same"),
    ("p,input,1,u16,,1e999,,,,,", "scale", "finite"),
    ("p,input,1,u16,,,,,5,,", "poll", "ms, s, m, h or d"),
    ("p,input,1,u16,,,,,,1,", "min", "read only"),
    ("p,holding,1,u16,,,,,,5,1", "min", "more than max"),
    ("p,holding,1,u16,,,,,,,70000", "max", "possible: 0 to 65535"),
    ("p,coil,1,u16,,,,,,,", "type", "'bool'"),
    ("p,input,1,u16,,,,,,,,7", "column 12", "only 11 columns"),
]


@pytest.mark.parametrize(("row", "column", "says"), MISTAKES, ids=[f"{m[1]}={m[0]}" for m in MISTAKES])
def test_a_bad_row_is_named_by_file_line_and_column(tmp_path: Path, row: str, column: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(tmp_path, f"{HEAD}ok,input,1,u16,,,,,,,\n{row}\nok2,input,1,u16,,,,,,,\n")
    lines = str(caught.value).splitlines()
    assert len(lines) == 1, lines
    match = re.match(re.escape(str(tmp_path / "list.csv")) + rf":3: {re.escape(column)}: (.*)", lines[0])
    assert match and says in match[1], lines[0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,adress,type\n", "column 2: 'adress' is not known"),
        ("name,type,type\n", "column 3: 'type' is there twice"),
        ("name,type\n", "register: is missing"),
        ("register\n", "name: is missing"),
        ("name,register,type\n", "has no points"),
        ("name,register,type\na,50001,u16\n", ":2: register: '50001' is no register"),
        ("name,register,type,table\na,30001,u16,input\n", ":2: table: does not go with register"),
        ("name,register,type\na,30001,u16\na,30002,u16\n", ":3: name: 'a' is already the name in line 2"),
        ("name,register,type,write\na,40001,u16,perhaps\n", ":2: write: 'perhaps' is neither yes nor no"),
        ("name,register,type,write\na,30001,u16,yes\n", ":2: write: the table 'input' is read only"),
        ('name,register,type\na,30001,"u16\n', "not CSV"),
        ("name,function,address,type\na,6,1,u16\n", ":2: function: '6' reads nothing"),
    ],
)
def test_a_bad_list_is_named_too(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        points(tmp_path, text)
    assert says in str(caught.value)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.csv: there is no such list"):
        read(tmp_path / "nothing.csv")
    (tmp_path / "latin.csv").write_bytes(b"name\n\xe6\n")
    with pytest.raises(UsageError, match=r"latin\.csv: not UTF-8 text \(byte 5\)"):
        read(tmp_path / "latin.csv")


rows = st.fixed_dictionaries(
    {
        "table": st.sampled_from(["input", "holding"]),
        "address": st.integers(0, 65000),
        "type": st.sampled_from(["u16", "i16", "u32", "float32", "float64", "string(7)", "bits(3,4)"]),
        "order": st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]),
    },
    optional={
        "scale": st.floats(1e-6, 1e6),
        "offset": st.floats(-1e6, 1e6),
        "unit": st.text("Wkh°/%;,\"'\\ äλ", min_size=1, max_size=8).filter(str.strip).map(str.strip),
        "poll": st.sampled_from(["500ms", "1s", "5m"]),
        "min": st.integers(0, 5),
        "max": st.integers(5, 7),
        "missing": st.sampled_from(["0x7", 3]),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, min_size=1, max_size=8), st.sampled_from(",;"))
def test_a_list_written_and_imported_is_the_same_points(
    tmp_path: Path, made: list[dict[str, Any]], delimiter: str
) -> None:
    wanted = []
    for i, row in enumerate(made):
        fields = {"name": f"p{i}", **{k: v for k, v in row.items() if k not in {"min", "max"}}}
        fields |= {k: float(fields[k]) for k in ("scale", "offset") if k in fields}
        limits = {k: float(row[k]) for k in ("min", "max") if k in row}
        if limits and row["table"] == "holding":
            fields["write"] = limits
        point = Point.model_validate(fields)
        if not list(check_point(point, ())):
            wanted.append((row, point))
    if not wanted:
        return
    out = io.StringIO()
    columns = ["name", "table", "address", "type", "order", "scale", "offset", "unit", "poll", "min", "max", "missing"]
    writer = csv.DictWriter(out, columns, delimiter=delimiter)
    writer.writeheader()
    for row, point in wanted:
        keep = {k: v for k, v in row.items() if point.write or k not in {"min", "max"}}
        writer.writerow({"name": point.name, **keep})
    file = tmp_path / "list.csv"
    file.write_text(out.getvalue(), encoding="utf-8", newline="")
    for arguments, prefix in (
        (["--profile-name", "mine"], None),
        (["--unit", "3", "--bus", "field"], '[device]\nname = "x"\n'),
        ([], '[device]\nname = "x"\n[[bus]]\nname = "b"\nkind = "rtu"\n[[bus.unit]]\nid = 1\nname = "u"\n'),
    ):
        toml = tmp_path / "out.toml"
        done = CliRunner().invoke(app, ["import", str(file), *arguments, "-o", str(toml)], catch_exceptions=False)
        assert done.exit_code == 0
        if prefix is None:
            found = load_profile(str(toml)).point
        else:
            toml.write_text(prefix + toml.read_text(encoding="utf-8"), encoding="utf-8")
            found = load(toml).bus[0].unit[0].point
        assert found == [point for _, point in wanted]


def test_the_command_writes_to_standard_output_and_names_wrong_options(tmp_path: Path) -> None:
    file = tmp_path / "Büro 1.csv"
    file.write_text(HEAD + "power,input,52,float32,,,,W,1s,,\n", encoding="utf-8")
    run = CliRunner()
    done = run.invoke(app, ["import", str(file), "--unit", "17", "--bus", "extra"])
    assert 'name = "B-ro-1"' in done.stdout
    site = tmp_path / "site.toml"
    site.write_text(CONTRACT.replace('name = "field"', 'name = "field"', 1), encoding="utf-8")
    assert load(site)
    for arguments, says in (
        (["--unit", "17"], "go together"),
        (["--unit", "300", "--bus", "b"], "1 to 247"),
        (["--unit", "3", "--bus", "a/b"], "--bus: 'a/b'"),
        (["--unit", "3", "--bus", "b", "--profile-name", "p"], "does not go with"),
    ):
        with pytest.raises(UsageError, match=says):
            run.invoke(app, ["import", str(file), *arguments], catch_exceptions=False)
