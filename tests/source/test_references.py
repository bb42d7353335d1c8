"""Test that the files which code, comments and pages name are in the repository."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "benchmarks", "docs", "tools", "deploy", "fuzz")
TEXTS = {".py", ".pyx", ".pxd", ".pyi", ".h", ".md", ".sh", ".toml", ".yaml", ".yml"}
#: Documents and Python sources; headers are left out, since most of them are the kernel's.
_NAMED = re.compile(r"(?<![\w./*{}-])[\w-][\w./-]*\.(?:md|py|pyx|pyi)\b")
#: Files of other projects, and files that a test makes.
ELSEWHERE = {
    "numpy/_core/tests/_natype.py",
    "careless.pyx",
    "conftest.py",
    "first.py",
    "nowhere.md",
    "page.md",
    "test_it.py",
}


def texts() -> list[Path]:
    found = [path for path in ROOT.iterdir() if path.is_file() and path.suffix != ".md"]
    for folder in FOLDERS:
        found += (ROOT / folder).rglob("*")
    return [path for path in found if path.suffix in TEXTS or path.name == "Makefile"]


def test_every_named_file_is_there() -> None:
    files = texts()
    ours = [path.relative_to(ROOT) for path in [*files, *ROOT.glob("*.md")]]
    known = {f"/{name}" for name in [*ours, *ELSEWHERE]}
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in files
        for name in _NAMED.findall(path.read_text())
        if not any(one.endswith("/" + name.removeprefix("../").lstrip("/")) for one in known)
    ]
    assert not missing, "\n".join(missing)


def test_the_readme_of_the_tests_has_every_folder() -> None:
    text = (ROOT / "tests" / "README.md").read_text()
    folders = [path.name for path in (ROOT / "tests").iterdir() if path.is_dir()]
    assert [name for name in folders if name[0] not in "._" and f"| `{name}/` |" not in text] == []
