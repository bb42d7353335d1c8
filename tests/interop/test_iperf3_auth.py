"""Authentication between the real iperf3 and netmeasure, both ways. 3.12 knows PKCS#1 only; OAEP is
tried between two of ours."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol.auth import password_hash
from support import iperf3
from support.keys import KEYS, OTHER_KEYS
from support.waiting import until

pytestmark = pytest.mark.interop

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
SHORT = nm.Timing(duration_s=0.3)
USERS = f"# who may\nmia,{password_hash('mia', 's3cret')}\n"


def gatekeeper(padding: Any = "pkcs1", **more: Any) -> nm.Gatekeeper:
    return nm.Gatekeeper(KEYS.private, nm.read_users(USERS), padding=padding, **more)


def spec(password: str = "s3cret", padding: Any = "pkcs1", key: bytes = KEYS.public) -> nm.TcpSpec:
    who = nm.Credentials(user="mia", password=password, public_key=key, padding=padding)
    return nm.TcpSpec(timing=SHORT, credentials=who)


@pytest.fixture
def real_server(tmp_path: Path) -> Iterator[iperf3.Server]:
    (tmp_path / "key.pem").write_bytes(KEYS.private)
    (tmp_path / "users.csv").write_text(USERS)
    arguments = ["--rsa-private-key-path", str(tmp_path / "key.pem")]
    arguments += ["--authorized-users-path", str(tmp_path / "users.csv")]
    with iperf3.server(args=arguments) as server:
        yield server


def test_our_client_at_the_real_server(run_once: RunOnce, real_server: iperf3.Server) -> None:
    result = run_once(nm.measure("127.0.0.1", spec(), port=real_server.port))
    assert result.complete
    assert result.spec.credentials is None
    assert b"s3cret" not in result.to_json()


@pytest.mark.parametrize(
    "wrong",
    [spec("wrong"), spec(key=OTHER_KEYS.public), nm.TcpSpec(timing=SHORT)],
    ids=["password", "key", "nothing"],
)
def test_the_real_server_refuses_our_client(
    run_once: RunOnce, real_server: iperf3.Server, wrong: nm.TcpSpec
) -> None:
    with pytest.raises(nm.MeasureError) as caught:
        run_once(nm.measure("127.0.0.1", wrong, port=real_server.port))
    assert isinstance(caught.value, nm.PeerRefusedError | nm.PeerClosedError)
    if isinstance(caught.value, nm.PeerRefusedError):
        assert caught.value.number == 142


def real_client(port: int, key: Path, password: str) -> subprocess.CompletedProcess[str]:
    words = ["iperf3", "-c", "127.0.0.1", "-p", str(port), "-t", "1"]
    words += ["--username", "mia", "--rsa-public-key-path", str(key)]
    return subprocess.run(
        words,
        env={**os.environ, "IPERF3_PASSWORD": password},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("password", ["s3cret", "S3CRET"])
def test_the_real_client_at_our_server(run_once: RunOnce, tmp_path: Path, password: str) -> None:
    key = tmp_path / "public.pem"
    key.write_bytes(KEYS.public)
    results: list[nm.Result] = []
    refusals: list[str] = []

    async def main() -> subprocess.CompletedProcess[str]:
        serving = nm.serve(
            "127.0.0.1",
            0,
            gatekeeper=gatekeeper(),
            on_result=results.append,
            on_refusal=refusals.append,
        )
        async with serving as server:
            done = await asyncio.to_thread(real_client, server.port, key, password)
            await until(lambda: not server.active_tests)
            return done

    done = run_once(main())
    if password == "s3cret":
        assert done.returncode == 0, done.stderr
        assert "iperf Done." in done.stdout
        assert [result.complete for result in results] == [True]
    else:
        assert done.returncode == 1
        assert "test authorization failed" in done.stderr
        assert results == []
        assert len(refusals) == 1
        assert "unknown user or wrong password" in refusals[0]
        assert password not in refusals[0]


def test_a_client_that_does_not_say_who_it_is(run_once: RunOnce) -> None:
    async def main() -> str:
        async with nm.serve("127.0.0.1", 0, gatekeeper=gatekeeper()) as server:
            report = await asyncio.to_thread(
                iperf3.client, "127.0.0.1", server.port, "-t", "1", check=False
            )
            return str(report["error"])

    assert "authorization failed" in run_once(main())


@pytest.mark.parametrize("padding", ["oaep", "pkcs1"])
def test_between_two_of_ours(run_once: RunOnce, padding: Any) -> None:
    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0, gatekeeper=gatekeeper(padding)) as server:
            with pytest.raises(nm.PeerRefusedError, match="authorization failed") as caught:
                await nm.measure(server.address, spec("wrong", padding))
            assert caught.value.number == 142
            return await nm.measure(server.address, spec(padding=padding))

    assert run_once(main()).complete


def test_a_refused_client_does_not_end_a_one_off_server(run_once: RunOnce) -> None:
    async def main() -> str:
        async with nm.serve("127.0.0.1", 0, gatekeeper=gatekeeper(), one_off=True) as server:
            over = asyncio.create_task(server.over())
            with contextlib.suppress(nm.PeerRefusedError):
                await nm.measure(server.address, spec("wrong"))
            assert not over.done()
            await nm.measure(server.address, spec())
            return await asyncio.wait_for(over, 30)

    assert run_once(main()) == "served"


def test_a_server_without_a_gatekeeper_does_not_ask(run_once: RunOnce) -> None:
    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, spec())

    assert run_once(main()).complete
