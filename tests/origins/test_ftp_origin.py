"""Test the embedded FTP server with curl, lftp, ftplib, aioftp, and clients that misbehave."""

from __future__ import annotations

import asyncio
import ftplib
import io
import re
import socket
import time
from pathlib import Path

import aioftp
import pytest

import netmeasure as nm
from support.downloads import (
    DEADLINE_S,
    GIB,
    HOST,
    KIB,
    MIB,
    RawClient,
    RunLoop,
    beside,
    curl,
    curl_bytes,
    curl_fails,
    expected,
    no_transfer,
    over,
    program,
    together,
)
from support.ports import free_ports

HURRIED = nm.OriginLimits(stall_s=0.3, idle_s=0.3, connect_s=0.3)


class Client(RawClient):
    """Hold a control connection on a raw socket, logged in."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.answer()
        self.order("USER anonymous")
        self.order("PASS x")

    def answer(self) -> str:
        """Return one reply, of one line."""
        return self.until(b"\r\n").decode().rstrip()

    def order(self, command: str) -> str:
        self.say(f"{command}\r\n")
        return self.answer()

    def data_port(self) -> int:
        found = re.search(r"\(\|\|\|(\d+)\|\)", self.order("EPSV"))
        assert found is not None
        return int(found[1])

    def data(self) -> RawClient:
        return RawClient(f"{HOST}:{self.data_port()}")


def login(port: int) -> ftplib.FTP:
    ftp = ftplib.FTP(timeout=DEADLINE_S)
    ftp.connect(HOST, port)
    ftp.login()
    return ftp


# ---- downloads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("passive", ["epsv", "pasv"])
@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 3 * MIB + 7], ids=str)
def test_curl_gets_exactly_the_content(run: RunLoop, size: int, passive: str) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            words = ["--disable-epsv"] if passive == "pasv" else []
            url = f"ftp://{origin.address}/bytes/{size}"
            assert await curl_bytes(*words, url) == expected(size)

    run(scenario())


def test_a_gibibyte(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            words = ("-o", "/dev/null", "-w", "%{http_code} %{size_download}")
            assert await curl(f"ftp://{origin.address}/1GiB.dat", *words) == f"226 {GIB}"

    run(scenario())


def test_curl_resumes_and_asks_for_the_size(run: RunLoop, tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "3M.dat"
        file.write_bytes(expected(1_234_567))
        async with nm.serve_ftp(HOST) as origin:
            url = f"ftp://{origin.address}/3M.dat"
            await curl("-C", "-", "-o", str(file), url)
            assert f"Content-Length: {3 * MIB}" in await curl("-I", url)
        assert file.read_bytes() == expected(3 * MIB)

    run(scenario())


def test_two_files_on_one_connection(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            words = [
                w for n in (20, 30) for w in ("-o", "/dev/null", f"ftp://{origin.address}/{n}M")
            ]
            answer = await curl(*words, "-w", "%{num_connects} %{size_download}\n")
            sizes = [line.split()[1] for line in answer.splitlines()]
            assert sizes == [str(20 * MIB), str(30 * MIB)]
            # control and data at first, then data only
            assert [line.split()[0] for line in answer.splitlines()] == ["2", "1"]

    run(scenario())


def test_lftp_gets_in_pieces(run: RunLoop, tmp_path: Path) -> None:
    """lftp uses four connections at a time. Each gets a part of the file (REST) and then breaks
    off."""

    async def scenario() -> None:
        file = tmp_path / "file"
        async with nm.serve_ftp(HOST) as origin:
            commands = f"set net:max-retries 1; pget -n 4 8M.dat -o {file}; ls; quit"
            ran = await beside(program, "lftp", "-c", f"open ftp://{origin.address}; {commands}")
            assert ran.returncode == 0, ran.stderr
            assert b"100M.dat" in ran.stdout
        assert file.read_bytes() == expected(8 * MIB)

    run(scenario())


def test_aioftp_gets_and_puts(run: RunLoop) -> None:
    async def scenario() -> None:
        async with (
            nm.serve_ftp(HOST) as origin,
            aioftp.Client.context(HOST, origin.port) as client,
        ):
            async with client.download_stream("2M.dat", offset=1000) as stream:
                data = b"".join([block async for block in stream.iter_by_block(MIB)])
            assert data == expected(2 * MIB - 1000, 1000)
            async with client.upload_stream("x") as upload:
                await upload.write(bytes(1000))

    run(scenario())


def test_ipv6(run: RunLoop) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")

    async def scenario() -> None:
        async with nm.serve_ftp("::1") as origin:
            assert await curl_bytes("-g", f"ftp://{origin.address}/1M") == expected(MIB)

    run(scenario())


# ---- commands -----------------------------------------------------------------------------------


def test_ftplib_finds_its_commands(run: RunLoop) -> None:
    def client(port: int) -> None:
        with login(port) as ftp:
            assert ftp.pwd() == "/"
            assert ftp.nlst()[:2] == ["0", "1K.dat"]
            lines: list[str] = []
            ftp.dir(lines.append)
            assert any(line.endswith(" 1G.dat") and f" {GIB} " in line for line in lines)
            ftp.voidcmd("TYPE I")
            assert ftp.size("400M.dat") == 400 * MIB
            assert ftp.cwd("bytes").startswith("250")
            assert ftp.nlst() == []
            assert ftp.size("1500") == 1500
            assert ftp.nlst("/1K.dat") == ["/1K.dat"]
            ftp.cwd("..")
            assert ftp.pwd() == "/"
            assert ftp.sendcmd("FEAT").splitlines()[0] == "211-features"
            for command in ("SYST", "NOOP", "MODE S", "STRU F", "OPTS UTF8 ON", "ALLO 5"):
                assert ftp.sendcmd(command)[0] == "2"
            data = io.BytesIO()
            ftp.retrbinary("RETR 1M.dat", data.write, rest=77)
            assert data.getvalue() == expected(MIB - 77, 77)

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.port)

    run(scenario())


def test_refusals(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            for command, code in (
                ("RETR nosuchfile", 550),
                ("SIZE /bytes", 550),
                ("CWD nowhere", 550),
                ("RETR 1K", 425),  # no PASV
                ("STOR x", 425),
                ("LIST", 425),
                ("TYPE E", 504),
                ("MODE B", 504),
                ("REST -1", 501),
                ("OPTS X", 501),
                ("EPSV 2", 522),
                ("DELE 1K", 502),
                ("AUTH TLS", 502),
                ("", 502),
                ("ABOR", 226),
                ("EPSV ALL", 200),
                ("EPSV 1", 229),
            ):
                assert ftp.order(command).startswith(f"{code} "), command
            assert ftp.order("REST 2000").startswith("350")
            assert ftp.order("RETR 1K").startswith("554")
            assert ftp.order("QUIT").startswith("221")
            assert ftp.rest() == 0

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_a_restart_is_for_the_next_transfer_only(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            ftp.order("REST 1000")
            for size in (24, KIB):
                with ftp.data() as data:
                    assert ftp.order("RETR 1K").startswith("150")
                    assert len(data.read(2 * KIB)) == size
                    assert ftp.answer().startswith("226")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_users(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST, users={"ann": "secret"}) as origin:
            url = f"ftp://{origin.address}/1K"
            assert await curl_bytes("-u", "ann:secret", url) == expected(KIB)
            assert await curl_fails("-u", "ann:wrong", url) == 67
            assert await curl_fails(url) == 67
            with RawClient(origin.address) as raw:
                await beside(raw.until, b"\r\n")
                await beside(raw.say, "EPSV\r\n")
                assert (await beside(raw.until, b"\r\n")).startswith(b"530 ")

    run(scenario())


# ---- uploads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 5 * MIB + 3], ids=str)
def test_an_upload_is_counted_and_thrown_away(run: RunLoop, size: int) -> None:
    def client(port: int) -> str:
        with login(port) as ftp:
            return ftp.storbinary("STOR any/name", io.BytesIO(bytes(size)))

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            assert (await beside(client, origin.port)).startswith(f"226 {size} bytes received")

    run(scenario())


# ---- passive ports ------------------------------------------------------------------------------


def test_the_port_range_is_honoured(run: RunLoop) -> None:
    low = free_ports(3)
    high = low + 2

    def clients(address: str) -> None:
        with Client(address) as one, Client(address) as two, Client(address) as three:
            sessions = (one, two, three)
            ports = {ftp.data_port() for ftp in sessions}
            assert ports == set(range(low, high + 1))
            with Client(address) as four:
                assert four.order("EPSV").startswith("425 ")
                assert four.order("PASV").startswith("425 ")
                one.order("QUIT")
                one.rest()
                assert low <= four.data_port() <= high
            # a second EPSV gives the first one's port back
            assert {two.data_port() for _ in range(5)} <= set(range(low, high + 1))

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, passive_ports=(low, high)) as origin:
            await beside(clients, origin.address)
            words = ("-o", "/dev/null", "-w", "%{size_download}")
            for _ in range(5):
                assert await curl(f"ftp://{origin.address}/1M", *words) == str(MIB)

    run(scenario())


@pytest.mark.parametrize("bounds", [(0, 5), (10, 9), (65_000, 65_536)])
def test_a_wrong_port_range_is_an_error(bounds: tuple[int, int]) -> None:
    with pytest.raises(nm.SpecError, match="range within"):
        nm.serve_ftp(HOST, passive_ports=bounds)


def test_a_wrong_address_for_pasv_is_an_error() -> None:
    with pytest.raises(nm.SpecError, match="IPv4"):
        nm.serve_ftp(HOST, passive_address="::1")


def test_the_address_for_pasv_can_be_another(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST, passive_address="192.0.2.7") as origin:
            with await beside(Client, origin.address) as ftp:
                assert "(192,0,2,7," in await beside(ftp.order, "PASV")

    run(scenario())


def test_a_stranger_on_the_data_port_is_turned_away(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            port = ftp.data_port()
            stranger = socket.create_connection((HOST, port), 20, source_address=("127.0.0.2", 0))
            with stranger, RawClient(f"{HOST}:{port}") as data:
                assert ftp.order("RETR 1K").startswith("150")
                assert data.read(2 * KIB) == expected(KIB)
                assert stranger.recv(1) == b""

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


# ---- clients that misbehave ---------------------------------------------------------------------


def test_a_data_connection_that_breaks_is_426(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            with ftp.data() as data:
                assert ftp.order("RETR 1G.dat").startswith("150")
                data.read(MIB)
            assert ftp.answer().startswith("426 ")
            with ftp.data() as data:
                assert ftp.order("RETR 1K").startswith("150")
                assert data.read(2 * KIB) == expected(KIB)
                assert ftp.answer().startswith("226 ")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_abort(run: RunLoop) -> None:
    """The command may also be sent as urgent data, as ftplib and telnet-based clients do."""

    def client(port: int) -> None:
        with login(port) as ftp:
            for urgent in (False, True):
                data = ftp.transfercmd("RETR 1G.dat")
                with data:
                    assert data.recv(1)
                    if urgent:
                        assert ftp.abort()[:3] in ("426", "226")
                    else:
                        ftp.putcmd("ABOR")
                        assert ftp.getmultiline().startswith("426")
                assert ftp.getmultiline().startswith("226")
            assert ftp.sendcmd("NOOP").startswith("200")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.port)

    run(scenario())


def test_a_command_during_a_transfer_waits_for_its_end(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp, ftp.data() as data:
            assert ftp.order("RETR 30M").startswith("150")
            ftp.say("NOOP\r\nSIZE 1K\r\n")
            assert len(data.read(31 * MIB)) == 30 * MIB
            assert [ftp.answer()[:3] for _ in range(3)] == ["226", "200", "213"]

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


@pytest.mark.parametrize("command", ["RETR 1G.dat", "STOR x"])
def test_a_transfer_that_stalls_is_426(run: RunLoop, command: str) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp, ftp.data():
            assert ftp.order(command).startswith("150")
            assert ftp.answer().startswith("426 the transfer stalled")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, limits=HURRIED) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_no_data_connection_is_425(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            ftp.data_port()
            assert ftp.order("RETR 1G.dat").startswith("425 no data connection came")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, limits=HURRIED) as origin:
            await beside(client, origin.address)

    run(scenario())


@pytest.mark.parametrize("words", ["", "NOO"], ids=["silent", "half"])
def test_a_silent_client_is_told_and_closed(run: RunLoop, words: str) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            ftp.say(words)
            assert ftp.answer().startswith("421 no command")
            assert ftp.rest() == 0

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, limits=HURRIED) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_a_control_connection_that_goes_takes_its_transfer_along(run: RunLoop) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp, ftp.data() as data:
            assert ftp.order("RETR 1G.dat").startswith("150")
            ftp.sock.close()
            assert data.rest() < GIB

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)
            await over()

    run(scenario())


def test_nonsense_is_answered_and_nothing_is_printed(
    run: RunLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    def client(address: str) -> None:
        with Client(address) as ftp:
            ftp.sock.sendall(b"\xff\xf4\x00\x01\r\n")
            assert ftp.answer().startswith("502 ")
            ftp.say("A" * 100_000)
            assert ftp.answer().startswith("500 ")
        with Client(address) as ftp:
            ftp.say("RETR")  # and goes

    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            await beside(client, origin.address)
            assert await curl_bytes(f"ftp://{origin.address}/1K") == expected(KIB)

    run(scenario())
    assert capfd.readouterr() == ("", "")


def test_more_transfers_than_allowed_are_450(run: RunLoop) -> None:
    def clients(address: str) -> None:
        with Client(address) as one, one.data() as data, Client(address) as two:
            assert one.order("RETR 1G.dat").startswith("150")
            with two.data():
                assert two.order("RETR 1K").startswith("450 ")
            data.sock.close()
            assert one.answer().startswith("426 ")
            with two.data():
                assert two.order("RETR 1K").startswith("150 ")

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, limits=nm.OriginLimits(max_transfers=1)) as origin:
            await beside(clients, origin.address)

    run(scenario())


def test_more_connections_than_allowed_are_421(run: RunLoop) -> None:
    def clients(address: str) -> None:
        with Client(address), RawClient(address) as raw:
            assert raw.until(b"\r\n").startswith(b"421 ")
            assert raw.rest() == 0

    async def scenario() -> None:
        async with nm.serve_ftp(HOST, limits=nm.OriginLimits(max_connections=1)) as origin:
            await beside(clients, origin.address)

    run(scenario())


# ---- many, and the end --------------------------------------------------------------------------


def test_twenty_clients_at_a_time(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            words = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}")
            commands = [(*words, f"ftp://{origin.address}/{20 + n}M") for n in range(20)]
            done = await beside(together, commands)
            assert done == [(0, f"226 {(20 + n) * MIB}".encode()) for n in range(20)]

    run(scenario())


@pytest.mark.rates
@pytest.mark.parametrize("command", ["", "RETR 1G.dat", "STOR x"], ids=["idle", "down", "up"])
def test_the_end_comes_within_a_second(run: RunLoop, command: str) -> None:
    async def scenario() -> None:
        async with nm.serve_ftp(HOST) as origin:
            clients = [await beside(Client, origin.address) for _ in range(5)]
            connections = [await beside(ftp.data) for ftp in clients]
            if command:
                for ftp in clients:
                    assert (await beside(ftp.order, command)).startswith("150")
            begin = time.monotonic()
        assert time.monotonic() - begin < 1
        assert no_transfer()
        for raw in (*clients, *connections):
            assert await beside(raw.rest) < GIB
            raw.sock.close()

    run(scenario())


def test_cancelling_ends_everything(run: RunLoop) -> None:
    async def serve(started: asyncio.Future[str]) -> None:
        async with nm.serve_ftp(HOST) as origin:
            started.set_result(origin.address)
            await asyncio.Event().wait()

    async def scenario() -> None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(started))
        with await beside(Client, await started) as ftp, await beside(ftp.data) as data:
            assert (await beside(ftp.order, "RETR 1G.dat")).startswith("150")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await beside(data.rest) < GIB

    run(scenario())
