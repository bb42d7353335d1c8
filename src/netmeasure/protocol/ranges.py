"""Define the valid values of a client's parameters, and iperf3's error for each invalid value."""

from __future__ import annotations

from netmeasure.protocol.error_codes import ErrorCode
from netmeasure.protocol.messages import DEFAULT_LENGTH, Extension, Parameters
from netmeasure.protocol.reports import MAX_STREAMS

_MOST = 2**63 - 1
#: The lowest and the highest value of each parameter, and the error for other values.
_RANGES: tuple[tuple[str, int, int, ErrorCode], ...] = (
    ("omit", 0, 600, ErrorCode.OMIT),
    ("time", 0, 86_400, ErrorCode.DURATION),
    ("num", 0, _MOST, ErrorCode.RECEIVE_PARAMETERS),
    ("blockcount", 0, _MOST, ErrorCode.RECEIVE_PARAMETERS),
    ("MSS", 0, 32_767, ErrorCode.MSS_SIZE),
    ("parallel", 1, MAX_STREAMS, ErrorCode.STREAMS),
    ("window", 0, 512 * 1024 * 1024, ErrorCode.BUFFER_SIZE),
    ("bandwidth", 0, _MOST, ErrorCode.RECEIVE_PARAMETERS),
    ("fqrate", 0, _MOST, ErrorCode.RECEIVE_PARAMETERS),
    ("pacing_timer", 0, _MOST, ErrorCode.RECEIVE_PARAMETERS),
    ("burst", 1, 1000, ErrorCode.BURST),
    ("gso", 0, 1, ErrorCode.RECEIVE_PARAMETERS),
    ("gso_dg_size", 0, 2**31, ErrorCode.RECEIVE_PARAMETERS),
    ("gso_bf_size", 0, 2**31, ErrorCode.RECEIVE_PARAMETERS),
    ("gro", 0, 1, ErrorCode.RECEIVE_PARAMETERS),
    ("gro_bf_size", 0, 2**31, ErrorCode.RECEIVE_PARAMETERS),
    ("TOS", 0, 255, ErrorCode.TOS_VALUE),
    ("flowlabel", 1, 0xFFFFF, ErrorCode.FLOW_LABEL),
    ("server_affinity", 0, 1024, ErrorCode.AFFINITY),
)
_BLOCK_RANGE = (1, 1024 * 1024, ErrorCode.BLOCK_SIZE)
_DATAGRAM_RANGE = (16, 65_507, ErrorCode.DATAGRAM_SIZE)
#: The highest values of a netmeasure client's own parameters.
_EXTENSION_RANGES = (
    ("duration_ms", 86_400_000, ErrorCode.DURATION),
    ("omit_ms", 600_000, ErrorCode.OMIT),
)
_RECEIVE_MODES = ("copy", "discard")
_MOST_PPS = 10**9


def check_parameters(parameters: Parameters) -> tuple[ErrorCode, str] | None:
    """Return iperf3's error and a sentence for the first parameter that is out of range, or None if
    all are valid."""
    for name, low, high, code in _RANGES:
        value = getattr(parameters, name)
        if value is not None and not low <= value <= high:
            return code, f"parameter {name!r} is {value}; allowed are {low} to {high}"
    low, high, code = _DATAGRAM_RANGE if parameters.udp else _BLOCK_RANGE
    length = DEFAULT_LENGTH if parameters.len is None else parameters.len
    if not low <= length <= high:
        return code, f"parameter 'len' is {length}; allowed are {low} to {high}"
    if parameters.blockcount * length > _MOST:
        blocks = f"parameter 'blockcount' is {parameters.blockcount}: too many bytes"
        return ErrorCode.RECEIVE_PARAMETERS, blocks
    if parameters.streams > MAX_STREAMS:
        both = f"{parameters.streams} streams in both directions; allowed are {MAX_STREAMS}"
        return ErrorCode.STREAMS, both
    if parameters.reverse and parameters.bidirectional:
        both = "parameters 'reverse' and 'bidirectional' exclude each other"
        return ErrorCode.REVERSE_AND_BIDIR, both
    return _check_extension(parameters.netmeasure) if parameters.netmeasure else None


def _check_extension(extension: Extension) -> tuple[ErrorCode, str] | None:
    for name, high, code in _EXTENSION_RANGES:
        value = getattr(extension, name)
        if not 0 <= value <= high:
            return code, f"parameter 'netmeasure.{name}' is {value}; allowed are 0 to {high}"
    rate, mode = extension.target_pps, extension.receive_mode
    if rate is not None and not 1 <= rate <= _MOST_PPS:
        return ErrorCode.RECEIVE_PARAMETERS, f"parameter 'netmeasure.target_pps' is {rate}"
    if mode not in _RECEIVE_MODES:
        return ErrorCode.RECEIVE_PARAMETERS, f"parameter 'netmeasure.receive_mode' is {mode!r}"
    return None
