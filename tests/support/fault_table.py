"""Generate the fault matrix from the protocol's table of states.

A cell says which fault happens at which end, in which state, in which kind of conversation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from netmeasure.protocol.states import TRANSITIONS, Kind, Side, State, origin

Fault = Literal[
    "drop",
    "delay",
    "trickle",
    "reset",
    "half_close",
    "stall",
    "garbage",
    "oversize",
    "kill",
    "freeze",
]
Where = Literal["control", "data"]
Program = Literal["netmeasure", "iperf3"]

#: What one end does from a state on, as seen by the other end.
FAULTS: dict[Fault, str] = {
    "drop": "what it sends is taken and lost",
    "delay": "what it sends comes late",
    "trickle": "what it sends comes byte by byte",
    "reset": "its connection is reset",
    "half_close": "it sends FIN, and goes on listening",
    "stall": "nothing that it sends is taken any more",
    "garbage": "it sends bytes that mean nothing",
    "oversize": "it announces the longest message there is, and sends more",
    "kill": "its process is killed",
    "freeze": "its process is stopped, and goes on when the other end is over",
}
#: A test must survive these faults.
BENIGN: frozenset[Fault] = frozenset({"delay", "trickle"})
#: These faults happen to a whole process, the others on the path.
TO_PROCESS: frozenset[Fault] = frozenset({"kill", "freeze"})


class Talk(NamedTuple):
    """Hold a kind of conversation: the programs at both ends, and what they agree on."""

    name: str
    client: Program = "netmeasure"
    server: Program = "netmeasure"
    test: Literal["tcp", "udp", "rr", "crr"] = "tcp"
    download: bool = False
    secret: bool = False
    tls: bool = False
    queue: bool = False

    @property
    def extended(self) -> bool:
        return (self.client, self.server) == ("netmeasure", "netmeasure")

    def program(self, side: Side) -> Program:
        return self.client if side is Side.CLIENT else self.server

    def route(self) -> list[Kind]:
        """Return the messages of this conversation in order, from the table's first state to its
        last."""
        kinds: list[Kind] = []
        state = State.START
        while TRANSITIONS[state]:
            kind = self._next(state, queued=Kind.QUEUED in kinds)
            kinds.append(kind)
            state = TRANSITIONS[state][kind]
        return kinds

    def _next(self, state: State, *, queued: bool) -> Kind:
        possible = TRANSITIONS[state]
        if len(possible) == 1:
            return next(iter(possible))
        if self.secret and Kind.CHALLENGE in possible:
            return Kind.CHALLENGE
        if self.queue and not queued:
            return Kind.QUEUED
        return Kind.EXTENSION if self.extended else Kind.CREATE_STREAMS


TALKS = (
    Talk("tcp"),
    Talk("tcp-down", download=True),
    Talk("udp", test="udp"),
    Talk("udp-down", test="udp", download=True),
    Talk("rr", test="rr"),
    Talk("crr", test="crr"),
    Talk("secret", secret=True),
    Talk("tls", tls=True),
    Talk("queue", queue=True),
    Talk("secret-queue", secret=True, queue=True),
    Talk("to-iperf3", server="iperf3"),
    Talk("to-iperf3-down", server="iperf3", download=True),
    Talk("to-iperf3-udp", server="iperf3", test="udp"),
    Talk("from-iperf3", client="iperf3"),
    Talk("from-iperf3-down", client="iperf3", download=True),
    Talk("from-iperf3-udp", client="iperf3", test="udp"),
)


class Cell(NamedTuple):
    """Hold one fault. The end `victim` commits or suffers it after `step` messages have passed."""

    talk: Talk
    step: int
    fault: Fault
    victim: Side
    where: Where = "control"

    @property
    def state(self) -> State:
        state = State.START
        for kind in self.talk.route()[: self.step]:
            state = TRANSITIONS[state][kind]
        return state

    @property
    def name(self) -> str:
        said = self.talk.route()[self.step - 1].name if self.step else "connected"
        where = "" if self.where == "control" else ", data connections"
        return (
            f"{self.talk.name}: {self.victim.value} {self.fault} in {self.state.name} (after"
            f" {said}{where})"
        )

    @property
    def owes(self) -> bool:
        """Return whether the other end can't be complete, since it waits for a message that is
        never sent.

        A server that has sent its results does not need the last message.
        """
        if self.fault in BENIGN or self.where == "data":
            return False
        rest = self.talk.route()[self.step :]
        return any(origin(kind) is self.victim for kind in rest if kind is not Kind.IPERF_DONE)


#: Faults of data connections happen while a test runs.
_DATA_STATES = (State.RUNNING, State.ENDING)


def cells(talks: tuple[Talk, ...] = TALKS) -> Iterator[Cell]:
    """Return every cell of the matrix."""
    for talk in talks:
        for step in range(len(talk.route()) + 1):
            for fault in FAULTS:
                for victim in Side:
                    cell = Cell(talk, step, fault, victim)
                    yield cell
                    if (
                        talk.test != "udp"
                        and fault not in TO_PROCESS
                        and cell.state in _DATA_STATES
                    ):
                        yield cell._replace(where="data")


def a_part(talk: Talk, each: int) -> list[Cell]:
    """Return a part of the cells of one conversation that has every state, and every fault at each
    end.

    Each step takes the next `each` faults in turn.
    """
    names = list(FAULTS)
    wanted = []
    for cell in cells((talk,)):
        first = 3 * cell.step + (5 if cell.victim is Side.SERVER else 0)
        if (names.index(cell.fault) - first) % len(names) < each:
            wanted.append(cell)
    return wanted
