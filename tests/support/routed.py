"""Make two hosts with a router between them that reports its MTU by ICMP."""

from __future__ import annotations

from pathlib import Path

from support import netns
from support.netns import NamespacePair, Side, ip


class RoutedPair(NamespacePair):
    """Hold two hosts with an MTU of `link_mtu`, and a router whose MTU to one of them is `mtu`."""

    def __init__(self, narrow: str, mtu: int, link_mtu: int = 1500) -> None:
        self._narrow, self._mtu, self._link_mtu = narrow, mtu, str(link_mtu)
        super().__init__()

    def _make_side(self, side: str, namespace: str) -> Side:
        return Side(namespace, "wire0", f"10.79.{netns.SIDES.index(side)}.2")

    def _build(self) -> None:
        super()._build()
        router = self.client.namespace.replace("-client", "00-server")
        self._undo.callback(netns.remove, router)
        ip("netns", "add", router)
        for name, side in self.sides.items():
            near = ("link", "add", "wire0", "netns", side.namespace, "type", "veth")
            ip(*near, "peer", "name", name, "netns", router)
            gate = side.address.removesuffix("2") + "1"
            ip("-n", router, "address", "add", f"{gate}/24", "dev", name)
            ip("-n", router, "link", "set", name, "mtu", self._link_mtu, "up")
            ip("-n", side.namespace, "address", "add", f"{side.address}/24", "dev", "wire0")
            ip("-n", side.namespace, "link", "set", "wire0", "mtu", self._link_mtu, "up")
            ip("-n", side.namespace, "route", "add", "default", "via", gate)
        there = self.sides[self._narrow].address.removesuffix("2") + "0/24"
        words = ("dev", self._narrow, "proto", "kernel", "scope", "link", "mtu", str(self._mtu))
        ip("-n", router, "route", "replace", there, *words)
        with netns.entered(router):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
