"""Test that the examples run without changes, against a server on loopback."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from netmeasure.cli.exits import Exit
from netmeasure.result import Result
from support.program import netmeasure, server

openmetrics = pytest.importorskip("prometheus_client.openmetrics.parser")
pytest.importorskip("pandas")

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with server() as (_, where):
        yield where


def test_the_page_lists_all_of_them() -> None:
    listed = set(re.findall(r"^\| \[([\w.-]+)\]", (EXAMPLES / "README.md").read_text(), re.M))
    assert listed == {path.name for path in EXAMPLES.iterdir()} - {"README.md"}


def test_the_service(address: str) -> None:
    words = [sys.executable, str(EXAMPLES / "service.py"), address, "--port", "0"]
    with subprocess.Popen(
        [*words, "--every", "60"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as service:
        try:
            assert service.stdout is not None
            port = service.stdout.readline().split()[-1]
            samples: list[Any] = []
            while not samples:  # the first test takes a second
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
                    text = answer.read().decode()
                families = openmetrics.text_string_to_metric_families(text)
                samples = [one for family in families for one in family.samples]
                time.sleep(0.05)
        finally:
            service.terminate()
            _, errors = service.communicate(timeout=20)
    (success,) = (one.value for one in samples if one.name == "netmeasure_success")
    assert (success, errors) == (1.0, "")


@pytest.mark.parametrize(
    ("objectives", "code"), [("setup<10s", Exit.OK), ("setup<1us", Exit.BELOW)]
)
def test_the_gate(tmp_path: Path, address: str, objectives: str, code: Exit) -> None:
    # not for a time: within 0.3 s a busy host may get no byte through, so set-up would be unknown
    words = ["sh", str(EXAMPLES / "ci-gate.sh"), address, objectives, "-n", "1M"]
    program = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    ran = subprocess.run(words, cwd=tmp_path, env={"PATH": program}, capture_output=True)
    assert ran.returncode == code, ran.stderr
    assert Result.from_json((tmp_path / "netmeasure.json").read_bytes()).complete
    assert b"<testsuite" in (tmp_path / "netmeasure.xml").read_bytes()


def test_the_notebook() -> None:
    """The cells run one after the other in one event loop, as in a kernel."""
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    space: dict[str, Any] = {}

    async def kernel() -> None:
        for source in sources:
            code = compile(source, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            done = eval(code, space)
            if inspect.isawaitable(done):
                await done

    asyncio.run(kernel())
    assert list(space["table"]["run"]) == [1, 2]
    assert (space["table"]["steady_bps"] > 0).all()
    assert (
        int(space["series"]["transferred_bytes"].sum()) == space["result"].flow.series.total_bytes
    )


def test_the_job(address: str) -> None:
    job = yaml.safe_load((EXAMPLES / "cronjob.yaml").read_text())
    kubernetes_validate.validate(job, "1.29", strict=True)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    command, target, *options = container["args"]
    assert target == "netmeasure", "the Service of that name"
    ran = netmeasure(command, address, *options, "--time", "0.5")
    judged = re.findall(r"^slo: (met|unknown) ([\w<>]+)", ran.stdout, flags=re.M)
    # whether half a second has a plateau depends on what else this machine does
    steady = "met" if ran.returncode == Exit.OK else "unknown"
    assert judged == [("met", "setup<1s"), (steady, "steady>100M")]
    assert ran.returncode in (Exit.OK, Exit.CANT_TELL)
    assert ran.stderr == ""
