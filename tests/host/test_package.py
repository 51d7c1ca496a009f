"""The wheel carries everything: `kobler` works from it, outside the clone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from datetime import UTC, date, datetime, time
from pathlib import Path

import coupler
import kobler
import pytest

_ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, as pip installs it; its dependencies are those of this environment."""
    folder = tmp_path_factory.mktemp("package")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel_here = [*pip, "wheel", "--no-deps", "--wheel-dir", folder, _ROOT]
    done = subprocess.run(wheel_here, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("kobler-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True, timeout=60)
    return folder


def run(installed: Path, *arguments: str, module: str = "kobler") -> subprocess.CompletedProcess[str]:
    (installed / "elsewhere").mkdir(exist_ok=True)
    environment = os.environ | {"PYTHONPATH": str(installed / "site")}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True, text=True, timeout=100, cwd=installed / "elsewhere", env=environment, check=False,
    )  # fmt: skip


def test_wheel_carries_firmware_boards_and_license(installed: Path) -> None:
    (wheel,) = installed.glob("kobler-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for source in (*(_ROOT / "firmware").rglob("*.py"), *(_ROOT / "boards").glob("*.toml")):
        assert f"kobler/_data/{source.relative_to(_ROOT)}" in names
    profiles = _ROOT / "host_tools" / "kobler" / "profiles"
    for source in profiles.glob("*.toml"):
        assert f"kobler/profiles/{source.name}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests")]


def test_profiles_are_found_in_the_wheel(installed: Path) -> None:
    done = run(installed, "config", "profiles", "--json")
    assert done.returncode == 0, done.stderr
    assert "eastron-sdm630" in [json.loads(line)["name"] for line in done.stdout.splitlines()]


def test_build_from_the_wheel_uses_what_the_wheel_carries(installed: Path) -> None:
    where = subprocess.run(
        [sys.executable, "-c", "import kobler.resources as r; print(r.firmware_dir())"],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(installed / "site")}, check=True,
        cwd=installed,
    )  # fmt: skip
    assert where.stdout.strip() == str(installed / "site" / "kobler" / "_data" / "firmware")
    done = run(installed, "build", "--board", "virtual", "--state", "state", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])


def test_the_whole_way_works_from_the_wheel(installed: Path) -> None:
    done = run(installed, "up", "--json", "--for", "3s", "--state", "state")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["samples"] > 0


def test_one_version_everywhere() -> None:
    project = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', project, re.M)
    assert found and found[1] == kobler.__version__ == coupler.VERSION


def test_the_release_is_dated_and_no_change_of_it_is_later() -> None:
    changes = (_ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = datetime.fromtimestamp(coupler.RELEASED_MS / 1000, UTC)
    assert released.time() == time.min, "a day, so that every build is the same"
    assert released == kobler.RELEASED
    assert f"# {released:%Y-%m-%d}," in Path(coupler.__file__).read_text(encoding="utf-8")
    for version, day in re.findall(r"^## \[(.+?)\](?: - (\S+))?$", changes, re.M):
        assert (version == "Unreleased") == (not day), version
        assert not day or released.date() >= date.fromisoformat(day), f"{version} was released on {day}"
    assert released <= datetime.now(UTC), "no time server would be believed"


def test_every_direct_dependency_is_pinned_as_in_the_lock_file() -> None:
    def name(text: str) -> str:
        return re.sub(r"[-_.]+", "-", text).lower()

    lock = dict(
        (name(package), version)
        for package, _, version in (
            line.partition("==") for line in (_ROOT / "requirements.lock").read_text().splitlines() if "==" in line
        )
    )
    project = (_ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pins = re.findall(r'^    "([A-Za-z0-9_.-]+)==([^";]+)', project, re.M)
    assert len(pins) > 15
    for package, version in pins:
        assert lock[name(package)] == version, package
