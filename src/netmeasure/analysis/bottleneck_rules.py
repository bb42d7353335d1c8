"""Find the limit of a flow from its figures. Only figures in the Limits are used, so that a reader
of a saved result can repeat the decision.

The limits of the sender's own side are checked first, since they hide the limits behind it. Then
the kernel's accounting (tcp_chrono: Yan and Cheng, "tcp: instrument how long TCP is busy sending",
Linux 4.10, tcp_output.c): if neither the receiver's window nor the sender's own buffer stopped a
sender, the network limited its busy time. The kind of network limit follows from the two regimes,
below and above the capacity of a path (Kleinrock; Cardwell et al., "BBR: Congestion-Based
Congestion Control", 2016, figure 1): with less data in flight than the bandwidth-delay product, the
round-trip time stays at its least and more data in flight increase the rate, so the window is the
limit; with more, the round-trip time grows and the rate does not, so a link is the limit. Data in
flight are rate times round-trip time (Little's law).
"""

from __future__ import annotations

from netmeasure.result import Limit, Limits

#: A sender within this share of its target was limited by the target.
ON_TARGET = 0.95
#: A thread that is on a CPU, or waits for one, for this share of the time has no time left.
CPU_BOUND = 0.9
#: A window or a buffer that stopped the sender for this share of its busy time is the limit.
HELD_BACK = 0.5
#: A receiver that waits for its CPU is the limit if its window stops the sender for this share of
#: the sender's busy time.
FILLED = 0.25
#: Below this share of the time the sender had nothing to send.
BUSY = 0.8
#: The path has a queue if the round-trip time exceeds its least value by this share...
QUEUED = 0.25
#: ...and by more than slow hosts explain, or the rate is flat.
QUEUE_NS = 1_000_000
FLAT = 0.05
#: With this share of losses, a short queue is no evidence of a link: a policer may cause the
#: losses.
DROPPED = 0.05
#: Losses without a queue are a policer's if the rate is this flat and the losses are this
#: clustered...
POLICED_FLAT = 0.15
POLICED_LOSS = 0.003
CLUSTERED = 2.0
#: ...unless the rate varies as it does with random losses: this much, and this much more for each
#: share of lost segments, times the inverse square root of the number of clusters in a part.
BY_CHANCE = 0.2
BY_CHANCE_PER_LOSS = 1.5
#: A window filled to this share counts as full, since rate and round-trip time are means.
FULL = 0.8
#: If data wait in a smaller share of samples than this, the sender's side is the limit.
WAITING = 0.5
#: If the pacing rate is at most this multiple of the rate, congestion control paces at its estimate
#: of the path's capacity.
PACED = 1.25


def verdict(found: Limits) -> Limit | None:
    """Return the first limit that the figures show; None: they show none."""
    if _at_least(found.sender_paused_ratio, HELD_BACK):
        return "sender_paused"
    if _at_least(found.receiver_paused_ratio, HELD_BACK):
        return "receiver_paused"
    if _at_least(found.target_ratio, ON_TARGET):
        return "pacing"
    if _sender_bound(found):
        return "sender_cpu"
    if _receiver_bound(found):
        return "receiver_cpu"
    if _at_least(found.rwnd_limited_ratio, HELD_BACK):
        return "receive_window"
    if _at_least(found.sndbuf_limited_ratio, HELD_BACK):
        return "send_buffer"
    busy = _busy_outside_pauses(found)
    if busy is None:
        return None
    if busy >= BUSY:
        named = _of_the_network(found)
        return "receiver_cpu" if _is_late_receiver(named, found) else named
    return "application" if _asleep(found) >= HELD_BACK else "sender_cpu"


def _busy_outside_pauses(found: Limits) -> float | None:
    """Return the sender's busy time as a share of the time in which its host ran the threads: a
    process that is stopped sends nothing, whatever limits it before and after."""
    if found.busy_ratio is None:
        return None
    return found.busy_ratio / (1 - (found.sender_paused_ratio or 0.0))


def _sender_bound(found: Limits) -> bool:
    """Return whether the sender's thread uses all of its CPU, or waits for one while TCP has
    nothing to send."""
    if _at_least(found.sender_cpu_ratio, CPU_BOUND):
        return True
    starved = _at_least(_sum(found.sender_cpu_ratio, found.sender_wait_ratio), CPU_BOUND)
    return starved and not _at_least(found.unsent_ratio, WAITING)


def _receiver_bound(found: Limits) -> bool:
    """Return whether the receiver's thread uses all of its CPU, or waits for one and so delays the
    sender: by a full socket, or by late acknowledgements (a thread that is preempted during a read
    keeps its socket locked). On a busy host, even a thread that needs little CPU time waits most of
    the time; in that case data wait at the sender for a reason other than the receiver's window."""
    if _at_least(found.receiver_cpu_ratio, CPU_BOUND):
        return True
    if not _receiver_never_idle(found):
        return False
    full = _at_least(found.rwnd_limited_ratio, FILLED) or _at_least(found.rwnd_used_ratio, FULL)
    return full or (found.unsent_ratio is not None and found.unsent_ratio < WAITING)


def _receiver_never_idle(found: Limits) -> bool:
    """Return whether the thread was always running or waiting for a CPU."""
    return _at_least(_sum(found.receiver_cpu_ratio, found.receiver_wait_ratio), CPU_BOUND)


def _is_late_receiver(named: Limit, found: Limits) -> bool:
    """Return whether a receiver that waited for a CPU explains the signs of a network limit.

    While the receiver waits for a CPU, it may acknowledge late, which looks like a queue. But
    before a saturated link, data wait for congestion control's window or its pacing. If they wait
    for neither, and the receiver is never idle, they wait for the receiver.
    """
    if not _receiver_never_idle(found):
        return False
    cwnd, pacing = found.cwnd_used_ratio, found.pacing_ratio
    held_back = cwnd is None or cwnd >= FULL or pacing is None or pacing <= PACED
    return named == "network" or (named == "link" and not held_back)


def _of_the_network(found: Limits) -> Limit:
    """Return the network's limit: the sender was busy all the time, and by the kernel's account
    neither end stopped it for long."""
    if found.buffer_delay_ratio is None or found.queue_delay_ns is None:
        return "network"
    if _policed(found):
        return "policer"
    if found.buffer_delay_ratio >= QUEUED:
        long = found.queue_delay_ns >= QUEUE_NS
        flat = found.rate_variation is not None and found.rate_variation <= FLAT
        kept = found.tcp_efficiency is None or 1 - found.tcp_efficiency < DROPPED
        return "link" if long or (flat and kept) else "network"
    cwnd, rwnd = found.cwnd_used_ratio, found.rwnd_used_ratio
    if _at_least(cwnd, FULL) and (rwnd is None or cwnd is None or cwnd >= rwnd):
        return "congestion_window"
    if _at_least(rwnd, FULL):
        return "receive_window"
    if found.unsent_ratio is None:
        return "network"
    if found.unsent_ratio < WAITING:
        # all data in the sender's buffer are in flight, and its thread sleeps because the buffer is
        # full (the kernel counts this time only in some states of a connection)
        return "send_buffer" if _asleep(found) >= HELD_BACK else "network"
    # data wait, but no window is full and there is no queue: they are paced, as the user asked or
    # by congestion control itself (BBR)
    if found.pacing_ratio is None:
        return "network"
    if found.target_ratio is not None and found.pacing_ratio * found.target_ratio <= 1 / ON_TARGET:
        return "pacing"
    if _at_least(found.sndbuf_limited_ratio, FILLED):
        return "send_buffer"  # congestion control has never seen more than its own rate
    return "link" if found.pacing_ratio <= PACED else "congestion_window"


def _policed(found: Limits) -> bool:
    """Return whether packets above a rate are dropped and none is delayed.

    Random losses keep a rate just as low, but with them the rate follows the losses, while a token
    bucket keeps the rate constant (RFC 2475, 2.3.3.4; Flach et al., "An Internet-Wide Analysis of
    Traffic Policing", SIGCOMM 2016). Random losses are single, or in clusters where timeouts
    follow. Each cluster changes the rate, so between long parts with many clusters the rate varies
    by the inverse square root of their number.
    """
    if found.tcp_efficiency is None or found.queue_delay_ns is None:
        return False
    lossy = 1 - found.tcp_efficiency >= POLICED_LOSS
    if found.rate_variation is None or found.retransmit_dispersion is None:
        return False
    flat = found.rate_variation <= POLICED_FLAT
    if found.retransmits_per_part is not None and found.retransmit_dispersion > 0:
        clusters = found.retransmits_per_part / found.retransmit_dispersion
        by_chance = BY_CHANCE + BY_CHANCE_PER_LOSS * (1 - found.tcp_efficiency)
        flat = flat and found.rate_variation * clusters**0.5 <= by_chance
    queued = found.queue_delay_ns >= QUEUE_NS and _at_least(found.buffer_delay_ratio, QUEUED)
    return lossy and flat and not queued and found.retransmit_dispersion >= CLUSTERED


def _asleep(found: Limits) -> float:
    """Return the share of the time in which the sender's thread neither ran nor waited for a
    CPU."""
    return 1 - (_sum(found.sender_cpu_ratio, found.sender_wait_ratio) or 0.0)


def _at_least(figure: float | None, threshold: float) -> bool:
    return figure is not None and figure >= threshold


def _sum(ran: float | None, waited: float | None) -> float | None:
    return None if ran is None else ran + (waited or 0.0)
