"""Compare our JSON document of a test with the real iperf3's of the same test."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import pytest
from real import MODES, End, Test, documents, text

from netmeasure.export.iperf3 import File, JsonReport, Settings

#: What iperf3 3.21 has and 3.12, which was captured, has not.
LATER = re.compile(
    r"start/timestamp/timemillisecs|start/fq_rate|start/test_start/(bidir|fqrate|interval|gso|gro)"
    r"|intervals\[\]/streams\[\]/reorder|end/streams\[\]/sender/reorder"
)
#: Where iperf3 is wrong, or knows less: a stream's receiver has the sender's duration, ...
BETTER = {
    "end/streams[]/receiver/seconds",
    "end/sum/end",
    "end/sum/seconds",
    "end/sum_bidir_reverse/end",
    "end/sum_bidir_reverse/seconds",
}
#: ... sockets are numbered by descriptors, and a server that is to say what was sent says 0.
OF_A_SERVER = re.compile(
    r".*/socket|end/(streams\[\]/(sender|udp)|sum|sum_sent|sum_bidir_reverse"
    r"|sum_sent_bidir_reverse|streams\[\]/receiver|sum_received(_bidir_reverse)?)"
    r"/(bytes|bits_per_second|packets|end|seconds)"
)

#: A client that receives tells of its own socket, which sent nothing, instead of the far one; and
#: the omitted time is in.
PEAKS = re.compile(r"end/streams\[\]/sender/(max|min|mean)_.*")
#: What a server's document has at the beginning, and some of it again later.
EARLY = ("sock_bufsize", "sndbuf_actual", "rcvbuf_actual", "target_bitrate")


def settings(name: str, end: End) -> Settings:
    words = MODES[name][end]
    start = json.loads(text(name, end))["start"]
    title = "title" in json.loads(text(name, end)) and end == "client"
    interval = words[words.index("-i") + 1] if "-i" in words else "1"
    return Settings(
        end=end,
        version=start["version"],
        system=start["system_info"],
        host="127.0.0.1",
        port=start.get("connecting_to", {"port": 5201})["port"],
        interval_s=float(interval),
        title="a title" if title else None,
        extra_data='x"\té' if title else None,
    )


def run(report: JsonReport, test: Test, **ended: Any) -> list[str]:
    lines: list[str] = []
    if test.end == "client":
        lines += report.connected(test.control, test.spec, test.unix_s)
    else:
        lines += report.accepted(test.control, test.unix_s)
    lines += report.opening(test.opening)
    for interval in test.intervals:
        lines += report.interval(interval)
    return lines + report.ended(test.result, **ended)


def ours(name: str, end: End) -> tuple[dict[str, Any], dict[str, Any]]:
    real = json.loads(text(name, end))
    test = Test(real, end)
    output = real.get("server_output_json", real.get("server_output_text"))
    disk = real["end"]["streams"][0].get("diskfile")
    file = None if disk is None else File(name=disk["filename"], bytes=disk["size"])
    report = JsonReport(settings(name, end))
    lines = run(report, test, error=real.get("error"), server_output=output, file=file)
    return real, json.loads("\n".join(lines))


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, f"{path}/{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item, f"{path}[]")
    else:
        yield path, value


@pytest.mark.parametrize(("name", "end"), documents())
def test_the_keys_are_the_real_ones_in_their_order(name: str, end: End) -> None:
    real, mine = ours(name, end)
    if end == "server":
        for document in (real, mine):
            for key in EARLY:
                document["start"].pop(key)
    kept = [path for path, _ in leaves(mine) if not LATER.fullmatch(path)]
    assert kept == [path for path, _ in leaves(real)]
    assert list(mine) == list(real)


@pytest.mark.parametrize(("name", "end"), documents())
def test_the_values_are_the_real_ones(name: str, end: End) -> None:
    """Both documents are of a test with the same numbers; the types must be equal, too."""
    real, mine = ours(name, end)
    for document in (real, mine):
        for key in EARLY:
            value = document["start"].pop(key)
            document["start"][key] = value
    wrong = []
    pairs = zip(
        ((path, value) for path, value in leaves(mine) if not LATER.fullmatch(path)),
        leaves(real),
        strict=True,
    )
    for (path, a), (_, b) in pairs:
        if path in BETTER or (end == "server" and OF_A_SERVER.fullmatch(path)):
            continue
        if "error" in real and re.match(r"end/.*(receive|bits_per_second|packets)", path):
            continue
        if PEAKS.fullmatch(path) and (name.endswith("omit") or receives(real)):
            continue
        if kind(a, b) and (a == b or close(path, a, b)):
            continue
        wrong.append((path, a, b))
    assert wrong == []


def receives(real: dict[str, Any]) -> bool:
    return any(not stream["sender"]["sender"] for stream in real["end"]["streams"])


def kind(a: Any, b: Any) -> bool:
    return type(a) is type(b) or (a == 0 and b == 0 and {type(a), type(b)} <= {int, float})


def close(path: str, a: Any, b: Any) -> bool:
    """Compare values that may differ a little.

    iperf3 samples its streams one after the other, some microseconds apart, and reads processor
    time from two clocks that differ by more.
    """
    tolerance = 2e-2 if path.endswith("_total") else 1e-3
    return isinstance(a, float) and math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-6)
