"""Make the output of -h and -v, and the hint after a wrong command line."""

from __future__ import annotations

import os
import textwrap
from importlib.util import find_spec

from netmeasure.cli.iperf3.table import OPTIONS, Option
from netmeasure.version import IMITATED_IPERF3, __version__

#: The version of iperf3 that is imitated. Programs that run iperf3 choose their options by this
#: number, so it is the first word that looks like a version.
VERSION_LINE = f"iperf {IMITATED_IPERF3} (netmeasure {__version__})"
_AUTHENTICATION = "authentication"
_FEATURES = (
    "CPU affinity setting",
    "IPv6 flow label",
    "TCP congestion algorithm setting",
    "sendfile / zerocopy",
    "socket pacing",
    _AUTHENTICATION,
    "bind to device",
    "support IPv4 don't fragment",
    "POSIX threads",
    "GSO/GRO support",
)

SHORT_USAGE = (
    "Usage: iperf3 [-s|-c host] [options]\n"
    "       iperf3 [-h|--help] [-v|--version]\n"
    "This is netmeasure in iperf3's place; iperf3 --help lists what it takes.\n"
)

_HEADINGS = {"both": "Server and client", "server": "Server only", "client": "Client only"}
_INDENT = 34


def system_line() -> str:
    """Return the words of uname(1): system, host, release, version, machine."""
    return " ".join(os.uname())


def features() -> list[str]:
    """Return the optional features in iperf3's words; authentication needs an extra package."""
    missing = set() if find_spec("cryptography") else {_AUTHENTICATION}
    return [feature for feature in _FEATURES if feature not in missing]


def version_text() -> str:
    """Return the three lines of -v."""
    listed = ", ".join(features())
    return f"{VERSION_LINE}\n{system_line()}\nOptional features available: {listed}\n"


def help_text() -> str:
    """Return the text of -h."""
    lines = SHORT_USAGE.splitlines()[:2]
    for role, heading in _HEADINGS.items():
        lines += ["", f"{heading}:"]
        for option in OPTIONS:
            if option.role == role:
                lines += _entry(option)
    lines += [
        "",
        "BYTES, COUNT and RATE take k, m, g or t behind them: powers of 1024, of rates of 1000.",
        "docs/how-to/replace-iperf3.md says what differs from iperf3.",
    ]
    return "\n".join(lines) + "\n"


def _entry(option: Option) -> list[str]:
    short = f"-{option.short}, " if option.short else ""
    shown = option.shown
    value = f"[={shown[1:]}" if shown.startswith("[") else f" {shown}" if shown else ""
    head = f"  {short}--{option.name}{value}"
    others = ", ".join(f"--{long}" for long in option.longs[1:])
    text = option.help + (f"; also {others}" if others else "")
    rest = textwrap.wrap(text, 98 - _INDENT)
    if len(head) >= _INDENT - 1:
        return [head, *(" " * _INDENT + line for line in rest)]
    return [head.ljust(_INDENT) + rest[0], *(" " * _INDENT + line for line in rest[1:])]
