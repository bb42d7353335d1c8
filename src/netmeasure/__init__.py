"""netmeasure: network measurement that reports connection set-up and the steady bitrate separately.

async with nm.serve("127.0.0.1", port=0) as server:
    result = await nm.measure(server.address, nm.TcpSpec(direction="download"))
print(result.steady.goodput_bps, result.set_up_ns)
"""

from importlib import import_module
from typing import TYPE_CHECKING

from netmeasure import units
from netmeasure.version import __version__

if TYPE_CHECKING:
    from netmeasure.analysis.samples import (
        Estimate as Estimate,
    )
    from netmeasure.campaign.plan import (
        Case as Case,
        Plan as Plan,
        Variant as Variant,
        default_plan as default_plan,
    )
    from netmeasure.campaign.plan_reader import (
        plan_of as plan_of,
        read_plan as read_plan,
    )
    from netmeasure.campaign.suite import (
        Campaign as Campaign,
    )
    from netmeasure.capacities.find import CapacitySearch as CapacitySearch, capacity as capacity
    from netmeasure.client import (
        Client as Client,
        connect as connect,
        measure as measure,
        run as run,
    )
    from netmeasure.comparison.comparison import (
        Comparison as Comparison,
        Component as Component,
        FlowComparison as FlowComparison,
        compare as compare,
    )
    from netmeasure.comparison.differences import (
        Difference as Difference,
    )
    from netmeasure.comparison.doubts import (
        Doubt as Doubt,
    )
    from netmeasure.comparison.mesh import (
        MeshPair as MeshPair,
        MeshReport as MeshReport,
        MeshRun as MeshRun,
        OddPair as OddPair,
    )
    from netmeasure.comparison.runs import (
        RunFigures as RunFigures,
        RunsSummary as RunsSummary,
        summarise as summarise,
    )
    from netmeasure.comparison.suite import (
        NodeCost as NodeCost,
        Suite as Suite,
        SuiteCell as SuiteCell,
        SuiteRow as SuiteRow,
        SuiteRun as SuiteRun,
    )
    from netmeasure.errors import (
        AuthenticationError as AuthenticationError,
        BusyError as BusyError,
        CommandError as CommandError,
        ConnectError as ConnectError,
        ConnectRefusedError as ConnectRefusedError,
        ConnectTimeoutError as ConnectTimeoutError,
        FileRefusedError as FileRefusedError,
        HistoryError as HistoryError,
        HostLimitError as HostLimitError,
        MeasureError as MeasureError,
        NameNotFoundError as NameNotFoundError,
        NetmeasureError as NetmeasureError,
        PathMtuError as PathMtuError,
        PeerClosedError as PeerClosedError,
        PeerRefusedError as PeerRefusedError,
        PeerTerminatedError as PeerTerminatedError,
        PeerTimeoutError as PeerTimeoutError,
        PlanError as PlanError,
        ProtocolError as ProtocolError,
        RemoteProtocolError as RemoteProtocolError,
        ResultFormatError as ResultFormatError,
        ServeError as ServeError,
        SocketOptionError as SocketOptionError,
        SpecError as SpecError,
        StreamError as StreamError,
        TlsError as TlsError,
        UnreachableError as UnreachableError,
    )
    from netmeasure.export.frames import (
        to_arrays as to_arrays,
        to_arrow as to_arrow,
        to_dataframe as to_dataframe,
    )
    from netmeasure.export.registry import export_results as export_results
    from netmeasure.export.schema import document_schema as document_schema
    from netmeasure.history.history import (
        Change as Change,
        History as History,
        RunHistory as RunHistory,
    )
    from netmeasure.imports.reading import import_results as import_results
    from netmeasure.manifests.render import (
        render_manifests as render_manifests,
    )
    from netmeasure.measurement.run import (
        Run as Run,
        partial_result as partial_result,
    )
    from netmeasure.meshes.mesh import (
        Mesh as Mesh,
        mesh as mesh,
    )
    from netmeasure.node.facts import (
        node_facts as node_facts,
    )
    from netmeasure.node.watch import (
        NodeWatch as NodeWatch,
    )
    from netmeasure.objectives.judge import (
        Judgement as Judgement,
        judge as judge,
    )
    from netmeasure.objectives.objective import (
        Objective as Objective,
        parse_objectives as parse_objectives,
    )
    from netmeasure.objectives.quality import (
        NeedSpan as NeedSpan,
        QualityOfOutcome as QualityOfOutcome,
        QualityRequirement as QualityRequirement,
        QualityScore as QualityScore,
        parse_requirement as parse_requirement,
        quality_of_outcome as quality_of_outcome,
    )
    from netmeasure.observe import (
        Control as Control,
        Observer as Observer,
        Opening as Opening,
        OpenStream as OpenStream,
    )
    from netmeasure.origins.ftp import (
        FtpOrigin as FtpOrigin,
        serve_ftp as serve_ftp,
    )
    from netmeasure.origins.http import (
        HttpOrigin as HttpOrigin,
        serve_http as serve_http,
    )
    from netmeasure.paths.find import (
        path as path,
    )
    from netmeasure.paths.report import (
        Explanation as Explanation,
        PacketLength as PacketLength,
        PathReport as PathReport,
    )
    from netmeasure.peer.server.server import (
        Server as Server,
        serve as serve,
    )
    from netmeasure.peer.server.statistics import (
        ServerEvent as ServerEvent,
        ServerStatistics as ServerStatistics,
    )
    from netmeasure.protocol.auth import (
        Gatekeeper as Gatekeeper,
        read_users as read_users,
    )
    from netmeasure.publishing.campaign import publish_suite as publish_suite
    from netmeasure.publishing.publish import (
        publish as publish,
    )
    from netmeasure.readiness.ready import (
        ready as ready,
    )
    from netmeasure.readiness.report import (
        Readiness as Readiness,
        Wait as Wait,
    )
    from netmeasure.repetition import (
        alternate as alternate,
        repeat as repeat,
    )
    from netmeasure.result import (
        AutoStop as AutoStop,
        Averages as Averages,
        Ceiling as Ceiling,
        Datagrams as Datagrams,
        Flow as Flow,
        FlowInterval as FlowInterval,
        Interval as Interval,
        Limits as Limits,
        Look as Look,
        Loss as Loss,
        NetworkInterface as NetworkInterface,
        PathHole as PathHole,
        Pause as Pause,
        Phase as Phase,
        Result as Result,
        Series as Series,
        SideReport as SideReport,
        Steady as Steady,
        StreamInterval as StreamInterval,
        StreamReport as StreamReport,
        StreamResult as StreamResult,
        TcpInfo as TcpInfo,
        Totals as Totals,
        Transfer as Transfer,
    )
    from netmeasure.result.capacity import (
        CapacityReport as CapacityReport,
        RateProbe as RateProbe,
    )
    from netmeasure.result.connections import (
        Connections as Connections,
    )
    from netmeasure.result.events import (
        EndEvent as EndEvent,
        ErrorEvent as ErrorEvent,
        IntervalEvent as IntervalEvent,
        PhaseEvent as PhaseEvent,
        WaitingEvent as WaitingEvent,
        WarningEvent as WarningEvent,
    )
    from netmeasure.result.histogram import (
        Histogram as Histogram,
    )
    from netmeasure.result.latency import (
        Latency as Latency,
        ProbeFigures as ProbeFigures,
    )
    from netmeasure.result.node import (
        BpfUse as BpfUse,
        Counter as Counter,
        CpuUse as CpuUse,
        MemoryUse as MemoryUse,
        NodeFacts as NodeFacts,
        NodeInterface as NodeInterface,
        NodeUse as NodeUse,
        ProcessUse as ProcessUse,
    )
    from netmeasure.result.requests import (
        Requests as Requests,
    )
    from netmeasure.result.resources import (
        HostUse as HostUse,
        Resources as Resources,
    )
    from netmeasure.result.resultset import (
        ResultSet as ResultSet,
    )
    from netmeasure.result.round_trips import (
        LatencySeries as LatencySeries,
        RoundTrips as RoundTrips,
    )
    from netmeasure.spec import (
        Credentials as Credentials,
        Deadlines as Deadlines,
        FtpSpec as FtpSpec,
        HttpSpec as HttpSpec,
        Link as Link,
        OriginLimits as OriginLimits,
        RequestSpec as RequestSpec,
        RrSpec as RrSpec,
        Secret as Secret,
        ServerLimits as ServerLimits,
        ServerTls as ServerTls,
        SocketOptions as SocketOptions,
        TcpSpec as TcpSpec,
        Timing as Timing,
        UdpSpec as UdpSpec,
    )

#: The module that defines each public name. A module is imported at the first use of one of its
#: names.
_HOMES = {
    "AuthenticationError": "netmeasure.errors",
    "AutoStop": "netmeasure.result",
    "Averages": "netmeasure.result",
    "BpfUse": "netmeasure.result.node",
    "BusyError": "netmeasure.errors",
    "Campaign": "netmeasure.campaign.suite",
    "CapacityReport": "netmeasure.result.capacity",
    "CapacitySearch": "netmeasure.capacities.find",
    "Case": "netmeasure.campaign.plan",
    "Ceiling": "netmeasure.result",
    "Change": "netmeasure.history.history",
    "Client": "netmeasure.client",
    "CommandError": "netmeasure.errors",
    "Comparison": "netmeasure.comparison.comparison",
    "Component": "netmeasure.comparison.comparison",
    "ConnectError": "netmeasure.errors",
    "ConnectRefusedError": "netmeasure.errors",
    "ConnectTimeoutError": "netmeasure.errors",
    "Connections": "netmeasure.result.connections",
    "Control": "netmeasure.observe",
    "Counter": "netmeasure.result.node",
    "CpuUse": "netmeasure.result.node",
    "Credentials": "netmeasure.spec",
    "Datagrams": "netmeasure.result",
    "Deadlines": "netmeasure.spec",
    "Difference": "netmeasure.comparison.differences",
    "Doubt": "netmeasure.comparison.doubts",
    "EndEvent": "netmeasure.result.events",
    "ErrorEvent": "netmeasure.result.events",
    "Estimate": "netmeasure.analysis.samples",
    "Explanation": "netmeasure.paths.report",
    "FileRefusedError": "netmeasure.errors",
    "Flow": "netmeasure.result",
    "FlowComparison": "netmeasure.comparison.comparison",
    "FlowInterval": "netmeasure.result",
    "FtpOrigin": "netmeasure.origins.ftp",
    "FtpSpec": "netmeasure.spec",
    "Gatekeeper": "netmeasure.protocol.auth",
    "Histogram": "netmeasure.result.histogram",
    "History": "netmeasure.history.history",
    "HistoryError": "netmeasure.errors",
    "HostLimitError": "netmeasure.errors",
    "HostUse": "netmeasure.result.resources",
    "HttpOrigin": "netmeasure.origins.http",
    "HttpSpec": "netmeasure.spec",
    "Interval": "netmeasure.result",
    "IntervalEvent": "netmeasure.result.events",
    "Judgement": "netmeasure.objectives.judge",
    "Latency": "netmeasure.result.latency",
    "LatencySeries": "netmeasure.result.round_trips",
    "Limits": "netmeasure.result",
    "Link": "netmeasure.spec",
    "Look": "netmeasure.result",
    "Loss": "netmeasure.result",
    "MeasureError": "netmeasure.errors",
    "MemoryUse": "netmeasure.result.node",
    "Mesh": "netmeasure.meshes.mesh",
    "MeshPair": "netmeasure.comparison.mesh",
    "MeshReport": "netmeasure.comparison.mesh",
    "MeshRun": "netmeasure.comparison.mesh",
    "NameNotFoundError": "netmeasure.errors",
    "NeedSpan": "netmeasure.objectives.quality",
    "NetmeasureError": "netmeasure.errors",
    "NetworkInterface": "netmeasure.result",
    "NodeCost": "netmeasure.comparison.suite",
    "NodeFacts": "netmeasure.result.node",
    "NodeInterface": "netmeasure.result.node",
    "NodeUse": "netmeasure.result.node",
    "NodeWatch": "netmeasure.node.watch",
    "Objective": "netmeasure.objectives.objective",
    "Observer": "netmeasure.observe",
    "OddPair": "netmeasure.comparison.mesh",
    "OpenStream": "netmeasure.observe",
    "Opening": "netmeasure.observe",
    "OriginLimits": "netmeasure.spec",
    "PacketLength": "netmeasure.paths.report",
    "PathHole": "netmeasure.result",
    "PathMtuError": "netmeasure.errors",
    "PathReport": "netmeasure.paths.report",
    "Pause": "netmeasure.result",
    "PeerClosedError": "netmeasure.errors",
    "PeerRefusedError": "netmeasure.errors",
    "PeerTerminatedError": "netmeasure.errors",
    "PeerTimeoutError": "netmeasure.errors",
    "Phase": "netmeasure.result",
    "PhaseEvent": "netmeasure.result.events",
    "Plan": "netmeasure.campaign.plan",
    "PlanError": "netmeasure.errors",
    "ProbeFigures": "netmeasure.result.latency",
    "ProcessUse": "netmeasure.result.node",
    "ProtocolError": "netmeasure.errors",
    "QualityOfOutcome": "netmeasure.objectives.quality",
    "QualityRequirement": "netmeasure.objectives.quality",
    "QualityScore": "netmeasure.objectives.quality",
    "RateProbe": "netmeasure.result.capacity",
    "Readiness": "netmeasure.readiness.report",
    "RemoteProtocolError": "netmeasure.errors",
    "RequestSpec": "netmeasure.spec",
    "Requests": "netmeasure.result.requests",
    "Resources": "netmeasure.result.resources",
    "Result": "netmeasure.result",
    "ResultFormatError": "netmeasure.errors",
    "ResultSet": "netmeasure.result.resultset",
    "RoundTrips": "netmeasure.result.round_trips",
    "RrSpec": "netmeasure.spec",
    "Run": "netmeasure.measurement.run",
    "RunFigures": "netmeasure.comparison.runs",
    "RunHistory": "netmeasure.history.history",
    "RunsSummary": "netmeasure.comparison.runs",
    "Secret": "netmeasure.spec",
    "Series": "netmeasure.result",
    "ServeError": "netmeasure.errors",
    "Server": "netmeasure.peer.server.server",
    "ServerEvent": "netmeasure.peer.server.statistics",
    "ServerLimits": "netmeasure.spec",
    "ServerStatistics": "netmeasure.peer.server.statistics",
    "ServerTls": "netmeasure.spec",
    "SideReport": "netmeasure.result",
    "SocketOptionError": "netmeasure.errors",
    "SocketOptions": "netmeasure.spec",
    "SpecError": "netmeasure.errors",
    "Steady": "netmeasure.result",
    "StreamError": "netmeasure.errors",
    "StreamInterval": "netmeasure.result",
    "StreamReport": "netmeasure.result",
    "StreamResult": "netmeasure.result",
    "Suite": "netmeasure.comparison.suite",
    "SuiteCell": "netmeasure.comparison.suite",
    "SuiteRow": "netmeasure.comparison.suite",
    "SuiteRun": "netmeasure.comparison.suite",
    "TcpInfo": "netmeasure.result",
    "TcpSpec": "netmeasure.spec",
    "Timing": "netmeasure.spec",
    "TlsError": "netmeasure.errors",
    "Totals": "netmeasure.result",
    "Transfer": "netmeasure.result",
    "UdpSpec": "netmeasure.spec",
    "UnreachableError": "netmeasure.errors",
    "Variant": "netmeasure.campaign.plan",
    "Wait": "netmeasure.readiness.report",
    "WaitingEvent": "netmeasure.result.events",
    "WarningEvent": "netmeasure.result.events",
    "alternate": "netmeasure.repetition",
    "capacity": "netmeasure.capacities.find",
    "compare": "netmeasure.comparison.comparison",
    "connect": "netmeasure.client",
    "default_plan": "netmeasure.campaign.plan",
    "document_schema": "netmeasure.export.schema",
    "export_results": "netmeasure.export.registry",
    "import_results": "netmeasure.imports.reading",
    "judge": "netmeasure.objectives.judge",
    "measure": "netmeasure.client",
    "mesh": "netmeasure.meshes.mesh",
    "node_facts": "netmeasure.node.facts",
    "parse_objectives": "netmeasure.objectives.objective",
    "parse_requirement": "netmeasure.objectives.quality",
    "partial_result": "netmeasure.measurement.run",
    "path": "netmeasure.paths.find",
    "plan_of": "netmeasure.campaign.plan_reader",
    "publish": "netmeasure.publishing.publish",
    "publish_suite": "netmeasure.publishing.campaign",
    "quality_of_outcome": "netmeasure.objectives.quality",
    "read_plan": "netmeasure.campaign.plan_reader",
    "read_users": "netmeasure.protocol.auth",
    "ready": "netmeasure.readiness.ready",
    "render_manifests": "netmeasure.manifests.render",
    "repeat": "netmeasure.repetition",
    "run": "netmeasure.client",
    "serve": "netmeasure.peer.server.server",
    "serve_ftp": "netmeasure.origins.ftp",
    "serve_http": "netmeasure.origins.http",
    "summarise": "netmeasure.comparison.runs",
    "to_arrays": "netmeasure.export.frames",
    "to_arrow": "netmeasure.export.frames",
    "to_dataframe": "netmeasure.export.frames",
}
#: The names that start tests. The modules that the end of a test needs, such as numpy, are imported
#: with them, so that their import does not delay the event loop of a running test.
_MEASURING = {
    "Campaign",
    "CapacitySearch",
    "Client",
    "Run",
    "Server",
    "alternate",
    "capacity",
    "connect",
    "measure",
    "repeat",
    "run",
    "serve",
}

__all__ = ["__version__", "units", *_HOMES]


def __getattr__(name: str) -> object:
    """Import the module of a public name at the name's first use.

    A program that only reads the version, or only serves files, imports neither numpy nor aiohttp.
    """
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in _MEASURING:
        import_module(f"{__name__}.analysis").load()
    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    """Return the public names, imported or not, and the module's other names."""
    return sorted({*globals(), *__all__})
