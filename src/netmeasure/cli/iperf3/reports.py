"""Create the iperf3 report for the options."""

from __future__ import annotations

import os

from netmeasure.cli.iperf3 import usage
from netmeasure.cli.iperf3.command_line import CommandLine
from netmeasure.export.iperf3 import File, JsonReport, Report, Settings, TextReport
from netmeasure.version import IMITATED_IPERF3

#: The version in JSON: readers split off "iperf " and read the rest as a number.
VERSION = f"iperf {IMITATED_IPERF3}"


def file_of(settings: CommandLine) -> File | None:
    """Return -F's file with its present size; None: there is no -F."""
    if settings.file is None:
        return None
    try:
        return File(name=settings.file, bytes=os.stat(settings.file).st_size)
    except OSError:  # no test ran that would have created the file
        return File(name=settings.file, bytes=0)


def make_report(settings: CommandLine) -> Report:
    """Return a new report for one test, as text or JSON."""
    style = Settings(
        end="server" if settings.server else "client",
        version=VERSION,
        system=usage.system_line(),
        host=settings.client.host if settings.client else "",
        port=settings.port,
        interval_s=settings.interval,
        unit=settings.format,
        verbose=settings.verbose,
        title=settings.title,
        extra_data=settings.extra_data,
        netmeasure=settings.netmeasure,
    )
    if not settings.is_json:
        return TextReport(style)
    full = settings.json_stream_full_output
    return JsonReport(style, stream=settings.json_stream, full=full)
