"""netmeasure: network measurement that keeps connection set-up apart from the steady bitrate.

async with nm.serve("127.0.0.1", port=0) as server:
    result = await nm.measure(server.address, nm.TcpSpec(direction="download"))
print(result.steady.goodput_bps, result.set_up_ns)
"""

from typing import TYPE_CHECKING

from netmeasure import units
from netmeasure.analysis.samples import Estimate
from netmeasure.client import Client, connect, measure
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
from netmeasure.repeat import alternate, repeat
from netmeasure.result import (
    Averages,
    Ceiling,
    Datagrams,
    Flow,
    Interval,
    Loss,
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
from netmeasure.version import __version__

if TYPE_CHECKING:
    from netmeasure.origins.ftp import FtpOrigin, serve_ftp
    from netmeasure.origins.http import HttpOrigin, serve_http

__all__ = [
    "Averages",
    "BusyError",
    "Ceiling",
    "Client",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "Control",
    "Datagrams",
    "Deadlines",
    "Estimate",
    "FileRefusedError",
    "Flow",
    "FtpOrigin",
    "FtpSpec",
    "HttpOrigin",
    "HttpSpec",
    "Interval",
    "Link",
    "Loss",
    "MeasureError",
    "NameNotFoundError",
    "NetmeasureError",
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
    "connect",
    "measure",
    "repeat",
    "serve",
    "serve_ftp",
    "serve_http",
    "summarise",
    "units",
]


def __getattr__(name: str) -> object:
    """The embedded servers, on their first use: to import aiohttp takes a quarter of a second."""
    if name in ("HttpOrigin", "serve_http"):
        from netmeasure.origins import http

        return getattr(http, name)
    if name in ("FtpOrigin", "serve_ftp"):
        from netmeasure.origins import ftp

        return getattr(ftp, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
