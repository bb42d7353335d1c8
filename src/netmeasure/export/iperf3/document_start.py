"""Build the member "start" of iperf3's document, event by event."""

from __future__ import annotations

from email.utils import formatdate

from netmeasure.export.iperf3.cjson import Object
from netmeasure.export.iperf3.report import host_port
from netmeasure.export.iperf3.settings import Settings
from netmeasure.observe import Control, Opening
from netmeasure.result import SocketFacts
from netmeasure.spec import PeerSpec, TcpSpec, UdpSpec


def addresses(ends: Control | SocketFacts, *, both: bool = False) -> Object:
    """Return both ends of a data connection, or the remote end of a control connection."""
    local_host, local_port = host_port(ends.local)
    remote_host, remote_port = host_port(ends.remote)
    if not both:
        return {"host": remote_host, "port": remote_port}
    return {
        "local_host": local_host,
        "local_port": local_port,
        "remote_host": remote_host,
        "remote_port": remote_port,
    }


def peer(name: str, host: Object, control: Control, spec: PeerSpec | None, unix_s: float) -> Object:
    """Return the members known when the control connection is open.

    A server learns the rest with the client's parameters; its `spec` is None until then.
    """
    known: Object = {
        "timestamp": {
            "time": formatdate(unix_s, usegmt=True),
            "timesecs": int(unix_s),
            "timemillisecs": int(unix_s * 1000),
        },
        name: host,
        "cookie": control.cookie,
    }
    return known if spec is None else known | _asked_for(control, spec)


def _asked_for(control: Control, spec: PeerSpec) -> Object:
    known: Object = {}
    if isinstance(spec, TcpSpec):
        mss = spec.options.mss_bytes
        known = {"tcp_mss": mss} if mss else {"tcp_mss_default": control.mss_bytes or 0}
    return known | {"target_bitrate": spec.target_bps or 0, "fq_rate": fq_rate(spec)}


def test_start(opening: Opening, settings: Settings) -> Object:
    """Return the members known when all streams are open."""
    spec = opening.spec
    socket = opening.streams[0].socket if opening.streams else SocketFacts()
    timing = spec.timing
    return _asked_for(opening.control, spec) | {
        "sock_bufsize": spec.options.window_bytes or 0,
        "sndbuf_actual": socket.sndbuf_bytes or 0,
        "rcvbuf_actual": socket.rcvbuf_bytes or 0,
        "test_start": {
            "protocol": "UDP" if isinstance(spec, UdpSpec) else "TCP",
            "num_streams": spec.streams,
            "blksize": block_bytes(spec),
            "omit": whole(timing.omit_s),
            "duration": whole(spec.limit_s or 0),
            "bytes": timing.total_bytes or 0,
            "blocks": timing.total_blocks or 0,
            "reverse": int(spec.direction == "download"),
            "tos": tos(spec),
            "target_bitrate": spec.target_bps or 0,
            "bidir": int(spec.direction == "both"),
            "fqrate": fq_rate(spec),
            "interval": whole(settings.interval_s),
            "gso": int(offload(spec)),
            "gro": int(offload(spec)),
        },
    }


def whole(value: float) -> int | float:
    """Return a number that was typed, not measured, as an integer if it is whole."""
    return int(value) if value == int(value) else value


def block_bytes(spec: PeerSpec) -> int:
    """Return the size of a block or datagram; 0: not known yet."""
    return spec.datagram_bytes or 0 if isinstance(spec, UdpSpec) else spec.block_bytes


def tos(spec: PeerSpec) -> int:
    """Return the type of service; 0: none was asked for."""
    return spec.options.tos or 0


def fq_rate(spec: PeerSpec) -> int:
    """Return the pacing rate in bit/s; 0: none was asked for."""
    return spec.options.pacing_bps or 0


def offload(spec: PeerSpec) -> bool:
    """Return whether the kernel may split and join datagrams."""
    return isinstance(spec, UdpSpec) and spec.offload
