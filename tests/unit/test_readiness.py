"""Test what overlapping attempts say together, and which targets are valid."""

from __future__ import annotations

import pytest

import netmeasure as nm
from netmeasure.readiness.course import Course, Met, Outcome
from netmeasure.readiness.neighbours import Neighbours
from netmeasure.readiness.target import Target, read_target

MS = 1_000_000
SECOND = 1000 * MS
REFUSED: Met = ("refused", None)
SILENT: Met = ("no_answer", None)
SOUGHT: Met = ("unresolved_neighbour", None)


def course_of(*outcomes: Outcome, order: list[int] | None = None) -> Course:
    """Return the course of attempts every 10 ms that end in some order."""
    course = Course(SECOND)
    numbers = [course.begin(i * 10 * MS) for i in range(len(outcomes))]
    for i in order or range(len(outcomes)):
        course.end(numbers[i], outcomes[i])
    return course


def stretches(course: Course, end_ns: int) -> list[tuple[str, int, int]]:
    return [(w.cause, w.start_ns // MS, w.end_ns // MS) for w in course.waits(end_ns)]


def test_the_same_again_is_one_stretch() -> None:
    course = course_of(Outcome(SILENT), Outcome(SILENT), Outcome(REFUSED, MS), Outcome(None, MS))
    assert stretches(course, 30 * MS) == [("no_answer", 0, 20), ("refused", 20, 30)]


def test_the_order_in_which_attempts_end_changes_nothing() -> None:
    outcomes = (Outcome(SILENT), Outcome(REFUSED, MS), Outcome(SILENT), Outcome(REFUSED, MS))
    wanted = stretches(course_of(*outcomes), 40 * MS)
    assert stretches(course_of(*outcomes, order=[3, 1, 0, 2]), 40 * MS) == wanted
    assert [cause for cause, _, _ in wanted] == ["no_answer", "refused", "no_answer", "refused"]


def test_an_answer_to_a_syn_that_was_kept_tells_nothing_of_its_beginning() -> None:
    """The first SYN waited for its neighbour's address, and the second was retransmitted after a
    second."""
    course = course_of(
        Outcome(REFUSED, 300 * MS, SOUGHT), Outcome(REFUSED, 1000 * MS), Outcome(REFUSED, MS)
    )
    assert [cause for cause, _, _ in stretches(course, SECOND)] == [
        "unresolved_neighbour",
        "no_answer",
        "refused",
    ]


def test_far_away_every_answer_takes_long() -> None:
    course = course_of(*[Outcome(REFUSED, 300 * MS)] * 3)
    assert [cause for cause, _, _ in stretches(course, SECOND)] == ["refused"]


def test_an_answer_that_this_host_saw_late_is_no_late_answer() -> None:
    course = course_of(Outcome(REFUSED, MS, SILENT, 0), Outcome(REFUSED, 300 * MS, SILENT, 9 * MS))
    assert [cause for cause, _, _ in stretches(course, SECOND)] == ["refused"]
    course = course_of(
        Outcome(REFUSED, MS, SILENT, 0), Outcome(REFUSED, 300 * MS, SILENT, 290 * MS)
    )
    assert [cause for cause, _, _ in stretches(course, SECOND)] == ["refused", "no_answer"]


def test_what_got_through_ends_a_denial() -> None:
    course = course_of(Outcome(SILENT), Outcome(None, MS), Outcome(SILENT), Outcome(SILENT))
    course.forget(10 * MS)
    course.judge(2 * SECOND)
    assert course.since_ns == 20 * MS
    assert course.judged_ns is None


def test_outcomes_are_judged_after_a_time() -> None:
    course = course_of(Outcome(REFUSED, MS), Outcome(REFUSED, MS))
    course.judge(SECOND - 1)
    assert not course.is_empty
    assert (course.since_ns, course.judged_ns) == (None, 0)
    course.judge(SECOND)
    assert [course.since_ns, course.judged_ns] == [0, 10 * MS]


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("a", Target("a", "a", 5201, "tcp")),
        ("[2001:db8::1]:80", Target("[2001:db8::1]:80", "2001:db8::1", 80, "tcp")),
        ("tcp://a:7", Target("tcp://a:7", "a", 7, "tcp")),
        ("tls://a", Target("tls://a", "a", 443, "tls")),
        ("http://a/b?c=d", Target("http://a/b?c=d", "a", 80, "http", "/b?c=d")),
        ("https://a:8443", Target("https://a:8443", "a", 8443, "https")),
        ("ftp://a", Target("ftp://a", "a", 21, "tcp")),
    ],
)
def test_targets(text: str, target: Target) -> None:
    assert read_target(text) == target


@pytest.mark.parametrize(
    "text", ["", "a:0", "a:b", "gopher://a", "tcp://a", "http://", "http://a/b c", "http://a:99999"]
)
def test_targets_that_are_refused(text: str) -> None:
    with pytest.raises(nm.SpecError):
        read_target(text)


def test_the_host_field_has_the_port_where_it_is_not_the_usual_one() -> None:
    assert read_target("http://a/").authority == "a"
    assert read_target("http://[::1]:8080/").authority == "[::1]:8080"


def test_the_next_hop_is_the_gateway_of_the_longest_prefix() -> None:
    gateway, mask = 0x0A000001, 0xFFFFFF00
    routes = ((0, 0, gateway), (0x0A000000, mask, 0))
    sought = Neighbours(frozenset({gateway}), routes)
    assert sought.is_sought("192.0.2.1")
    assert not sought.is_sought("10.0.0.2")
    assert Neighbours(frozenset({0x0A000002}), routes).is_sought("10.0.0.2")
    assert not sought.is_sought("2001:db8::1")
