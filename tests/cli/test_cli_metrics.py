"""Test the statistics of a server, as Prometheus reads them."""

from __future__ import annotations

import contextlib
import socket
import urllib.request

import pytest

from netmeasure.cli.exits import Exit
from support.program import netmeasure, one_line, running

pytest.importorskip("prometheus_client")


def test_metrics_of_a_server() -> None:
    with running("server", "-B", "127.0.0.1", "-p", "0", "--metrics", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        port = process.stdout.readline().split()[-1]
        assert netmeasure("client", address, "-n", "1M").returncode == Exit.OK
        host, _, number = address.rpartition(":")
        with socket.create_connection((host, int(number))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(37))
            with contextlib.suppress(ConnectionResetError):
                stranger.recv(100)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    assert told["netmeasure_tests_started_total"] == "1.0"
    assert told["netmeasure_tests_finished_total"] == "1.0"
    assert float(told["netmeasure_payload_bytes_total"]) == 2**20
    assert told['netmeasure_refused_total{reason="nonsense"}'] == "1.0"
    assert told["netmeasure_tests_active"] == "0.0"
    assert told["netmeasure_handshake_seconds_count"] == "1.0"
    assert float(told["netmeasure_handshake_seconds_sum"]) > 0


def test_a_port_of_metrics_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = netmeasure("server", "-B", "127.0.0.1", "-p", "0", "--metrics", port)
    assert ran.returncode == Exit.CANT_LISTEN
    assert f"can't listen on port {port} for metrics" in one_line(ran.stderr)
