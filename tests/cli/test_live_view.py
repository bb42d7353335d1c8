"""Test where and how a run shows its progress: on a terminal, in a pipe, beside JSON, with -q."""

from __future__ import annotations

import io
import sys

import pytest

from netmeasure.cli.screens import Block, JsonLines, Lines, Screen, choose_screen


class Stream(io.StringIO):
    """Act as standard output or error, as a terminal or not."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


@pytest.mark.parametrize(
    ("terminals", "quiet", "json_out", "kind", "where"),
    [
        ("out err", False, False, Block, "out"),
        ("", False, False, Lines, "out"),
        ("err", False, False, Lines, "out"),
        ("out err", False, True, Block, "err"),
        ("err", False, True, Block, "err"),
        ("out", False, True, Screen, None),  # the output is read by a program: only errors
        ("out err", True, True, Screen, None),
    ],
)
def test_where_the_progress_of_a_run_is_shown(
    terminals: str,
    quiet: bool,
    json_out: bool,
    kind: type[Screen],
    where: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    streams = {name: Stream(name in terminals.split()) for name in ("out", "err")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, f"std{name}", stream)
    monkeypatch.setenv("TERM", "xterm")
    screen = choose_screen(quiet=quiet, json_out=json_out)
    assert type(screen) is kind
    outlet = getattr(screen, "_outlet", None)
    assert (None if outlet is None else outlet.stream) is streams.get(where or "")


def test_a_dumb_terminal_has_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(True))
    monkeypatch.setenv("TERM", "dumb")
    assert type(choose_screen(quiet=False, json_out=False)) is Lines


def test_lines_of_events_go_to_standard_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Stream(True))
    screen = choose_screen(quiet=True, json_out=False, json_lines=True)
    assert type(screen) is JsonLines
    assert screen._outlet.stream is sys.stdout
