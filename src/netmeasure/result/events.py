"""Define the events of a run, which are reported while it goes on; the last one has its Result.

The member `event` is the tag of each kind, so that a line of JSON identifies its kind. `at_ns`
counts from the start of the run on CLOCK_MONOTONIC, which is a little before the client's first
attempt.
"""

from __future__ import annotations

import msgspec

from netmeasure.result.document import ErrorRecord, Result
from netmeasure.result.live import Interval
from netmeasure.result.setup import Phase


class RunEvent(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Serve as the base of all events.

    Attributes:
        at_ns: The moment at which this host knew it, from the start of the run.
    """

    at_ns: int


class PhaseEvent(RunEvent, frozen=True, kw_only=True, tag="phase"):
    """Report that a phase of set-up has ended.

    Attributes:
        phase: The phase. Its moments count from the client's first attempt; only the result knows
            whether it is on the critical path (`decides`).
    """

    phase: Phase


class WaitingEvent(RunEvent, frozen=True, kw_only=True, tag="waiting"):
    """Report what set-up is waiting for; the event is repeated during the wait.

    Attributes:
        step: The name of the present phase, such as "resolve" or "connect".
        connection: The connection, as in `Phase`.
        address: The address that is being connected to; None: not a connect.
        waited_ns: How long the wait has lasted.
        unanswered_syns: SYNs that were sent and not answered yet (TCP_INFO); None: not a connect,
            or the kernel does not report it.
    """

    step: str
    connection: str
    address: str | None = None
    waited_ns: int
    unanswered_syns: int | None = None


class IntervalEvent(RunEvent, frozen=True, kw_only=True, tag="interval"):
    """Report the counts of a reporting period.

    Attributes:
        interval: The period, with the counts of each stream.
    """

    interval: Interval


class WarningEvent(RunEvent, frozen=True, kw_only=True, tag="warning"):
    """Report a note about a requested feature that was not possible, or a figure that is unknown.

    Attributes:
        message: The sentence, for people.
    """

    message: str


class ErrorEvent(RunEvent, frozen=True, kw_only=True, tag="error"):
    """Report why the run ended early; the event of its end follows.

    Attributes:
        error: The error.
    """

    error: ErrorRecord


class EndEvent(RunEvent, frozen=True, kw_only=True, tag="end"):
    """Report that the run has ended. No event follows.

    Attributes:
        result: The whole result, complete or not.
    """

    result: Result


#: Every kind of event, for `isinstance` and for decoding lines of JSON.
Event = PhaseEvent | WaitingEvent | IntervalEvent | WarningEvent | ErrorEvent | EndEvent
