"""Find the longest datagram that gets through to a netmeasure server and back, over UDP.

Every datagram has DF set, whatever path MTU the kernel knows, so it arrives as one packet or not at
all. The server tells the length of what arrived, and sends what the client requests; see
`protocol.path_probes`. A datagram without an answer is sent again, since it may have been lost at
random.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Literal, NamedTuple

from netmeasure.clock import now_ns, seconds
from netmeasure.engine.addresses import Address
from netmeasure.engine.path_probe import LEAST_BYTES, Length, between
from netmeasure.engine.sockets import open_datagram
from netmeasure.engine.sockopts import set_path_probing, try_set
from netmeasure.engine.tasks import all_of, beside
from netmeasure.errors import ConnectRefusedError, PeerTimeoutError
from netmeasure.protocol import (
    PATH_QUERY_BYTES,
    PathKind,
    PathProbe,
    make_path_query,
    read_path_answer,
)
from netmeasure.result import FlowDirection
from netmeasure.spec import SocketOptions

#: Lengths tried at a time: three rounds find any length up to 9216 bytes.
AT_ONCE = 20
#: The pause between two datagrams of a round, so that no buffer has to hold all of them.
GAP_S = 0.001
#: How often a datagram is sent, and the wait for its answer each time, to which round trips are
#: added.
TIMES, PATIENCE_S, ROUND_TRIPS = 3, 0.1, 2
#: The number of further datagrams of the shortest length that failed, before it counts.
AGAIN = 3
FIRST_REPEAT_S, LAST_REPEAT_S = 0.02, 0.5
_POLL_S = 0.004
#: The headers of IP and UDP.
_HEADERS = {socket.AF_INET: 28, socket.AF_INET6: 48}
#: linux/in.h, linux/in6.h, linux/errqueue.h
_IP_RECVERR, _IPV6_RECVERR, _MSG_ERRQUEUE = 11, 25, 0x2000
_EXTENDED_ERROR, _LOCAL_ORIGIN = struct.Struct("=IBBBBII"), 1
_ANCILLARY_BYTES = 512
#: Datagrams and errors that are read at a time.
_AT_A_TIME = 256
#: How often a send is tried at once. It may fail with an ICMP error of an earlier datagram.
_TRIES = 4

#: The fate of a datagram: it arrived; its sender's own interface can't send it; or no answer.
Fate = Literal["whole", "local", "dropped"]


class Answer(NamedTuple):
    """Hold an answer, and the length of its datagram."""

    probe: PathProbe
    length: int


class DatagramPath:
    """Send path queries to a server on one socket; `datagram_path` makes one."""

    def __init__(self, sock: socket.socket, address: Address) -> None:
        self._sock = sock
        self._address = address
        self._headers = _HEADERS[socket.AddressFamily(address.family)]
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._room = bytearray(PATH_QUERY_BYTES)
        self._token = b""
        self._pauses: tuple[float, ...] = ()
        self._refused: str | None = None
        #: the least MTU that a router has reported for the way to the server
        self._reported_bytes: int | None = None

    async def greet(self, deadline_s: float) -> None:
        """Get the server's token. Raises ConnectRefusedError, PeerTimeoutError."""
        start_ns = now_ns()
        query = PathProbe(PathKind.TOKEN, next(self._numbers))
        repeats = itertools.count()
        pauses = (min(FIRST_REPEAT_S * 2 ** min(n, 10), LAST_REPEAT_S) for n in repeats)
        try:
            async with asyncio.timeout(deadline_s):
                answer = await self._asked(query, b"", pauses)
        except TimeoutError:
            raise PeerTimeoutError(
                f"no answer to UDP path queries from {self._address} in {deadline_s:g} s",
                phase="connect",
                hint="UDP is blocked on the way, or the server is no netmeasure of this version",
            ) from None
        assert answer is not None, "the pauses do not end"
        self._token = answer.probe.token
        trip_s = seconds(now_ns() - start_ns)  # longer than the round trip if a query was lost
        self._pauses = (PATIENCE_S + ROUND_TRIPS * trip_s,) * TIMES

    async def lengths(self, longest_bytes: int) -> tuple[Length, Length]:
        """Return the longest datagram that gets through, to the server and back.

        Args:
            longest_bytes: The length of the longest IP packet to try.
        """
        up, down = await all_of(
            self._search("upload", longest_bytes), self._search("download", longest_bytes)
        )
        return up, down

    async def _search(self, direction: FlowDirection, longest: int) -> Length:
        least = min(LEAST_BYTES[socket.AddressFamily(self._address.family)], longest)
        sizes = sorted({least, *between(least, longest, AT_ONCE), longest})
        fates: dict[int, Fate] = {}
        confirmed = 0
        while True:
            found = await all_of(
                *(self._fate(direction, size, place) for place, size in enumerate(sizes))
            )
            for size, fate in zip(sizes, found, strict=True):
                if fate == "whole" or fates.get(size) != "whole":
                    fates[size] = fate
            passed = max((size for size, fate in fates.items() if fate == "whole"), default=0)
            if not passed:
                return Length(None, None)
            failed = min((size for size in fates if size > passed), default=None)
            if failed is None:
                return Length(passed, None)
            sizes = between(passed, failed, AT_ONCE)
            if sizes:
                continue
            if fates[failed] == "local":
                return Length(passed, "local")
            if confirmed == failed:
                known = await self._known_mtu(direction)
                return Length(passed, "reported" if 0 < known < failed else "dropped")
            sizes, confirmed = [failed] * AGAIN, failed

    async def _fate(self, direction: FlowDirection, size: int, place: int) -> Fate:
        """Return the fate of a datagram in an IP packet of a given length."""
        await asyncio.sleep(GAP_S * place)
        payload = max(size - self._headers, PATH_QUERY_BYTES)
        kind = PathKind.UPLOAD if direction == "upload" else PathKind.DOWNLOAD
        query = PathProbe(kind, next(self._numbers), payload, self._token)
        filling = bytes(payload - PATH_QUERY_BYTES) if direction == "upload" else b""
        answer = await self._asked(query, filling, self._pauses)
        if answer is None:
            return "dropped"
        if answer.probe.kind == PathKind.TOO_LONG:
            return "local"
        arrived = answer.probe.size if direction == "upload" else answer.length
        return "whole" if arrived == payload else "dropped"

    async def _known_mtu(self, direction: FlowDirection) -> int:
        """Return the MTU of the path that ICMP has reported to the sender of a direction; 0:
        unknown."""
        if direction == "upload":
            return self._reported_bytes or 0
        query = PathProbe(PathKind.KNOWN_MTU, next(self._numbers), 0, self._token)
        answer = await self._asked(query, b"", self._pauses)
        return 0 if answer is None else answer.probe.size

    async def _asked(
        self, query: PathProbe, filling: bytes, pauses: Iterable[float]
    ) -> Answer | None:
        """Return the answer to a query, which is sent before each pause; None: there was none.
        Raises ConnectRefusedError if nothing listens there."""
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[query.number] = answered
        try:
            for pause_s in pauses:
                if not self._sent(make_path_query(query) + filling):
                    return Answer(query._replace(kind=PathKind.TOO_LONG), 0)
                done, _ = await asyncio.wait([answered], timeout=pause_s)
                if done:
                    return answered.result()
                if self._refused is not None:
                    raise ConnectRefusedError(
                        f"{self._address} refused UDP: {self._refused}",
                        phase="connect",
                        reason=self._refused,
                        hint="the server's UDP port is the number of its TCP port",
                    )
            return None
        finally:
            del self._waiting[query.number]

    def _sent(self, datagram: bytes) -> bool:
        """Send a datagram; return whether this host's interface can send its length."""
        for _ in range(_TRIES):
            try:
                self._sock.send(datagram)
            except BlockingIOError:
                return True  # the buffer is full: it is sent again
            except OSError as exc:
                if exc.errno not in (errno.EMSGSIZE, errno.ECONNREFUSED):
                    return True
                self._note(exc)
                if exc.errno == errno.EMSGSIZE:
                    continue  # of this datagram, or reported for an earlier one
            return True
        return False

    def _note(self, exc: OSError) -> None:
        if exc.errno == errno.ECONNREFUSED:
            self._refused = exc.strerror

    async def receive(self) -> None:
        """Read answers and errors, for ever. The socket is polled, since event loops differ in how
        they report a socket with errors."""
        while True:
            self._read_answers()
            self._read_errors()
            await asyncio.sleep(_POLL_S)

    def _read_answers(self) -> None:
        for _ in range(_AT_A_TIME):
            try:
                length = self._sock.recv_into(self._room, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as exc:
                self._note(exc)
                continue
            answer = read_path_answer(bytes(self._room[:length]))
            waiting = None if answer is None else self._waiting.get(answer.number)
            if answer is not None and waiting is not None and not waiting.done():
                waiting.set_result(Answer(answer, length))

    def _read_errors(self) -> None:
        """Note the MTUs that routers have reported (ip(7), IP_RECVERR)."""
        for _ in range(_AT_A_TIME):
            try:
                _, ancillary, _, _ = self._sock.recvmsg(0, _ANCILLARY_BYTES, _MSG_ERRQUEUE)
            except OSError:
                return
            for level, kind, data in ancillary:
                is_error = (level, kind) in (
                    (socket.IPPROTO_IP, _IP_RECVERR),
                    (socket.IPPROTO_IPV6, _IPV6_RECVERR),
                )
                if not is_error or len(data) < _EXTENDED_ERROR.size:
                    continue
                number, origin, _, _, _, mtu, _ = _EXTENDED_ERROR.unpack_from(data)
                if number == errno.EMSGSIZE and origin != _LOCAL_ORIGIN and mtu:
                    self._reported_bytes = min(mtu, self._reported_bytes or mtu)


@asynccontextmanager
async def datagram_path(address: Address, deadline_s: float) -> AsyncIterator[DatagramPath]:
    """Yield a path whose server has answered. Raises ConnectError, PeerTimeoutError,
    HostLimitError."""
    with open_datagram(address, SocketOptions(), 0) as sock:
        set_path_probing(sock)
        if address.family == socket.AF_INET6:
            try_set(sock, socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
        else:
            try_set(sock, socket.IPPROTO_IP, _IP_RECVERR, 1)
        path = DatagramPath(sock, address)
        async with beside(path.receive()):
            await path.greet(deadline_s)
            yield path
