"""What the output depends on besides the test itself: how the program was called."""

from __future__ import annotations

from typing import Literal

import msgspec

from netmeasure.result import FlowDirection


class File(msgspec.Struct, frozen=True, kw_only=True):
    """-F: what is read from or written to. `bytes` is the file's size at the end."""

    name: str
    bytes: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """
    end            which end this process is
    version        what --version says first, such as "iperf 3.21"
    system         as uname says: system, node, release, version, machine
    host, port     the server as it was typed (client); the port listened on (server)
    interval_s     of -i; 0: one row at the end
    unit           of -f: one of `numbers.UNITS`
    verbose        -V
    title          -T: in front of each line at the client, and in the JSON document
    extra_data     of --extra-data, for the JSON document; a server has both from its client
    netmeasure     add what we know more, under the key "netmeasure" of the JSON document
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
        """Whether this end does, in that direction."""
        return (way == "upload") == self.is_client

    @property
    def is_client(self) -> bool:
        return self.end == "client"
