"""Watch for data that stand still because their packets are too long for the path."""

from __future__ import annotations

import asyncio
from typing import NoReturn

from netmeasure.clock import Quiet
from netmeasure.engine import path_probe
from netmeasure.engine.sockets import Address, longest_packet
from netmeasure.engine.tasks import first_of
from netmeasure.errors import HostLimitError, PathMtuError
from netmeasure.result import FlowDirection, PathHole
from netmeasure.spec import PeerSpec
from netmeasure.workloads.base import Workload

#: Data that stand still for so long may be lost to the path's MTU: TCP has sent them three times.
STILL_S = 1.5
#: After a search that found nothing, the next one waits for so long.
AGAIN_S = 5.0
_POLL_S = 0.1


class PathWatch:
    """Look for a path MTU black hole while nothing moves in a direction; `hole` is what was found.

    address        the server's
    extended       the server is netmeasure, too, and answers probes of the way back
    """

    def __init__(self, address: Address, spec: PeerSpec, *, extended: bool) -> None:
        self.hole: PathHole | None = None
        self._address = address
        self._spec = spec
        self._extended = extended

    async def until_found(self, workload: Workload) -> NoReturn:
        """Raise PathMtuError when data stand still because their packets are too long.

        A direction in which nothing is due, or that moves again, is left alone.
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
        """Return, with the bytes until then, when data have stood still for STILL_S."""
        quiet = Quiet(STILL_S)
        while True:
            await asyncio.sleep(_POLL_S)
            moved = _moved(workload, direction)
            if direction == "upload" and not workload.unacknowledged_bytes():
                quiet = Quiet(STILL_S)  # nothing is under way: the sender has nothing to send
            elif quiet.since_change(moved):
                return moved

    async def search(self, direction: FlowDirection) -> bool:
        """Look for a hole in one direction; a few seconds at most. A host without room for the
        sockets of the search finds none: its test goes on."""
        try:
            found = await path_probe.find_hole(
                self._address, self._spec.options, direction, longest_packet(self._address)
            )
        except HostLimitError:
            return False
        self.hole = found or self.hole
        return found is not None

    async def search_all(self) -> bool:
        """Look for a hole on the way there and, from a netmeasure server, on the way back."""
        if await self.search("upload"):
            return True
        return self._extended and await self.search("download")

    def error(self) -> PathMtuError:
        """Return the error that names the hole."""
        assert self.hole is not None
        return PathMtuError(hole_words(self.hole), phase="data")


def _moved(workload: Workload, direction: FlowDirection) -> int:
    return workload.moved_bytes("sender" if direction == "upload" else "receiver")


def hole_words(hole: PathHole) -> str:
    """Return what a hole means, in one sentence."""
    way = "to the server" if hole.direction == "upload" else "from the server"
    return (
        f"packets of {hole.lost_bytes} bytes and more do not get through {way} (path MTU); those of"
        f" {hole.passed_bytes} do"
    )
