"""Prepare round trips on fresh connections: find the server's port, and try to reach it."""

from __future__ import annotations

import socket

from msgspec.structs import replace

from netmeasure.clock import nanoseconds
from netmeasure.engine.addresses import Address
from netmeasure.engine.packed import packed_address, packed_options
from netmeasure.errors import RemoteProtocolError
from netmeasure.peer.client.connect import Connector
from netmeasure.peer.client.control import ClientControl
from netmeasure.protocol import FRESH_TOKEN_BYTES
from netmeasure.spec import PeerSpec
from netmeasure.workloads.fresh_trips import FreshTripPlan


async def reached(
    plan: FreshTripPlan, control: ClientControl, connector: Connector, spec: PeerSpec
) -> FreshTripPlan:
    """Return the plan with the addresses of both ends and the token of the test.

    Raises RemoteProtocolError if the server did not name a port, ConnectError if the port can't be
    reached.
    """
    port, token = _named(control)
    address = await connector.reach(port)
    return replace(
        plan,
        to=packed_address(*address),
        origin=_origin(control, address, spec),
        socket_options=tuple(packed_options(spec.options, address.family)),
        answer_ns=nanoseconds(spec.deadlines.connect_s),
        token=token if len(token) <= plan.request_bytes else b"",
    )


def _named(control: ClientControl) -> tuple[int, bytes]:
    """Return the port and the token that the server has named."""
    fresh = control.announcement.fresh if control.announcement is not None else None
    try:
        token = b"" if fresh is None else bytes.fromhex(fresh.token)
    except ValueError:
        token = b""
    if fresh is None or not 0 < fresh.port < 2**16 or len(token) != FRESH_TOKEN_BYTES:
        raise RemoteProtocolError(
            "the server named no port and token for fresh connections", phase="control"
        )
    return fresh.port, token


def _origin(control: ClientControl, address: Address, spec: PeerSpec) -> bytes:
    """Return the address to bind to, with any port: this end of the control connection.

    The server serves that host only, and this one may have several addresses. Returns nothing if
    the kernel chooses this address anyway: each transaction then saves two system calls.
    """
    family, (host, _, *more) = control.channel.local_address
    bound = spec.options.bind_address or spec.options.bind_device
    if not bound and _kernels_choice(address) == host:
        return b""
    return packed_address(family, (host, 0, *more))


def _kernels_choice(address: Address) -> str | None:
    """Return the address from which the kernel would connect to another; None: it can't."""
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.connect(address.sockaddr)  # of datagrams: nothing is sent
            return str(probe.getsockname()[0])
    except OSError:
        return None
