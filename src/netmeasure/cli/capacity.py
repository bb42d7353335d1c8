"""Run `netmeasure capacity`: search the highest rate of UDP at which hardly anything is lost."""

from __future__ import annotations

import argparse
import sys
from contextlib import aclosing

from netmeasure.capacities.find import CapacitySearch
from netmeasure.cli.exits import Exit
from netmeasure.cli.interruptible import until_signal
from netmeasure.cli.network import client_secret
from netmeasure.cli.output import check_writable, deliver
from netmeasure.result.capacity import CapacityReport, RateProbe
from netmeasure.spec import SocketOptions, UdpSpec
from netmeasure.units import bitrate, duration

_VERDICTS = {
    "passed": "",
    "sender": "the sender could not send faster",
    "lost": "too much is lost",
    "receiver": "the receiver's own host lost it",
}
_ENDINGS = {
    "precise": "found: just above it too much is lost",
    "sender": "at least: the sender could not send faster",
    "receiver": "at least: above it the receiver's own host lost datagrams",
    "time": "so far: the time limit was reached (see --time)",
    "most": "at least: it is the highest rate to try (--most)",
    "nothing": "too much was lost at every rate that was tried",
    "error": "so far: a test failed",
    "stopped": "so far: the search was stopped",
}


async def capacity(options: argparse.Namespace) -> int:
    """Search, print and save the report; return the exit code.

    It is 9 if the capacity is not known: a host was the limit, or the time was over.
    """
    check_writable(options.json)
    spec = UdpSpec(
        direction=options.direction,
        streams=options.streams,
        datagram_bytes=options.length,
        secret=client_secret(options),
        options=SocketOptions(family=options.family),
    )
    search = CapacitySearch(
        options.target,
        spec,
        port=options.port,
        loss_limit=options.loss,
        time_s=options.time,
        most_bps=options.most,
    )
    # imported now, so that the import does not delay the event loop of a running test
    from netmeasure import analysis

    analysis.load()
    code = await until_signal(_follow(search, options))
    report = search.report
    if not report.probes:
        return code or Exit.CUT_SHORT
    deliver(None if options.json == "-" else words(report), [(report.to_json(), options.json)])
    if code:
        return code
    if report.error is not None:
        sys.stderr.write(f"netmeasure: {report.error.message}\n")
        return Exit.CUT_SHORT
    return Exit.OK if report.ended_by == "precise" else Exit.CANT_TELL


def words(report: CapacityReport) -> str:
    """Return lines about a capacity."""
    way = "to" if report.direction == "upload" else "from"
    limit = "no loss" if not report.loss_limit else f"loss of at most {_percent(report.loss_limit)}"
    lines = [f"Capacity {way} {report.target}, UDP, {limit}"]
    if report.capacity_bps is not None:
        lines.append(f"  payload      {bitrate(report.capacity_bps, 4)}")
    if report.ip_capacity_bps is not None:
        lines.append(
            f"  IP layer     {bitrate(report.ip_capacity_bps, 4)} (RFC 9097), datagrams of"
            f" {report.datagram_bytes} bytes"
        )
    free = report.loss_free_bps
    if report.loss_limit and free is not None and free != report.capacity_bps:
        lines.append(f"  without loss {bitrate(free, 4)}")
    tests = "1 test" if len(report.probes) == 1 else f"{len(report.probes)} tests"
    ending = _ENDINGS[report.ended_by]
    if report.ended_by == "sender" and report.capacity_bps is None:
        ending = "unknown: nothing was sent, since the rate was too low or this host too busy"
    lines.append(f"  {ending}; {tests} in {duration(report.duration_ns)}")
    return "\n".join(lines)


def _line(number: int, probe: RateProbe) -> str:
    why = _VERDICTS[probe.verdict] if probe.sent_packets else "nothing was sent"
    lost = _percent(probe.loss_ratio or 0)
    return (
        f"{number:2}  asked {bitrate(probe.asked_bps, 4):>12}"
        f"  arrived {bitrate(probe.received_bps, 4):>12}  lost {lost:>7}{'  ' if why else ''}{why}"
    )


def _percent(share: float) -> str:
    if not share:
        return "0 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


async def _follow(search: CapacitySearch, options: argparse.Namespace) -> None:
    stream = sys.stderr if options.json == "-" else sys.stdout
    count = 0
    async with aclosing(search.run()) as probes:
        async for probe in probes:
            count += 1
            if not options.quiet:
                stream.write(f"{_line(count, probe)}\n")
                stream.flush()
