"""Test that URLs are sent exactly as given: with another spelling, a signed URL is invalid."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
#: Characters that a URL library may decode, encode, or give another meaning.
SPELLED = "/a%28b%29/c%2Fd%2fe/(f)/..%2e/g;h=1?sig=a%2Bb%2F%3D&x=(1)&y=a+b%20c&z=%7E~&p=/?:@"


@contextlib.asynccontextmanager
async def recording(location: str | None = None) -> AsyncIterator[tuple[str, list[str]]]:
    """An HTTP server that keeps request lines; the first answer may be a redirect."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                text = head.decode("latin-1")
                lines.append(text.split("\r\n", 1)[0])
                length = [
                    line for line in text.split("\r\n") if line.lower().startswith("content-l")
                ]
                if length:
                    await reader.readexactly(int(length[0].split(":")[1]))
                if location is not None and len(lines) == 1:
                    answer = (
                        f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
                    )
                else:
                    answer = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + "x" * 1000
                writer.write(answer.encode())
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", lines


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_a_url_is_sent_as_it_was_written(run: RunLoop, direction: Any) -> None:
    async def main() -> None:
        async with recording() as (base, lines):
            timing = nm.Timing(total_bytes=1000)
            spec = nm.HttpSpec(url=base + SPELLED, direction=direction, timing=timing)
            assert (await nm.measure(base + SPELLED, spec)).complete
        method = {"download": "GET", "upload": "PUT"}[direction]
        assert lines == [f"{method} {SPELLED} HTTP/1.1"]

    run(main())


def test_a_url_is_sent_as_the_redirect_has_it(run_once: RunLoop) -> None:
    async def main() -> None:
        async with recording(SPELLED) as (base, lines):
            assert (await nm.measure(f"{base}/first")).complete
        assert lines == ["GET /first HTTP/1.1", f"GET {SPELLED} HTTP/1.1"]

    run_once(main())


def test_characters_that_no_url_may_contain_are_encoded(run_once: RunLoop) -> None:
    async def main() -> None:
        async with recording() as (base, lines):
            assert (await nm.measure(f"{base}/ä\u20acb?q=ö|")).complete
        assert lines == ["GET /%C3%A4%E2%82%ACb?q=%C3%B6%7C HTTP/1.1"]

    run_once(main())
