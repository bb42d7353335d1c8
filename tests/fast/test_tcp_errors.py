"""Break a native TCP loop: resets, wrong descriptors, impossible options."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import Group, Stream
from netmeasure.clock import MILLISECOND_NS
from support.census import settle
from support.tcp_rig import (
    BLOCK,
    PATIENCE_S,
    UNREAD,
    Rig,
    reset,
    total,
    unacknowledged_pair,
    wait_until_full,
    wait_until_running,
)


def test_reset_by_the_peer_ends_the_receiver(rig: Rig) -> None:
    pair = rig.pair()
    receiver = Receiver(rig.group(), pair.right.fileno())
    rig.start(receiver)
    pair.left.sendall(b"some")
    assert settle(lambda: receiver.bytes == 4, PATIENCE_S)
    reset(pair.left)
    rig.join()
    assert (receiver.reason, receiver.errno) == ("error", errno.ECONNRESET)
    assert total(receiver) == receiver.bytes == 4


@pytest.mark.parametrize("mode", ["copy", "sendfile"])
def test_reset_by_the_peer_ends_the_sender(rig: Rig, mode: str) -> None:
    pair, group = rig.pair(small=True), rig.group()
    sender = rig.sender(group, pair.left, mode)
    rig.start(sender)
    group.open()
    wait_until_full(pair.left)
    reset(pair.right)
    rig.join()
    assert sender.reason == "error"
    assert sender.errno in (errno.ECONNRESET, errno.EPIPE)
    assert sender.acked_bytes <= sender.bytes


def test_reset_ends_the_wait_for_acknowledgements(rig: Rig) -> None:
    """No acknowledgement can arrive after a reset, and lost data are not a success."""
    pair, group = unacknowledged_pair(rig)
    sender = rig.sender(group, pair.left, drain_ns=60_000 * MILLISECOND_NS)
    rig.start(sender)
    group.open()
    assert settle(lambda: sender.ended_ns is not None, PATIENCE_S)
    reset(pair.right)
    rig.join()
    assert sender.acked_bytes < sender.bytes == UNREAD
    assert sender.reason == "error"
    assert sender.errno in (errno.ECONNRESET, errno.EPIPE)


def test_what_is_no_connection_is_an_error(rig: Rig) -> None:
    group, fd = rig.group(), rig.memfd(b"x")
    group.open()
    sender, receiver = Sender(group, fd, payload=b"x"), Receiver(group, fd)
    sender.run()
    receiver.run()
    assert (sender.reason, sender.errno) == ("error", errno.ENOTSOCK)
    assert (receiver.reason, receiver.errno) == ("error", errno.ENOTSOCK)
    assert sender.samples() == receiver.samples() == []


def test_a_source_shorter_than_the_block_is_an_error(rig: Rig) -> None:
    """sendfile() returns 0 at the end of the file: no progress, for ever."""
    pair, group = rig.pair(), rig.group(BLOCK)
    sender = Sender(group, pair.left.fileno(), source_fd=rig.memfd(b"too short"), block_bytes=BLOCK)
    rig.start(sender)
    group.open()
    rig.join()
    assert sender.reason == "error"
    assert sender.errno != 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda group: Sender(group, 0),
        lambda group: Sender(group, 0, source_fd=0),
        lambda group: Sender(group, 0, block_bytes=5),
        lambda group: Receiver(group, 0, buffer_bytes=0),
        lambda group: Receiver(group, 0, width_ns=0),
        lambda group: Receiver(group, 0, buckets=0),
        lambda group: Receiver(group, 0, buckets=7),
    ],
)
def test_impossible_options_are_refused(wrong: Callable[[Group], Stream]) -> None:
    with pytest.raises(ValueError, match=r"needs|must be"):
        wrong(Group())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda group: Sender(None, 0, payload=b"x"),  # type: ignore[arg-type]
        lambda group: Receiver(None, 0),  # type: ignore[arg-type]
        lambda group: Sender(group, 0, payload=b"x", durations_ns=5),  # type: ignore[call-arg]
        lambda group: Receiver(group, 0, duration_ns=5),  # type: ignore[call-arg]
        lambda group: Group(-1),
    ],
    ids=["sender-group", "receiver-group", "misspelt", "not-a-receivers", "negative"],
)
def test_wrong_arguments_are_refused(wrong: Callable[[Group], Stream]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        wrong(Group())


def test_a_loop_runs_once(rig: Rig) -> None:
    """A second thread would write the same counters."""
    pair, group = rig.pair(), rig.group()
    receiver = Receiver(group, pair.right.fileno())
    rig.start(receiver)
    wait_until_running(receiver)
    with pytest.raises(RuntimeError, match="started before"):
        receiver.run()
    group.stop()
    rig.join()
    with pytest.raises(RuntimeError, match="started before"):
        receiver.run()


def test_samples_are_read_after_the_end(rig: Rig) -> None:
    pair, group = rig.pair(), rig.group()
    receiver = Receiver(group, pair.right.fileno())
    assert receiver.samples() == []
    assert receiver.cpu_samples() == []
    rig.start(receiver)
    wait_until_running(receiver)
    for read in (receiver.samples, receiver.cpu_samples):
        with pytest.raises(RuntimeError, match="has ended"):
            read()
    group.stop()
    rig.join()
    assert len(receiver.samples()) == 1
