"""Write reports and JSON to standard output and to files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from netmeasure.errors import NetmeasureError, SpecError
from netmeasure.result import Result
from netmeasure.result.encoding import encoded
from netmeasure.result.resultset import ResultSet

if TYPE_CHECKING:  # rich is imported only if something is shown
    from rich.console import Console, RenderableType

#: The width of a report that does not go to a terminal.
PLAIN_WIDTH = 120


def console() -> Console:
    """Return a console as wide as the terminal, or PLAIN_WIDTH without one."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)


class JsonTarget(NamedTuple):
    """Hold the destination and the form of JSON output.

    Attributes:
        path: A file, or "-" for standard output; None: nowhere.
        short: Whether the time series are left out.
    """

    path: str | None
    short: bool

    def encoded(self, value: Result | ResultSet) -> bytes:
        """Return a document in this form."""
        if not self.short:
            return value.to_json()
        from netmeasure.result.summary import without_series

        if isinstance(value, Result):
            return encoded(without_series(value))
        return encoded(without_series(value))


def json_target(option: str | None) -> JsonTarget:
    """Parse the value of `--json`: FILE, "summary", or "summary=FILE"."""
    word, equals, path = (option or "").partition("=")
    if word != "summary":
        return JsonTarget(option, short=False)
    return JsonTarget(path if equals else "-", short=True)


def check_writable(path: str | None) -> None:
    """Raise SpecError, before the test, if its result can't be saved to this file."""
    if path in (None, "-"):
        return
    try:
        with Path(path or "").open("ab"):
            pass
    except OSError as exc:
        raise SpecError(f"can't write {path}: {exc.strerror}") from None


def show(report: RenderableType) -> None:
    """Print a report, without blanks at the ends of lines.

    rich pads tables with blanks, which would wrap in a narrower window, such as a pager's.
    """
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
    """Print a report and save documents. If one fails, the rest is still delivered.

    Args:
        report: The report; None: print nothing.
        documents: Pairs of JSON and the path to save it to; None: do not save it.
        unseen: The error of an earlier output to the same place; then the report is not printed.

    Raises:
        OSError: `unseen`, or the error of printing the report.
        NetmeasureError: A document can't be saved.
    """
    with ExitStack() as saving:  # last in, first out
        for data, path in reversed(documents):
            if path is not None:
                saving.callback(write_json, data, path)
        if unseen is not None:
            raise unseen
        if report is not None:
            show(report)


def write_json(data: bytes, path: str) -> None:
    """Write JSON to a file, or to standard output for "-"."""
    if path == "-":
        sys.stdout.write(data.decode() + "\n")
        return
    write_file(data + b"\n", path)


def write_file(data: bytes, path: str) -> None:
    """Write a file."""
    try:
        Path(path).write_bytes(data)
    except OSError as exc:
        raise NetmeasureError(f"can't write {path}: {exc.strerror}") from None
