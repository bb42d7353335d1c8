"""Watch many targets concurrently in one thread: start attempts, and record their outcomes."""

from __future__ import annotations

import fcntl
import heapq
import os
import resource
import select
import socket
import ssl
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal, NamedTuple

from netmeasure.clock import nanoseconds, now_ns
from netmeasure.errors import NetmeasureError
from netmeasure.readiness.attempt import Attempt
from netmeasure.readiness.course import Course, Outcome
from netmeasure.readiness.names import Entries, LookUp, is_address
from netmeasure.readiness.neighbours import Neighbours, read_neighbours
from netmeasure.readiness.report import Readiness
from netmeasure.readiness.target import Target

#: The number of descriptors that are left for the rest of the program.
SPARE_DESCRIPTORS = 64
#: The most concurrent look-ups of all names together.
MOST_LOOK_UPS = 512
#: The kernel's table of neighbours is read this often while connections are awaited.
NEIGHBOURS_NS = 50_000_000
#: A target is denied once no attempt has been successful for this time.
DENIED_NS = 500_000_000
#: The default time after which a waiting resolver repeats its query (resolv.conf(5)).
LOOK_UP_NS = 5_000_000_000
#: How many of a target's open sockets are closed between two other steps: closing a hundred at once
#: would delay the attempts at other targets.
CLOSED_AT_ONCE = 8
#: How many sockets are handled before attempts that are due begin: when a path of hundreds of
#: targets becomes usable, all have an answer at once.
STEPS_AT_ONCE = 16
_NAME_SILENCE = Outcome(("name_no_answer", None))


class Plan(NamedTuple):
    """Hold the wanted state, and the times of attempts."""

    wanted: Literal["allowed", "denied"]
    timeout_ns: int
    every_ns: int
    attempt_ns: int
    family: int
    tls: ssl.SSLContext | None


class Watch:
    """Watch targets until all are as wanted, the time is over, or `stop` is called.

    Args:
        targets: The targets, at most as many as there are descriptors.
        plan: The wanted state, and the times of attempts.

    Attributes:
        found: One report for each target, once `run` has returned.
        error: The error that ended `run` early; None: no error.
        origin_ns: The moment from which all times of the reports count (CLOCK_MONOTONIC): when the
            first attempt is due, once `run` has begun.
    """

    def __init__(self, targets: Sequence[Target], plan: Plan) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        in_use = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        free = soft - in_use - SPARE_DESCRIPTORS
        if free < len(targets):
            raise NetmeasureError(
                f"{len(targets)} targets need more file descriptors than the {max(free, 0)} left",
                hint="raise the limit (ulimit -n), or watch fewer at a time",
            )
        share = free // len(targets)
        every_ns = max(plan.every_ns, -(-plan.attempt_ns // share))
        self.found: list[Readiness] = []
        self.error: BaseException | None = None
        self._plan = plan._replace(every_ns=every_ns)
        # a few more attempts than fit in their time are open, since closing takes a while
        longest_ns = min(plan.attempt_ns, plan.timeout_ns)
        at_once = len(targets) * (longest_ns // every_ns + 2)
        self._most_descriptors = min(soft - 1, in_use + at_once)
        self._stopped = threading.Event()
        self._waking = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self.origin_ns = now_ns()
        self._polled_ns = self.origin_ns  # what is ready now was not ready then
        self._watched = [_Watched(target, plan.attempt_ns) for target in targets]
        names = sum(not watched.is_address for watched in self._watched)
        self._look_up_every_ns = max(every_ns, names * LOOK_UP_NS // MOST_LOOK_UPS)
        self._left = len(targets)
        self._looking_up = 0
        self._due: list[tuple[int, int]] = []
        self._told: deque[tuple[_Watched, LookUp]] = deque()
        self._at: dict[int, Attempt] = {}
        self._pending: deque[Attempt] = deque()
        self._reached: deque[_Watched] = deque()
        self._left_open: deque[Attempt] = deque()

    def stop(self) -> None:
        """Make `run` return soon. Any thread may call this."""
        self._stopped.set()
        self._wake()

    def _wake(self) -> None:
        with self._waking:  # a look-up may end after the end of the watch
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def run(self) -> None:
        """Watch until the end."""
        try:
            self._epoll.register(self._wake_fd, select.EPOLLIN)
            self._make_room()
            self._begin_now()
            self._loop(self.origin_ns + self._plan.timeout_ns)
        except BaseException as exc:  # the error is raised again where the thread is joined
            self.error = exc
        finally:
            for watched in self._watched:
                self._finish(watched)
            for attempt in self._left_open:
                attempt.close()
            self.found = [self._report(watched) for watched in self._watched]
            self._epoll.close()
            with self._waking:
                os.close(self._wake_fd)
                self._wake_fd = -1

    def _make_room(self) -> None:
        """Let this process's table of descriptors grow before the first attempt, if it has to. A
        process with several threads waits meanwhile, for 20 ms or so, in which no attempt would
        begin (expand_fdtable() in Linux's fs/file.c waits for an RCU grace period). How many
        addresses a name has is not known yet: they may let it grow once more."""
        with suppress(OSError):
            copy = fcntl.fcntl(self._wake_fd, fcntl.F_DUPFD_CLOEXEC, self._most_descriptors)
            os.close(copy)

    def _begin_now(self) -> None:
        """Spread the starts of the first attempts evenly from now on."""
        self.origin_ns = self._polled_ns = now_ns()
        for number, watched in enumerate(self._watched):
            since_ns = self._plan.every_ns * number // len(self._watched)
            watched.due_ns = self.origin_ns + since_ns

    def _loop(self, deadline_ns: int) -> None:
        # With hundreds of targets, tens of thousands of attempts start each second: no step of an
        # attempt may iterate over all targets or all attempts.
        neighbours_ns, is_behind = 0, False
        for number, watched in enumerate(self._watched):
            heapq.heappush(self._due, (watched.due_ns, number))
        while self._left and not self._stopped.is_set():
            now = now_ns()
            if now >= deadline_ns:
                return
            while self._told:
                self._take_name(*self._told.popleft())
            while self._due and self._due[0][0] <= now:
                due_ns, number = heapq.heappop(self._due)
                watched = self._watched[number]
                if not watched.reached and due_ns == watched.due_ns:
                    self._begin(watched, number)
                    # missed starts are not made up for
                    watched.due_ns = max(watched.due_ns, now + 1)
                    heapq.heappush(self._due, (watched.due_ns, number))
            if not is_behind:  # otherwise, old attempts may have an answer that was not read yet
                self._expire(now)
            if now >= neighbours_ns:
                self._note_neighbours(read_neighbours())
                neighbours_ns = now + NEIGHBOURS_NS
            for _ in range(min(CLOSED_AT_ONCE, len(self._left_open))):
                self._left_open.popleft().close()
            if self._reached:
                self._finish(self._reached.popleft())
            busy = self._left_open or self._reached
            due_ns = now if busy else self._due[0][0] if self._due else deadline_ns
            wait_s = max(0, min(due_ns, deadline_ns) - now_ns()) / 1e9
            ready = self._epoll.poll(wait_s, STEPS_AT_ONCE)
            polled_ns = now_ns()
            for fd, _ in ready:
                if fd == self._wake_fd:
                    os.eventfd_read(fd)
                elif fd in self._at:
                    self._step(fd)
            is_behind = len(ready) == STEPS_AT_ONCE  # others may have been ready, too
            if not is_behind:
                self._polled_ns = polled_ns

    # ---- attempts

    def _begin(self, watched: _Watched, place: int) -> None:
        if not watched.entries:
            watched.due_ns += self._look_up_every_ns
            self._look_up(watched)
        if not watched.entries:
            return
        watched.due_ns += self._plan.every_ns
        tls = self._plan.tls if watched.target.asks in ("tls", "https") else None
        begun_ns = watched.begun_ns
        for family, address in watched.entries:
            attempt = Attempt(watched.target, family, address, tls, place)
            attempt.gap_ns = attempt.start_ns - begun_ns if begun_ns else 0
            watched.begun_ns = attempt.start_ns
            attempt.number = watched.course.begin(attempt.start_ns - self.origin_ns)
            watched.attempts += 1
            watched.open[attempt.number] = attempt
            if attempt.descriptor < 0 or attempt.is_over:
                self._settle(watched, attempt)
                continue
            self._at[attempt.descriptor] = attempt
            self._pending.append(attempt)
            self._epoll.register(attempt.descriptor, select.EPOLLOUT)

    def _step(self, fd: int) -> None:
        attempt = self._at[fd]
        watched = self._watched[attempt.place]
        if watched.reached:  # `_finish` ends this attempt later
            self._epoll.unregister(fd)
            return
        events = attempt.step(self._polled_ns)
        if attempt.is_over:
            self._settle(watched, attempt)
        else:
            self._epoll.modify(fd, events)

    def _expire(self, now: int) -> None:
        """End the attempts whose time is over; `_pending` has them in the order of their starts."""
        old_ns = now - self._plan.attempt_ns
        while self._pending and self._pending[0].start_ns < old_ns:
            attempt = self._pending.popleft()
            watched = self._watched[attempt.place]
            if attempt.number in watched.open and not watched.reached:
                attempt.give_up()
                self._settle(watched, attempt)

    def _settle(self, watched: _Watched, attempt: Attempt) -> None:
        """Record the outcome of an ended attempt."""
        del watched.open[attempt.number]
        if attempt.through:
            watched.note_through(attempt, self.origin_ns)
            if self._plan.wanted == "denied":
                watched.course.forget(attempt.start_ns - self.origin_ns)
        watched.course.end(attempt.number, attempt.outcome)
        self._close(attempt)
        watched.course.judge(now_ns() - self.origin_ns)
        if self._plan.wanted == "denied":
            since, known = watched.course.since_ns, watched.course.judged_ns
            if since is not None and known is not None and known - since >= DENIED_NS:
                watched.at_ns, watched.reached = since, True
        elif watched.first is not None:
            watched.at_ns, watched.reached = watched.through_ns, True
        if watched.reached:
            self._left -= 1
            self._reached.append(watched)

    def _finish(self, watched: _Watched) -> None:
        """End the open attempts. An attempt that a later one has overtaken had no answer. The
        outcome of other open attempts is unknown, and counts only if no other outcome is known."""
        winner = watched.first.start_ns if watched.first is not None else None
        nothing_known = watched.course.is_empty and winner is None
        for number, attempt in watched.open.items():
            if nothing_known or (winner is not None and attempt.start_ns < winner):
                attempt.give_up()
            watched.course.end(number, attempt.outcome)
            if attempt.descriptor >= 0:
                self._at.pop(attempt.descriptor, None)
                self._left_open.append(attempt)
        watched.open.clear()
        for number in watched.looking_up.values():
            watched.course.end(number, _NAME_SILENCE if nothing_known else Outcome(None))
        watched.looking_up.clear()

    def _close(self, attempt: Attempt) -> None:
        if attempt.descriptor >= 0:
            # closing a descriptor removes it from the epoll set (epoll(7))
            self._at.pop(attempt.descriptor, None)
            attempt.close()

    def _note_neighbours(self, neighbours: Neighbours) -> None:
        if not neighbours.unresolved:
            return
        sought: dict[str, bool] = {}
        for watched in self._watched:
            for attempt in watched.open.values():
                if not attempt.connected and not attempt.sought:
                    if attempt.host not in sought:
                        sought[attempt.host] = neighbours.is_sought(attempt.host)
                    attempt.sought = sought[attempt.host]

    # ---- names

    def _look_up(self, watched: _Watched) -> None:
        target = watched.target
        if watched.is_address:
            found = socket.getaddrinfo(
                target.host, target.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )
            watched.entries = tuple((entry[0], entry[4]) for entry in found)
            watched.due_ns -= self._look_up_every_ns
            return
        if self._looking_up >= MOST_LOOK_UPS:
            return
        number = watched.course.begin(now_ns() - self.origin_ns)
        watched.attempts += 1
        try:
            look_up = LookUp(
                target.host, target.port, self._plan.family, lambda done: self._tell(watched, done)
            )
        except RuntimeError:  # no thread can be started: try again later
            watched.course.end(number, Outcome(None))
            return
        self._looking_up += 1
        watched.looking_up[look_up] = number

    def _tell(self, watched: _Watched, look_up: LookUp) -> None:
        """Record an ended look-up. The look-up's thread calls this."""
        self._told.append((watched, look_up))
        self._wake()

    def _take_name(self, watched: _Watched, look_up: LookUp) -> None:
        self._looking_up -= 1
        number = watched.looking_up.pop(look_up, None)
        if number is None:  # another look-up has found the name before
            return
        watched.course.end(number, Outcome(look_up.met))
        if not look_up.entries:
            return
        watched.entries = look_up.entries
        for waiting in watched.looking_up.values():
            watched.course.end(waiting, _NAME_SILENCE)
        watched.looking_up.clear()
        watched.due_ns = now_ns()
        heapq.heappush(self._due, (watched.due_ns, self._watched.index(watched)))

    # ---- the end

    def _report(self, watched: _Watched) -> Readiness:
        end_ns = watched.at_ns
        if end_ns is None or self._plan.wanted == "denied":
            end_ns = now_ns() - self.origin_ns
        first = watched.first
        return Readiness(
            target=watched.target.text,
            wanted=self._plan.wanted,
            reached=watched.reached,
            at_ns=watched.at_ns,
            grain_ns=max(self._plan.every_ns, first.gap_ns if first is not None else 0),
            address=first.host if first is not None else None,
            connect_ns=first.connect_ns if first is not None else None,
            waits=watched.course.waits(end_ns),
            attempts=watched.attempts,
        )


class _Watched:
    """Hold one target's attempts and look-ups."""

    def __init__(self, target: Target, hold_ns: int) -> None:
        self.target = target
        self.is_address = is_address(target.host)
        self.due_ns = 0
        self.begun_ns = 0
        self.course = Course(hold_ns)
        self.open: dict[int, Attempt] = {}
        self.entries: Entries = ()
        self.looking_up: dict[LookUp, int] = {}
        self.attempts = 0
        self.first: Attempt | None = None
        self.through_ns: int | None = None
        self.at_ns: int | None = None
        self.reached = False

    def note_through(self, attempt: Attempt, origin_ns: int) -> None:
        assert attempt.usable_ns is not None
        usable_ns = attempt.usable_ns - origin_ns
        if self.first is None or self.through_ns is None or usable_ns < self.through_ns:
            self.first, self.through_ns = attempt, usable_ns


def plan(
    wanted: Literal["allowed", "denied"],
    timeout_s: float,
    every_s: float,
    attempt_s: float,
    family: int,
    tls: ssl.SSLContext | None,
) -> Plan:
    """Return a plan from times in seconds."""
    times = (nanoseconds(timeout_s), nanoseconds(every_s), nanoseconds(attempt_s))
    return Plan(wanted, *times, family, tls)
