"""Define the parsers of bytes from peers and files as fuzz targets.

Each target takes any bytes. Its docstring is its invariant, in one sentence. It returns if the
invariant holds; any exception is a finding. `SEEDS` are inputs to begin with.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from typing import Any

import aioftp
from rich.console import Console

from netmeasure.engine import tcpinfo
from netmeasure.engine.path_answers import PathAnswers
from netmeasure.errors import (
    RefusedTestError,
    RemoteProtocolError,
    ResultFormatError,
    UnsatisfiableRangeError,
)
from netmeasure.origins.ranges import parse_range
from netmeasure.protocol import auth
from netmeasure.protocol.connection import Closed, Connection, NeedData
from netmeasure.protocol.datagrams import make_hello, read_hello
from netmeasure.protocol.messages import Announcement, Parameters, PeerResults
from netmeasure.protocol.path_probes import (
    PathKind,
    PathProbe,
    make_path_query,
    read_path_answer,
    read_path_query,
)
from netmeasure.protocol.ranges import check_parameters
from netmeasure.protocol.states import Side, State
from netmeasure.report.text import print_report
from netmeasure.result import Result
from netmeasure.transfers.ftp_data import passive_port

Target = Callable[[bytes], None]
TARGETS: dict[str, Target] = {}
SEEDS: dict[str, list[bytes]] = {}

_COOKIE = b"3irjk66rzayjbo6jt2wsxjofr3huyxssmkrc\0"
_PARAMETERS = (
    b'{"tcp":true,"omit":0,"server_affinity":1,"time":1,"num":0,"blockcount":0,"MSS":1400,'
    b'"nodelay":true,"parallel":3,"reverse":true,"window":262144,"len":100,"bandwidth":8000,'
    b'"fqrate":1000000,"pacing_timer":500,"burst":5,"TOS":32,"title":"ttl","extra_data":"xx",'
    b'"congestion":"cubic","get_server_output":1,"repeating_payload":1,"zerocopy":1,'
    b'"client_version":"3.21+","netmeasure":{"version":1,"duration_ms":5,"receive_mode":"copy"}}'
)
_RESULTS = (
    b'{"cpu_util_total":0.22,"cpu_util_user":0,"cpu_util_system":0.2,"sender_has_retransmits":-1,'
    b'"congestion_used":"bbr","streams":[{"id":1,"bytes":1000,"retransmits":-1,"jitter":2.8e-05,'
    b'"errors":0,"omitted_errors":0,"packets":10,"omitted_packets":0,"start_time":0,'
    b'"end_time":1.001316}],"netmeasure":{"streams":[{"id":1,"role":"receiver","bytes":1000,'
    b'"series":{"origin_ns":5,"width_ns":1000000,"bytes":[500,500]}}]}}'
)
_ANNOUNCEMENT = b'{"version":1,"host":{"name":"h","program":"netmeasure 1"},"finite":true}'


def target(*seeds: bytes) -> Callable[[Target], Target]:
    """Return a decorator that adds a target with its seeds."""

    def add(function: Target) -> Target:
        TARGETS[function.__name__] = function
        SEEDS[function.__name__] = list(seeds)
        return function

    return add


def _framed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


# ---- the control protocol ------------------------------------------------------------------------

_SIDES = tuple(Side)
_STATES = tuple(State)


def _answers(side: Side, state: State, pieces: list[bytes], eof: bool) -> list[object]:
    """Return how an end reacts to these pieces: its messages, and finally a refusal if there is
    one."""
    end = Connection(side)
    end.state = state
    said: list[object] = []
    try:
        for piece in [*pieces, *([b""] if eof else [])]:
            end.receive_data(piece)
            while not isinstance(message := end.next_message(), NeedData | Closed):
                said.append(message)
        said.append(end.trailing_data)
    except RemoteProtocolError:
        said.append(RemoteProtocolError)
    return said


def _said(to: Side, state: State, body: bytes) -> bytes:
    """Return the input by which an end in a state receives a body in pieces of 8 bytes."""
    return bytes([_SIDES.index(to), _STATES.index(state), 0, 7]) + body


@target(
    _said(Side.SERVER, State.START, _COOKIE),
    _said(Side.SERVER, State.ASKED, _framed(_PARAMETERS)),
    _said(Side.SERVER, State.EXCHANGING, _framed(_RESULTS)),
    _said(Side.CLIENT, State.ANSWERING, _framed(_RESULTS)),
    _said(Side.CLIENT, State.OFFERED, b"\x40" + _framed(_ANNOUNCEMENT)),
    _said(Side.CLIENT, State.OFFERED, b"\xfe\0\0\0\x79\0\0\0\0"),
)
def control_connection(data: bytes) -> None:
    """Whatever a peer sends in whatever state, an end answers or refuses by RemoteProtocolError, in
    the same way however the bytes are cut into pieces."""
    if len(data) < 4:
        return
    side, state = _SIDES[data[0] % len(_SIDES)], _STATES[data[1] % len(_STATES)]
    eof, cut, body = bool(data[2] & 1), data[3], data[4:]
    whole = _answers(side, state, [body] if body else [], eof)
    step = cut % 16 + 1
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    if len(body) <= 4096:
        assert _answers(side, state, pieces, eof) == whole


@target(_PARAMETERS)
def parameters(data: bytes) -> None:
    """A client's parameters are refused by RemoteProtocolError, or their ranges can be checked, and
    they are the same after they were written and read again."""
    try:
        read = Parameters.decode(data)
    except RemoteProtocolError:
        return
    check_parameters(read)
    assert Parameters.decode(read.encode()) == read


@target(_RESULTS)
def results(data: bytes) -> None:
    """A peer's results are refused by RemoteProtocolError, or are the same after they were written
    and read again."""
    try:
        read = PeerResults.decode(data)
    except RemoteProtocolError:
        return
    assert PeerResults.decode(read.encode()) == read


@target(_ANNOUNCEMENT)
def announcement(data: bytes) -> None:
    """A server's announcement is refused by RemoteProtocolError, or is the same after it was
    written and read again."""
    try:
        read = Announcement.decode(data)
    except RemoteProtocolError:
        return
    assert Announcement.decode(read.encode()) == read


@target(b"9876", b"6789", b"\x15\xcd\x5b\x07", b"9876" + _COOKIE + b"\0\0\0\1")
def hello(data: bytes) -> None:
    """A datagram is not a hello, or is a hello that we would write in the same way."""
    read = read_hello(data)
    if read is None or read.cookie is None:
        assert read is None or len(data) == 4
        return
    assert read.number is not None
    assert make_hello(read.cookie, read.number, extended=True) == data


_PATH_QUERY = make_path_query(PathProbe(PathKind.DOWNLOAD, 7, 1000, b"0123456789abcdef"))


@target(_PATH_QUERY, _PATH_QUERY + b"0" * 100, b"nm-patha" + _PATH_QUERY[8:])
def path_query(data: bytes) -> None:
    """A datagram is not a path query, or begins as we would write it, and is then no answer."""
    read = read_path_query(data)
    if read is not None:
        assert data.startswith(make_path_query(read))
        assert read_path_answer(data) is None


@target(_PATH_QUERY, b"nm-patha" + _PATH_QUERY[8:])
def path_answers(data: bytes) -> None:
    """Without its sender's token, no datagram has an answer that is longer than it or a query."""
    sent: list[bytes] = []
    PathAnswers(lambda _: True).answer(data, len(data), ("192.0.2.1", 5), sent.append)
    assert all(len(one) <= len(data) and read_path_query(one) is None for one in sent)


# ---- authentication ------------------------------------------------------------------------------


@target(b"user: mario\npwd:  rossi\nts:   1700000000")
def token(data: bytes) -> None:
    """The content of a token is refused by RefusedTestError, or gives a user, a password and a
    time."""
    try:
        user, password, unix_s = auth._parse(data)
    except RefusedTestError:
        return
    assert user
    assert password
    assert 0 <= unix_s < 10**15
    assert len(auth.password_hash(user, password)) == 64


@target(b"mario,0123abcd\n#luigi,xx\nno comma\n,y\n")
def users_file(data: bytes) -> None:
    """A users file gives hashes by user names that are not empty and have no comma."""
    users = auth.read_users(data.decode("utf-8", "replace"))
    assert all(user and "," not in user for user in users)


# ---- the kernel's record -------------------------------------------------------------------------


@target(bytes(range(256)), bytes(136), b"\xff" * 232)
def tcp_info(data: bytes) -> None:
    """Records of any length give columns as long as the list of their moments, and None for fields
    beyond the end of a record."""
    half = len(data) // 2
    for samples in ([(5, data)], [(5, data[:half]), (7, data[half:])]):
        decoded = tcpinfo.decode(samples, 3)
        if decoded is None:
            assert not any(raw for _, raw in samples)
            continue
        for name in decoded.__struct_fields__:
            column = getattr(decoded, name)
            assert column is None or len(column) == len(decoded.at_ns)
    for name, (offset, _) in tcpinfo._FIELDS.items():
        assert (tcpinfo.field(data, name) is None) or offset < len(data)
    tcpinfo.state(data)


# ---- HTTP and FTP --------------------------------------------------------------------------------


@target(b"100 bytes=0-9", b"5 bytes=-3", b"7 bytes=9-")
def http_range(data: bytes) -> None:
    """A Range header selects the whole file, or a part within the file, or is refused by
    UnsatisfiableRangeError."""
    text = data.decode("latin-1")
    size, _, header = text.partition(" ")
    length = int(size) if size.isascii() and size.isdigit() and len(size) < 19 else len(data)
    try:
        found = parse_range(header, length)
    except UnsatisfiableRangeError:
        return
    if found is not None:
        offset, count = found
        assert offset >= 0
        assert 0 < count <= length - offset


class _Lines:
    """Act as a control connection whose peer has sent these lines and closed."""

    def __init__(self, data: bytes) -> None:
        self._lines = data.splitlines(keepends=True)

    async def readline(self) -> bytes:
        return self._lines.pop(0) if self._lines else b""

    def close(self) -> None:
        self._lines.clear()


class _Client(aioftp.Client):
    """Run aioftp's client on lines instead of a connection."""

    stream: Any = None


#: Exceptions that a step of an FTP transfer turns into an error of ours.
_CAUGHT = (aioftp.StatusCodeError, ConnectionError, ValueError, IndexError, UnicodeError)


@target(
    b"229 Extended (|||40000|)\r\n",
    b"227 Passive (127,0,0,1,156,64)\r\n",
    b"213 1048576\r\n",
    b"220-hello\r\n220 ready\r\n",
)
def ftp_reply(data: bytes) -> None:
    """A server's reply is a code with text, a port or a size, or raises an exception that a step of
    a transfer turns into an error with the state's name."""
    client = _Client()
    client.stream = _Lines(data)
    reading = client.parse_response()
    try:
        reading.send(None)
        raise AssertionError("nothing here waits")
    except StopIteration as exc:
        _, lines = exc.value
    except _CAUGHT:
        return
    steps: tuple[Callable[[str], Any], ...] = (
        lambda line: passive_port(client.parse_epsv_response(line)),
        lambda line: passive_port(client.parse_pasv_response(line)),
        lambda line: int(line.strip()),
    )
    for step in steps:
        try:
            assert isinstance(step(lines[-1]), int)
        except _CAUGHT:
            pass


# ---- result files --------------------------------------------------------------------------------


def _measured() -> bytes:
    """Return the file of a short test over loopback."""
    import netmeasure as nm

    async def measure() -> Result:
        async with nm.serve("127.0.0.1", port=0) as server:
            spec = nm.TcpSpec(timing=nm.Timing(total_bytes=100_000))
            return await nm.measure(server.address, spec)

    return json.dumps(json.loads(asyncio.run(measure()).to_json())).encode()


@target(b'{"schema_version":1}')
def result_file(data: bytes) -> None:
    """A result file is refused by ResultFormatError, or it is the same after it was written and
    read again, and its report can be printed or is refused by ResultFormatError."""
    try:
        result = Result.from_json(data)
    except ResultFormatError:
        return
    assert Result.from_json(result.to_json()) == result
    try:
        print_report(result, Console(file=io.StringIO(), width=100))
    except ResultFormatError:
        pass


def seeds(name: str) -> list[bytes]:
    """Return the inputs to begin with; the result file is measured when it is needed."""
    return SEEDS[name] + ([_measured()] if name == "result_file" else [])
