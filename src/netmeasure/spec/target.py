"""Where a test goes: a host, with or without its port, or a URL."""

from __future__ import annotations

from netmeasure.errors import SpecError
from netmeasure.spec import DEFAULT_PORT


def parse_target(target: str, port: int | None = None) -> tuple[str, int]:
    """("host", port) from "host", "host:port", "192.0.2.1", "2001:db8::1", "[2001:db8::1]:5201".

    `port` is used where the text names none (default 5201). Raises SpecError.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise SpecError(f"{port} is not a port: it must be 1 to 65535")
    host, text = target, ""
    if target.startswith("["):
        host, bracket, rest = target[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise SpecError(f"{target!r} is not a target", hint="write [address]:port")
        text = rest[1:]
    elif target.count(":") == 1:
        host, _, text = target.partition(":")
    if not host or any(c.isspace() or c == "/" for c in host):
        raise SpecError(f"{target!r} is not a host", hint="write a name or an address")
    if not text:
        return host, DEFAULT_PORT if port is None else port
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise SpecError(f"{text!r} is not a port: it must be 1 to 65535")
    return host, int(text)


def is_url(target: str) -> bool:
    """Whether a target is a URL, not a host."""
    return "://" in target
