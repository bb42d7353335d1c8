"""Read the files of saved runs that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netmeasure.errors import ResultFormatError
from netmeasure.imports.reading import import_results
from netmeasure.result import Result


def short_names(files: Sequence[str]) -> list[str]:
    """Return a name for each file: its own without the ending, or the whole path where two would
    have the same."""
    short = [Path(file).stem for file in files]
    return [
        name if short.count(name) == 1 else file for name, file in zip(short, files, strict=True)
    ]


def read_results(
    files: Sequence[str], hint: str = "give files that --json or iperf3 -J wrote"
) -> list[Result]:
    """Return the runs of all files. Raises ResultFormatError with the name of the file; `hint` says
    what to do where it can't be read."""
    found: list[Result] = []
    for file in files:
        try:
            found += import_results(Path(file).read_bytes())
        except OSError as exc:
            raise ResultFormatError(f"can't read {file}: {exc.strerror}", hint=hint) from None
        except ResultFormatError as exc:
            raise ResultFormatError(f"{file}: {exc}", hint=exc.hint) from None
    return found
