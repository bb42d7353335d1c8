"""Make a line with delay, rate, queue and losses between two namespaces, for kernels without netem.

The packets pass through our own small program (relay.c, compiled when first needed). It counts the
packets that it forwards and drops, so tests can compare its counts with a result's.
"""

import atexit
import contextlib
import functools
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from support import netns
from support.held import Link
from support.netns import SIDES, NamespacePair, Side, ip

_SOURCE = Path(__file__).with_name("relay.c")
_DEVICE = "wire0"
_QUEUE_PACKETS = "10000"  # in the TUN device, so that the relay decides on drops, not the device
_DIRECTIONS = {"up": "client", "down": "server"}  # and the side where packets enter


def available() -> str | None:
    """Return why the relay can't be run here, or None."""
    reason = netns.available()
    if reason is None and not Path("/dev/net/tun").exists():
        reason = "there is no /dev/net/tun"
    if reason is None and _compiler() is None:
        reason = "there is no C compiler"
    return reason


def _compiler() -> str | None:
    return shutil.which(os.environ.get("CC") or "cc") or shutil.which("gcc")


@functools.cache
def _program() -> Path:
    """Compile the relay, once per session, into a directory that is removed with the process."""
    directory = tempfile.mkdtemp(prefix="relay-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    program = Path(directory, "relay")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"]
    compile_it = [_compiler() or "cc", *flags, "-o", str(program), str(_SOURCE)]
    done = subprocess.run(compile_it, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


@dataclass(frozen=True)
class Fates:
    """Count what the relay did with the packets it read."""

    forwarded_packets: int  # includes copies
    forwarded_bytes: int
    lost_packets: int  # lost by chance or in the gap, as ordered
    queue_dropped_packets: int  # lost because the queue was full
    refused_packets: int  # not accepted by the far device
    duplicated_packets: int  # forwarded twice
    reordered_packets: int  # forwarded after the next packet


@dataclass(frozen=True)
class Counts(Fates):
    """Count the packets that entered one direction of the line, by what happened to them."""

    watched: Fates  # the watched datagrams among them
    held_packets: int  # still in transit at the end
    overrun_packets: int  # lost before the relay saw them, since it was too slow: should be 0


class Relay(NamespacePair):
    """Hold two hosts on a line with these properties, the same in each direction.

    `rate_bps` counts IP packets without any frame around them; `queue_bytes` is how much may wait
    for the line at that rate. With the same `seed`, the n-th packet of a direction always has the
    same fate: lost, duplicated, or overtaken by the next. `watch` counts UDP datagrams (over IPv4,
    whole) with that payload separately. With `only_watched`, all other packets pass unharmed, so
    the fates of a stream of equal datagrams depend on nothing else. Watched datagrams `gap` (first,
    last; counted from 1) are lost. `police_bps` with `burst_bytes` is a policer: a token bucket
    that drops and never delays. Packets of more than `hole_bytes` vanish, on the `hole_way`: "up",
    "down" or "both". `counts`, by direction ("up" is client to server), is available after `stop`
    or the ``with`` block.
    """

    def __init__(
        self,
        *,
        delay_ms: float = 0.0,
        rate_bps: float = 0,
        queue_bytes: int = 0,
        loss: float = 0.0,
        seed: int = 1,
        mtu: int = 1500,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        watch: int = 0,
        only_watched: bool = False,
        gap: tuple[int, int] = (0, 0),
        police_bps: float = 0,
        burst_bytes: int = 0,
        hole_bytes: int = 0,
        hole_way: str = "both",
    ) -> None:
        super().__init__()
        self.mtu = mtu
        self.counts: dict[str, Counts] = {}
        self._process: subprocess.Popen[str] | None = None
        self._options = {
            "--delay-us": round(delay_ms * 1000),
            "--rate-bps": round(rate_bps),
            "--queue-bytes": queue_bytes,
            "--loss": loss,
            "--seed": seed,
            "--duplicate": duplicate,
            "--reorder": reorder,
            "--watch": watch,
            "--gap-from": gap[0],
            "--gap-to": gap[1],
            "--police-bps": round(police_bps),
            "--burst-bytes": burst_bytes,
            "--hole-bytes": hole_bytes,
            "--hole-way": hole_way,
        }
        self._only_watched = ["--only-watched"] if only_watched else []
        if rate := min((one for one in (rate_bps, police_bps) if one), default=0.0):
            self._link_file.carries(Link(rate, max(burst_bytes, queue_bytes)))

    def _make_side(self, side: str, namespace: str) -> Side:
        return Side(namespace, _DEVICE, address=f"10.78.0.{1 + SIDES.index(side)}")

    def _build(self) -> None:
        super()._build()
        for name in SIDES:
            # IPv6 would send packets of its own, and change which packets the seed makes the line
            # lose
            self.sysctl(name, "net.ipv6.conf.default.disable_ipv6", 1)
        self._undo.callback(self.stop)
        self._start()
        for side in self.sides.values():
            link = ("-n", side.namespace, "link", "set", _DEVICE)
            address = ("address", "add", f"{side.address}/30", "dev", _DEVICE)
            ip("-n", side.namespace, *address)
            ip(*link, "mtu", str(self.mtu), "txqueuelen", _QUEUE_PACKETS, "up")

    def _start(self) -> None:
        where = {f"--{side}": f"/run/netns/{self.sides[side].namespace}" for side in SIDES}
        options = {**where, "--device": _DEVICE, **self._options}
        argv = [str(_program()), *(str(word) for option in options.items() for word in option)]
        argv += self._only_watched
        pipe = subprocess.PIPE
        # in a group of its own: a Ctrl-C must not end it before its counts are collected
        self._process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, process_group=0
        )
        # a line does not wait for a busy machine: the highest priority, if that is allowed
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(self._process.pid, os.SCHED_FIFO, os.sched_param(1))
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "ready\n":
            raise OSError(f"the relay did not start: {self._process.communicate()[1]}")

    def cut(self) -> None:
        """Lose every packet that arrives from now on, in both directions, until `mend`."""
        self._order("cut")

    def mend(self) -> None:
        """End a `cut`."""
        self._order("mend")

    def change_rate(self, rate_bps: float) -> None:
        """Give the line another rate, in both directions, also for packets that wait for it."""
        self._order(f"rate {round(rate_bps)}")
        self._link_file.carries(Link(rate_bps) if rate_bps else None)

    def _order(self, order: str) -> None:
        """Send an order and return when the relay has obeyed; call this from one thread at a
        time."""
        process = self._process
        assert process is not None, "the relay is not running"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{order}\n")
        process.stdin.flush()
        if process.stdout.readline() != "done\n":
            raise OSError(f"the relay did not obey: {order}")

    def stop(self) -> None:
        """End the relay and collect its `counts`; from then on the line carries nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        with process:
            try:
                overruns = self._overruns()
                process.terminate()
                told, _ = process.communicate(timeout=30)
            finally:
                process.kill()
        if process.returncode == 0:
            ways = json.loads(told)
            self.counts = {
                way: Counts(
                    **{**ways[way], "watched": Fates(**ways[way]["watched"])},
                    overrun_packets=overruns[side],
                )
                for way, side in _DIRECTIONS.items()
            }

    def _overruns(self) -> dict[str, int]:
        return {name: _device_drops(side) for name, side in self.sides.items()}


def _device_drops(side: Side) -> int:
    """Return the packets that the TUN device dropped because its queue was full."""
    shown = json.loads(ip("-n", side.namespace, "-json", "-statistics", "link", "show", _DEVICE))
    return int(shown[0]["stats64"]["tx"]["dropped"])
