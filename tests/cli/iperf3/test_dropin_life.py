"""Test the program's life: start and end of tests, signals, daemon, one-off, pid file, log file."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import census, warm
from support.iperf3 import OURS, REAL, Server, free_port, server

SHORT = ("-t", "1")


def client(*words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return warm.run(
        (*OURS, "-c", "127.0.0.1", *words),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@contextlib.contextmanager
def our_server(*args: str) -> Iterator[Server]:
    with server(program=OURS, args=args) as running:
        yield running


@pytest.fixture(scope="module")
def port() -> Iterator[str]:
    """Give the port of a server of ours, for tests that do not change the server."""
    with our_server() as running:
        yield str(running.port)


@contextlib.contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Start one of our processes; kill it at the end if it still runs."""
    process = warm.start((*OURS, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


# ---- what scripts read ---------------------------------------------------------------------------


def test_text_as_scripts_read_it(port: str) -> None:
    ran = client("-p", port, *SHORT, "", "7", "x")  # operands that mean nothing
    assert (ran.returncode, ran.stderr) == (0, "")
    lines = ran.stdout.splitlines()
    assert lines[0] == f"Connecting to host 127.0.0.1, port {port}"
    assert lines[-2:] == ["", "iperf Done."]
    # grep receiver | awk '{print $7, $8}'
    words = [line.split() for line in lines if "receiver" in line]
    assert len(words) == 1
    assert float(words[0][6]) > 0
    assert words[0][7] in ("Mbits/sec", "Gbits/sec")
    assert "\x1b" not in ran.stdout
    assert "error" not in ran.stdout


def test_a_reader_that_leaves_is_no_failure(port: str) -> None:
    """An example is `iperf3 -c ... | head -1` under `set -o pipefail`."""
    with started("-c", "127.0.0.1", "-p", port, *SHORT) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("Connecting to host")
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait(20) == 0


def test_an_error_is_told_where_nobody_reads_the_rest(port: str) -> None:
    with started("-s", "-p", port, "-V") as process:  # taken; -V has lines before that
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "unable to start listener" in process.stderr.read()
        assert process.wait(20) == 1


def test_a_disk_that_is_full(port: str) -> None:
    with open("/dev/full", "w") as full:
        ran = warm.run(
            [*OURS, "-c", "127.0.0.1", "-p", port, *SHORT],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=20,
        )
    assert (ran.returncode, ran.stderr) == (
        1,
        "iperf3: error - unable to write output: No space left on device\n",
    )


def test_json_as_scripts_read_it(port: str) -> None:
    ran = client("-p", port, *SHORT, "-J", "-P", "2", "-i", "0.5", "-T", "a title")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("{\n\t")
    assert ran.stdout.endswith("\n}\n")
    report = json.loads(ran.stdout)
    assert list(report) == ["start", "intervals", "end", "title"]
    end = report["end"]
    assert end["sum_received"]["bits_per_second"] > 0
    assert end["sum_sent"]["bytes"] >= end["sum_received"]["bytes"] > 0
    assert len(end["streams"]) == report["start"]["test_start"]["num_streams"] == 2
    assert all(isinstance(one["sum"]["retransmits"], int) for one in report["intervals"])
    assert sum(one["sum"]["bytes"] for one in report["intervals"]) == end["sum_sent"]["bytes"]
    assert "sum" not in end


def test_our_additions_are_under_one_key(port: str) -> None:
    report = json.loads(client("-p", port, *SHORT, "-J", "--netmeasure").stdout)
    assert list(report) == ["start", "intervals", "end", "netmeasure"]
    assert report["netmeasure"]["set_up_seconds"] > 0


def test_udp_columns(port: str) -> None:
    ran = client("-p", port, *SHORT, "-u", "-b", "1M", "-l", "1000", "-f", "k")
    assert (ran.returncode, ran.stderr) == (0, "")
    line = next(line for line in ran.stdout.splitlines() if line.endswith("receiver"))
    # as "[", "5]", "0.00-1.00", "sec", ..., with the unit of -f
    rate, unit, jitter, ms, lost, share, _ = line.split()[6:]
    assert (unit, ms, share) == ("Kbits/sec", "ms", "(0%)")
    assert 0 < float(rate) < 1_100
    assert float(jitter) >= 0
    assert re.fullmatch(r"0/[1-9]\d*", lost)


def test_events_come_as_they_happen(port: str) -> None:
    with started("-c", "127.0.0.1", "-p", port, "-t", "2", "-i", "0.5", "--json-stream") as process:
        assert process.stdout is not None
        events = [json.loads(process.stdout.readline())["event"] for _ in range(2)]
        assert events == ["start", "interval"]
        assert process.poll() is None
        rest = [json.loads(line)["event"] for line in process.stdout]
        assert rest[-1] == "end"
        assert process.wait() == 0


# ---- signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_client_with_its_summary(number: signal.Signals, port: str) -> None:
    with started("-c", "127.0.0.1", "-p", port, "-t", "0", "-i", "0.2") as process:
        assert process.stdout is not None
        head = [process.stdout.readline() for _ in range(5)]
        process.send_signal(number)
        process.send_signal(number)  # as timeout(1) does
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert head[4].startswith("[  5]   0.2")
    assert re.search(r"\[  5\]   0\.00-.*receiver$", out, re.MULTILINE)
    assert "iperf Done." not in out
    words = signal.strsignal(number)
    assert (
        err == f"iperf3: interrupt - the client has terminated by signal {words}({number.value})\n"
    )


def test_a_signal_in_json() -> None:
    with our_server("-i", "0.2") as running:
        port = str(running.port)
        with started("-c", "127.0.0.1", "-p", port, "-t", "30", "-J") as process:
            assert census.settle(lambda: re.search(r"\] +0\.[234]\d-", running.output), 30)
            process.terminate()
            out, err = process.communicate(timeout=10)
    report = json.loads(out)
    assert (process.returncode, err) == (0, "")
    assert report["error"] == "interrupt - the client has terminated by signal Terminated(15)"
    assert report["end"]["sum_sent"]["bytes"] > 0


def test_a_signal_while_it_connects() -> None:
    from support.ports import deaf

    with deaf() as number, started("-c", "127.0.0.1", "-p", str(number)) as process:
        census.settle(lambda: _comm(process.pid) == "iperf3", 10)
        time.sleep(1.0)  # it has no more to show while it waits
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "")
    assert err == "iperf3: interrupt - the client has terminated by signal Terminated(15)\n"


def test_a_signal_ends_an_idle_server() -> None:
    with our_server() as running:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        lines = running.output.splitlines()
    assert lines[1] == f"Server listening on {running.port} (test #1)"
    assert lines[3:] == ["iperf3: interrupt - the server has terminated by signal Interrupt(2)"]


@pytest.mark.interop
def test_a_signal_ends_a_busy_server_with_its_summary() -> None:
    with our_server() as running:
        ends = [
            subprocess.Popen(
                (*REAL, "-c", "127.0.0.1", "-p", str(running.port), "-t", "30"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        ]
        assert census.settle(lambda: "]   0.00-" in running.output, 30)
        running.process.terminate()
        assert running.process.wait(30) == 0
        output = running.output
        errors = [end.communicate(timeout=10)[1] for end in ends]
    assert re.search(r"\[  5\]   0\.00-\d+\.\d\d +sec .*receiver$", output, re.MULTILINE)
    assert output.endswith("interrupt - the server has terminated by signal Terminated(15)\n")
    assert errors == ["iperf3: error - the server has terminated\n"]


# ---- servers -------------------------------------------------------------------------------------


def test_banners_and_the_count() -> None:
    with our_server() as running:
        for _ in range(2):
            assert client("-p", str(running.port), "-n", "1M").returncode == 0
        assert census.settle(lambda: "(test #3)" in running.output, 30)
        assert "error" not in running.output


def test_one_off_ends_after_one_test_even_of_a_killed_client() -> None:
    with our_server("-1") as running:
        assert client("-p", str(running.port), "-n", "1M").returncode == 0
        assert running.process.wait(30) == 0
        assert "(test #2)" not in running.output
    with our_server("-1J") as running:
        with started("-c", "127.0.0.1", "-p", str(running.port), "-t", "30") as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
        assert running.process.wait(10) == 0
        document = json.loads(running.output)
    assert document["error"] in (
        "the client has unexpectedly closed the connection",
        "the client has terminated",
    )


def test_one_off_without_a_client() -> None:
    with our_server("-1", "--idle-timeout", "1") as running:
        assert running.process.wait(30) == 0
        assert running.output.count("\n") == 3


def test_json_of_a_server_is_one_document_per_test() -> None:
    with our_server("-J") as running:
        for _ in range(2):
            words = ("-p", str(running.port), "-n", "1M", "-T", "title", "--extra-data", "more")
            assert client(*words).returncode == 0
        census.settle(lambda: running.output.count("\n}\n") == 2, 30)
        first, second, rest = running.output.split("\n}\n")
    assert rest == ""
    for text in (first, second):
        document = json.loads(text + "}")
        assert document["start"]["accepted_connection"]["host"] == "127.0.0.1"
        assert document["end"]["sum_received"]["bytes"] == 1 << 20
        assert (document["title"], document["extra_data"]) == ("title", "more")


def test_log_file_is_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    with our_server("--logfile", str(log), "--timestamps=%Y ") as running:
        assert client("-p", str(running.port), "-n", "1M", "--logfile", str(log)).returncode == 0
        running.process.terminate()
        assert running.process.wait(30) == 0
        assert running.output == ""
    lines = log.read_text().splitlines()
    assert lines[0] == "old"
    assert "iperf Done." in lines
    assert re.fullmatch(r"20\d\d iperf3: interrupt - the server has .*", lines[-1])


# ---- daemon --------------------------------------------------------------------------------------


def test_daemon(tmp_path: Path) -> None:
    """The daemon detaches from its caller at once, serves within about a second, and has the
    expected process name."""
    number, pid_file = free_port(), tmp_path / "pid"
    link = tmp_path / "iperf3"
    link.symlink_to(Path(sys.executable).parent / "netmeasure-iperf3")
    ran = subprocess.run(
        (str(link), "-sD", "-p", str(number), "-I", str(pid_file), "--logfile", "log"),
        capture_output=True,  # waits until no process holds the pipes
        cwd=tmp_path,
        timeout=30,
        check=False,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    assert census.settle(pid_file.exists, 30)
    assert census.settle(pid_file.read_text, 30)
    pid = int(pid_file.read_text())
    try:
        assert census.settle((tmp_path / "log").read_text, 10)
        assert _comm(pid) == "iperf3"
        found = subprocess.run(("pgrep", "-x", "iperf3"), capture_output=True, text=True).stdout
        assert str(pid) in found.split()
        assert os.readlink(f"/proc/{pid}/cwd") == str(tmp_path)
        assert {os.readlink(f"/proc/{pid}/fd/{n}") for n in range(3)} == {"/dev/null"}
        again = subprocess.run(
            (str(link), "-s", "-I", str(pid_file)), capture_output=True, text=True, timeout=10
        )
        assert again.returncode == 1
        assert again.stderr == "iperf3: Another instance of iperf3 appears to be running\n"
        assert client("-p", str(number), "-n", "1M").returncode == 0
    finally:
        os.kill(pid, signal.SIGTERM)
    assert census.settle(lambda: not pid_file.exists(), 30)
    assert census.settle(lambda: not Path(f"/proc/{pid}").exists(), 30)


def test_a_device_as_the_pid_file_stays(tmp_path: Path) -> None:
    # by a link, so that a failure of this test does not remove the device; on some machines,
    # /dev/null is a regular file, because such a program has run there
    link = tmp_path / "pid"
    link.symlink_to("/dev/zero")
    with our_server("-I", str(link)):
        pass
    assert link.is_symlink()


def _comm(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def test_a_stale_pid_file_stops_nobody(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    pid_file.write_text("garbage")
    with our_server("-I", str(pid_file)) as running:
        assert pid_file.read_text() == str(running.process.pid)
    assert not pid_file.exists()
