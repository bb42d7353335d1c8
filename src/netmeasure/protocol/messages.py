"""The payloads of the control protocol: wire keys on one side, typed structs on the other.

iperf3's own words (reverse, bidirectional, len, bandwidth) live here and in the iperf3 front-end
only. Reading is strict where iperf3 is silent: a text where a number belongs is an error, not a
default; a boolean that is false is false.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

from netmeasure.errors import RemoteProtocolError
from netmeasure.protocol.reports import check_report
from netmeasure.result import Host, SideReport

T = TypeVar("T")

COOKIE_BYTES = 37
STREAM_TAG_BYTES = 4
#: What `netmeasure probe` says instead of a cookie. Our server answers with its first byte and
#: closes; iperf3 takes it for a client that leaves at once.
PROBE = b"netmeasureprobe".ljust(COOKIE_BYTES - 1, b"a") + b"\0"
COOKIE_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
EXTENSION_VERSION = 1
DEFAULT_LENGTH = 128 * 1024  # what iperf3 takes for a TCP client that sends no `len`


def new_cookie() -> str:
    """36 random characters of iperf3's alphabet; a NUL follows on the wire."""
    return "".join(secrets.choice(COOKIE_ALPHABET) for _ in range(COOKIE_BYTES - 1))


def stream_ids(count: int) -> Iterator[int]:
    """iperf3's numbers of streams in order of creation: 1, 3, 4, 5 ... (2 is skipped)."""
    return (index + 1 if index == 0 else index + 2 for index in range(count))


def stream_tag(stream_id: int) -> bytes:
    """What a netmeasure client sends to a netmeasure server after the cookie of a data connection:
    the stream's number, so that the streams can be opened all at once and still not be mixed up."""
    return stream_id.to_bytes(STREAM_TAG_BYTES, "big")


class Extension(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a netmeasure client adds to its parameters, under the key `netmeasure`.

    Kept small: a 3.21 server refuses parameters above 8192 bytes. Both ends ignore keys they do not
    know, and `version` only changes when old meanings do.
    """

    version: int = EXTENSION_VERSION
    program: str | None = None
    duration_ms: int = 0
    omit_ms: int = 0
    receive_mode: str = "copy"
    target_pps: int | None = None
    offload: bool = False
    spin_us: int = 0


class Announcement(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A netmeasure server's answer, sent after the byte 0x40 to a client that announced itself."""

    version: int = EXTENSION_VERSION
    host: Host = Host()
    concurrent_tests: int | None = None
    #: the server's data are those of a file: its streams may end before their time
    finite: bool = False

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> Announcement:
        return _convert(_known(_object(data, "announcement"), cls), cls, "announcement")


#: Not for a terminal: what goes into JSON only, where control characters are escaped.
_VERBATIM = frozenset(["title", "extra_data", "authtoken", "server_output_json"])
#: Those of ASCII and their 8-bit counterparts (ECMA-48, C0 and C1).
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f]")

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


class Parameters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The client's parameters, by iperf3's own names. Fields without a default are always sent;
    booleans only as true, since iperf3 takes the presence of the key for a yes."""

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

    def encode(self) -> bytes:
        """JSON as iperf3 writes it: some of its flags are the number 1."""
        members = msgspec.to_builtins(self)
        return msgspec.json.encode(members | dict.fromkeys(members.keys() & _FLAGS_AS_NUMBERS, 1))

    @classmethod
    def decode(cls, data: bytes) -> Parameters:
        """Read a client's parameters; missing keys get iperf3's own defaults."""
        wire = {"omit": 0, "time": 10, "num": 0, "blockcount": 0, "parallel": 1}
        wire |= _known(_object(data, "parameters"), cls)
        return _convert(wire, cls, "parameters")


class PeerStream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One stream in the result exchange. `jitter` and the times are in seconds; -1 retransmits
    stands for "this end can't know"."""

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
    """What each end tells the other at the end; percentages are of one CPU."""

    cpu_util_total: float
    cpu_util_user: float
    cpu_util_system: float
    sender_has_retransmits: int
    congestion_used: str | None = None
    server_output_text: str | None = None
    server_output_json: dict[str, Any] | None = None
    streams: tuple[PeerStream, ...]
    netmeasure: SideReport | None = None

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> PeerResults:
        wire = _known(_object(data, "results"), cls)
        streams = wire.get("streams")
        if not isinstance(streams, list) or not all(isinstance(s, dict) for s in streams):
            raise RemoteProtocolError("the peer's results hold no list of streams")
        wire["streams"] = [_known(stream, PeerStream) for stream in streams]
        results = _convert(wire, cls, "results")
        if results.netmeasure is not None:
            check_report(results.netmeasure)
        return results


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"the peer's {what} are not JSON: {exc}") from None
    if not isinstance(value, dict):
        raise RemoteProtocolError(f"the peer's {what} are not a JSON object")
    return value


def _printable(value: Any, keep: str = "") -> Any:
    """A peer's text without control characters: it is shown on terminals and in logs, line by
    line. `keep` are those that are harmless where it stands."""
    if isinstance(value, str):
        return (
            value
            if value.isprintable()
            else _UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else "\ufffd", value)
        )
    try:
        if isinstance(value, list):
            return [_printable(item) for item in value]
        if isinstance(value, dict):
            return {key: _printable(item) for key, item in value.items()}
    except RecursionError:
        raise RemoteProtocolError("the peer sent lists of lists without an end") from None
    return value


def _known(wire: dict[str, Any], struct: type[msgspec.Struct]) -> dict[str, Any]:
    """The members that `struct` knows, as iperf3 finds them: case does not matter, and the first of
    two that differ in nothing else wins. Numbers above 2**63 are negative ones that 3.12 printed
    unsigned; larger ones are no numbers of anything."""
    names = {name.lower(): name for name in struct.__struct_fields__}
    types = struct.__annotations__
    known: dict[str, Any] = {}
    for key, value in wire.items():
        name = names.get(key.lower())
        if name is None or name in known:
            continue
        if isinstance(value, float) and value.is_integer() and "float" not in str(types[name]):
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool):
            if str(types[name]) == "bool":
                value = value != 0
            elif 2**63 <= value < 2**64:
                value -= 2**64
            if not -(2**63) <= value < 2**63:
                raise RemoteProtocolError(f"the peer sent {key!r} with a number beyond 64 bits")
        if name not in _VERBATIM:
            value = _printable(value, "\n\t" if name == "server_output_text" else "")
        known[name] = value
    return known


def _convert(wire: dict[str, Any], struct: type[T], what: str) -> T:
    try:
        return msgspec.convert(wire, struct)
    except (msgspec.ValidationError, RecursionError, OverflowError) as exc:
        raise RemoteProtocolError(f"the peer's {what} are not valid: {exc}") from None


class ServerErrorCode(msgspec.Struct, frozen=True):
    """A SERVER_ERROR: iperf3's error number, and an errno where the server sent one."""

    code: int | None
    errno: int | None


_ERROR_TEXTS = {
    5: "test duration out of range",
    6: "number of streams out of range",
    7: "block size out of range",
    8: "socket buffer size out of range",
    10: "MSS out of range",
    12: "omit time out of range",
    13: "this kind of test is not supported by the server",
    15: "burst count out of range",
    20: "UDP block size out of range",
    21: "type of service out of range",
    27: "the requested bitrate is above the server's limit",
    37: "the requested duration is above the server's limit",
    106: "the server could not read the cookie",
    114: "the server could not read the parameters",
    117: "the server could not read the results",
    122: "the server could not set TCP_NODELAY",
    123: "the server could not set the MSS",
    124: "the server could not set the socket buffers",
    127: "IPv6 flow label out of range",
    130: "the server could not set the window",
    132: "CPU affinity out of range",
    134: "the server could not set the congestion control",
    140: "the server could not set the pacing rate",
    141: "the server could not have socket buffers of that size",
    142: "authorization failed",
    144: "the server received no data for too long",
    160: "the test took longer than the server allows",
    205: "the server could not write to a data connection",
    206: "the server could not read from a data connection",
}


def error_text(error: ServerErrorCode) -> str:
    """One phrase for a SERVER_ERROR."""
    if error.code is None:
        return "an error it did not name"
    return _ERROR_TEXTS.get(error.code, f"iperf3 error {error.code}")


_LIMITS: tuple[tuple[str, int, int, int], ...] = (
    ("omit", 0, 600, 12),
    ("time", 0, 86_400, 5),
    ("num", 0, 2**63 - 1, 114),
    ("blockcount", 0, 2**63 - 1, 114),
    ("MSS", 0, 32_767, 10),
    ("parallel", 1, 128, 6),
    ("window", 0, 512 * 1024 * 1024, 8),
    ("bandwidth", 0, 2**63 - 1, 114),
    ("fqrate", 0, 2**63 - 1, 114),
    ("pacing_timer", 0, 2**63 - 1, 114),
    ("burst", 1, 1000, 15),
    ("gso", 0, 1, 114),
    ("gso_dg_size", 0, 2**31, 114),
    ("gso_bf_size", 0, 2**31, 114),
    ("gro", 0, 1, 114),
    ("gro_bf_size", 0, 2**31, 114),
    ("TOS", 0, 255, 21),
    ("flowlabel", 1, 0xFFFFF, 127),
    ("server_affinity", 0, 1024, 132),
)


def check_parameters(parameters: Parameters) -> tuple[int, str] | None:
    """iperf3's error number and a sentence for the first value out of range; None if all are in."""
    for name, low, high, code in _LIMITS:
        value = getattr(parameters, name)
        if value is not None and not low <= value <= high:
            return code, f"parameter {name!r} is {value}; allowed are {low} to {high}"
    low, high, code = (16, 65_507, 20) if parameters.udp else (1, 1024 * 1024, 7)
    length = DEFAULT_LENGTH if parameters.len is None else parameters.len
    if not low <= length <= high:
        return code, f"parameter 'len' is {length}; allowed are {low} to {high}"
    if parameters.blockcount * length >= 2**63:
        return 114, f"parameter 'blockcount' is {parameters.blockcount}: too many bytes"
    if parameters.reverse and parameters.bidirectional:
        return 25, "parameters 'reverse' and 'bidirectional' exclude each other"
    return _check_extension(parameters.netmeasure) if parameters.netmeasure else None


def _check_extension(extension: Extension) -> tuple[int, str] | None:
    for name, high, code in (("duration_ms", 86_400_000, 5), ("omit_ms", 600_000, 12)):
        value = getattr(extension, name)
        if not 0 <= value <= high:
            return code, f"parameter 'netmeasure.{name}' is {value}; allowed are 0 to {high}"
    if extension.target_pps is not None and not 1 <= extension.target_pps <= 10**9:
        return 114, f"parameter 'netmeasure.target_pps' is {extension.target_pps}"
    if extension.receive_mode not in ("copy", "discard"):
        return 114, f"parameter 'netmeasure.receive_mode' is {extension.receive_mode!r}"
    return None
