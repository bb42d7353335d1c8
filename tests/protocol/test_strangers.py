"""Test that other services and clients are named by their first bytes."""

from __future__ import annotations

import pytest

from netmeasure.protocol import likely_service, new_cookie

#: Recorded with iperf 2.1.8: the first bytes of its client, and its server's answer.
IPERF2_CLIENT = bytes.fromhex("400100780000000100006e8d00000000")
IPERF2_SERVER = bytes.fromhex("000000020000001c0000000000020001")
#: The head of a ClientHello (RFC 8446), and of a query of DNS over TCP (RFC 1035).
TLS_CLIENT = bytes.fromhex("160301020001fc0303a1b2c3d4e5f607")
DNS_QUERY = bytes.fromhex("001d1a2b01000001000000000000066e")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (IPERF2_CLIENT, "iperf 2"),
        (IPERF2_SERVER, "iperf 2"),
        (TLS_CLIENT, "TLS"),
        (DNS_QUERY, None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"\0" * 16, None),
        (b"", None),
    ],
)
def test_a_service_is_named_by_its_first_bytes(data: bytes, name: str | None) -> None:
    assert likely_service(data) == name


def test_a_cookie_of_ours_is_no_other_service() -> None:
    assert {likely_service(new_cookie().encode()) for _ in range(100)} == {None}
