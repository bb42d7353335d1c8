"""Answer the datagrams with which clients find the longest datagrams of a path."""

from __future__ import annotations

import errno
import hmac
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from netmeasure.engine.sockets import path_mtu
from netmeasure.protocol import (
    PATH_TOKEN_BYTES,
    PathKind,
    PathProbe,
    make_path_answer,
    read_path_query,
)


class PathAnswers:
    """Answer path queries of the clients that `serves` accepts; see `protocol.path_probes`."""

    def __init__(self, serves: Callable[[str], bool]) -> None:
        self._serves = serves
        self._secret = os.urandom(32)

    def answer(
        self,
        data: bytes,
        length: int,
        peer: tuple[Any, ...],
        send: Callable[[bytes], object],
    ) -> bool:
        """Answer one datagram, if it is a query with the token of its sender.

        Args:
            data: The start of the datagram.
            length: The datagram's length.
            peer: The sender's address.
            send: Sends an answer to it.
        """
        query = read_path_query(data)
        if query is None or not self._serves(str(peer[0])):
            return False
        token = self._token(peer)
        if query.kind == PathKind.TOKEN:
            answer = query._replace(token=token)
        elif not hmac.compare_digest(query.token, token):
            return False
        elif query.kind == PathKind.UPLOAD:
            answer = query._replace(size=length)
        elif query.kind == PathKind.KNOWN_MTU:
            answer = query._replace(size=_known_mtu(peer))
        else:
            answer = query
        try:
            send(make_path_answer(answer))
        except OSError as exc:
            if exc.errno == errno.EMSGSIZE and answer.kind == PathKind.DOWNLOAD:
                with suppress(OSError):  # the client repeats its query
                    send(make_path_answer(PathProbe(PathKind.TOO_LONG, query.number)))
        return True

    def _token(self, peer: tuple[Any, ...]) -> bytes:
        """Return the token of a client's address and port."""
        who = f"{peer[0]} {peer[1]}".encode()
        return hmac.digest(self._secret, who, "sha256")[:PATH_TOKEN_BYTES]


def _known_mtu(peer: tuple[Any, ...]) -> int:
    """Return the kernel's path MTU to a client; 0: unknown."""
    family = socket.AF_INET6 if ":" in str(peer[0]) else socket.AF_INET
    with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect(peer)
        return min(path_mtu(sock) or 0, 65_535)
    return 0
