"""Convert the options of a server to its limits."""

from __future__ import annotations

from typing import NamedTuple

from netmeasure.cli.iperf3 import specs
from netmeasure.cli.iperf3.command_line import CommandLine
from netmeasure.cli.iperf3.credentials import gatekeeper
from netmeasure.protocol.auth import Gatekeeper
from netmeasure.spec import ServerLimits, check_device


class Service(NamedTuple):
    """Hold a server's limits and its gatekeeper."""

    limits: ServerLimits
    gatekeeper: Gatekeeper | None


def service(settings: CommandLine) -> Service:
    """Return the limits of a server: one test at a time, as in iperf3. Raises SpecError."""
    specs.refuse_sctp(settings)
    check_device(settings.device)
    limit = settings.server_bitrate_limit
    limits = ServerLimits(
        max_tests=1,
        max_bitrate_bps=(limit.bps or None) if limit else None,
        bitrate_over_s=(limit.averaged_over_s if limit else 0) or 5.0,
        max_duration_s=settings.server_max_duration or None,
        receive_s=specs.receive_s(settings),
        stall_s=max(specs.PATIENCE_S, specs.receive_s(settings)),
        vanished_s=specs.vanished_s(settings),
        keepalive=specs.keepalive(settings.cntl_ka),
        file=settings.file,
        multipath=settings.mptcp,
    )
    return Service(limits, gatekeeper(settings))
