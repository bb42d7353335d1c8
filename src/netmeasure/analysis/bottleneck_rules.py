"""Name the limit of a flow by its figures. Only figures that stand in the Limits are used, so a
reader of a saved result can repeat the decision.

What the sender's own side does comes first, since it hides what lies behind it. Then the kernel's
accounting (tcp_chrono: Yan and Cheng, "tcp: instrument how long TCP is busy sending", Linux 4.10,
tcp_output.c): the busy time of a sender that neither the receiver's window nor its own buffer
stopped is the network's. What the network is follows from the two regimes below the capacity of a
path and above (Kleinrock; Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016, figure
1): with less on the way than path and rate hold, the round trip stays at its least and more on the
way means more rate, so the window is the limit; with more, the round trip grows and the rate does
not, so a link is. Data on the way are rate times round trip (Little's law).
"""

from __future__ import annotations

from netmeasure.result import Limit, Limits

#: So near to its target a sender was held back by the target.
ON_TARGET = 0.95
#: A thread that is on a CPU, or waits for one, for so much of the time has none left to give.
CPU_BOUND = 0.9
#: A window or a buffer that stopped the sender for so much of its busy time is the limit.
HELD_BACK = 0.5
#: A receiver that waits for its CPU is the limit when its window stops the sender so often.
FILLED = 0.25
#: Below this share of the time the sender had nothing to send.
BUSY = 0.8
#: A queue stands on the way when the round trip is longer by this share of its least...
QUEUED = 0.25
#: ...and by so much that hosts that are slow to answer don't explain it, or the rate is flat.
QUEUE_NS = 1_000_000
FLAT = 0.05
#: A short queue is none that is known if so much is lost in front of it: a policer may drop it.
DROPPED = 0.05
#: Losses without a queue at a rate this flat, and so much in clusters, are a policer's...
POLICED_FLAT = 0.15
POLICED_LOSS = 0.003
CLUSTERED = 2.0
#: ...unless the rate varies as it does when losses come by chance: this much, and this much more
#: for each share of lost segments, times the inverse root of the clusters in a part.
BY_CHANCE = 0.2
BY_CHANCE_PER_LOSS = 1.5
#: A window that is filled to this share is full: rate and round trip are means.
FULL = 0.8
#: With data waiting in fewer samples than this, the sender's side is what is slow.
WAITING = 0.5
#: So near to the rate, congestion control paces by what it has found the path to carry.
PACED = 1.25


def verdict(found: Limits) -> Limit | None:
    """Return the first limit that the figures show, None if they show none."""
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
    if found.busy_ratio is None:
        return None
    if found.busy_ratio >= BUSY:
        named = _of_the_network(found)
        return "receiver_cpu" if _is_late_receiver(named, found) else named
    return "application" if _asleep(found) >= HELD_BACK else "sender_cpu"


def _sender_bound(found: Limits) -> bool:
    """Its thread has used up its CPU; or it waits for one, and TCP has nothing left to send."""
    if _at_least(found.sender_cpu_ratio, CPU_BOUND):
        return True
    starved = _at_least(_sum(found.sender_cpu_ratio, found.sender_wait_ratio), CPU_BOUND)
    return starved and not _at_least(found.unsent_ratio, WAITING)


def _receiver_bound(found: Limits) -> bool:
    """Its thread has used up its CPU; or it waits for one, and keeps the sender waiting: by a full
    socket, or by acknowledgements that come late (a thread that is taken off its CPU in the middle
    of a read keeps its socket locked). On a busy host a thread that needs little waits most of the
    time, too; then data wait at the sender, for another reason than the receiver's window."""
    if _at_least(found.receiver_cpu_ratio, CPU_BOUND):
        return True
    if not _receiver_never_idle(found):
        return False
    full = _at_least(found.rwnd_limited_ratio, FILLED) or _at_least(found.rwnd_used_ratio, FULL)
    return full or (found.unsent_ratio is not None and found.unsent_ratio < WAITING)


def _receiver_never_idle(found: Limits) -> bool:
    """Return whether its thread always ran, or would have if it had had a CPU."""
    return _at_least(_sum(found.receiver_cpu_ratio, found.receiver_wait_ratio), CPU_BOUND)


def _is_late_receiver(named: Limit, found: Limits) -> bool:
    """Return whether it was a receiver without a CPU that looked like something in the network.

    While it waits for a CPU it may acknowledge late, so the round trip looks like a queue's. But in
    front of a link that is full, data wait for congestion control's window or its pacing; if they
    wait for neither, and the receiver is never idle, they wait for the receiver.
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
        # all that the sender's buffer holds is on the way, and its thread sleeps: for want of room
        # (the kernel accounts for that in some states of a connection only)
        return "send_buffer" if _asleep(found) >= HELD_BACK else "network"
    # data wait, no window is full, no queue stands: they are paced, as the user asked or by
    # congestion control itself (BBR)
    if found.pacing_ratio is None:
        return "network"
    if found.target_ratio is not None and found.pacing_ratio * found.target_ratio <= 1 / ON_TARGET:
        return "pacing"
    if _at_least(found.sndbuf_limited_ratio, FILLED):
        return "send_buffer"  # its own rate is all that congestion control has ever seen
    return "link" if found.pacing_ratio <= PACED else "congestion_window"


def _policed(found: Limits) -> bool:
    """Return whether packets above a rate are dropped and none is delayed.

    Losses by chance keep a rate as low, but the rate follows them, while a token bucket keeps it
    (RFC 2475, 2.3.3.4; Flach et al., "An Internet-Wide Analysis of Traffic Policing", SIGCOMM
    2016). They come one by one, or in clusters where time-outs follow. Each cluster moves the rate,
    so between long parts with many of them it varies by the inverse root of their number.
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
    """Return the share of the time in which the sender's thread wanted no CPU."""
    return 1 - (_sum(found.sender_cpu_ratio, found.sender_wait_ratio) or 0.0)


def _at_least(figure: float | None, threshold: float) -> bool:
    return figure is not None and figure >= threshold


def _sum(ran: float | None, waited: float | None) -> float | None:
    return None if ran is None else ran + (waited or 0.0)
