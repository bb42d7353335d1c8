"""Let the kernel discard the datagrams at a server's port that can be neither hellos nor path
queries, so that a flood of them takes no time of the server.

The filter is a program of classic BPF (linux/filter.h). The kernel runs it for each datagram before
it puts it into the socket's buffer. The offsets of the program count from the UDP header.
"""

from __future__ import annotations

import array
import socket
import struct
from contextlib import suppress

from netmeasure.engine.sockopts import known_bytes
from netmeasure.protocol import COOKIE_BYTES, HELLO, HELLOS, MAX_HELLO_BYTES, PATH_QUERY

# Missing from Python's socket module: asm-generic/socket.h.
_SO_ATTACH_FILTER, _SO_MEMINFO = 26, 55
#: SK_MEMINFO_DROPS of linux/sock_diag.h, the last of the figures.
_MEMINFO = struct.Struct("=9I")
_LOAD_LENGTH, _LOAD_WORD, _LOAD_BYTE, _JUMP_IF_EQUAL, _RETURN = 0x80, 0x20, 0x30, 0x15, 0x06
_UDP_HEADER = 8
_WHOLE, _NOTHING = 0xFFFF, 0


def attach(sock: socket.socket) -> None:
    """Make the kernel discard datagrams that are neither hellos nor path queries. If the kernel has
    no such filters, the server reads and ignores these datagrams."""
    program = _program()
    code = array.array("B", b"".join(program))
    with suppress(OSError):
        filter_at = struct.pack("HP", len(program), code.buffer_info()[0])  # struct sock_fprog
        sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, filter_at)


def discarded(sock: socket.socket) -> int:
    """Return how many datagrams the kernel has discarded, by the filter or because the buffer was
    full, modulo 2^32; 0 if the kernel does not report it."""
    found = known_bytes(sock, socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size) or b""
    return _MEMINFO.unpack(found)[-1] if len(found) == _MEMINFO.size else 0


def _program() -> list[bytes]:
    """Return the instructions, which keep datagrams of four bytes with one of the HELLOS, and
    datagrams of MAX_HELLO_BYTES that begin with HELLO and in which a zero follows the cookie, and
    those that begin with PATH_QUERY. A datagram that is shorter than a loaded word is discarded."""
    hellos = [int.from_bytes(hello, "big") for hello in sorted(HELLOS)]
    first_bytes = _UDP_HEADER
    last_of_cookie = _UDP_HEADER + len(HELLO) + COOKIE_BYTES - 1
    query = [int.from_bytes(part, "big") for part in (PATH_QUERY[:4], PATH_QUERY[4:])]
    before = 12  # the instructions before the comparisons with the hellos
    drop = before + len(hellos)
    keep = drop + 1
    steps = [
        (_LOAD_WORD, 0, 0, first_bytes),
        _branch(1, query[0], 2, 4),
        (_LOAD_WORD, 0, 0, first_bytes + 4),
        _branch(3, query[1], keep, drop),
        (_LOAD_LENGTH, 0, 0, 0),
        _branch(5, _UDP_HEADER + MAX_HELLO_BYTES, 6, 10),
        (_LOAD_BYTE, 0, 0, last_of_cookie),
        _branch(7, 0, 8, drop),
        (_LOAD_WORD, 0, 0, first_bytes),
        _branch(9, int.from_bytes(HELLO, "big"), keep, drop),
        _branch(10, _UDP_HEADER + len(HELLO), 11, drop),
        (_LOAD_WORD, 0, 0, first_bytes),
        *(_branch(before + i, hello, keep, before + i + 1) for i, hello in enumerate(hellos)),
        (_RETURN, 0, 0, _NOTHING),
        (_RETURN, 0, 0, _WHOLE),
    ]
    return [struct.pack("=HBBI", *step) for step in steps]


def _branch(here: int, value: int, equal: int, other: int) -> tuple[int, int, int, int]:
    """Return the instruction that continues at `equal` if the loaded value is `value`, otherwise at
    `other`. Jumps count from the next instruction."""
    return _JUMP_IF_EQUAL, equal - here - 1, other - here - 1, value
