"""Write reports for publication, in the requested form."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from netmeasure.errors import SpecError
from netmeasure.publishing import charts, page
from netmeasure.publishing.content import content_of
from netmeasure.publishing.forms import FORMS
from netmeasure.result import Result


def publish(
    results: Result | Iterable[Result] | Sequence[tuple[str, Sequence[Result]]], to: str = "html"
) -> bytes:
    """Return a report of results: one file that needs no network to be read.

    Args:
        results: One result, several, or groups of them: pairs of a name and its runs. Two groups
            are compared.
        to: The form: html, svg, png or md. All but md need matplotlib (`netmeasure[report]`).

    Raises:
        SpecError: There is no such form or no result, or matplotlib is not installed.
    """
    if to not in FORMS:
        raise SpecError(f"a report can't be {to!r}", hint=f"choose from {', '.join(FORMS)}")
    groups = _groups(results)
    if not any(runs for _, runs in groups):
        raise SpecError("there is no result to report")
    content = content_of(groups)
    if to == "md":
        return page.markdown(content)
    charts.need_matplotlib()
    write = {"html": page.html, "svg": charts.svg, "png": charts.png}
    return write[to](content)


def _groups(
    results: Result | Iterable[Result] | Sequence[tuple[str, Sequence[Result]]],
) -> list[tuple[str, Sequence[Result]]]:
    if isinstance(results, Result):
        return [("run", [results])]
    groups: list[tuple[str, Sequence[Result]]] = []
    plain: list[Result] = []
    for one in results:
        if isinstance(one, Result):
            plain.append(one)
        else:
            groups.append((one[0], list(one[1])))
    return [*groups, ("run", plain)] if plain else groups
