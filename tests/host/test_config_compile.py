"""Configurations: what the unit is handed, what is refused though it is right, what a firewall must let out."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from config_example import CONTRACT, Site, compiled, line_of, swap
from hypothesis import given
from hypothesis import strategies as st
from kobler import boards
from kobler.config import Config, compile_config, load, warnings
from kobler.config.cli import app
from kobler.config.firewall import rules
from kobler.errors import UsageError
from typer.testing import CliRunner


@pytest.fixture
def make(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_example_of_the_contract_compiles_to_what_the_unit_loads(make: Site) -> None:
    result = compiled(make(CONTRACT))
    assert re.fullmatch("[0-9a-f]{8}", result.pop("rev"))
    power = {"n": "field/meter/power", "o": 0, "t": "float32", "w": "ABCD", "u": "W"}
    power |= {"r": {"db": 5.0, "min": 1000, "max": 60000, "agg": "last"}, "h": True}
    setpoint = {"n": "field/meter/setpoint", "o": 0, "t": "i16", "w": "ABCD", "k": 0.1, "u": "Cel"}
    assert result == {
        "v": 1,
        "name": "ahu-roof",
        "net": {"kind": "ethernet", "address": "dhcp", "ntp": ["pool.ntp.org"]},
        "cloud": {
            "enabled": False,
            "scheme": "wss",
            "host": "localhost",
            "port": 8443,
            "path": "/mqtt",
            "dialect": "plain",
            "ack": "broker",
        },
        "bus": [
            {
                "name": "field",
                "kind": "rtu",
                "baud": 19200,
                "parity": "even",
                "stop": 1,
                "units": [
                    {
                        "id": 17,
                        "name": "meter",
                        "timeout": 500,
                        "blocks": [
                            {"fc": 3, "a": 0, "n": 1, "ms": 5000, "p": [setpoint]},
                            {"fc": 4, "a": 52, "n": 2, "ms": 1000, "p": [power]},
                        ],
                    }
                ],
            }
        ],
    }


def test_the_firmware_accepts_what_the_host_compiles(make: Site) -> None:
    from coupler.bus.plan import check
    from coupler.points.table import Point

    for index, bus in enumerate(compiled(make(CONTRACT))["bus"]):
        check(bus, f"bus[{index}]")
        read = [Point(p, b, "p") for unit in bus["units"] for b in unit["blocks"] for p in b["p"]]
        assert [(p.name, p.scale) for p in read] == [("field/meter/setpoint", 0.1), ("field/meter/power", 1)]


def test_the_revision_changes_with_the_content_and_only_with_it(make: Site) -> None:
    first = compiled(make(CONTRACT))["rev"]
    assert compiled(make("# a remark\n" + CONTRACT))["rev"] == first
    assert compiled(make(swap("address = 52", "address = 54")))["rev"] != first


def test_the_smallest_configuration_has_the_cloud_off(make: Site) -> None:
    result = compiled(make('[device]\nname = "x"\n'))
    assert result["cloud"]["enabled"] is False
    assert result["bus"] == []


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('kind = "rtu"', 'kind = "tcp"', "bus[0].kind"),
        ('# profile = "eastron-sdm630"', 'profile = "eastron-sdm630" #', "bus[0].unit[0].profile"),
        ('dialect = "plain"', 'dialect = "azure"', "cloud.dialect"),
        ('ack = "broker"', 'ack = "store"', "cloud.ack"),
        ('kind = "ethernet"', 'kind = "modem"', "network.kind"),
    ],
)
def test_what_this_version_cannot_do_is_refused_and_not_dropped(make: Site, old: str, new: str, field: str) -> None:
    text = swap(old, new)
    config = make(text)
    with pytest.raises(
        UsageError, match=rf":{line_of(text, new)}: {re.escape(field)}: .*not supported by this version"
    ):
        compile_config(config)


def test_an_ethernet_configuration_is_refused_for_a_board_without_ethernet(make: Site) -> None:
    with pytest.raises(UsageError, match=r":5: network\.kind: .*lilygo-t-can485 has no Ethernet"):
        compile_config(make(CONTRACT), boards.load("lilygo-t-can485"))
    assert compile_config(make(CONTRACT), boards.load("virtual")) == compile_config(make(CONTRACT))


def test_a_write_table_is_accepted_with_a_warning(make: Site) -> None:
    text = CONTRACT
    (warning,) = warnings(make(text))
    assert f":{line_of(text, 'write = {')}: bus[0].unit[0].point[1].write: " in warning
    assert warnings(make(text[: text.index("write = {")])) == []


def test_the_demonstration_replaces_cloud_and_time(make: Site) -> None:
    config = make(CONTRACT)
    changed = compiled(config.with_cloud("wss://localhost:4711/mqtt").with_ntp(["127.0.0.1:12345"]))
    assert changed["cloud"]["enabled"] is True
    assert changed["cloud"]["port"] == 4711
    assert changed["net"]["ntp"] == ["127.0.0.1:12345"]
    assert compiled(config)["cloud"]["enabled"] is False
    with pytest.raises(UsageError, match="wss://"):
        config.with_cloud("http://localhost")
    # Errors found later still know the file.
    with pytest.raises(UsageError, match=r"site\.toml:"):
        compile_config(make(swap('kind = "rtu"', 'kind = "tcp"')).with_cloud("mqtts://localhost"))


def test_a_static_address_is_split_for_the_unit(make: Site) -> None:
    static = 'address = "192.0.2.10/24"\ngateway = "192.0.2.1"\ndns = ["192.0.2.1", "198.51.100.7"]'
    net = compiled(make(swap('address = "dhcp"', static)))["net"]
    assert net["address"] == {
        "ip": "192.0.2.10",
        "mask": "255.255.255.0",
        "gateway": "192.0.2.1",
        "dns": ["192.0.2.1", "198.51.100.7"],
    }
    with pytest.raises(UsageError, match=r"network\.gateway: '198\.51\.100\.1' is no other host"):
        make(swap('address = "dhcp"', static.replace('gateway = "192.0.2.1"', 'gateway = "198.51.100.1"')))


def test_the_firewall_table_holds_what_the_configuration_needs(make: Site) -> None:
    config = make(CONTRACT)
    assert rules(config) == []
    rows = [(rule.domain, rule.port, rule.protocol) for rule in rules(config.with_cloud("wss://hub.example.org"))]
    assert rows[:2] == [("hub.example.org", 443, "TCP"), ("pool.ntp.org", 123, "UDP")]
    assert [row[1:] for row in rows[2:]] == [(53, "UDP"), (67, "UDP")]


def points(*rows: str) -> str:
    head = '[device]\nname="x"\n[[bus]]\nname="b"\nkind="rtu"\n[[bus.unit]]\nid=1\nname="u"\n'
    return head + "".join(f'[[bus.unit.point]]\nname="p{i}"\n{row}\n' for i, row in enumerate(rows))


def blocks(config: Config) -> list[tuple[int, int, int, int]]:
    return [(b["fc"], b["a"], b["n"], b["ms"]) for b in compiled(config)["bus"][0]["units"][0]["blocks"]]


def test_neighbours_are_read_at_once_and_holes_are_not_read(make: Site) -> None:
    text = points(
        'table="input"\naddress=4\ntype="u16"',
        'table="input"\naddress=0\ntype="float32"',
        'table="input"\naddress=2\ntype="u32"',
        'table="input"\naddress=6\ntype="u16"',
        'table="input"\naddress=5\ntype="u16"\npoll="2s"',
        'table="holding"\naddress=5\ntype="bits(0,1)"',
        'table="holding"\naddress=5\ntype="bits(1,3)"',
        'table="coil"\naddress=9\ntype="bool"',
        'table="coil"\naddress=8\ntype="bool"',
    )
    assert blocks(make(text)) == [
        (1, 8, 2, 1000), (3, 5, 1, 1000), (4, 0, 5, 1000), (4, 6, 1, 1000), (4, 5, 1, 2000),
    ]  # fmt: skip


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["coil", "discrete", "input", "holding"]),
            st.integers(0, 400),
            st.sampled_from(["u16", "u32", "float64", "string(250)"]),
            st.sampled_from(["1s", "5s"]),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_every_point_is_read_where_it_is_and_no_read_is_too_long(rows: list[tuple[str, int, str, str]]) -> None:
    from coupler.points.table import Point as Loaded
    from kobler.config.compiler import _blocks
    from kobler.config.models import Bus, Point, Unit

    made = []
    for i, (table, at, kind, poll) in enumerate(rows):
        row = {"name": f"p{i}", "table": table, "address": at, "poll": poll}
        made.append(Point.model_validate({**row, "type": "bool" if table in {"coil", "discrete"} else kind}))
    unit = Unit(id=1, name="u", point=made)
    planned = _blocks(Bus(name="b", kind="rtu", unit=[unit]), unit)
    found = {}
    for block in planned:
        assert block["n"] <= {1: 2000, 2: 2000, 3: 125, 4: 125}[block["fc"]]
        covered: set[int] = set()
        for point in block["p"]:
            Loaded(point, block, "p")  # the firmware's own checks
            source = made[int(point["n"].rpartition("/p")[2])]
            assert block["a"] + point["o"] == source.address
            assert point["o"] + source.type.registers <= block["n"]
            assert block["ms"] == source.poll
            covered.update(range(point["o"], point["o"] + source.type.registers))
            found[source.name] = block["fc"]
        assert covered == set(range(block["n"]))
    assert found == {p.name: {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[p.table] for p in made}


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner()
    file = tmp_path / "site.toml"
    file.write_text(CONTRACT.replace("enabled = false", "enabled = true"), encoding="utf-8")
    checked = run.invoke(app, ["check", str(file), "--json"])
    assert checked.exit_code == 0
    facts = json.loads(checked.stdout)
    assert (facts["units"], facts["points"], facts["reads"]) == (1, 2, 2)
    assert "this version does not write" in checked.stderr
    out = tmp_path / "config.json"
    assert run.invoke(app, ["compile", str(file), "-o", str(out)]).exit_code == 0
    assert out.read_bytes() == compile_config(load(file))
    listed = run.invoke(app, ["firewall", str(file), "--json"])
    assert json.loads(listed.stdout.splitlines()[0])["domain"] == "localhost"
    assert "localhost" in run.invoke(app, ["firewall", str(file)]).stdout
