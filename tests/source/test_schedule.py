"""Test that the order of the tests names existing files, and keeps each file's tests together."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import pytest

from support import schedule

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [*schedule.DEMANDING, *schedule.FIRST, *schedule.APART])
def test_what_is_named_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_long_files_are_first_and_tests_apart_last() -> None:
    ids = [
        f"{name}::test" for name in ("tests/unit/test_units.py", *schedule.APART, *schedule.FIRST)
    ]
    ordered = sorted(ids, key=schedule.place)
    assert ordered[: len(schedule.FIRST)] == [f"{name}::test" for name in schedule.FIRST]
    assert ordered[len(schedule.FIRST)] == "tests/unit/test_units.py::test"
    assert ordered[-len(schedule.APART) :] == [f"{name}::test" for name in schedule.APART]


def test_the_tests_of_a_file_follow_each_other(request: pytest.FixtureRequest) -> None:
    """Otherwise a fixture of a module would be made again for each group of its tests."""
    files = [file for file, _ in groupby(schedule.file_of(i.nodeid) for i in request.session.items)]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("marks", ["rates", "not rates", ""])
def test_one_worker_has_all_tests_of_rates_that_demand_much(marks: str) -> None:
    config = SimpleNamespace(getoption={"markexpr": marks}.get)
    of = object.__new__(schedule.Schedule)
    of.config = config
    scopes = {of._split_scope(f"{name}::test") for name in schedule.DEMANDING}
    assert len(scopes) == (1 if marks == "rates" else len(schedule.DEMANDING))
    first = SimpleNamespace(nodeid="tests/cli/test_cli.py::test")
    items = [first, *(SimpleNamespace(nodeid=f"{name}::test") for name in schedule.DEMANDING)]
    schedule.pytest_collection_modifyitems(config, items)  # type: ignore[arg-type]
    assert (items[0] is first) == (marks != "rates")


@pytest.mark.parametrize(
    ("marks", "name", "ignored"),
    [
        ("rates", "fast/test_udp_pacing.py", None),
        ("rates", "source/test_layers.py", True),
        ("rates", "conftest.py", None),
        ("not rates", "source/test_layers.py", None),
    ],
)
def test_a_run_of_rates_reads_no_file_without_them(
    marks: str, name: str, ignored: bool | None
) -> None:
    config = SimpleNamespace(getoption={"markexpr": marks}.get)
    found = schedule.pytest_ignore_collect(ROOT / "tests" / name, config)  # type: ignore[arg-type]
    assert found is ignored
