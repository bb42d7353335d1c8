"""What servers grant."""

from __future__ import annotations

from netmeasure.spec.checked import Checked, check_keepalive, within
from netmeasure.spec.words import MAX_COUNT, MAX_DURATION_S


class ServerLimits(Checked, frozen=True, kw_only=True):
    """What a server grants, and how long it waits for each step of a client, in seconds.

    max_bitrate_bps  of all streams of a test in both directions together: as it is asked for, and
                     as it is on average over `bitrate_over_s`; None: any
    max_duration_s   of a test, omitted time included; then none without a duration is served
    receive_s        as in Deadlines
    keepalive        of control connections, as in SocketOptions
    multipath        MPTCP is served as well (RFC 8684)
    file             data are written to it and read from it, see TcpSpec; not by UDP tests
    """

    max_tests: int = 64
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
        within("max_tests", self.max_tests, 1, 100_000, "")
        within("bitrate limit", self.max_bitrate_bps, 1, 10**15, "bit/s")
        check_keepalive(self.keepalive)


class OriginLimits(Checked, frozen=True, kw_only=True):
    """What an embedded HTTP or FTP server grants, and how long it waits, in seconds.

    max_bytes        the largest file there is
    max_transfers    bodies on their way at the same time; more are told to come back later
    max_connections  more are turned away
    idle_s           for a request or a command
    stall_s          for the next byte of a body
    connect_s        for an FTP client's data connection
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
