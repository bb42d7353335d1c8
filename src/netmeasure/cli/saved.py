"""Read the files of saved runs for a command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netmeasure.campaign.kept import KeptCampaign, is_kept, read_kept
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.imports.reading import import_results
from netmeasure.result import Result
from netmeasure.result.encoding import escaped_bytes
from netmeasure.result.resultset import ResultSet

#: The possible contents of a file of results.
Saved = ResultSet | KeptCampaign


def short_names(files: Sequence[str]) -> list[str]:
    """Return a name for each file: its name without the extension, or the whole path if two names
    would be equal. Odd bytes in it (PEP 383) are shown as "\\xe9"."""
    short = [Path(file).stem for file in files]
    return [
        escaped_bytes(name if short.count(name) == 1 else file)
        for name, file in zip(short, files, strict=True)
    ]


def read_results(
    files: Sequence[str], hint: str = "give files that --json, iperf3 -J or --keep wrote"
) -> list[Result]:
    """Return the runs of all files, those of campaigns included. Raises ResultFormatError with the
    file's name, and with `hint` if a file can't be read."""
    return results_of(read_saved(files, hint))


def results_of(saved: Sequence[Saved]) -> list[Result]:
    """Return the runs in the contents of files."""
    return [result for one in saved for result in one.results]


def read_saved(
    files: Sequence[str], hint: str = "give files that --json, iperf3 -J or --keep wrote"
) -> list[Saved]:
    """Return the content of each file: runs, or the campaign that `suite --keep` has written.
    Raises ResultFormatError as `read_results` does."""
    return [_read(file, hint) for file in files]


def _read(file: str, hint: str) -> Saved:
    try:
        data = Path(file).read_bytes()
        return read_kept(data) if is_kept(data) else import_results(data)
    except OSError as exc:
        raise ResultFormatError(f"can't read {file}: {exc.strerror}", hint=hint) from None
    except ResultFormatError as exc:
        raise ResultFormatError(f"{file}: {exc}", hint=exc.hint) from None


def campaigns_of(files: Sequence[str], saved: Sequence[Saved]) -> list[KeptCampaign]:
    """Return the campaigns in the contents of files; []: no file has one.

    Raises SpecError if only some files have a campaign.
    """
    campaigns = [one for one in saved if isinstance(one, KeptCampaign)]
    if campaigns and len(campaigns) < len(saved):
        odd = next(f for f, one in zip(files, saved, strict=True) if isinstance(one, ResultSet))
        raise SpecError(
            f"{odd} has single runs, and another file those of a campaign",
            hint="give files of one kind",
        )
    return campaigns
