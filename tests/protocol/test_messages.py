"""The payloads: messages of real iperf3 are read correctly, and netmeasure's messages are those
that iperf3 reads."""

from __future__ import annotations

import json
from typing import Any
from unicodedata import category

import msgspec
import pytest
from dialogue import (
    COOKIE,
    FULL_PARAMETERS,
    RESULT_CAPTURES,
    TCP_CLIENT_RESULTS,
    TCP_PARAMETERS,
    TCP_SERVER_RESULTS,
    UDP_PARAMETERS,
    UDP_SERVER_RESULTS,
    as_3_12,
)
from hypothesis import given, strategies as st

from netmeasure.errors import RemoteProtocolError
from netmeasure.protocol import (
    COOKIE_BYTES,
    MAX_PROBE_ANSWER,
    Announcement,
    Extension,
    Parameters,
    PeerResults,
    PeerStream,
    ServerError,
    can_wait,
    check_parameters,
    error_text,
    make_probe,
    new_cookie,
    probe_answer_bytes,
    stream_ids,
)
from netmeasure.result import SideReport, StreamReport
from support.optional import known

MINIMAL = Parameters(omit=0, time=10, num=0, blockcount=0, parallel=1)
STREAM = {"id": 1, "bytes": 5, "retransmits": 0, "jitter": 0, "errors": 0, "packets": 0}
RESULTS = {
    "cpu_util_total": 1,
    "cpu_util_user": 1,
    "cpu_util_system": 0,
    "sender_has_retransmits": -1,
    "streams": [STREAM],
}


def parameters(**changes: Any) -> Parameters:
    return msgspec.structs.replace(MINIMAL, **changes)


def decode_parameters(**members: Any) -> Parameters:
    return Parameters.decode(json.dumps(members).encode())


def decode_results(stream: dict[str, Any] | None = None, **members: Any) -> PeerResults:
    streams = {"streams": [STREAM | (stream or {})]}
    return PeerResults.decode(json.dumps(RESULTS | streams | members).encode())


# ---- captures -----------------------------------------------------------------------------------


def test_the_captures_are_whole() -> None:
    assert [len(c) for c in (TCP_PARAMETERS, UDP_PARAMETERS, FULL_PARAMETERS)] == [138, 137, 377]


def test_tcp_parameters() -> None:
    assert Parameters.decode(TCP_PARAMETERS) == Parameters(
        tcp=True,
        omit=0,
        time=2,
        num=0,
        blockcount=0,
        parallel=1,
        len=100,
        bandwidth=8000,
        pacing_timer=1000,
        client_version="3.21+",
    )


def test_udp_parameters() -> None:
    assert Parameters.decode(UDP_PARAMETERS) == Parameters(
        udp=True,
        omit=0,
        time=1,
        num=0,
        blockcount=0,
        parallel=1,
        len=100,
        bandwidth=8000,
        pacing_timer=1000,
        client_version="3.12",
    )


def test_udp_parameters_with_offload() -> None:
    offload = b'"gso":0,"gso_dg_size":0,"gso_bf_size":65507,"gro":0,"gro_bf_size":65507,'
    wire = UDP_PARAMETERS.replace(b'"client_version"', offload + b'"client_version"')
    asked = Parameters.decode(wire)
    assert (asked.gso, asked.gso_dg_size, asked.gso_bf_size) == (0, 0, 65507)
    assert (asked.gro, asked.gro_bf_size) == (0, 65507)
    assert check_parameters(asked) is None
    assert Parameters.decode(asked.encode()) == asked


def test_full_parameters() -> None:
    assert Parameters.decode(FULL_PARAMETERS) == Parameters(
        tcp=True,
        omit=0,
        server_affinity=1,
        time=1,
        num=0,
        blockcount=0,
        MSS=1400,
        nodelay=True,
        parallel=3,
        reverse=True,
        window=262_144,
        len=100,
        bandwidth=8000,
        fqrate=1_000_000,
        pacing_timer=500,
        burst=5,
        TOS=32,
        title="ttl",
        extra_data="xx",
        congestion="cubic",
        get_server_output=True,
        repeating_payload=True,
        zerocopy=True,
        skip_rx_copy=True,
        client_version="3.21+",
    )


def test_tcp_client_results() -> None:
    assert PeerResults.decode(TCP_CLIENT_RESULTS) == PeerResults(
        cpu_util_total=0.22258437729370636,
        cpu_util_user=0.22273366259034869,
        cpu_util_system=0.0,
        sender_has_retransmits=1,
        congestion_used="bbr",
        streams=(
            PeerStream(
                id=1,
                bytes=2100,
                retransmits=0,
                jitter=0.0,
                errors=0,
                omitted_errors=0,
                packets=0,
                omitted_packets=0,
                start_time=0.0,
                end_time=2.006051,
            ),
        ),
    )


def test_server_results() -> None:
    results = PeerResults.decode(TCP_SERVER_RESULTS)
    assert results.sender_has_retransmits == results.streams[0].retransmits == -1
    results = PeerResults.decode(UDP_SERVER_RESULTS)
    assert results.congestion_used is None
    assert results.streams[0].jitter == 2.8436881603687653e-05
    assert results.streams[0].packets == 10


@pytest.mark.parametrize("capture", RESULT_CAPTURES)
def test_results_of_3_12(capture: bytes) -> None:
    new, old = PeerResults.decode(capture), PeerResults.decode(as_3_12(capture))
    assert old.streams[0].omitted_errors is old.streams[0].omitted_packets is None
    streams = [
        msgspec.structs.replace(stream, omitted_errors=0, omitted_packets=0)
        for stream in old.streams
    ]
    assert msgspec.structs.replace(old, streams=tuple(streams)) == new


# ---- reading ------------------------------------------------------------------------------------


def test_missing_keys_get_iperf3_defaults() -> None:
    read = Parameters.decode(b"{}")
    assert (read.omit, read.time, read.num, read.blockcount, read.parallel) == (0, 10, 0, 0, 1)
    assert read == MINIMAL
    read = decode_parameters(tcp=True, parallel=1, len=1000, time=1)
    assert read == parameters(tcp=True, len=1000, time=1)


@pytest.mark.parametrize("key", ["tcp", "udp", "nodelay", "reverse", "bidirectional", "zerocopy"])
@pytest.mark.parametrize(
    ("value", "meaning"), [(False, False), (0, False), (True, True), (1, True), (1.0, True)]
)
def test_booleans_mean_their_value(key: str, value: object, meaning: bool) -> None:
    assert getattr(decode_parameters(**{key: value}), key) is meaning


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time", "2"),
        ("time", None),
        ("time", True),
        ("time", 1.5),
        ("parallel", [1]),
        ("bandwidth", "1G"),
        ("num", {}),
        ("reverse", "true"),
        ("reverse", None),
        ("title", 5),
        ("netmeasure", 1),
        ("netmeasure", {"version": "1"}),
        ("netmeasure", {"duration_ms": 0.5}),
    ],
)
def test_mistyped_parameters(key: str, value: object) -> None:
    with pytest.raises(RemoteProtocolError, match=rf"not valid: .*{key}"):
        decode_parameters(**{key: value})


@pytest.mark.parametrize(
    ("value", "meaning"),
    [
        (2**63 - 1, 2**63 - 1),
        (2**63, -(2**63)),
        (2**64 - 1, -1),
        (-1, -1),
        (3.0, 3),
        (1e6, 1_000_000),
    ],
)
def test_numbers(value: float, meaning: int) -> None:
    assert decode_parameters(num=value).num == meaning
    assert decode_results({"bytes": value}).streams[0].bytes == meaning


@pytest.mark.parametrize("value", [10**19 * 2, 10**30, 1e300])
def test_parameters_beyond_64_bits_are_refused(value: float) -> None:
    with pytest.raises(RemoteProtocolError, match="64 bits"):
        decode_parameters(num=value)


@pytest.mark.parametrize("value", [2**64, 10**30, 1e300, -(2**63) - 1])
def test_results_beyond_64_bits_are_refused(value: float) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_results({"bytes": value})


def test_keys_in_any_case_and_the_first_wins() -> None:
    assert decode_parameters(TIME=3, mss=1400, tos=8, Reverse=True) == parameters(
        time=3, MSS=1400, TOS=8, reverse=True
    )
    assert decode_parameters(Time=3, time=4).time == 3
    assert decode_results({"BYTES": 7, "Id": 3}).streams[0].bytes == 5
    assert Parameters.decode(b'{"tImE":3,"TIME":"x","time":4}').time == 3
    wire = json.dumps(RESULTS).replace("cpu_util_total", "CPU_Util_Total").replace("bytes", "BYTES")
    assert PeerResults.decode(wire.encode()) == decode_results()


def test_unknown_keys_are_ignored() -> None:
    assert decode_parameters(brand_new={"a": [1]}) == MINIMAL
    assert decode_results({"ttl": 64}, brand_new={"start": {}}) == decode_results()
    assert decode_parameters(netmeasure={"version": 2, "later": 1}).netmeasure == Extension(
        version=2
    )


@pytest.mark.parametrize("key", RESULTS)
def test_mandatory_results(key: str) -> None:
    wire = {name: value for name, value in RESULTS.items() if name != key}
    with pytest.raises(RemoteProtocolError, match=key):
        PeerResults.decode(json.dumps(wire).encode())


@pytest.mark.parametrize("key", STREAM)
@pytest.mark.parametrize("value", [..., "1", None, True, [1]])
def test_mandatory_members_of_a_stream(key: str, value: object) -> None:
    stream = {name: value if name == key else old for name, old in STREAM.items()}
    if value is ...:
        del stream[key]
    with pytest.raises(RemoteProtocolError, match=key):
        decode_results(streams=[stream])


@pytest.mark.parametrize("streams", [None, {}, "x", [1], [[]], [STREAM, None]])
def test_streams_that_are_none(streams: object) -> None:
    with pytest.raises(RemoteProtocolError, match="no list of streams"):
        decode_results(streams=streams)


@pytest.mark.parametrize("read", [Parameters.decode, PeerResults.decode])
@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b'{"a":\xff}', b"[" * 9999])
def test_no_json_object(read: Any, text: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="JSON"):
        read(text)


# ---- writing ------------------------------------------------------------------------------------


def test_false_is_never_sent() -> None:
    for sent in (MINIMAL, Parameters.decode(FULL_PARAMETERS), parameters(reverse=False)):
        assert b"false" not in sent.encode()
        assert b"null" not in sent.encode()
    assert json.loads(MINIMAL.encode()) == {
        "omit": 0,
        "time": 10,
        "num": 0,
        "blockcount": 0,
        "parallel": 1,
    }


@pytest.mark.parametrize("key", ["tcp", "udp", "sctp", "nodelay", "reverse", "bidirectional"])
def test_parameters_that_are_sent_as_true(key: str) -> None:
    assert json.loads(parameters(**{key: True}).encode())[key] is True


@pytest.mark.parametrize(
    "key",
    [
        "get_server_output",
        "udp_counters_64bit",
        "repeating_payload",
        "zerocopy",
        "dont_fragment",
        "skip_rx_copy",
    ],
)
def test_parameters_that_are_sent_as_one(key: str) -> None:
    value = json.loads(parameters(**{key: True}).encode())[key]
    assert value == 1
    assert not isinstance(value, bool)


def test_results_are_sent_with_all_that_iperf3_demands() -> None:
    sent = json.loads(decode_results().encode())
    assert set(sent) == set(RESULTS)
    assert set(sent["streams"][0]) == set(STREAM)
    assert json.loads(PeerResults.decode(TCP_CLIENT_RESULTS).encode()) == json.loads(
        TCP_CLIENT_RESULTS
    )


def test_our_additions_survive_the_exchange() -> None:
    extension = Extension(program="netmeasure 1", duration_ms=2500, receive_mode="discard")
    assert Parameters.decode(parameters(netmeasure=extension).encode()).netmeasure == extension
    report = SideReport(streams=(StreamReport(id=1, role="receiver", bytes=5),), duration_ns=3)
    results = msgspec.structs.replace(decode_results(), netmeasure=report)
    assert PeerResults.decode(results.encode()) == results


def test_results_of_the_most_streams_are_read() -> None:
    many = [STREAM | {"id": number, "bytes": 2**40} for number in range(1024)]
    assert len(decode_results(streams=many).streams) == 1024
    with pytest.raises(RemoteProtocolError, match="1025 objects"):
        decode_results(streams=[*many, STREAM])


# ---- limits -------------------------------------------------------------------------------------

LIMITS = [
    ("omit", 0, 600, 12),
    ("time", 0, 86_400, 5),
    ("num", 0, None, 114),
    ("blockcount", 0, None, 114),
    ("MSS", 0, 32_767, 10),
    ("parallel", 1, 1024, 6),
    ("window", 0, 536_870_912, 8),
    ("len", 1, 1_048_576, 7),
    ("bandwidth", 0, None, 114),
    ("fqrate", 0, None, 114),
    ("pacing_timer", 0, None, 114),
    ("TOS", 0, 255, 21),
    ("flowlabel", 1, 1_048_575, 127),
    ("server_affinity", 0, 1024, 132),
    pytest.param("burst", None, 1000, 15),
    pytest.param(
        "burst",
        1,
        1000,
        15,
        id="burst of 0",
    ),
]


@pytest.mark.parametrize(("name", "low", "high", "code"), LIMITS)
def test_limits(name: str, low: int | None, high: int | None, code: int) -> None:
    for good in (low, high):
        assert check_parameters(parameters(**{name: good})) is None if good is not None else True
    for bad in (low - 1 if low is not None else -1, high + 1 if high is not None else 2**63):
        refused = check_parameters(parameters(**{name: bad}))
        assert refused is not None
        assert refused[0] == code
        assert name in refused[1]
        assert str(bad) in refused[1]


@pytest.mark.parametrize(
    ("length", "code"), [(15, 20), (16, None), (65_507, None), (65_508, 20), (131_072, 20)]
)
def test_limits_of_udp(length: int, code: int | None) -> None:
    refused = check_parameters(parameters(udp=True, len=length))
    assert (refused and refused[0]) == code


def test_reverse_and_bidirectional() -> None:
    assert check_parameters(parameters(reverse=True)) is None
    assert check_parameters(parameters(bidirectional=True)) is None
    refused = check_parameters(parameters(reverse=True, bidirectional=True))
    assert refused is not None
    assert refused[0] == 25


def test_real_parameters_are_within_the_limits() -> None:
    for capture in (TCP_PARAMETERS, UDP_PARAMETERS, FULL_PARAMETERS, b"{}"):
        assert check_parameters(Parameters.decode(capture)) is None


@pytest.mark.parametrize(
    "extension",
    [
        Extension(duration_ms=-1),
        Extension(duration_ms=2**63),
        Extension(omit_ms=-1),
        Extension(omit_ms=2**63),
        Extension(receive_mode="sideways"),
    ],
)
def test_limits_of_our_additions(extension: Extension) -> None:
    assert check_parameters(parameters(netmeasure=extension)) is not None


def test_blocks_are_limited_to_a_signed_64_bit_number_of_bytes() -> None:
    assert check_parameters(parameters(blockcount=2**62, len=4)) is not None


def test_udp_without_a_length() -> None:
    refused = check_parameters(parameters(udp=True))
    assert refused is not None
    assert refused[0] == 20


# ---- the small ones -----------------------------------------------------------------------------


def test_stream_ids() -> None:
    assert list(stream_ids(0)) == []
    assert list(stream_ids(1)) == [1]
    assert list(stream_ids(5)) == [1, 3, 4, 5, 6]


def test_cookies() -> None:
    cookies = {new_cookie(waits=bool(number % 2)) for number in range(50)}
    assert len(cookies) == 50
    assert sum(map(can_wait, cookies)) == 25
    assert {len(cookie) for cookie in cookies} == {COOKIE_BYTES - 1} == {len(COOKIE)}
    assert set("".join(cookies)) <= set("abcdefghijklmnopqrstuvwxyz234567")


def test_error_texts() -> None:
    assert "authorization" in error_text(ServerError(142, 107))
    assert "bitrate" in error_text(ServerError(27, None))
    assert error_text(ServerError(999, None)) == "iperf3 error 999"
    assert error_text(ServerError(None, None)) == "an error it did not name"


@pytest.mark.parametrize(
    "series",
    [
        {"origin_ns": 0, "width_ns": 0, "bytes": [1]},
        {"origin_ns": 0, "width_ns": -1, "bytes": [1]},
        {"origin_ns": 2**62, "width_ns": 1, "bytes": [1]},
        {"origin_ns": 0, "width_ns": 10**14, "bytes": [1] * 100},
        {"origin_ns": 0, "width_ns": 1, "bytes": [-1, 2]},
        {"origin_ns": 0, "width_ns": 1, "bytes": [2**62, 2**62]},
    ],
)
def test_a_series_that_cannot_be_is_refused(series: dict[str, Any]) -> None:
    report = {"streams": [{"id": 1, "role": "receiver", "series": series}]}
    with pytest.raises(RemoteProtocolError, match="series"):
        decode_results(netmeasure=report)


def test_a_moment_that_cannot_be_is_refused() -> None:
    report = {"streams": [{"id": 1, "role": "receiver", "last_ns": 2**62}]}
    with pytest.raises(RemoteProtocolError, match="impossible time"):
        decode_results(netmeasure=report)


# ---- a peer's words are shown to people ----------------------------------------------------------


def test_names_have_no_control_characters() -> None:
    """A peer's text must not affect a terminal or add a line to a log."""
    evil = "a\n\x1b[2Jb\x7f\x9b"
    clean = "a\ufffd\ufffd[2Jb\ufffd\ufffd"
    said = decode_parameters(client_version=evil, netmeasure={"program": evil}, title=evil)
    assert (said.client_version, known(said.netmeasure).program) == (clean, clean)
    assert said.title == evil  # it goes into JSON, as it came
    told = decode_results(
        congestion_used=evil,
        server_output_text="one\n\ttwo\x1b\r\n",
        server_output_json={"key": evil},
        netmeasure={"host": {"program": evil}, "streams": []},
    )
    assert told.congestion_used == clean
    assert told.server_output_text == "one\n\ttwo\ufffd\ufffd\n"
    assert told.server_output_json is not None
    assert json.loads(bytes(told.server_output_json)) == {"key": evil}
    assert told.netmeasure is not None
    assert told.netmeasure.host.program == clean
    announced = Announcement.decode(json.dumps({"host": {"version": evil}}).encode())
    assert announced.host.version == clean


@pytest.mark.parametrize("depth", range(100, 1000, 50))
def test_lists_of_lists(depth: int) -> None:
    with pytest.raises(RemoteProtocolError):
        Parameters.decode(b'{"netmeasure":{"program":' + b"[" * depth + b"]" * depth + b"}}")


@given(st.text(st.characters(codec="utf-8")))
def test_names_are_otherwise_left_unchanged(name: str) -> None:
    read = decode_parameters(client_version=name).client_version
    assert read is not None
    assert len(read) == len(name)
    assert all(c == r or r == "\ufffd" for c, r in zip(name, read, strict=True))
    assert not any(category(c) == "Cc" for c in read)


# ---- probes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 37, 1448, MAX_PROBE_ANSWER])
def test_a_probe_says_how_long_an_answer_it_asks_for(size: int) -> None:
    assert len(make_probe(size)) == COOKIE_BYTES
    assert probe_answer_bytes(make_probe(size)) == size


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        b"netmeasureprobe",
        make_probe(100)[:-1],
        make_probe(100)[:-1] + b"a",
        make_probe(100).replace(b"00100", b"00000"),
        make_probe(100).replace(b"00100", b"00001"),
        make_probe(100).replace(b"00100", b"%05d" % (MAX_PROBE_ANSWER + 1)),
        make_probe(100).replace(b"00100", "٠٠١٠٠".encode())[:COOKIE_BYTES],
        b"a" * 36 + b"\0",
    ],
)
def test_datagrams_that_are_no_probe_are_refused(hello: bytes) -> None:
    assert probe_answer_bytes(hello) is None
