"""Test how a prompt and a notebook show results: briefly, and with foreign text as plain text."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import msgspec
from msgspec.structs import replace

from netmeasure.history.history import RunHistory
from netmeasure.report.history import series_line
from netmeasure.result import ErrorRecord, Series
from support.full_result import EMPTY, FULL, SENDER
from support.recorded import recorded

LONG = Series(origin_ns=0, width_ns=1, bytes=tuple(range(3000)))


def parts(value: Any) -> list[Any]:
    """Yield a structure and everything that it contains."""
    found = [value]
    for name in getattr(value, "__struct_fields__", ()):
        found += parts(getattr(value, name))
    for item in value if isinstance(value, tuple) else ():
        found += parts(item)
    return found


def test_every_part_of_a_result_is_shown_on_one_line() -> None:
    result = replace(FULL, flows=(replace(FULL.flows[0], series=LONG), *FULL.flows[1:]))
    for part in parts(result):
        if isinstance(part, msgspec.Struct):
            assert "\n" not in repr(part)
            assert len(repr(part)) < 1000, type(part)


def test_a_result_says_its_figures() -> None:
    shown = repr(recorded(1e9, set_up_ns=250_000_000))
    assert "complete, set-up 250 ms, steady bitrate 1.00 Gbit/s" in shown
    assert "bytes=<3000 items>" in repr(LONG)
    assert "id=1, role='sender'" in repr(SENDER)


def test_a_failure_says_its_reason() -> None:
    error = ErrorRecord(code="refused", message="nobody listens there")
    assert "cut short: nobody listens there" in repr(replace(EMPTY, complete=False, error=error))


def test_a_notebook_shows_a_table_with_foreign_text_as_text() -> None:
    target = '<script>alert("x")</script>&'
    table = ElementTree.fromstring(replace(recorded(1e9), target=target)._repr_html_())
    cells = {row[0].text: row[1].text for row in table}
    assert cells["target"] == target
    assert (cells["steady bitrate"] or "").startswith("1.00 Gbit/s")


def test_a_line_of_a_history_holds_nothing_that_acts_on_a_terminal() -> None:
    times = {"first_at": "2026-01-01T00:00:00Z", "last_at": "2026-01-02T00:00:00Z"}
    labels = {"cni": "\x1b[2J"}
    kept = RunHistory(target="h\x07", test="TCP", labels=labels, runs=2, incomplete=0, **times)
    assert series_line(kept).startswith("h\ufffd TCP cni=\ufffd[2J: 2 runs, from 2026-01-01T")
