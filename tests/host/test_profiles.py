"""The library of device profiles: each file is complete, names where its facts come from, and runs on the unit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from config_example import CONTRACT, Site, compiled, swap
from kobler.config import load
from kobler.config.cli import app
from kobler.config.models import Bus, Config, Device, Unit
from kobler.config.profiles import load_profile, merge, names
from kobler.config.schedule import HIGH, plan_unit, schedule
from kobler.config.wire import wire_of
from kobler.errors import UsageError
from typer.testing import CliRunner


@pytest.fixture
def make(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_there_are_at_least_two_devices_of_each_kind() -> None:
    found = [load_profile(name) for name in names()]
    for kind in ("meter", "heat pump|heat source", "air handling unit", "inverter"):
        assert len([p for p in found if re.search(kind, p.description.lower())]) >= 2, kind


@pytest.mark.parametrize("name", names())
def test_a_profile_is_complete_and_names_its_sources(name: str) -> None:
    profile = load_profile(name)
    assert profile.name == name
    assert profile.manufacturer and profile.model and profile.description
    assert len(profile.sources) >= 2
    assert any("github.com/" in source for source in profile.sources)
    assert 8 <= len(profile.point) <= 25
    for point in profile.point:
        assert "poll" in point.model_fields_set, point.name
        assert point.unit or point.enum or point.type.kind in {"u16", "i16", "bits"}, point.name
        if point.write is not None and point.type.numeric and not point.enum:
            assert point.write.min is not None and point.write.max is not None, point.name


@pytest.mark.parametrize("name", names())
def test_a_profile_is_planned_and_the_firmware_accepts_it(name: str, make: Site) -> None:
    from coupler.bus.plan import check
    from coupler.points.table import Point

    own = '[device]\nname = "x"\n[[bus]]\nname = "b"\nkind = "rtu"\nbaudrate = 9600\n'
    config = make(f'{own}[[bus.unit]]\nid = 1\nname = "u"\nprofile = "{name}"\n')
    (bus,) = compiled(config)["bus"]
    check(bus, "bus[0]")
    blocks = bus["units"][0]["blocks"]
    loaded = [Point(row, block, "p") for block in blocks for row in block["p"]]
    assert {point.name for point in loaded} == {f"b/u/{p.name}" for p in load_profile(name).point}
    (plan,) = schedule(config)
    assert plan.units[0].exact
    assert plan.load < HIGH, f"{name} alone fills a bus of 9600 baud: {plan.load:.0%}"
    assert len(blocks) < len(loaded)


def test_a_voltage_in_a_profile_is_decoded_by_the_firmware() -> None:
    """43 66 33 34 is 230.2 as a float, high word first."""
    from coupler.points.table import Point

    meter = merge(Unit(id=1, name="u"), load_profile("eastron-sdm630"))
    config = Config(device=Device(name="x"), bus=[Bus(name="b", kind="rtu", unit=[meter])])
    blocks = compiled(config)["bus"][0]["units"][0]["blocks"]
    block = next(b for b in blocks if b["a"] == 0)
    row = next(p for p in block["p"] if p["n"] == "b/u/voltage_l1")
    data = bytes.fromhex("43663334") + bytes(2 * block["n"])
    assert Point(row, block, "p").read(data) == pytest.approx(230.2, abs=1e-4)


def test_points_of_the_unit_replace_those_of_the_profile_and_are_added_to_them(make: Site) -> None:
    config = make(swap('# profile = "eastron-sdm630"', 'profile = "eastron-sdm630" #'))
    points = {point.name: point for point in config.bus[0].unit[0].point}
    assert len(points) == len(load_profile("eastron-sdm630").point) + 1
    assert points["power"].poll == 1000 and points["power"].history  # the contract's own
    assert points["setpoint"].table == "holding"
    assert points["frequency"].unit == "Hz"


def test_a_unit_takes_some_points_of_a_profile(make: Site) -> None:
    chosen = 'profile = "eastron-sdm630"\npoints = ["frequency", "energy_import"]\n#'
    config = make(swap("# profile", chosen + " profile"))
    assert [p.name for p in config.bus[0].unit[0].point] == ["frequency", "energy_import", "power", "setpoint"]
    none = CONTRACT[: CONTRACT.index("[[bus.unit.point]]")].replace("# profile", 'points = []\nprofile = "abb-b23" #')
    with pytest.raises(UsageError, match=r"bus\[0\]\.unit\[0\]\.points: takes no point"):
        make(none)


def test_what_the_unit_says_itself_prevails_over_the_profile() -> None:
    profile = load_profile("eastron-sdm630")
    taken = merge(Unit(id=1, name="u"), profile)
    assert taken.limits and taken.limits.max_registers == 80
    assert max(block.count for block in plan_unit(taken, wire_of(Bus(name="b", kind="rtu"))).blocks) <= 80
    own = Unit.model_validate({"id": 1, "name": "u", "limits": {"max_registers": 10}, "holes": False})
    limits = merge(own, profile).limits
    assert limits and limits.max_registers == 10
    assert merge(own, profile).holes is False


def test_a_profile_of_ones_own_lies_beside_the_configuration(make: Site, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\n[[point]]\nname = "p"\ntable = "coil"\naddress = 5\ntype = "bool"\n', encoding="utf-8"
    )
    text = swap('# profile = "eastron-sdm630"', 'profile = "mine.toml" #')
    assert "p" in [point.name for point in make(text).bus[0].unit[0].point]
    (tmp_path / "mine.toml").write_text('name = "mine"\n[[point]]\nname = "p"\ntable = "coil"\n', encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load(make.path)
    assert re.search(
        r"site\.toml:\d+: bus\[0\]\.unit\[0\]\.profile: .*mine\.toml:2: point\[0\]\.type: is missing", str(caught.value)
    )


def test_the_command_lists_and_shows_profiles() -> None:
    run = CliRunner()
    listed = run.invoke(app, ["profiles", "--json"])
    assert [json.loads(line)["name"] for line in listed.stdout.splitlines()] == names()
    assert "eastron-sdm630" in run.invoke(app, ["profiles"]).stdout
    shown = run.invoke(app, ["profiles", "nibe-s1155", "--json"])
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert rows[0]["event"] == "profile" and rows[0]["points"] == len(rows) - 1
    assert next(row for row in rows if row.get("point") == "heating_offset")["write"]["min"] == -10
    assert "hot_water_demand: 0 small" in run.invoke(app, ["profiles", "nibe-s1155"]).stdout
    with pytest.raises(UsageError, match="there is no profile 'nibe' "):
        run.invoke(app, ["profiles", "nibe"], catch_exceptions=False)
