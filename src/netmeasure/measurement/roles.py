"""Assign the roles of both ends on each stream, by the direction of a test."""

from __future__ import annotations

from netmeasure.result import FlowDirection, Role
from netmeasure.spec import Direction


def directions(direction: Direction, streams: int) -> tuple[FlowDirection, ...]:
    """Return the direction of each stream in order of creation. The streams on which the client
    sends are first."""
    up: list[FlowDirection] = ["upload"] * streams
    down: list[FlowDirection] = ["download"] * streams
    if direction == "both":
        return (*up, *down)
    return tuple(up if direction == "upload" else down)


def client_role(direction: FlowDirection) -> Role:
    """Return the client's role in a direction."""
    return "sender" if direction == "upload" else "receiver"


def server_role(direction: FlowDirection) -> Role:
    """Return the server's role in a direction."""
    return "receiver" if direction == "upload" else "sender"
