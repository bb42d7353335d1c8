"""Wait until targets become reachable or unreachable."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Literal

from netmeasure.engine.names import FAMILIES
from netmeasure.engine.tasks import uninterrupted
from netmeasure.engine.threads import TrafficThread
from netmeasure.engine.tls import client_context
from netmeasure.errors import SpecError
from netmeasure.readiness.report import Readiness
from netmeasure.readiness.target import Target, read_target
from netmeasure.readiness.watch import Watch, plan
from netmeasure.spec import Family

#: The period of new attempts.
EVERY_S = 0.01
#: The time limit of an attempt without an answer.
ATTEMPT_S = 1.0
TIMEOUT_S = 60.0


async def ready(
    *targets: str,
    wanted: Literal["allowed", "denied"] = "allowed",
    timeout_s: float = TIMEOUT_S,
    every_s: float = EVERY_S,
    attempt_s: float = ATTEMPT_S,
    family: Family = "any",
    ca_file: str | None = None,
    insecure: bool = False,
) -> tuple[Readiness, ...]:
    """Wait until every target is reachable, or with "denied" until none is, and return when this
    happened and what blocked the path until then.

    No privilege is needed. Attempts run in their own thread, so that a busy event loop does not
    affect the figures. Cancelling the call closes its sockets and joins its thread; hanging
    look-ups of names can't be ended, and their threads end when the resolver gives up.

    Args:
        targets: "host", "host:port" (5201 without one), "tcp://host:port", "tls://host",
            "http://host/path", "https://host/path", "ftp://host".
        wanted: "allowed": each target accepts one attempt; an HTTP target must also answer with a
            status from 200 to 399. "denied": no attempt is successful for half a second.
        timeout_s: The longest time to wait.
        every_s: The time between the starts of attempts at one target. It is longer if the
            descriptors of this process do not suffice (`Readiness.grain_ns`).
        attempt_s: The time limit of an attempt without an answer, which must exceed a round trip.
        family: "any", "ipv4" or "ipv6".
        ca_file: Trusted certificates in PEM; None: the system's.
        insecure: Use TLS without checking certificates.

    Returns:
        One Readiness for each target, in order, whether or not the target was reached.

    Raises:
        SpecError: A target or a time is not valid.
        NetmeasureError: There are fewer file descriptors than targets.
    """
    watch = prepared(
        targets,
        wanted=wanted,
        timeout_s=timeout_s,
        every_s=every_s,
        attempt_s=attempt_s,
        family=family,
        ca_file=ca_file,
        insecure=insecure,
    )
    return await until_over(watch)


def prepared(
    targets: Sequence[str],
    *,
    wanted: Literal["allowed", "denied"],
    timeout_s: float,
    every_s: float,
    attempt_s: float,
    family: Family,
    ca_file: str | None,
    insecure: bool,
) -> Watch:
    """Return a watch, which `until_over` runs and `stop` ends early; see `ready`."""
    if not targets:
        raise SpecError("there is no target to wait for")
    for name, value in (("timeout", timeout_s), ("interval", every_s), ("attempt time", attempt_s)):
        if not 0.001 <= value <= 1e6:
            raise SpecError(f"the {name} must be 1 ms to 1000000 s, not {value:g} s")
    read = [read_target(target) for target in targets]
    tls = _context(read, ca_file, insecure)
    return Watch(read, plan(wanted, timeout_s, every_s, attempt_s, FAMILIES[family], tls))


async def until_over(watch: Watch) -> tuple[Readiness, ...]:
    """Run a watch in its own thread, and return its findings."""
    thread = TrafficThread(watch, "netmeasure-ready")
    thread.start()
    try:
        await thread.done.wait()
    finally:
        watch.stop()
        await uninterrupted(thread.join())
    if watch.error is not None:
        raise watch.error
    return tuple(watch.found)


def _context(targets: list[Target], ca_file: str | None, insecure: bool) -> ssl.SSLContext | None:
    if not any(target.asks in ("tls", "https") for target in targets):
        return None
    return client_context(ca_file, insecure=insecure)
