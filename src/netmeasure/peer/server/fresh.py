"""Listen for the fresh connections of one test, on a port of its own.

A test opens tens of thousands of them per second, too many for the event loop: a native thread
accepts them (`workloads.fresh_trips`).
"""

from __future__ import annotations

import secrets
import socket

from msgspec.structs import replace

from netmeasure.engine import sockopts
from netmeasure.engine.addresses import Address
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.packed import packed_address
from netmeasure.errors import PeerClosedError, RefusedTestError, SocketOptionError
from netmeasure.protocol import FRESH_TOKEN_BYTES, ErrorCode, FreshPort
from netmeasure.workloads.fresh_trips import FreshTripPlan

#: Connections that the kernel may hold for the thread, in addition to those of the client.
SPARE_BACKLOG = 16


class FreshListener:
    """Own the listening socket of one test until `close`.

    Args:
        control: The control connection: the socket listens on its local address, for its peer.
        plan: What both ends have agreed on.
        port: The port; 0: a free one.
        device: The only network interface; None: any.

    Raises:
        RefusedTestError: This host can't listen there.
        PeerClosedError: The client is gone.
    """

    def __init__(
        self, control: ControlChannel, plan: FreshTripPlan, port: int, device: str | None
    ) -> None:
        try:
            self._peer = packed_address(*control.peer_address)
        except OSError:
            raise PeerClosedError("the client has left", phase="control") from None
        try:
            self._sock = _listening(control.local_address, plan, port, device)
        except SocketOptionError as exc:
            raise RefusedTestError(str(exc), number=exc.number) from None
        except OSError as exc:
            reason = exc.strerror or str(exc)
            raise RefusedTestError(
                f"this host can't listen for fresh connections{f' on port {port}' if port else ''}:"
                f" {reason}",
                number=ErrorCode.FRESH_PORT,
                reason=reason,
                errno=exc.errno,
            ) from None
        self._token = secrets.token_bytes(FRESH_TOKEN_BYTES)

    @property
    def announced(self) -> FreshPort:
        """Return the port and the token, for the client."""
        return FreshPort(port=self._sock.getsockname()[1], token=self._token.hex())

    def completed(self, plan: FreshTripPlan) -> FreshTripPlan:
        """Return the plan with this socket in it."""
        return replace(
            plan,
            listener=self._sock.fileno(),
            peer=self._peer,
            token=self._token if plan.request_bytes >= FRESH_TOKEN_BYTES else b"",
        )

    def close(self) -> None:
        """Close the socket, after the end of the thread that uses it."""
        self._sock.close()


def _listening(
    address: Address, plan: FreshTripPlan, port: int, device: str | None
) -> socket.socket:
    """Return a socket that listens on an address. Accepted connections inherit its options."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        # connections of an earlier test in TIME-WAIT do not keep the port
        sockopts.try_set(sock, socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:  # the address may be a v4-mapped one
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        if device is not None:
            sockopts.set_device(sock, device)
        sockopts.set_no_delay(sock, asked=False)
        if plan.window_bytes is not None:
            sockopts.set_window(sock, plan.window_bytes)
        if plan.congestion is not None:
            sockopts.set_congestion(sock, plan.congestion)
        if plan.tos:
            sockopts.set_tos(sock, plan.tos)
        if plan.pacing_bps:
            sockopts.set_pacing(sock, plan.pacing_bps)
        host, _, *more = address.sockaddr
        sock.bind((host, port, *more))
        # a connection is accepted when its request has come: half of the wake-ups (tcp(7)). Of
        # several, that saves CPU time; a single one would wait for the wake-up, which could have
        # begun while its request was being sent.
        if plan.connections > 1:
            sockopts.try_set(sock, socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
        sock.listen(plan.connections + SPARE_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
