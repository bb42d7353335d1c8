"""Run `netmeasure history`: keep runs, list them, find and acknowledge changes."""

from __future__ import annotations

import argparse
import sys

import msgspec

from netmeasure.campaign.kept import KeptCampaign
from netmeasure.cli.exits import Exit
from netmeasure.cli.output import write_json
from netmeasure.errors import SpecError
from netmeasure.history import DEFAULT_LAST
from netmeasure.result import Result
from netmeasure.result.resultset import ResultSet
from netmeasure.spec.checked import is_utf8


def history(options: argparse.Namespace) -> int:
    """Carry out the action; return the exit code."""
    _check(options)
    labels = _labels(options.label)
    if options.action == "add":
        return _add(options, labels)
    from netmeasure.history.history import History

    with History(options.db, make=False) as found:
        if options.action == "ack":
            numbers = [_number(word) for word in options.words] or None
            done = found.acknowledge(numbers, note=options.note)
            shown = " ".join(f"#{number}" for number in done)
            print(f"acknowledged {shown}" if done else "there was no change to acknowledge")
            return Exit.OK
        if options.action == "list":
            series = found.series(labels)
            if options.json:
                _print_json(series)
            else:
                from netmeasure.report.history import series_line

                for one in series:
                    print(series_line(one))
            return Exit.OK
        changes = found.check(last=options.last or DEFAULT_LAST, labels=labels)
        looked_at = found.series(labels)
    if not looked_at:
        raise SpecError(
            f"the history {found.place} has no such runs", hint="history list shows all"
        )
    opened = [change for change in changes if not change.acknowledged]
    shown_ones = changes if options.all else opened
    if options.json:
        _print_json(shown_ones)
    else:
        from netmeasure.report.history import calm_line, change_line, plot

        if not opened:
            print(calm_line(looked_at))
        for change in shown_ones:
            print(change_line(change))
            if options.plot:
                print(f"  {plot(change.values)}")
    return Exit.MOVED if opened else Exit.OK


def _add(options: argparse.Namespace, labels: dict[str, str]) -> int:
    from netmeasure.cli.saved import read_saved
    from netmeasure.history.history import History

    # all of them, before any is stored
    groups = [group for saved in read_saved(options.words) for group in _groups(saved, labels)]
    with History(options.db) as found:
        if found.is_in_memory:
            raise SpecError(
                f"{found.place} is a database in memory, which would keep nothing",
                hint="--db takes a file, or a URL such as postgresql://HOST/NAME",
            )
        new = sum(found.add(results, named) for named, results in groups)
    count = sum(len(results) for _, results in groups)
    known = count - new
    print(f"added {new} of {count} runs{', the others are there already' if known else ''}")
    return Exit.OK


def _groups(
    saved: ResultSet | KeptCampaign, labels: dict[str, str]
) -> list[tuple[dict[str, str], list[Result]]]:
    """Return the runs of a file with their labels. Runs of a campaign get their variants and
    targets as labels, in addition to the given ones."""
    if isinstance(saved, ResultSet):
        return [(labels, list(saved.results))]
    found: dict[tuple[str, str], list[Result]] = {}
    for run in saved.runs:
        if run.result is not None:
            found.setdefault((run.variant, run.target), []).append(run.result)
    return [
        (
            labels
            | ({"variant": variant} if variant else {})
            | ({"target": target} if target else {}),
            results,
        )
        for (variant, target), results in found.items()
    ]


def _check(options: argparse.Namespace) -> None:
    """Raise SpecError for words and options that do not fit the action."""
    action = options.action
    if action == "add" and not options.words:
        raise SpecError("history add takes files that --json wrote")
    if action in ("list", "check") and options.words:
        raise SpecError(f"{options.words[0]!r} is one argument too many for history {action}")
    for name, of in (
        ("last", ("check",)),
        ("note", ("ack",)),
        ("all", ("check",)),
        ("plot", ("check",)),
        ("json", ("list", "check")),
        ("label", ("add", "list", "check")),
    ):
        if getattr(options, name) not in (None, False, []) and action not in of:
            words = " and ".join(filter(None, (", ".join(of[:-1]), of[-1])))
            raise SpecError(f"--{name} is an option of history {words}")
    for text in (*options.label, options.note or ""):
        if not is_utf8(text):
            raise SpecError(f"{text!r} is not valid UTF-8")


def _labels(texts: list[str]) -> dict[str, str]:
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise SpecError(f"{text!r} is not a label", hint="write NAME=VALUE")
        found[name] = value
    return found


def _number(word: str) -> int:
    digits = word.removeprefix("#")
    if not (digits.isascii() and digits.isdigit()) or int(digits) >= 2**31:
        raise SpecError(f"{word!r} is not the number of a change", hint="write 3 for #3")
    return int(digits)


def _print_json(values: object) -> None:
    sys.stdout.flush()
    write_json(msgspec.json.format(msgspec.json.encode(values), indent=2), "-")
