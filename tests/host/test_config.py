"""Configurations: what is wrong in one is named by file, line and field."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from config_example import Site, line_of, swap
from kobler.config import load
from kobler.errors import UsageError


@pytest.fixture
def make(tmp_path: Path) -> Site:
    return Site(tmp_path)


WIFI = '[[network.fallback]]\nkind = "wifi"\nssid = "plant"\n'

# (replaced, replacement, the field, what the error must say)
WRONG = [
    ('type = "float32"', 'type = "float33"', "bus[0].unit[0].point[0].type", "float32 float64 string(N)"),
    ('type = "float32"', 'type = "string(0)"', "bus[0].unit[0].point[0].type", "string(1)"),
    ('type = "float32"', 'type = "bits(12,5)"', "bus[0].unit[0].point[0].type", "FROM + COUNT <= 16"),
    ("address = 52", "address = 65535", "bus[0].unit[0].point[0].address", "65535"),
    ("address = 52", "address = -1", "bus[0].unit[0].point[0].address", ">= 0"),
    ("address = 52", 'address = "52"', "bus[0].unit[0].point[0].address", "whole number"),
    ("address = 52", "address = true", "bus[0].unit[0].point[0].address", "true must be a whole number"),
    ("scale = 1.0", "scale = 0", "bus[0].unit[0].point[0].scale", "the same"),
    ("scale = 1.0", "scale = nan", "bus[0].unit[0].point[0].scale", "finite"),
    ('order = "ABCD"', 'order = "ACBD"', "bus[0].unit[0].point[0].order", "'ABCD', 'CDAB'"),
    ('poll = "1s"', "poll = 1", "bus[0].unit[0].point[0].poll", "ms, s, m, h or d"),
    ('poll = "1s"', 'poll = "1 s"', "bus[0].unit[0].point[0].poll", "ms, s, m, h or d"),
    ('poll = "1s"', 'poll = "2d"', "bus[0].unit[0].point[0].poll", '"10ms" to "1d"'),
    ("deadband = 5.0", 'deadband = "5"', "bus[0].unit[0].point[0].report.deadband", '"0%" to "100%"'),
    ("deadband = 5.0", "deadband = -1", "bus[0].unit[0].point[0].report.deadband", ">= 0"),
    ('min = "1s", max', 'min = "2m", max', "bus[0].unit[0].point[0].report.min", "more than max"),
    ("deadband = 5.0", "dead_band = 5.0", "bus[0].unit[0].point[0].report.dead_band", "'deadband'"),
    ('name = "power"', 'name = "po/wer"', "bus[0].unit[0].point[0].name", "no / + #"),
    ('name = "power"', 'name = "power#"', "bus[0].unit[0].point[0].name", "no / + #"),
    ('name = "power"', 'name = "setpoint"', "bus[0].unit[0].point[1].name", "point[0]"),
    ('table = "input"', 'table = "coil"', "bus[0].unit[0].point[0].type", "'bool'"),
    ('table = "holding"', 'table = "input"', "bus[0].unit[0].point[1].write", "read only"),
    ("min = 10.0, max = 30.0", "min = 40.0, max = 30.0", "bus[0].unit[0].point[1].write.min", "more than max"),
    ("id = 17", "id = 248", "bus[0].unit[0].id", "<= 247"),
    ("id = 17", "id = 0", "bus[0].unit[0].id", ">= 1"),
    ("id = 17\n", "\n", "bus[0].unit[0].id", "is missing"),
    ('timeout = "500ms"', 'timeout = "2m"', "bus[0].unit[0].timeout", '"10ms" to "20s"'),
    ('parity = "even"', 'parity = "mark"', "bus[0].parity", "'even', 'odd' or 'none'"),
    ("stop_bits = 1", "stop_bits = 3", "bus[0].stop_bits", "<= 2"),
    ("baudrate = 19200", "baudrat = 19200", "bus[0].baudrat", "did you mean 'baudrate'"),
    ('kind = "rtu"', 'kind = "ascii"', "bus[0].kind", "'rtu' or 'tcp'"),
    ('url = "wss', 'url = "ws', "cloud.url", "wss://"),
    ('url = "wss://localhost', 'url = "wss://user@localhost', "cloud.url", "certificate"),
    ('url = "wss://localhost:8443', 'url = "wss://localhost:99999', "cloud.url", "wss://"),
    ('url = "wss://localhost', 'url = "wss://300.1.1.1', "cloud.url", "IPv4"),
    ('url = "wss://localhost', 'url = "wss://[::1]', "cloud.url", "IPv4"),
    ('url = "wss://localhost', 'url = "wss://local_host', "cloud.url", "host name"),
    ('url = "wss://localhost:8443/mqtt"', 'url = "mqtts://localhost/mqtt"', "cloud.url", "no path"),
    ('url = "wss://localhost:8443/mqtt"', "url = []", "cloud.url", "has 0 entries; allowed: >= 1"),
    ('url = "wss://localhost:8443/mqtt"', 'url = ["wss://a", "ws://b"]', "cloud.url[1]", "wss://"),
    ('url = "wss://localhost:8443/mqtt"', 'url = ["wss://a", "wss://A:443/mqtt"]', "cloud.url[1]", "once"),
    ('url = "wss://localhost:8443/mqtt"', 'url = ["wss://a", 5]', "cloud.url[1]", "wss://"),
    ('enabled = false ', 'enabled = "no" ', "cloud.enabled", "true or false"),
    ('address = "dhcp"', 'address = "192.0.2.10/24"', "network.gateway", "is missing"),
    ('address = "dhcp"', 'address = "192.0.2.0/24"', "network.address", "192.0.2.10/24"),
    ('address = "dhcp"', 'address = "192.0.2.10"', "network.address", "192.0.2.10/24"),
    ('ntp = ["pool.ntp.org"]', 'ntp = ["pool.ntp.org:0"]', "network.ntp[0]", "PORT 1 to 65535"),
    ('ntp = ["pool.ntp.org"]', 'ntp = "pool.ntp.org"', "network.ntp", "a list"),
    ('kind = "ethernet"', 'kind = "wifi"', "network.ssid", "needs the network's name"),
    ("[cloud]", '[[network.fallback]]\nkind = "ethernet"\n[cloud]', "network.fallback[0].kind", "once"),
    ("[cloud]", '[[network.fallback]]\nkind = "wifi"\n[cloud]', "network.fallback[0].ssid", "needs the network's name"),
    ("[cloud]", f'{WIFI}after = "0s"\n[cloud]', "network.fallback[0].after", '"1s" to "1h"'),
    ("[cloud]", f'{WIFI}gateway = "192.0.2.1"\n[cloud]', "network.fallback[0].gateway", "comes from DHCP"),
    ("[cloud]", f'{WIFI}ntp = ["a"]\n[cloud]', "network.fallback[0].ntp", "unknown key"),
    ('name = "ahu-roof"', "name = 5", "device.name", "printable"),
    ('[device]\nname = "ahu-roof"', "", "device", "is missing"),
    ('kind = "rtu"', 'kind = "tcp"', "bus[0].host", "is missing"),
    ('kind = "rtu"', 'kind = "tcp"\nhost = "plc"', "bus[0].baudrate", "only with kind = 'rtu'"),
    ('kind = "rtu"', 'kind = "rtu"\nhost = "plc"', "bus[0].host", "only with kind = 'tcp'"),
    ('kind = "rtu"', 'kind = "rtu"\nhost = 5', "bus[0].host", "a name or an IPv4 address"),
    ('kind = "rtu"', 'kind = "rtu"\nin_flight = 17', "bus[0].in_flight", "<= 16"),
    ('kind = "rtu"', 'kind = "rtu"\nturnaround = "11s"', "bus[0].turnaround", '"1ms" to "10s"'),
    ("stop_bits = 1", "stop_bits = 1\n[bus.gateway]", "bus[0].gateway.allow", "is missing"),
    ("stop_bits = 1", "stop_bits = 1\n[bus.gateway]\nallow = []", "bus[0].gateway.allow", "allowed: >= 1"),
    ("stop_bits = 1", 'stop_bits = 1\n[bus.gateway]\nallow = ["10.1/8"]', "bus[0].gateway.allow[0]", "192.0.2.0/24"),
    ("stop_bits = 1", 'stop_bits = 1\n[bus.gateway]\nallow = ["0.0.0.0/0"]', "bus[0].gateway.allow[0]", "not all"),
    ('timeout = "500ms"', "limits = { max_registers = 1 }", "bus[0].unit[0].limits.max_registers", "'power'"),
    ('timeout = "500ms"', "limits = { max_registers = 126 }", "bus[0].unit[0].limits.max_registers", "<= 125"),
    ('timeout = "500ms"', 'holes = "no"', "bus[0].unit[0].holes", "true or false"),
    ('timeout = "500ms"', 'points = ["power"]', "bus[0].unit[0].points", "only with profile"),
    ('# profile = "eastron-sdm630"', 'profile = "eastron-sdm63"', "bus[0].unit[0].profile", "mean 'eastron-sdm630'"),
    ('# profile = "eastron-sdm630"', 'profile = "none.toml" #', "bus[0].unit[0].profile", "no such profile"),
    ('timeout = "500ms"', 'profile = "eastron-sdm630"\npoints = ["powr"]', "bus[0].unit[0].points[0]", "'power'"),
    ("history = true", "missing = true", "bus[0].unit[0].point[0].missing", '"nan"'),
    ("history = true", 'missing = "0x1FFFFFFFF"', "bus[0].unit[0].point[0].missing", "32 bits"),
    ("history = true", "missing = 1e39", "bus[0].unit[0].point[0].missing", "can hold"),
    ('type = "i16"', 'type = "i16"\nmissing = 32768', "bus[0].unit[0].point[1].missing", "-32768 to 32767"),
    ('type = "i16"', 'type = "i16"\nmissing = "nan"', "bus[0].unit[0].point[1].missing", "not a raw value"),
    ('type = "i16"', 'type = "i16"\nmissing = []', "bus[0].unit[0].point[1].missing", "1 to 8"),
    ('type = "i16"', 'type = "bool"\nmissing = 1', "bus[0].unit[0].point[1].missing", "'bool'"),
    ("history = true", 'enum = { 0 = "off" }', "bus[0].unit[0].point[0].enum", "'float32'"),
    ("scale = 0.1", 'enum = { 0 = "off" }\nscale = 0.1', "bus[0].unit[0].point[1].scale", "its values are texts"),
    ("scale = 0.1", 'enum = { 0 = "off" }', "bus[0].unit[0].point[1].unit", "its values are texts"),
    ("scale = 0.1", 'enum = { 0 = "off" }', "bus[0].unit[0].point[1].write.min", "its values are texts"),
    ("scale = 0.1", 'enum = { 70000 = "off" }', "bus[0].unit[0].point[1].enum", "70000"),
    ("scale = 0.1", 'enum = { off = "0" }', "bus[0].unit[0].point[1].enum", "'off'"),
    ("scale = 0.1", 'enum = { 1 = "off", 0x1 = "on" }', "bus[0].unit[0].point[1].enum", "twice"),
    ("scale = 0.1", 'enum = { 1 = "off", 2 = "off" }', "bus[0].unit[0].point[1].enum", "which raw value"),
    ("scale = 0.1", "enum = {}", "bus[0].unit[0].point[1].enum", "1 to 64"),
    ("scale = 0.1", 'enum = { 1 = "on" }\nreport.deadband = 1', "bus[0].unit[0].point[1].report.deadband", "texts"),
    ("max = 30.0, verify", "max = 4000.0, verify", "bus[0].unit[0].point[1].write.max", "possible: -3276.8 to 3276.7"),
    ('type = "i16"', 'type = "string(248)"', "bus[0].unit[0].point[1].write", "246"),
    ('role = "operator"', 'interval = "2d"', "bus[0].unit[0].point[1].write.interval", '"0s" to "1d"'),
    ("[cloud]", '[cloud]\ninterval = "61m"', "cloud.interval", '"0s" to "1h"'),
    ("[cloud]", "[cloud]\ninterval = nan", "cloud.interval", "nan is not a duration"),
    ("[cloud]", '[store]\nsync = "61s"\n[cloud]', "store.sync", '"0s" to "60s"'),
    ("[cloud]", '[store]\nsync = "-1s"\n[cloud]', "store.sync", "ms, s, m, h or d"),
    ("[cloud]", "[store]\nsync = inf\n[cloud]", "store.sync", "inf is not a duration"),
    ("[cloud]", "[store]\nsync = true\n[cloud]", "store.sync", "ms, s, m, h or d"),
    ("[cloud]", '[store]\nsnyc = "5s"\n[cloud]', "store.snyc", "did you mean 'sync'"),
    ("[cloud]", "store = 5\n[cloud]", "network.store", "unknown key"),
    ('[device]\nname = "ahu-roof"', 'store = "5s"\n[device]\nname = "ahu-roof"', "store", "must be a table"),
    ("[cloud]", '[history]\ninstant = "59s"\n[cloud]', "history.instant", '"1m" to "365d"'),
    ("[cloud]", '[history]\ninstant = "5 h"\n[cloud]', "history.instant", "ms, s, m, h or d"),
    ("[cloud]", '[history]\nhours = "59m"\n[cloud]', "history.hours", '"1h" to "3650d"'),
    ("[cloud]", "[history]\nhours = 168\n[cloud]", "history.hours", "168 is not a duration"),
    ("[cloud]", '[history]\ndays = "12h"\n[cloud]', "history.days", '"1d" to "3650d"'),
    ("[cloud]", '[history]\ndays = "9999999999d"\n[cloud]', "history.days", "is not a duration"),
    ("[cloud]", '[history]\nyears = "1d"\n[cloud]', "history.years", "allowed: days, hours, instant"),
    ("[cloud]", '[[history]]\ndays = "1d"\n[cloud]', "history", "must be a table"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "field", "says"), WRONG, ids=[f"{w[2]}={w[1][:40]}" for w in WRONG])
def test_a_mistake_is_named_by_file_line_and_field(
    make: Site, tmp_path: Path, old: str, new: str, field: str, says: str
) -> None:
    text = swap(old, new)
    with pytest.raises(UsageError) as caught:
        make(text)
    lines = str(caught.value).splitlines()
    wanted = [line for line in lines if f": {field}: " in line]
    assert wanted, lines
    assert says in wanted[0]
    match = re.match(re.escape(str(tmp_path / "site.toml")) + r":(\d+): ", wanted[0])
    assert match, wanted[0]
    # The line is that of the key itself; of what is missing, that of the table around it; of a dangling
    # duplicate, that of the second one.
    at = text.splitlines()[int(match[1]) - 1]
    key = field.rpartition(".")[2].partition("[")[0]
    assert key in at or "missing" in says or "needs" in says, at


def test_several_mistakes_are_listed_one_a_line_in_the_order_of_the_file(make: Site) -> None:
    text = swap('parity = "even"', 'parity = "mark"').replace("id = 17", "id = 300").replace('poll = "5s"', "poll = 5")
    with pytest.raises(UsageError) as caught:
        make(text)
    lines = str(caught.value).splitlines()
    numbers = [int(line.split(":")[1]) for line in lines]
    assert numbers == [line_of(text, part) for part in ('parity = "mark"', "id = 300", "poll = 5")]


def test_the_command_shows_each_mistake_as_a_line_of_its_own(tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(swap('parity = "even"', 'parity = "mark"').replace("id = 17", "id = 300"))
    command = [sys.executable, "-P", "-m", "kobler", "config", "check", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and len(lines) == 2
    assert all(re.match(re.escape(f"kobler: {site}:") + r"\d+: bus\[0\]", line) for line in lines), lines


@pytest.mark.parametrize(
    ("text", "line"),
    [('[device]\nname = "x\n', 2), ("[device\n", 1), ("a = 1\na = 2\n", 2), ('x = """\n\n', 3)],
)
def test_what_is_not_toml_is_named_by_file_and_line(make: Site, text: str, line: int) -> None:
    with pytest.raises(UsageError, match=rf"site\.toml:{line}: not TOML: "):
        make(text)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("a = 1\nx = " + "[" * 5000, 1, "not TOML: nested too deeply"),
        ("a = 1\n" + "b." * 3000 + "c = 1", 2, "not a configuration: nested too deeply"),
        ("a = 1\nx = " + "9" * 5000, 2, "not TOML: a number with too many digits"),
    ],
    ids=["lists", "keys", "digits"],
)
def test_what_python_itself_cannot_hold_is_an_error_too(make: Site, text: str, line: int, what: str) -> None:
    with pytest.raises(UsageError, match=rf"site\.toml:{line}: {what}"):
        make(text)


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.toml: there is no such configuration"):
        load(tmp_path / "nothing.toml")
    (tmp_path / "latin.toml").write_bytes(b'[device]\nname = "\xe6"\n')
    with pytest.raises(UsageError, match=r"latin\.toml: not UTF-8 text \(byte 17\)"):
        load(tmp_path / "latin.toml")


def test_the_documentation_shows_a_configuration_that_is_right_and_names_every_key(make: Site) -> None:
    from kobler.config import compile_config, models

    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    config = make(page.split("```toml\n")[1].split("```")[0])
    assert compile_config(config)
    begin = page.index("| table | keys |")
    table = page[begin : page.index("\n\n", begin)]
    rows = {
        "[device]": models.Device, "[network]": models.Network, "[cloud]": models.Cloud, "[[bus]]": models.Bus,
        "[[network.fallback]]": models.Fallback, "[store]": models.Store, "[history]": models.History,
        "[est]": models.Est,
        "[bus.gateway]": models.Gateway, "[[bus.unit]]": models.Unit, "[[bus.unit.point]]": models.Point,
        "report": models.Report, "write": models.Write,
    }  # fmt: skip
    for name, model in rows.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        listed = set(re.findall(r"`(\w+)`", row.split("|")[2])) - set(models.Limits.model_fields)
        assert listed == {field.alias or key for key, field in model.model_fields.items()}, name
