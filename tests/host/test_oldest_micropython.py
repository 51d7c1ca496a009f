"""The compiled firmware on the oldest MicroPython it promises to run on, with 32-bit words: the build of 1.24 for node.

That build has neither sockets nor os.urandom nor sha1, and its asyncio belongs to JavaScript: what needs those is left
out here and runs on the unix port.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from kobler.build.modules import compile_all, texts
from kobler.build.names import share
from kobler.resources import firmware_dir

_PACKAGE = "@micropython/micropython-webassembly-pyscript@1.24.1"
_TESTS = Path(__file__).parents[1] / "unit"
_MODULES = (
    "test_pdu", "test_rtu", "test_client", "test_mbap", "test_poller", "test_codec", "test_encode", "test_report",
    "test_table", "test_write", "test_journal",
    "test_mqtt", "test_senml", "test_plain", "test_session", "test_dns", "test_sntp", "test_der", "test_pkcs7",
    "test_rsa",
)  # fmt: skip


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("node") or not shutil.which("npm"):
        pytest.skip("node and npm are not here")
    folder = tmp_path_factory.mktemp("node")
    # Where there is no registry it should not take minutes to find that out.
    patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=20000"]
    command = ["npm", "install", "--silent", "--no-save", *patience, "--prefix", str(folder), _PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    if done.returncode:
        pytest.skip(f"{_PACKAGE} could not be installed: {done.stderr.strip()[-200:]}")
    return folder / "node_modules"


def test_compiled_firmware_passes_its_unit_tests_on_1_24(node_modules: Path, tmp_path: Path) -> None:
    # The tests look at private names too, so these are shared between all of them.
    ours = {path.stem: path.read_text(encoding="utf-8") for path in _TESTS.glob("*.py")}
    shared = share(texts(firmware_dir()) | ours)
    tests = tmp_path / "tests"
    tests.mkdir()
    for name in ours:
        (tests / f"{name}.py").write_text(shared[name], encoding="utf-8")
    for module in compile_all(firmware_dir(), lambda _: shared):
        target = tmp_path / module.target
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(module.data)
    runner = Path(__file__).with_name("micropython_wasm.mjs")
    command = ["node", str(runner), str(node_modules), str(tmp_path), str(tests), *_MODULES]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line[2:]) for line in done.stdout.splitlines() if line.startswith("@@")]
    assert len(results) > 120
    assert not [row for row in results if row["error"]]
