"""Set in which order the workers of a run take the tests, and which tests stay together.

One worker runs a whole file, since its tests share fixtures. If the longest file came last, one
worker would run it while the others were idle, so the long files come first. The tests of files
without costly shared fixtures come last, one by one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Files with the marker `rates` whose tests use much of a CPU. One worker has them all, one after
#: the other, so that a CPU is always left for the other workers, whose tests mostly wait.
DEMANDING = (
    "tests/fast/test_udp_pacing.py",
    "tests/network/test_limit_verdicts.py",
    "tests/network/test_paths.py",
    "tests/network/test_events.py",
)
#: Folders and files that take half a minute or more, the longest first.
FIRST = (
    "tests/packaging/",
    "tests/debian13/",
    "tests/containers/",
    "tests/source/test_docs.py",
    "tests/source/test_lint.py",
    "tests/cli/test_cli.py",
    "tests/network/",
    "tests/cli/",
    "tests/interop/",
)
#: Files whose tests take a second or more each, and share no fixtures.
APART = (
    "tests/interop/test_iperf3_shapes.py",
    "tests/cli/iperf3/test_dropin_options.py",
    "tests/cli/iperf3/test_dropin_life.py",
    "tests/network/test_pauses.py",
)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def place(nodeid: str) -> int:
    """Return the place of a test in the order; tests with equal places stay in their order."""
    if file_of(nodeid) in APART:
        return len(FIRST) + 1
    starts = (at for at, name in enumerate(FIRST) if nodeid.startswith(name))
    return next(starts, len(FIRST))


def _of_rates_only(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "rates")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Skip the files without the marker in a run of `rates`: only a tenth of all tests has it."""
    if not _of_rates_only(config) or not collection_path.match("test_*.py"):
        return None
    return "rates" not in collection_path.read_text() or None


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Give each worker one file after the other, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        file = file_of(nodeid)
        if file in DEMANDING and _of_rates_only(self.config):
            return "demanding"
        return nodeid if file in APART else file


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    demanding = DEMANDING if _of_rates_only(config) else ()
    items.sort(key=lambda item: (file_of(item.nodeid) not in demanding, place(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Schedule | None:
    """Take the place of `--dist loadfile`."""
    if config.getoption("dist") != "loadfile":
        return None
    config.option.loadscopereorder = False  # by the number of tests, it would be
    return Schedule(config, log)
