"""Test what `netmeasure mesh` says while it has no answer of a scheduler."""

from __future__ import annotations

import signal
import socket

import pytest

from netmeasure.cli.exits import Exit
from support.program import netmeasure, running

pytest.importorskip("distributed", reason="the extra `mesh` is not installed here")


@pytest.mark.parametrize("quiet", [False, True])
def test_the_wait_for_a_scheduler_is_told_at_once(quiet: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        with running("mesh", "--scheduler", address, *["-q"] * quiet) as process:
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=60)
    assert process.returncode == Exit.INTERRUPTED
    assert out == ""
    told = f"netmeasure: waiting up to 30 s for the scheduler {address}\n"
    assert err == ("" if quiet else told)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rr", "-b", "1M"), "-b is not an option of round trips"),
        (("--crr", "-b", "1M"), "-b is not an option of round trips"),
        (("--rr", "-C", "reno"), "-C is an option of TCP throughput tests"),
        (("-u", "-C", "reno"), "-C is an option of TCP throughput tests"),
    ],
)
def test_an_option_of_another_kind_of_test_is_refused(words: tuple[str, ...], said: str) -> None:
    ran = netmeasure("mesh", "--scheduler", "tcp://127.0.0.1:1", *words)
    assert (ran.returncode, ran.stdout) == (Exit.USAGE, "")
    assert ran.stderr.startswith(f"netmeasure: {said}")
