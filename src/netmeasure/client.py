"""measure() and connect(): the two ways to run a test against a server."""

from __future__ import annotations

import asyncio

from netmeasure.errors import SpecError
from netmeasure.result import Result
from netmeasure.run import Run
from netmeasure.spec import DEFAULT_PORT, Spec, TcpSpec


def parse_target(target: str, port: int | None = None) -> tuple[str, int]:
    """("host", port) from "host", "host:port", "192.0.2.1", "2001:db8::1", "[2001:db8::1]:5201".

    `port` is used where the text names none (default 5201). Raises SpecError.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise SpecError(f"{port} is not a port: it must be 1 to 65535")
    host, text = target, ""
    if target.startswith("["):
        host, bracket, rest = target[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise SpecError(f"{target!r} is not a target", hint="write [address]:port")
        text = rest[1:]
    elif target.count(":") == 1:
        host, _, text = target.partition(":")
    if not host or any(c.isspace() or c == "/" for c in host):
        raise SpecError(f"{target!r} is not a host", hint="write a name or an address")
    if not text:
        return host, DEFAULT_PORT if port is None else port
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise SpecError(f"{text!r} is not a port: it must be 1 to 65535")
    return host, int(text)


class Client:
    """Runs tests against one server, one after the other or several at once.

    Leaving the `async with` block aborts what is still running.
    """

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        self._runs: list[Run] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(run.abort() for run in self._runs))

    def run(self, spec: Spec | None = None) -> Run:
        """A run to be used with `async with`; it starts there."""
        run = Run(self.host, self.port, spec or TcpSpec())
        self._runs.append(run)
        return run


def connect(target: str, *, port: int | None = None) -> Client:
    """A client of the server at `target` ("host", "host:port"). Each run makes connections of its
    own, as iperf3's protocol has it, so set-up is measured every time."""
    return Client(*parse_target(target, port))


async def measure(target: str, spec: Spec | None = None, *, port: int | None = None) -> Result:
    """Run one test to its end and give the result.

    Raises MeasureError (its `result` holds what was measured), SpecError. Cancelling it joins the
    threads before the cancellation goes on.
    """
    async with connect(target, port=port) as client, client.run(spec) as run:
        return await run.wait()
