"""Hosts with few descriptors: each end says what it lacks, and the server goes on."""

from __future__ import annotations

import resource
import shlex
import subprocess

import pytest

from netmeasure.cli.exits import Exit
from support.program import PROGRAM, netmeasure, one_line, server


def client(address: str, *options: str, descriptors: int) -> subprocess.CompletedProcess[str]:
    command = shlex.join([*PROGRAM, "client", address, "-t", "0.2", *options])
    return subprocess.run(
        ["sh", "-c", f"ulimit -n {descriptors}; exec {command}"],
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize("kind", [(), ("-u",)], ids=["tcp", "udp"])
def test_a_client_without_descriptors(kind: tuple[str, ...]) -> None:
    with server() as (_, address):
        ran = client(address, "-P", "128", *kind, descriptors=40)
        assert ran.returncode == Exit.HOST_LIMIT
        assert one_line(ran.stderr) == (
            "netmeasure: this host has no file descriptors left: Too many open files"
            " (raise `ulimit -n`, or use fewer streams)\n"
        )
        assert netmeasure("client", address, "-t", "0.2", *kind).returncode == Exit.OK


@pytest.mark.parametrize("kind", [(), ("-u",)], ids=["tcp", "udp"])
def test_a_server_without_descriptors(kind: tuple[str, ...]) -> None:
    with server() as (process, address):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (64, 64))
        ran = netmeasure("client", address, "-t", "0.2", "-P", "64", *kind)
        assert ran.returncode == Exit.NOT_A_SERVER
        assert "the server's host lacks what another data connection takes" in one_line(ran.stderr)
        assert netmeasure("client", address, "-t", "0.2", *kind).returncode == Exit.OK
        process.terminate()
        _, errors = process.communicate(timeout=10)
        assert "the test needs 68 file descriptors, and " in one_line(errors)
