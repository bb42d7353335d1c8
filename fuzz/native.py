"""Build and run the native targets (native/*.c), with clang's libFuzzer or on random inputs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE / "native"
HEADERS = HERE.parent / "src" / "netmeasure" / "_fast"
#: Every program there is a target, except the one that runs targets without a fuzzing engine.
TARGETS = sorted(path.stem for path in SOURCES.glob("*.c") if path.stem != "driver")
LONGEST = 400

_FLAGS = ["-std=gnu11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-DNETMEASURE_DEBUG"]
_FLAGS += [f"-I{HEADERS}", "-fno-sanitize-recover=all"]


def clang() -> str | None:
    """Return the clang of this machine, whatever version its name has; None if there is none."""
    names = ["clang", *(f"clang-{version}" for version in range(25, 13, -1))]
    return next((found for name in names if (found := shutil.which(name))), None)


def build(name: str, into: Path, *, guided: bool) -> Path | str:
    """Compile a target. `guided` means with libFuzzer, otherwise gcc and random inputs.

    Returns the program, or a line that says why it can't be built here.
    """
    compiler = clang() if guided else shutil.which("gcc")
    if compiler is None:
        return "there is no clang" if guided else "there is no gcc"
    program = into / f"{name}-{'guided' if guided else 'random'}"
    engine = "-fsanitize=fuzzer,address,undefined" if guided else "-fsanitize=address,undefined"
    sources = [SOURCES / f"{name}.c", *([] if guided else [SOURCES / "driver.c"])]
    command = [compiler, *_FLAGS, engine, *map(str, sources), "-o", str(program)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if ran.returncode == 0:
        return program
    if "error:" in ran.stderr and f"{name}.c" in ran.stderr:
        raise RuntimeError(ran.stderr)  # a fault of ours, not of the machine
    return f"{Path(compiler).name} can't link it: {ran.stderr.strip().splitlines()[-1]}"


def run(program: Path, runs: int, corpus: Path, *, guided: bool) -> tuple[int, str]:
    """Run a target. Return its exit status and its output."""
    command = [str(program), str(runs)]
    if guided:
        corpus.mkdir(exist_ok=True)
        options = [f"-runs={runs}", f"-max_len={LONGEST}", f"-artifact_prefix={corpus}-"]
        command = [str(program), *options, str(corpus)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return ran.returncode, ran.stdout


def executions(said: str) -> int:
    """Return how many executions a target reports at its end; 0 if it did not get there."""
    found = re.search(r"^Done (\d+) runs", said, re.MULTILINE)
    return int(found[1]) if found else 0


def invariant(name: str) -> str:
    """Return what a target checks: the comment at its beginning."""
    found = re.match(r"/\* (.*?) \*/", (SOURCES / f"{name}.c").read_text(), re.DOTALL)
    return " ".join(found[1].replace("\n *", " ").split()) if found else ""
