"""Read the files of saved runs that a command is given."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from netmeasure.campaign.kept import KeptCampaign, is_kept, read_kept
from netmeasure.errors import ResultFormatError
from netmeasure.imports.reading import import_results
from netmeasure.result import Result
from netmeasure.result.resultset import ResultSet


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
        saved = read_saved(file, hint)
        found += saved.results
    return found


def read_saved(
    file: str, hint: str = "give files that --json or iperf3 -J wrote"
) -> ResultSet | KeptCampaign:
    """Return the runs of a file, or the campaign that has kept them there (`suite --keep`). Raises
    ResultFormatError as `read_results` does."""
    try:
        data = Path(file).read_bytes()
        return read_kept(data) if is_kept(data) else import_results(data)
    except OSError as exc:
        raise ResultFormatError(f"can't read {file}: {exc.strerror}", hint=hint) from None
    except ResultFormatError as exc:
        raise ResultFormatError(f"{file}: {exc}", hint=exc.hint) from None


def read_campaigns(files: Sequence[str], hint: str) -> list[KeptCampaign]:
    """Return the campaigns of files; []: none of them has one.

    Raises ResultFormatError, also where only some of them have one.
    """
    saved = [read_saved(file, hint) for file in files]
    campaigns = [one for one in saved if isinstance(one, KeptCampaign)]
    if campaigns and len(campaigns) < len(saved):
        odd = next(f for f, one in zip(files, saved, strict=True) if one not in campaigns)
        raise ResultFormatError(f"{odd} has single runs, and the other file those of a campaign")
    return campaigns
