"""Answer Prometheus by HTTP: /probe, /metrics and /healthz."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from netmeasure.errors import BusyError, ServeError, SpecError
from netmeasure.exporter import metrics
from netmeasure.exporter.exporter import Exporter

#: The margin by which a response is ready before Prometheus's own timeout, after which it is
#: discarded.
MARGIN_S = 0.5
_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_TIMEOUT = "X-Prometheus-Scrape-Timeout-Seconds"
_SHUTDOWN_S = 1.0
_HOME = """netmeasure exporter

/probe?target=HOST&module=NAME   measure now (modules: {modules})
/metrics                         the last figures of scheduled tests, and the exporter's own state
/healthz                         200 while scheduled tests are being repeated
"""


@asynccontextmanager
async def served(exporter: Exporter, host: str | None, port: int) -> AsyncIterator[tuple[str, ...]]:
    """Serve within the block, and yield the addresses. Raise ServeError if the port can't be used,
    and SpecError if prometheus_client is missing."""
    metrics.load()
    app = web.Application()
    pages = _Pages(exporter)
    app.add_routes(
        [
            web.get("/", pages.home),
            web.get("/probe", pages.probe),
            web.get("/metrics", pages.metrics),
            web.get("/healthz", pages.healthz),
        ]
    )
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=_SHUTDOWN_S)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as exc:
            # asyncio's own message is longer
            reason = os.strerror(exc.errno) if exc.errno else str(exc)
            where = f"port {port}" if host is None else f"port {port} of {host}"
            raise ServeError(f"can't listen on {where}: {reason}", reason=reason) from None
        yield tuple(f"[{h}]:{p}" if ":" in h else f"{h}:{p}" for h, p, *_ in runner.addresses)
    finally:
        await runner.cleanup()


class _Pages:
    """Answer requests by HTTP."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter = exporter

    async def home(self, request: web.Request) -> web.Response:
        """Return the list of paths and modules."""
        names = ", ".join(sorted(self._exporter.config.modules))
        return web.Response(text=_HOME.format(modules=names))

    async def healthz(self, request: web.Request) -> web.Response:
        """Return whether the scheduled tests are being repeated."""
        if self._exporter.alive:
            return web.Response(text="ok\n")
        return web.Response(status=503, text="a scheduled test is no longer repeated\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """Return the present figures, without waiting for a test."""
        return _answer(metrics.exposition(lambda: metrics.of_exporter(self._exporter)))

    async def probe(self, request: web.Request) -> web.Response:
        """Run a test and return its figures. The response to a failed test has its metrics, too."""
        config = self._exporter.config
        target, name = request.query.get("target"), request.query.get("module", "tcp_upload")
        if not target:
            return _wrong("no target: write /probe?target=HOST&module=NAME")
        module = config.modules.get(name)
        if module is None:
            return _wrong(f"no module is called {name!r}: {', '.join(sorted(config.modules))}")
        if not config.may_probe(target):
            return _wrong(f"{target!r} is none of the targets that may be probed", 403)
        try:
            timeout_s = min(module.timeout_s, _time_left(request))
        except ValueError:
            return _wrong(f"{_TIMEOUT} is no number of seconds")
        limit_s = module.spec.limit_s
        if limit_s is not None and limit_s >= timeout_s:
            return _wrong(
                f"module {name!r} takes {limit_s:g} s, but the scrape may take {timeout_s:g} s:"
                " set a longer scrape_timeout"
            )
        try:
            outcome = await self._exporter.probe(target, module, timeout_s)
        except SpecError as exc:
            return _wrong(f"{exc} ({exc.hint})" if exc.hint else str(exc))
        except BusyError as exc:
            answer = _wrong(str(exc), 503)
            answer.headers["Retry-After"] = "10"
            return answer
        return _answer(metrics.exposition(lambda: metrics.of_probe(outcome)))


def _time_left(request: web.Request) -> float:
    """Return how long Prometheus waits for the answer, less a margin. Raises ValueError."""
    told = request.headers.get(_TIMEOUT)
    if told is None:
        return float("inf")
    seconds = float(told)
    if not 0 < seconds < 1e6:  # false for NaN, too
        raise ValueError(told)
    return max(seconds - MARGIN_S, seconds / 2)


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": _TYPE})


def _wrong(sentence: str, status: int = 400) -> web.Response:
    return web.Response(status=status, text=sentence + "\n")
