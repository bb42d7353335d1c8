"""Define the payloads of the control protocol, as typed structures with conversions from and to
JSON.

iperf3's names (reverse, bidirectional, len, bandwidth) occur only in `protocol`, in `peer`, and in
what imitates or reads iperf3.
Reading is stricter than iperf3's: a text instead of a number is an error, not a default; a boolean
that is false is false.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from netmeasure.protocol.decoding import Members, read, read_list, read_object
from netmeasure.protocol.error_codes import ErrorCode
from netmeasure.protocol.reports import check_object_count, check_report
from netmeasure.result import Host, SideReport

COOKIE_BYTES = 37
STREAM_TAG_BYTES = 4
#: The number of the UDP stream that probes the latency beside a test; those of data begin with 1.
PROBE_NUMBER = 0
#: The name, among a server's kinds of test, which means that the server answers such a probe.
LATENCY = "latency"
#: Among the same kinds: the server stamps its answers to a client that asks for it, so that the two
#: directions are told apart.
STAMPS = "stamps"
#: The names of round trips by transport, among the kinds of test that a server announces.
ROUND_TRIPS = {"tcp": "rr", "udp": "udp_rr"}
#: The name of round trips on fresh connections, among the kinds of test that a server announces.
FRESH_ROUND_TRIPS = "crr"
#: The length of the token with which requests on fresh connections begin if they are long enough.
FRESH_TOKEN_BYTES = 16
#: The message of `netmeasure probe` instead of a cookie. A netmeasure server answers with its first
#: byte and closes the connection; to iperf3 it looks like a client that leaves at once.
_PROBE = b"netmeasureprobe"
PROBE = _PROBE.ljust(COOKIE_BYTES - 1, b"a") + b"\0"
_SIZE_DIGITS = 5
#: The longest answer that a probe may request: one jumbo frame.
MAX_PROBE_ANSWER = 9216
COOKIE_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
EXTENSION_VERSION = 1
DEFAULT_LENGTH = 128 * 1024  # iperf3's default for a TCP client that sends no `len`


#: The start of the cookie of a client that can wait in a queue. A full server must know this before
#: it requests the parameters; it refuses other clients at once. 130 bits remain random.
_CAN_WAIT = "netmeasure"


def new_cookie(*, waits: bool = False) -> str:
    """Return 36 random characters of iperf3's alphabet; the start is fixed if the client can wait
    in a queue. A NUL follows on the wire."""
    begin = _CAN_WAIT if waits else ""
    count = COOKIE_BYTES - 1 - len(begin)
    return begin + "".join(COOKIE_ALPHABET[byte % 32] for byte in os.urandom(count))


def can_wait(cookie: str) -> bool:
    """Return whether the client with this cookie can wait in the queue of a full server."""
    return cookie.startswith(_CAN_WAIT)


def test_name(cookie: str) -> str:
    """Return the name of a test in logs: a part of its cookie that identifies the test but does not
    suffice to open a data connection of it."""
    return cookie.removeprefix(_CAN_WAIT)[:8]


def make_probe(answer_bytes: int) -> bytes:
    """Return the probe that requests an answer of a given length, 1 to MAX_PROBE_ANSWER bytes."""
    if answer_bytes == 1:
        return PROBE
    sized = _PROBE + b"%0*d" % (_SIZE_DIGITS, answer_bytes)
    return sized.ljust(COOKIE_BYTES - 1, b"a") + b"\0"


def probe_answer_bytes(hello: bytes) -> int | None:
    """Return the length of the answer that a probe requests; None: it is no probe."""
    if hello == PROBE:
        return 1
    digits = hello[len(_PROBE) : len(_PROBE) + _SIZE_DIGITS]
    if not hello.startswith(_PROBE) or not digits.isdigit():
        return None
    size = int(digits)
    return size if 1 < size <= MAX_PROBE_ANSWER and hello == make_probe(size) else None


def stream_ids(count: int) -> Iterator[int]:
    """Return iperf3's numbers of streams in order of creation: 1, 3, 4, 5 ... (2 is skipped)."""
    return (index + 1 if index == 0 else index + 2 for index in range(count))


def stream_tag(stream_id: int) -> bytes:
    """Return the bytes after the cookie on a data connection between two netmeasure ends: the
    stream's number, so that all streams can be opened concurrently."""
    return stream_id.to_bytes(STREAM_TAG_BYTES, "big")


class AskedRoundTrips(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the part of a client's parameters that requests round trips instead of bulk data: the
    client sends requests of `Parameters.len` bytes, and the server answers each."""

    response_bytes: int
    in_flight: int = 1
    per_s: int | None = None
    lost_after_ms: int = 1000
    #: each transaction opens a TCP connection of its own, to the port in `Announcement.fresh`
    fresh: bool = False


class FreshPort(msgspec.Struct, frozen=True, kw_only=True):
    """Hold where a server accepts the connections of one test of round trips on fresh connections:
    the port, at the address of the control connection, and the token, in hexadecimal, with which
    requests begin if they are long enough."""

    port: int
    token: str


class Extension(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold what a netmeasure client adds to its parameters, under the key `netmeasure`.

    The parameters are kept small: a 3.21 server refuses more than 8192 bytes. Both ends ignore
    unknown keys, and `version` changes only if the meaning of an old key changes.
    """

    version: int = EXTENSION_VERSION
    program: str | None = None
    duration_ms: int = 0
    omit_ms: int = 0
    receive_mode: str = "copy"
    target_pps: int | None = None
    offload: bool = False
    spin_us: int = 0
    #: the client understands QUEUED
    waits: bool = False
    #: no other test may run beside this one
    exclusive: bool = False
    #: the client knows a secret, and can answer a challenge (`secret`)
    secret: bool = False
    #: the client opens a probe of the latency beside the streams (PROBE_NUMBER)
    latency: bool = False
    #: the answers of that probe are to tell when they left
    stamps: bool = False
    #: a test of round trips; a server without "rr" among its `kinds` treats it as bulk data
    round_trips: AskedRoundTrips | None = None


class QueuePlace(msgspec.Struct, frozen=True):
    """Hold a waiting client's place in the queue of a full server; 1 is next."""

    position: int


class Challenge(msgspec.Struct, frozen=True):
    """Hold the random bytes that a server chooses for a client that must prove its secret."""

    nonce: bytes


class Proof(msgspec.Struct, frozen=True):
    """Hold a client's answer to a challenge (`secret.proof`)."""

    mac: bytes


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold a netmeasure server's answer, sent after the byte 0x40 to a client that announced
    itself."""

    version: int = EXTENSION_VERSION
    host: Host = Host()
    concurrent_tests: int | None = None
    #: the server sends a file, so its streams may end before their time
    finite: bool = False
    #: the server's own proof that it knows the secret, in hexadecimal
    proof: str | None = None
    #: the kinds of test that the server supports in addition to TCP and UDP, LATENCY and
    #: STAMPS
    kinds: tuple[str, ...] = ()
    #: where fresh connections are accepted, if the client asked for them
    fresh: FreshPort | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Announcement:
        return read_object(data, cls, "announcement")


#: Flags that iperf3 writes as the number 1.
_FLAGS_AS_NUMBERS = frozenset(
    {
        "get_server_output",
        "udp_counters_64bit",
        "repeating_payload",
        "zerocopy",
        "dont_fragment",
        "skip_rx_copy",
    }
)


#: iperf3's defaults of parameters that a client does not send.
_DEFAULTS = {"omit": 0, "time": 10, "num": 0, "blockcount": 0, "parallel": 1}


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold the client's parameters, by iperf3's own names. Fields without a default are always
    sent; booleans only if true, since iperf3 reads any value of the key as true."""

    tcp: bool = False
    udp: bool = False
    sctp: bool = False
    omit: int
    server_affinity: int | None = None
    time: int
    num: int
    blockcount: int
    MSS: int | None = None
    nodelay: bool = False
    parallel: int
    reverse: bool = False
    bidirectional: bool = False
    mptcp: bool = False
    window: int | None = None
    len: int | None = None
    bandwidth: int | None = None
    fqrate: int | None = None
    pacing_timer: int | None = None
    burst: int | None = None
    gso: int | None = None
    gso_dg_size: int | None = None
    gso_bf_size: int | None = None
    gro: int | None = None
    gro_bf_size: int | None = None
    TOS: int | None = None
    flowlabel: int | None = None
    title: str | None = None
    extra_data: str | None = None
    congestion: str | None = None
    get_server_output: bool = False
    udp_counters_64bit: bool = False
    repeating_payload: bool = False
    zerocopy: bool = False
    dont_fragment: bool = False
    authtoken: str | None = None
    skip_rx_copy: bool = False
    client_version: str | None = None
    netmeasure: Extension | None = None

    @property
    def streams(self) -> int:
        """Return the number of data streams, in both directions together."""
        return self.parallel * (2 if self.bidirectional else 1)

    def encode(self) -> bytes:
        """Return JSON in iperf3's form, in which some flags are the number 1."""
        members = msgspec.to_builtins(self)
        members |= dict.fromkeys(members.keys() & _FLAGS_AS_NUMBERS, 1)
        try:
            return msgspec.json.encode(members)
        except UnicodeEncodeError:  # a title that is not UTF-8 is sent as its bytes, as in iperf3
            import json

            text = json.dumps(members, ensure_ascii=False, separators=(",", ":"))
            return text.encode("utf-8", "surrogateescape")

    @classmethod
    def decode(cls, data: bytes) -> Parameters:
        """Return a client's parameters from JSON. Missing keys get iperf3's own defaults."""
        members = Members(data, cls, "parameters")
        missing = {name: value for name, value in _DEFAULTS.items() if name not in members}
        return read(members, cls, "parameters", **missing)


class PeerStream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Describe one stream in the result exchange. `jitter` and the times are in seconds; -1
    retransmits means unknown."""

    id: int
    bytes: int
    retransmits: int
    jitter: float
    errors: int
    omitted_errors: int | None = None
    packets: int
    omitted_packets: int | None = None
    start_time: float | None = None
    end_time: float | None = None


class PeerResults(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold the results that the ends exchange after the test; percentages are of one CPU."""

    cpu_util_total: float
    cpu_util_user: float
    cpu_util_system: float
    sender_has_retransmits: int
    congestion_used: str | None = None
    server_output_text: str | None = None
    #: an object of any size, which is kept as JSON
    server_output_json: msgspec.Raw | None = None
    streams: tuple[PeerStream, ...]
    netmeasure: SideReport | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> PeerResults:
        members = Members(data, cls, "results")
        streams = read_list(
            members.get("streams", b""),
            PeerStream,
            "results",
            "the peer's results hold no list of streams",
        )
        check_object_count(members.get("netmeasure", b""))
        results = read(members, cls, "results", streams=streams)
        if results.netmeasure is not None:
            check_report(results.netmeasure)
        return results


#: The largest size of a test's results: for its first stream, for each further one, and for any
#: number of streams. A stream's time series, kernel figures and CPU times are columns of bounded
#: length.
_FIRST_STREAM_BYTES = 512 * 1024
_NEXT_STREAM_BYTES = 64 * 1024
MAX_RESULTS_BYTES = 4 * 2**20


def results_limit_bytes(streams: int) -> int:
    """Return the largest size of the results that an end sends after a test with a number of
    streams."""
    wanted = _FIRST_STREAM_BYTES + _NEXT_STREAM_BYTES * max(0, streams - 1)
    return min(wanted, MAX_RESULTS_BYTES)


#: From this number on, errors are netmeasure's own.
_OWN_ERRORS = 1000


class ServerError(msgspec.Struct, frozen=True):
    """Hold a SERVER_ERROR: iperf3's number of the error, and the server's errno if it sent one."""

    code: int | None
    errno: int | None


def error_text(error: ServerError) -> str:
    """Return one phrase for a SERVER_ERROR. iperf3's errno is not in it, since iperf3 sends any
    that is left over from an earlier system call."""
    if error.code is None:
        return "an error it did not name"
    known = ErrorCode.of(error.code)
    text = known.description if known is not None else f"iperf3 error {error.code}"
    return (
        f"{text}: {os.strerror(error.errno)}" if error.errno and error.code > _OWN_ERRORS else text
    )
