"""Divide a server's resources among the addresses of its clients, so that no address uses them
all."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

from netmeasure.clock import nanoseconds, now_ns

T = TypeVar("T", bound=Hashable)
#: An IPv6 host may use any address of a network of this length (RFC 4291 section 2.5.4).
_IPV6_PREFIX = 64


@lru_cache(maxsize=4096)
def network_of(host: str) -> str:
    """Return the network to which shares are assigned: an IPv4 address, or the /64 of an IPv6
    address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))


class Crowd(Generic[T]):
    """Keep the connections of one kind, up to `most`. A new connection is always accepted: if there
    are too many, it displaces the oldest one of the network with the most connections.

    Each operation takes the same time, however many networks there are: a crowd makes many of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._members: dict[str, OrderedDict[T, None]] = {}
        #: the networks by their number of members, and the largest of these numbers
        self._of_size: dict[int, OrderedDict[str, None]] = {}
        self._largest = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, network: str, member: T) -> T | None:
        """Add a member; return the member that it displaces, which has been removed."""
        here = self._members.setdefault(network, OrderedDict())
        before = len(here)
        here[member] = None
        self._count += 1
        self._move(network, before, len(here))
        if self._count <= self._most:
            return None
        largest = next(iter(self._of_size[self._largest]))
        gone = next(iter(self._members[largest]))
        self.remove(largest, gone)
        return gone

    def remove(self, network: str, member: T) -> bool:
        """Remove a member; return whether it was there."""
        here = self._members.get(network)
        if here is None or member not in here:
            return False
        del here[member]
        self._count -= 1
        self._move(network, len(here) + 1, len(here))
        if not here:
            del self._members[network]
        return True

    def _move(self, network: str, before: int, now: int) -> None:
        """Note that the number of a network's members has changed by one."""
        if before:
            here = self._of_size[before]
            del here[network]
            if not here:
                del self._of_size[before]
        if now:
            self._of_size.setdefault(now, OrderedDict())[network] = None
        if now > self._largest or self._largest not in self._of_size:
            self._largest = now


class Memory:
    """Share memory for large messages: `most` bytes in all, and `each` for a network.

    A request for more than the free memory waits in a queue; requests that wait only for their
    network's share are skipped.
    """

    def __init__(self, most: int, each: int) -> None:
        self._most = most
        self._each = each
        self._used: Counter[str] = Counter()
        self._waiting: deque[tuple[str, int, asyncio.Future[None]]] = deque()

    async def take(self, network: str, size: int) -> None:
        """Wait until this many bytes are free, and take them."""
        if not self._waiting and self._fits(network, size):
            self._used[network] += size
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (network, size, turn)
        self._waiting.append(entry)
        self._next()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(network, size)
            else:
                self._waiting.remove(entry)
                self._next()
            raise

    def give_back(self, network: str, size: int) -> None:
        """Give back bytes that were taken."""
        self._used[network] -= size
        if self._used[network] <= 0:
            del self._used[network]
        self._next()

    def _fits(self, network: str, size: int) -> bool:
        mine = self._used[network]
        return self._used.total() + size <= self._most and (not mine or mine + size <= self._each)

    def _next(self) -> None:
        for entry in tuple(self._waiting):
            network, size, turn = entry
            if turn.done():
                continue  # cancelled just now
            if self._used.total() + size > self._most:
                return
            if self._fits(network, size):
                self._waiting.remove(entry)
                self._used[network] += size
                turn.set_result(None)


class Failures(NamedTuple):
    """Hold how often a network has failed, since its first failure."""

    times: int
    since_ns: int


class LoginBrake:
    """Count the failed logins of each network, and find networks with `most` failures or more
    within `within_s`. Only the latest `networks` networks are remembered."""

    def __init__(self, most: int = 5, within_s: float = 60.0, networks: int = 10_000) -> None:
        self._most = most
        self._within_ns = nanoseconds(within_s)
        self._networks = networks
        self._failed: OrderedDict[str, Failures] = OrderedDict()

    def holds(self, network: str) -> bool:
        """Return whether a network has failed too often, and has to wait."""
        failed = self._failed.get(network)
        if failed is None:
            return False
        if now_ns() - failed.since_ns > self._within_ns:
            del self._failed[network]
            return False
        return failed.times >= self._most

    def note(self, network: str) -> None:
        """Count a failed login."""
        before = self._failed.pop(network, Failures(0, now_ns()))
        self._failed[network] = Failures(before.times + 1, before.since_ns)
        if len(self._failed) > self._networks:
            self._failed.popitem(last=False)
