"""Test which encapsulations explain a path's longest packet, by their standards' header sizes."""

from __future__ import annotations

import pytest

from netmeasure.overhead.sizes import IpVersion
from netmeasure.paths.explain import explanations


@pytest.mark.parametrize(
    ("passed", "tried", "version", "text", "outer"),
    [
        (1450, 1500, 4, "vxlan", 1500),  # 14 + 8 + 8 + 20
        (1430, 1500, 4, "vxlan:v6", 1500),  # 14 + 8 + 8 + 40
        (1480, 1500, 4, "ipip", 1500),
        (1476, 1500, 4, "gre", 1500),  # 4 + 20
        (1440, 1500, 6, "wireguard", 1500),  # 32 + 8 + 20
        (1420, 1500, 4, "wireguard:v6", 1500),  # 32 + 8 + 40
        (8950, 9000, 4, "vxlan", 9000),
        (1450, 9000, 4, "vxlan", 1500),
    ],
)
def test_the_difference_is_named(
    passed: int, tried: int, version: IpVersion, text: str, outer: int
) -> None:
    found = {
        (one.encapsulation, one.outer_mtu_bytes) for one in explanations(passed, tried, version)
    }
    assert (text, outer) in found


@pytest.mark.parametrize(
    ("passed", "tried"), [(1500, 1500), (9000, 9000), (1499, 1500), (700, 1500)]
)
def test_nothing_is_made_up(passed: int, tried: int) -> None:
    assert explanations(passed, tried, 4) == ()
