"""Run a contender once, and read the kernel's counts in a window of the run."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psutil

from benchmarks.processes import free_port, wait_listening
from benchmarks.versus.contenders import Contender
from benchmarks.versus.places import Place

#: A run carries data once the interface has counted this many bytes; set-up takes fewer.
FLOWING_BYTES = 2_000_000
#: The time from then on until slow start and the first adaptation of block sizes are over.
SETTLING_S = 0.4
PATIENCE_S = 20.0
#: The parent of all kernel threads.
_KTHREADD = 2


class Sample(msgspec.Struct, frozen=True):
    """Hold one run of one contender; `foreign_cpus` is how many CPUs other programs kept busy."""

    window_s: float
    interface_bytes: int
    sender_cpu_s: float
    receiver_cpu_s: float
    foreign_cpus: float
    datagrams_per_s: float | None = None
    lost_ratio: float | None = None

    @property
    def rate(self) -> float:
        """Return the figure by which contenders are compared: datagrams or bytes per second."""
        if self.datagrams_per_s is not None:
            return self.datagrams_per_s
        return self.interface_bytes / self.window_s

    @property
    def amount(self) -> float:
        """Return what the CPU time is divided by: millions of datagrams, or GB, of the window."""
        if self.datagrams_per_s is not None:
            return self.datagrams_per_s * self.window_s / 1e6
        return self.interface_bytes / 1e9


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time of processes, with their threads and children, by the scheduler's clock.

    The time of a thread that has ended is missing.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
                    children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
                    total += cpu_ns([int(child) for child in children])
    return total


def others_s(ours: Sequence[int]) -> float:
    """Return the CPU time of all other processes, with that of their ended children.

    This process, those in `ours` and their children do not count. Kernel threads do not count
    either: their work for a network belongs to a contender.
    """
    known = {os.getpid(), *ours}
    total = 0.0
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            own = process.pid in known or process.ppid() in known
            if not own and _KTHREADD not in (process.pid, process.ppid()):
                total += sum(process.cpu_times()[:4])
    return total


@contextmanager
def _process(argv: Sequence[str], output: int) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measured(contender: Contender, place: Place, seconds: float, *, pinned: bool) -> Sample:
    """Run a contender for a window of `seconds`. Raise SystemExit if it carries no data."""
    port = free_port()
    words = {
        "HOST": place.address,
        "PORT2": str(free_port()),
        "PORT": str(port),
        "TIME": str(round(seconds + SETTLING_S + 1.5)),
    }
    server = place.at_server(_filled(contender.server, words), pinned=pinned)
    client = place.at_client(_filled(contender.client, words), pinned=pinned)
    with tempfile.TemporaryFile() as output:
        if not contender.server:
            with _process(client, output.fileno()) as both:
                sample = _window([both], place, seconds)
                _ended(both, contender)
        else:
            with _process(server, subprocess.DEVNULL) as serving:
                wait_listening(port, pid=serving.pid)
                with _process(client, output.fileno()) as asking:
                    sample = _window([asking, serving], place, seconds)
                    _ended(asking, contender)
        if contender.datagrams is None:
            return sample
        output.seek(0)
        rate, lost = contender.datagrams(output.read())
    return msgspec.structs.replace(sample, datagrams_per_s=rate, lost_ratio=lost)


def _filled(argv: Sequence[str], words: dict[str, str]) -> list[str]:
    for name, value in words.items():
        argv = [word.replace(name, value) for word in argv]
    return list(argv)


def _ended(process: subprocess.Popen[bytes], contender: Contender) -> None:
    try:
        code = process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        raise SystemExit(f"{contender.name} does not end") from None
    if code:
        raise SystemExit(f"{contender.name} failed with exit code {code}")


def _window(processes: Sequence[subprocess.Popen[bytes]], place: Place, seconds: float) -> Sample:
    begun, deadline = place.carried_bytes(), time.monotonic() + PATIENCE_S
    while place.carried_bytes() - begun < FLOWING_BYTES:
        if time.monotonic() > deadline:
            raise SystemExit(f"nothing flows: {processes[0].args!r}")
        time.sleep(0.01)
    time.sleep(SETTLING_S)
    before = _moment(processes, place)
    time.sleep(seconds)
    after = _moment(processes, place)
    window, carried, sent, received, others = (b - a for a, b in zip(before, after, strict=True))
    return Sample(
        window_s=window,
        interface_bytes=round(carried),
        sender_cpu_s=sent,
        receiver_cpu_s=received,
        foreign_cpus=max(0.0, others / window),
    )


def _moment(processes: Sequence[subprocess.Popen[bytes]], place: Place) -> tuple[float, ...]:
    """Return the time, the interface's bytes, and CPU seconds: of sender, receiver, others."""
    first = processes[0].pid
    if len(processes) == 2:
        sent, received = cpu_ns([first]), cpu_ns([processes[1].pid])
    else:  # one program, whose child receives
        children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        received = cpu_ns([int(child) for child in children])
        sent = cpu_ns([first]) - received
    others = others_s([process.pid for process in processes])
    return time.monotonic(), place.carried_bytes(), sent / 1e9, received / 1e9, others
