"""Run tests on Debian 13 (Python 3.13, iperf3 3.18), with the project installed from its wheel.

There are two layers: a system with what the tests need besides netmeasure, kept in the user's
cache, and above it the project, for one run. Commands run in a mount namespace and a PID namespace
of their own, so that no mount and no process is left; the network is this machine's.

    python -m support.debian13 [--fresh] [SELECTION]

runs there the tests of a pytest marker expression, and those of the shapes of iperf3's output
(`make test-debian13`).
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from support import debian
from support.checkout import copy_checkout
from support.debian import BUILD_S, QUICK_BUILD, ROOT, run

SUITE = "trixie"
PYTHON = "3.13"
TOOLS = ("debootstrap", "unshare", "tar")
#: Of the packages for tests, those that the bounded part in `make test` needs: pip takes a second
#: of CPU time for each package, and all of them with what they need are a hundred and more.
FEW = ("hypothesis", "pytest", "pytest-timeout", "pytest-xdist", "pyyaml")
#: Packages of 200 MB that are not installed there. Tests that need them are skipped: these tests
#: read tables, and measure nothing.
LEFT_OUT = ("pandas", "pyarrow")
#: The packages that tools/install-debian.sh installs on this machine for the tests that run there.
PACKAGES = (
    *("python3", "python3-dev", "python3-venv", "gcc", "libc6-dev"),
    *("curl", "ethtool", "iperf3", "iproute2", "lftp", "nginx-light", "openssl", "vsftpd", "wget"),
)
#: Paths within the system.
ENVIRONMENT = "/opt/netmeasure"
PROJECT = "/srv/netmeasure"
_RUN = re.compile(r"nm(\d+)-[0-9a-f]{8}")
#: Its arguments are the system, the layer of the run, the directory to start in, and the command.
#: The shell does not end before the command: as process 1 it must reap the children that daemons
#: leave behind, which a command does not do.
_ENTER = """set -e
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /sys "$2/root/sys"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/tmp"
root=$2/root directory=$3; shift 3
chroot "$root" sh -c 'cd "$0" && exec "$@"' "$directory" "$@" && exit 0 || exit $?
"""


def available() -> str | None:
    """Return why Debian 13 can't be run here, or None if it can."""
    for tool in TOOLS:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    if os.geteuid() != 0:
        return "a Debian of its own needs root"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "the kernel has no overlay file system"
    return None


def cache() -> Path:
    return debian.cache("debian13")


@dataclass(frozen=True)
class Machine:
    """Hold a Debian 13 for one run; `layer` contains the changes of the run."""

    system: Path
    layer: Path

    def command(self, *words: str, cwd: str = "/") -> tuple[str, ...]:
        """Return the command line that runs `words` there."""
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation=private")
        return (*apart, "sh", "-c", _ENTER, "sh", str(self.system), str(self.layer), cwd, *words)

    def run(
        self, *words: str, cwd: str = "/", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there; if it fails, raise an error with its own message."""
        return run(*self.command(*words, cwd=cwd), timeout=timeout, env=_environment())

    def call(self, *words: str, cwd: str = "/") -> int:
        """Run a command there, with the output of this process; return its exit code."""
        return subprocess.call(self.command(*words, cwd=cwd), env=_environment())

    def install(self) -> None:
        """Build the project's wheel from this checkout and install only that wheel."""
        copy_checkout(self.layer / "upper" / PROJECT[1:])
        python = f"{ENVIRONMENT}/bin/python"
        pip = (python, "-m", "pip", "--quiet", "--no-cache-dir")
        alone = ("--no-index", "--no-deps")
        # from a copy in memory, which disappears with all files that the build leaves
        build = 'cp -r "$0" /tmp/source && exec env "$@" /tmp/source'
        flags = (f"{name}={value}" for name, value in QUICK_BUILD.items())
        wheel_of = (*pip, "wheel", *alone, "--no-build-isolation", "--wheel-dir", "/opt/dist")
        self.run("sh", "-c", build, PROJECT, *flags, *wheel_of, timeout=BUILD_S)
        (wheel,) = (self.layer / "upper/opt/dist").iterdir()
        self.run(*pip, "install", *alone, f"/opt/dist/{wheel.name}")


def _environment() -> dict[str, str]:
    """Return the environment of commands there, without this machine's Python and settings."""
    path = f"{ENVIRONMENT}/bin:/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"
    return {"PATH": path, "HOME": "/root", "LC_ALL": "C.UTF-8"}


# ---- the system ----------------------------------------------------------------------------------


def requirements(*, bounded: bool) -> list[str]:
    """Return what the project's wheel, its tests and the build of the wheel require, except
    LEFT_OUT; for the tests, if `bounded`, only FEW."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = settings["project"]
    extras = project["optional-dependencies"]
    own = re.compile(rf"{project['name']}\[(\w+)\]")
    wanted = [*settings["build-system"]["requires"], *project["dependencies"]]
    wanted += [line for line in extras["test"] if not bounded or _name(line) in FEW]
    for line in wanted:  # added items, too: an extra may require another one
        if found := own.fullmatch(line):
            wanted.extend(extras[found[1]])
    listed = {line for line in wanted if not own.fullmatch(line)}
    return sorted(line for line in listed if _name(line) not in LEFT_OUT)


def _name(requirement: str) -> str:
    return re.split(r"[^\w-]", requirement)[0]


@contextlib.contextmanager
def system(*, bounded: bool, fresh: bool = False) -> Iterator[Path]:
    """Yield the directory of the system; create it if it does not exist. It is not removed
    meanwhile."""
    wanted = requirements(bounded=bounded)
    key = sha256(f"{SUITE}{PACKAGES}{wanted}".encode()).hexdigest()[:16]
    kind = "bounded" if bounded else "system"
    path = cache() / f"{kind}-{key}"
    with debian.lock(cache() / "system.lock"):
        _remove_unused(*(path,) * fresh)
        if not path.exists():
            _make(path, wanted)
            _remove_unused(*(one for one in cache().glob(f"{kind}-*") if one != path))
        held = os.open(path, os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)
    try:
        yield path
    finally:
        os.close(held)


def _remove_unused(*systems: Path) -> None:
    """Remove systems that no run uses."""
    for path in systems:
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            held = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(held)


def _make(path: Path, wanted: Sequence[str]) -> None:
    part = path.with_name(f"making-{path.name}")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    archive = cache() / "system.tar"
    try:
        debian.bootstrap(SUITE, archive, PACKAGES)
        run("tar", "-C", str(part), "-xpf", str(archive), timeout=BUILD_S)
    finally:
        archive.unlink(missing_ok=True)
    wheels = debian.wheels(cache(), PYTHON, wanted)
    mounted, pip = part / "mnt", (f"{ENVIRONMENT}/bin/python", "-m", "pip")
    script = 'mount --bind "$0" "$1" && shift && exec chroot "$@"'
    for words in (
        ("python3", "-m", "venv", ENVIRONMENT),
        # not compiled: what a run imports, it compiles in its own layer
        (*pip, "install", "-q", "--no-compile", "--no-index", "--find-links=/mnt", *wanted),
    ):
        run(
            *("unshare", "--mount", "sh", "-c", script, str(wheels), str(mounted), str(part)),
            *words,
            timeout=BUILD_S,
            env=_environment(),
        )
    part.rename(path)


@contextlib.contextmanager
def machine(*, bounded: bool, fresh: bool = False) -> Iterator[Machine]:
    """Yield a Debian 13 in which the project is installed; remove the changes of the run at the
    end. If `bounded`, it has only FEW of the packages for tests."""
    for left in cache().glob("nm*"):
        found = _RUN.fullmatch(left.name)
        if found is not None and not Path("/proc", found[1]).exists():
            shutil.rmtree(left, ignore_errors=True)
    layer = cache() / f"nm{os.getpid()}-{secrets.token_hex(4)}"
    with system(bounded=bounded, fresh=fresh) as path:
        try:
            for name in ("upper", "work", "root"):
                (layer / name).mkdir(parents=True)
            made = Machine(path, layer)
            made.install()
            yield made
        finally:
            shutil.rmtree(layer, ignore_errors=True)


# ---- make test-debian13 --------------------------------------------------------------------------


def main() -> int:
    """Run the tests there; return 0 if all have passed."""
    parser = argparse.ArgumentParser(prog="support.debian13", description="Test on Debian 13.")
    parser.add_argument("--fresh", action="store_true", help="make the system anew")
    parser.add_argument("selection", help="pytest's marker expression")
    options = parser.parse_args()
    if (reason := available()) is not None:
        print(reason, file=sys.stderr)
        return 1
    began = time.monotonic()
    pytest = (f"{ENVIRONMENT}/bin/python", "-m", "pytest", "--dist=loadfile")
    many = f"-n{(os.cpu_count() or 1) + 1}"
    with machine(bounded=False, fresh=options.fresh) as there:
        for words in (("python3", "--version"), ("iperf3", "--version"), ("curl", "--version")):
            print(there.run(*words).stdout.splitlines()[0])
        print(f"made and installed in {time.monotonic() - began:.0f} s", flush=True)
        codes = [
            there.call(*pytest, many, *words, cwd=PROJECT)
            for words in (("-m", options.selection), ("tests/interop/test_iperf3_shapes.py",))
        ]
    print(f"Debian 13 took {time.monotonic() - began:.0f} s; load {os.getloadavg()[0]:.1f}")
    return 0 if codes == [0, 0] else 1


if __name__ == "__main__":
    sys.exit(main())
