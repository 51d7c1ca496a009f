"""The loop that peers and brokers run in, an authority of their own, the files of a unit under it; the firmware as it
is flashed, and a board with it; an EST server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from board_at_port import Unit, unit
from est_place import Place, a_place
from kobler import boards
from kobler.build import Build, build
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


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    return build(boards.load("virtual"), tmp_path_factory.mktemp("build") / "build" / "virtual")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, built: Build) -> Iterator[Unit]:
    with unit(tmp_path_factory.mktemp("board") / "flash.bin", built) as it:
        yield it


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    with a_place(tmp_path, monkeypatch) as found:
        yield found
