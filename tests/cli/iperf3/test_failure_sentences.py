"""Test that an error's class and attributes, never its text, choose the sentence that
`netmeasure iperf3` prints."""

from __future__ import annotations

import pytest

from netmeasure.cli.iperf3.failures import client_sentence, listen_sentence, server_sentence
from netmeasure.errors import (
    BusyError,
    ConnectError,
    ConnectRefusedError,
    ConnectTimeoutError,
    NameNotFoundError,
    NetmeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RefusedTestError,
    RemoteProtocolError,
    ServeError,
    SocketOptionError,
    SpecError,
    StreamError,
)
from netmeasure.protocol import ErrorCode

#: A text with every word by which a sentence could be chosen.
WORDS = "sending the congestion window before any data: not this"
_CONNECT = ErrorCode.CONNECT.sentence
_READ, _WRITE = ErrorCode.STREAM_READ.sentence, ErrorCode.STREAM_WRITE.sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (BusyError(WORDS), "the server is busy running a test. try again later"),
        (SocketOptionError(WORDS, number=ErrorCode.CONGESTION), ErrorCode.CONGESTION.sentence),
        (SocketOptionError(WORDS, number=130), "socket buffer size not set correctly"),
        (SocketOptionError(WORDS, number=141), "socket buffer size not set correctly"),
        (SocketOptionError(WORDS, number=125, reason="Why not"), f"{_CONNECT}Why not"),
        (SocketOptionError(WORDS), f"{_CONNECT}{WORDS}"),
        (PeerTimeoutError(WORDS, phase="data"), "idle timeout for receiving data"),
        (PeerTimeoutError(WORDS, phase="connect"), f"{_READ}Resource temporarily unavailable"),
        (
            PeerTimeoutError(WORDS, phase="resolve"),
            f"{_CONNECT}Temporary failure in name resolution",
        ),
        (
            PeerTimeoutError(WORDS, phase="control"),
            f"{ErrorCode.RECEIVE_MESSAGE.sentence}Connection timed out",
        ),
        (ConnectTimeoutError(WORDS), f"{_CONNECT}Connection timed out"),
        (ConnectRefusedError(WORDS, reason="Connection refused"), f"{_CONNECT}Connection refused"),
        (ConnectError(WORDS), f"{_CONNECT}{WORDS}"),
        (NameNotFoundError(WORDS, reason="No such name"), f"{_CONNECT}No such name"),
        (PeerClosedError(WORDS), "control socket has closed unexpectedly"),
        (PeerTerminatedError(WORDS), "the server has terminated"),
        (PeerRefusedError(WORDS, number=142), "test authorization failed"),
        (PeerRefusedError(WORDS, number=13), WORDS),
        (PeerRefusedError(WORDS, number=999), WORDS),
        (RemoteProtocolError(WORDS), ErrorCode.UNKNOWN_MESSAGE.sentence),
        (StreamError(WORDS, sending=True, reason="Broken pipe"), f"{_WRITE}Broken pipe"),
        (StreamError(WORDS, reason="Connection reset by peer"), f"{_READ}Connection reset by peer"),
        (StreamError(WORDS), f"{_READ}{WORDS}"),
        (SpecError(WORDS), WORDS),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_client_that_failed(error: NetmeasureError, sentence: str) -> None:
    assert client_sentence(error) == sentence


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PeerClosedError(WORDS), "the client has unexpectedly closed the connection"),
        (PeerTerminatedError(WORDS), "the client has terminated"),
        (StreamError(WORDS, sending=True, reason="Broken pipe"), f"error - {_WRITE}Broken pipe"),
        (StreamError(WORDS, reason="Timed out"), f"error - {_READ}Timed out"),
        (
            RefusedTestError(WORDS, number=6),
            "error - invalid number of parallel streams (min = 1, max = 128)",
        ),
        (RefusedTestError(WORDS, number=13), f"error - {WORDS}"),
        (
            PeerTimeoutError(WORDS),
            f"error - {ErrorCode.RECEIVE_MESSAGE.sentence}Connection timed out",
        ),
        (RemoteProtocolError(WORDS), f"error - {WORDS}"),
        (SpecError(WORDS), f"error - {WORDS}"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_a_test_that_failed_at_the_server(error: NetmeasureError, sentence: str) -> None:
    assert server_sentence(error) == sentence


def test_a_server_that_can_not_listen() -> None:
    error = ServeError(WORDS, reason="Address already in use")
    expected = "error - unable to start listener for connections: Address already in use"
    assert listen_sentence(error) == expected
