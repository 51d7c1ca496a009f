"""The HIL suite's board: a virtual one, or with `--board PORT` the hardware at that port; the tests cannot tell.

`coupler` is a whole running installation (`kobler up`) with an observer's own connection to the broker beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from running_coupler import Coupler


@pytest.fixture(scope="module")
def coupler(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Coupler]:
    arguments: list[str] = []
    port = request.config.getoption("--board")
    if port:
        # The broker must be reached from the board, and the site's devices are not the demonstration's.
        arguments = ["--board", os.environ.get("KOBLER_BOARD", "esp32-generic"), "--port", str(port)]
        arguments += ["--listen", os.environ["KOBLER_LISTEN"]] if "KOBLER_LISTEN" in os.environ else []
        arguments += ["--config", os.environ["KOBLER_CONFIG"]] if "KOBLER_CONFIG" in os.environ else []
    folder = tmp_path_factory.mktemp("coupler")
    config = getattr(request.module, "CONFIG", None)  # a module's own, on the virtual board
    if config and not port:
        (folder / "site.toml").write_text(config, encoding="utf-8")
        arguments = ["--config", str(folder / "site.toml")]
    running = Coupler(folder / "state", arguments)
    try:
        yield running
    finally:
        running.close()
