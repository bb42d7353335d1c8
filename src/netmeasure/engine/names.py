"""Look host names up, and repeat failed look-ups until the user's deadline.

A literal address needs no look-up and is parsed directly. A name is looked up by the system's
resolver (getaddrinfo(3)) in its own thread. The call may wait for seconds and can't be interrupted;
the thread records its start and end, so that a busy event loop does not shift these times.
"""

from __future__ import annotations

import asyncio
import encodings.idna  # noqa: F401  (getaddrinfo(3) would load it while a clock of set-up runs)
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netmeasure.clock import now_ns, seconds
from netmeasure.errors import HostLimitError, NameNotFoundError, PeerTimeoutError
from netmeasure.spec import Family

FAMILIES: dict[Family, int] = {
    "any": socket.AF_UNSPEC,
    "ipv4": socket.AF_INET,
    "ipv6": socket.AF_INET6,
}
#: The pauses before the look-up is repeated if the resolver fails at once, as it does without a
#: network, or while the name server is not yet running.
FIRST_PAUSE_S, LAST_PAUSE_S = 0.1, 1.0
#: A failure that came sooner than this was no time-out of the resolver.
AT_ONCE_S = 1.0
#: How long the resolver waits for an answer before it repeats the query, by default
#: (resolv.conf(5)).
RETRY_STEP_S = 5.0
_CONFIGURATION = Path("/etc/resolv.conf")

#: (family, type, protocol, canonical name, socket address), as getaddrinfo returns them
Entry = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]


class LookedUp(NamedTuple):
    """Hold the addresses of a name, and the time of the look-up (CLOCK_MONOTONIC ns). `detail`
    explains this time."""

    entries: list[Entry]
    start_ns: int
    end_ns: int
    detail: str | None = None


async def look_up(
    host: str, port: int, family: Family, deadline_s: float, again_s: float
) -> LookedUp:
    """Return the addresses of `host` in the system's order.

    A look-up that the resolver fails at once is repeated for `again_s`. Raises NameNotFoundError,
    or PeerTimeoutError at the deadline."""
    start = now_ns()
    try:
        if _is_address(host):
            entries = _ask(host, port, family)
            return LookedUp(entries, start, now_ns())
        async with asyncio.timeout(deadline_s):
            return await _ask_until_answered(host, port, family, again_s)
    except TimeoutError:
        raise PeerTimeoutError(
            f"looking up {host!r} took more than {deadline_s:g} s",
            phase="resolve",
            hint="check the name server, or give an address",
        ) from None
    except (socket.gaierror, UnicodeError) as exc:
        reason = getattr(exc, "strerror", None) or "not a valid host name"
        raise NameNotFoundError(
            f"can't find host {host!r}: {reason}",
            phase="resolve",
            reason=reason,
            hint=_advice(host, family),
        ) from None


def _advice(host: str, family: Family) -> str:
    """Return the hint for a host that was not found."""
    address, _, zone = host.partition("%")
    if zone and _is_address(address):
        return f"this host has no interface {zone!r}: `ip link` shows those it has"
    if family == "any":
        return "check the spelling and the name server"
    return f"check the name; only {family} addresses were asked for"


async def _ask_until_answered(host: str, port: int, family: Family, again_s: float) -> LookedUp:
    """Repeat the look-up after a temporary failure of the resolver (EAI_AGAIN). If it fails at once
    and another pause would exceed `again_s`, raise the failure, which says more than a time
    limit."""
    pauses, start = _pauses(), now_ns()
    for asked in range(1, 1_000_000):
        began = now_ns()
        answer, ended = await _in_thread(lambda: _ask(host, port, family))
        if not isinstance(answer, Exception):
            return LookedUp(answer, start, ended, _explained(ended - began, asked))
        if not _is_temporary(answer):
            raise answer
        if seconds(ended - began) < AT_ONCE_S:
            pause_s = next(pauses)
            if seconds(now_ns() - start) + pause_s >= again_s:
                raise answer
            await asyncio.sleep(pause_s)
    raise AssertionError("the deadline ends this")


def _ask(host: str, port: int, family: Family) -> list[Entry]:
    return socket.getaddrinfo(  # type: ignore[return-value]
        host, port, family=FAMILIES[family], type=socket.SOCK_STREAM
    )


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_temporary(error: Exception) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE_S
    while True:
        yield pause
        pause = min(2 * pause, LAST_PAUSE_S)


def _explained(took_ns: int, asked: int) -> str | None:
    """Return what a look-up waited for: the resolver's own retry, or queries without an answer."""
    parts = []
    if asked > 1:
        parts.append(f"asked {asked} times: the resolver had no answer before")
    step_s = retry_step_s()
    if seconds(took_ns) >= step_s:
        parts.append(f"a query was lost: the resolver asks again after {step_s:g} s")
    return "; ".join(parts) or None


def retry_step_s() -> float:
    """Return how long this host's resolver waits before it repeats a query."""
    with suppress(OSError, ValueError):
        for line in _CONFIGURATION.read_text().splitlines():
            words = line.split()
            if words[:1] == ["options"]:
                for word in words[1:]:
                    if word.startswith("timeout:"):
                        return float(word.partition(":")[2])
    return RETRY_STEP_S


async def _in_thread(ask: Callable[[], list[Entry]]) -> tuple[list[Entry] | Exception, int]:
    """Return the answer or the exception, and its time. If the caller stops waiting, the thread
    goes on, since no system call ends a look-up."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[tuple[list[Entry] | Exception, int]] = loop.create_future()

    def tell(outcome: list[Entry] | Exception, at_ns: int) -> None:
        if not told.done():
            told.set_result((outcome, at_ns))

    def run() -> None:
        outcome: list[Entry] | Exception
        try:
            outcome = ask()
        except Exception as exc:  # `await` raises it again
            outcome = exc
        ended = now_ns()
        with suppress(RuntimeError):  # the event loop is closed, so no task waits
            loop.call_soon_threadsafe(tell, outcome, ended)

    try:
        threading.Thread(target=run, name="netmeasure-resolve", daemon=True).start()
    except RuntimeError as exc:
        raise HostLimitError(f"this host has no threads left: {exc}", phase="resolve") from None
    return await told
