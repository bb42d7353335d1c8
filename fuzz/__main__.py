"""Fuzz the native and the Python parsers of bytes from untrusted peers, one target after the other.

    python -m fuzz [--native RUNS] [--python RUNS] [TARGET ...]

Native targets are built by clang with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer
(without clang by gcc, on random inputs); Python targets run under atheris (without it, on
hypothesis's inputs). Prints the executions of each. The exit status is 1 when there was a finding.
"""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fuzz import native

ROOT = Path(__file__).parents[1]


def run_native(names: list[str], runs: int) -> Iterator[bool]:
    """Run the native targets. Yield for each whether it passed."""
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            guided, program = True, native.build(name, Path(directory), guided=True)
            if isinstance(program, str):
                print(f"{name}: {program}; random inputs instead", flush=True)
                guided, program = False, native.build(name, Path(directory), guided=False)
            if isinstance(program, str):
                print(f"{name}: skipped, {program}", flush=True)
                continue
            began = time.monotonic()
            status, said = native.run(program, runs, Path(directory, name), guided=guided)
            yield conclude(f"native {name}", status, said, time.monotonic() - began, guided)


def run_python(names: list[str], runs: int) -> Iterator[bool]:
    """Run the Python targets, each in a process of its own. Yield for each whether it passed."""
    guided = importlib.util.find_spec("atheris") is not None
    for name in names:
        began = time.monotonic()
        ran = subprocess.run(
            [sys.executable, "-m", "fuzz.python", name, str(runs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        took = time.monotonic() - began
        yield conclude(f"python {name}", ran.returncode, ran.stdout, took, guided)


def conclude(what: str, status: int, said: str, took_s: float, guided: bool) -> bool:
    """Print the outcome of one target. Return whether it passed."""
    done = native.executions(said)
    passed = status == 0 and done > 0
    how = "coverage-guided" if guided else "random inputs"
    outcome = "no finding" if passed else f"FAILED (status {status})"
    print(f"{what}: {done} executions, {how}, {took_s:.0f} s, {outcome}", flush=True)
    if not passed:
        print(said[-6000:], flush=True)
    return passed


def main() -> int:
    """Run the targets that the command line selects."""
    python = sorted(_python_targets())
    options = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    options.add_argument("--native", type=int, default=1_000_000, metavar="RUNS")
    options.add_argument("--python", type=int, default=100_000, metavar="RUNS")
    options.add_argument("target", nargs="*", help=f"{', '.join([*native.TARGETS, *python])}; all")
    chosen = options.parse_args()
    wanted = set(chosen.target) or {*native.TARGETS, *python}
    if unknown := wanted - {*native.TARGETS, *python}:
        options.error(f"there is no target {', '.join(sorted(unknown))}")
    passed = [*run_native([n for n in native.TARGETS if n in wanted], chosen.native)]
    passed += run_python([n for n in python if n in wanted], chosen.python)
    return 0 if all(passed) else 1


def _python_targets() -> list[str]:
    from fuzz.targets import TARGETS

    return list(TARGETS)


if __name__ == "__main__":
    sys.exit(main())
