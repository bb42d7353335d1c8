"""Define the result of a measurement: one frozen Result for every kind of test.

`document` has the whole, the other modules its parts. `reading` reads saved ones of every version,
and `plausible` refuses values that no measurement gives.

Results store counts and moments (integer ns on a stated clock). Rates are computed from them by
properties, or by the analysis, whose verdicts are stored. Unknown is None, never 0.

Clocks: every time is CLOCK_MONOTONIC of the host that took it. Times of a SideReport count from the
`origin` of that side, when it was ready for data; times of a Phase count from the client's first
attempt to reach the server. Times of two hosts are never subtracted.
"""

from __future__ import annotations

from netmeasure.result.bottleneck import Limit, Limits
from netmeasure.result.ceiling import Ceiling, CeilingLayer
from netmeasure.result.datagrams import DatagramHistory, Datagrams, Loss
from netmeasure.result.document import ErrorRecord, Result
from netmeasure.result.ending import AutoStop, Ending, Look
from netmeasure.result.flows import (
    Averages,
    Flow,
    FlowDirection,
    FlowInterval,
    StreamResult,
    Totals,
)
from netmeasure.result.hosts import Host, NetworkInterface, PathFacts, PathHole
from netmeasure.result.live import Interval, StreamInterval
from netmeasure.result.pauses import Pause
from netmeasure.result.reading import SCHEMA_VERSION, read_json
from netmeasure.result.setup import Phase, Spread
from netmeasure.result.sides import (
    Role,
    Series,
    SideReport,
    SocketFacts,
    StreamReport,
    TcpInfo,
    Transfer,
)
from netmeasure.result.steady import Steady, Stretch

__all__ = [
    "SCHEMA_VERSION",
    "AutoStop",
    "Averages",
    "Ceiling",
    "CeilingLayer",
    "DatagramHistory",
    "Datagrams",
    "Ending",
    "ErrorRecord",
    "Flow",
    "FlowDirection",
    "FlowInterval",
    "Host",
    "Interval",
    "Limit",
    "Limits",
    "Look",
    "Loss",
    "NetworkInterface",
    "PathFacts",
    "PathHole",
    "Pause",
    "Phase",
    "Result",
    "Role",
    "Series",
    "SideReport",
    "SocketFacts",
    "Spread",
    "Steady",
    "StreamInterval",
    "StreamReport",
    "StreamResult",
    "Stretch",
    "TcpInfo",
    "Totals",
    "Transfer",
    "read_json",
]
