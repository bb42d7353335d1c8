"""Read the node's present counters: CPUs, processes, memory, and drops by name."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from netmeasure.clock import now_ns
from netmeasure.engine import ethtool
from netmeasure.engine.qdiscs import read_qdiscs

_PROC = Path("/proc")
#: The network files of the calling thread's namespace; /proc/net would be that of the main thread.
_NET = _PROC / "thread-self" / "net"
_TICK_NS = 10**9 // os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
#: Counters of SNMP tables that count drops, failures and retransmissions.
_BAD = re.compile(
    r"Drop|Err|Fail|Overflow|Prune|Retrans|Timeout|Loss|Lost|Discard|Abort|NoRoute|NoPorts"
    r"|NoBuff|Collapsed|Unknown|Reasm(?!Reqds|OKs)|BacklogCoalesce0|TimeExceeded|TooBig|Truncated"
    r"|Challenge|PAWS|OutOfWindow|EstabResets|OutRsts|ZeroWindow|DSACK|SpuriousRtx"
)
_BAD_OF_DRIVERS = re.compile(r"drop|err|discard|miss|fail|overflow|overrun|timeout|no_buf|nobuf")
_OF_INTERFACES = (
    *("rx_bytes", "rx_packets", "rx_errors", "rx_dropped", "rx_fifo", "rx_frame", "rx_compressed"),
    *("rx_multicast", "tx_bytes", "tx_packets", "tx_errors", "tx_dropped", "tx_fifo"),
    *("tx_collisions", "tx_carrier", "tx_compressed"),
)
_NO_FAULTS = ("bytes", "packets", "compressed", "multicast")
_MEMORY = (
    *("MemTotal", "MemFree", "MemAvailable", "Cached", "Slab", "SUnreclaim", "AnonPages"),
    *("PageTables", "KernelStack", "SwapFree"),
)


class ProcessNow(NamedTuple):
    """Hold the present counts of one process; `began` distinguishes it from a later process with
    the same number."""

    name: str
    began: int
    user_ns: int
    system_ns: int
    rss_bytes: int


class Snapshot(NamedTuple):
    """Hold the present counters of the node."""

    at_ns: int
    cpus: dict[int, tuple[int, ...]]
    processes: dict[int, ProcessNow]
    memory: dict[str, int]
    counters: dict[tuple[str, str], int]
    unknown: tuple[str, ...]


def take_snapshot() -> Snapshot:
    """Return the node's present counters; those of the network are of the calling thread's
    namespace."""
    counters: dict[tuple[str, str], int] = {}
    unknown: list[str] = []
    for what, read in (
        ("SNMP", _snmp),
        ("interface", _interfaces),
        ("softnet", _softnet),
        ("qdisc", _qdiscs),
        ("ethtool", _drivers),
    ):
        try:
            counters.update(read())
        except OSError as exc:
            unknown.append(f"{what} counters can't be read: {exc.strerror or exc}")
    return Snapshot(
        at_ns=now_ns(),
        cpus=_cpus(),
        processes=_processes(),
        memory=_memory(),
        counters=counters,
        unknown=tuple(unknown),
    )


# ---- CPUs, processes, memory --------------------------------------------------------------------


def _cpus() -> dict[int, tuple[int, ...]]:
    """Return the ticks of each CPU by mode, in the order of /proc/stat."""
    found = {}
    for line in _lines(_PROC / "stat"):
        name, *values = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            found[int(name[3:])] = tuple(int(value) * _TICK_NS for value in values)
    return found


def _processes() -> dict[int, ProcessNow]:
    found = {}
    with suppress(OSError):
        for entry in os.listdir(_PROC):
            if entry.isdigit():
                with suppress(OSError, ValueError, IndexError):
                    found[int(entry)] = _process(int(entry))
    return found


def _process(pid: int) -> ProcessNow:
    text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    name = text[text.index("(") + 1 : text.rindex(")")]
    rest = text[text.rindex(")") + 2 :].split()
    return ProcessNow(
        name=name,
        began=int(rest[19]),
        user_ns=int(rest[11]) * _TICK_NS,
        system_ns=int(rest[12]) * _TICK_NS,
        rss_bytes=int(rest[21]) * _PAGE_BYTES,
    )


def _memory() -> dict[str, int]:
    found = {}
    for line in _lines(_PROC / "meminfo"):
        name, _, rest = line.partition(":")
        if name in _MEMORY:
            found[name] = int(rest.split()[0]) * 1024
    return found


# ---- drops and errors ---------------------------------------------------------------------------


def _snmp() -> Iterator[tuple[tuple[str, str], int]]:
    """Yield the counters of IP, TCP and UDP, by the names of nstat(8)."""
    for table in ("snmp", "netstat"):
        lines = (_NET / table).read_text().splitlines()
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            prefix = names.partition(":")[0]
            pairs = zip(names.split()[1:], values.split()[1:], strict=False)
            for name, value in pairs:
                if _BAD.search(name):
                    yield ("snmp", f"{prefix}{name}"), int(value)
    with suppress(FileNotFoundError):  # a kernel without IPv6
        for line in (_NET / "snmp6").read_text().splitlines():
            name, value = line.split()
            if _BAD.search(name):
                yield ("snmp", name), int(value)


def _interfaces() -> Iterator[tuple[tuple[str, str], int]]:
    for line in (_NET / "dev").read_text().splitlines()[2:]:
        name, _, values = line.partition(":")
        for counter, value in zip(_OF_INTERFACES, values.split(), strict=False):
            if not counter.endswith(_NO_FAULTS):
                yield (f"interface {name.strip()}", counter), int(value)


def _softnet() -> Iterator[tuple[tuple[str, str], int]]:
    """Yield for each CPU the packets dropped because of a full backlog, and the times its budget
    ran out."""
    for number, line in enumerate((_NET / "softnet_stat").read_text().splitlines()):
        values = [int(value, 16) for value in line.split()]
        cpu = values[12] if len(values) > 12 else number
        yield (f"softnet cpu {cpu}", "dropped"), values[1]
        yield (f"softnet cpu {cpu}", "time_squeeze"), values[2]


def _qdiscs() -> Iterator[tuple[tuple[str, str], int]]:
    for one in read_qdiscs():
        where = f"qdisc {one.interface} {one.name}"
        yield (where, "drops"), one.drops
        yield (where, "requeues"), one.requeues


def _drivers() -> Iterator[tuple[tuple[str, str], int]]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for _, name in socket.if_nameindex():
            for counter, value in ethtool.statistics(sock, name).items():
                if _BAD_OF_DRIVERS.search(counter):
                    yield (f"ethtool {name}", counter), value


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
