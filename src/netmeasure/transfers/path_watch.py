"""Detect that a transfer by URL stands still because its packets are too long for the path.

Packets to the server are tried as in any test. Packets from a server of HTTP or FTP have the length
that this end asks for by its MSS (RFC 9293, 3.7.1), so the beginning of the file is requested again
on other connections, each with another MSS.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import NoReturn, Protocol

from msgspec.structs import replace

from netmeasure.clock import Quiet, now_ns, seconds
from netmeasure.engine import path_probe
from netmeasure.engine.addresses import Address
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.sockets import longest_packet
from netmeasure.errors import (
    ConnectError,
    MeasureError,
    PathMtuError,
    PeerTimeoutError,
)
from netmeasure.result import PathHole
from netmeasure.spec import FetchSpec, HttpSpec
from netmeasure.transfers.plan import TransferPlan
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload

#: After a standstill of this length, the path's MTU may be the reason. It is longer than in a test
#: between two ends of netmeasure, since a server of files may take its time for an answer.
STILL_S = 3.0
#: The longest search.
SEARCH_S = 10.0
#: How many requests are made at a time: public servers limit the connections of a client.
AT_ONCE = 8
#: How long a request with the shortest packets may take. Others may take a multiple of what that
#: took, and no less than the second value: a lost packet is sent again after 0.2 and 0.4 s.
FIRST_S = 5.0
LEAST_S, MULTIPLE = 1.0, 4
#: Headers of IP and TCP in front of a segment of the announced MSS.
_HEADERS = {socket.AF_INET: 40, socket.AF_INET6: 60}
_POLL_S = 0.1


class Client(Protocol):
    """Make the transfers of one stream, one after the other."""

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int: ...
    async def close(self) -> None: ...


#: Makes the client that transfers on a stream, by a specification.
Maker = Callable[[FetchSpec, TransferWorkload, TransferStream], Client]


class TransferPathWatch:
    """Search for a path MTU black hole while no data of a run by URL move; `hole` is the one found.

    spec      the run's specification
    workload  its streams
    make      makes the client of a stream
    """

    def __init__(self, spec: FetchSpec, workload: TransferWorkload, make: Maker) -> None:
        self.hole: PathHole | None = None
        self._spec = spec
        self._workload = workload
        self._make = make

    async def until_found(self) -> NoReturn:
        """Raise PathMtuError if data do not move because their packets are too long. Each
        standstill leads to one search."""
        while True:
            address = await self._still()
            state = self._state()
            hole = await self._search(address)
            if hole is not None and state == self._state():
                self.hole = hole
                phase = "data" if self._workload.flowing() else "request"
                raise PathMtuError(path_probe.hole_words(hole), phase=phase)
            while state == self._state():  # noqa: ASYNC110  (native threads count the bytes)
                await asyncio.sleep(_POLL_S)

    def _state(self) -> int:
        """Return a number that grows whenever a transfer has got further."""
        streams = self._workload.streams
        return self._workload.moved_bytes() + sum(len(stream.set_ups_ns) for stream in streams)

    async def _still(self) -> Address:
        """Wait until no transfer has got further for STILL_S; return the server's address."""
        quiet = Quiet(STILL_S)
        while True:
            await asyncio.sleep(_POLL_S)
            known = [stream.server for stream in self._workload.streams if stream.server]
            if not known:
                quiet = Quiet(STILL_S)  # no connection is open yet
            elif quiet.since_change(self._state()):
                return known[0]

    async def _search(self, address: Address) -> PathHole | None:
        """Search for a black hole for SEARCH_S at most. If this host can't do it, without sockets
        or the options that it takes, or the time does not suffice, none is found and the transfer
        goes on."""
        try:
            async with asyncio.timeout(SEARCH_S):
                longest = longest_packet(address)
                if self._spec.direction == "upload":
                    return await path_probe.find_hole(
                        address, self._spec.options, "upload", longest
                    )
                return await self._search_download(address.family, longest)
        except (MeasureError, TimeoutError):
            return None

    async def _search_download(self, family: int, longest: int) -> PathHole | None:
        """Search by requests for the beginning of the file, which only a request that changes
        nothing at the server may be repeated for."""
        if isinstance(self._spec, HttpSpec) and self._spec.method not in (None, "GET"):
            return None
        probe = _Requester(self._spec, self._make, family)
        began = now_ns()
        if await probe.fate(path_probe.LEAST_BYTES[socket.AddressFamily(family)]) != "whole":
            return None  # it is not a matter of length
        probe.patience_s = max(LEAST_S, MULTIPLE * seconds(now_ns() - began))
        passed = await path_probe.find_limit(probe, family, longest, AT_ONCE)
        if passed is None:
            return None
        return PathHole(direction="download", passed_bytes=passed, lost_bytes=passed + 1)


class _Requester:
    """Request the beginning of a file in segments of a given length.

    Attributes:
        opened: Not used: each request is sent at once.
        error: Why the last connection was not opened; None: all were opened.
        patience_s: How long a request may take.
    """

    def __init__(self, spec: FetchSpec, make: Maker, family: int) -> None:
        self.opened: asyncio.Barrier | None = None
        self.error: ConnectError | None = None
        self.patience_s = FIRST_S
        self._spec = spec
        self._make = make
        self._headers = _HEADERS[socket.AddressFamily(family)]

    async def fate(self, size: int) -> path_probe.Fate | None:
        """Return the fate of packets of a given length; None: the server refused the request."""
        options = replace(
            self._spec.options, mss_bytes=size - self._headers, bind_port=None, window_bytes=None
        )
        spec = replace(self._spec, options=options)
        workload = TransferWorkload(TransferPlan(), "receiver", 1)
        (stream,) = workload.streams
        client = self._make(spec, workload, stream)
        try:
            async with asyncio.timeout(self.patience_s):
                # a server may send its head apart: the body begins with a whole segment
                await client.transfer(PhaseLog(), size)
        except (TimeoutError, PeerTimeoutError):
            return "dropped"
        except ConnectError as exc:
            self.error = exc
            return None
        except MeasureError:
            return None
        finally:
            await client.close()
        return "whole"
