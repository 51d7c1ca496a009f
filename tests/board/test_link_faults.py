"""A broker that fails in every way it can: the bus goes on, and the link comes back by itself.

Poll lateness is what the meter on the virtual bus sees; the handshake's arithmetic is reported apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from link_faults import BROKER_FAULTS, QUICK, REAL, Fault, Site, endure, judge

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
