"""Read the facts of this node: CPU, governor, interfaces, settings, control group, pod."""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from netmeasure.engine import ethtool, settings
from netmeasure.engine.cgroups import Cgroup
from netmeasure.engine.qdiscs import Qdisc, read_qdiscs
from netmeasure.result.node import NodeFacts, NodeInterface

#: The environment variables and the file that the pod fills from the downward API.
_POD, _NAMESPACE, _NODE = "NETMEASURE_POD", "NETMEASURE_POD_NAMESPACE", "NETMEASURE_NODE"
_LABELS, _LABELS_FILE = "NETMEASURE_LABELS", "/etc/podinfo/labels"


def node_facts(environment: Mapping[str, str] | None = None) -> NodeFacts:
    """Return the facts of this node; those of the network are of the calling thread's namespace.

    `environment` has the variables with the pod's names; None: this process's environment. This
    function reads files: call it by `asyncio.to_thread` within asyncio.
    """
    given = os.environ if environment is None else environment
    group = Cgroup()
    return NodeFacts(
        hostname=socket.gethostname(),
        kernel=platform.release(),
        cpu_model=settings.cpu_model(),
        cpu_count=os.cpu_count(),
        governors=settings.governors(),
        memory_bytes=_memory(),
        sysctls=settings.sysctls(),
        interfaces=_interfaces(),
        cgroup=_cgroup(),
        cgroup_memory_limit_bytes=group.read().memory_limit_bytes,
        cgroup_cpus=group.cpus(),
        allowed_cpus=len(os.sched_getaffinity(0)),
        pod=given.get(_POD) or None,
        pod_namespace=given.get(_NAMESPACE) or None,
        node=given.get(_NODE) or None,
        labels=_labels(Path(given.get(_LABELS) or _LABELS_FILE)),
    )


def _memory() -> int | None:
    for line in settings.text_of(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return None


def _interfaces() -> tuple[NodeInterface, ...]:
    queues: dict[str, list[Qdisc]] = {}
    with suppress(OSError):
        for one in sorted(read_qdiscs(), key=lambda one: not one.root):
            queues.setdefault(one.interface, []).append(one)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return tuple(
            _interface(sock, name, queues.get(name, [])) for _, name in socket.if_nameindex()
        )


def _interface(sock: socket.socket, name: str, queues: list[Qdisc]) -> NodeInterface:
    driver = ethtool.driver(sock, name)
    return NodeInterface(
        name=name,
        driver=None if driver is None else driver[0],
        driver_version=None if driver is None else driver[1],
        speed_bps=ethtool.speed_bps(sock, name),
        mtu_bytes=ethtool.mtu_bytes(sock, name),
        qdiscs=tuple(one.name for one in queues),
        offloads=ethtool.offloads(sock, name),
    )


def _cgroup() -> str | None:
    """Return the control group's path: the path of version 2 if there is one, otherwise that of the
    CPU controller."""
    lines = [
        line.split(":", 2) for line in settings.text_of(Path("/proc/self/cgroup")).splitlines()
    ]
    known = {names: path for _, names, path in (line for line in lines if len(line) == 3)}
    for names, path in known.items():
        if "cpu" in names.split(","):
            return path
    return known.get("")


def _labels(path: Path) -> dict[str, str]:
    """Return the pod's labels: lines NAME="VALUE" of the downward API."""
    found = {}
    for line in settings.text_of(path).splitlines():
        name, equals, value = line.partition("=")
        if name and equals:
            found[name.strip()] = value.strip().strip('"')
    return found
