"""Test the note on a full table of tracked connections, whose SYNs the host itself drops.

The table is a file here: filling a real one would harm every other test of this host.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from netmeasure.engine import limits
from netmeasure.measurement.trips import conntrack_notes


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(limits, "CONNTRACK", tmp_path)
    (tmp_path / "nf_conntrack_max").write_text("262144\n")
    return tmp_path / "nf_conntrack_count"


def test_a_full_table_explains_syns_that_were_sent_again(table: Path) -> None:
    table.write_text("262100\n")
    assert limits.crowded_conntrack() == (262100, 262144)
    (note,) = conntrack_notes(3)
    assert "has 262100 of 262144 entries (nf_conntrack_max)" in note
    assert [*conntrack_notes(0), *conntrack_notes(None)] == []


@pytest.mark.parametrize("tracked", ["0\n", "200000\n", "", "many\n"])
def test_a_table_with_room_or_of_unknown_size_explains_nothing(table: Path, tracked: str) -> None:
    table.write_text(tracked)
    assert limits.crowded_conntrack() is None
    assert [*conntrack_notes(3)] == []


def test_a_host_that_tracks_nothing_has_no_table(table: Path) -> None:
    table.unlink(missing_ok=True)
    assert limits.crowded_conntrack() is None
