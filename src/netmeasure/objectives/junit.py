"""Write judgements as JUnit's XML, which CI services show as tests.

There is no standard. The output uses only what the common schema (Jenkins, xUnit plug-in:
junit-10.xsd) and the readers of GitLab and GitHub have in common. XML has no control characters, so
those of a name, such as that of a file or a test, are replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from netmeasure.objectives.judge import Judgement
from netmeasure.text import printable


def to_junit(judgements: Sequence[Judgement], target: str) -> bytes:
    """Return a test suite with a test case for each objective. A missed objective is a failure, an
    unknown one an error."""
    return to_junit_of_many([(target, judgements)])


def to_junit_of_many(groups: Sequence[tuple[str, Sequence[Judgement]]]) -> bytes:
    """Return a test suite, as `to_junit` does, for each pair of a name and its judgements."""
    suites = ElementTree.Element("testsuites")
    suites.extend(_suite(judgements, name) for name, judgements in groups)
    data: bytes = ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)
    return data


def _suite(judgements: Sequence[Judgement], target: str) -> ElementTree.Element:
    target = printable(target)
    count = {kind: sum(j.outcome == kind for j in judgements) for kind in ("missed", "unknown")}
    suite = ElementTree.Element(
        "testsuite",
        name=f"netmeasure {target}",
        tests=str(len(judgements)),
        failures=str(count["missed"]),
        errors=str(count["unknown"]),
        skipped="0",
    )
    for judgement in judgements:
        case = ElementTree.SubElement(
            suite, "testcase", classname=f"netmeasure.{target}", name=judgement.name
        )
        if judgement.outcome != "met":
            tag = "failure" if judgement.outcome == "missed" else "error"
            ElementTree.SubElement(case, tag, message=judgement.words, type=judgement.outcome)
    return suite
