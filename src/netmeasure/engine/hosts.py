"""Facts about this machine that belong beside every figure."""

from __future__ import annotations

import platform
import socket

import psutil

from netmeasure.result import Host
from netmeasure.version import __version__


def this_host() -> Host:
    return Host(
        program="netmeasure",
        version=__version__,
        hostname=socket.gethostname(),
        system=platform.system(),
        kernel=platform.release(),
        machine=platform.machine(),
        cpu_count=psutil.cpu_count(),
        python=platform.python_version(),
    )
