"""Test the options of packets, CPUs, files and authentication: their meaning and their effect."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from netmeasure import Result, SocketOptions, SpecError
from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from netmeasure.cli.specs import server_limits, test_spec
from netmeasure.protocol.auth import password_hash
from support.keys import KEYS
from support.program import netmeasure, one_line, server

SHORT = ("-t", "0.3")
make_spec = test_spec
del test_spec  # pytest would take it for a test


def spec(*words: str) -> Any:
    return make_spec(parser().parse_args(["client", "lab1", *words]))


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["--tos", "0xb8"], {"tos": 184}),
        (["--tos", "0"], {"tos": 0}),
        (["--dscp", "EF"], {"tos": 184}),
        (["--dscp", "af41"], {"tos": 136}),
        (["--dscp", "cs7"], {"tos": 224}),
        (["--dscp", "10"], {"tos": 40}),
        (["--pacing-rate", "20M"], {"pacing_bps": 20_000_000}),
        (["--flow-label", "0x12345"], {"flow_label": 0x12345}),
        (["--dont-fragment", "-u"], {"dont_fragment": True}),
        (["--mptcp"], {"multipath": True}),
        (["--bind-dev", "eth0"], {"bind_device": "eth0"}),
    ],
)
def test_options_of_sockets(words: list[str], options: dict[str, Any]) -> None:
    assert spec(*words).options == SocketOptions(**options)


def test_options_of_tests() -> None:
    made = spec("--repeating-payload", "--cpu", "1,2", "--title", "t", "--file", "x", "--endless")
    assert (made.repeating_payload, made.cpu, made.server_cpu) == (True, 1, 2)
    assert (made.title, made.file, made.timing.endless) == ("t", "x", True)
    assert made.limit_s is None
    assert spec("--cpu", ",3").server_cpu == 3
    assert spec("--cpu", "3").server_cpu is None


@pytest.mark.parametrize(
    "words",
    [
        ["--dscp", "64"],
        ["--dscp", "fast"],
        ["--tos", "x"],
        ["--tos", "1", "--dscp", "1"],
        ["--cpu", "a"],
        ["--cpu", ","],
        ["--endless", "-t", "3"],
    ],
)
def test_values_that_argparse_refuses(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        spec(*words)
    one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tos", "256"], "TOS is 256"),
        (["--flow-label", "0"], "flow label is 0"),
        (["--dont-fragment"], "an option of UDP"),
        (["--mptcp", "-u"], "an option of TCP"),
        (["--file", "x", "-u"], "an option of TCP"),
        (["--file", "x", "-d", "both"], "one file"),
        (["--bind-dev", "a/b"], "network interface"),
        (["--auth-user", "mia"], "both --auth-user and --auth-key"),
        (["--cpu", "5000"], "CPU is 5000"),
    ],
)
def test_values_that_the_library_refuses(words: list[str], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        spec(*words)


def test_they_are_not_for_urls_where_they_mean_nothing() -> None:
    def by_url(*words: str) -> Any:
        return make_spec(parser().parse_args(["client", "http://lab1/x", *words]))

    assert by_url("--dscp", "ef", "--pacing-rate", "1M").options.tos == 184
    for words in (["--title", "t"], ["--cpu", "1"], ["--flow-label", "7"], ["--endless"]):
        with pytest.raises(SpecError):
            by_url(*words)


def test_limits_of_the_server() -> None:
    words = ["server", "--max-bitrate", "1G", "--max-time", "30s", "--mptcp"]
    limits = server_limits(parser().parse_args(words))
    assert (limits.max_bitrate_bps, limits.max_duration_s) == (1_000_000_000, 30)
    assert limits.multipath


def test_a_marked_and_titled_test() -> None:
    cpu = str(min(os.sched_getaffinity(0)))
    words = ["--dscp", "ef", "--title", "night run", "--cpu", cpu]
    ran = netmeasure("loopback", *SHORT, *words, "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.spec.title == "night run"  # type: ignore[union-attr]
    assert result.client.streams[0].socket.tos == 184  # type: ignore[union-attr]
    assert result.server.streams[0].socket.tos == 184  # type: ignore[union-attr]


def test_a_file_and_a_one_off_server(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"x" * 1_000_000)
    with server("--one-off") as (process, target):
        ran = netmeasure("client", target, "--file", str(tmp_path / "data"), "--json")
        assert (ran.returncode, ran.stderr) == (Exit.OK, "")
        assert Result.from_json(ran.stdout).flow.receiver.bytes == 1_000_000
        assert process.wait(timeout=10) == Exit.OK


def test_authentication(tmp_path: Path) -> None:
    (tmp_path / "private.pem").write_bytes(KEYS.private)
    (tmp_path / "public.pem").write_bytes(KEYS.public)
    (tmp_path / "users").write_text(f"mia,{password_hash('mia', 's3cret')}\n")
    keys = ["--auth-key", str(tmp_path / "private.pem"), "--auth-users", str(tmp_path / "users")]
    who = ["--auth-user", "mia", "--auth-key", str(tmp_path / "public.pem")]
    with server(*keys) as (_, target):

        def client(password: str | None) -> subprocess.CompletedProcess[str]:
            environment = {**os.environ} | ({"NETMEASURE_PASSWORD": password} if password else {})
            return netmeasure("client", target, *who, *SHORT, env=environment)

        good = client("s3cret")
        assert (good.returncode, good.stderr) == (Exit.OK, "")
        wrong = client("other")
        assert wrong.returncode == Exit.NOT_A_SERVER
        assert "authorization failed" in one_line(wrong.stderr)
        assert "user, password, key" in one_line(wrong.stderr)
        nobody = netmeasure("client", target, *SHORT)
        assert nobody.returncode == Exit.NOT_A_SERVER
        assert "give --auth-user, --auth-key, and NETMEASURE_PASSWORD" in one_line(nobody.stderr)
        none = client(None)
        assert none.returncode == Exit.USAGE
        assert "NETMEASURE_PASSWORD" in one_line(none.stderr)
    unreadable = netmeasure("server", "--auth-key", "/nowhere", "--auth-users", "/nowhere")
    assert unreadable.returncode == Exit.USAGE
    assert "can't read /nowhere" in one_line(unreadable.stderr)


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_a_fifo_is_no_file_to_send_or_write(
    direction: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Opening a FIFO would wait for its other end, and streams read at offsets of their own."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    words = ["loopback", "-t", "0.1", "-d", direction, "--file", str(fifo)]
    assert main(words) == Exit.USAGE
    verb = "read" if direction == "upload" else "write"
    said = one_line(capsys.readouterr().err)
    assert f"can't {verb} {fifo}: it is a FIFO or a socket, not a regular file" in said
