"""Test how a server is shared among the addresses of its clients."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from netmeasure.peer.server.shares import Crowd, LoginBrake, Memory, network_of


@pytest.mark.parametrize(
    ("host", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::5", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::5", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_networks(host: str, network: str) -> None:
    assert network_of(host) == network


def test_a_crowd_makes_room_where_it_is_thickest() -> None:
    crowd: Crowd[int] = Crowd(4)
    assert [crowd.add("a", number) for number in range(3)] == [None] * 3
    assert crowd.add("b", 10) is None
    assert crowd.add("c", 20) == 0  # the oldest of a
    assert crowd.add("a", 3) == 1
    assert len(crowd) == 4
    assert crowd.remove("b", 10)
    assert not crowd.remove("b", 10)
    assert not crowd.remove("a", 0)
    assert crowd.add("b", 11) is None
    # a newcomer of the largest network sends its own kind away, never itself
    assert crowd.add("a", 4) == 2


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60))
def test_a_crowd_always_displaces_a_member_of_the_largest_network(
    steps: list[tuple[int, bool]],
) -> None:
    crowd: Crowd[int] = Crowd(6)
    present: dict[int, int] = {}
    for number, (network, leaves) in enumerate(steps):
        mine = [member for member, where in present.items() if where == network]
        if leaves:
            assert crowd.remove(str(network), mine[0] if mine else number) == bool(mine)
            present.pop(mine[0] if mine else number, None)
            continue
        present[number] = network
        gone = crowd.add(str(network), number)
        assert (gone is None) == (len(present) <= 6)
        if gone is not None:
            sizes = Counter(present.values())
            assert sizes[present[gone]] == max(sizes.values())
            assert gone == min(one for one, where in present.items() if where == present[gone])
            assert gone != number
            del present[gone]
        assert len(crowd) == len(present)


def test_memory_is_given_in_turn_and_by_network() -> None:
    async def main() -> None:
        memory = Memory(10, 6)
        await memory.take("a", 6)
        order: list[str] = []

        async def want(name: str, network: str, size: int) -> None:
            await memory.take(network, size)
            order.append(name)

        tasks = [asyncio.create_task(want("a2", "a", 2))]
        await asyncio.sleep(0)
        tasks.append(asyncio.create_task(want("b1", "b", 3)))
        tasks.append(asyncio.create_task(want("c1", "c", 5)))
        await asyncio.sleep(0.01)
        assert order == ["b1"]  # a has had its share, and c does not fit
        tasks[2].cancel()
        memory.give_back("a", 6)
        await asyncio.sleep(0.01)
        assert order == ["b1", "a2"]
        memory.give_back("a", 2)
        memory.give_back("b", 3)
        # a message that is larger than a share gets it alone
        await memory.take("d", 9)
        memory.give_back("d", 9)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert memory._used.total() == 0

    asyncio.run(main())


def test_failed_logins_are_counted_by_network(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    monkeypatch.setattr("netmeasure.peer.server.shares.now_ns", lambda: now[0])
    brake = LoginBrake(most=3, within_s=10, networks=2)
    for _ in range(3):
        assert not brake.holds("a")
        brake.note("a")
    assert brake.holds("a")
    assert not brake.holds("b")
    now[0] = 11 * 10**9
    assert not brake.holds("a")
    for network in "abc":
        brake.note(network)
    assert len(brake._failed) == 2
