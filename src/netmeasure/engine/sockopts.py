"""Set the options of sockets. If the kernel refuses an option, SocketOptionError is raised, with
the value and with iperf3's error number for the client."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress

from netmeasure.errors import SocketOptionError
from netmeasure.protocol import ErrorCode
from netmeasure.spec import SocketOptions

# Missing from Python's socket module: asm-generic/socket.h, linux/in.h, linux/in6.h.
SO_MAX_PACING_RATE = 47
_IP_MTU_DISCOVER, _IPV6_MTU_DISCOVER = 10, 23
_IP_PMTUDISC_DO, _IP_PMTUDISC_PROBE = 2, 3
_IPV6_FLOWLABEL_MGR, _IPV6_FLOWINFO_SEND = 32, 33
_FL_A_GET, _FL_F_CREATE, _FL_S_ANY = 0, 1, 255
#: in6_flowlabel_req: address, label (network order), action, share, flags, expires, linger, pad.
_FLOW_LABEL_REQUEST = struct.Struct("=16s4sBBHHHI")


def _set(
    sock: socket.socket, level: int, option: int, value: int | bytes, what: str, number: ErrorCode
) -> None:
    try:
        sock.setsockopt(level, option, value)
    except OSError as exc:
        reason = os.strerror(exc.errno or 0)
        raise SocketOptionError(
            f"the kernel refuses {what}: {reason}", phase="connect", number=number, reason=reason
        ) from None


def try_set(sock: socket.socket, level: int, option: int, value: int) -> None:
    """Set an option without which a test works, too: sandboxes such as gVisor refuse some."""
    with suppress(OSError):
        sock.setsockopt(level, option, value)


def known(sock: socket.socket, level: int, option: int) -> int | None:
    """Return the value of an option; None: the kernel does not report it."""
    try:
        return sock.getsockopt(level, option)
    except OSError:
        return None


def known_bytes(sock: socket.socket, level: int, option: int, size: int) -> bytes | None:
    """Return the value of an option that is no number; None: the kernel does not report it."""
    try:
        return sock.getsockopt(level, option, size)
    except OSError:
        return None


def set_no_delay(sock: socket.socket, *, asked: bool) -> None:
    """Switch Nagle's algorithm off. Raise SocketOptionError on failure if the user `asked` for
    it."""
    if asked:
        what = "to send small segments at once"
        _set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1, what, ErrorCode.NO_DELAY)
    else:
        try_set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def congestion(sock: socket.socket) -> str | None:
    """Return the name of the congestion control; None: the kernel does not report it."""
    name = known_bytes(sock, socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16)
    return None if name is None else name.split(b"\0")[0].decode()


def pacing_bps(sock: socket.socket) -> int | None:
    """Return the kernel's pacing limit in bit/s; None: there is no limit, or the kernel does not
    report it."""
    rate = int.from_bytes(
        known_bytes(sock, socket.SOL_SOCKET, SO_MAX_PACING_RATE, 8) or b"", "little"
    )
    return None if rate in (0, 2**32 - 1, 2**64 - 1) else rate * 8


def no_delay(sock: socket.socket) -> bool | None:
    """Return whether Nagle's algorithm is off; None: the kernel does not report it."""
    value = known(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    return None if value is None else bool(value)


def set_congestion(sock: socket.socket, name: str) -> None:
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, name.encode())
    except OSError:
        try:
            with open("/proc/sys/net/ipv4/tcp_available_congestion_control") as file:
                hint = f"available here: {file.read().strip()}"
        except OSError:
            hint = None
        raise SocketOptionError(
            f"congestion control {name!r} is not available on this host",
            phase="connect",
            hint=hint,
            number=ErrorCode.CONGESTION,
        ) from None


def set_buffers(sock: socket.socket, size_bytes: int) -> None:
    """Make the send and the receive buffer as large as the kernel allows."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        what = f"a window of {size_bytes} bytes"
        _set(sock, socket.SOL_SOCKET, option, size_bytes, what, ErrorCode.WINDOW)


def set_window(sock: socket.socket, window_bytes: int) -> None:
    """Set the size of both buffers, and raise SocketOptionError if the kernel grants less, which it
    does without an error. The kernel reports twice the granted size, which includes its own
    overhead (socket(7))."""
    set_buffers(sock, window_bytes)
    for option, name in ((socket.SO_SNDBUF, "wmem_max"), (socket.SO_RCVBUF, "rmem_max")):
        granted = known(sock, socket.SOL_SOCKET, option)
        if granted is not None and granted < window_bytes:
            raise SocketOptionError(
                f"a window of {window_bytes} bytes is too large: the kernel grants {granted // 2}",
                phase="connect",
                hint=f"ask for less, or raise net.core.{name}",
                number=ErrorCode.WINDOW_TOO_SMALL,
            )


def set_pacing(sock: socket.socket, rate_bps: int) -> None:
    """Let the kernel pace this sender (SO_MAX_PACING_RATE, tcp(7)). The kernel paces TCP always,
    and datagrams only with the queueing discipline fq."""
    rate = max(1, rate_bps // 8).to_bytes(8, "little")
    what = f"a pacing rate of {rate_bps} bit/s"
    _set(sock, socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate, what, ErrorCode.PACING)


def keep_little_unsent(sock: socket.socket, rate_bps: int) -> None:
    """Limit the unsent data in the buffer to 50 ms of a rate: enough for a thread that wakes up
    late, and little to wait for at the end."""
    unsent = min(max(rate_bps // 8 // 20, 16_384), 2**31 - 1)
    try_set(sock, socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent)


def set_tos(sock: socket.socket, tos: int) -> None:
    """Set the type of service, or the traffic class of IPv6 (ip(7), RFC 3542)."""
    if sock.family == socket.AF_INET6:
        what = f"traffic class {tos}"
        _set(sock, socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos, what, ErrorCode.TRAFFIC_CLASS)
    else:
        _set(sock, socket.IPPROTO_IP, socket.IP_TOS, tos, f"type of service {tos}", ErrorCode.TOS)


def tos(sock: socket.socket) -> int | None:
    """Return the type of service or traffic class; None: the kernel does not report it."""
    try:
        if sock.family == socket.AF_INET6:
            return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS)
        return sock.getsockopt(socket.IPPROTO_IP, socket.IP_TOS)
    except OSError:
        return None


def set_dont_fragment(sock: socket.socket) -> None:
    """Set DF in every packet of an IPv4 socket, so that too large packets cause errors (ip(7))."""
    if sock.family == socket.AF_INET:
        option, what = _IP_MTU_DISCOVER, "don't-fragment"
        _set(sock, socket.IPPROTO_IP, option, _IP_PMTUDISC_DO, what, ErrorCode.DONT_FRAGMENT)


def set_path_probing(sock: socket.socket) -> None:
    """Send every datagram unfragmented, whatever path MTU the kernel knows; those that do not fit
    the interface cause EMSGSIZE (ip(7), IP_PMTUDISC_PROBE)."""
    level, option = socket.IPPROTO_IP, _IP_MTU_DISCOVER
    if sock.family == socket.AF_INET6:
        level, option = socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER
    try_set(sock, level, option, _IP_PMTUDISC_PROBE)


def set_device(sock: socket.socket, name: str) -> None:
    value = name.encode() + b"\0"
    what = f"to bind to interface {name!r}"
    _set(sock, socket.SOL_SOCKET, socket.SO_BINDTODEVICE, value, what, ErrorCode.DEVICE)


def use_flow_label(sock: socket.socket, label: int, there: str) -> None:
    """Lease a flow label for an address, and let connect() take it from its argument (ipv6(7),
    linux/in6.h)."""
    if sock.family != socket.AF_INET6:
        raise SocketOptionError(
            "only IPv6 has flow labels",
            phase="connect",
            hint="give an IPv6 address, or ask for IPv6",
            number=ErrorCode.FLOW_LABEL,
        )
    address = socket.inet_pton(socket.AF_INET6, there.partition("%")[0])
    network_order = label.to_bytes(4, "big")
    request = _FLOW_LABEL_REQUEST.pack(
        address, network_order, _FL_A_GET, _FL_S_ANY, _FL_F_CREATE, 0, 0, 0
    )
    what = f"flow label {label}"
    _set(sock, socket.IPPROTO_IPV6, _IPV6_FLOWLABEL_MGR, request, what, ErrorCode.FLOW_LABEL)
    _set(sock, socket.IPPROTO_IPV6, _IPV6_FLOWINFO_SEND, 1, what, ErrorCode.FLOW_LABEL)


def set_mss(sock: socket.socket, mss_bytes: int) -> None:
    """Limit the segments of both directions, before connect (TCP_MAXSEG, tcp(7))."""
    what = f"an MSS of {mss_bytes} bytes"
    _set(sock, socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss_bytes, what, ErrorCode.MSS)


def set_tcp_options(sock: socket.socket, options: SocketOptions) -> None:
    """Set the options that a client's data connection needs before it connects."""
    if options.mss_bytes is not None:
        set_mss(sock, options.mss_bytes)
    if options.window_bytes is not None:
        set_window(sock, options.window_bytes)
    if options.congestion is not None:
        set_congestion(sock, options.congestion)
    if options.pacing_bps is not None:
        set_pacing(sock, options.pacing_bps)
    if options.tos:
        set_tos(sock, options.tos)


def watch_peer(sock: socket.socket, give_up_s: float) -> None:
    """Detect a peer that is gone without a FIN or RST: by keepalive while idle, by TCP_USER_TIMEOUT
    while data wait for acknowledgement (tcp(7)). The connection fails after about `give_up_s`."""
    probes = 3
    step = max(1, round(give_up_s / (probes + 1)))
    with suppress(SocketOptionError):
        set_keepalive(sock, (step, step, probes))
    # MPTCP lacks this option and relies on keepalive
    try_set(sock, socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(give_up_s * 1000))


def set_keepalive(sock: socket.socket, keepalive: tuple[int, int, int]) -> None:
    """Set TCP keepalive: (idle s, interval s, probes). Raise SocketOptionError if the kernel
    refuses it."""
    idle_s, interval_s, probes = keepalive
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes),
    ):
        _set(sock, level, option, value, "TCP keepalive", ErrorCode.NOT_SUPPORTED)
