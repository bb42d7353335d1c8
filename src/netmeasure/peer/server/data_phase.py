"""Run the server's data phase: wait for the event that ends it, then for the last bytes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable

from netmeasure.clock import Quiet
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.tasks import first_of
from netmeasure.errors import (
    MeasureError,
    PeerTerminatedError,
    RefusedTestError,
    RemoteProtocolError,
)
from netmeasure.peer.parameters import server_time_limit_s
from netmeasure.peer.server.admission import BitrateLimit
from netmeasure.protocol import ErrorCode, Kind, Message, Parameters, PeerResults
from netmeasure.spec import ServerLimits
from netmeasure.workloads.base import Workload

POLL_S = 0.05
#: How long after its streams broke a client's message with the reason may arrive.
REASON_S = 0.2
#: A plain client's streams do not end before the results. Without a byte count, they count as
#: complete after a silence of this length.
QUIET_S = 0.2


def failure(message: Message) -> MeasureError:
    """Return the error for a client's message that ends the test."""
    if message.kind in (Kind.CLIENT_TERMINATE, Kind.IPERF_DONE):
        return PeerTerminatedError("the client ended the test early", phase="data")
    return RemoteProtocolError(f"the client sent {message.kind.name} too early")


class ServerData:
    """Run the server's data phase on a started workload. `tick` is called periodically during the
    transfer."""

    def __init__(
        self,
        workload: Workload,
        parameters: Parameters,
        limits: ServerLimits,
        control: ControlChannel,
        tick: Callable[[], None],
    ) -> None:
        self._workload = workload
        self._parameters = parameters
        self._limits = limits
        self._control = control
        self._tick = tick
        self._extended = parameters.netmeasure is not None

    @property
    def streams_end(self) -> bool:
        """Return whether the client's streams mark the end of their data themselves (FIN)."""
        return self._extended and not self._parameters.udp

    async def run(self) -> None:
        """Run until the client ends the test. Receivers of streams that mark their end have then
        read all data."""
        await first_of(
            self._test_end(),
            self._stream_failure(),
            self._time_limit(),
            self._stall(),
            self._silence(),
        )
        self._workload.stop_senders()
        await self._workload.join("sender")
        if self.streams_end:
            await self._workload.drain(self._workload.join("receiver"), self._limits.drain_s)
        elif not self._extended:
            self._workload.finish_senders()

    async def _test_end(self) -> None:
        message = await self._control.receive(deadline_s=None)
        if message.kind is not Kind.TEST_END:
            raise failure(message)

    async def _stream_failure(self) -> None:
        error = await self._workload.first_error()
        # when a client dies, its data connections break too, so check the control connection first
        try:
            async with asyncio.timeout(REASON_S):
                message = await self._control.receive(deadline_s=None)
        except TimeoutError:
            raise error from None
        if message.kind is not Kind.TEST_END:
            raise failure(message)

    async def _time_limit(self) -> None:
        """Raise RefusedTestError if the client has not ended the test some time after its planned
        end."""
        limits = self._limits
        time_s = server_time_limit_s(self._parameters)
        if time_s is None:
            await asyncio.Event().wait()
            return
        await asyncio.sleep(time_s + limits.drain_s + limits.stall_s)
        raise RefusedTestError(
            f"the client did not end its test of {time_s:g} s", number=ErrorCode.DURATION_EXPIRED
        )

    async def _stall(self) -> None:
        """Raise RefusedTestError if no data move, or the bitrate exceeds the limit."""
        limit_s = self._limits.stall_s
        if self._parameters.udp and self._parameters.time:
            # a test in which nothing arrives is a result, and its time limit ends it
            limit_s = math.inf
        quiet = Quiet(limit_s)
        rate = BitrateLimit(self._limits, self._workload.moved_bytes)
        while True:
            self._tick()
            rate.check()
            still = quiet.since_change(self._workload.moved_bytes())
            if still and not self._workload.ended():
                raise RefusedTestError(f"no data moved for {limit_s:g} s", number=ErrorCode.NO_DATA)
            await asyncio.sleep(min(POLL_S, limit_s / 4))

    async def _silence(self) -> None:
        """Raise RefusedTestError if nothing was received for longer than the limits allow."""
        limit_s = await self._workload.silence(self._limits.receive_s)
        raise RefusedTestError(f"no data were received for {limit_s:g} s", number=ErrorCode.NO_DATA)

    async def take_rest(self, results: PeerResults) -> None:
        """Receive the data that a plain client sent before TEST_END and that are still in flight.
        Streams that mark their end have already been read completely."""
        if not self.streams_end:
            await self._workload.drain(self._emptied(results), self._limits.drain_s)

    async def _emptied(self, results: PeerResults) -> None:
        """Wait until all sent data have arrived, or nothing has arrived for a while."""
        udp = self._parameters.udp
        sent = {s.id: s.packets if udp else s.bytes for s in results.streams}
        # iperf3's byte counts exclude the omitted time, but its counts of datagrams include it
        exact = udp or not self._workload.plan.omit_ns
        ids = self._workload.ids("receiver")
        quiet = Quiet(QUIET_S)
        while True:
            received = {number: self._workload.received(number) for number in ids}
            if exact and all(received[n] >= sent.get(n, 0) for n in ids):
                return
            if quiet.since_change(sum(received.values())):
                return
            await asyncio.sleep(0.005)
