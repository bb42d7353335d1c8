"""Test the workflow of public CI: it is valid, and uses targets and Pythons that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github" / "workflows" / "ci.yml"
WORKFLOW: dict[str, Any] = yaml.safe_load(FILE.read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PYTHONS = [
    name.rpartition(" ")[2]
    for name in PROJECT["project"]["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", name)
]


def commands(job: Any) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))


def test_the_workflow_keeps_to_its_schema() -> None:
    tool = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    if tool is None:
        pytest.skip("check-jsonschema is not installed beside Python")
    words = (tool, "--builtin-schema", "vendor.github-workflows", FILE)
    ran = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_workflow_runs_targets_that_exist() -> None:
    used = {
        target
        for job in JOBS.values()
        for command in commands(job)
        for target in re.findall(r"^make (\w+)$", command, flags=re.MULTILINE)
    }
    assert used >= {"lint", "test", "quicktest", "docs", "dist"}
    assert used - targets() == set()


def test_jobs_need_jobs_that_exist() -> None:
    assert {need for job in JOBS.values() for need in job.get("needs", [])} - set(JOBS) == set()


def test_every_python_of_the_classifiers_is_tested_and_has_wheels() -> None:
    assert PYTHONS[0] == PROJECT["project"]["requires-python"].removeprefix(">=")
    assert JOBS["quick"]["strategy"]["matrix"]["python"] == PYTHONS
    build = PROJECT["tool"]["cibuildwheel"]["build"]
    assert build == [f"cp{version.replace('.', '')}-manylinux*" for version in PYTHONS]


def test_both_architectures_have_wheels() -> None:
    runners = JOBS["wheels"]["strategy"]["matrix"]["runner"]
    assert [runner.endswith("-arm") for runner in runners] == [False, True]


def test_hooks_before_a_commit_are_valid_yaml() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    names = [hook["id"] for repo in hooks["repos"] for hook in repo["hooks"]]
    assert {"ruff-check", "ruff-format"} <= set(names)
