"""Run one node of a mesh: its server, for this campaign only, and the client's end of its tests.

Dask makes an actor of this class on each worker and calls it there, on the worker's event loop.
"""

from __future__ import annotations

import msgspec

from netmeasure.client import measure
from netmeasure.errors import MeasureError, NetmeasureError
from netmeasure.peer.server.server import Server, serve
from netmeasure.spec import ServerLimits, Spec


class MeshNode:
    """Serve and measure on one worker."""

    def __init__(self) -> None:
        self._server: Server | None = None

    async def start(self, address: str, at_once: int) -> int:
        """Start the server; return its port."""
        limits = ServerLimits(max_tests=2 * at_once + 2, max_tests_per_address=2 * at_once + 2)
        self._server = await serve(address, 0, limits=limits).__aenter__()
        return self._server.port

    async def here(self) -> bool:
        """Answer, as a sign that this worker is not lost."""
        return True

    async def measure(self, address: str, port: int, spec: bytes) -> tuple[bytes | None, str]:
        """Measure another node; return the result as JSON, or None, and the error or ""."""
        chosen: Spec = msgspec.msgpack.decode(spec, type=Spec)
        try:
            result = await measure(address, chosen, port=port)
        except MeasureError as exc:
            found = None if exc.result is None else exc.result.to_json(indent=None)
            return found, str(exc)
        except NetmeasureError as exc:
            return None, str(exc)
        return result.to_json(indent=None), ""

    async def stop(self) -> None:
        """End the server."""
        if self._server is not None:
            await self._server.close()
            self._server = None
