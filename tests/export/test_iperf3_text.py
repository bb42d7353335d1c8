"""Compare our text of a test, line by line, with the real iperf3's of the same test."""

from __future__ import annotations

import re

import pytest
from msgspec.structs import replace
from real import MODES, End, text
from spoken import Said
from test_iperf3_rows import ROW

from netmeasure.export.iperf3 import TextReport
from netmeasure.spec import UdpSpec

#: iperf3 shows the last interval again in these.
REPEATS = {("cut-client", "server"), ("cut-client-reverse", "server"), ("cut-server", "client")}
REPEATS |= {("cut-client-udp", "server")}
ENDS: tuple[End, ...] = ("client", "server")
#: iperf3 counts no loss after the last datagram that arrived. It shows 0 for unknown figures of the
#: far end, which has sent what has arrived and received what it has acknowledged.
BETTER = {
    ("udp-flood", "client"): ("47350/86836 (55%)", "47784/87270 (55%)"),
    ("cut-client", "client"): ("0.00 Bytes  0.00 bits/sec ", "9.00 MBytes  RATE "),
    ("cut-client-reverse", "client"): ("0.00 Bytes  0.00 bits/sec ", "8.88 MBytes  RATE "),
}
RUNS = [
    (name, end)
    for name in MODES
    for end in ENDS
    if not name.startswith(("json-", "text-")) and (name, end) not in REPEATS
]


def ours(said: Said, error: str | None = None) -> list[str]:
    report = TextReport(said.settings)
    lines = report.greeting()
    if said.end == "client":
        asked = said.spec
        if isinstance(asked, UdpSpec) and "-l" not in said.words:
            asked = replace(asked, datagram_bytes=None)
        lines += report.connected(said.control, asked, 0.0)
    else:
        lines += report.banner(1) + report.accepted(said.control, 0.0)
    lines += report.opening(said.opening)
    for interval in said.intervals():
        lines += report.interval(interval)
    return lines + report.ended(said.result, error=error, server_output=said.output, file=said.file)


def plain(line: str) -> str:
    """Remove what can't be equal: rates are computed from rounded numbers here, from exact ones in
    iperf3."""
    line = re.sub(r"sec  (.{4,6} \w+)  .{4,6} \w+/sec", r"sec  \1  RATE", line)
    line = re.sub(r"(local/\w+) [\d.]+% ", r"\1 TOTAL ", line)
    line = re.sub(r"(remote/\w+) [\d.]+% ", r"\1 TOTAL ", line)
    return re.sub(r"Time: .*", "Time", line)


@pytest.mark.parametrize(("name", "end"), RUNS)
def test_every_line_of_the_real_one(name: str, end: End) -> None:
    said = Said(name, end)
    lines = "\n".join(ours(said, "cut short" if name.startswith("cut") else None))
    real = text(name, end).removesuffix("\n")
    for place, one in enumerate(said.opened):  # descriptors there, every second number here
        real = real.replace(f"[{one[0]:>3}]", f"<{5 + 2 * place:3}>")
    real = real.replace("<", "[").replace(">", "]")
    if (name, end) in BETTER:
        assert real.count(BETTER[name, end][0]) == 1
        real = real.replace(*BETTER[name, end])
    assert [plain(x) for x in lines.split("\n")] == [plain(x) for x in real.split("\n")]


def test_rows_are_compared() -> None:
    """The parts that the comparison leaves out are not whole rows."""
    line = "[  5]   0.00-1.00   sec  6.00 MBytes  50.3 Mbits/sec    1             sender"
    assert ROW.match(line)
    assert plain(line) == "[  5]   0.00-1.00   sec  6.00 MBytes  RATE    1             sender"
