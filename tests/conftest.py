"""Options of the whole suite."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

# Files of more than 45 seconds, by themselves. They begin first, so that none of them is waited for at the end.
_LONG = (
    "test_up", "test_oldest_micropython", "test_azure_link", "test_provision_board", "test_memory", "test_est",
    "test_bus_remote", "test_esptool", "test_link_faults", "test_console_lock", "test_exactly_once",
    "test_tools_agree", "test_lock_board", "test_network_faults", "test_flash",
)  # fmt: skip


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--interpreter", help="run the unit tests on this MicroPython or CircuitPython binary")
    parser.addoption("--board", help="run the HIL suite on the hardware at this serial port")
    parser.addoption("--long", action="store_true", help="also run the sweeps that take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="long: run it with tests/run --long"))
    items.sort(key=lambda item: _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG))


@pytest.fixture(scope="session")
def server_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libmodbus as a server, the reference."""
    compiler = shutil.which("cc")
    if compiler is None or not Path("/usr/include/modbus/modbus.h").exists():
        pytest.skip("libmodbus-dev and a C compiler are not here (apt install libmodbus-dev gcc)")
    source = Path(__file__).parent / "board" / "modbus_server.c"
    program = tmp_path_factory.mktemp("server") / "modbus_server"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", program, source, "-lmodbus"], check=True, timeout=60)
    return program
