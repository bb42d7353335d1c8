"""Test a host that stops its own end of a test: rates are those of the planned time, and the pause
is reported for that end."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm

TIME_S = 3.0
TARGET_BPS = 5_000_000
FROZEN_S = 3.5


@contextlib.contextmanager
def program(*arguments: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-u", "-m", "netmeasure", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **more) as child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGCONT)
            child.kill()


def line_with(child: subprocess.Popen[str], word: str) -> str:
    assert child.stdout is not None
    for line in child.stdout:
        if word in line:
            return line
    raise AssertionError(f"{word!r} was never printed")


def measured(tmp_path: Path, frozen: str, direction: str, *more: str) -> tuple[nm.Result, float]:
    """Run a test in which one program is stopped from the first interval to beyond the end.
    Return also for how long it was stopped: on a busy machine a sleep is longer than requested."""
    saved = tmp_path / "result.json"
    with program("server", "-p", "0") as server:
        port = line_with(server, "listening on").split(",")[0].rpartition(":")[2].strip()
        with program(
            *("client", "127.0.0.1", "-p", port, "-d", direction, "-t", f"{TIME_S:g}"),
            *("-b", "5M", "-i", "0.5", "--json", str(saved), *more),
        ) as client:
            line_with(client, " -   0.50 s")
            who = client if frozen == "client" else server
            who.send_signal(signal.SIGSTOP)
            began = time.monotonic()
            time.sleep(FROZEN_S)
            who.send_signal(signal.SIGCONT)
            frozen_s = time.monotonic() - began
            client.communicate(timeout=30)
            assert client.returncode == 0
    return nm.Result.from_json(saved.read_bytes()), frozen_s


@pytest.mark.rates
@pytest.mark.parametrize("protocol", [(), ("-u",)], ids=["tcp", "udp"])
@pytest.mark.parametrize("frozen", ["client", "server"])
def test_a_sender_that_is_stopped(tmp_path: Path, frozen: str, protocol: tuple[str, ...]) -> None:
    direction = "upload" if frozen == "client" else "download"
    result, frozen_s = measured(tmp_path, frozen, direction, *protocol)
    flow = result.flow
    assert result.complete
    (pause,) = flow.pauses
    assert (pause.end, pause.cause) == ("sender", "stopped")
    assert pause.duration_ns == pytest.approx(frozen_s * 1e9, abs=0.3e9)
    assert flow.limits is not None
    assert flow.limits.limited_by == "sender_paused"
    # the test has its planned duration although an end was stopped during it
    moved = flow.receiver.bytes
    assert moved is not None
    assert flow.steady is not None
    assert flow.steady.verdict != "steady"
    assert flow.steady.end_ns - flow.steady.start_ns == pytest.approx(TIME_S * 1e9, rel=0.02)
    assert flow.steady.goodput_bps == pytest.approx(moved * 8 / TIME_S, rel=0.1)
    assert flow.steady.goodput_bps < 0.6 * TARGET_BPS
    assert flow.averages.from_first_byte_bps == pytest.approx(moved * 8 / TIME_S, rel=0.1)


def test_a_receiver_that_is_stopped(tmp_path: Path) -> None:
    result, _ = measured(tmp_path, "client", "download")
    flow = result.flow
    (pause,) = flow.pauses
    assert (pause.end, pause.cause) == ("receiver", "stopped")
    assert flow.limits is not None
    assert flow.limits.limited_by == "receiver_paused"


def test_a_silent_network_is_no_pause(tmp_path: Path) -> None:
    """Threads that wait for the network still sample their clocks."""
    saved = tmp_path / "result.json"
    with program("server", "-p", "0") as server:
        port = line_with(server, "listening on").split(",")[0].rpartition(":")[2].strip()
        with program(
            *("client", "127.0.0.1", "-p", port, "-t", "3", "-b", "2K", "-i", "1"),
            *("--json", str(saved)),
        ) as client:
            client.communicate(timeout=30)
    assert nm.Result.from_json(saved.read_bytes()).flow.pauses == ()
