"""Parse the target of a test: a host, with or without its port, or a URL."""

from __future__ import annotations

from ipaddress import ip_address

from netmeasure.errors import SpecError
from netmeasure.spec.words import DEFAULT_PORT, Family

#: The schemes of URLs that can be measured.
URL_SCHEMES = ("http", "https", "ftp", "ftps")


def parse_target(target: str, port: int | None = None) -> tuple[str, int]:
    """Return host and port of a target.

    Args:
        target: "host", "host:port", "192.0.2.1", "2001:db8::1" or "[2001:db8::1]:5201".
        port: The port if the target names none; None: 5201.

    Raises:
        SpecError: The target is none of these, or a port is out of range.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise SpecError(f"{port} is not a port: it must be 1 to 65535")
    scheme, slash, rest = target.partition(":/")
    if slash and scheme.lower() in URL_SCHEMES:
        raise SpecError(
            f"{target!r} is neither a host nor a URL",
            hint=f"did you mean {scheme}://{rest.lstrip('/')}?",
        )
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
    if ":" in host and not _is_address(host):
        raise SpecError(
            f"{host!r} is not an IPv6 address", hint="with a port, write [address]:port"
        )
    if not text:
        return host, DEFAULT_PORT if port is None else port
    if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65_535):
        raise SpecError(f"the port of {target!r} is not a number from 1 to 65535")
    return host, int(text)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_url(target: str) -> bool:
    """Return whether a target is a URL, not a host."""
    return "://" in target


def check_family(host: str | None, family: Family) -> None:
    """Raise SpecError if a host is a literal address of another IP version than the requested
    one."""
    if host is None or family == "any":
        return
    try:
        version = ip_address(host.partition("%")[0].strip("[]")).version
    except ValueError:
        return  # a name
    asked = 4 if family == "ipv4" else 6
    if version != asked:
        raise SpecError(
            f"{host} is an IPv{version} address, but only IPv{asked} was asked for",
            hint=f"ask for IPv{version} or any (leave out -{asked}), or give an IPv{asked} address",
        )
