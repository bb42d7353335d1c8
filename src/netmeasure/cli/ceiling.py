"""Run `netmeasure ceiling`: print the payload maximum of a link, without a test."""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from netmeasure.analysis.ceiling import Traffic, ceiling as payload_ceiling
from netmeasure.cli.exits import Exit
from netmeasure.cli.output import show, write_json
from netmeasure.cli.specs import Options, link_of
from netmeasure.engine import sockets
from netmeasure.engine.path import path_facts
from netmeasure.errors import NameNotFoundError, SpecError
from netmeasure.overhead.encapsulation import is_tunnel, parse_stack
from netmeasure.report.ceiling import render
from netmeasure.report.mtu import mismatch
from netmeasure.result import Ceiling, PathFacts
from netmeasure.spec import Deadlines, Link
from netmeasure.spec.target import check_family, parse_target
from netmeasure.units import parse_bitrate


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the document of `--json`."""

    ceiling: Ceiling
    share: float
    packets_per_second: float | None
    mismatch: str | None
    path: PathFacts | None


async def ceiling(options: Options) -> int:
    """Print the payload ceiling; return the exit code."""
    link, mtu, path = link_of(options), options.mtu, None
    version = 6 if options.family == "ipv6" else 4
    if options.target is not None:
        path = await _path(options)
        version = path.ip_version
        if link.rate_bps is None and path.speed_is_real:
            link = replace(link, rate_bps=path.speed_bps)
        if mtu is None:
            mtu = _packet_mtu(path, link)
    traffic = Traffic(
        transport="udp" if options.udp else "tcp",
        ip_version=6 if version == 6 else 4,
        timestamps=not options.no_timestamps,
        sack_blocks=options.sack,
    )
    found = payload_ceiling(link, traffic, mtu_bytes=mtu, payload_bytes=options.payload)
    if options.json:
        answer = Answer(
            ceiling=found,
            share=found.share,
            packets_per_second=found.packets_per_second,
            mismatch=mismatch(found),
            path=path,
        )
        write_json(msgspec.json.format(msgspec.json.encode(answer), indent=2), "-")
        return Exit.OK
    said = link.mtu_bytes is not None or not link.encapsulation
    show(render(found, path, link_mtu_said=said))
    return Exit.OK


def _packet_mtu(path: PathFacts, link: Link) -> int | None:
    """Return the MTU of packets as they leave this host; None: unknown.

    Without a tunnel it is no more than the link's own, which path MTU discovery finds (RFC 1191,
    RFC 8201).
    """
    known = path.path_mtu_bytes
    if known is None or link.mtu_bytes is None or is_tunnel(parse_stack(link.encapsulation)):
        return known
    return min(known, link.mtu_bytes)


async def _path(options: Options) -> PathFacts:
    host, port = parse_target(options.target)
    check_family(host, options.family)
    try:
        found = await sockets.resolve(host, port, options.family, Deadlines().resolve_s)
    except NameNotFoundError:
        refuse_rate(options.target)
        raise
    return path_facts(found.addresses[0])


def refuse_rate(target: str) -> None:
    """Raise SpecError, with a hint, if a target looks like the rate of a link."""
    try:
        parse_bitrate(target)
    except SpecError:
        return
    raise SpecError(f"{target!r} is not a host", hint=f"for a rate write --link-rate {target}")
