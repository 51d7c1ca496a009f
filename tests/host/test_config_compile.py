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

TWO = '["mqtts://one.azure-devices.net", "mqtts://two.azure-devices.net"]'


@pytest.fixture
def make(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_the_example_of_the_contract_compiles_to_what_the_unit_loads(make: Site) -> None:
    result = compiled(make(CONTRACT))
    assert re.fullmatch("[0-9a-f]{8}", result.pop("rev"))
    power = {"n": "field/meter/power", "o": 0, "t": "float32", "w": "ABCD", "u": "W"}
    power |= {"r": {"db": 5.0, "min": 1000, "max": 60000, "agg": "last"}, "h": True}
    setpoint = {"n": "field/meter/setpoint", "o": 0, "t": "i16", "w": "ABCD", "k": 0.1, "u": "Cel"}
    setpoint |= {"wr": {"min": 10.0, "max": 30.0, "verify": True, "role": "operator"}}
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
        values = [(p.name, p.read(b"\x43\x66\x00\x00")) for p in read]
        assert values == [("field/meter/setpoint", 1725.4), ("field/meter/power", 230.0)]


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
        ('kind = "ethernet"', 'kind = "modem"', "network.kind"),
        ("[cloud]", '[[network.fallback]]\nkind = "modem"\n[cloud]', "network.fallback[0].kind"),
    ],
)
def test_what_this_version_cannot_do_is_refused_and_not_dropped(make: Site, old: str, new: str, field: str) -> None:
    text = swap(old, new)
    config = make(text)
    line = line_of(text, 'kind = "modem"')
    with pytest.raises(UsageError, match=rf":{line}: {re.escape(field)}: .*not supported by this version"):
        compile_config(config)


def test_azure_has_a_path_of_its_own_and_alone_a_scope(make: Site) -> None:
    azure = 'dialect = "azure"\nscope = "0ne000A1B2C"'
    assert compiled(make(swap('dialect = "plain"', azure)))["cloud"]["scope"] == "0ne000A1B2C"
    for text, field in (
        (swap('dialect = "plain"', 'dialect = "plain"\nscope = "x"'), "cloud.scope"),
        (swap('dialect = "plain"', azure).replace(":8443/mqtt", ":8443/other"), "cloud.url"),
        (swap('dialect = "plain"', azure).replace('"wss://localhost:8443/mqtt"', TWO), "cloud.url[1]"),
    ):
        with pytest.raises(UsageError, match=rf": {re.escape(field)}: "):
            make(text)
    assert compiled(make(swap('ack = "broker"', 'ack = "store"')))["cloud"]["ack"] == "store"


def test_further_urls_follow_the_first_and_are_in_the_firewall_table(make: Site) -> None:
    one, two = '"wss://localhost:8443/mqtt"', '["wss://localhost:8443/mqtt", "mqtts://Second.example.com"]'
    single, several = compiled(make(CONTRACT))["cloud"], compiled(make(swap(one, two)))["cloud"]
    assert several.pop("more") == [{"scheme": "mqtts", "host": "second.example.com", "port": 8883, "path": ""}]
    assert several == single, "a firmware that knows one only takes the first"
    found = [(rule.domain, rule.port) for rule in rules(make(swap(one, two).replace("= false", "= true", 1)))]
    assert found[:2] == [("localhost", 8443), ("second.example.com", 8883)]


FALLBACK = """[[network.fallback]]
kind = "wifi"
ssid = "plant"
password = "not secret"
address = "198.51.100.7/24"
gateway = "198.51.100.1"
dns = ["198.51.100.1"]
after = "2m"
"""


def test_other_ways_into_the_network_follow_the_first(make: Site) -> None:
    net = compiled(make(swap("[cloud]", FALLBACK + "[cloud]")))["net"]
    assert net.pop("fallback") == [
        {
            "kind": "wifi",
            "address": {
                "ip": "198.51.100.7",
                "mask": "255.255.255.0",
                "gateway": "198.51.100.1",
                "dns": ["198.51.100.1"],
            },
            "ssid": "plant",
            "password": "not secret",
            "after": 120000,
        }
    ]
    assert net == compiled(make(CONTRACT))["net"]
    table = rules(make(swap("[cloud]", FALLBACK + "[cloud]").replace("= false", "= true", 1)))
    domains = [rule.domain for rule in table if rule.port in (53, 67)]
    assert domains == ["198.51.100.1", "DNS servers from DHCP", "DHCP server of the site"]


def test_an_ethernet_configuration_is_refused_for_a_board_without_ethernet(make: Site) -> None:
    with pytest.raises(UsageError, match=r":5: network\.kind: .*lilygo-t-can485 has no Ethernet"):
        compile_config(make(CONTRACT), boards.load("lilygo-t-can485"))
    wifi_first = swap('kind = "ethernet"', 'ssid = "plant"\nkind = "wifi"').replace(
        "[cloud]", '[[network.fallback]]\nkind = "ethernet"\n[cloud]', 1
    )
    with pytest.raises(UsageError, match=r":11: network\.fallback\[0\]\.kind: .*has no Ethernet"):
        compile_config(make(wifi_first), boards.load("lilygo-t-can485"))
    assert compile_config(make(CONTRACT), boards.load("virtual")) == compile_config(make(CONTRACT))


def test_a_second_serial_bus_is_refused_and_a_second_network_bus_is_not(make: Site) -> None:
    unit = (
        '[[bus.unit]]\nid = 1\nname = "u"\n[[bus.unit.point]]\nname = "p"\ntable = "coil"\naddress = 0\ntype = "bool"\n'
    )
    serial = CONTRACT + '[[bus]]\nname = "second"\nkind = "rtu" # 2\n' + unit
    line = line_of(serial, 'kind = "rtu" # 2')
    with pytest.raises(UsageError, match=rf":{line}: bus\[1\]\.kind: .*not supported by this version.*one RS-485 port"):
        compile_config(make(serial))
    plcs = [f'[[bus]]\nname = "{name}"\nkind = "tcp"\nhost = "{name}.local"\n{unit}' for name in ("plc", "roof")]
    assert [bus["kind"] for bus in compiled(make(CONTRACT + "".join(plcs)))["bus"]] == ["rtu", "tcp", "tcp"]


def test_a_network_bus_and_a_gateway_compile_to_what_the_unit_loads(make: Site) -> None:
    from coupler.bus.plan import check

    gateway = '[bus.gateway]\nallow = ["192.0.2.0/24", "198.51.100.7"]\nwrite = true\n'
    tcp = """[[bus]]
name = "plc"
kind = "tcp"
host = "PLC.local"
port = 1502
in_flight = 4
[[bus.unit]]
id = 0
name = "plc"
write_multiple = true
[[bus.unit.point]]
name = "run"
table = "holding"
address = 7
type = "bool"
write = { interval = "5s" }
"""
    text = CONTRACT.replace("stop_bits = 1\n", f'stop_bits = 1\nturnaround = "150ms"\n{gateway}', 1) + tcp
    field, plc = compiled(make(text))["bus"]
    check(field, "bus[0]")
    check(plc, "bus[1]")
    assert field["turn"] == 150
    assert field["gw"] == {"port": 502, "allow": ["192.0.2.0/24", "198.51.100.7/32"], "write": True}
    units = plc.pop("units")
    assert plc == {"name": "plc", "kind": "tcp", "host": "plc.local", "port": 1502, "flight": 4}
    assert units[0]["multi"] is True
    assert units[0]["blocks"][0]["p"][0]["wr"] == {"role": "operator", "ms": 5000}


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ('type="i16"\nmissing="0x8000"', {"na": [0x8000]}),
        ('type="i16"\nmissing=-32768', {"na": [0x8000]}),
        ('type="u32"\nmissing=[0, "0xFFFFFFFF"]', {"na": [0, 0xFFFFFFFF]}),
        ('type="bits(2,3)"\nmissing=7', {"na": [7]}),
        ('type="float32"\nmissing="nan"', {"na": [0x7FC00000, 0x7FFFFFFF, 0xFFC00000, 0xFFFFFFFF]}),
        ('type="float32"\nmissing=-9999', {"na": [0xC61C3C00]}),
        ('type="float64"\nmissing="0xFFF0000000000000"', {"na": [0xFFF0000000000000]}),
        ('type="u16"\nenum={0="off", 0x0A="heat"}', {"e": {"0": "off", "10": "heat"}}),
        ('type="i16"\nenum={-1="fault", 1="on"}', {"e": {"-1": "fault", "1": "on"}}),
        ('type="bits(0,2)"\nenum={3="alarm"}', {"e": {"3": "alarm"}}),
    ],
)
def test_values_that_mean_something_else_compile_to_what_the_unit_loads(
    make: Site, row: str, wanted: dict[str, object]
) -> None:
    from coupler.points.table import Point

    (block,) = compiled(make(points(f'table="holding"\naddress=3\n{row}')))["bus"][0]["units"][0]["blocks"]
    (point,) = block["p"]
    assert {key: point[key] for key in wanted} == wanted
    Point(point, block, "p")  # the firmware's own checks


def test_what_each_pattern_of_not_a_number_means(make: Site) -> None:
    import math
    import struct

    for kind, form in (("float32", ">f"), ("float64", ">d")):
        text = points(f'table="holding"\naddress=3\ntype="{kind}"\nmissing="nan"')
        found = compiled(make(text))["bus"][0]["units"][0]["blocks"][0]["p"][0]["na"]
        assert len(found) == 4
        size = struct.calcsize(form)
        assert all(math.isnan(struct.unpack(form, raw.to_bytes(size))[0]) for raw in found)


def test_a_bus_that_has_too_much_to_do_is_warned_of(make: Site) -> None:
    assert warnings(make(CONTRACT)) == []
    busy = CONTRACT.replace("baudrate = 19200", "baudrate = 300", 1)
    (warning,) = warnings(make(busy))
    assert re.search(rf"site\.toml:{line_of(busy, '[[bus]]')}: bus\[0\]: \d+% of the time of bus 'field'", warning)
    assert "later than `poll` says" in warning
    (warning,) = warnings(make(busy.replace("= 300", "= 600").replace('poll = "1s"', 'poll = "700ms"')))
    assert "little room" in warning


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
        compile_config(make(swap('kind = "ethernet"', 'kind = "modem"')).with_cloud("mqtts://localhost"))


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
    assert rules(make(swap("history = true", ""))) == []
    config = make(CONTRACT)
    kept = [(rule.domain, rule.port, rule.protocol) for rule in rules(config)]
    assert kept[0] == ("pool.ntp.org", 123, "UDP"), "history needs the time"
    assert [row[1:] for row in kept[1:]] == [(53, "UDP"), (67, "UDP")]
    rows = [(rule.domain, rule.port, rule.protocol) for rule in rules(config.with_cloud("wss://hub.example.org"))]
    assert rows[:2] == [("hub.example.org", 443, "TCP"), ("pool.ntp.org", 123, "UDP")]
    assert [row[1:] for row in rows[2:]] == [(53, "UDP"), (67, "UDP")]


def test_the_firewall_table_holds_what_is_read_from_the_network_and_who_may_come_in(make: Site) -> None:
    text = CONTRACT.replace("stop_bits = 1\n", 'stop_bits = 1\n[bus.gateway]\nallow = ["192.0.2.0/24"]\n', 1)
    tcp = '[[bus]]\nname = "plc"\nkind = "tcp"\nhost = "198.51.100.9"\n' + points(
        'table="coil"\naddress=0\ntype="bool"'
    )
    text = text.replace("history = true\n", "", 1) + tcp.replace(
        '[device]\nname="x"\n[[bus]]\nname="b"\nkind="rtu"\n', ""
    )
    rows = [(rule.domain, rule.port, rule.note.startswith("inbound")) for rule in rules(make(text))]
    assert rows == [("192.0.2.0/24", 502, True), ("198.51.100.9", 502, False)]
    named = rules(make(text.replace("198.51.100.9", "plc.local")))
    assert [rule.port for rule in named] == [502, 502, 53, 67]


def points(*rows: str) -> str:
    head = '[device]\nname="x"\n[[bus]]\nname="b"\nkind="rtu"\n[[bus.unit]]\nid=1\nname="u"\n'
    return head + "".join(f'[[bus.unit.point]]\nname="p{i}"\n{row}\n' for i, row in enumerate(rows))


def blocks(config: Config) -> list[tuple[int, int, int, int]]:
    return [(b["fc"], b["a"], b["n"], b["ms"]) for b in compiled(config)["bus"][0]["units"][0]["blocks"]]


def test_neighbours_are_read_at_once_and_slow_ones_along_where_that_is_cheaper(make: Site) -> None:
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
    assert blocks(make(text)) == [(1, 8, 2, 1000), (3, 5, 1, 1000), (4, 0, 7, 1000)]


def test_limits_and_holes_of_a_unit_are_kept(make: Site) -> None:
    rows = [f'table="holding"\naddress={at}\ntype="u32"' for at in (0, 2, 4, 8)]
    text = points(*rows)
    assert blocks(make(text)) == [(3, 0, 10, 1000)]
    assert blocks(make(text.replace('name="u"', 'name="u"\nholes=false'))) == [(3, 0, 6, 1000), (3, 8, 2, 1000)]
    limited = text.replace('name="u"', 'name="u"\nlimits={max_registers=4}')
    assert [n for _, _, n, _ in blocks(make(limited))] == [4, 2, 2]


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
    from kobler.config.compiler import _block
    from kobler.config.models import Bus, Point, Unit
    from kobler.config.schedule import plan_unit
    from kobler.config.wire import wire_of

    made = []
    for i, (table, at, kind, poll) in enumerate(rows):
        row = {"name": f"p{i}", "table": table, "address": at, "poll": poll}
        made.append(Point.model_validate({**row, "type": "bool" if table in {"coil", "discrete"} else kind}))
    unit = Unit(id=1, name="u", point=made)
    planned = plan_unit(unit, wire_of(Bus(name="b", kind="rtu", unit=[unit])))
    found = {}
    for block in (_block(block, "b/u") for block in planned.blocks):
        assert block["n"] <= {1: 2000, 2: 2000, 3: 125, 4: 125}[block["fc"]]
        for point in block["p"]:
            Loaded(point, block, "p")  # the firmware's own checks
            source = made[int(point["n"].rpartition("/p")[2])]
            assert block["a"] + point["o"] == source.address
            assert point["o"] + source.type.registers <= block["n"]
            assert block["ms"] <= source.poll
            assert source.name not in found
            found[source.name] = block["fc"]
    assert found == {p.name: {"coil": 1, "discrete": 2, "holding": 3, "input": 4}[p.table] for p in made}


def test_the_commands(tmp_path: Path) -> None:
    run = CliRunner()
    file = tmp_path / "site.toml"
    file.write_text(CONTRACT.replace("enabled = false", "enabled = true"), encoding="utf-8")
    checked = run.invoke(app, ["check", str(file), "--json"])
    assert checked.exit_code == 0
    facts = json.loads(checked.stdout)
    assert (facts["units"], facts["points"], facts["reads"]) == (1, 2, 2)
    assert checked.stderr == ""
    out = tmp_path / "config.json"
    assert run.invoke(app, ["compile", str(file), "-o", str(out)]).exit_code == 0
    assert out.read_bytes() == compile_config(load(file))
    listed = run.invoke(app, ["firewall", str(file), "--json"])
    assert json.loads(listed.stdout.splitlines()[0])["domain"] == "localhost"
    assert "localhost" in run.invoke(app, ["firewall", str(file)]).stdout
