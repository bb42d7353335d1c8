"""Test a client's settings: options, environment and the table [client] of a TOML file.

Also test the messages for wrong settings of clients and servers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from netmeasure.cli import options
from netmeasure.cli.settings import SETTINGS
from netmeasure.cli.specs import test_spec as spec_of
from netmeasure.errors import SpecError
from netmeasure.spec import TcpSpec


def parsed(*words: str, command: str = "client") -> argparse.Namespace:
    argv = [command, *(["lab1"] if command == "client" else []), *words]
    return options.parser(argv).parse_args(argv)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "netmeasure.toml"
    path.write_text(
        "max-tests = 7\n[client]\ntime = '5m'\nstreams = 4\ndirection = 'download'\n"
        "no-delay = true\nport = 5300\nheader = ['A: b', 'C: d']\n"
    )
    monkeypatch.setenv("NETMEASURE_CONFIG", str(path))
    return path


def test_a_file(config: Path) -> None:
    found = parsed()
    spec = spec_of(argparse.Namespace(**vars(found) | {"header": []}))
    assert isinstance(spec, TcpSpec)
    assert (spec.limit_s, spec.streams, spec.direction) == (300, 4, "download")
    assert spec.options.no_delay
    assert found.port == 5300
    assert found.header == ["A: b", "C: d"]


def test_options_go_before_the_environment_and_that_before_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETMEASURE_STREAMS", "8")
    monkeypatch.setenv("NETMEASURE_DIRECTION", "both")
    monkeypatch.setenv("NETMEASURE_PORT", "tcp://10.96.0.7:5201")  # Kubernetes does so
    monkeypatch.setenv("NETMEASURE_BIND", "192.0.2.1")  # a server's, on the same host
    found = parsed("-P", "2")
    assert (found.streams, found.direction, found.time, found.port) == (2, "both", 300, 5300)
    assert found.bind is None


@pytest.mark.parametrize("words", [("-n", "1M"), ("-n1M",), ("--bytes=1M",), ("--endless",)])
def test_an_option_takes_away_what_it_excludes(config: Path, words: tuple[str, ...]) -> None:
    assert parsed(*words).time is None
    assert parsed(*words).streams == 4


def test_other_commands_ignore_the_settings_of_the_client(config: Path) -> None:
    assert parsed(command="loopback").streams == 4  # which has no --header, and passes it over
    argv = ["server"]
    assert options.parser(argv).parse_args(argv).max_tests == 7


@pytest.mark.parametrize(
    ("command", "text", "words"),
    [
        ("client", "client = 4", "client is no table"),
        ("client", "[client]\ntim = 4", r"\[client\]: 'tim' is not a setting"),
        ("client", "[client]\ntarget = 'lab'", "'target' is not a setting"),
        ("client", "[client]\ntime = 'long'", "time: 'long' is not a duration"),
        ("client", "[client]\nudp = 1", "udp must be true or false"),
        ("client", "[client]\ndirection = 'down'", "'down' is not one of upload, download, both"),
        ("client", "[client", "can't read"),
        ("client", f"[client]\ntime = {'[' * 5000}", "nested too deeply"),
        ("server", f"max-tests = 1{'0' * 5000}", "a number has more than 64 bits"),
        ("server", "max-tests = true", "max-tests must be a number or a text"),
        ("server", "max-tests = 'many'", "max-tests: 'many' is not a"),
        ("server", "maxtests = 4", "'maxtests' is not a setting"),
        ("server", "max-tests =", "can't read"),
    ],
)
def test_a_file_that_is_not_good(tmp_path: Path, command: str, text: str, words: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words):
        parsed("--config", str(path), command=command)


@pytest.mark.parametrize(
    ("command", "name"), [("client", "NETMEASURE_BITRATE"), ("server", "NETMEASURE_MAX_BITRATE")]
)
def test_a_value_of_the_environment_that_is_not_good(
    command: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "fast")
    with pytest.raises(SpecError, match=f"{name}: 'fast'"):
        parsed(command=command)
    parsed(command="server" if command == "client" else "client")  # of no interest there


@pytest.mark.parametrize(
    "name", ["NETMEASURE_TIM", "NETMEASURE_STREAM", "NETMEASURE_STALL_TIME_OUT"]
)
def test_a_misspelt_variable_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "5")
    with pytest.raises(SpecError, match=f"{name} is not a setting") as refused:
        parsed()
    assert str(refused.value.hint).startswith("did you mean NETMEASURE_")


@pytest.mark.parametrize(
    "name", ["NETMEASURE_POD", "NETMEASURE_TIME_SERVICE_HOST", "NETMEASURE_TIMES_PORT_80_TCP"]
)
def test_variables_of_others_are_passed_over(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "here")
    assert parsed().title is None


def test_one_environment_for_clients_and_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting of the client is not reported as a misspelt setting of the server, or vice
    versa."""
    client, server = set(vars(parsed())) - {"config"}, set(SETTINGS)
    for name in client ^ server:
        monkeypatch.setenv(f"NETMEASURE_{name.upper()}", "x")
    for known, argv in ((client, ["client", "lab1"]), (server, ["server"])):
        for name in known - (client & server):
            monkeypatch.delenv(f"NETMEASURE_{name.upper()}")
        assert options.parser(argv).parse_args(argv)
        for name in known - (client & server):
            monkeypatch.setenv(f"NETMEASURE_{name.upper()}", "x")


def test_a_list_on_the_command_line_replaces_that_of_the_file(config: Path) -> None:
    assert parsed("--header", "E: f").header == ["E: f"]
    assert parsed("--header=E: f").header == ["E: f"]
