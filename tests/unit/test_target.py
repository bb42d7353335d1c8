"""Test which texts a user may write as the target of a test."""

from __future__ import annotations

import pytest

from netmeasure.errors import SpecError
from netmeasure.spec.target import parse_target


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("lab1", ("lab1", 5201)),
        ("lab1:7000", ("lab1", 7000)),
        ("192.0.2.1", ("192.0.2.1", 5201)),
        ("192.0.2.1:65535", ("192.0.2.1", 65_535)),
        ("2001:db8::1", ("2001:db8::1", 5201)),
        ("[2001:db8::1]", ("2001:db8::1", 5201)),
        ("[2001:db8::1]:7000", ("2001:db8::1", 7000)),
        ("fe80::1%eth0", ("fe80::1%eth0", 5201)),
        ("[fe80::1%eth0]:7000", ("fe80::1%eth0", 7000)),
    ],
)
def test_hosts_and_ports(target: str, read: tuple[str, int]) -> None:
    assert parse_target(target) == read


@pytest.mark.parametrize(
    ("target", "said", "hint"),
    [
        ("", "'' is not a host", "write a name or an address"),
        ("lab 1", "'lab 1' is not a host", "write a name or an address"),
        ("lab1:99999", "the port of 'lab1:99999' is not a number from 1 to 65535", None),
        ("lab1:http", "the port of 'lab1:http' is not a number from 1 to 65535", None),
        ("[::1]7000", "'[::1]7000' is not a target", "write [address]:port"),
        ("[::1", "'[::1' is not a target", "write [address]:port"),
        ("fe80::1:99999", "'fe80::1:99999' is not an IPv6 address", "with a port, write"),
        ("1::2::3", "'1::2::3' is not an IPv6 address", "with a port, write [address]:port"),
        ("[lab1:7000]:1", "'lab1:7000' is not an IPv6 address", "with a port, write"),
    ],
)
def test_texts_that_are_neither_host_nor_port(target: str, said: str, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        parse_target(target)
    assert str(caught.value).startswith(said)
    assert (caught.value.hint or "").startswith(hint or "")
