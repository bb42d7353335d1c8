"""netmeasure: network measurement that keeps connection set-up apart from the steady bitrate.

async with nm.serve("127.0.0.1", port=0) as server:
    result = await nm.measure(server.address, nm.TcpSpec(direction="download"))
print(result.steady.goodput_bps, result.set_up_ns)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from netmeasure import units
from netmeasure.version import __version__

if TYPE_CHECKING:
    from netmeasure.analysis.samples import Estimate
    from netmeasure.client import Client, connect, measure
    from netmeasure.comparison import Comparison, Component, FlowComparison, compare
    from netmeasure.environment import Difference
    from netmeasure.errors import (
        BusyError,
        ConnectError,
        ConnectRefusedError,
        ConnectTimeoutError,
        FileRefusedError,
        MeasureError,
        NameNotFoundError,
        NetmeasureError,
        PeerClosedError,
        PeerRefusedError,
        PeerTerminatedError,
        PeerTimeoutError,
        ProtocolError,
        RemoteProtocolError,
        ResultFormatError,
        ServeError,
        SocketOptionError,
        SpecError,
        StreamError,
        TlsError,
        UnreachableError,
    )
    from netmeasure.observe import Control, Observer, Opening, OpenStream
    from netmeasure.origins.ftp import FtpOrigin, serve_ftp
    from netmeasure.origins.http import HttpOrigin, serve_http
    from netmeasure.protocol.auth import Gatekeeper, read_users
    from netmeasure.repetition import alternate, repeat
    from netmeasure.result import (
        AutoStop,
        Averages,
        Ceiling,
        Datagrams,
        Flow,
        FlowInterval,
        Interval,
        Limits,
        Look,
        Loss,
        NetworkInterface,
        Phase,
        Result,
        Series,
        SideReport,
        Steady,
        StreamInterval,
        StreamReport,
        StreamResult,
        TcpInfo,
        Totals,
        Transfer,
    )
    from netmeasure.resultset import ResultSet
    from netmeasure.run import Run
    from netmeasure.runs import RunFigures, RunsSummary, summarise
    from netmeasure.server import Server, serve
    from netmeasure.spec import (
        Credentials,
        Deadlines,
        FtpSpec,
        HttpSpec,
        Link,
        OriginLimits,
        ServerLimits,
        SocketOptions,
        TcpSpec,
        Timing,
        UdpSpec,
    )
    from netmeasure.usage import HostUse, Resources

__all__ = [
    "AutoStop",
    "Averages",
    "BusyError",
    "Ceiling",
    "Client",
    "Comparison",
    "Component",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "Control",
    "Credentials",
    "Datagrams",
    "Deadlines",
    "Difference",
    "Estimate",
    "FileRefusedError",
    "Flow",
    "FlowComparison",
    "FlowInterval",
    "FtpOrigin",
    "FtpSpec",
    "Gatekeeper",
    "HostUse",
    "HttpOrigin",
    "HttpSpec",
    "Interval",
    "Limits",
    "Link",
    "Look",
    "Loss",
    "MeasureError",
    "NameNotFoundError",
    "NetmeasureError",
    "NetworkInterface",
    "Observer",
    "OpenStream",
    "Opening",
    "OriginLimits",
    "PeerClosedError",
    "PeerRefusedError",
    "PeerTerminatedError",
    "PeerTimeoutError",
    "Phase",
    "ProtocolError",
    "RemoteProtocolError",
    "Resources",
    "Result",
    "ResultFormatError",
    "ResultSet",
    "Run",
    "RunFigures",
    "RunsSummary",
    "Series",
    "ServeError",
    "Server",
    "ServerLimits",
    "SideReport",
    "SocketOptionError",
    "SocketOptions",
    "SpecError",
    "Steady",
    "StreamError",
    "StreamInterval",
    "StreamReport",
    "StreamResult",
    "TcpInfo",
    "TcpSpec",
    "Timing",
    "TlsError",
    "Totals",
    "Transfer",
    "UdpSpec",
    "UnreachableError",
    "__version__",
    "alternate",
    "compare",
    "connect",
    "measure",
    "read_users",
    "repeat",
    "serve",
    "serve_ftp",
    "serve_http",
    "summarise",
    "units",
]

#: Where the names are, those first that take no time to load.
_HOMES = (
    "errors",
    "spec",
    "result",
    "usage",
    "observe",
    "analysis.steady",  # what a test needs at its end: loaded before it, not in it
    "run",
    "analysis.samples",
    "client",
    "server",
    "protocol.auth",
    "repetition",
    "resultset",
    "runs",
    "environment",
    "comparison",
    "origins.http",
    "origins.ftp",
)


def __getattr__(name: str) -> object:
    """Each name on its first use: a program that asks for a version, or only for the servers of
    files, does not wait for numpy and aiohttp."""
    if name in _HOMES:
        return import_module(f"{__name__}.{name}")
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"{__name__}.{home}")
            found = getattr(module, name, None)
            defined = getattr(found, "__module__", None) or ""
            if f"{defined}.".startswith(f"{module.__name__}."):  # there, not imported
                return globals().setdefault(name, found)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
