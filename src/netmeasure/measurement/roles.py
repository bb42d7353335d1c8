"""Who sends and who receives on each stream, by the direction of a test."""

from __future__ import annotations

from netmeasure.result import FlowDirection, Role
from netmeasure.spec import Direction


def directions(direction: Direction, streams: int) -> tuple[FlowDirection, ...]:
    """The direction of each stream in order of creation: those that the client sends on first."""
    up: list[FlowDirection] = ["upload"] * streams
    down: list[FlowDirection] = ["download"] * streams
    if direction == "both":
        return (*up, *down)
    return tuple(up if direction == "upload" else down)


def client_role(direction: FlowDirection) -> Role:
    return "sender" if direction == "upload" else "receiver"


def server_role(direction: FlowDirection) -> Role:
    return "receiver" if direction == "upload" else "sender"
