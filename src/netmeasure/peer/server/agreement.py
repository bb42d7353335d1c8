"""Agree with the client on the test: read its parameters, and derive the plan of the server."""

from __future__ import annotations

from typing import NamedTuple

from netmeasure.engine.control import ControlChannel
from netmeasure.errors import RefusedTestError, RemoteProtocolError, SpecError
from netmeasure.measurement import roles
from netmeasure.peer.parameters import server_spec, stream_count
from netmeasure.peer.plans import server_plan
from netmeasure.peer.server.access import Access
from netmeasure.peer.server.admission import admit
from netmeasure.peer.server.data_phase import failure
from netmeasure.protocol import ErrorCode, Kind, Parameters
from netmeasure.result import FlowDirection, Host
from netmeasure.spec import PeerSpec, ServerLimits
from netmeasure.workloads.tcp import TcpPlan
from netmeasure.workloads.udp import UdpPlan


class Agreement(NamedTuple):
    """Hold the agreement of both ends: the client's parameters, and everything derived from
    them."""

    parameters: Parameters
    plan: TcpPlan | UdpPlan
    spec: PeerSpec
    directions: tuple[FlowDirection, ...]

    @property
    def extended(self) -> bool:
        """Return whether the client is netmeasure as well."""
        return self.parameters.netmeasure is not None

    @property
    def client_host(self) -> Host:
        """Return the facts about the client's host in its parameters."""
        name = None if self.extended else "iperf3"
        return Host(program=name, version=self.parameters.client_version)


async def agree(control: ControlChannel, limits: ServerLimits, access: Access) -> Agreement:
    """Request a client's parameters, and return the agreement.

    Raises RefusedTestError if this server refuses the test or the client, and the error for a
    message that ends the test.
    """
    await control.send(Kind.PARAM_EXCHANGE, deadline_s=limits.handshake_s)
    try:
        message = await control.receive(deadline_s=limits.handshake_s)
    except RemoteProtocolError as exc:
        raise RefusedTestError(str(exc), number=ErrorCode.RECEIVE_PARAMETERS) from None
    if message.kind is not Kind.PARAMETERS:
        raise failure(message)
    parameters: Parameters = message.payload
    await access.check(control, parameters, limits.handshake_s)
    admit(parameters, limits)
    try:
        plan = server_plan(parameters, limits)
        spec = server_spec(parameters, plan)
    except SpecError as exc:
        raise RefusedTestError(str(exc), number=ErrorCode.RECEIVE_PARAMETERS) from None
    streams = roles.directions(spec.direction, stream_count(spec))
    return Agreement(parameters, plan, spec, streams)
