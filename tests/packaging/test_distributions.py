"""The source distribution and the wheel: made as `make dist` does, installed, measured with."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from netmeasure.version import __version__
from support.checkout import copy_checkout
from support.debian import QUICK_BUILD

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
#: `make install` has compiled as users do, Python's modules too: a build's own tools run once.
BUILDING = {**os.environ, **QUICK_BUILD, "PIP_NO_COMPILE": "1"}
STEM = f"netmeasure-{__version__}"


def run(*words: str | Path, timeout_s: float = 600, **options: Any) -> str:
    """Return what a command prints; a failure is an error in the command's own words."""
    done: subprocess.CompletedProcess[str] = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout_s, check=False, **options
    )
    assert done.returncode == 0, f"{words}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project without anything that was built in it."""
    return copy_checkout(tmp_path_factory.mktemp("packaging") / "checkout")


@pytest.fixture(scope="module")
def dist(checkout: Path) -> Path:
    """A directory with both distributions.

    They are built with the tools that are installed here. What pyproject.toml asks for is used
    where the source distribution is installed.
    """
    directory = checkout.parent / "dist"
    words = ("tools/make-dist.sh", sys.executable, directory, "--no-isolation")
    run("sh", *words, cwd=checkout, env=BUILDING)
    return directory


def the_only(directory: Path, pattern: str) -> Path:
    (found,) = directory.glob(pattern)
    return found


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    return the_only(dist, "*.tar.gz")


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return the_only(dist, "*.whl")


# ---- what they hold ------------------------------------------------------------------------------


def sources(root: Path) -> set[str]:
    files = (path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    return {name for name in files if not name.startswith("dist/")}


def test_the_sdist_holds_the_whole_project_and_nothing_that_was_built(
    checkout: Path, sdist: Path
) -> None:
    with tarfile.open(sdist) as archive:
        members = [member for member in archive.getmembers() if not member.isdir()]
    held = {member.name.removeprefix(f"{STEM}/") for member in members}
    made = {"PKG-INFO", "setup.cfg"}  # by setuptools
    wanted = {name for name in sources(checkout) if ".egg-info/" not in name}
    wanted -= {name for name in wanted if name.endswith((".c", ".so")) and "_fast/" in name}
    assert {name for name in held if ".egg-info/" not in name} - made == wanted - {
        ".dockerignore",  # a link
        ".gitignore",
    }


def test_the_wheel_runs_on_any_linux_of_its_age(wheel: Path) -> None:
    name, version, python, _, platform = wheel.stem.split("-")
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert (name, version, python) == ("netmeasure", __version__, tag)
    assert platform.startswith("manylinux")


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"{STEM}.dist-info/METADATA").decode())


def test_the_wheel_has_its_licence_and_addresses(wheel: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found = metadata(wheel)
    assert found["License-Expression"] == "Apache-2.0"
    assert found.get_all("License-File") == ["LICENSE"]
    assert found["Author"] == project["authors"][0]["name"]
    addresses = dict(line.split(", ") for line in found.get_all("Project-URL", []))
    assert addresses == project["urls"]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert f"{STEM}.dist-info/licenses/LICENSE" in names
    assert f"{STEM}.data/data/share/man/man1/netmeasure.1" in names
    tops = {"netmeasure", f"{STEM}.dist-info", f"{STEM}.data"}
    assert {name.split("/")[0] for name in names} == tops


# ---- that they measure ---------------------------------------------------------------------------


def fresh_environment(directory: Path) -> Path:
    """Make a virtual environment; return the directory of its programs."""
    run(sys.executable, "-m", "venv", "--without-pip", directory)
    return directory / "bin"


def install(programs: Path, *words: str | Path, **options: Any) -> None:
    """Install into an environment with this one's pip."""
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "--quiet", "--no-compile", *words, **options)


def measured(programs: Path, directory: Path) -> Any:
    """Measure loopback with an installed program, away from the project's own modules."""
    environment = {**os.environ, "PATH": str(programs), "PYTHONPATH": ""}
    words = (programs / "netmeasure", "loopback", "-t", "0.5", "--json")
    return json.loads(run(*words, cwd=directory, env=environment, timeout_s=60))


def check(result: Any) -> None:
    assert result["complete"]
    (flow,) = result["flows"]
    assert flow["receiver"]["bytes"] == flow["sender"]["acked_bytes"] > 0
    assert "resolve" in [phase["name"] for phase in result["setup"]]


def test_the_wheel_installs_without_a_compiler_and_measures(wheel: Path, tmp_path: Path) -> None:
    programs = fresh_environment(tmp_path / "fresh")
    environment = {**os.environ, "PATH": str(programs)}
    for compiler in ("cc", "gcc", "clang"):
        assert shutil.which(compiler, path=environment["PATH"]) is None
    install(programs, "--only-binary", ":all:", wheel, env=environment)
    check(measured(programs, tmp_path))


def test_the_sdist_installs_and_measures(sdist: Path, tmp_path: Path) -> None:
    programs = fresh_environment(tmp_path / "fresh")
    install(programs, sdist, env=BUILDING)
    check(measured(programs, tmp_path))
