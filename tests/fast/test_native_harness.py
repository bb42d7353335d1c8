"""Run the native headers under threads of their own, without Python: harness/*.c, built in 3 ways.

What the sanitizer builds cover. ThreadSanitizer does not model `__atomic_thread_fence`, on which
the sequence locks rest (gcc warns, -Wtsan). It reports nothing false for that here, since every
datum that a lock guards is itself read and written by atomic operations; but for the same reason it
cannot prove the order that the fences give. So this build says that no thread touches a shared
datum by a plain access while another thread may use it. That no reader ever sees half an update is
what the harness checks by its invariants, in every build.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import pytest

#: Spinning threads on one CPU get on by whole time slices.
pytestmark = pytest.mark.timeout(400)

HERE = Path(__file__).parent
SOURCES = sorted((HERE / "harness").glob("*.c"))
HEADERS = HERE.parents[1] / "src" / "netmeasure" / "_fast"

#: What to add to the command line. The plain build takes no warning.
BUILDS = {
    "plain": ("-O2", "-Werror"),
    "thread": ("-O1", "-fsanitize=thread", "-Wno-tsan"),
    "address": ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
}
#: Rounds per scenario, and fewer where each access costs ten times as much.
SCENARIOS = {
    "merges": (5000, 500),
    "starts": (5000, 1000),
    "moments": (5000, 500),
    "budget": (100, 30),
    "gate": (600, 150),
    "samples": (5000, 500),
    "stream": (200, 60),
    "datagrams": (50_000, 10_000),
    "pace": (44, 22),
    "histogram": (50_000, 10_000),
    "round_trips": (18, 18),
    "shared_trips": (18, 18),
    "datagram_trips": (12, 12),
    "probe": (4, 4),
    "requests": (12, 12),
    "fresh": (12, 12),
    "files": (12, 6),
    "watch": (20, 5),
}
_PROBE = """
#include <pthread.h>
static int n;
static void *work(void *p) { __atomic_fetch_add(&n, 1, __ATOMIC_RELAXED); return p; }
int main(void) {
    pthread_t t;
    return pthread_create(&t, 0, work, 0) || pthread_join(t, 0) || n != 1;
}
"""


def _compile(sources: list[Path], binary: Path, build: str) -> subprocess.CompletedProcess[str]:
    gcc = shutil.which("gcc")
    if gcc is None:
        pytest.skip("there is no gcc")
    command = [gcc, "-std=gnu11", "-g", "-pthread", "-Wall", "-Wextra", "-DNETMEASURE_DEBUG"]
    command += [f"-I{HEADERS}", *BUILDS[build], *map(str, sources), "-o", str(binary)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@functools.cache
def _why_not(build: str, directory: Path) -> str | None:
    """Return why a program of this build can't be made or run here; None where it can."""
    source, binary = directory / f"probe-{build}.c", directory / f"probe-{build}"
    source.write_text(_PROBE)
    made = _compile([source], binary, build)
    if made.returncode != 0:
        return f"gcc can't link with {BUILDS[build][1]}: {made.stderr.strip().splitlines()[-1]}"
    ran = subprocess.run([binary], capture_output=True, text=True, timeout=300)
    if ran.returncode != 0:
        said = (ran.stderr.strip().splitlines() or ["it said nothing"])[0]
        return f"a program with {BUILDS[build][1]} does not run here: {said}"
    return None


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="module", params=BUILDS)
def build(request: pytest.FixtureRequest, directory: Path) -> str:
    if reason := _why_not(request.param, directory):
        pytest.skip(reason)
    made = _compile(SOURCES, directory / request.param, request.param)
    assert made.returncode == 0, made.stderr
    return str(request.param)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_invariants_hold_under_threads(build: str, directory: Path, scenario: str) -> None:
    rounds = SCENARIOS[scenario][build != "plain"]
    command = [str(directory / build), scenario, str(rounds)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ran.returncode, ran.stderr) == (0, "")
