"""netmeasure: network measurement that keeps connection set-up apart from the steady bitrate.

async with nm.serve("127.0.0.1", port=0) as server:
    result = await nm.measure(server.address, nm.TcpSpec(direction="download"))
print(result.steady.goodput_bps, result.set_up_ns)
"""

from netmeasure import units
from netmeasure.client import Client, connect, measure
from netmeasure.errors import (
    BusyError,
    ConnectError,
    ConnectRefusedError,
    ConnectTimeoutError,
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
    UnreachableError,
)
from netmeasure.result import (
    Averages,
    Datagrams,
    Flow,
    Interval,
    Loss,
    Phase,
    Result,
    Series,
    SideReport,
    Steady,
    StreamReport,
    StreamResult,
    TcpInfo,
    Totals,
)
from netmeasure.run import Run
from netmeasure.server import Server, serve
from netmeasure.spec import Deadlines, ServerLimits, SocketOptions, TcpSpec, Timing, UdpSpec
from netmeasure.version import __version__

__all__ = [
    "Averages",
    "BusyError",
    "Client",
    "ConnectError",
    "ConnectRefusedError",
    "ConnectTimeoutError",
    "Datagrams",
    "Deadlines",
    "Flow",
    "Interval",
    "Loss",
    "MeasureError",
    "NameNotFoundError",
    "NetmeasureError",
    "PeerClosedError",
    "PeerRefusedError",
    "PeerTerminatedError",
    "PeerTimeoutError",
    "Phase",
    "ProtocolError",
    "RemoteProtocolError",
    "Result",
    "ResultFormatError",
    "Run",
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
    "StreamReport",
    "StreamResult",
    "TcpInfo",
    "TcpSpec",
    "Timing",
    "Totals",
    "UdpSpec",
    "UnreachableError",
    "__version__",
    "connect",
    "measure",
    "serve",
    "units",
]
