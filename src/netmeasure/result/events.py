"""Define the events of a run: what is told of it while it goes on, and its Result as the last.

Each is tagged by its member `event`, so that a line of JSON tells its own kind. `at_ns` counts from
the start of the run on CLOCK_MONOTONIC, which is a little before the client's first attempt.
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
    """Tell that a phase of set-up is over.

    Attributes:
        phase: The phase. Its moments count from the client's first attempt; whether it decides is
            known only in the result.
    """

    phase: Phase


class WaitingEvent(RunEvent, frozen=True, kw_only=True, tag="waiting"):
    """Tell what set-up waits for; it is repeated while that lasts.

    Attributes:
        step: The name of the phase that is under way, such as "resolve" or "connect".
        connection: The connection that it is about, as in `Phase`.
        address: The address that is being connected to; None: not a connect.
        waited_ns: How long it has lasted.
        unanswered_syns: SYNs that were sent and not answered yet (TCP_INFO); None: not a connect,
            or the kernel does not say.
    """

    step: str
    connection: str
    address: str | None = None
    waited_ns: int
    unanswered_syns: int | None = None


class IntervalEvent(RunEvent, frozen=True, kw_only=True, tag="interval"):
    """Tell what was counted in a reporting period.

    Attributes:
        interval: The period, with the counts of each stream.
    """

    interval: Interval


class WarningEvent(RunEvent, frozen=True, kw_only=True, tag="warning"):
    """Tell a sentence about what was asked for and not possible, or what could not be learned.

    Attributes:
        message: The sentence, for people.
    """

    message: str


class ErrorEvent(RunEvent, frozen=True, kw_only=True, tag="error"):
    """Tell why the run was cut short; its end follows.

    Attributes:
        error: The error.
    """

    error: ErrorRecord


class EndEvent(RunEvent, frozen=True, kw_only=True, tag="end"):
    """Tell that the run is over. No event follows.

    Attributes:
        result: The whole result, complete or not.
    """

    result: Result


#: Every kind of event, for `isinstance` and for decoding lines of JSON.
Event = PhaseEvent | WaitingEvent | IntervalEvent | WarningEvent | ErrorEvent | EndEvent
