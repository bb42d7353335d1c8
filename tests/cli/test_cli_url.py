"""Test the program with a URL: what it prints to which stream, and how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from netmeasure import Result, SpecError
from netmeasure.cli import options, specs
from netmeasure.cli.exits import Exit, exit_code
from netmeasure.client import make_run
from support import certificates, program
from support.ftp import Ftp
from support.ports import nobody
from support.program import one_line
from support.scripted import Peer, Scripted
from support.web import Web, answering, head, request, send_body


def netmeasure(*words: str, timeout: float = 30) -> subprocess.CompletedProcess[str]:
    return program.netmeasure("client", *words, timeout=timeout)


# ---- transfers that go well -------------------------------------------------------------------


def test_a_file_is_reported_with_the_steps_of_its_set_up() -> None:
    with Web(3_000_000) as web:
        ran = netmeasure(web.url())
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in ("HTTP download", "the whole file", "Set-up", "resolve", "connect", "request"):
        assert words in ran.stdout
    for words in ("first byte", "average of body", "3000000", web.address):
        assert words in ran.stdout.replace(",", "").replace(" 000", "000")


def test_a_file_by_ftp() -> None:
    with Ftp(3_000_000) as server:
        ran = netmeasure(server.url())
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    for words in ("FTP download", "greeting", "login", "passive", "transfer start", "final reply"):
        assert words in ran.stdout


def test_json() -> None:
    with Web(100_000) as web:
        ran = netmeasure(web.url(), "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.complete
    assert result.flow.receiver.bytes == 100_000
    assert json.loads(ran.stdout)["spec"]["kind"] == "http"


def test_json_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    with Ftp(1000) as server:
        ran = netmeasure(server.url(), "--json", str(file))
    assert ran.returncode == Exit.OK
    assert Result.from_json(file.read_bytes()).flow.receiver.bytes == 1000


def test_the_options_of_http() -> None:
    with Web(1000) as web:
        url = f"http://files.invalid:{web.port}/x"
        pin = ("--resolve", f"files.invalid:{web.port}:127.0.0.1")
        asking = ("--user", "anna:se:cret", "-H", "X-One: 1", "--method", "POST")
        end = ("--again", "--keep", "-n", "250", "-P", "2", "--range", "10-59")
        ran = netmeasure(url, *pin, *asking, *end, "--json", "--receive-mode", "discard")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result = Result.from_json(ran.stdout)
    assert result.flow.receiver.bytes == 250
    assert len(web.requests) == 6
    for asked in web.requests:
        assert asked.method == "POST"
        assert asked.headers["x-one"] == "1"
        assert asked.headers["range"] == "bytes=10-59"
        assert asked.headers["authorization"] == "Basic YW5uYTpzZTpjcmV0"
    assert "se:cret" not in ran.stdout


def test_the_options_of_ftp() -> None:
    with Ftp(1000) as server:
        words = ("--passive", "pasv", "--user", "anna:secret", "--range", "990-")
        ran = netmeasure(server.url(), *words, "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert Result.from_json(ran.stdout).flow.receiver.bytes == 10
    assert server.commands[:2] == ["USER anna", "PASS secret"]
    assert (server.did("EPSV"), server.did("PASV")) == (0, 1)


@pytest.mark.parametrize("end", [("-n", "1M"), ("-t", "0.2")])
def test_uploads(end: tuple[str, str]) -> None:
    with Web() as web:
        ran = netmeasure(web.url(), "-d", "upload", *end, "--json", "-q")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    assert Result.from_json(ran.stdout).flow.sender.acked_bytes == web.taken > 0


@pytest.mark.skipif(certificates.available() is not None, reason="there is no openssl")
def test_the_options_of_tls() -> None:
    mine = certificates.certificate()
    with Web(10, tls=mine.server()) as web:
        assert netmeasure(web.url(), "--ca-file", str(mine.pem)).returncode == Exit.OK
        ran = netmeasure(web.url(), "--insecure")
        assert ran.returncode == Exit.OK
        assert "the server's certificate was not checked" in ran.stdout
        ran = netmeasure(web.url())
    assert ran.returncode == Exit.NO_CONNECTION
    line = one_line(ran.stderr)
    assert "self-signed" in line
    assert "trust the server's CA with --ca-file FILE, or skip the check with --insecure" in line


# ---- wrong input ------------------------------------------------------------------------------

HTTP, FTP = "http://127.0.0.1:9/file", "ftp://127.0.0.1:9/file"


@pytest.mark.parametrize(
    "words",
    [
        f"{HTTP} -u",
        f"{HTTP} -k 5",
        f"{HTTP} -b 1M",
        f"{HTTP} --burst 5",
        f"{HTTP} --no-offload",
        f"{HTTP} -d both",
        f"{HTTP} -d upload",
        f"{HTTP} -d upload -n 5 --again",
        f"{HTTP} -d upload -n 5 --range 1-2",
        f"{HTTP} --again",
        f"{HTTP} --keep",
        f"{HTTP} -n 5 -O 1",
        f"{HTTP} -p 80",
        f"{HTTP} --range 5",
        f"{HTTP} --range -",
        f"{HTTP} --range 9-5",
        f"{HTTP} --range a-b",
        f"{HTTP} --range \u00b2-\u00b3",
        f"{HTTP} -H nothing",
        f"{HTTP} --method G/ET",
        f"{HTTP} --resolve host:80",
        f"{HTTP} --explicit-tls",
        f"{HTTP} --passive pasv",
        f"{FTP} -H X:1",
        f"{FTP} --method GET",
        f"{FTP} --proxy",
        f"{FTP} --passive active",
        f"{FTP}%0d%0aDELE",
        "gopher://host/x",
        "http:///x",
        "http://host:99999/x",
        "host --range 1-2",
        "host --user me",
        "host --again",
        "host --explicit-tls",
    ],
)
def test_a_wrong_combination_is_refused(words: str) -> None:
    def prepare() -> None:
        chosen = options.parser().parse_args(["client", *words.split(" ")])
        make_run(chosen.target, specs.test_spec(chosen), port=chosen.port)

    with pytest.raises((SpecError, SystemExit)) as caught:
        prepare()
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == Exit.USAGE
    else:
        assert isinstance(caught.value, SpecError)
        assert exit_code(caught.value) == Exit.USAGE
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("words", [f"{HTTP} --keep", f"{FTP} --passive active", f"{HTTP} -p 80"])
def test_a_wrong_combination_is_one_line(words: str) -> None:
    ran = netmeasure(*words.split(" "))
    assert ran.returncode == Exit.USAGE
    assert ran.stdout == ""
    one_line(ran.stderr)


# ---- transfers that fail ----------------------------------------------------------------------


def test_a_file_that_is_not_there() -> None:
    with Scripted(answering(head("404 Not Found", "Content-Length: 0"))) as server:
        ran = netmeasure(server.url())
    assert ran.returncode == Exit.NOT_A_SERVER
    line = one_line(ran.stderr)
    assert "404 Not Found" in line
    assert "check the path" in line
    with Ftp(answers={"RETR": "550 no such file"}) as ftp:
        ran = netmeasure(ftp.url())
    assert ran.returncode == Exit.NOT_A_SERVER
    assert "550 no such file" in one_line(ran.stderr)


def test_refused() -> None:
    with nobody() as port:
        for scheme in ("http", "ftp"):
            ran = netmeasure(f"{scheme}://127.0.0.1:{port}/file")
            assert ran.returncode == Exit.NO_CONNECTION
            assert "refused" in one_line(ran.stderr)


def test_no_server_of_http() -> None:
    with Scripted(answering(b"220 ftp.example ready\r\n")) as server:
        ran = netmeasure(server.url())
    assert ran.returncode == Exit.NOT_A_SERVER
    one_line(ran.stderr)


def test_a_port_of_tls_and_a_plain_one_are_told_apart() -> None:
    with Web(10, tls=certificates.certificate().server()) as web:
        ran = netmeasure(web.url(scheme="http"))
    assert ran.returncode == Exit.NOT_A_SERVER
    assert "write https://" in one_line(ran.stderr)

    def plain(peer: Peer) -> None:
        peer.receive()
        peer.send(head("400 Bad Request"))

    with Scripted(plain) as server:
        ran = netmeasure(server.url(scheme="https"))
    assert ran.returncode == Exit.NO_CONNECTION
    assert "it answers in plain text (write http:// or ftp://" in one_line(ran.stderr)


def test_a_body_that_breaks_off() -> None:
    with Scripted(answering(head("200 OK", "Content-Length: 1000000"), bytes(5000))) as server:
        ran = netmeasure(server.url())
    assert ran.returncode == Exit.CUT_SHORT
    assert "5000 of 1000000 bytes" in one_line(ran.stderr)
    assert "INCOMPLETE" in ran.stdout


def test_json_of_a_body_that_breaks_off() -> None:
    with Ftp(1000, sends=10) as server:
        ran = netmeasure(server.url(), "--json")
    assert ran.returncode == Exit.CUT_SHORT
    result = Result.from_json(ran.stdout)
    assert not result.complete
    assert result.error is not None
    assert result.error.code == "stream"
    assert result.flow.receiver.bytes == 10


def test_a_signal_ends_the_transfer_and_reports_it() -> None:
    def endless(peer: Peer) -> None:
        request(peer)
        peer.send(head("200 OK", f"Content-Length: {1 << 50}"))
        send_body(peer, 1 << 50)

    with (
        Scripted(endless) as server,
        program.running("client", server.url(), "-t", "60", "-i", "0.1") as ran,
    ):
        assert ran.stdout is not None
        assert "download" in ran.stdout.readline()
        ran.send_signal(signal.SIGINT)
        output, errors = ran.communicate(timeout=20)
    assert (ran.returncode, errors) == (Exit.INTERRUPTED, "")
    assert "stopped early by the user" in output
