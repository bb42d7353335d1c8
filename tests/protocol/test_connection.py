"""The control connection's machine: every state with every event, for both ends."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from dialogue import (
    COOKIE,
    EXTENDED_DIALOGUE,
    INTERRUPTIONS,
    JSON_KINDS,
    PAYLOADS,
    PLAIN_DIALOGUE,
    SENDER,
    STEPS,
    TCP_CLIENT_RESULTS,
    TCP_PARAMETERS,
    WIRE,
    drain,
    end_at,
    framed,
    leads_to,
    outcome,
)

from netmeasure.errors import LocalProtocolError, RemoteProtocolError
from netmeasure.protocol import (
    Closed,
    Connection,
    Kind,
    Message,
    NeedData,
    Parameters,
    ServerError,
    Side,
    State,
    results_limit_bytes,
)

DIALOGUES = pytest.mark.parametrize(
    "dialogue", [PLAIN_DIALOGUE, EXTENDED_DIALOGUE], ids=["plain", "extended"]
)
BOTH_SIDES = pytest.mark.parametrize("side", Side, ids=lambda side: side.value)
EVERY_STATE = pytest.mark.parametrize("state", State, ids=lambda state: state.name)
EVERY_KIND = pytest.mark.parametrize("kind", Kind, ids=lambda kind: kind.name)
REGULAR_STEPS = pytest.mark.parametrize(
    ("before", "sender", "kind", "after"), STEPS, ids=[kind.name for _, _, kind, _ in STEPS]
)


def ignores_everything(side: Side, state: State) -> bool:
    return state is State.OVER or (side is Side.CLIENT and state is State.DISPLAYING)


def without_nulls(members: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in members.items() if value is not None}


def json_due(state: State) -> Kind | None:
    return next((k for before, _, k, _ in STEPS if before is state and k in JSON_KINDS), None)


def test_steps_cover_every_state_and_kind() -> None:
    assert {before for before, *_ in STEPS} == set(State) - {State.OVER}
    assert set(SENDER) == set(WIRE) == set(Kind)


@DIALOGUES
def test_dialogue_step_by_step(dialogue: tuple[tuple[Side, Kind], ...]) -> None:
    ends = {side: Connection(side) for side in Side}
    for side, kind in dialogue:
        data = ends[side].send(kind, PAYLOADS.get(kind))
        ends[side.other].receive_data(data)
        assert ends[side.other].next_message() == Message(kind, PAYLOADS.get(kind))
        assert isinstance(ends[side.other].next_message(), NeedData)
        assert ends[Side.CLIENT].state is ends[Side.SERVER].state
    assert ends[Side.CLIENT].state is State.OVER


@DIALOGUES
@pytest.mark.parametrize("piece", [1, 7, 10_000], ids=["byte by byte", "by sevens", "batched"])
def test_dialogue_in_pieces(dialogue: tuple[tuple[Side, Kind], ...], piece: int) -> None:
    ends = {side: Connection(side) for side in Side}
    got: list[tuple[Side, Kind]] = []
    pending = b""
    for index, (side, kind) in enumerate(dialogue):
        pending += ends[side].send(kind, PAYLOADS.get(kind))
        if index + 1 < len(dialogue) and dialogue[index + 1][0] is side:
            continue
        for at in range(0, len(pending), piece):
            ends[side.other].receive_data(pending[at : at + piece])
            for message in drain(ends[side.other]):
                assert message.payload == PAYLOADS.get(message.kind)
                got.append((side, message.kind))
        pending = b""
    assert got == list(dialogue)


@EVERY_KIND
def test_sent_bytes(kind: Kind) -> None:
    before = next((state for state, _, k, _ in STEPS if k is kind), State.RUNNING)
    data = end_at(before, SENDER[kind]).send(kind, PAYLOADS.get(kind))
    if kind in JSON_KINDS or kind is Kind.EXTENSION:
        head = b"\x40" if kind is Kind.EXTENSION else b""
        length = len(head) + 4
        assert data == head + framed(data[length:])
        assert json.loads(data[length:], object_hook=without_nulls) == json.loads(
            WIRE[kind][length:]
        )
    else:
        assert data == WIRE[kind]


@BOTH_SIDES
@EVERY_STATE
def test_send(side: Side, state: State) -> None:
    for kind in Kind:
        check_send(side, state, kind)


def check_send(side: Side, state: State, kind: Kind) -> None:
    connection = end_at(state, side)
    after = leads_to(state, kind)
    if SENDER[kind] is side and after is not None:
        connection.send(kind, PAYLOADS.get(kind))
        assert connection.state is after
        return
    with pytest.raises(LocalProtocolError) as caught:
        connection.send(kind, PAYLOADS.get(kind))
    for word in (side.value, kind.name, state.value):
        assert word in str(caught.value)
    assert connection.state is state


@BOTH_SIDES
@EVERY_STATE
def test_receive(side: Side, state: State) -> None:
    for kind in Kind:
        check_receive(side, state, kind)


def check_receive(side: Side, state: State, kind: Kind) -> None:
    connection = end_at(state, side)
    connection.receive_data(WIRE[kind])
    after = leads_to(state, kind)
    if ignores_everything(side, state):
        assert isinstance(connection.next_message(), NeedData)
        assert connection.state is state
        assert connection.trailing_data == b""
        return
    if SENDER[kind] is not side and after is not None:
        assert connection.next_message() == Message(kind, PAYLOADS.get(kind))
        assert connection.state is after
        return
    due = json_due(state)
    if kind in JSON_KINDS and due is not None and SENDER[due] is not side:
        return  # one JSON object looks like the other that is due
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_message()
    byte = WIRE[kind][:1].hex()
    if (side, state) == (Side.SERVER, State.START):
        words = f"does not speak iperf3's protocol: it began with {byte}"
        assert words in str(caught.value)
    else:
        assert f"sent byte 0x{byte}" in str(caught.value)
        assert state.value in str(caught.value)
    assert connection.state is state


@pytest.mark.parametrize(
    ("side", "state"),
    [
        (side, state)
        for side in Side
        for state in State
        if not ignores_everything(side, state) and (side, state) != (Side.SERVER, State.START)
    ],
)
def test_bytes_that_no_message_starts_with(side: Side, state: State) -> None:
    known = {data[0] for data in WIRE.values()}
    for byte in set(range(256)) - known:
        connection = end_at(state, side)
        connection.receive_data(bytes([byte]))
        with pytest.raises(RemoteProtocolError, match=f"0x{byte:02x} "):
            connection.next_message()


@BOTH_SIDES
def test_the_message_names_what_was_due(side: Side) -> None:
    state, due = {
        Side.CLIENT: (
            State.OFFERED,
            "QUEUED or CHALLENGE or EXTENSION or CREATE_STREAMS was expected",
        ),
        Side.SERVER: (State.OFFERED, "nothing was expected"),
    }[side]
    connection = end_at(state, side)
    connection.receive_data(b"\x01" if side is Side.CLIENT else b"\x04")
    with pytest.raises(RemoteProtocolError, match=due):
        connection.next_message()


@pytest.mark.parametrize("kind", INTERRUPTIONS, ids=lambda kind: kind.name)
def test_an_interruption_ends_both(kind: Kind) -> None:
    side = INTERRUPTIONS[kind]
    for state in set(State) - {State.START, State.DISPLAYING, State.OVER}:
        ours, theirs = end_at(state, side), end_at(state, side.other)
        theirs.receive_data(ours.send(kind, PAYLOADS.get(kind)) + b"more")
        assert [message.kind for message in drain(theirs)] == [kind]
        assert ours.state is theirs.state is State.OVER
        assert theirs.trailing_data == b""


# ---- delivery -----------------------------------------------------------------------------------


@REGULAR_STEPS
def test_delivery_byte_by_byte(before: State, sender: Side, kind: Kind, after: State) -> None:
    connection = end_at(before, sender.other)
    *head, last = (WIRE[kind][at : at + 1] for at in range(len(WIRE[kind])))
    for byte in head:
        connection.receive_data(byte)
        assert isinstance(connection.next_message(), NeedData)
        assert connection.state is before
    connection.receive_data(last)
    assert connection.next_message() == Message(kind, PAYLOADS.get(kind))
    assert connection.state is after


@REGULAR_STEPS
def test_delivery_with_trailing_data(before: State, sender: Side, kind: Kind, after: State) -> None:
    connection = end_at(before, sender.other)
    connection.receive_data(WIRE[kind] + b"\x07tail")
    assert connection.next_message() == Message(kind, PAYLOADS.get(kind))
    assert connection.state is after
    assert connection.trailing_data == b"\x07tail"


@BOTH_SIDES
def test_nothing_is_kept_when_it_is_over(side: Side) -> None:
    connection = end_at(State.OVER, side)
    connection.receive_data(b"x" * 100_000)
    assert connection.trailing_data == b""
    assert isinstance(connection.next_message(), NeedData)
    connection.receive_data(b"")
    assert isinstance(connection.next_message(), Closed)


# ---- end of file --------------------------------------------------------------------------------


@BOTH_SIDES
@EVERY_STATE
def test_eof_between_messages(side: Side, state: State) -> None:
    connection = end_at(state, side)
    connection.receive_data(b"")
    for _ in range(2):
        assert isinstance(connection.next_message(), Closed)
    assert connection.state is state


@REGULAR_STEPS
def test_eof_after_a_message(before: State, sender: Side, kind: Kind, after: State) -> None:
    messages, ended, state = outcome(sender.other, before, [WIRE[kind]])
    assert [message.kind for message in messages] == [kind]
    assert (ended, state) == ("Closed", after)


@pytest.mark.parametrize(
    ("before", "kind"), [(before, kind) for before, _, kind, _ in STEPS if len(WIRE[kind]) > 1]
)
def test_eof_in_the_middle(before: State, kind: Kind) -> None:
    for cut in {min(cut, len(WIRE[kind]) - 1) for cut in (1, 2, 4, 5, 6, 10**9)}:
        connection = end_at(before, SENDER[kind].other)
        connection.receive_data(WIRE[kind][:cut])
        connection.receive_data(b"")
        with pytest.raises(RemoteProtocolError, match="closed the connection in the middle") as e:
            connection.next_message()
        assert before.value in str(e.value)
        assert WIRE[kind][: min(cut, 16)].hex(" ") in str(e.value)


# ---- SERVER_ERROR -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xfe\0\0\0\x8e\0\0\0\x6b", ServerError(142, 107)),
        (b"\xfe\0\0\0\x8e\0\0\0\0", ServerError(142, None)),
        (b"\xfe\0\0\0\x8e\0\0\0\x6bstale", ServerError(142, 107)),
    ],
)
def test_server_error_with_eight_bytes(data: bytes, code: ServerError) -> None:
    connection = end_at(State.OFFERED, Side.CLIENT)
    connection.receive_data(data)
    assert connection.next_message() == Message(Kind.SERVER_ERROR, code)
    assert connection.state is State.OVER
    assert isinstance(connection.next_message(), NeedData)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\xfe\0\0\0\x8e", ServerError(142, None)),
        (b"\xfe\0\0\0\x8e\0\0", ServerError(142, None)),
        (b"\xfe", ServerError(None, None)),
    ],
)
def test_server_error_cut_short_by_eof(data: bytes, code: ServerError) -> None:
    connection = end_at(State.OFFERED, Side.CLIENT)
    connection.receive_data(data)
    assert isinstance(connection.next_message(), NeedData)
    connection.receive_data(b"")
    assert connection.next_message() == Message(Kind.SERVER_ERROR, code)
    assert isinstance(connection.next_message(), Closed)


def test_server_error_sent_without_errno() -> None:
    connection = end_at(State.OFFERED, Side.SERVER)
    assert connection.send(Kind.SERVER_ERROR, ServerError(5, None)) == (b"\xfe\0\0\0\x05\0\0\0\0")


@pytest.mark.parametrize(
    "stale", [WIRE[Kind.SERVER_ERROR], b"\xfe\0", b"\x09", b"\0\0\0\x02{}", b"\x77" * 50]
)
def test_a_client_ignores_what_follows_display_results(stale: bytes) -> None:
    connection = end_at(State.ANSWERED, Side.CLIENT)
    connection.receive_data(b"\x0e" + stale)
    assert [message.kind for message in drain(connection)] == [Kind.DISPLAY_RESULTS]
    connection.receive_data(stale)
    assert isinstance(connection.next_message(), NeedData)
    assert connection.trailing_data == b""
    assert connection.send(Kind.IPERF_DONE) == b"\x10"
    connection.receive_data(stale)
    connection.receive_data(b"")
    assert isinstance(connection.next_message(), Closed)


@pytest.mark.parametrize(
    ("side", "state", "kind"),
    [
        (Side.SERVER, State.ASKED, Kind.CLIENT_TERMINATE),
        (Side.SERVER, State.ASKED, Kind.IPERF_DONE),
        (Side.SERVER, State.EXCHANGING, Kind.CLIENT_TERMINATE),
        (Side.CLIENT, State.ANSWERING, Kind.SERVER_ERROR),
        (Side.CLIENT, State.ANSWERING, Kind.SERVER_TERMINATE),
        (Side.CLIENT, State.START, Kind.ACCESS_DENIED),
    ],
)
def test_a_state_where_something_else_was_due(side: Side, state: State, kind: Kind) -> None:
    messages, ended, after = outcome(side, state, [WIRE[kind]])
    assert messages == [Message(kind, PAYLOADS.get(kind))]
    assert (ended, after) == ("Closed", State.OVER)


# ---- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"GET / HTTP/1.1\r\nHost: lab1\r\n\r\n", "it speaks HTTP"),
        (b"\x16\x03\x01\x02\0\x01\0", "it speaks TLS"),
        (COOKIE.encode() + b"!", "it began with 33 69 72 6a"),
        (b"short\0", "it began with 73 68 6f 72 74 00"),
        (b"\0" * 37, "it began with 00 00"),
    ],
    ids=["http", "tls", "no NUL", "short", "zeros"],
)
def test_no_cookie(data: bytes, shown: str) -> None:
    connection = Connection(Side.SERVER)
    connection.receive_data(data)
    with pytest.raises(RemoteProtocolError, match=f"iperf3's protocol: {shown}"):
        connection.next_message()


@pytest.mark.parametrize(
    ("side", "state", "head", "length"),
    [
        (Side.SERVER, State.ASKED, b"", 0),
        (Side.SERVER, State.ASKED, b"", 64 * 1024 + 1),
        (Side.SERVER, State.ASKED, b"", 2**24 - 1),
        (Side.CLIENT, State.OFFERED, b"\x40", 0),
        (Side.CLIENT, State.OFFERED, b"\x40", 64 * 1024 + 1),
        (Side.CLIENT, State.OFFERED, b"\x40", 2**32 - 1),
        (Side.SERVER, State.EXCHANGING, b"", 0),
        (Side.CLIENT, State.ANSWERING, b"", 0),
    ],
)
def test_impossible_lengths(side: Side, state: State, head: bytes, length: int) -> None:
    connection = end_at(state, side)
    connection.receive_data(head + length.to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match=f"of {length} bytes") as caught:
        connection.next_message()
    assert state.value in str(caught.value)


@pytest.mark.parametrize(
    ("side", "state"), [(Side.SERVER, State.EXCHANGING), (Side.CLIENT, State.ANSWERING)]
)
def test_the_length_of_results(side: Side, state: State) -> None:
    """The limit follows from the agreed number of streams, which is one here."""
    limit = results_limit_bytes(1)
    for length, fits in ((limit, True), (limit + 1, False), (2**24 - 1, False)):
        connection = end_at(state, side)
        connection.receive_data(length.to_bytes(4, "big"))
        if fits:
            assert isinstance(connection.next_message(), NeedData)
        else:
            with pytest.raises(RemoteProtocolError, match=f"of {length} bytes.* 1 to {limit} "):
                connection.next_message()
    connection = end_at(state, side)
    connection.receive_data((2**24).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match="byte 0x01"):
        connection.next_message()


def test_more_streams_may_say_more() -> None:
    sizes = [results_limit_bytes(streams) for streams in (1, 2, 8, 64, 128, 256)]
    assert sizes == sorted(sizes)
    assert sizes[-1] == 4 * 2**20


@pytest.mark.parametrize(("output", "length"), [(True, 2**24 - 1), (False, results_limit_bytes(1))])
def test_a_server_may_say_much_where_its_output_was_asked_for(output: bool, length: int) -> None:
    connection = end_at(State.ASKED, Side.CLIENT)
    asked = PAYLOADS[Kind.PARAMETERS]
    connection.send(Kind.PARAMETERS, msgspec.structs.replace(asked, get_server_output=output))
    assert isinstance(asked, Parameters)
    connection.state = State.ANSWERING
    connection.receive_data(length.to_bytes(4, "big"))
    assert isinstance(connection.next_message(), NeedData)
    connection = end_at(State.ASKED, Side.CLIENT)
    connection.send(Kind.PARAMETERS, msgspec.structs.replace(asked, get_server_output=output))
    connection.state = State.ANSWERING
    connection.receive_data((length + 1).to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError):
        connection.next_message()


def test_no_more_is_kept_than_is_due() -> None:
    """A peer may send one step ahead, but not megabytes."""
    connection = end_at(State.RUNNING, Side.SERVER)
    for _ in range(32):
        connection.receive_data(bytes(4096))
    with pytest.raises(RemoteProtocolError, match="too much"):
        connection.receive_data(bytes(64 * 1024 + 1))


def test_the_largest_parameters() -> None:
    messages, ended, _ = outcome(
        Side.SERVER, State.ASKED, [framed(TCP_PARAMETERS.ljust(64 * 1024))], eof=False
    )
    assert messages == [Message(Kind.PARAMETERS, PAYLOADS[Kind.PARAMETERS])]
    assert ended == "NeedData"


def test_too_large_to_send() -> None:
    connection = end_at(State.ASKED, Side.CLIENT)
    huge = Parameters(omit=0, time=1, num=0, blockcount=0, parallel=1, title="x" * 65_536)
    with pytest.raises(LocalProtocolError, match=r"PARAMETERS of .* at most 65536"):
        connection.send(Kind.PARAMETERS, huge)
    assert connection.state is State.ASKED
    assert connection.send(Kind.PARAMETERS, PAYLOADS[Kind.PARAMETERS]).startswith(b"\0\0")


@pytest.mark.parametrize(
    "text",
    [b"{", b"[]", b"7", b'"x"', b"{]", b"\xff\xfe", b'{"host":{"program":\xff}}', b"[" * 60_000],
)
@pytest.mark.parametrize(
    ("side", "state", "head"),
    [
        (Side.SERVER, State.ASKED, b""),
        (Side.CLIENT, State.OFFERED, b"\x40"),
        (Side.SERVER, State.EXCHANGING, b""),
        (Side.CLIENT, State.ANSWERING, b""),
    ],
    ids=["parameters", "extension", "client results", "server results"],
)
def test_json_that_is_none(side: Side, state: State, head: bytes, text: bytes) -> None:
    connection = end_at(state, side)
    connection.receive_data(head + framed(text))
    with pytest.raises(RemoteProtocolError):
        connection.next_message()
    assert connection.state is state


@pytest.mark.parametrize(
    ("side", "state", "data"),
    [
        (Side.CLIENT, State.OFFERED, b"\x07"),
        (Side.SERVER, State.ASKED, b"\0\0\0\0"),
        pytest.param(
            Side.SERVER,
            State.ASKED,
            framed(b"{]") + framed(TCP_PARAMETERS),
        ),
        pytest.param(
            Side.SERVER,
            State.EXCHANGING,
            framed(b"{}") + framed(TCP_CLIENT_RESULTS),
        ),
    ],
)
def test_a_breach_stays_a_breach(side: Side, state: State, data: bytes) -> None:
    connection = end_at(state, side)
    connection.receive_data(data)
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            connection.next_message()


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.COOKIE, None),
        (Kind.COOKIE, "short"),
        (Kind.COOKIE, "é" * 36),
        (Kind.PARAMETERS, None),
        (Kind.EXTENSION, None),
        (Kind.CLIENT_RESULTS, None),
        (Kind.SERVER_ERROR, None),
        (Kind.TEST_START, PAYLOADS[Kind.PARAMETERS]),
    ],
)
def test_send_refuses_a_wrong_payload(kind: Kind, payload: Any) -> None:
    before = next((state for state, _, k, _ in STEPS if k is kind), State.RUNNING)
    connection = end_at(before, SENDER[kind])
    with pytest.raises(LocalProtocolError):
        connection.send(kind, payload)
    assert connection.state is before


@pytest.mark.parametrize("text", [b"{]", b'{"time":"x"}'])
def test_json_errors_name_the_state(text: bytes) -> None:
    connection = end_at(State.ASKED, Side.SERVER)
    connection.receive_data(framed(text))
    with pytest.raises(RemoteProtocolError) as caught:
        connection.next_message()
    assert State.ASKED.value in str(caught.value)
