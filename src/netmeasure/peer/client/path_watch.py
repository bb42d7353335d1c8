"""Detect that data do not move because their packets are too long for the path."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from netmeasure.clock import Quiet
from netmeasure.engine import path_probe
from netmeasure.engine.addresses import Address
from netmeasure.engine.sockets import longest_packet
from netmeasure.engine.tasks import first_of
from netmeasure.errors import MeasureError, PathMtuError
from netmeasure.result import FlowDirection, PathHole
from netmeasure.spec import PeerSpec
from netmeasure.workloads.base import Workload

#: After a standstill of this length, the path's MTU may be the reason: TCP has sent the data three
#: times.
STILL_S = 1.5
#: The pause before the next search after a search that found nothing.
AGAIN_S = 5.0
#: The longest search in one direction. Packets that are lost at random, and a host that is too busy
#: to answer in time, make a search repeat its steps.
SEARCH_S = 10.0
_POLL_S = 0.1


class PathWatch:
    """Search for a path MTU black hole while no data move in a direction; `hole` is the one found.

    address   the server's address
    extended  the server is netmeasure, too, and answers probes of the download direction
    """

    def __init__(self, address: Address, spec: PeerSpec, *, extended: bool) -> None:
        self.hole: PathHole | None = None
        self._address = address
        self._spec = spec
        self._extended = extended

    async def until_found(self, workload: Workload) -> NoReturn:
        """Raise PathMtuError if data do not move because their packets are too long.

        A direction in which no data are due, or in which data move again, raises nothing.
        """
        directions: list[FlowDirection] = []
        if workload.ids("sender") and not self._spec.over_udp:
            directions.append("upload")
        if workload.ids("receiver") and self._extended:
            directions.append("download")
        await first_of(asyncio.Event().wait(), *(self._until(workload, way) for way in directions))
        raise AssertionError("neither of them returns")

    async def _until(self, workload: Workload, direction: FlowDirection) -> NoReturn:
        while True:
            moved = await self._still(workload, direction)
            if await self.search(direction) and moved == _moved(workload, direction):
                raise self.error()
            await asyncio.sleep(AGAIN_S)

    async def _still(self, workload: Workload, direction: FlowDirection) -> int:
        """Wait until no data have moved for STILL_S; return the bytes so far."""
        quiet = Quiet(STILL_S)
        while True:
            await asyncio.sleep(_POLL_S)
            moved = _moved(workload, direction)
            if direction == "upload" and not workload.unacknowledged_bytes():
                quiet = Quiet(STILL_S)  # no data are in flight: the sender has nothing to send
            elif quiet.since_change(moved):
                return moved

    async def search(self, direction: FlowDirection) -> bool:
        """Search for a black hole in one direction, for SEARCH_S at most. If this host can't do it,
        without sockets or the options that it takes, or the time does not suffice, none is found
        and the test goes on."""
        try:
            async with asyncio.timeout(SEARCH_S):
                found = await path_probe.find_hole(
                    self._address, self._spec.options, direction, longest_packet(self._address)
                )
        except (MeasureError, TimeoutError):
            return False
        self.hole = found or self.hole
        return found is not None

    async def search_all(self) -> bool:
        """Search for a black hole in the upload direction and, with a netmeasure server, in the
        download direction."""
        if await self.search("upload"):
            return True
        return self._extended and await self.search("download")

    def error(self) -> PathMtuError:
        """Return the error for a black hole."""
        assert self.hole is not None
        return PathMtuError(path_probe.hole_words(self.hole), phase="data")


def _moved(workload: Workload, direction: FlowDirection) -> int:
    return workload.moved_bytes("sender" if direction == "upload" else "receiver")
