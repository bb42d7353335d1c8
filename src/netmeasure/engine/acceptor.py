"""Accept connections without asyncio's servers. The cancellation of an awaited accept could lose a
connection that had just been accepted, and the event loops' own servers may lose a connection that
arrives while they are closed."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence

#: Errors of accept() that concern only the one connection that is lost (accept(2)).
_OF_ONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EPERM,
        errno.EPROTO,
    }
)
#: This many of them in a row do not concern single connections: a filter of system calls may cause
#: the same errors permanently (seccomp's usual error is EPERM).
_IN_A_ROW = 16
#: The pause after any other error, after which descriptors or memory may be available again. The
#: pause keeps the event loop from being busy with a permanent error.
_PAUSE_S = 0.1

#: Connections that are accepted in one turn of the event loop: clients that connect faster than
#: they are accepted must not keep it from other work.
_AT_ONCE = 64


class Acceptor:
    """Accept the connections of `listeners` and pass each with its peer's address to `take`, from
    `on` to `off` or while there is `room`; call `on` when there is room again. The caller owns the
    listeners, and `take` owns each connection. `trouble` is called with each error that concerns
    more than one connection."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        take: Callable[[socket.socket, tuple[str, int]], None],
        room: Callable[[], bool] = lambda: True,
        trouble: Callable[[OSError], None] = lambda _: None,
    ) -> None:
        self._listeners = tuple(listeners)
        self._take = take
        self._room = room
        self._trouble = trouble
        self._accepting = False
        self._closed = False

    def on(self) -> None:
        if self._closed or self._accepting:
            return
        self._accepting = True
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.add_reader(listener, self._accept, listener)

    def off(self) -> None:
        if not self._accepting:
            return
        self._accepting = False
        loop = asyncio.get_running_loop()
        for listener in self._listeners:
            loop.remove_reader(listener)

    def close(self) -> None:
        """Stop accepting for good."""
        self._closed = True
        self.off()

    def _accept(self, listener: socket.socket) -> None:
        failed = 0
        for _ in range(_AT_ONCE):
            if not self._room():
                self.off()
                return
            try:
                sock, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as exc:
                failed += 1
                if exc.errno in _OF_ONE and failed < _IN_A_ROW:
                    continue
                self._trouble(exc)
                self.off()  # meanwhile the backlog keeps the connections
                asyncio.get_running_loop().call_later(_PAUSE_S, self.on)
                return
            failed = 0
            sock.setblocking(False)
            self._take(sock, peer)
