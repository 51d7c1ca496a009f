"""The loop that peers and brokers run in, an authority of their own, and the files of a unit under it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from uplink_world import Ca, Loop


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Ca:
    return Ca(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def files(ca: Ca, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ca.unit(tmp_path_factory.mktemp("unit"))
