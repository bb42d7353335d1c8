"""Test a server's settings: options, environment and a TOML file, and the lines of its log."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from netmeasure.cli import log, options
from netmeasure.cli.specs import server_limits
from netmeasure.errors import SpecError
from netmeasure.peer.server.statistics import ServerEvent
from netmeasure.spec import ServerLimits


def parsed(*words: str) -> argparse.Namespace:
    argv = ["server", *words]
    return options.parser(argv).parse_args(argv)


def limits(*words: str) -> ServerLimits:
    return server_limits(parsed(*words))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(
        'max-tests = 7\nmax_streams = 3\nmax-bitrate = "20M"\nmax-time = "5m"\nport = 5000\n'
        'allow = ["192.0.2.0/24", "2001:db8::/32"]\n'
    )
    return path


def test_a_file(config: Path) -> None:
    found = limits("--config", str(config))
    assert (found.max_tests, found.max_streams, found.max_bitrate_bps) == (7, 3, 20_000_000)
    assert found.max_duration_s == 300
    assert found.allow == ("192.0.2.0/24", "2001:db8::/32")
    assert parsed("--config", str(config)).port == 5000


def test_options_go_before_the_environment_and_that_before_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETMEASURE_CONFIG", str(config))
    monkeypatch.setenv("NETMEASURE_MAX_STREAMS", "4")
    monkeypatch.setenv("NETMEASURE_MAX_TESTS", "8")
    monkeypatch.setenv("NETMEASURE_DENY", "10.0.0.0/8, 192.0.2.7")
    monkeypatch.setenv("NETMEASURE_PORT", "tcp://10.96.0.7:5201")  # Kubernetes does so
    found = limits("--max-tests", "9")
    assert (found.max_tests, found.max_streams, found.max_bitrate_bps) == (9, 4, 20_000_000)
    assert found.deny == ("10.0.0.0/8", "192.0.2.7")


@pytest.mark.parametrize(
    ("allow", "deny", "host", "served"),
    [
        ((), (), "198.51.100.1", True),
        (("192.0.2.0/24",), (), "192.0.2.9", True),
        (("192.0.2.0/24",), (), "::ffff:192.0.2.9", True),
        (("192.0.2.0/24",), (), "198.51.100.1", False),
        (("192.0.2.0/24",), ("192.0.2.9",), "192.0.2.9", False),
        ((), ("fe80::/10",), "fe80::1%eth0", False),
        ((), ("2001:db8::/32",), "2001:db8::1", False),
        ((), ("2001:db8::/32",), "192.0.2.1", True),
    ],
)
def test_networks(allow: tuple[str, ...], deny: tuple[str, ...], host: str, served: bool) -> None:
    assert ServerLimits(allow=allow, deny=deny).serves(host) is served


def test_a_network_that_is_none() -> None:
    with pytest.raises(SpecError, match=r"192\.0\.2\.0/99"):
        ServerLimits(allow=("192.0.2.0/99",))


#: The beginning of each line.
TIMED = r"netmeasure: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z warning: "


def told(capsys: pytest.CaptureFixture[str], *sentences: str, as_json: bool) -> list[str]:
    async def main() -> None:
        events = log.EventLog(as_json=as_json)
        for sentence in sentences:
            peer = sentence.rpartition(": ")[0]
            events.add(ServerEvent(message=sentence, reason="silent", peer=peer, test="a2b3"))
        events.close()

    asyncio.run(main())
    return capsys.readouterr().err.splitlines()


def test_repeated_events_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"192.0.2.{n}:1000: silent" for n in range(100)]
    (line,) = told(capsys, many[0], as_json=False)
    assert re.fullmatch(TIMED + r"192\.0\.2\.0:1000: silent \[test a2b3\]", line)
    first, rest = told(capsys, *many, as_json=False)
    assert re.fullmatch(TIMED + r"192\.0\.2\.0:1000: silent \[test a2b3\]", first)
    more = r" \(and 98 more events in this second like it\) \[test a2b3\]"
    assert re.fullmatch(TIMED + r"192\.0\.2\.99:1000: silent" + more, rest)


def test_events_of_different_peers_are_of_one_kind_wherever_the_peer_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        events = log.EventLog(as_json=False)
        for n in range(4):
            peer = f"[2001:db8::{n}]:1000"
            events.add(ServerEvent(message=f"{peer} asks for TLS", reason="tls", peer=peer))
        events.close()

    asyncio.run(main())
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(
        "[2001:db8::3]:1000 asks for TLS (and 2 more events in this second like it)"
    )


def test_events_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[dict[str, Any]] = [
        json.loads(line) for line in told(capsys, "a: x", "b: y", "c: x", as_json=True)
    ]
    assert [(line["level"], line["events"]) for line in lines] == [("warning", 1), ("warning", 2)]
    assert lines[1]["message"] == "c: x (and 1 more events in this second of 2 kinds)"
    assert lines[0]["time"].endswith("Z")
    assert (lines[0]["peer"], lines[0]["test"], lines[0]["reason"]) == ("a", "a2b3", "silent")
