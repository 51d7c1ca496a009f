"""The live table of `kobler up`: what matters can be read in any terminal."""

from __future__ import annotations

import io

import pytest
from kobler.cloud.feed import Sample
from kobler.cloud.live import Live
from rich.console import Console

# point, value, unit, quality, what must be seen of the value
POINTS = [
    ("field/meter/power_factor", 0.95283973, "/", "good", "0.95284"),
    ("field/meter/energy", -5136719.5, "kWh", "good", "-5.13672e+06"),
    ("field/heatpump/running", True, "", "good", "True"),
    ("field/heatpump/a_name_that_is_much_longer_than_most", 28, "Cel", "good", "28"),
    ("field/ahu/supply", 16.1, "Cel", "timeout", "16.1"),
    ("field/ahu/serial", "[/b] A7", "[x]", "good", "[/b] A7"),
]


def drawn(width: int) -> list[str]:
    live = Live("[demo]   unit 2a746d58689e   wss://localhost:8443/mqtt")
    for number, (point, value, unit, quality, _) in enumerate(POINTS):
        for arrival in (0.0, 2.0):
            live.take(Sample("2a746d58689e", point, value, unit, 0.0, quality, number), arrival)
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(live.render(5.0))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [30, 40, 60, 80, 100])
def test_every_value_can_be_read_with_its_unit_at_any_width(width: int) -> None:
    lines = drawn(width)
    assert max(map(len, lines)) <= width
    for point, _, unit, _, shown in POINTS:
        rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if "│" in line]
        found = [row for row in rows if row[1].removesuffix(" !") == shown]
        assert len(found) == 1, lines
        assert found[0][2] == unit and point.endswith(found[0][0].removeprefix("…"))


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (30, ["Point", "Value", "Unit"]),
        (40, ["Point", "Value", "Unit"]),
        (60, ["Point", "Value", "Unit", "Quality"]),
        (70, ["Point", "Value", "Unit", "Quality", "Age"]),
        (100, ["Point", "Value", "Unit", "Quality", "Age", "Rate"]),
    ],
)
def test_where_room_is_short_rate_age_and_quality_go_in_this_order(width: int, titles: list[str]) -> None:
    lines = drawn(width)
    head = next(line for line in lines if "Value" in line)
    assert head.replace("┃", " ").replace("Poi…", "Point").split() == titles
    # A value that is not good is told apart all the same.
    bad = next(line for line in lines if "16.1" in line)
    assert ("timeout" if "Quality" in titles else "16.1 !") in bad


def test_what_the_unit_only_remembered_is_no_value_from_the_bus_of_now() -> None:
    live = Live("demo", since=1000.0)
    for moment, good in ((999.0, 0), (1000.0, 1), (None, 2)):
        live.take(Sample("id", "field/meter/power", 1.0, "W", moment, "good", 1), 0.0)
        assert live.good == good and (live.failure() is None) == bool(good)
    assert live.samples == 3
