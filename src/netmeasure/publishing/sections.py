"""Write the sections of a report about one run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from netmeasure.export.fields import fields_of
from netmeasure.publishing.figures import Document, count_words
from netmeasure.publishing.parts import Cell, Chart, Section, Table
from netmeasure.report.bottleneck import name_of_limit
from netmeasure.report.flow import GRADES, NO_STEADY
from netmeasure.report.words import closing_lines, error_line
from netmeasure.result import Flow, Limits, NetworkInterface, Result, StreamReport
from netmeasure.result.connections import ConnectionErrors
from netmeasure.result.latency import Latency
from netmeasure.result.requests import RequestErrors
from netmeasure.result.round_trips import RoundTrips

#: The most phases and streams that are shown; the others are only counted.
MOST_PHASES, MOST_STREAMS = 24, 8
#: What each verdict on the steady state means.
VERDICTS = {
    "steady": "one level",
    "shifted": "best effort: the rate changed its level",
    "not_steady": "best effort: no plateau was found",
    "too_short": "best effort: too short to tell",
}
#: Ratios that may be far above 1.
_FACTORS = ("pacing_ratio", "buffer_delay_ratio", "target_ratio")


def sections_of(result: Result, document: Document) -> Iterator[Section]:
    """Return the sections about one run, in order."""
    lines = closing_lines(result)
    error = error_line(result)
    broken = [] if error is None else [error]
    if result.error is not None and result.error.hint:
        broken.append(f"Try this: {result.error.hint}")
    answer = Table(("", "", ""), tuple(_answer(result, document)))
    yield Section("Answer", tuple(broken), None, answer)
    if notes := tuple(line for line in lines if line not in broken):
        yield Section("Notes", notes)
    flows = () if result.round_trips is not None else result.flows
    if result.round_trips is not None and result.round_trips.series is not None:
        yield Section("Latency", (), Chart("latency", "Mean latency over time"))
    for number, flow in enumerate(flows):
        chart = Chart("rate", f"Rate over time, {flow.direction}", number)
        drawn = bool(flow.series is not None and flow.series.bytes) or bool(flow.intervals)
        rows = tuple(_stretches(flow, number, document))
        table = Table(("", "from", "to", "bytes", "rate"), rows)
        yield Section(f"Rate, {flow.direction}", (), chart if drawn else None, table)
    if result.latency is not None and result.latency.loaded is not None:
        yield Section("Latency", (), Chart("latency", "Mean latency over time, idle and loaded"))
    if result.setup:
        phases = shown_phases(result)
        left = len(result.setup) - len(phases)
        said = (f"{left} more phases are in the JSON.",) if left else ()
        chart = Chart("set-up", "Phases of connection set-up")
        yield Section("Set-up", said, chart, _phase_table(result, document, phases))
    for number, flow in enumerate(flows):
        yield from _transport(flow, number, document)
        if flow.limits is not None:
            table = Table(("", "", ""), tuple(_limits(flow.limits, number, document)))
            known = flow.limits.limited_by is not None
            name = name_of_limit(flow.limits)
            said = (f"Limited by {name}." if known else "What limited it is unknown.",)
            yield Section(f"What limited it, {flow.direction}", said, None, table)
    if rows := tuple(_cpu(result, document)):
        head = ("", "process user", "process system", "host user", "host system")
        table = Table((*head, "host softirq", "host steal", "CPUs", "process memory"), rows)
        said = ("In percent of one CPU, over the data phase.",)
        yield Section("CPU at both ends", said, Chart("cpu", "CPU by mode at both ends"), table)
    yield Section("Hosts", (), None, _hosts(result))


def _answer(result: Result, document: Document) -> Iterator[tuple[Cell, ...]]:
    if result.round_trips is not None:
        yield from _round_trips(result.round_trips, document)
        if result.requests is not None:
            yield from _connections(document, "requests", RequestErrors)
        elif result.round_trips.connections is not None:
            yield from _connections(document, "round_trips.connections", ConnectionErrors)
        yield ("set-up", document.figure("set_up_ns"), "until the first byte")
        return
    for number, flow in enumerate(result.flows):
        of = f", {flow.direction}" if len(result.flows) > 1 else ""
        yield from _rates(flow, number, of, document)
    if result.latency is not None:
        yield from _latency(result.latency, document)
    yield ("set-up", document.figure("set_up_ns"), "until the first byte")
    yield ("of it by this host", document.figure("set_up_host_ns"), "not by the network")
    yield ("SYNs sent again", document.figure("syn_retransmits"), "while connecting")


def _rates(flow: Flow, number: int, of: str, document: Document) -> Iterator[tuple[Cell, ...]]:
    """Give the rates of one direction; `of` names it if there are two."""
    place = f"flows.{number}"
    steady = flow.steady
    if steady is None:
        why = NO_STEADY[flow.no_steady] if flow.no_steady else "not measured"
        yield (f"steady bitrate{of}", "unknown", why)
    else:
        rate = document.figure(f"{place}.steady.goodput_bps")
        yield (f"steady bitrate{of}", rate, VERDICTS[steady.verdict])
        yield (
            f"margin{of}",
            document.figure(f"{place}.steady.margin"),
            GRADES.get(steady.grade or "", "of 95 % confidence"),
        )
        if steady.confidence_interval is not None:
            for end, name in enumerate(("lower", "upper")):
                bound = document.figure(f"{place}.steady.confidence_interval.{end}")
                yield (f"95 % confidence interval, {name} end{of}", bound, "")
    if flow.ceiling_share is not None:
        share = document.figure(f"{place}.ceiling_share")
        yield (f"of the link's ceiling{of}", share, "payload that the link can carry")
    if flow.limits is not None and flow.limits.limited_by is not None:
        yield (f"limited by{of}", "", name_of_limit(flow.limits))
    whole = document.figure(f"{place}.averages.from_first_attempt_bps")
    yield (f"curl's average{of}", whole, "from the first attempt to connect")
    omitted = document.figure(f"{place}.averages.after_omit_bps")
    yield (f"iperf3's average{of}", omitted, "after the omitted time")
    moved = "receiver.bytes" if flow.receiver.bytes is not None else "sender.acked_bytes"
    yield (f"transferred{of}", document.figure(f"{place}.{moved}"), "")


def _latency(known: Latency, document: Document) -> Iterator[tuple[Cell, ...]]:
    idle, loaded = (f"latency.{part}" for part in ("idle", "loaded"))
    yield ("latency, idle", document.figure(f"{idle}.p50_ns"), "median, before the load")
    yield ("latency under load", document.figure(f"{loaded}.p50_ns"), "median")
    yield ("latency under load, p99", document.figure(f"{loaded}.p99_ns"), "")
    if known.pdv_error_ns is not None and known.loaded is not None:
        for way, words in (("upload", "client to server"), ("download", "server to client")):
            queued = document.figure(f"{loaded}.{way}_pdv_p50_ns")
            yield (f"queued under load, {way}", queued, f"median, {words}")
    lost = document.figure(f"{loaded}.loss_ratio")
    yield ("probes lost under load", lost, "not counted in the latency")
    yield (
        "RPM",
        document.figure("latency.rpm", count_words),
        "round trips a minute under load",
    )


def _round_trips(known: RoundTrips, document: Document) -> Iterator[tuple[Cell, ...]]:
    place = "round_trips"
    yield (
        "transactions per second",
        document.figure(f"{place}.steady_per_s", count_words),
        "in the steady state",
    )
    for name in ("p50_ns", "p90_ns", "p99_ns", "p99_9_ns"):
        words = name.removesuffix("_ns").replace("_", ".")
        yield (f"latency, {words}", document.figure(f"{place}.{name}"), "of a round trip")
    yield ("transactions", document.figure(f"{place}.transactions"), "after the omitted time")
    if known.lost is not None:
        yield ("lost", document.figure(f"{place}.lost"), "without a response in time")
    yield ("unanswered", document.figure(f"{place}.unanswered"), "at the end")


def _connections(
    document: Document, place: str, kinds: type[ConnectionErrors]
) -> Iterator[tuple[Cell, ...]]:
    yield ("errors", document.figure(f"{place}.error_ratio"), "of all attempts")
    for kind in kinds.__struct_fields__:
        yield (f"errors, {kind}", document.figure(f"{place}.errors.{kind}"), "")
    yield ("connections", document.figure(f"{place}.connected"), "that were established")
    for name in ("p50", "p99"):
        yield (f"connect, {name}", document.figure(f"{place}.connect_{name}_ns"), "of a connection")
    if kinds is ConnectionErrors:
        for name in ("p50", "p99"):
            answer = document.figure(f"{place}.answer_{name}_ns")
            yield (f"answer, {name}", answer, "on an open connection")
    again = document.figure(f"{place}.syn_retransmits")
    yield ("SYNs sent again", again, "over all connections")


def _stretches(flow: Flow, number: int, document: Document) -> Iterator[tuple[Cell, ...]]:
    place = f"flows.{number}"

    def row(name: str, path: str, rate: str = "goodput_bps") -> tuple[Cell, ...]:
        ends = (document.figure(f"{path}.{end}", seconds) for end in ("start_ns", "end_ns"))
        return (name, *ends, document.figure(f"{path}.bytes"), document.figure(f"{path}.{rate}"))

    if flow.ramp is not None and flow.ramp.duration_ns > 0:
        yield row("ramp", f"{place}.ramp")
    if flow.steady is not None:
        yield row("steady", f"{place}.steady")
        for name, stretches in (("level", flow.steady.levels), ("stall", flow.steady.stalls)):
            for i in range(len(stretches[:MOST_PHASES])):
                yield row(f"{name} {i + 1}", f"{place}.steady.{name}s.{i}")
    if flow.tail is not None and flow.tail.duration_ns > 0:
        yield row("tail", f"{place}.tail")


def seconds(ns: float) -> str:
    """Return a moment as text such as "2.51 s"."""
    return f"{ns / 1e9:.3f} s"


def shown_phases(result: Result) -> list[int]:
    """Return the numbers of the phases that are shown: those on the critical path, then others."""
    phases = [i for i, phase in enumerate(result.setup) if "#" not in phase.connection]
    ranked = sorted(phases, key=lambda i: (not result.setup[i].decides, i))
    return sorted(ranked[:MOST_PHASES], key=lambda i: result.setup[i].start_ns)


def drawn_phases(result: Result) -> list[int]:
    """Return the shown phases that are drawn, which begin before the first byte. On one axis with
    the last reply of a server, a whole test later, they would be too small to see."""
    phases, first_ns = shown_phases(result), result.set_up_ns
    early = [i for i in phases if first_ns is None or result.setup[i].start_ns <= first_ns]
    return early or phases


def _phase_table(result: Result, document: Document, shown: Sequence[int]) -> Table:
    rows = []
    for i in shown:
        phase = result.setup[i]
        said = [phase.address or "", phase.detail or ""]
        again: Cell = ""
        if phase.syn_retransmits is not None:
            again = document.figure(f"setup.{i}.syn_retransmits")
        rows.append(
            (
                phase.name.replace("_", " "),
                phase.connection,
                document.figure(f"setup.{i}.start_ns"),
                document.figure(f"setup.{i}.duration_ns"),
                again,
                ", ".join(word for word in said if word),
                "yes" if phase.decides else "",
            )
        )
    head = ("phase", "connection", "from", "took", "SYNs sent again", "about", "delayed first byte")
    return Table(head, tuple(rows))


def _transport(flow: Flow, number: int, document: Document) -> Iterator[Section]:
    place = f"flows.{number}"
    left = len(flow.streams) - MOST_STREAMS
    said = (f"The first {MOST_STREAMS} of {len(flow.streams)} streams.",) if left > 0 else ()
    if flow.loss is not None:
        names = ("sent", "received", "lost", "duplicate", "reordered", "host_dropped")
        rows = [
            (name.replace("_", " "), document.figure(f"{place}.loss.{name}_packets"))
            for name in names
        ]
        rows.append(("loss", document.figure(f"{place}.loss.loss_ratio")))
        rows.append(("jitter", document.figure(f"{place}.loss.jitter_ns")))
        drawn = any(history_of(stream.receiver) for stream in flow.streams)
        chart = Chart("udp", f"Datagrams lost, {flow.direction}", number) if drawn else None
        yield Section(f"Datagrams, {flow.direction}", said, chart, Table(("", ""), tuple(rows)))
        return
    tcp = []
    for i, stream in enumerate(flow.streams[:MOST_STREAMS]):
        info = f"{place}.streams.{i}.sender.tcp_info"
        if stream.sender is None or stream.sender.tcp_info is None:
            continue
        tcp.append(
            (
                str(stream.id),
                document.figure(f"{place}.streams.{i}.steady.goodput_bps"),
                document.extreme(f"{info}.rtt_ns", most=False),
                document.extreme(f"{info}.rtt_ns", most=True),
                document.extreme(f"{info}.cwnd_bytes", most=True),
                document.figure(f"{place}.streams.{i}.sender.retransmits"),
            )
        )
    if tcp:
        head = (
            "stream",
            "steady bitrate",
            "lowest RTT",
            "highest RTT",
            "largest cwnd",
            "retransmits",
        )
        chart = Chart("tcp", f"RTT, window and retransmits, {flow.direction}", number)
        yield Section(f"The sender's TCP, {flow.direction}", said, chart, Table(head, tuple(tcp)))


def history_of(report: StreamReport | None) -> bool:
    """Return whether a stream's end has the counts of its datagrams over time."""
    return (
        report is not None and report.datagrams is not None and report.datagrams.history is not None
    )


def _limits(limits: Limits, number: int, document: Document) -> Iterator[tuple[Cell, ...]]:
    for name, field in fields_of(Limits).items():
        value = getattr(limits, name)
        if isinstance(value, int | float):
            figure = document.figure(f"flows.{number}.limits.{name}", _limit_words(name))
            yield (_words(name), figure, field.help.partition(";")[0])


def _limit_words(name: str) -> Callable[[float], str] | None:
    """Return the format of a figure that is a factor, not a share; None: the format that its name
    implies."""
    return count_words if name in _FACTORS else None


def _words(name: str) -> str:
    head, _, unit = name.rpartition("_")
    return (head if unit in ("ratio", "ns", "bytes") else name).replace("_", " ")


def _cpu(result: Result, document: Document) -> Iterator[tuple[Cell, ...]]:
    for end in ("client", "server"):
        if getattr(result, end).resources is None:
            continue
        place = f"{end}.resources"
        modes = ("process_user", "process_system", "host_user", "host_system", "host_softirq")
        yield (
            end,
            *(document.growth(f"{place}.{mode}_ns") for mode in (*modes, "host_steal")),
            document.figure(f"{place}.cpus"),
            document.extreme(f"{place}.rss_bytes", most=True),
        )


def _hosts(result: Result) -> Table:
    ends = (result.client.host, result.server.host)
    names = ("program", "version", "hostname", "system", "kernel", "machine", "python")
    rows: list[tuple[Cell, ...]] = [
        (name, *(str(getattr(end, name) or "unknown") for end in ends)) for name in names
    ]
    rows.append(("processor", *(end.cpu_model or "unknown" for end in ends)))
    rows.append(("CPUs", *(str(end.cpu_count or "unknown") for end in ends)))
    rows.append(("governor", *(" ".join(end.governors) or "unknown" for end in ends)))
    shown: dict[str, Callable[[NetworkInterface], str]] = {
        "interfaces": lambda one: one.name,
        "MTU": lambda one: str(one.mtu_bytes or "unknown"),
        "offloads": lambda one: " ".join(one.offloads or ()) or "unknown",
        "driver": lambda one: one.driver or "unknown",
        "queues": lambda one: ", ".join(one.qdiscs) or "unknown",
    }
    for name, show in shown.items():
        rows.append(
            (name, *("; ".join(show(one) for one in end.interfaces) or "unknown" for end in ends))
        )
    settings = [dict(one.partition(" = ")[::2] for one in end.sysctls) for end in ends]
    known = dict.fromkeys(name for one in settings for name in one)
    rows += [(name, *(one.get(name, "unknown") for one in settings)) for name in known]
    rows.append(("started", result.started_at, ""))
    return Table(("", "client", "server"), tuple(rows))
