"""iperf3's error numbers: one table, with a phrase for each."""

from __future__ import annotations

import pytest

from netmeasure.protocol import ErrorCode, ServerError, error_text


def test_numbers_and_names_are_iperf3s() -> None:
    """Some of the header iperf_api.h of iperf3 3.12 to 3.21, whose numbers have never changed."""
    assert int(ErrorCode.STREAMS) == 6
    assert int(ErrorCode.BITRATE_LIMIT) == 27
    assert int(ErrorCode.RECEIVE_PARAMETERS) == 114
    assert int(ErrorCode.CONGESTION) == 134
    assert int(ErrorCode.UNAUTHORIZED) == 142
    assert int(ErrorCode.NO_DATA) == 144
    assert int(ErrorCode.DURATION_EXPIRED) == 160
    assert (ErrorCode.STREAM_WRITE, ErrorCode.STREAM_READ) == (205, 206)


def test_no_number_has_two_names() -> None:
    assert len(ErrorCode) == len(ErrorCode.__members__)


@pytest.mark.parametrize("code", ErrorCode, ids=lambda code: code.name)
def test_each_number_has_a_phrase(code: ErrorCode) -> None:
    assert ErrorCode.of(int(code)) is code
    assert error_text(ServerError(int(code), None)) == code.description != ""


def test_an_unknown_number_is_named_by_the_number() -> None:
    assert ErrorCode.of(999) is None
    assert ErrorCode.of(None) is None
    assert error_text(ServerError(999, None)) == "iperf3 error 999"
