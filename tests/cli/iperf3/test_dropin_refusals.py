"""Compare command lines that iperf3 refuses with the real one (3.12): the words and the stream."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from netmeasure.cli.iperf3 import daemon, program, usage
from netmeasure.cli.iperf3.command_line import parse
from netmeasure.cli.iperf3.service import service
from netmeasure.cli.iperf3.specs import client_spec
from netmeasure.cli.iperf3.table import OPTIONS
from netmeasure.errors import SpecError, UsageError
from support.program import netmeasure

Refused = Callable[[list[str]], str]


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Parse a command line that starts nothing, in this process; return the first line of
    stderr."""
    monkeypatch.setattr(daemon, "rename", lambda: None)

    def run(words: list[str]) -> str:
        assert program.main(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        first, rest = err.split("\n", 1)
        assert rest == f"\n{usage.SHORT_USAGE}"
        return first

    return run


def real(words: list[str]) -> tuple[int, str]:
    """Return the exit code of the real iperf3 and the first line of its stderr."""
    ran = subprocess.run(
        ["iperf3", *words], capture_output=True, text=True, timeout=10, check=False
    )
    return ran.returncode, ran.stderr.partition("\n")[0]


_SAME = [
    "",
    "-",
    "--bogus=3",
    "--udp=3",
    "-t",
    "--time",
    "-y",
    "-Ry",
    "-s -c",
    "-s -c h",
    "-c h -D -s",
    "-c h -1",
    "-c h -D",
    "-c h --idle-timeout 3",
    "-c h --server-bitrate-limit 4",
    "-s -t 5",
    "-s -R",
    "-s -T x",
    "-s -A 0,1",
    "-c h -p 0",
    "-s -p 65536",
    "-c h --cport 0",
    "-c h -f x",
    "-c h -i 0.05",
    "-c h -i 61",
    "-c h -i -1",
    "-c h -l 2M",
    "-c h -u -l 65508",
    "-c h -u -l 8",
    "-c h -w 1G",
    "-c h -S 256",
    "-c h -L 0",
    "-c h -t 1 -n 1",
    "-c h -n 1 -k 1",
    "-c h -R --bidir",
    "-c h -b 1M/1001",
    "-c h --rcv-timeout 50",
    "-c h --rcv-timeout 500",
    "-s --rcv-timeout 50",
    "-c h --snd-timeout -1",
    "-c h -A x",
    "-c h -A 2000",
    "-c h --username u",
    "-s --rsa-private-key-path /nowhere",
    "-s --idle-timeout 0",
    "-s --time-skew-threshold 0",
    # getopt lists the matching options in the order of the table
    "--i",
    "--t",
    "--d",
    "--l",
    "--v",
]


@pytest.mark.interop
@pytest.mark.parametrize("line", _SAME)
def test_refused_in_the_same_words(line: str, refused: Refused) -> None:
    assert real(line.split()) == (1, refused(line.split()))


_PARAMETER = "iperf3: parameter error - "


@pytest.mark.interop
@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("-c h -t 86401", "test duration valid values are 0 to 86400 seconds"),
        ("-c h -P 129", "invalid number of parallel streams (min = 1, max = 128)"),
        ("-c h -M 32768", "TCP MSS too large (maximum = 32767 bytes)"),
        ("-c h -O 601", "bogus value for --omit (maximum = 600 seconds)"),
        ("-c h --dscp foo", "bad DSCP value (numeric: 0-63 inclusive, symbolic: one of"),
        (
            "-s --server-bitrate-limit 1M/0.05",
            "bitrate limit averaging interval is out of range (min = 0.1, max = 60 seconds)",
        ),
    ],
)
def test_refused_by_both_in_newer_words(line: str, new: str, refused: Refused) -> None:
    """3.21 and 3.12 word these differently."""
    assert real(line.split())[0] == 1
    assert refused(line.split()).startswith(_PARAMETER + new)


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("-c h -b 10x", "invalid unit value or suffix: '10x'"),
        ("-c h -n abc", "invalid unit value or suffix: 'abc'"),
        ("-c h -t -1", "test duration valid values are 0 to 86400 seconds"),
        ("-c h -P 0", "invalid number of parallel streams (min = 1, max = 128)"),
        ("-c h -u -F /dev/null", "cannot transfer file using UDP"),
        ("-c h --cntl-ka=5/2/5", "control connection keepalive period should be larger"),
    ],
)
def test_refused_as_by_newer_ones_only(line: str, new: str, refused: Refused) -> None:
    assert refused(line.split()).startswith(_PARAMETER + new)


def test_an_error_stops_the_reading_and_help_before_it_wins(
    refused: Refused,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert "port number" in refused(["-p", "0", "--bogus"])
    for words, text in ((["-h", "-p", "0"], usage.help_text()), (["-sv"], usage.version_text())):
        assert program.main(words) == 0
        assert capsys.readouterr() == (text, "")


def test_help_lists_every_option_once() -> None:
    lines = usage.help_text().splitlines()
    for option in OPTIONS:
        head = f"--{option.name}"
        assert sum(head in line[:34].replace("[", " ").split() for line in lines) == 1, head
    assert max(map(len, lines)) <= 100


def test_operands_and_empty_words_are_let_pass() -> None:
    settings = parse(["-c", "h", "", "7", "10.0.0.1", "-t", "inf", "-i", "1.0", "-"])
    assert (settings.client, settings.time, settings.interval) == (("h", None), 0, 1.0)


_VALUES = ("", "0", "1", "-1", "5", "1e400", "nan", "10/1/5", "0,0", "h%lo", "/dev/null")
_WORDS = st.sampled_from([*_VALUES, "\udce9", "x" * 5000])
_GIVEN = st.sampled_from([o for o in OPTIONS if o.name not in ("server", "client")]).flatmap(
    lambda option: (
        st.just(f"--{option.name}")
        if option.argument == "none"
        else _WORDS.map(lambda word: f"--{option.name}={word}")
    )
)


@given(st.sampled_from(["-s", "-ch", "-c::1", "-c\udce9"]), st.lists(_GIVEN, max_size=4))
def test_a_command_line_is_a_test_or_an_error(end: str, options: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPERF3_PASSWORD", "secret")
        with contextlib.suppress(SpecError, UsageError):
            settings = parse([end, *options])
            if not settings.help and not settings.version:
                made = service(settings) if settings.server else client_spec(settings)
                assert made is not None


def test_version_is_read_by_version_parsers() -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "netmeasure", "iperf3", "--version"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    first, system, features = ran.stdout.splitlines()
    program_name, version, rest = first.split(" ", 2)
    assert program_name == "iperf"
    assert tuple(map(int, version.split("."))) >= (3, 18)
    assert rest.startswith("(netmeasure ")
    assert Path("/proc/sys/kernel/hostname").read_text().strip() in system
    assert features.startswith("Optional features available: ")


@pytest.mark.parametrize(
    "words", ["-6 -c 127.0.0.1", "-4 -c ::1", "-6 -c ::1 -B 127.0.0.1", "-4 -c 127.0.0.1 -B ::1"]
)
def test_an_address_of_the_other_ip_version_fails_as_in_iperf3(words: str) -> None:
    ran = netmeasure("iperf3", *words.split(), "-p", "9")
    assert ran.returncode == 1
    said = ran.stderr
    assert said.startswith("iperf3: error - unable to connect to server")
    assert said.endswith(": Address family for hostname not supported\n")
