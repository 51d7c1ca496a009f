"""Options of the whole suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--interpreter", help="run the unit tests on this MicroPython or CircuitPython binary")
    parser.addoption("--board", help="run the HIL suite on the hardware at this serial port")
    parser.addoption("--long", action="store_true", help="also run the sweeps that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: run it with tests/run --long"))
