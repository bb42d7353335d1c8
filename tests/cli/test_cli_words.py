"""Test the answers to words that netmeasure does not know."""

from __future__ import annotations

import json
import re
import socket
import threading

import pytest

from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from support.program import netmeasure, one_line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("client lab1 -R", "did you mean -d download? (see netmeasure client --help)"),
        ("client lab1 --bidir", "did you mean -d both?"),
        ("loopback -J", "did you mean --json?"),
        ("client lab1 --parallel 4", "did you mean -P?"),
        ("comapre a b", "did you mean netmeasure compare?"),
        ("lab1", "did you mean netmeasure client lab1?"),
        ("help client", "did you mean netmeasure client --help?"),
        ("help", "did you mean netmeasure --help?"),
        ("-c lab1", "netmeasure iperf3 -c lab1"),
        ("client lab1 --conn 3", "did you mean --connect-timeout?"),
        ("client http:/host", "did you mean http://host?"),
        ("server -D", "systemd"),
        ("loopback -w 10G", "it must be 1 B to 512 MiB"),
    ],
)
def test_what_was_meant_is_said(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == Exit.USAGE
    assert said in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("banner", "name"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 400 Bad\r\n", "HTTP"),
        (bytes.fromhex("000000020000001c00000000000200010008000300000000"), "iperf 2"),
    ],
)
def test_the_service_of_a_wrong_port_is_named(banner: bytes, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as peer:
                peer.sendall(banner)
                peer.recv(100)

        thread = threading.Thread(target=answer)
        thread.start()
        ran = netmeasure("client", f"127.0.0.1:{listener.getsockname()[1]}", "-t", "1", "-q")
        thread.join()
    assert ran.returncode == Exit.NOT_A_SERVER
    assert f"it speaks {name}" in one_line(ran.stderr)


def test_the_first_steps_of_the_help_are_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["--help"])
    _, _, steps = capsys.readouterr().out.partition("\nfirst steps:\n")
    shown = re.findall(r"(?:^|  )netmeasure (.+?)(?=  |$)", steps, flags=re.MULTILINE)
    assert len(shown) >= 5
    for words in shown:
        assert parser(words.split()).parse_args(words.split()).command == words.split()[0]


def test_events_are_lines_of_json_and_the_last_has_the_result() -> None:
    ran = netmeasure("loopback", "-t", "0.3", "-i", "0.1", "--json-lines")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    kinds = [event["event"] for event in events]
    assert kinds[-1] == "end"
    assert {"phase", "interval"} <= set(kinds)
    assert events[-1]["result"]["complete"]
