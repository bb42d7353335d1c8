"""Test that a second analysis of a saved result gives the same figures."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.reanalysis import check

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

SHORT = nm.Timing(duration_s=0.4)
SPECS: dict[str, nm.TcpSpec | nm.UdpSpec] = {
    "tcp": nm.TcpSpec(timing=SHORT),
    "tcp both ways": nm.TcpSpec(
        direction="both", streams=2, timing=nm.Timing(duration_s=0.4, omit_s=0.1)
    ),
    "tcp bytes": nm.TcpSpec(direction="download", timing=nm.Timing(total_bytes=2**26)),
    "udp": nm.UdpSpec(timing=SHORT, target_bps=50_000_000, datagram_bytes=1000),
    "link": nm.TcpSpec(timing=SHORT, link=nm.Link(rate_bps=10**10)),
}


@pytest.mark.parametrize("name", list(SPECS))
def test_a_saved_result_gives_the_same_figures(run_once: RunLoop, name: str) -> None:
    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", 0) as server:
            return await nm.measure(server.address, SPECS[name])

    check(run_once(main()))


def test_a_saved_transfer_by_url_gives_the_same_figures(run_once: RunLoop) -> None:
    async def main() -> nm.Result:
        async with nm.serve_http("127.0.0.1", 0) as origin:
            url = f"http://127.0.0.1:{origin.port}/100M.dat"
            return await nm.measure(url, nm.HttpSpec(streams=2))

    check(run_once(main()))
