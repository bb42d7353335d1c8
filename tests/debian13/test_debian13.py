"""A bounded part of `make test-debian13`: the wheel on Debian 13, beside its iperf3.

On this machine's own system, the whole suite runs; there, what depends on the versions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from support import debian13
from support.debian13 import ENVIRONMENT, PROJECT, Machine

# making the system is not limited here: its own commands have their deadlines
pytestmark = [pytest.mark.debian13, pytest.mark.timeout(1800)]

#: At least so many tests must have passed there: a selection that matches nothing proves nothing.
FEWEST = 100
#: What waits for tasks and closes servers: asyncio is what differs most between Pythons.
SELECTED = (
    "tests/unit/test_tasks.py",
    "tests/unit/test_acceptor.py",
    "tests/origins/test_origin_close.py",
    "tests/origins/test_ftp_origin.py",
)
#: Of the tests of iperf3's shapes: text and JSON, TCP and UDP.
SHAPES = "tests/interop/test_iperf3_shapes.py"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with debian13.machine(bounded=True) as made:
        yield made


def passed(machine: Machine, *words: str) -> int:
    """Run tests there; return how many passed. A failure or an error of one is an OSError."""
    python = f"{ENVIRONMENT}/bin/python"
    ran = machine.run(
        *(python, "-m", "pytest", "-n2", "--dist=load", *words), cwd=PROJECT, timeout=300
    )
    found = re.search(r"^(\d+) passed", ran.stdout, re.MULTILINE)
    assert found is not None, ran.stdout
    return int(found[1])


def test_it_is_debian_13(machine: Machine) -> None:
    assert machine.run("cat", "/etc/debian_version").stdout.startswith("13.")
    assert machine.run("python3", "--version").stdout.startswith(f"Python {debian13.PYTHON}.")
    assert machine.run("iperf3", "--version").stdout.startswith("iperf 3.18 ")


def test_the_wheel_measures(machine: Machine) -> None:
    where = "import netmeasure; print(netmeasure.__file__)"
    assert "/site-packages/" in machine.run(f"{ENVIRONMENT}/bin/python", "-c", where).stdout
    ran = machine.run(f"{ENVIRONMENT}/bin/netmeasure", "loopback", "-t", "0.5", "--json")
    result = json.loads(ran.stdout)
    assert result["complete"]
    (flow,) = result["flows"]
    assert flow["receiver"]["bytes"] == flow["sender"]["acked_bytes"] > 0


def test_tasks_and_embedded_servers_end(machine: Machine) -> None:
    words = "test_tasks or test_acceptor or test_origin_close or end or abort or 426 or goes"
    assert passed(machine, *SELECTED, "-k", words) >= FEWEST


def test_shapes_are_those_of_its_iperf3(machine: Machine) -> None:
    assert passed(machine, SHAPES, "-k", "1M or 100K") >= 6
