"""Test that a failed test is repeated if and only if the machine was measured to be busy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from support import busy, retries
from support.busy import Watch, Window
from support.census import settle

TESTS = Path(__file__).parents[1]
CALM = Window(others_ratio=0.1, waited_ratio=0.9, steal_ratio=0.0, late_s=0.004)
_BURN = "import time\nend = time.monotonic() + {}\nwhile time.monotonic() < end: pass"


# ---- what the machine did ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, None),
        ({"others_ratio": 0.3}, "other processes took 30%"),
        ({"others_ratio": 0.3, "waited_ratio": None}, "other processes took 30%"),
        ({"others_ratio": 0.9, "waited_ratio": 0.05}, None),  # there was a CPU for everybody
        ({"steal_ratio": 0.06}, "hypervisor"),
        ({"late_s": 0.06}, "60 ms late"),
    ],
)
def test_the_sign_of_a_busy_machine(change: dict[str, float | None], word: str | None) -> None:
    said = busy.sign(CALM._replace(**change))  # type: ignore[arg-type]
    assert (said is None) if word is None else (said is not None and word in said)


def burn(seconds: float, count: int) -> None:
    """Keep several CPUs busy, in processes of their own."""
    children = [
        subprocess.Popen([sys.executable, "-c", _BURN.format(seconds)]) for _ in range(count)
    ]
    for child in children:
        child.wait()


def test_processes_of_others_make_a_machine_busy() -> None:
    """The test watches as some other process would, so everything that this process starts is
    foreign."""
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with Watch(stranger.pid) as watch:
            burn(1.5, count=2 * (os.cpu_count() or 1))
    finally:
        stranger.communicate()
    assert watch.sign is not None
    assert "other processes took" in watch.sign


def test_the_own_processes_are_not_others() -> None:
    before = busy._counters(os.getpid())
    child = subprocess.Popen([sys.executable, "-c", _BURN.format(30)])
    try:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            after = busy._counters(os.getpid())
            if after.known_ticks - before.known_ticks > 0.2 * os.sysconf("SC_CLK_TCK"):
                break
            time.sleep(0.05)
        else:
            pytest.fail("the child's CPU time is not counted as the test's own")
        assert child.pid not in after.others
        assert os.getpid() not in after.others
    finally:
        child.kill()
        child.wait()


# ---- what follows from it ------------------------------------------------------------------------

#: Stands for the measurement: a calm machine can't be had on demand.
_CONFTEST = """
import pathlib, sys
sys.path.insert(0, {tests!r})
from support import retries

class Watch:
    sign = {sign!r}
    def __enter__(self): return self
    def __exit__(self, *_): pass

def wait_for_calm():
    with pathlib.Path(__file__).with_name("waits").open("a") as file:
        file.write("x")

retries.Watch = Watch
retries.wait_for_calm = wait_for_calm
retries._TESTS = pathlib.Path(__file__).parent  # the gate of the tests that run this one is shut
def pytest_configure(config):
    config.pluginmanager.register(retries)
"""
_TEST = """
import pathlib, pytest

@pytest.fixture(scope="module")
def shared():
    yield 1

@pytest.fixture
def attempts(shared):
    counter = pathlib.Path(__file__).with_name("attempts")
    with counter.open("a") as file:
        file.write("x")
    return len(counter.read_text())

{mark}
def test_it(attempts, record_property):
    record_property("figure", attempts)
    assert attempts >= {passes_at}
"""


def tried(
    folder: Path,
    *,
    sign: str | None,
    passes_at: int,
    mark: str = "@pytest.mark.rates",
    workers: int = 0,
) -> tuple[int, int, str]:
    """Run a test that passes from its attempt `passes_at` on; return its exit code, attempts,
    output."""
    (folder / "support").mkdir()
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    rates: a test\n")
    (folder / "conftest.py").write_text(_CONFTEST.format(tests=str(TESTS), sign=sign))
    (folder / "test_it.py").write_text(_TEST.format(mark=mark, passes_at=passes_at))
    ran = subprocess.run(
        [*(sys.executable, "-m", "pytest", "-p", "xdist", "-n", str(workers), "-q"), str(folder)],
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=60,
        check=False,
    )
    return ran.returncode, len((folder / "attempts").read_text()), ran.stdout


def test_a_failure_on_a_calm_machine_is_one_at_once(tmp_path: Path) -> None:
    code, attempts, output = tried(tmp_path, sign=None, passes_at=2)
    assert (code, attempts) == (1, 1)
    assert "because this machine was busy: 0\n" in output
    assert "was not busy" in output


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_on_a_busy_machine_is_tried_again_and_told(tmp_path: Path, workers: int) -> None:
    code, attempts, output = tried(tmp_path, sign="so busy", passes_at=2, workers=workers)
    assert (code, attempts) == (0, 2)
    assert "because this machine was busy: 1\n" in output
    assert "test_it.py::test_it" in output
    assert "so busy" in output
    assert (tmp_path / "waits").read_text() == "x"


@pytest.mark.parametrize(
    ("signs", "naps"), [([None], 1), (["busy", "busy", None], 3), (["busy"] * 99, 10)]
)
def test_a_repeated_attempt_waits_for_a_calm_machine(
    signs: list[str | None], naps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s, left = [0.0], iter(signs)

    class Signs(contextlib.nullcontext[None]):
        def __enter__(self) -> Any:
            return SimpleNamespace(sign=next(left))

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    clock = SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep)
    monkeypatch.setattr(retries, "Watch", Signs)
    monkeypatch.setattr(retries, "time", clock)
    monkeypatch.setattr(retries, "PATIENCE_S", 10 * retries.CALM_S)
    retries.wait_for_calm()
    assert now_s[0] == naps * retries.CALM_S


def test_attempts_have_an_end(tmp_path: Path) -> None:
    code, attempts, output = tried(tmp_path, sign="so busy", passes_at=100)
    assert (code, attempts) == (1, retries.ATTEMPTS)
    assert f"because this machine was busy: {retries.ATTEMPTS - 1}\n" in output


def test_what_holds_no_rates_is_never_tried_again(tmp_path: Path) -> None:
    code, attempts, _ = tried(tmp_path, sign="so busy", passes_at=2, mark="")
    assert (code, attempts) == (1, 1)


def may_lock(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_a_repeated_attempt_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other tests end before it begins, and start after its end."""
    (tmp_path / "support").mkdir()
    monkeypatch.setattr(retries, "_TESTS", tmp_path)
    order = []

    def alone() -> None:
        with retries.Gate().passed(alone=True):
            order.append("alone")
            time.sleep(0.1)
            order.append("gone")

    def shared() -> None:
        with retries.Gate().passed():
            order.append("shared")

    with retries.Gate().passed(), retries.Gate().passed():
        first = threading.Thread(target=alone)
        first.start()
        assert settle(lambda: not may_lock(tmp_path / "support"))
        assert order == []
        second = threading.Thread(target=shared)
        second.start()
    first.join(10)
    second.join(10)
    assert order == ["alone", "gone", "shared"]
