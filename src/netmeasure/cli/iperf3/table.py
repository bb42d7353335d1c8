"""List iperf3's options: the parser and the usage text are made from this table.

A test compares the migration guide with it. The order is that of iperf3's own list, since getopt
names options in that order where a word is ambiguous.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from netmeasure.cli.iperf3 import values
from netmeasure.cli.iperf3.getopt import Argument

Role = Literal["client", "server", "both"]


class Option(NamedTuple):
    """Describe one option.

    Attributes:
        longs: Its names, the usual one first.
        short: Its letter; "": it has none.
        field: The attribute of CommandLine that keeps its value.
        convert: Converts the word to the value; None: a flag, whose value is True.
        shown: The value in the usage text; with "[" in front it is optional; "": a flag.
        role: The role that takes it; the other one refuses it.
        help: Its line in the usage text.
        newer: Whether iperf3 3.12 does not have it.
    """

    longs: tuple[str, ...]
    short: str
    field: str
    convert: Callable[[Any], object] | None
    shown: str
    role: Role
    help: str
    newer: bool = False

    @property
    def argument(self) -> Argument:
        if not self.shown:
            return "none"
        return "optional" if self.shown.startswith("[") else "required"

    @property
    def name(self) -> str:
        return self.longs[0]


def _option(
    names: str,
    convert: Callable[[Any], object] | None,
    shown: str,
    role: Role,
    text: str,
    *,
    field: str | None = None,
    newer: bool = False,
) -> Option:
    words = names.split()
    short = next((word for word in words if len(word) == 1), "")
    longs = tuple(word for word in words if len(word) > 1)
    return Option(
        longs, short, field or longs[0].replace("-", "_"), convert, shown, role, text, newer
    )


OPTIONS: tuple[Option, ...] = (
    _option("port p", values.port, "PORT", "both", "the server's port, default 5201"),
    _option(
        "format f",
        values.report_format,
        "k|m|g|t|K|M|G|T",
        "both",
        "unit of bitrates: bits by 1000 or, in capitals, bytes by 1024",
    ),
    _option(
        "interval i",
        values.interval,
        "SECONDS",
        "both",
        "between reports, default 1; 0: none on the way",
    ),
    _option("daemon D", None, "", "server", "go on in the background"),
    _option("one-off 1", None, "", "server", "end after one test"),
    _option("verbose V", None, "", "both", "say more"),
    _option("json J", None, "", "both", "one JSON document for each test"),
    _option("json-stream", None, "", "both", "a line of JSON for each event", newer=True),
    _option(
        "json-stream-full-output",
        None,
        "",
        "both",
        "with --json-stream: the whole document at the end, too",
        newer=True,
    ),
    _option("version v", None, "", "both", "say which version this is, and end"),
    _option("server s", None, "", "both", "be the server"),
    _option(
        "client c", values.place, "HOST[%DEVICE]", "both", "be the client of the server on HOST"
    ),
    _option("udp u", None, "", "client", "UDP instead of TCP"),
    _option(
        "bitrate bandwidth b",
        values.bitrate,
        "RATE[/BURST]",
        "client",
        "bit/s of each stream; 0: no limit. Default: 1 Mbit/s with UDP, else no limit."
        " BURST: blocks that are sent together",
    ),
    _option(
        "server-bitrate-limit",
        values.rate_limit,
        "RATE[/SECONDS]",
        "server",
        "end tests that ask for or reach more bit/s, as a mean over SECONDS (default 5)",
    ),
    _option(
        "time t",
        values.duration,
        "SECONDS",
        "client",
        "how long to send, default 10; 0: until interrupted",
    ),
    _option("bytes n", values.u1024, "BYTES", "client", "how much to send, instead of -t"),
    _option("blockcount k", values.u1024, "COUNT", "client", "blocks to send, instead of -t"),
    _option(
        "length l",
        values.u1024,
        "BYTES",
        "client",
        "of a block, default 128K with TCP; with UDP what the path takes",
    ),
    _option("parallel P", values.streams, "COUNT", "client", "streams in each direction"),
    _option("pidfile I", str, "FILE", "both", "write the process number there"),
    _option("reverse R", None, "", "client", "the server sends"),
    _option("bidir", None, "", "client", "both ends send"),
    _option("window w", values.window, "BYTES", "client", "of socket buffers, at both ends"),
    _option("bind B", values.place, "HOST[%DEVICE]", "both", "use this local address"),
    _option("bind-dev", values.text, "DEVICE", "both", "use this interface (SO_BINDTODEVICE)"),
    _option("cport", values.port, "PORT", "both", "first local port of the data streams"),
    _option("set-mss M", values.mss, "BYTES", "client", "TCP's maximum segment size"),
    _option("sctp", None, "", "client", "SCTP instead of TCP: not supported"),
    _option("no-delay N", None, "", "client", "TCP_NODELAY: send small segments at once"),
    _option("nstreams", values.u1024, "COUNT", "client", "of SCTP: not supported"),
    _option("xbind X", values.text, "NAME", "both", "of SCTP: not supported"),
    _option("version4 4", None, "", "both", "IPv4 only", field="ipv4"),
    _option("version6 6", None, "", "both", "IPv6 only", field="ipv6"),
    _option("tos S", values.tos, "OCTET", "client", "type of service, 0 to 255, 0x and 0 allowed"),
    _option(
        "dscp",
        values.dscp,
        "VALUE",
        "client",
        "differentiated services, 0 to 63 or a name such as ef, af21, cs3",
        field="tos",
    ),
    _option("flowlabel L", values.flow_label, "LABEL", "client", "of IPv6, 1 to 0xfffff"),
    _option(
        "linux-congestion congestion C",
        values.text,
        "NAME",
        "client",
        "TCP's congestion control",
        field="congestion",
    ),
    _option("zerocopy Z", None, "", "client", "send with sendfile"),
    _option("omit O", values.omit, "SECONDS", "client", "run these in addition, count them not"),
    _option("file F", str, "FILE", "both", "send this file, or write there what arrives"),
    _option("udp-counters-64bit", None, "", "both", "64-bit sequence numbers"),
    _option("repeating-payload", None, "", "client", "digits instead of random bytes"),
    _option(
        "timestamps",
        lambda word: "%c " if word is None else word,
        "[FORMAT]",
        "both",
        "time in front of each line, in strftime's words",
    ),
    _option(
        "server-max-duration",
        values.server_duration,
        "SECONDS",
        "server",
        "refuse tests that last longer",
        newer=True,
    ),
    _option(
        "affinity A",
        values.affinity,
        "CPU[,CPU]",
        "both",
        "run on this CPU, and the server on the other",
    ),
    _option("title T", str, "TEXT", "client", "in front of each line"),
    _option("extra-data", str, "TEXT", "client", "into the JSON of both ends"),
    _option("gsro", None, "", "client", "UDP segmentation and receive offload", newer=True),
    _option(
        "skip-rx-copy", None, "", "client", "the receiver drops data in the kernel", newer=True
    ),
    _option("get-server-output", None, "", "client", "show the server's output, too"),
    _option("forceflush", None, "", "both", "flush each line: always so here"),
    _option("logfile", str, "FILE", "both", "append output and errors to it"),
    _option("no-fq-socket-pacing", None, "", "client", "old word for --fq-rate 0"),
    _option("fq-rate", values.u1000, "RATE", "client", "bit/s that the kernel may send at most"),
    _option("pacing-timer", values.u1024, "MICROSECONDS", "client", "of old servers; we need none"),
    _option("connect-timeout", values.u1024, "MILLISECONDS", "client", "for the first connection"),
    _option(
        "rcv-timeout",
        values.receive_timeout,
        "MILLISECONDS",
        "both",
        "without data when receiving, default 120000",
    ),
    _option(
        "snd-timeout",
        values.send_timeout,
        "MILLISECONDS",
        "both",
        "without acknowledgements (TCP_USER_TIMEOUT)",
    ),
    _option(
        "cntl-ka",
        values.keepalive,
        "[IDLE/INTERVAL/COUNT]",
        "both",
        "TCP keepalive on the control connection",
        newer=True,
    ),
    _option("mptcp m", None, "", "both", "multipath TCP", newer=True),
    _option(
        "idle-timeout",
        values.idle_timeout,
        "SECONDS",
        "server",
        "without a client: begin anew, or end with -1",
    ),
    _option("dont-fragment", None, "", "client", "IPv4's don't-fragment bit, with UDP"),
    _option("debug d", values.debug_level, "[LEVEL]", "both", "accepted; there is nothing to add"),
    _option(
        "username",
        values.text,
        "NAME",
        "client",
        "log in; the password is in IPERF3_PASSWORD or asked for",
    ),
    _option("rsa-public-key-path", str, "FILE", "client", "key of the server, to log in"),
    _option("rsa-private-key-path", str, "FILE", "server", "own key, for clients that log in"),
    _option("authorized-users-path", str, "FILE", "server", "who may log in"),
    _option(
        "time-skew-threshold",
        values.skew_threshold,
        "SECONDS",
        "server",
        "between a client's clock and ours, default 10",
    ),
    _option("use-pkcs1-padding", None, "", "both", "log in as before iperf3 3.17", newer=True),
    _option(
        "netmeasure",
        None,
        "",
        "both",
        "with -J: what we know more, under the key netmeasure",
        newer=True,
    ),
    _option("help h", None, "", "both", "this text"),
)
