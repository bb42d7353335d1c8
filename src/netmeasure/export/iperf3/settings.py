"""Define the settings of the output: the options with which the program was called."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result import FlowDirection


class File(msgspec.Struct, frozen=True, kw_only=True):
    """Hold -F's file, which is sent or written; `bytes` is its size at the end."""

    name: str
    bytes: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the options of the program that affect the output.

    Attributes:
        end: Which end this process is.
        version: What --version prints first, such as "iperf 3.21".
        system: The words of uname(1): system, node, release, version, machine.
        host: The server as it was typed (client).
        port: The server's port (client), or the port listened on (server).
        interval_s: Seconds of -i; 0: one row at the end.
        unit: The letter of -f, one of `numbers.UNITS`.
        verbose: Whether -V was given.
        title: The text of -T, in front of each line at the client and in the JSON document.
        extra_data: The text of --extra-data, for the JSON document. A server has both texts from
            its client.
        netmeasure: Whether to add the key "netmeasure" to the JSON document.
    """

    end: Literal["client", "server"]
    version: str
    system: str = ""
    host: str = ""
    port: int = 5201
    interval_s: float = 1.0
    unit: str = "a"
    verbose: bool = False
    title: str | None = None
    extra_data: str | None = None
    netmeasure: bool = False

    def sends(self, way: FlowDirection) -> bool:
        """Return whether this end sends in a direction."""
        return (way == "upload") == self.is_client

    @property
    def is_client(self) -> bool:
        """Return whether this process is the client."""
        return self.end == "client"
