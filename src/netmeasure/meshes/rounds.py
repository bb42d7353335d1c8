"""Divide pairs of nodes into rounds, with a limit of tests for each node in a round.

The pairs are coloured so that no two pairs of a colour share a node; a round has as many colours as
a node may have tests. The pairs of an even number of nodes are divided into perfect matchings by
the circle method of tournaments. This is the least number of colours: each node is busy in every
round.
"""

from __future__ import annotations

from collections.abc import Sequence

Pair = tuple[str, str]


def in_rounds(
    nodes: Sequence[str], at_once: int = 1, without: frozenset[Pair] = frozenset()
) -> list[list[Pair]]:
    """Return the rounds of all directed pairs of nodes.

    Args:
        nodes: The nodes' names.
        at_once: The most tests that a node takes part in at a time, as client or as server.
        without: Pairs (client, server) to leave out.
    """
    colours = _matchings(nodes)
    if without:
        colours = _coloured([pair for colour in colours for pair in colour if pair not in without])
    return [
        [pair for colour in colours[first : first + at_once] for pair in colour]
        for first in range(0, len(colours), at_once)
    ]


def least_rounds(nodes: int, at_once: int = 1) -> int:
    """Return the least number of rounds for all directed pairs of a number of nodes."""
    if nodes < 2:
        return 0
    of_a_node = -(-2 * (nodes - 1) // at_once)
    at_a_time = nodes * at_once // 2
    return max(of_a_node, -(-nodes * (nodes - 1) // at_a_time))


def _coloured(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return pairs by colours: each pair has the first colour that neither of its nodes has yet."""
    colours: list[list[Pair]] = []
    busy: dict[str, int] = {}  # a bit for each colour that a node has
    for client, server in pairs:
        taken = busy.get(client, 0) | busy.get(server, 0)
        colour = (~taken & (taken + 1)).bit_length() - 1  # the lowest bit that neither node has
        if colour == len(colours):
            colours.append([])
        colours[colour].append((client, server))
        for node in (client, server):
            busy[node] = busy.get(node, 0) | 1 << colour
    return colours


def _matchings(nodes: Sequence[str]) -> list[list[Pair]]:
    """Return all pairs as matchings by the circle method, each matching in both directions."""
    ring: list[str | None] = list(nodes)
    if len(ring) % 2:
        ring.append(None)
    half = len(ring) // 2
    found: list[list[Pair]] = []
    for _ in range(len(ring) - 1):
        matching = [
            (a, b)
            for a, b in zip(ring[:half], reversed(ring[half:]), strict=True)
            if a is not None and b is not None
        ]
        found += [matching, [(b, a) for a, b in matching]] if matching else []
        ring = [ring[0], ring[-1], *ring[1:-1]]
    return found
