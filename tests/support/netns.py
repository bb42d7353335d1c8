"""Make two hosts on one machine: a pair of network namespaces, and a veth link between them.

Loopback has no rate and no delay, and never fails; many tests need a link that does. Everything
that is created here is named after this process (``nm<pid>-<random>-<side>``) and removed when the
``with`` block ends for whatever reason. If the process is killed, the next `sweep` removes it.
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

from support.held import Link, LinkFile

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
    """Return why namespaces can't be created here, or None."""
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
    """Run a tool of iproute2; if it fails, raise an error with the tool's own message.

    The tool runs in a process group of its own: a Ctrl-C at the terminal must not kill the command
    that removes a namespace.
    """
    done = subprocess.run(argv, capture_output=True, text=True, process_group=0)
    if done.returncode != 0:
        raise OSError(f"{' '.join(argv)}: {done.stderr.strip()}")
    return done.stdout


def existing() -> list[str]:
    """Return the names of all namespaces that this module made, in this process or another."""
    if not _NAMESPACES.is_dir():
        return []
    return sorted(entry.name for entry in _NAMESPACES.iterdir() if _NAME.fullmatch(entry.name))


def sweep() -> list[str]:
    """Remove the leftovers of killed test runs; return the names of the removed namespaces."""
    dead = [name for name in existing() if not _owner_lives(name)]
    for name in dead:
        remove(name)
    return dead


def _owner_lives(name: str) -> bool:
    owner = _NAME.fullmatch(name)
    return owner is not None and Path("/proc", owner[1]).exists()


def remove(name: str) -> None:
    """Remove the namespace `name` with its processes and links. It is no error if it does not
    exist.

    Processes and links are removed first because either would keep the unnamed namespace alive.
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
    """Call setns(2) for the current thread; Python has os.setns since 3.12 only."""
    if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


@contextlib.contextmanager
def entered(name: str) -> Iterator[None]:
    """Move the current thread into the namespace `name`, and back at the end.

    A socket belongs for ever to the namespace in which it was opened, so it is enough to open it
    inside. Threads and processes started inside inherit the namespace and stay in it: start an
    executor outside. Do not `await` inside, or the other tasks of the loop run in the namespace as
    well.
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
    """Hold one of the two hosts; `address6` and `mac` are empty if the link has none."""

    namespace: str
    device: str
    address: str
    address6: str = ""
    mac: str = ""


class NamespacePair:
    """Hold two new namespaces, "client" and "server", and the processes started in them.

    This is the base of every kind of link: a subclass defines `_make_side` and joins the sides in
    `_build`. The step that undoes an action is put on a stack before the action itself, so that an
    interrupt between the two leaves nothing behind.
    """

    def __init__(self) -> None:
        label = f"{PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self.sides = {side: self._make_side(side, f"{label}-{side}") for side in SIDES}
        self._pid = os.getpid()
        self._undo = contextlib.ExitStack()
        self._processes: list[subprocess.Popen[Any]] = []
        self._link_file = LinkFile()
        self._undo.callback(self._link_file.remove)

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
            with contextlib.suppress(OSError):  # only the first error is raised
                self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove everything; harmless when repeated, and in a fork of the process that made the
        pair."""
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
        """Return the command line that runs `argv` in the namespace of `side`."""
        return ["ip", "netns", "exec", self.sides[side].namespace, *argv]

    def popen(self, side: str, argv: Sequence[str], **keywords: Any) -> subprocess.Popen[Any]:
        """Start `argv` on `side`; a process that still runs at the end is killed with the pair."""
        environment = dict(os.environ if keywords.get("env") is None else keywords["env"])
        self._link_file.tell(environment)
        keywords["env"] = environment
        process = subprocess.Popen(self.command(side, argv), **keywords)
        self._processes.append(process)
        return process

    def enter(self, side: str) -> contextlib.AbstractContextManager[None]:
        """Move the current thread to `side` for the length of the block, see `entered`."""
        return entered(self.sides[side].namespace)

    def sysctl(self, side: str, name: str, value: object) -> None:
        """Set a net.* setting of `side`, for instance "net.ipv4.tcp_syn_retries".

        Choose the congestion control per socket instead: this setting accepts only those that the
        kernel offers to every user.
        """
        with self.enter(side):
            Path("/proc/sys", *name.split(".")).write_text(str(value))


class Network(NamespacePair):
    """Hold two hosts on one Ethernet link (a veth pair) of any rate, which can be late or be
    cut."""

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
        # an IPv6 address that is assigned before the link is up does not answer for the first
        # second
        for side in self.sides.values():
            link = ("link", "set", side.device, "addrgenmode", "none", "up")
            ip("-n", side.namespace, *link)
        for side in self.sides.values():
            address = ("-n", side.namespace, "address", "add", "dev", side.device)
            ip(*address, f"{side.address}/24")
            ip(*address, f"{side.address6}/64", "nodad")

    def shape(self, rate: str | None, *, burst: str = "256k", latency: str = "5ms") -> None:
        """Give the link a rate such as "1gbit", the same both ways; None removes the limit.

        Offloads stay on: tbf charges a segmentation-offload packet for every frame that it will
        become, headers included, so super-packets do not change the rate as long as `burst` holds
        one (64 KiB). The burst itself passes at once: 2 ms at 1 Gbit/s, but 0.2 s at 10 Mbit/s.
        """
        bucket = ("tbf", "rate", rate, "burst", burst, "latency", latency) if rate else ("noqueue",)
        for side in self.sides.values():
            where = ("tc", "-n", side.namespace, "qdisc", "replace", "dev", side.device, "root")
            _run(*where, *bucket)
        self._link_file.carries(Link(_bps(rate), _bytes(burst)) if rate else None)

    def congestion(self, name: str) -> None:
        """Set the congestion control of connections over the link that do not choose one
        themselves.

        The route sets it, since not every user may change the setting of a whole namespace.
        """
        for here, there in (("client", "server"), ("server", "client")):
            near, far = self.sides[here], self.sides[there]
            link = ("dev", near.device, "src", near.address)
            ip("-n", near.namespace, "route", "replace", far.address, *link, "congctl", name)

    @staticmethod
    def payload_ceiling_bps(rate: str, *, family: int = 4) -> float:
        """Return the highest TCP payload rate of a link shaped to `rate`, for IPv4 or IPv6."""
        return _bps(rate) * _TCP_PAYLOAD_BYTES[family] / _FRAME_BYTES

    @contextlib.contextmanager
    def late(self, after_s: float) -> Iterator[None]:
        """Make a network that is late: what the client sends in the first `after_s` is lost.

        The client sees no error and no answer, exactly as when a route or a firewall rule of a new
        container is not in place yet. The kernel repeats its SYN on its own schedule, so a connect
        that began at once succeeds at the first repetition after `after_s`. For 2.5 s, that is 3 s
        after it began, whether SYNs are sent at 0, 1, 3, 7 s or (newer kernels) at 0, 1, 2, 3, 4 s.
        Set net.ipv4.tcp_syn_linear_timeouts to 0 if a test depends on the number of SYNs.
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
        """Do the same as `late`, but only for these ports of the server.

        A data connection can then be late while its control connection works.
        """
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
        """From now on lose everything, both ways, without any sign of it to either end.

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
        """Make `here` send frames for `there` to `mac`; the kernel never verifies permanent
        entries."""
        near, far = self.sides[here], self.sides[there]
        entry = ("lladdr", mac, "dev", near.device, "nud", "permanent")
        for address in (far.address, far.address6):
            ip("-n", near.namespace, "neighbour", "replace", address, *entry)


def _bps(rate: str) -> float:
    """Return a rate such as "1gbit" in bit/s."""
    parsed = _RATE.fullmatch(rate)
    if parsed is None:
        raise ValueError(f"not a rate: {rate!r}")
    return float(parsed[1]) * _RATE_UNITS[parsed[2].lower()]


def _bytes(size: str) -> int:
    """Return a size as tc(8) takes it, such as "256k"."""
    unit = {"k": 2**10, "m": 2**20}.get(size[-1])
    return int(size) if unit is None else int(size[:-1]) * unit


def _link_end(side: Side) -> tuple[str, ...]:
    return ("name", side.device, "address", side.mac, "netns", side.namespace)
