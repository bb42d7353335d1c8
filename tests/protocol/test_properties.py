"""Test the invariant of the state machine: it answers or refuses any bytes in any pieces."""

from __future__ import annotations

import itertools
import json
import types
import typing
from typing import Any, Literal

import msgspec
from dialogue import (
    COOKIE,
    PARAMETER_CAPTURES,
    RESULT_CAPTURES,
    WIRE,
    as_3_12,
    drain,
    end_at,
    framed,
    outcome,
)
from hypothesis import HealthCheck, given, settings, strategies as st

from netmeasure.errors import RemoteProtocolError
from netmeasure.protocol import (
    Announcement,
    Kind,
    Message,
    Parameters,
    PeerResults,
    Side,
    State,
)
from netmeasure.protocol.reports import NEVER_NEGATIVE, POSITIVE
from netmeasure.result import Series
from support.optional import known

#: Twenty times as many in a long run (`make fuzz`) than by default, where it is 100.
SCALE = known(settings.default).max_examples // 100
FUZZ = settings(
    max_examples=300 * SCALE, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
ROUNDTRIP = settings(
    max_examples=60 * SCALE,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
JSON_FRAMES = JSON_VALUES.map(lambda value: framed(json.dumps(value).encode()))
CAPTURES = PARAMETER_CAPTURES + RESULT_CAPTURES + tuple(as_3_12(c) for c in RESULT_CAPTURES)
PIECES = st.one_of(
    st.binary(max_size=50),
    st.sampled_from(sorted(WIRE.values())),
    st.sampled_from([b"\x40", b"\xfe\0\0", b"\0\0\0\0", b"\0", b"GET / HTTP/1.1\r\n"]),
    st.sampled_from(CAPTURES).map(framed),
    JSON_FRAMES,
    JSON_FRAMES.map(lambda frame: b"\x40" + frame),
)
DATA = st.lists(PIECES, max_size=5).map(b"".join)
SIDES = st.sampled_from(Side)
PHASES = st.sampled_from(State)


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    pieces = (data[low:high] for low, high in itertools.pairwise(edges))
    return [piece for piece in pieces if piece]  # b"" would be the end of file


def answer(side: Side, state: State, chunks: list[bytes], eof: bool) -> object:
    """Return the outcome, or that the input was refused; any other exception is a failure."""
    try:
        return outcome(side, state, chunks, eof=eof)
    except RemoteProtocolError:
        return RemoteProtocolError


@FUZZ
@given(SIDES, PHASES, DATA, st.lists(st.integers(0, 2**16), max_size=6), st.booleans())
def test_any_bytes_in_any_pieces(
    side: Side, state: State, data: bytes, cuts: list[int], eof: bool
) -> None:
    assert answer(side, state, split(data, cuts), eof) == answer(side, state, split(data, []), eof)


@FUZZ
@given(SIDES, PHASES, st.binary(max_size=80), st.booleans())
def test_any_bytes_byte_by_byte(side: Side, state: State, data: bytes, eof: bool) -> None:
    single = [bytes([byte]) for byte in data]
    assert answer(side, state, single, eof) == answer(side, state, split(data, []), eof)


@FUZZ
@given(st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=36, max_size=36))
def test_any_printable_cookie(cookie: str) -> None:
    assert outcome(Side.SERVER, State.START, [cookie.encode() + b"\0"])[0] == [
        Message(Kind.COOKIE, cookie)
    ]


# ---- round trips --------------------------------------------------------------------------------


#: Control characters are taken out, see test_messages.
PRINTABLE = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)


def values(wanted: Any) -> st.SearchStrategy[Any]:
    """Values of a type of the payloads' fields."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values(argument) for argument in arguments])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        return st.lists(values(arguments[0]), max_size=2).map(tuple)
    if isinstance(wanted, type) and issubclass(wanted, msgspec.Struct):
        return structs(wanted)
    return {
        msgspec.Raw: st.dictionaries(st.text(max_size=4), st.integers(0, 9)).map(
            lambda value: msgspec.Raw(msgspec.json.encode(value))
        ),
        int: st.integers(-(2**49), 2**49),
        float: st.floats(allow_nan=False, allow_infinity=False),
        bool: st.booleans(),
        str: PRINTABLE,
        type(None): st.none(),
    }[wanted]


#: What a clock and a counter can say: other reports are refused, see test_messages.
POSSIBLE_SERIES = st.builds(
    Series,
    origin_ns=st.integers(-(2**49), 2**49),
    width_ns=st.integers(1, 2**40),
    bytes=st.lists(st.integers(0, 2**40), max_size=4).map(tuple),
)


def structs(struct: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    if struct is Series:
        return POSSIBLE_SERIES
    fields = msgspec.structs.fields(struct)
    optional = {field.name: values(field.type) for field in fields if not field.required}
    required = {field.name: values(field.type) for field in fields if field.required}
    drawn = st.fixed_dictionaries(required, optional=optional)
    if "at_ns" in required:
        drawn = drawn.map(as_columns)
    return drawn.map(lambda given: struct(**as_counted(struct, given)))


def as_counted(struct: type[msgspec.Struct], fields: dict[str, Any]) -> dict[str, Any]:
    """No number below the least that a report may hold there."""
    least = {
        **dict.fromkeys(NEVER_NEGATIVE.get(struct, ()), 0),
        **dict.fromkeys(POSITIVE.get(struct, ()), 1),
    }

    def counted(value: Any, low: int) -> Any:
        if isinstance(value, tuple):
            return tuple(counted(item, low) for item in value)
        return max(abs(value), low) if isinstance(value, int) else value

    return {
        name: counted(value, least[name]) if name in least else value
        for name, value in fields.items()
    }


def as_columns(fields: dict[str, Any]) -> dict[str, Any]:
    """One item in every column."""
    return {
        name: (value or (0,))[:1] if isinstance(value, tuple) else value
        for name, value in fields.items()
    }


def exchanged(kind: Kind, state: State, sender: Side, payload: Any) -> Any:
    receiver = end_at(state, sender.other)
    receiver.receive_data(end_at(state, sender).send(kind, payload))
    (message,) = drain(receiver)
    assert message.kind is kind
    return message.payload


@ROUNDTRIP
@given(structs(Parameters))
def test_parameters_roundtrip(sent: Parameters) -> None:
    assert exchanged(Kind.PARAMETERS, State.ASKED, Side.CLIENT, sent) == sent
    assert b":false" not in sent.encode().partition(b'"netmeasure"')[0]


@ROUNDTRIP
@given(structs(Announcement))
def test_announcement_roundtrip(sent: Announcement) -> None:
    assert exchanged(Kind.EXTENSION, State.OFFERED, Side.SERVER, sent) == sent


@ROUNDTRIP
@given(structs(PeerResults))
def test_results_roundtrip(sent: PeerResults) -> None:
    assert exchanged(Kind.CLIENT_RESULTS, State.EXCHANGING, Side.CLIENT, sent) == sent
    assert exchanged(Kind.SERVER_RESULTS, State.ANSWERING, Side.SERVER, sent) == sent


# ---- mutated captures ---------------------------------------------------------------------------

TARGETS = st.sampled_from(
    [(Side.SERVER, State.ASKED, capture) for capture in PARAMETER_CAPTURES]
    + [
        (side, state, variant)
        for side, state in (
            (Side.SERVER, State.EXCHANGING),
            (Side.CLIENT, State.ANSWERING),
        )
        for capture in RESULT_CAPTURES
        for variant in (capture, as_3_12(capture))
    ]
)
MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "insert", "delete", "cut"]),
        st.integers(0, 2**16),
        st.binary(max_size=3) | st.sampled_from([b"{", b"}", b'"', b",", b":", b"e9", b"-", b"0"]),
    ),
    min_size=1,
    max_size=4,
)


def mutated(data: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for action, position, new in mutations:
        at = position % (len(data) + 1)
        skipped = {"replace": len(new), "insert": 0, "delete": 1 + len(new)}
        after = data[at + skipped[action] :] if action in skipped else b""
        data = data[:at] + (new if action in ("replace", "insert") else b"") + after
    return data


@FUZZ
@given(TARGETS, MUTATIONS)
def test_mutated_text(target: tuple[Side, State, bytes], mutations: Any) -> None:
    side, state, capture = target
    answer(side, state, [framed(mutated(capture, mutations))], True)
    answer(side, state, [mutated(framed(capture), mutations)], True)


@FUZZ
@given(TARGETS, st.data())
def test_mutated_members(target: tuple[Side, State, bytes], data: st.DataObject) -> None:
    side, state, capture = target
    members = json.loads(capture)
    place = members
    if "streams" in members and data.draw(st.booleans()):
        place = members["streams"][0]
    keys = st.sampled_from([*sorted(place), "netmeasure"]) | st.text(max_size=4)
    for key in data.draw(st.lists(keys, min_size=1, max_size=3)):
        place[key] = data.draw(JSON_VALUES)
    answer(side, state, [framed(json.dumps(members).encode())], True)


@FUZZ
@given(MUTATIONS)
def test_mutated_announcement_and_error(mutations: Any) -> None:
    for kind in (Kind.EXTENSION, Kind.SERVER_ERROR):
        answer(Side.CLIENT, State.OFFERED, [mutated(WIRE[kind], mutations)], True)
    text = WIRE[Kind.EXTENSION][5:]
    answer(Side.CLIENT, State.OFFERED, [b"\x40" + framed(mutated(text, mutations))], True)


@FUZZ
@given(MUTATIONS)
def test_mutated_cookie(mutations: Any) -> None:
    answer(Side.SERVER, State.START, [mutated(COOKIE.encode() + b"\0", mutations)], True)
