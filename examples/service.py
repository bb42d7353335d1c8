"""Measure an upstream again and again beside other work, and offer the figures at /metrics.

    python examples/service.py lab1 --port 8000 --every 300

`netmeasure exporter` does the same and more; this is for a service that has a loop of its own.
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import suppress

from aiohttp import web

import netmeasure as nm

SHORT = nm.TcpSpec(direction="download", timing=nm.Timing(duration_s=1.0))


class Upstream:
    """Keep the last result of an upstream."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.last: nm.Result | None = None

    async def measure(self) -> None:
        """Measure once; a test that broke off is a result, too."""
        try:
            self.last = await nm.measure(self.target, SHORT)
        except nm.MeasureError as exc:
            self.last = exc.result

    async def repeat(self, every_s: float) -> None:
        """Measure until cancelled, which joins the threads of the test that is under way."""
        while True:
            await self.measure()
            await asyncio.sleep(every_s)

    async def metrics(self, request: web.Request) -> web.Response:
        """Answer Prometheus."""
        known = [] if self.last is None else [self.last]
        return web.Response(text=nm.export_results(known, "openmetrics"))


async def main() -> None:
    """Serve until the program is interrupted."""
    parser = argparse.ArgumentParser(description="Measure an upstream and serve its metrics.")
    parser.add_argument("target")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--every", type=float, default=300.0)
    options = parser.parse_args()
    upstream = Upstream(options.target)
    app = web.Application()
    app.router.add_get("/metrics", upstream.metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port).start()
        print("serving on port", runner.addresses[0][1], flush=True)
        await upstream.repeat(options.every)
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
