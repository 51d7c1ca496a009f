"""History that does not fit a board's flash is refused, with what would fit; what may not fit is warned of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from config_example import CONTRACT, Site, compiled, line_of, swap
from coupler.points.table import Point
from coupler.store.layout import layout
from hypothesis import given
from hypothesis import strategies as st
from kobler import boards
from kobler.config import compile_config, must_fit, sizing, warnings
from kobler.config.cli import app
from kobler.config.models import Report
from kobler.errors import UsageError
from typer.testing import CliRunner

VIRTUAL = boards.load("virtual")
HEAD = '[device]\nname = "x"\n[history]\n{}\n[cloud]\n{}\n'
ON = 'enabled = true\nurl = "wss://localhost/mqtt"'
BUS = '[[bus]]\nname = "b"\nkind = "tcp"\nhost = "plc"\n[[bus.unit]]\nid = 1\nname = "u"\n'


@pytest.fixture
def make(tmp_path: Path) -> Site:
    return Site(tmp_path)


def site(count: int, rows: str = "history = true", history: str = "", cloud: str = "", kind: str = "u16") -> str:
    point = f'[[bus.unit.point]]\nname = "p%d"\ntable = "holding"\naddress = %d\ntype = "{kind}"\n{rows}\n'
    width = 5 if "string" in kind else 1
    points = "".join(point % (i, width * i) for i in range(count))
    return HEAD.format(history, cloud) + BUS + points


def refusal(make: Site, text: str, board: boards.Board = VIRTUAL) -> str:
    with pytest.raises(UsageError) as caught:
        compile_config(make(text), board)
    return str(caught.value)


def test_the_room_is_what_the_firmware_gives_each_ring() -> None:
    for sectors in (32, 64, 100, 256, 1024, 4096):
        has = sizing.room(sectors, "x")
        regions = {name: count for name, (_, count) in layout(sectors).items()}
        assert (has.samples, has.hours, has.days, has.names) == tuple(
            max(0, regions[name] - 2) * 4096 for name in ("journal", "hours", "days", "names")
        )
        assert (regions["settings"], regions["vault"]) == (sizing.SETTINGS, sizing.VAULT)
    assert sizing.room(4, "x") == sizing.Room("x", 0, 0, 0, 6 * 4096)


@given(
    st.integers(10, 100_000), st.just(0) | st.integers(0, 90_000), st.none() | st.integers(100, 200_000)
)  # fmt: skip
def test_samples_come_as_the_firmware_makes_them(period: int, least: int, most: int | None) -> None:
    if most is not None and most < least:
        return
    report = Report().model_copy(update={"min": least, "max": most})
    row = {"n": "a", "o": 0, "t": "u16", "r": {"min": least} | ({} if most is None else {"max": most})}
    block = {"fc": 3, "a": 0, "n": 1, "ms": period}
    slowest, fastest = sizing.intervals(report, period)
    for wanted, moves in ((slowest, 0), (fastest, 1)):
        feed = Point(dict(row), block, "p").report.feed
        readings = 3 * wanted // period + 1
        came = [i * period for i in range(readings) if feed(i * moves, None, i * period, lambda a, b: a - b)]
        assert came == [0, wanted, 2 * wanted, 3 * wanted]


@pytest.mark.parametrize(
    ("count", "history", "key", "wanted"),
    [
        (51, "", "hours", '51 points with history take 137 KB over 168 hours, the board virtual has 136 KB for them: '
         'ask for at most "167h", fewer points with history (at most 50), or take a board with larger flash'),
        (50, 'hours = "8d"', "hours", 'at most "170h", fewer points with history (at most 44), or'),
        (51, "", "days", '51 points with history take 297 KB over 365 days, the board virtual has 296 KB for them: '
         'ask for at most "364d", fewer points with history (at most 50), or take a board with larger flash'),
        (1, 'days = "3650d"\nhours = "1h"', None, ""),
        (1, 'hours = "3650d"', "hours", 'ask for at most "4352h", fewer points with history, or take'),
        (80, 'days = "1d"\nhours = "1h"', None, ""),
        (50, "", None, ""),
        (50, 'instant = "2d"', None, ""),
        (50, 'instant = "365d"', "instant", '50 points with history take 76993 KB in 365 d even if no value '
         'changes, the board virtual has 520 KB for them: ask for at most "3549m", a longer report.max, fewer '
         'points with history, or take a board with larger flash'),
    ],
)  # fmt: skip
def test_history_must_fit(make: Site, count: int, history: str, key: str | None, wanted: str) -> None:
    text = site(count, history=history)
    if key is None:
        assert compile_config(make(text), VIRTUAL) == compile_config(make(text))
        return
    lines = refusal(make, text).splitlines()
    (line,) = [line for line in lines if f" history.{key}: " in line]
    assert wanted in line
    if key in history:
        assert f"site.toml:{line_of(text, key + ' =')}: " in line


def test_a_board_with_larger_flash_holds_more(make: Site) -> None:
    text = site(100)
    assert len(refusal(make, text).splitlines()) == 2
    assert compile_config(make(text), boards.load("waveshare-esp32-s3-eth-8di-8do"))
    with pytest.raises(UsageError, match=r"history\.days: .*, the unit has 296 KB for them"):
        must_fit(make(text), 256)
    (warning,) = must_fit(make(text), 1024)
    assert "if every reading were a sample, the unit would keep 2 h 2 min of the 5 h" in warning
    with pytest.raises(UsageError, match=r"history\.days: .*, the unit has 68 KB for them"):
        must_fit(make(text), None)


def test_the_documentation_says_how_many_points_fit(make: Site) -> None:
    page = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name, row in (("virtual", "4 MB | 1 MB"), ("waveshare-esp32-s3-eth-8di-8do", "16 MB | 4 MB")):
        match = re.search(rf"^\|.*\b{re.escape(row)} \| (\d+) \|$", page, re.M)
        assert match, row
        most = int(match[1])
        assert compile_config(make(site(most)), boards.load(name))
        assert f"at most {most}" in refusal(make, site(most + 1), boards.load(name))


def test_all_points_count_while_the_cloud_is_enabled(make: Site) -> None:
    rows = 'report = { max = "1s" }'
    assert compile_config(make(site(800, rows, history='hours = "3650d"')), VIRTUAL)
    text = refusal(make, site(12, rows, cloud=ON, history='instant = "2d"'))
    assert "12 points (while the cloud is enabled, all are kept) take 6075 KB" in text
    assert 'at most "246m", a longer report.max, fewer points, or take' in text
    assert compile_config(make(site(12, 'report = { max = "10s" }', cloud=ON, history='instant = "1d"')), VIRTUAL)


def test_texts_take_their_length(make: Site) -> None:
    rows = 'history = true\nreport = { max = "1s" }\nenum = { 0 = "off", 1 = "wärmebetrieb" }'
    for text, size in ((site(1, rows), 12 + 13), (site(1, rows.partition("\nenum")[0], kind="string(9)"), 12 + 9)):
        days = 532480 / size / 86400
        longer = text.replace("[history]\n", f'[history]\ninstant = "{int(days * 1440) + 1}m"\n')
        assert f'at most "{int(days * 1440)}m"' in refusal(make, longer)


def test_what_fits_only_while_values_rest_is_warned_of(make: Site) -> None:
    text = site(39, 'history = true\nreport = { deadband = 1, min = "0s" }')
    config = make(text.replace("[history]\n", '[history]\ninstant = "10h"\n'))
    assert compile_config(config, VIRTUAL) and warnings(config) == []
    (warning,) = warnings(config, VIRTUAL)
    assert warning.endswith(
        "site.toml:4: history.instant: if every reading were a sample, the board virtual would keep 1 h 15 min of the "
        "10 h; a deadband or a longer report.min makes samples fewer"
    )
    assert must_fit(config, 256) == [warning.replace("the board virtual", "the unit")]
    assert warnings(make(text.replace('min = "0s"', 'min = "10s"')), VIRTUAL) == []


def test_a_span_is_said_in_its_two_largest_units() -> None:
    for ms, text in (
        (5_700_000, "1 h 35 min"), (365 * 86_400_000, "365 d"), (90_061_000, "1 d 1 h"), (59_999, "59 s"),
        (86_400_000 + 60_000, "1 d"), (999, "less than a second"),
    ):  # fmt: skip
        assert sizing._span(ms) == text


def test_the_commands_say_what_does_not_fit(tmp_path: Path) -> None:
    run = CliRunner()
    file = tmp_path / "site.toml"
    file.write_text(site(100), encoding="utf-8")
    refused = run.invoke(app, ["check", str(file)])
    assert isinstance(refused.exception, UsageError) and "the board virtual has 136 KB" in str(refused.exception)
    roomy = ["check", str(file), "--board", "waveshare-esp32-s3-eth-8di-8do", "--json"]
    done = run.invoke(app, roomy)
    assert done.exit_code == 0 and json.loads(done.stdout)["points"] == 100
    assert run.invoke(app, ["compile", str(file)]).exit_code == 0, "a file for no certain board"
    file.write_text(site(39, history='instant = "10h"'), encoding="utf-8")
    warned = run.invoke(app, ["check", str(file)])
    assert warned.exit_code == 0 and "warning: " in warned.stderr and "1 h 15 min" in warned.stderr


def test_what_is_not_named_is_not_compiled(make: Site) -> None:
    cloud = "[cloud]\n"
    for text in (CONTRACT, CONTRACT.replace(cloud, '[store]\nsync = "0s"\n[cloud]\ninterval = "0s"\n', 1)):
        assert set(compiled(make(text))) == {"v", "rev", "name", "net", "cloud", "bus"}
        assert "interval" not in compiled(make(text))["cloud"]
    changed = make(CONTRACT.replace(cloud, '[store]\nsync = "5s"\n[cloud]\ninterval = "1m"\n', 1))
    assert compiled(changed)["store"] == {"sync": 5000}
    assert compiled(changed)["cloud"]["interval"] == 60000
    assert compiled(changed.with_cloud("wss://localhost"))["cloud"]["interval"] == 60000
    counting = compiled(make(swap('aggregate = "last"', 'aggregate = "count"')))
    assert counting["bus"][0]["units"][0]["blocks"][1]["p"][0]["r"]["agg"] == "count"


def test_the_names_of_two_configurations_must_fit(make: Site) -> None:
    rows = 'report = { max = "1h" }'
    assert compile_config(make(site(400, rows, cloud=ON)), VIRTUAL)
    text = refusal(make, site(500, rows, cloud=ON))
    assert "bus: the names of 500 points take 14 KB, the board virtual has 12 KB for them: use shorter names" in text
    assert compile_config(make(site(500, rows)), VIRTUAL), "nothing is kept of them"
