"""Run the Python fuzz targets on a few random inputs; `make fuzz` runs them with many."""

from __future__ import annotations

import pytest
from fuzz import python, targets

from netmeasure.errors import RemoteProtocolError

RUNS = 150


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_no_finding(name: str) -> None:
    for seed in targets.SEEDS[name]:
        targets.TARGETS[name](seed)
    python.by_chance(name, RUNS)


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_a_target_states_its_invariant(name: str) -> None:
    """The docstring of a target must be one sentence."""
    sentence = " ".join((targets.TARGETS[name].__doc__ or "").split())
    assert len(sentence) > 40
    assert sentence.count(". ") == 0
    assert sentence.endswith(".")


@pytest.mark.parametrize("name", ["control_connection", "parameters", "results", "announcement"])
def test_seeds_are_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that is refused would not reach the code behind the refusal."""
    monkeypatch.setattr(targets, "RemoteProtocolError", _NeverError)
    for seed in targets.SEEDS[name]:
        targets.TARGETS[name](seed)


class _NeverError(Exception):
    pass


def test_a_finding_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses_what_is_long(data: bytes) -> None:
        if len(data) > 10:
            raise RemoteProtocolError("too long")

    monkeypatch.setitem(targets.TARGETS, "hello", refuses_what_is_long)
    with pytest.raises(RemoteProtocolError):
        python.by_chance("hello", RUNS)
