"""Test the Python code in the documentation by mypy, and run the code that needs only loopback."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def scripts(page: Path) -> dict[str, str]:
    """Return the Python blocks of a page, each with a name that may be a module's."""
    name = re.sub(r"\W", "_", page.relative_to(ROOT).with_suffix("").as_posix())
    blocks = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.M | re.S)
    return {f"{name}_{number}": block for number, block in enumerate(blocks)}


SCRIPTS = {name: script for page in PAGES for name, script in scripts(page).items()}
#: Scripts that connect to a server of their own on loopback, and so can run anywhere.
ALONE = [name for name, script in SCRIPTS.items() if 'nm.serve("127.0.0.1"' in script]


def test_the_readme_and_the_tutorials_have_scripts_that_run() -> None:
    assert "README_0" in ALONE
    assert any(name.startswith("docs_tutorial_") for name in ALONE)


def test_scripts_are_typed_strictly(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed here")
    for name, script in SCRIPTS.items():
        (tmp_path / f"{name}.py").write_text(script)
    config = ("--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *config, *sorted(tmp_path.glob("*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ALONE)
def test_a_script_that_needs_only_loopback_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPTS[name]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout != ""
    assert done.stderr == ""
