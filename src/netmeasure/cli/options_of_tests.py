"""Define the options of all commands that measure: the test, URLs, the link."""

from __future__ import annotations

import argparse
from typing import get_args

from netmeasure.cli.network import add_packet_options
from netmeasure.cli.values import bitrate, byte_size, count, port_number, seconds, share
from netmeasure.spec import Deadlines, Framing


def add_test_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a test: its end, its rate, its sockets and its deadlines."""
    test = parser.add_argument_group("test")
    _add_kind(test)
    _add_end(test)
    _add_times(test)
    _add_rate(test)
    _add_sending(test)
    _add_round_trips(parser)
    _add_requests(parser)
    _add_sockets(parser)
    add_packet_options(parser)
    _add_deadlines(parser)


def _add_kind(test: argparse._ArgumentGroup) -> None:
    """Add direction, protocol and number of streams."""
    test.add_argument(
        "-d",
        "--direction",
        choices=("upload", "download", "both"),
        help="direction of the data, seen from this end (default: upload; with a URL: download)",
    )
    test.add_argument("-u", "--udp", action="store_true", help="UDP instead of TCP")
    test.add_argument(
        "-P", "--streams", type=count, default=1, metavar="N", help="parallel streams (default 1)"
    )


def _add_end(test: argparse._ArgumentGroup) -> None:
    """Add what ends a test."""
    end = test.add_mutually_exclusive_group()
    end.add_argument(
        "-t",
        "--time",
        type=seconds,
        metavar="S",
        help="duration, such as 10, 500ms, 5m (default 10 s)",
    )
    end.add_argument(
        "-n", "--bytes", type=byte_size, metavar="SIZE", help="end after SIZE bytes per direction"
    )
    end.add_argument("--endless", action="store_true", help="run until interrupted")
    end.add_argument(
        "-k", "--blocks", type=count, metavar="N", help="end after N blocks per direction"
    )
    test.add_argument(
        "--until",
        type=share,
        metavar="SHARE",
        help="end as soon as the steady bitrate is known to +- this share, such as 2%%; -t is then"
        " the longest time (default 60 s)",
    )


def _add_times(test: argparse._ArgumentGroup) -> None:
    """Add the times within a test."""
    test.add_argument(
        "-O",
        "--omit",
        type=seconds,
        default=0.0,
        metavar="S",
        help="warm-up before the test, excluded from its figures (default: none)",
    )
    test.add_argument(
        "-i",
        "--interval",
        type=seconds,
        default=1.0,
        metavar="S",
        help="time between live intervals (default 1 s)",
    )
    test.add_argument(
        "--no-latency",
        action="store_true",
        help="no probe of the latency before the test and under its load (default: probe, with a"
        " netmeasure server)",
    )
    test.add_argument(
        "--baseline",
        type=seconds,
        default=0.0,
        metavar="S",
        help="measure the idle host's CPU load for S before the test, to find the test's share of"
        " the CPU time (default: off)",
    )


def _add_rate(test: argparse._ArgumentGroup) -> None:
    """Add the target rate."""
    rate = test.add_mutually_exclusive_group()
    rate.add_argument(
        "-b",
        "--bitrate",
        type=bitrate,
        metavar="RATE",
        help="target rate per stream; 0: as fast as possible (default: TCP 0, UDP 1 Mbit/s)",
    )
    rate.add_argument(
        "--packet-rate", type=count, metavar="N", help="UDP: target rate per stream in datagrams/s"
    )


def _add_sending(test: argparse._ArgumentGroup) -> None:
    """Add how the traffic threads send and receive."""
    test.add_argument("--burst", type=count, metavar="N", help="UDP: datagrams sent back to back")
    test.add_argument(
        "--spin",
        type=count,
        default=0,
        metavar="US",
        help="UDP: the sender busy-waits for US microseconds before each send (default 0)",
    )
    test.add_argument(
        "--no-offload", action="store_true", help="UDP: no segmentation by the kernel (GSO, GRO)"
    )
    test.add_argument(
        "-l",
        "--block-size",
        type=byte_size,
        metavar="SIZE",
        help="TCP: bytes of one send (default 512 KiB); UDP: payload of a datagram (default: the"
        " most that the path's MTU takes)",
    )
    test.add_argument(
        "--send-mode",
        choices=("copy", "sendfile"),
        default="copy",
        help="TCP: send by copying or by sendfile(2) (default copy)",
    )
    test.add_argument(
        "--receive-mode",
        choices=("copy", "discard"),
        default="copy",
        help="TCP: copy the payload, or let the kernel discard it (default copy)",
    )


def _add_round_trips(parser: argparse.ArgumentParser) -> None:
    """Add the options of requests and responses."""
    trips = parser.add_argument_group(
        "round trips", "with a netmeasure server: each request is timed until its response has come"
    )
    kind = trips.add_mutually_exclusive_group()
    kind.add_argument(
        "--rr",
        action="store_true",
        help="requests and responses on -P connections that stay open, instead of bulk data;"
        " with -u in datagrams; -k N ends after N transactions",
    )
    kind.add_argument(
        "--crr",
        action="store_true",
        help="like --rr, but each transaction opens a new TCP connection and closes it; -P of them"
        " at a time; the time to open it counts as well",
    )
    trips.add_argument(
        "--request-size",
        type=byte_size,
        metavar="SIZE",
        help="length of a request (default 1, with -u 16)",
    )
    trips.add_argument(
        "--response-size",
        type=byte_size,
        metavar="SIZE",
        help="length of a response (default 1, with -u 16)",
    )
    trips.add_argument(
        "--in-flight",
        type=count,
        metavar="N",
        help="requests of each connection that wait for a response at the same time (default 1)",
    )
    trips.add_argument(
        "--transaction-rate",
        type=count,
        metavar="N",
        help="requests per second of each connection, timed from when each was due (default: the"
        " next one leaves when a response has come)",
    )
    trips.add_argument(
        "--lost-after",
        type=seconds,
        metavar="S",
        help="with -u: a request without a response for S is lost (default 1 s)",
    )


def _add_requests(parser: argparse.ArgumentParser) -> None:
    """Add the options of requests by HTTP."""
    requests = parser.add_argument_group(
        "requests", "to an http:// URL: each is timed until its whole response has come"
    )
    requests.add_argument(
        "--requests",
        action="store_true",
        help="the same request again and again on -P connections (up to 10 000), instead of a"
        " transfer; -k N ends after N requests",
    )
    requests.add_argument(
        "--threads",
        type=count,
        metavar="N",
        help="threads that share the connections (default 2)",
    )
    requests.add_argument(
        "--fresh",
        action="store_true",
        help="a new connection for each request; the time to open it counts as well",
    )
    requests.add_argument(
        "--request-rate",
        type=count,
        metavar="N",
        help="requests per second over all connections, timed from when each was due (default: the"
        " next one leaves when a response has come)",
    )
    requests.add_argument(
        "--answer-timeout",
        type=seconds,
        metavar="S",
        help="a request without its whole response after S has failed (default 10 s)",
    )


def _add_sockets(parser: argparse.ArgumentParser) -> None:
    """Add the options of data connections."""
    sock = parser.add_argument_group("data connections")
    sock.add_argument(
        "-C", "--congestion", metavar="NAME", help="TCP: congestion control of both ends"
    )
    sock.add_argument(
        "-M", "--mss", type=byte_size, metavar="BYTES", help="TCP: maximum segment size"
    )
    sock.add_argument(
        "-N", "--no-delay", action="store_true", help="TCP: disable Nagle's algorithm"
    )
    sock.add_argument(
        "-w", "--window", type=byte_size, metavar="SIZE", help="size of the socket buffers"
    )
    sock.add_argument("-B", "--bind", metavar="ADDRESS", help="local address of the connections")
    sock.add_argument(
        "--bind-port", type=port_number, metavar="PORT", help="local port of the first stream"
    )
    add_family(sock)


def add_family(parser: argparse._ActionsContainer, what: str = "only") -> None:
    """Add -4 and -6, whose help is "IPv4 only" and "IPv6 only", or with another word."""
    family = parser.add_mutually_exclusive_group()
    for version in ("4", "6"):
        family.add_argument(
            f"-{version}",
            dest="family",
            action="store_const",
            const=f"ipv{version}",
            default="any",
            help=f"IPv{version} {what}",
        )


def _add_deadlines(parser: argparse.ArgumentParser) -> None:
    """Add the deadlines of a test."""
    defaults = Deadlines()
    wait = parser.add_argument_group("deadlines")
    wait.add_argument(
        "--connect-timeout",
        type=seconds,
        default=defaults.connect_s,
        metavar="S",
        help="time limit of the name look-up, and of the connect (default %(default)g s)",
    )
    wait.add_argument(
        "--queue-timeout",
        type=seconds,
        default=defaults.queue_s,
        metavar="S",
        help="time limit in the queue of a full server, 0 not to wait (default %(default)g s)",
    )
    wait.add_argument(
        "--stall-timeout",
        type=seconds,
        default=defaults.stall_s,
        metavar="S",
        help="end the test with an error when no byte moves for S (default %(default)g s)",
    )


def add_url_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of transfers by URL."""
    url = parser.add_argument_group("transfers by URL")
    url.add_argument(
        "--again",
        action="store_true",
        help="repeat the transfer until -t or -n, each time on a new connection",
    )
    url.add_argument("--keep", action="store_true", help="with --again: reuse the connection")
    url.add_argument("--range", metavar="FIRST-LAST", help="transfer only these bytes of the file")
    url.add_argument(
        "-H",
        "--header",
        action="append",
        default=[],
        metavar="NAME: VALUE",
        help="http: add a request header; may be given several times",
    )
    url.add_argument(
        "--method", metavar="NAME", help="http: request method (default GET, for uploads PUT)"
    )
    url.add_argument("--user", metavar="NAME[:PASSWORD]", help="user and password to log in with")
    url.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="connect to this address instead of looking the name up",
    )
    url.add_argument(
        "--ca-file",
        metavar="FILE",
        help="https, ftps, or --tls: trust the CA certificates in FILE (PEM)",
    )
    url.add_argument(
        "--insecure", action="store_true", help="do not verify the server's certificate"
    )
    url.add_argument("--explicit-tls", action="store_true", help="ftp: use explicit TLS (AUTH TLS)")
    url.add_argument(
        "--passive",
        choices=("auto", "epsv", "pasv"),
        default="auto",
        help="ftp: command for data connections (default auto: the first one accepted)",
    )
    url.add_argument(
        "--proxy", action="store_true", help="http: use the proxy in the environment (http_proxy)"
    )


def add_link_options(parser: argparse.ArgumentParser, why: str) -> None:
    """Add the options about the slowest link; `why` describes their purpose to the user."""
    link = parser.add_argument_group("the slowest link on the way", why)
    link.add_argument("--link-rate", type=bitrate, metavar="RATE", help="bitrate, such as 1G")
    link.add_argument(
        "--link-mtu", type=byte_size, metavar="BYTES", help="MTU: the largest IP packet it carries"
    )
    link.add_argument(
        "--encap",
        metavar="LIST",
        help="encapsulations on this link, the innermost first, such as"
        " vxlan,esp:aes-gcm-16:transport (docs/reference/ceiling.md lists all)",
    )
    link.add_argument(
        "--framing",
        choices=get_args(Framing),
        help="what --link-rate counts: frames with preamble and gap (wire, the default), frames as"
        " tc's tbf counts them (frame), IP packets (ip)",
    )
