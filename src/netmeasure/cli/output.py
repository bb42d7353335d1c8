"""Where reports and JSON go."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console, RenderableType

from netmeasure.errors import NetmeasureError, SpecError

#: Without a terminal a report is this wide, wherever it goes.
PLAIN_WIDTH = 120


def console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


def check_writable(path: str | None) -> None:
    """Before the test, not after it, is the time to say that the result can't be saved."""
    if path in (None, "-"):
        return
    try:
        with Path(path or "").open("ab"):
            pass
    except OSError as exc:
        raise SpecError(f"can't write {path}: {exc.strerror}") from None


def show(report: RenderableType) -> None:
    """On standard output. Lines end with their last word: rich fills tables up with spaces, which
    would wrap in a narrower window, such as a pager's."""
    screen = console()
    with screen.capture() as shown:
        screen.print(report, highlight=False)
    sys.stdout.write("\n".join(line.rstrip() for line in shown.get().split("\n")))
    sys.stdout.flush()


def deliver(
    report: RenderableType | None,
    documents: Sequence[tuple[bytes, str | None]],
    unseen: OSError | None = None,
) -> None:
    """Show a report and save each document that has a path. What can't be delivered does not keep
    the rest from it, and is raised in the end; so is `unseen`, of what should have been shown
    before: then nobody sees the report either."""
    with ExitStack() as saving:  # last in, first out
        for data, path in reversed(documents):
            if path is not None:
                saving.callback(write_json, data, path)
        if unseen is not None:
            raise unseen
        if report is not None:
            show(report)


def write_json(data: bytes, path: str) -> None:
    """To a file, or to standard output for "-"."""
    if path == "-":
        sys.stdout.write(data.decode() + "\n")
        return
    try:
        Path(path).write_bytes(data + b"\n")
    except OSError as exc:
        raise NetmeasureError(f"can't write {path}: {exc.strerror}") from None
