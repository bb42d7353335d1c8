"""Hold series of real transfers with their path and a second count, to judge the analysis by.

`benchmarks/recorded/` has a few that `python -m benchmarks.bench_paths --record` made. Each file
says on which kernel, when, and by which command.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path as FilePath
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace
from rich.table import Table

from netmeasure.analysis.series import Curve, curve
from netmeasure.analysis.steady import split
from netmeasure.result import Series, Steady, Stretch

RECORDED = FilePath(__file__).with_name("recorded")
MTU = 1500
#: IPv4 and TCP with time stamps; the rate of an emulated path counts bare IP packets.
HEADERS = 20 + 32
#: A queue holds at least a burst of the sender, if a bandwidth-delay product is less than that.
LEAST_QUEUE_BYTES = 64 * MTU
#: A path is full if each tenth of the time carries this share of what the line can carry.
FULL = 0.99
#: The largest error of a steady rate on a full path.
MAX_ERROR = 0.01
#: More buckets than this are merged before a recording is written.
MAX_BUCKETS = 3000


class Path(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a path and the transfer on it.

    `queue` is in bandwidth-delay products, `loss` a probability; `claims` is whether the transfer
    is long enough for a steady state to be found.
    """

    rtt_ms: float
    congestion: Literal["reno", "cubic", "bbr"]
    seconds: float
    rate_bps: float = 20e6
    queue: float = 1.0
    loss: float = 0.0
    direction: Literal["upload", "download"] = "download"
    claims: bool = True

    @property
    def name(self) -> str:
        words = [f"{self.rtt_ms:g} ms", self.congestion, f"{self.rate_bps / 1e6:g} Mbit/s"]
        words += [f"queue {self.queue:g}"] * (self.queue != 1)
        words += [f"loss {100 * self.loss:g} %"] * (self.loss != 0)
        return ", ".join(words)

    @property
    def file_name(self) -> str:
        words = [f"{self.congestion}-{self.rtt_ms:g}ms-{self.rate_bps / 1e6:g}M"]
        words += [f"q{self.queue:g}"] * (self.queue != 1) + [f"l{self.loss:g}"] * (self.loss != 0)
        return "-".join([*words, f"{self.seconds:g}s.json"])

    @property
    def payload_bps(self) -> float:
        """Return the rate at which the line carries the payload of full segments."""
        return self.rate_bps * (MTU - HEADERS) / MTU

    @property
    def queue_bytes(self) -> int:
        return max(LEAST_QUEUE_BYTES, round(self.queue * self.rate_bps / 8 * self.rtt_ms / 1000))


class Judgement(NamedTuple):
    """Hold what the analysis said about the first `seconds`, and the truth.

    full        the path was full from the steady state's start to the end of the recording
    whole_bps   the kernel's count of that time
    truth_bps   the rate that the line carries, if it was full; else `whole_bps`
    kernel_bps  the kernel's count of the steady state
    """

    seconds: float
    ramp: Stretch
    steady: Steady
    full: bool
    truth_bps: float
    whole_bps: float
    kernel_bps: float

    @property
    def error(self) -> float:
        """Return the error as a share."""
        return self.steady.goodput_bps / self.truth_bps - 1

    @property
    def kernel_error(self) -> float:
        return self.steady.goodput_bps / self.kernel_bps - 1

    @property
    def holds(self) -> bool | None:
        """Return whether the interval contains `whole_bps`; None if there is no interval."""
        if self.steady.confidence_interval is None:
            return None
        low, high = self.steady.confidence_interval
        return low <= self.whole_bps <= high


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one transfer. Both series count from one instant, the counting side's origin.

    `series` is the receiver's; `kernel` is the payload of the packets that its network device
    received.
    """

    command: str
    date: str
    linux: str
    path: Path
    series: Series
    last_ns: int
    rtt_ns: int
    mss_bytes: int
    overrun_packets: int
    kernel: Series

    def curve(self) -> Curve:
        return curve(self.series, self.last_ns)

    def judge(self, seconds: float | None = None) -> Judgement:
        """Return the analysis of a test that would have ended after `seconds`."""
        start = self.series.origin_ns
        # data that arrive after the end of the time are the tail
        last = min(self.last_ns, start + round(self.path.seconds * 1e9))
        end = last if seconds is None else min(last, start + round(seconds * 1e9))
        found = split(
            self.curve(),
            start,
            end,
            bucket_ns=self.series.width_ns,
            rtt_ns=self.rtt_ns,
            grain_bytes=self.mss_bytes,
        )
        assert found is not None
        begin = found.steady.start_ns
        full, whole_bps = self.full(begin, last), self.kernel_bps(begin, last)
        return Judgement(
            seconds=(end - start) / 1e9,
            ramp=found.ramp,
            steady=found.steady,
            full=full,
            truth_bps=self.path.payload_bps if full else whole_bps,
            whole_bps=whole_bps,
            kernel_bps=self.kernel_bps(begin, found.steady.end_ns),
        )

    def kernel_bps(self, start_ns: int, end_ns: int) -> float:
        return curve(self.kernel).between(start_ns, end_ns) * 8e9 / (end_ns - start_ns)

    def full(self, start_ns: int, end_ns: int) -> bool:
        edges = np.linspace(start_ns, end_ns, 11).astype(int)
        limit = FULL * self.path.payload_bps
        return all(self.kernel_bps(int(a), int(b)) >= limit for a, b in pairwise(edges))

    def filled_ns(self) -> int | None:
        """Return from when on the path was full, to a hundredth of the time; None if it never was.

        The analysis is not used for this.
        """
        start = self.series.origin_ns
        end = min(self.last_ns, start + round(self.path.seconds * 1e9))
        moments = map(int, np.linspace(start, end, 101)[:-10])
        return next((moment for moment in moments if self.full(moment, end)), None)

    def compact(self) -> Recording:
        """Return the recording with at most MAX_BUCKETS buckets in each series."""
        return replace(self, series=_merged(self.series), kernel=_merged(self.kernel))


def _merged(series: Series) -> Series:
    factor = -(-len(series.bytes) // MAX_BUCKETS)
    counts = series.bytes
    merged = tuple(sum(counts[i : i + factor]) for i in range(0, len(counts), factor))
    return Series(origin_ns=series.origin_ns, width_ns=series.width_ns * factor, bytes=merged)


def load(file: FilePath) -> Recording:
    return msgspec.json.decode(file.read_bytes(), type=Recording)


def load_all() -> dict[str, Recording]:
    return {file.stem: load(file) for file in sorted(RECORDED.glob("*.json"))}


def save(recording: Recording, directory: FilePath) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.encode(recording.compact())
    (directory / recording.path.file_name).write_bytes(text + b"\n")


def faults(recording: Recording, found: Judgement) -> list[str]:
    """Return what is wrong with the result of the analysis."""
    name, steady = recording.path.name, found.steady
    if recording.overrun_packets:
        return [f"{name}: the machine was too busy, the relay lost {recording.overrun_packets}"]
    if not recording.path.claims:
        claimed = steady.verdict in ("steady", "shifted")
        return [f"{name}: {steady.verdict}, but it was still gaining"] if claimed else []
    wrong = []
    if found.full and steady.verdict != "steady":
        wrong.append(f"{name}: {steady.verdict}, but the path was full")
    if found.full and abs(found.error) > MAX_ERROR:
        wrong.append(f"{name}: off by {100 * found.error:+.2f} %")
    if abs(found.kernel_error) > MAX_ERROR:
        wrong.append(f"{name}: off by {100 * found.kernel_error:+.2f} % of the kernel's count")
    return wrong


def table(rows: list[tuple[Recording, Judgement]]) -> Table:
    drawn = Table(title="rates in Mbit/s of payload, errors in %", title_justify="left", box=None)
    for name in ("path", "s", "line", "kernel", "steady", "+-", "verdict", "grade", "ramp s"):
        left = name in ("path", "verdict")
        drawn.add_column(name, justify="left" if left else "right", no_wrap=True)
    for name in ("truth", "error", "held", "in the same time"):
        drawn.add_column(name, justify="left" if name == "truth" else "right", no_wrap=True)
    for recording, found in rows:
        steady = found.steady
        margin = "-" if steady.margin is None else f"{100 * steady.margin:.2f}"
        judged = steady.verdict != "too_short"
        drawn.add_row(
            recording.path.name,
            f"{found.seconds:.1f}",
            f"{recording.path.payload_bps / 1e6:.2f}",
            f"{found.kernel_bps / 1e6:.2f}",
            f"{steady.goodput_bps / 1e6:.2f}",
            margin,
            steady.verdict,
            steady.grade or "-",
            f"{found.ramp.duration_ns / 1e9:.2f}",
            ("line" if found.full else "kernel") if judged else "-",
            f"{100 * found.error:+.2f}" if judged else "-",
            {True: "yes", False: "no", None: "-"}[found.holds] if judged else "-",
            f"{100 * found.kernel_error:+.2f}" if judged else "-",
        )
    return drawn
