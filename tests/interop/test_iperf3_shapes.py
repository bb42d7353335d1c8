"""Command lines of iperf3, run by the real one and by ours, self against self and crosswise: what
they print has the same shape, on the same stream, and they end with the same code.

Ours is a fork of a process that has imported it (`support.warm`): as processes of their own, all of
these would import it 270 times.

The shape is that of iperf3 3.12. Keys that only later versions print may be there as well. In what
else 3.18 differs, `DIFFERENT_SINCE_316` has.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from support import iperf3, pairs, shapes, warm
from support.pairs import OURS, REAL, Outcome, Pair

pytestmark = pytest.mark.interop

#: Printed since 3.13, 3.17, 3.20 and 3.21, and not by 3.12.
LATER = frozenset(
    ["timemillisecs", "fq_rate", "bidir", "fqrate", "interval", "gso", "gro", "reorder"]
)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> Iterator[None]:
    with warm.imported():
        yield


class Case(NamedTuple):
    """Options of both sides as one would type them; `host` where it is not 127.0.0.1."""

    client: str
    server: str = ""
    host: str = "127.0.0.1"

    def __str__(self) -> str:
        return f"{self.client or 'nothing'}{' | ' if self.server else ''}{self.server}"


#: 3.12 ends such a test at its last byte and prints the header of the one interval after the
#: server's results came, which gives it two columns too many. 3.16 and later go on until the
#: interval ends, and print the header in time. Ours ends and prints as 3.12 does.
DIFFERENT_SINCE_316 = frozenset(["-n 1M -R -b 10M"])
SLOW = "-b 20M"
_CPUS = sorted(os.sched_getaffinity(0))
#: A second of these, in text.
TEXT = [
    Case(f"-t 1 {SLOW}"),
    Case(f"-t 2 {SLOW}"),
    Case(f"-t 1 -i 0.5 {SLOW}", "-i 0.5"),
    Case(f"-t 1 -i 0 {SLOW}"),
    Case(f"-t 1 -i 0 {SLOW}", "-i 0"),
    Case(f"-t 1 -R -i 0.5 {SLOW}"),
    Case(f"-t 1 -R {SLOW}"),
    Case(f"-t 2 -R {SLOW}"),
    Case(f"-t 1 --bidir -i 0.5 {SLOW}"),
    Case(f"-t 1 -P 2 -i 0.5 {SLOW}", "-i 0.5"),
    Case(f"-t 1 -P 2 -R -i 0.5 {SLOW}"),
    Case(f"-t 1 -P 2 --bidir -i 0.5 {SLOW}", "-i 0.5"),
    Case(f"-t 1 -O 1 -i 0.5 {SLOW}", "-i 0.5"),
    Case(f"-t 1 -O 1 -i 0.5 -R {SLOW}", "-i 0.5"),
    Case("-n 1M -b 10M"),
    Case("-k 10 -b 10M"),
    Case("-n 1M -R -b 10M"),
    Case("-n 2M -P 2 -b 10M"),
    Case(f"-t 1 -V {SLOW}"),
    Case(f"-t 1 -V -R -i 0.5 {SLOW}", "-V"),
    Case(f"-t 1 -V --bidir -i 0.5 {SLOW}", "-V"),
    Case(f"-t 1 -V -P 2 -O 1 -i 0.5 {SLOW}", "-V"),
    Case("-n 1M -V -b 10M", "-V"),
    Case("-t 1 -Z -b 20M"),
    Case(f"-t 1 -C cubic -N -M 1400 -V {SLOW}", "-V"),
    Case(f"-t 1 -w 256K -l 64K -S 32 -V {SLOW}", "-V"),
    Case(f"-t 1 --dscp ef -V {SLOW}"),
    Case(f"-t 1 -T some-title {SLOW}"),
    Case(f"-t 1 --get-server-output {SLOW}"),
    Case(f"-t 1 --get-server-output -R -P 2 -i 0.5 {SLOW}"),
    Case(f"-t 1 --get-server-output {SLOW}", "-J"),
    Case(f"-t 1 --logfile DIR/client.log {SLOW}", "--logfile DIR/server.log"),
    Case(f"-t 1 -4 {SLOW}", "-4"),
    Case(f"-t 1 -6 -L 5 {SLOW}", host="::1"),
    Case(f"-t 1 -A {_CPUS[0]},{_CPUS[-1]} {SLOW}", f"-A {_CPUS[-1]}"),
    Case(f"-t 1 -B 127.0.0.1 --cport FREE {SLOW}", "-B 127.0.0.1"),
    Case("-F data -b 10M"),
    Case(f"-t 1 --repeating-payload --pacing-timer 500 {SLOW}"),
    Case(f"-t 1 --fq-rate 30M {SLOW}"),
    Case(f"-t 1 --forceflush --connect-timeout 1000 {SLOW}"),
    Case(f"-t 1 -R --rcv-timeout 5000 --snd-timeout 5000 {SLOW}", "--rcv-timeout 5000"),
    Case(f"--par 2 --len 64K -t 1 --rev --interv=0.5 {SLOW}"),
    Case("-t1 -i0.5 -P2 -b20M -R"),
    Case(f"--time=1.9 '' stray 5 {SLOW}"),
    Case("-t 1 -b 20M/5 -l 128KB"),
]
DATAGRAMS = [
    Case("-u -t 1"),
    Case("-u -t 2"),
    Case("-u -t 1 -i 0.5", "-i 0.5"),
    Case("-u -t 1 -R -i 0.5"),
    Case("-u -t 1 --bidir -i 0.5", "-i 0.5"),
    Case("-u -t 1 -P 2 -i 0.5", "-i 0.5"),
    Case("-u -t 1 -P 2 -R -i 0.5"),
    Case("-u -t 1 -P 2 --bidir -i 0.5"),
    Case("-u -t 1 -O 1 -i 0.5", "-i 0.5"),
    Case("-uR -t1 -i0 -b 5M -l 1000"),
    Case("-u -t 1 -V -b 5M", "-V"),
    Case("-u -t 1 -V -R -i 0.5", "-V"),
    Case("-u -t 1 -V --bidir -i 0.5", "-V"),
    Case("-u -n 100K -b 10M"),
    Case("-u -k 20 -b 10M"),
    Case("-u -t 1 --udp-counters-64bit --dont-fragment -l 1200"),
    Case("-u -t 1 --get-server-output"),
    Case("-u -t 1 -b 0.5M/4 -l 500"),
]
UNITS = [Case(f"-t 1 -i 0.5 -f {unit} {SLOW}", f"-f {unit} -i 0.5") for unit in "kgM"]
DOCUMENTS = [
    Case(f"-J -t 1 -i 0.5 {SLOW}", "-J -i 0.5"),
    Case(f"-J -t 1 -R -i 0.5 {SLOW}", "-J"),
    Case(f"-J -t 1 --bidir -i 0.5 {SLOW}", "-J"),
    Case(f"-J -t 1 -P 2 {SLOW}", "-J"),
    Case(f"-J -t 1 -P 2 -R {SLOW}", "-J"),
    Case(f"-J -t 1 -P 2 --bidir {SLOW}", "-J"),
    Case(f"-J -t 1 -O 1 -i 0.5 {SLOW}", "-J -i 0.5"),
    Case("-J -n 1M -b 10M", "-J"),
    Case("-J -k 10 -R -b 10M", "-J"),
    Case(f"-J -t 1 -i 0 {SLOW}", "-J -i 0"),
    Case(f"-J -t 1 -M 1400 -N -C cubic {SLOW}", "-J"),
    Case(f"-J -t 1 -T title --extra-data more -w 256K {SLOW}", "-J"),
    Case(f"-J -t 1 --get-server-output {SLOW}"),
    Case(f"-J -t 1 --get-server-output {SLOW}", "-J"),
    Case("-J -F data -b 10M", "-J"),
    Case("-J -u -t 1 -i 0.5", "-J -i 0.5"),
    Case("-J -u -t 1 -R -i 0.5", "-J"),
    Case("-J -u -t 1 --bidir -i 0.5", "-J"),
    Case("-J -u -t 1 -P 2", "-J"),
    Case("-J -u -t 1 -P 2 -R", "-J"),
    Case("-J -u -t 1 -O 1 -i 0.5", "-J -i 0.5"),
    Case("-J -u -n 100K -b 10M", "-J"),
    Case("-J -u -t 1 --get-server-output", "-J"),
]


class Four(NamedTuple):
    """The same command line by real and ours, at either end."""

    reference: Pair
    ours: Pair
    our_client: Pair
    our_server: Pair


def four(case: Case) -> Four:
    """All at the same time: each has a port of its own."""
    client, server = shlex.split(case.client), shlex.split(case.server)
    programs = [(REAL, REAL), (OURS, OURS), (OURS, REAL), (REAL, OURS)]
    with ThreadPoolExecutor(len(programs)) as pool:
        runs = [pool.submit(pairs.run, *pair, client, server, case.host) for pair in programs]
        return Four(*(one.result() for one in runs))


def compare(case: Case, shape: Callable[[str], Any]) -> None:
    reference, ours, our_client, our_server = four(case)
    for which, got, wanted in (
        ("our client with our server", ours.client, reference.client),
        ("our client with iperf3's server", our_client.client, reference.client),
        ("our server with our client", ours.server, reference.server),
        ("our server with iperf3's client", our_server.server, reference.server),
        ("iperf3's client with our server", our_server.client, reference.client),
        ("iperf3's server with our client", our_client.server, reference.server),
    ):
        check(which, got, wanted, shape)


def check(which: str, got: Outcome, wanted: Outcome, shape: Callable[[str], Any]) -> None:
    assert (which, got.code, shapes.text(got.errors)) == (
        which,
        wanted.code,
        shapes.text(wanted.errors),
    )
    assert shape(got.output) == shape(wanted.output), f"{which}:\n{got.output}\n{wanted.output}"


def as_text(printed: str) -> Any:
    """The order of datagrams is random and does not matter here. A server's JSON within a client's
    text is the documents' matter: only that it is there."""
    if printed.startswith("{"):
        return as_document(printed)
    printed, mark, _ = printed.partition("Server JSON output:\n")
    lines = [line for line in printed.splitlines() if "out-of-order" not in line]
    return shapes.text("\n".join([*lines, mark]))


def as_text_with_any_header(printed: str) -> Any:
    """As text, in which an interval's header may have the columns that its rows lack."""
    return as_text(re.sub(r"(Bitrate) +Retr +Cwnd$", r"\1", printed, flags=re.MULTILINE))


def as_text_with_units(printed: str) -> list[str]:
    return shapes.text(printed, fixed_unit=True)


def as_document(printed: str) -> Any:
    """The other end may print text meanwhile."""
    if printed.startswith("-----"):
        return as_text(printed)
    assert printed.startswith("{\n")
    assert printed.endswith("\n}\n")
    shape = shapes.tree(json.loads(printed))
    if isinstance(shape.get("server_output_text"), str):
        assert "Accepted connection" in json.loads(printed)["server_output_text"]
    return shapes.without(shape, LATER)


@pytest.mark.parametrize("case", TEXT, ids=str)
def test_text(case: Case) -> None:
    different = str(case) in DIFFERENT_SINCE_316 and iperf3.version() >= (3, 16)
    compare(case, as_text_with_any_header if different else as_text)


@pytest.mark.parametrize("case", DATAGRAMS, ids=str)
def test_text_of_datagrams(case: Case) -> None:
    compare(case, as_text)


@pytest.mark.parametrize("case", UNITS, ids=str)
def test_units(case: Case) -> None:
    compare(case, as_text_with_units)


@pytest.mark.parametrize("case", DOCUMENTS, ids=str)
def test_documents(case: Case) -> None:
    compare(case, as_document)
