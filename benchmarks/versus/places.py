"""Provide the places where contenders run: loopback, or a veth pair between two namespaces."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

#: The sender's and the receiver's CPU, for every tool: the scheduler may put a tool and its peer on
#: one CPU, and then the result says nothing about the tool.
CLIENT_CPU, SERVER_CPU = "0", "1"


class Place(msgspec.Struct, frozen=True):
    """Describe a place: the server's address, the client's interface to it, and the server's
    namespace."""

    name: str
    address: str
    interface: str
    server_namespace: str | None = None

    def at_client(self, argv: Sequence[str], *, pinned: bool) -> list[str]:
        """Return the command that runs a client's command here."""
        return _inside(None, CLIENT_CPU if pinned else None, argv)

    def at_server(self, argv: Sequence[str], *, pinned: bool) -> list[str]:
        """Return the command that runs a server's command here."""
        return _inside(self.server_namespace, SERVER_CPU if pinned else None, argv)

    def carried_bytes(self) -> int:
        """Return how many bytes, with headers, have crossed the interface.

        The client's end of a pair counts the bytes that it sends.
        """
        with open("/proc/thread-self/net/dev") as file:
            lines = (line.partition(":") for line in file)
            counts = {name.strip(): counts.split() for name, _, counts in lines}
        return int(counts[self.interface][8])


def _inside(namespace: str | None, cpu: str | None, argv: Sequence[str]) -> list[str]:
    return [
        *(("ip", "netns", "exec", namespace) if namespace else ()),
        *(("taskset", "-c", cpu) if cpu else ()),
        *argv,
    ]


@contextmanager
def place(name: str) -> Iterator[Place]:
    """Make the place with this name, `loopback` or `veth`; remove it at the end."""
    if name == "loopback":
        yield Place(name, "127.0.0.1", "lo")
        return
    there, ours, theirs = f"versus{os.getpid()}", "nmversus0", "nmversus1"
    for line in (
        f"netns add {there}",
        f"link add {ours} type veth peer name {theirs} netns {there}",
        f"address add 198.18.77.1/30 dev {ours}",
        f"link set {ours} up",
        f"-n {there} address add 198.18.77.2/30 dev {theirs}",
        f"-n {there} link set {theirs} up",
        f"-n {there} link set lo up",
    ):
        subprocess.run(("ip", *line.split()), check=True)
    try:
        yield Place(name, "198.18.77.2", ours, server_namespace=there)
    finally:
        subprocess.run(("ip", "netns", "delete", there), check=True)
