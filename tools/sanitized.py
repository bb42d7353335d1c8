"""Run the native tests under a sanitizer: `python tools/sanitized.py address,undefined | thread`.

The native modules are built with NETMEASURE_SANITIZE into a directory of their own, together with a
copy of the package, so the usual build is not changed. The interpreter is not built with the
sanitizer: its runtime library is loaded before all others (LD_PRELOAD). AddressSanitizer's leak
check is off, since the interpreter itself keeps memory until its end; the C harness, which has no
interpreter, checks for leaks. ThreadSanitizer checks only the native modules and their locks.

Then the C harness runs, which has builds with both sanitizers.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIBRARIES = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}
#: Options of the sanitizers. A report ends the process, so no test can pass in spite of it.
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1",
    "UBSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:abort_on_error=1:report_signal_unsafe=0",
}
#: These tests build programs with sanitizers of their own, or judge timing (as those marked
#: `rates`).
LEFT_OUT = ("test_native_harness.py", "test_native_fuzz.py", "test_udp_burst.py")


def library(name: str) -> str | None:
    """Return the path of gcc's sanitizer library; None if gcc has none."""
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return str(Path(found).resolve()) if Path(found).is_absolute() else None


def build(kind: str, into: Path) -> None:
    """Copy the package and compile its native modules with the sanitizer."""
    for name in ("src", "setup.py", "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("*.so", "*.c", "*.html", "*.egg-info", "__pycache__")
            shutil.copytree(source, into / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, into / name)
    environment = {**os.environ, "NETMEASURE_SANITIZE": kind, "NETMEASURE_DEBUG": "1"}
    command = [sys.executable, "setup.py", "-q", "build_ext", "--inplace", "--force"]
    subprocess.run(command, cwd=into, env=environment, check=True)


def check_build(kind: str, built: Path, environment: dict[str, str]) -> None:
    """Raise SystemExit unless the interpreter loads the modules that were built with the
    sanitizer."""
    code = (
        "from netmeasure._fast import tcp, udp, watch, worker;"
        " print(*(one.__file__ for one in (tcp, udp, watch, worker)))"
    )
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    mark = b"__tsan_" if kind == "thread" else b"__asan_"
    for name in loaded.stdout.split():
        if not Path(name).is_relative_to(built) or mark not in Path(name).read_bytes():
            raise SystemExit(f"{name} has no {kind} sanitizer in it")


def run(kind: str, arguments: list[str]) -> int:
    """Run the tests of the native loops on modules with the sanitizer. Return the exit status."""
    libraries = [library(name) for name in LIBRARIES[kind]]
    if None in libraries:
        print(f"skipped: gcc has no runtime library for -fsanitize={kind}")
        return 0
    with tempfile.TemporaryDirectory() as directory:
        build(kind, Path(directory))
        environment = {
            **os.environ,
            **OPTIONS,
            "LD_PRELOAD": " ".join(map(str, libraries)),
            "PYTHONPATH": str(Path(directory, "src")),
            "PYTHONMALLOC": "malloc",  # each object is an allocation that the sanitizer tracks
        }
        check_build(kind, Path(directory), environment)
        tests = sorted(
            path for path in Path("tests/fast").glob("test_*.py") if path.name not in LEFT_OUT
        )
        # a fixed layout of memory: with a random one, older runtimes may find no room for theirs
        command = ["setarch", platform.machine(), "-R", sys.executable, "-m", "pytest", "-n", "0"]
        command += ["-m", "not rates", "-p", "no:cacheprovider", *arguments, *map(str, tests)]
        return subprocess.run(command, cwd=ROOT, env=environment).returncode


def main() -> int:
    """Run both parts. Return 1 if either failed."""
    kind, *arguments = sys.argv[1:]
    if kind not in LIBRARIES:
        raise SystemExit(f"usage: {sys.argv[0]} {' | '.join(LIBRARIES)} [pytest's options]")
    loops = run(kind, arguments)
    harness = [sys.executable, "-m", "pytest", "tests/fast/test_native_harness.py"]
    return int(bool(loops | subprocess.run(harness, cwd=ROOT).returncode))


if __name__ == "__main__":
    sys.exit(main())
