"""Search the longest packet of a path in both directions."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Literal

from netmeasure.clock import now_ns
from netmeasure.engine import sockets
from netmeasure.engine.addresses import Address
from netmeasure.engine.datagram_probe import DatagramPath, datagram_path
from netmeasure.engine.path import interface_mtu, path_facts
from netmeasure.engine.path_probe import MOST_BYTES, find_lengths
from netmeasure.errors import ConnectError, MeasureError, SpecError
from netmeasure.paths.explain import explanations
from netmeasure.paths.report import PacketLength, PathReport
from netmeasure.result import FlowDirection
from netmeasure.spec import Family, SocketOptions
from netmeasure.spec.target import check_family, parse_target

_WAYS: tuple[FlowDirection, FlowDirection] = ("upload", "download")


async def path(
    target: str,
    *,
    port: int | None = None,
    family: Family = "any",
    timeout_s: float = 5.0,
    protocol: Literal["tcp", "udp"] = "tcp",
) -> PathReport:
    """Return the longest packet that gets through to a server and back, over TCP or UDP.

    Over TCP, the upload direction works with any server. The download direction needs a netmeasure
    server, and is unknown with another server. UDP needs a netmeasure server. No privilege is
    needed.

    Args:
        target: "host" or "host:port".
        port: The port if the target names none; None: 5201.
        family: The address family: "any", "ipv4" or "ipv6".
        timeout_s: Time for the name look-up, and for the first connection or answer of each
            address. The search after it takes less than 2 s on paths with a short round trip.
        protocol: What carries the probes. A path may treat TCP and UDP in different ways.

    Raises:
        SpecError: The target, the time or the protocol is not valid.
        NameNotFoundError: There is no such name.
        PeerTimeoutError: The look-up, or UDP, had no answer.
        ConnectError: No address of the target accepts a connection, or accepts the search's
            connections; nothing listens on its UDP port.
        HostLimitError: This host has no room for the sockets of the search, about 200 over TCP.
    """
    if not 0 < timeout_s < float("inf"):
        raise SpecError(f"{timeout_s} s is no time limit", hint="it must be more than 0")
    if protocol not in ("tcp", "udp"):
        raise SpecError(f"{protocol!r} can't carry probes", hint="it is tcp or udp")
    host, number = parse_target(target, port)
    check_family(host, family)
    found = await sockets.resolve(host, number, family, timeout_s)
    async with AsyncExitStack() as stack:
        over_udp: DatagramPath | None = None
        if protocol == "udp":
            address, over_udp = await _answered(found.addresses, timeout_s, stack)
        else:
            address = await _connected(found.addresses, timeout_s)
        start = now_ns()
        facts = path_facts(address)
        mtu = None if facts.interface is None else interface_mtu(facts.interface)
        # the kernel may have a cached path MTU, so use the interface's MTU
        longest = min(mtu or facts.path_mtu_bytes or 1500, MOST_BYTES)
        if over_udp is not None:
            ways = await over_udp.lengths(longest)
        else:
            ways = await find_lengths(address, SocketOptions(), longest)
    up, down = (
        PacketLength(direction=name, tried_bytes=longest, passed_bytes=passed, longer=longer)
        for name, (passed, longer) in zip(_WAYS, ways, strict=True)
    )
    known = [one.passed_bytes for one in (up, down) if one.passed_bytes is not None]
    least = min(known, default=None)
    return PathReport(
        protocol=protocol,
        address=facts.address,
        port=number,
        ip_version=facts.ip_version,
        interface=facts.interface,
        interface_mtu_bytes=mtu,
        lengths=(up, down),
        inner_mtu_bytes=least,
        explanations=() if least is None else explanations(least, up.tried_bytes, facts.ip_version),
        took_ns=now_ns() - start,
    )


async def _connected(addresses: list[Address], timeout_s: float) -> Address:
    """Return the first address that accepts a connection."""
    error: ConnectError | None = None
    for address in addresses:
        try:
            made = await sockets.connect_one(address, SocketOptions(), timeout_s)
        except ConnectError as exc:
            error = error or exc
        else:
            made.sock.close()
            return address
    assert error is not None, "a look-up that finds no address has raised"
    raise error


async def _answered(
    addresses: list[Address], timeout_s: float, stack: AsyncExitStack
) -> tuple[Address, DatagramPath]:
    """Return the first address that answers over UDP, and its path, which `stack` closes."""
    error: MeasureError | None = None
    for address in addresses:
        try:
            return address, await stack.enter_async_context(datagram_path(address, timeout_s))
        except MeasureError as exc:
            error = error or exc
    assert error is not None, "a look-up that finds no address has raised"
    raise error
