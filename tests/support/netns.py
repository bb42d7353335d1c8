"""Two hosts on one machine: a pair of network namespaces, and a veth link between them.

Loopback has no rate, no delay and never fails; the tests that matter here need a link that does.
Everything made here is named after this process (``nm<pid>-<random>-<side>``), removed when the
``with`` block ends for whatever reason, and, should the process be killed, by the next `sweep`.
"""

import atexit
import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

PREFIX = "nm"
SIDES = ("client", "server")

_NAMESPACES = Path("/run/netns")
_NAME = re.compile(rf"{PREFIX}(\d+)-[0-9a-f]+-(?:{'|'.join(SIDES)})")
_CLONE_NEWNET = 0x40000000
_CAPABILITIES = {"CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21}

_NOBODYS_MAC = "02:00:00:00:00:99"
_NOBODYS_ADDRESS = "10.77.0.99"
_LATE_TABLE = "77"
_FRAME_BYTES = 1514  # what tbf counts for a full segment: MTU 1500 and the Ethernet header
_TCP_PAYLOAD_BYTES = {4: 1448, 6: 1428}  # the same segment's payload, with TCP timestamps
_RATE = re.compile(r"(\d+(?:\.\d+)?)([kmg]?)bit", re.IGNORECASE)
_RATE_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def available() -> str | None:
    """Why namespaces cannot be made here, or None when they can."""
    for tool in ("ip", "tc"):
        if shutil.which(tool) is None:
            return f"{tool} (iproute2) is not installed"
    if os.geteuid() != 0:
        return "network namespaces need root"
    for name, bit in _CAPABILITIES.items():
        if not _effective_capabilities() >> bit & 1:
            return f"network namespaces need {name}"
    return None


def _effective_capabilities() -> int:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return int(found[1], 16) if found else 0


def ip(*arguments: str) -> str:
    """Run ip(8) and return its output."""
    return _run("ip", *arguments)


def _run(*argv: str) -> str:
    """Run a tool of iproute2; its own words are the error if it fails.

    In a process group of its own: a Ctrl-C at the terminal must not kill the very command that
    removes a namespace.
    """
    done = subprocess.run(argv, capture_output=True, text=True, process_group=0)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def existing() -> list[str]:
    """The names of all namespaces that this harness made, in this process or another."""
    if not _NAMESPACES.is_dir():
        return []
    return sorted(entry.name for entry in _NAMESPACES.iterdir() if _NAME.fullmatch(entry.name))


def sweep() -> list[str]:
    """Remove what killed test runs left behind; returns the names of the removed namespaces."""
    dead = [name for name in existing() if not _owner_lives(name)]
    for name in dead:
        remove(name)
    return dead


def _owner_lives(name: str) -> bool:
    owner = _NAME.fullmatch(name)
    return owner is not None and Path("/proc", owner[1]).exists()


def remove(name: str) -> None:
    """Remove the namespace `name`, with the processes and links in it; no error if it is gone.

    Processes and links go first because either would keep the nameless namespace alive.
    """
    if not (_NAMESPACES / name).exists():
        return
    with contextlib.suppress(OSError):
        _kill_inhabitants(name)
    with contextlib.suppress(OSError):
        _delete_links(name)
    try:
        ip("netns", "delete", name)
    except OSError:
        if (_NAMESPACES / name).exists():
            raise


def _kill_inhabitants(name: str) -> None:
    for pid in map(int, ip("netns", "pids", name).split()):
        if pid != os.getpid():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _delete_links(name: str) -> None:
    for link in json.loads(ip("-n", name, "-json", "link", "show")):
        if link["link_type"] != "loopback":
            with contextlib.suppress(OSError):
                ip("-n", name, "link", "delete", link["ifname"])


_libc = ctypes.CDLL(None, use_errno=True)


def _setns(descriptor: int) -> None:
    """setns(2) for the current thread; os.setns came with Python 3.12 only."""
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Move the current thread into the namespace `name`, and back at the end.

    A socket belongs for ever to the namespace it was opened in, so it is enough to open it inside.
    Threads and processes started inside inherit the namespace and stay there: start an executor
    outside. Do not `await` inside, or the other tasks of the loop run in the namespace as well.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        away = os.open(_NAMESPACES / name, os.O_RDONLY)
        try:
            _setns(away)
        finally:
            os.close(away)
        yield
    finally:
        try:
            _setns(home)
        finally:
            os.close(home)


@dataclass(frozen=True)
class Side:
    """One of the two hosts; `address6` and `mac` are empty where the link has none."""

    namespace: str
    device: str
    address: str
    address6: str = ""
    mac: str = ""


class NamespacePair:
    """Two fresh namespaces, "client" and "server", and the processes started in them.

    The base of every kind of link: a subclass gives `_make_side` and joins the sides in `_build`.
    Undoing is put on a stack before the thing itself is done, so that an interrupt between the two
    leaves nothing behind.
    """

    def __init__(self) -> None:
        label = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self.sides = {side: self._make_side(side, f"{label}-{side}") for side in SIDES}
        self._pid = os.getpid()
        self._undo = contextlib.ExitStack()
        self._processes: list[subprocess.Popen[Any]] = []

    def _make_side(self, side: str, namespace: str) -> Side:
        raise NotImplementedError

    def _build(self) -> None:
        """Make the namespaces; a subclass calls this first and then makes its link."""
        for side in self.sides.values():
            self._undo.callback(remove, side.namespace)
            ip("netns", "add", side.namespace)
            ip("-n", side.namespace, "link", "set", "lo", "up")
        self._undo.callback(self._end_processes)

    @property
    def client(self) -> Side:
        return self.sides["client"]

    @property
    def server(self) -> Side:
        return self.sides["server"]

    def __enter__(self) -> Self:
        atexit.register(self.close)
        try:
            self._build()
        except BaseException:
            with contextlib.suppress(OSError):  # the first error is the one to tell
                self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything; harmless when repeated, and in a fork of the process that made it."""
        if os.getpid() == self._pid:
            self._undo.close()
            atexit.unregister(self.close)

    def _end_processes(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()

    def command(self, side: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs `argv` in the namespace of `side`."""
        return ["ip", "netns", "exec", self.sides[side].namespace, *argv]

    def popen(self, side: str, argv: Sequence[str], **keywords: Any) -> subprocess.Popen[Any]:
        """Start `argv` on `side`; killed with the pair if it still runs then."""
        process = subprocess.Popen(self.command(side, argv), **keywords)
        self._processes.append(process)
        return process

    def enter(self, side: str) -> contextlib.AbstractContextManager[None]:
        """Move the current thread to `side` for the length of the block, see `entered`."""
        return entered(self.sides[side].namespace)

    def sysctl(self, side: str, name: str, value: object) -> None:
        """Set a net.* setting of `side`, for instance "net.ipv4.tcp_syn_retries".

        Congestion control is better chosen per socket: here the kernel takes only those that it
        offers to every user.
        """
        with self.enter(side):
            Path("/proc/sys", *name.split(".")).write_text(str(value))


class Network(NamespacePair):
    """Two hosts on one Ethernet link (a veth pair), of any rate, that can be late or be cut."""

    def _make_side(self, side: str, namespace: str) -> Side:
        number = 1 + SIDES.index(side)
        return Side(
            namespace=namespace,
            device=f"v{side}",
            address=f"10.77.0.{number}",
            address6=f"fd77::{number}",
            mac=f"02:00:00:00:77:0{number}",
        )

    def _build(self) -> None:
        super()._build()
        ip("link", "add", *_link_end(self.client), "type", "veth", "peer", *_link_end(self.server))
        # an IPv6 address given to a link that is not up yet answers nobody for the first second
        for side in self.sides.values():
            link = ("link", "set", side.device, "addrgenmode", "none", "up")
            ip("-n", side.namespace, *link)
        for side in self.sides.values():
            address = ("-n", side.namespace, "address", "add", "dev", side.device)
            ip(*address, f"{side.address}/24")
            ip(*address, f"{side.address6}/64", "nodad")

    def shape(self, rate: str | None, *, burst: str = "256k", latency: str = "5ms") -> None:
        """Give the link a rate such as "1gbit", the same both ways; None makes it free again.

        Offloads stay on: tbf charges a segmentation-offload packet for every frame that it will
        become, headers included, so super-packets do not change the rate as long as `burst` holds
        one (64 KiB). The burst itself passes at once: 2 ms at 1 Gbit/s, but 0.2 s at 10 Mbit/s.
        """
        bucket = ("tbf", "rate", rate, "burst", burst, "latency", latency) if rate else ("noqueue",)
        for side in self.sides.values():
            where = ("tc", "-n", side.namespace, "qdisc", "replace", "dev", side.device, "root")
            _run(*where, *bucket)

    def congestion(self, name: str) -> None:
        """The congestion control of connections over the link that do not choose one themselves:
        by the route, since the setting for a whole namespace is not for every user to make."""
        for here, there in (("client", "server"), ("server", "client")):
            near, far = self.sides[here], self.sides[there]
            link = ("dev", near.device, "src", near.address)
            ip("-n", near.namespace, "route", "replace", far.address, *link, "congctl", name)

    @staticmethod
    def payload_ceiling_bps(rate: str, *, family: int = 4) -> float:
        """The most TCP payload that a link shaped to `rate` carries, for IPv4 or IPv6."""
        parsed = _RATE.fullmatch(rate)
        if parsed is None:
            raise ValueError(f"not a rate: {rate!r}")
        bits_per_second = float(parsed[1]) * _RATE_UNITS[parsed[2].lower()]
        return bits_per_second * _TCP_PAYLOAD_BYTES[family] / _FRAME_BYTES

    @contextlib.contextmanager
    def late(self, after_s: float) -> Iterator[None]:
        """A network that is not there yet: what the client sends is lost for the first `after_s`.

        The client sees no error, just no answer, exactly as when a route or a firewall rule of a
        fresh container is not in place yet. The kernel repeats its SYN on its own schedule, so a
        connect that began at once succeeds at the first repetition after `after_s`: for 2.5, 3 s
        after it began, whether SYNs go out at 0, 1, 3, 7 or (newer kernels) at 0, 1, 2, 3, 4 s. Set
        net.ipv4.tcp_syn_linear_timeouts to 0 where their number matters.
        """
        self._misdirect("client", "server")
        timer = threading.Timer(after_s, self._direct, ("client", "server"))
        timer.name = "late-network"
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            self._direct("client", "server")

    @contextlib.contextmanager
    def late_ports(self, first: int, last: int, after_s: float) -> Iterator[None]:
        """As `late`, but only what the client sends to these ports of the server is lost: a data
        connection that comes to be late while its control connection works."""
        link = ("-n", self.client.namespace)
        ports = ("rule", "add", "dport", f"{first}-{last}", "lookup", _LATE_TABLE)
        nobody = ("via", _NOBODYS_ADDRESS, "dev", self.client.device, "onlink")
        entry = ("lladdr", _NOBODYS_MAC, "dev", self.client.device, "nud", "permanent")
        ip(*link, "neighbour", "replace", _NOBODYS_ADDRESS, *entry)
        ip(*link, "route", "replace", self.server.address, *nobody, "table", _LATE_TABLE)
        ip(*link, *ports)
        lock = threading.Lock()
        gone: list[bool] = []

        def appear() -> None:
            with lock:
                if not gone:
                    gone.append(True)
                    ip(*link, *(word if word != "add" else "del" for word in ports))

        timer = threading.Timer(after_s, appear)
        timer.name = "late-ports"
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
            appear()

    def cut(self) -> None:
        """Lose everything, both ways, from now on, without any sign of it to either end.

        Links stay up and sockets stay open: each end sees a peer that has vanished without FIN.
        Frames that already wait in the queue of `shape` still arrive.
        """
        self._misdirect("client", "server")
        self._misdirect("server", "client")

    def mend(self) -> None:
        """End what `cut` began."""
        self._direct("client", "server")
        self._direct("server", "client")

    def _misdirect(self, here: str, there: str) -> None:
        self._set_neighbour(here, there, _NOBODYS_MAC)

    def _direct(self, here: str, there: str) -> None:
        self._set_neighbour(here, there, self.sides[there].mac)

    def _set_neighbour(self, here: str, there: str, mac: str) -> None:
        """Make `here` send frames for `there` to `mac`; permanent entries are never asked for."""
        near, far = self.sides[here], self.sides[there]
        entry = ("lladdr", mac, "dev", near.device, "nud", "permanent")
        for address in (far.address, far.address6):
            ip("-n", near.namespace, "neighbour", "replace", address, *entry)


def _link_end(side: Side) -> tuple[str, ...]:
    return ("name", side.device, "address", side.mac, "netns", side.namespace)
