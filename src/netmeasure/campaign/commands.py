"""Run the commands of a plan that set a variant up and tear it down."""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import IO

from netmeasure.errors import CommandError

_MOST_READ, _MOST_TOLD = 100_000, 200


async def run_command(
    command: Sequence[str], environment: Mapping[str, str], timeout_s: float
) -> None:
    """Run a program to its end. Processes that it starts may go on. Cancelling the call kills the
    program.

    Raises CommandError if the program can't be started, fails, or takes too long.
    """
    shown = " ".join(command)
    # a file, since processes left in the background would keep a pipe open
    with tempfile.TemporaryFile() as errors:
        process = _started(command, environment, errors)
        try:
            async with asyncio.timeout(timeout_s):
                await _ended(process)
        except TimeoutError:
            raise CommandError(f"{shown} took more than {timeout_s:g} s") from None
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        if process.returncode:
            errors.seek(0)
            lines = errors.read(_MOST_READ).decode(errors="replace").strip().splitlines()
            told = f": {lines[-1][:_MOST_TOLD]}" if lines else ""
            raise CommandError(f"{shown} ended with {process.returncode}{told}")


def _started(
    command: Sequence[str], environment: Mapping[str, str], errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Start a program. The event loop must not start it: uvloop forks, which stops the threads of
    numpy."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, **environment},
        )
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or str(exc)
        raise CommandError(f"can't run {' '.join(command)}: {reason}") from None


async def _ended(process: subprocess.Popen[bytes]) -> None:
    """Wait for the end of a program by its process descriptor (pidfd_open(2))."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = os.pidfd_open(process.pid)
    try:
        loop.add_reader(descriptor, ended.set)
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
