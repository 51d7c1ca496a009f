"""A broker that fails in every way it can: the bus goes on, and the link comes back by itself.

Poll lateness is what the meter on the virtual bus sees; the handshake's arithmetic is reported apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from link_faults import BROKER_FAULTS, POLL_S, QUICK, REAL, Fault, Site, due_phase, endure, judge

pytestmark = pytest.mark.skipif("config.getoption('--board')", reason="needs the virtual bus and its own network")


@pytest.fixture(
    scope="module",
    params=[QUICK, pytest.param(REAL, marks=[pytest.mark.long, pytest.mark.timeout(600)])],
    ids=["shorter waits", "real waits"],
)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with Site(tmp_path_factory.mktemp("site"), request.param) as found:
        yield found


@pytest.mark.parametrize("fault", BROKER_FAULTS, ids=[fault.name for fault in BROKER_FAULTS])
def test_the_bus_goes_on_and_the_link_comes_back(site: Site, fault: Fault) -> None:
    judge(endure(site, fault), fault, site.times)


@pytest.mark.parametrize("late_s", [0.0, 0.03, 0.062, 0.097])
def test_a_poll_that_came_late_does_not_hide_when_it_was_due(late_s: float) -> None:
    moments = [7.04 + each * POLL_S + each % 3 * 0.001 for each in range(20)]
    moments[5] += late_s
    assert abs(due_phase(moments) - 7.04 % POLL_S) < 0.0015
