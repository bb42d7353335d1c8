"""Install Debian and Python packages separately from those of this machine.

This module has a cache in the user's home, makes minimal Debian systems by debootstrap, and fetches
wheels for another Python.
"""

import contextlib
import fcntl
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: The time limit for debootstrap, pip and builds, which take a minute on an idle machine.
BUILD_S = 900
#: Compiler options for native modules whose speed does not matter: a third of the CPU time.
QUICK_BUILD = {"CFLAGS": "-O0 -g0"}
_PACK = 'tar -C /mnt --exclude="./dev/*" -c .'


def cache(name: str) -> Path:
    """Return a directory that outlives test runs; create it if it does not exist."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = home / "netmeasure-tests" / name
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold a lock file, so that only one run at a time fills a part of the cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def run(*words: str, timeout: float = 60, **keywords: Any) -> subprocess.CompletedProcess[str]:
    """Run a tool; if it fails, raise an error with the tool's own message."""
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=timeout, check=False, **keywords
    )
    if done.returncode != 0:
        raise OSError(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def bootstrap(
    suite: str, archive: Path, packages: Sequence[str], *, without: Path | None = None
) -> None:
    """Write a tar file of a minimal Debian system with some additional packages, and one of the
    system without these packages. That needs their names with those of the libraries that they
    need."""
    purge = f"chroot /mnt dpkg --purge {' '.join(packages)} >&2"
    removed = "" if without is None else f"; {purge}; {_PACK} > {shlex.quote(str(without))}"
    # in memory, which is twice as fast, and in a mount namespace, so that no mount is left behind
    script = (
        "set -e; mount -t tmpfs -o mode=755,size=4g tmpfs /mnt;"
        f" debootstrap --variant=minbase --include={','.join(packages)} {suite} /mnt >&2;"
        " rm -rf /mnt/var/cache/apt/archives/*.deb /mnt/var/lib/apt/lists/*;"
        f" {_PACK}{removed}"
    )
    with archive.open("wb") as file:
        made = subprocess.run(
            ("unshare", "--mount", "sh", "-c", script),
            stdout=file,
            stderr=subprocess.PIPE,
            timeout=BUILD_S,
            check=False,
        )
    if made.returncode != 0:
        raise OSError(f"debootstrap: {made.stderr[-2000:].decode()}")


def wheels(directory: Path, python: str, requirements: Sequence[str]) -> Path:
    """Return a directory of the wheels that `requirements` name.

    This machine's pip fetches them with its own configuration, since the system that they are
    installed into may not reach the same servers.
    """
    key = sha256(f"{python}{requirements}".encode()).hexdigest()[:16]
    path = directory / f"wheels-{key}"
    with lock(directory / "wheels.lock"):
        if not path.exists():
            part = path.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            run(
                *("python3", "-m", "pip", "download", "-q", "--only-binary", ":all:"),
                *("--python-version", python, "-d", str(part), *requirements),
                timeout=BUILD_S,
            )
            part.rename(path)
    return path
