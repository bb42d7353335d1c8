"""HTTP transfers over TLS, which go through the library."""

from __future__ import annotations

import pytest

from support import certificates
from support.held import steps
from support.scripted import Scripted
from support.transfers import (
    MIB,
    SIZES,
    RunLoop,
    measured,
    moved,
    needs_openssl,
    transfer,
)
from support.web import Web, answering, endless, head


@needs_openssl
@pytest.mark.parametrize("size", SIZES)
def test_tls(run: RunLoop, size: int) -> None:
    mine = certificates.certificate()
    with Web(size, tls=mine.server()) as web:
        result = measured(run, web.url(), ca_file=str(mine.pem))
    assert moved(result) == size
    facts = transfer(result)
    assert facts.tls == "TLSv1.3"
    assert facts.cipher
    assert facts.drained_by == ("library" if size else None)
    assert steps(result) == ["resolve", "connect", "tls", "request", "first_byte"]


@needs_openssl
@pytest.mark.parametrize("kept", [False, True])
def test_tls_repeated(run_once: RunLoop, kept: bool) -> None:
    mine = certificates.certificate()
    with Web(5000, tls=mine.server()) as web:
        options = {"repeat": True, "keep_connections": kept, "total_bytes": 20_000}
        result = measured(run_once, web.url(), ca_file=str(mine.pem), **options)
    assert moved(result) == 20_000 == web.sent
    assert web.connections == (1 if kept else 4)


@needs_openssl
def test_tls_upload(run: RunLoop) -> None:
    mine = certificates.certificate()
    for limit in ({"total_bytes": 3 * MIB}, {"duration_s": 0.15}):
        with Web(tls=mine.server()) as web:
            options = {"direction": "upload", "ca_file": str(mine.pem), **limit}
            result = measured(run, web.url(), **options)
        assert moved(result) == web.taken > 0
        assert transfer(result).tls == "TLSv1.3"


@needs_openssl
def test_tls_for_a_time(run: RunLoop) -> None:
    mine = certificates.certificate()
    with Scripted(endless, tls=mine.server()) as server:
        result = measured(run, server.url(), insecure=True, duration_s=0.2)
    assert moved(result) > 0
    assert "the server's certificate was not checked" in result.notes


@needs_openssl
def test_tls_by_a_pinned_name(run: RunLoop) -> None:
    mine = certificates.certificate("DNS:files.invalid")
    with Web(10, tls=mine.server()) as web:
        pin = f"files.invalid:{web.port}:127.0.0.1"
        url = f"https://files.invalid:{web.port}/"
        assert moved(measured(run, url, pins=(pin,), ca_file=str(mine.pem))) == 10


@needs_openssl
def test_a_redirect_to_tls(run: RunLoop) -> None:
    mine = certificates.certificate()
    with Web(10, tls=mine.server()) as there:
        away = head("301 Moved", f"Location: {there.url()}", "Content-Length: 0")
        with Scripted(answering(away)) as here:
            result = measured(run, here.url(), ca_file=str(mine.pem))
    assert moved(result) == 10
    assert "tls" in steps(result)
