"""Define the limits that servers set for their clients."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from netmeasure.errors import SpecError
from netmeasure.spec.checked import Checked, check_keepalive, within
from netmeasure.spec.words import MAX_COUNT, MAX_DURATION_S, MAX_STREAMS, USUAL_STREAMS


@lru_cache(maxsize=1024)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return the network in a text. Raise SpecError if it is not a network."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError as exc:
        raise SpecError(f"{exc}", hint="write networks as 192.0.2.0/24 or 2001:db8::/32") from None


class ServerLimits(Checked, frozen=True, kw_only=True):
    """Set a server's limits for its clients, and how long it waits for each of their steps.

    Attributes:
        max_tests: The most concurrent tests. Further netmeasure clients wait in a queue, and other
            clients are refused as busy.
        max_tests_per_address: The most concurrent tests from one IPv4 address or IPv6 /64; None:
            half of `max_tests`, but at least 4.
        max_streams: The most streams of a test in each direction.
        max_bytes: The most bytes that a test may request or transfer; None: no limit.
        max_total_bitrate_bps: The most bit/s that all running tests may request together; each test
            must then have a bitrate. None: no limit.
        allow: Networks whose clients are served, such as "192.0.2.0/24"; empty: all.
        deny: Networks whose clients are not served, even if they are in `allow`.
        max_bitrate_bps: The most bit/s of all streams of a test together, in both directions; it
            limits the requested rate and the average over `bitrate_over_s`. None: no limit.
        bitrate_over_s: Seconds over which the bitrate is averaged.
        max_duration_s: The longest test, omitted time included; each test must then have a
            duration. None: no limit.
        receive_s: As in `Deadlines`.
        keepalive: (idle s, interval s, probes) of control connections, as in `SocketOptions`.
        multipath: Serve MPTCP as well (RFC 8684).
        file: A regular file that TCP tests read from and write to, see `TcpSpec`.
        cookie_s: Seconds to wait for a client's cookie.
        handshake_s: Seconds to wait for each step of the control protocol.
        streams_s: Seconds to wait for all data connections.
        stall_s: Seconds without any transferred byte.
        drain_s: Seconds for the data in flight after the end of the test.
        results_s: Seconds to wait for the client's results.
        vanished_s: Seconds without any acknowledgement of sent data (TCP_USER_TIMEOUT, tcp(7)).

    Raises:
        SpecError: A value is out of range.
    """

    max_tests: int = 64
    max_tests_per_address: int | None = None
    max_streams: int = USUAL_STREAMS
    max_bytes: int | None = None
    max_total_bitrate_bps: int | None = None
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    max_bitrate_bps: int | None = None
    bitrate_over_s: float = 5.0
    max_duration_s: float | None = None
    receive_s: float | None = None
    keepalive: tuple[int, int, int] | None = None
    multipath: bool = False
    file: str | None = None
    cookie_s: float = 10.0
    handshake_s: float = 15.0
    streams_s: float = 60.0
    stall_s: float = 60.0
    drain_s: float = 15.0
    results_s: float = 30.0
    vanished_s: float = 20.0

    def _check(self) -> None:
        for name in self.__struct_fields__:
            if name.endswith("_s"):
                within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")
        within("max_streams", self.max_streams, 1, MAX_STREAMS, "")
        within("max_bytes", self.max_bytes, 1, MAX_COUNT, "bytes")
        within("total bitrate limit", self.max_total_bitrate_bps, 1, 10**15, "bit/s")
        for text in (*self.allow, *self.deny):
            _network(text)
        within("max_tests_per_address", self.max_tests_per_address, 1, 100_000, "")
        within("max_tests", self.max_tests, 1, 100_000, "")
        within("bitrate limit", self.max_bitrate_bps, 1, 10**15, "bit/s")
        check_keepalive(self.keepalive)

    def serves(self, host: str) -> bool:
        """Return whether clients of an address are served."""
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return not self.allow
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in _network(text) for text in self.deny):
            return False
        return not self.allow or any(address in _network(text) for text in self.allow)

    @property
    def tests_per_address(self) -> int:
        """Return how many concurrent tests one address may have."""
        if self.max_tests_per_address is not None:
            return self.max_tests_per_address
        return min(self.max_tests, max(4, self.max_tests // 2))


class OriginLimits(Checked, frozen=True, kw_only=True):
    """Set the limits of an embedded HTTP or FTP server, and how long it waits.

    Attributes:
        max_bytes: The size of the largest file.
        max_transfers: The most concurrent transfers of bodies; further clients are told to try
            again later.
        max_connections: The most concurrent connections; further ones are closed.
        idle_s: Seconds to wait for a request or a command.
        stall_s: Seconds to wait for the next byte of a body.
        connect_s: Seconds to wait for an FTP client's data connection.

    Raises:
        SpecError: A value is out of range.
    """

    max_bytes: int = 2**50
    max_transfers: int = 64
    max_connections: int = 1000
    idle_s: float = 60.0
    stall_s: float = 30.0
    connect_s: float = 15.0

    def _check(self) -> None:
        for name in ("idle_s", "stall_s", "connect_s"):
            within(name, getattr(self, name), 0.01, MAX_DURATION_S, "s")
        within("max_bytes", self.max_bytes, 0, MAX_COUNT, "bytes")
        within("max_transfers", self.max_transfers, 1, 10_000, "")
        within("max_connections", self.max_connections, 1, 100_000, "")
