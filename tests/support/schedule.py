"""Say in which order the workers of a run take the tests, and what stays together.

A file goes to one worker: its tests share what they set up. Were the longest file taken last, one
worker would be at it while the others had nothing to do; so the long ones are first, and last come
the tests of files that share nothing worth it, each by itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

#: Of the tests of rates, files that take a good part of a CPU: one worker has them all, one after
#: the other, so that the other workers' tests have a CPU at any moment. The others' mostly wait.
DEMANDING = (
    "tests/fast/test_udp_pacing.py",
    "tests/network/test_limit_verdicts.py",
    "tests/network/test_known_faults.py",
    "tests/network/test_paths.py",
    "tests/network/test_events.py",
)
#: Folders and files of half a minute or more, the longest first.
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
#: Files whose tests take a second or more each, and set up nothing together.
APART = (
    "tests/interop/test_iperf3_shapes.py",
    "tests/cli/iperf3/test_dropin_options.py",
    "tests/cli/iperf3/test_dropin_life.py",
    "tests/network/test_pauses.py",
)


def file_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


def place(nodeid: str) -> int:
    """Return where in the order a test stands; equals stay as they are."""
    if file_of(nodeid) in APART:
        return len(FIRST) + 1
    starts = (at for at, name in enumerate(FIRST) if nodeid.startswith(name))
    return next(starts, len(FIRST))


def _of_rates_only(config: pytest.Config) -> bool:
    return bool(config.getoption("markexpr") == "rates")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the files without the marker in a run of rates, which has a tenth of all tests."""
    if not _of_rates_only(config) or not collection_path.match("test_*.py"):
        return None
    return "rates" not in collection_path.read_text() or None


class Schedule(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Gives each worker one file after the other, in the order of the tests."""

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
