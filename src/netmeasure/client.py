"""Run tests against a server: measure() for one, connect() for several."""

from __future__ import annotations

import asyncio

from msgspec.structs import replace

from netmeasure.errors import SpecError
from netmeasure.measurement.run import Run
from netmeasure.observe import Observer
from netmeasure.peer.client.test import PeerTest
from netmeasure.result import Result
from netmeasure.spec import FetchSpec, FtpSpec, HttpSpec, PeerSpec, RequestSpec, Spec, TcpSpec
from netmeasure.spec.target import check_family, is_url, parse_target


def fetch_spec(url: str, spec: Spec | None = None) -> FetchSpec | RequestSpec:
    """Return the specification with the URL; None as specification means the default one of the
    URL's scheme. Raise SpecError if the specification does not fit the URL."""
    scheme = url.partition("://")[0].lower()
    kind: type[FetchSpec] | type[RequestSpec]
    if scheme in HttpSpec.schemes:
        kind = HttpSpec
    elif scheme in FtpSpec.schemes:
        kind = FtpSpec
    else:
        raise SpecError(f"{url!r} is not a URL of http, https, ftp or ftps")
    if isinstance(spec, RequestSpec) and scheme in RequestSpec.schemes:
        kind = RequestSpec
    url = scheme + url[len(scheme) :]
    if spec is None:
        return kind(url=url)
    if not isinstance(spec, kind):
        raise SpecError(f"{type(spec).__name__} does not fit {url}", hint=f"use {kind.__name__}")
    return replace(spec, url=url)


def make_run(
    target: str,
    spec: Spec | None = None,
    *,
    port: int | None = None,
    observer: Observer | None = None,
) -> Run:
    """Return the run of a specification against a target: "host", "host:port", or a URL. Raise
    SpecError if the specification does not fit the target."""
    if is_url(target):
        if port is not None:
            raise SpecError("a port does not fit a URL target", hint="write the port in the URL")
        fetch = fetch_spec(target, spec)
        if isinstance(fetch, RequestSpec):
            from netmeasure.transfers.requests import RequestTest

            return Run(fetch, lambda: RequestTest(fetch), observer)
        from netmeasure.transfers.fetch import Fetch  # only tests of URLs need this module

        Fetch.load(fetch)
        return Run(fetch, lambda: Fetch(fetch), observer)
    host, number = parse_target(target, port)
    if spec is not None:
        check_family(host, spec.options.family)
    if isinstance(spec, HttpSpec | FtpSpec | RequestSpec):
        raise SpecError(f"{type(spec).__name__} needs a URL, not {target!r}")
    peer: PeerSpec = spec or TcpSpec()
    return Run(peer, lambda: PeerTest(host, number, peer, observer), observer)


class Client:
    """Run tests against one server, in sequence or concurrently.

    Leaving the `async with` block aborts the runs that have not ended.
    """

    def __init__(self, target: str, port: int | None = None) -> None:
        self.target = target
        self.port = port
        self._runs: list[Run] = []

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(run.abort() for run in self._runs))

    def run(self, spec: Spec | None = None, *, observer: Observer | None = None) -> Run:
        """Return a run for `async with`, which starts it."""
        run = make_run(self.target, spec, port=self.port, observer=observer)
        self._runs = [before for before in self._runs if not before.is_over]
        self._runs.append(run)
        return run


def connect(target: str, *, port: int | None = None) -> Client:
    """Return a client of the server at `target`: "host", "host:port", or a URL. Each run opens
    connections of its own, so set-up is measured every time. Raise SpecError if the target is none
    of these."""
    if is_url(target):
        fetch_spec(target)
    else:
        parse_target(target, port)
    return Client(target, port)


async def measure(
    target: str,
    spec: Spec | None = None,
    *,
    port: int | None = None,
    observer: Observer | None = None,
) -> Result:
    """Run one test to its end and return the result.

    Raises MeasureError, whose `result` has the figures measured before the failure, and SpecError.
    On cancellation, the threads are joined before CancelledError is raised.
    """
    async with connect(target, port=port) as client, client.run(spec, observer=observer) as run:
        return await run.wait()


def run(target: str, spec: Spec | None = None, *, port: int | None = None) -> Result:
    """Run one test to its end and return the result: `measure` for programs without an event loop.

    Raises MeasureError, SpecError; SpecError also if an event loop is already running, as in a
    notebook: use `await nm.measure(...)` there.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(measure(target, spec, port=port))
    raise SpecError("an event loop is running already", hint="await nm.measure(...) instead")
