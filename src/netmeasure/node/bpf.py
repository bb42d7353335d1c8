"""Read how long eBPF programs ran, if this process has the privilege (bpf(2))."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from typing import NamedTuple

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_GET_NEXT_ID, _GET_FD_BY_ID, _GET_INFO, _ENABLE_STATS = 11, 13, 15, 32
_INFO_BYTES, _NAME_AT, _RUN_TIME_AT = 256, 64, 192
_ATTRIBUTE_BYTES = 128
_libc = ctypes.CDLL(None, use_errno=True)


class Program(NamedTuple):
    """Hold the present counts of one program."""

    name: str
    kind: int
    run_ns: int
    runs: int


def count_run_times() -> int:
    """Make the kernel count run times until the returned descriptor is closed. Raises OSError."""
    return _bpf(_ENABLE_STATS, struct.pack("I", 0))


def read_programs() -> dict[int, Program]:
    """Return all programs by their numbers. Raises OSError."""
    found: dict[int, Program] = {}
    at = 0
    while True:
        attribute = bytearray(struct.pack("III", at, 0, 0))
        try:
            _bpf(_GET_NEXT_ID, attribute)
        except FileNotFoundError:
            return found
        at = struct.unpack_from("I", attribute, 4)[0]
        try:
            descriptor = _bpf(_GET_FD_BY_ID, struct.pack("I", at))
        except FileNotFoundError:  # it was unloaded meanwhile
            continue
        try:
            found[at] = _info(descriptor)
        finally:
            os.close(descriptor)


def _info(descriptor: int) -> Program:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_GET_INFO, struct.pack("IIQ", descriptor, _INFO_BYTES, ctypes.addressof(info)))
    run_ns, runs = struct.unpack_from("QQ", info.raw, _RUN_TIME_AT)
    name = info.raw[_NAME_AT : _NAME_AT + 16].partition(b"\0")[0].decode(errors="replace")
    return Program(name, struct.unpack_from("I", info.raw)[0], run_ns, runs)


def _bpf(command: int, attribute: bytes | bytearray) -> int:
    """Make the system call; the kernel writes its output into the bytearray. Raises OSError."""
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(f"bpf(2) is not known on {platform.machine()}")
    buffer = ctypes.create_string_buffer(bytes(attribute), _ATTRIBUTE_BYTES)
    done: int = _libc.syscall(number, command, buffer, _ATTRIBUTE_BYTES)
    if done < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if isinstance(attribute, bytearray):
        attribute[:] = buffer.raw[: len(attribute)]
    return done
