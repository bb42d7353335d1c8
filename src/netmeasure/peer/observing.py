"""Describe a test's connections to its observer, at either end."""

from __future__ import annotations

from netmeasure.engine.control import ControlChannel
from netmeasure.observe import Control, OpenStream
from netmeasure.workloads.base import Workload


def control_facts(channel: ControlChannel, cookie: str) -> Control:
    """Return the facts of a control connection, seen from this end."""
    local, remote = channel.addresses
    return Control(local=local, remote=remote, cookie=cookie, mss_bytes=channel.mss_bytes)


def open_streams(workload: Workload) -> tuple[OpenStream, ...]:
    """Return the data streams of a test that is about to begin, in their order of creation."""
    return tuple(
        OpenStream(id=number, role=role, socket=facts) for number, role, facts in workload.opened()
    )
