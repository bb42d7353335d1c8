"""Look a name up repeatedly, without waiting for look-ups that hang.

getaddrinfo(3) can't be interrupted, and waits seconds before it repeats a query. New look-ups are
therefore started while others wait, each in its own thread, up to a limit for all names together.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from netmeasure.readiness.course import Met

Entries = tuple[tuple[int, tuple[object, ...]], ...]
#: The most addresses of a host that are tried.
MOST_ADDRESSES = 4
_UNKNOWN = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))


class LookUp:
    """Run one look-up in a thread, which calls `told` with the look-up at its end."""

    def __init__(self, host: str, port: int, family: int, told: Callable[[LookUp], None]) -> None:
        self.entries: Entries = ()
        self.met: Met | None = None
        self._arguments = (host, port, family)
        self._told = told
        threading.Thread(target=self._run, name="netmeasure-resolve", daemon=True).start()

    def _run(self) -> None:
        host, port, family = self._arguments
        try:
            found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
            self.entries = tuple((entry[0], entry[4]) for entry in found)[:MOST_ADDRESSES]
        except socket.gaierror as exc:
            unknown = exc.errno in _UNKNOWN
            self.met = ("name_not_found" if unknown else "name_no_answer", exc.strerror)
        except (OSError, UnicodeError) as exc:
            self.met = ("name_not_found", str(exc))
        self._told(self)


def is_address(host: str) -> bool:
    """Return whether a host is an address, which needs no look-up."""
    try:
        socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        return False
    return True
