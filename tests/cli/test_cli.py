"""Test the program as a user runs it: what it prints to which stream, and how it ends."""

from __future__ import annotations

import ftplib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from netmeasure import Result, ResultSet
from netmeasure.cli.exits import Exit
from netmeasure.report.text import print_report
from support import census
from support.ports import free_port, free_ports
from support.program import netmeasure, one_line, running, server
from support.proxy import Proxy
from support.warm import PROGRAM

SHORT = ("-t", "0.3")
#: Options for a rate that leaves CPU time for the rest of the test.
LONG = ("-t", "30", "-b", "200M")


# ---- a test that goes well ----------------------------------------------------------------------


def test_loopback_reports_and_says_nothing_on_stderr() -> None:
    ran = netmeasure("loopback", *SHORT)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in ("TCP upload", "Set-up", "connect", "steady bitrate", "curl's way", "retransmits"):
        assert words in ran.stdout


def test_loopback_udp_reports_loss() -> None:
    ran = netmeasure("loopback", "-u", "-b", "20M", "-l", "1000", *SHORT)
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in ("UDP upload at 20.0 Mbit/s", "hello", "lost", "0 of "):
        assert words in ran.stdout


def test_json_is_all_that_is_printed() -> None:
    ran = netmeasure("loopback", *SHORT, "-d", "both", "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.complete
    assert [flow.direction for flow in result.flows] == ["upload", "download"]


def test_json_to_a_file_leaves_the_report_on_the_screen(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    ran = netmeasure("loopback", *SHORT, "--json", str(file))
    assert ran.returncode == Exit.OK
    assert "steady bitrate" in ran.stdout
    assert Result.from_json(file.read_bytes()).complete


def test_intervals_are_shown_unless_quiet() -> None:
    options = ("loopback", "-t", "0.5", "-i", "0.2")
    assert netmeasure(*options).stdout.count("retransmits\n") >= 3  # one more if the end is late
    assert netmeasure(*options, "-q").stdout.count("retransmits\n") == 0


@pytest.mark.parametrize("command", [(), ("client",), ("server",), ("loopback",)])
def test_help(command: tuple[str, ...]) -> None:
    ran = netmeasure(*command, "--help")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert ran.stdout.startswith("usage: netmeasure")


# ---- wrong input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "-t abc",
        "-t 0",
        "-t -1",
        "-t nan",
        "-t 1 -n 5",
        "-n 0",
        "-k 0",
        "-P 0",
        "-P 1025",
        "-l 0",
        "-l 2M",
        "-b 10x",
        "-M 5",
        "-w 1G",
        "-i 0",
        "-O 601",
        "-C nosuchcongestionname",
        "--bogus",
        "-d sideways",
        "--until 2",
        "--until 60%",
        "--until 2% -n 1M",
        "--until 2% -k 5",
        "-u --until 2%",
        "--burst 5",
        "-u -l 8",
        "-u -C cubic",
        "-u --send-mode sendfile",
        "-u -b 1M --packet-rate 5",
    ],
)
def test_a_wrong_value_is_one_line(words: str) -> None:
    ran = netmeasure("loopback", *words.split())
    assert ran.returncode == Exit.USAGE
    assert ran.stdout == ""
    one_line(ran.stderr)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--until 2", "write for example 2%"),
        ("--until 2% -n 1M", "give the most that it may take"),
        ("-u --until 2%", "measure the download"),
    ],
)
def test_what_can_not_end_a_test_by_itself_says_what_could(words: str, said: str) -> None:
    assert said in one_line(netmeasure("loopback", *words.split()).stderr)


@pytest.mark.parametrize(
    "target", ["a b", "host:99999", "host:x", "[::1", "http:///x", "gopher://host/x", ""]
)
def test_a_wrong_target_is_one_line(target: str) -> None:
    ran = netmeasure("client", target)
    assert ran.returncode == Exit.USAGE
    one_line(ran.stderr)


def test_no_command() -> None:
    ran = netmeasure()
    assert ran.returncode == Exit.USAGE
    one_line(ran.stderr)


def test_a_file_that_cannot_be_written_is_said_before_the_test() -> None:
    ran = netmeasure("loopback", "-t", "20", "--json", "/proc/nothing/here", timeout=10)
    assert ran.returncode == Exit.USAGE
    assert "/proc/nothing/here" in one_line(ran.stderr)


# ---- peers that are not there, or not what they should be ---------------------------------------


def test_name_not_found() -> None:
    ran = netmeasure("client", "nosuch.invalid", "--connect-timeout", "5")
    assert ran.returncode == Exit.NO_CONNECTION
    assert "nosuch.invalid" in one_line(ran.stderr)


def test_refused() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        ran = netmeasure("client", f"127.0.0.1:{sock.getsockname()[1]}")
    assert ran.returncode == Exit.NO_CONNECTION
    assert "refused" in one_line(ran.stderr)


def test_not_a_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.sendall(b"220 ftp.example ready\r\n")
                sock.recv(100)

        thread = threading.Thread(target=greet)
        thread.start()
        ran = netmeasure("client", f"127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert ran.returncode == Exit.NOT_A_SERVER
    assert "not an iperf3 or netmeasure server" in one_line(ran.stderr)


def test_busy_and_the_next_test_is_served() -> None:
    with server("--max-tests", "1") as (_, address):
        with running("client", address, *LONG, "-i", "0.1") as first:
            assert first.stdout is not None
            assert "upload" in first.stdout.readline()
            ran = netmeasure("client", address, *SHORT, "--queue-timeout", "0")
            assert ran.returncode == Exit.BUSY
            assert "busy" in one_line(ran.stderr)
            ran = netmeasure("client", address, *SHORT, "--queue-timeout", "0.5")
            assert ran.returncode == Exit.BUSY
            told, refused = ran.stderr.splitlines()
            assert told == "netmeasure: the server is full: number 1 in its queue"
            assert "number 1 in its queue after 0.5 s" in refused
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=10)
        assert netmeasure("client", address, *SHORT).returncode == Exit.OK


def test_two_servers_want_one_port() -> None:
    with server() as (_, address):
        ran = netmeasure("server", "-B", "127.0.0.1", "-p", address.rpartition(":")[2])
    assert ran.returncode == Exit.CANT_LISTEN
    assert "in use" in one_line(ran.stderr)


def test_a_server_that_is_killed() -> None:
    with server() as (process, address), running("client", address, *LONG, "-i", "0.1") as ran:
        assert ran.stdout is not None
        assert "upload" in ran.stdout.readline()
        process.kill()
        output, errors = ran.communicate(timeout=20)
    assert ran.returncode == Exit.CUT_SHORT
    assert "INCOMPLETE" in output
    assert "steady bitrate" in output
    assert "vanished" in one_line(errors)


# ---- signals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED)],
)
def test_a_signal_ends_the_test_and_reports_it(number: signal.Signals, code: Exit) -> None:
    with running("loopback", *LONG, "-i", "0.1") as ran:
        assert ran.stdout is not None
        assert "upload" in ran.stdout.readline()
        ran.send_signal(number)
        output, errors = ran.communicate(timeout=20)
    assert (ran.returncode, errors) == (code, "")
    assert "stopped early by the user" in output
    assert "steady bitrate" in output


def test_a_signal_before_the_data_ends_at_once() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        running("client", f"127.0.0.1:{silent.getsockname()[1]}") as ran,
    ):
        sock, _ = silent.accept()
        with sock:
            assert len(sock.recv(37, socket.MSG_WAITALL)) == 37
            ran.send_signal(signal.SIGINT)
            _, errors = ran.communicate(timeout=10)
    assert ran.returncode == Exit.INTERRUPTED
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_in_good_order_in_mid_test(number: signal.Signals) -> None:
    with running("server", "-B", "127.0.0.1", "-p", "0") as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        with running("client", address, *LONG, "-i", "0.1") as client:
            assert client.stdout is not None
            assert "upload" in client.stdout.readline()
            process.send_signal(number)
            output, errors = process.communicate(timeout=10)
            _, said = client.communicate(timeout=10)
    assert (process.returncode, errors) == (Exit.OK, "")
    assert "incomplete" in output
    assert client.returncode == Exit.CUT_SHORT
    assert "told to terminate" in one_line(said)


def test_a_reader_that_leaves_early_is_no_traceback() -> None:
    with running("loopback", "-t", "0.5", "-i", "0.05") as ran:
        assert ran.stdout is not None
        ran.stdout.readline()
        ran.stdout.close()
        assert ran.stderr is not None
        errors = ran.stderr.read()
        ran.wait(20)
    assert errors == ""


# ---- the server's own output --------------------------------------------------------------------


def test_the_server_says_a_line_for_each_test() -> None:
    with server() as (process, address):
        assert netmeasure("client", address, *SHORT).returncode == Exit.OK
        assert process.stdout is not None
        line = process.stdout.readline()
    assert "upload" in line
    assert line.endswith("complete\n")


@pytest.mark.parametrize("form", [[], ["summary"]], ids=["whole", "summary"])
def test_the_server_prints_results_as_lines_of_json(form: list[str]) -> None:
    port = str(free_port())
    with running("server", "-B", "127.0.0.1", "-p", port, "--json", *form) as process:
        while (ran := netmeasure("client", f"127.0.0.1:{port}", *SHORT)).returncode != Exit.OK:
            assert "refused" in ran.stderr  # it is not listening yet
        assert process.stdout is not None
        line = process.stdout.readline()
    assert Result.from_json(line).complete
    assert json.loads(line)["spec"]["kind"] == "tcp"
    assert (Result.from_json(line).flow.series is None) == bool(form)


# ---- hard cases ---------------------------------------------------------------------------------


def test_the_second_signal_does_not_wait_for_the_results() -> None:
    with server() as (_, address):
        host, port = address.split(":")
        with Proxy((host, int(port))) as proxy:
            target = "{}:{}".format(*proxy.address)
            with running("client", target, *LONG, "-i", "0.1") as ran:
                assert ran.stdout is not None
                assert "upload" in ran.stdout.readline()
                control = proxy.connection(0)
                control.stall("down")
                said = control.forwarded("up")
                ran.send_signal(signal.SIGINT)
                # it has said TEST_END, and now waits for an answer that does not come
                assert census.settle(lambda: control.forwarded("up") > said, 30)
                ran.send_signal(signal.SIGINT)
                output, errors = ran.communicate(timeout=30)
    assert ran.returncode == Exit.INTERRUPTED
    # the program says what it was waiting for when the signal came
    assert re.fullmatch(r"(netmeasure: ended by the user, waiting for .* results .*\n)?", errors)
    assert "INCOMPLETE" in output
    assert "steady bitrate" in output


def test_reports_fit_a_narrow_window(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    ran = netmeasure("loopback", "-t", "0.3", "-q", "--baseline", "0.2", "--json", str(file))
    assert all(line == line.rstrip() for line in ran.stdout.split("\n"))
    shown = StringIO()
    result = Result.from_json(file.read_bytes())
    print_report(result, Console(file=shown, width=60))
    hosts = shown.getvalue().split("\nHosts\n")[1].split("\n\n")[0].splitlines()
    assert all(line.startswith(("  client  ", "  server  ", " " * 10)) for line in hosts)


def on_a_full_disk(*words: str) -> subprocess.CompletedProcess[str]:
    with Path("/dev/full").open("w") as full:
        return subprocess.run(
            (*PROGRAM, "loopback", "-t", "0.1", *words),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )


@pytest.mark.parametrize("words", [(), ("--json", "-q")], ids=["report", "json"])
def test_a_full_disk_under_the_output_is_one_line(words: tuple[str, ...]) -> None:
    ran = on_a_full_disk(*words)
    assert ran.returncode == Exit.FAILED
    assert "No space left" in one_line(ran.stderr)


@pytest.mark.parametrize("words", [(), ("--repeat", "2")], ids=["one", "repeat"])
def test_the_json_is_saved_though_the_report_can_not_be_shown(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    ran = on_a_full_disk("-q", *words, "--json", str(tmp_path / "run.json"))
    assert ran.returncode == Exit.FAILED
    assert "No space left" in one_line(ran.stderr)
    assert ResultSet.from_json((tmp_path / "run.json").read_bytes()).complete


def test_a_reader_who_leaves_does_not_take_the_json_with_him(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    words = ("loopback", *LONG, "-i", "0.1", "--repeat", "3", "--json", str(file))
    with running(*words) as ran:
        assert ran.stdout is not None
        assert "upload" in ran.stdout.readline()
        ran.stdout.close()
        ran.wait(timeout=10)
    assert ran.returncode == Exit.FAILED
    (result,) = ResultSet.from_json(file.read_bytes())
    assert not result.complete
    assert result.flow.sender.acked_bytes


def test_a_full_disk_under_the_json_file_is_one_line() -> None:
    ran = netmeasure("loopback", "-t", "0.1", "--json", "/dev/full")
    assert ran.returncode == Exit.FAILED
    assert "/dev/full" in one_line(ran.stderr)
    assert "steady bitrate" in ran.stdout


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_standard_streams_that_are_closed(closed: str, tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    command = f'exec "$0" -m netmeasure loopback -t 0.1 --json "$1" {closed}'
    ran = subprocess.run(
        ("sh", "-c", command, sys.executable, str(file)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert Result.from_json(file.read_bytes()).complete


@pytest.mark.parametrize(("option", "value"), [("-P", "1.5"), ("-P", "abc"), ("-k", "1.5")])
def test_a_count_is_a_whole_number(option: str, value: str) -> None:
    end = ("-t", "0.1") if option == "-P" else ()
    ran = netmeasure("loopback", option, value, *end)
    assert ran.returncode == Exit.USAGE
    said = one_line(ran.stderr)
    assert value in said
    assert "bitrate" not in said


# ---- synthetic files beside the tests ------------------------------------------------------------


def test_files_are_served_beside_the_tests() -> None:
    low = free_ports(5)
    words = ("--http", "0", "--ftp", "0", "--passive-ports", f"{low}-{low + 4}")
    with server(*words) as (process, address):
        assert process.stdout is not None
        lines = [process.stdout.readline().rstrip() for _ in range(2)]
        assert [line.rpartition(" ")[0] for line in lines] == ["serving HTTP on", "serving FTP on"]
        web, files = (line.split()[-1] for line in lines)
        with urllib.request.urlopen(f"http://{web}/1M.dat", timeout=20) as answer:
            assert len(answer.read()) == 2**20
        with ftplib.FTP(timeout=20) as ftp:
            host, _, port = files.partition(":")
            ftp.connect(host, int(port))
            ftp.login()
            assert low <= ftp.makepasv()[1] <= low + 4
            data = bytearray()
            ftp.retrbinary("RETR 1M.dat", data.extend)
            assert len(data) == 2**20
        assert netmeasure("client", address, *SHORT).returncode == Exit.OK
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert (process.returncode, errors) == (Exit.OK, "")


@pytest.mark.parametrize(
    "words", ["--http x", "--ftp 65536", "--ftp 0 --passive-ports 9-5", "--passive-ports 5000-5009"]
)
def test_wrong_options_of_the_files_are_one_line(words: str) -> None:
    ran = netmeasure("server", "-B", "127.0.0.1", "-p", "0", *words.split())
    assert ran.returncode == Exit.USAGE
    assert ran.stdout == ""
    one_line(ran.stderr)


def test_a_port_in_use_for_files_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ran = netmeasure("server", "-B", "127.0.0.1", "-p", "0", "--http", port)
    assert ran.returncode not in (Exit.OK, Exit.USAGE)
    assert "in use" in one_line(ran.stderr)
