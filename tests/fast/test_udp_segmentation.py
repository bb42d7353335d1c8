"""Send trains of datagrams, on loopback and on a link with an MTU of 1500."""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from netmeasure._fast.udp import UdpReceiver, UdpSender
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS, SECOND_NS
from support import netns
from support.census import settle
from support.udp_rig import (
    IP_MTU_DISCOVER,
    IP_PMTUDISC_DO,
    SO_NO_CHECK,
    longest_train,
    pair,
    send,
    threads,
)


@pytest.mark.parametrize("segments", [64, 128])
def test_a_socket_that_cannot_segment_goes_on_without(segments: int) -> None:
    """Without transmit checksums the kernel refuses UDP_SEGMENT with EINVAL (older ones: EIO), of
    128 at first, as one that takes 64 does, then of any."""
    with pair() as (near, far):
        near.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        group = Group(budget=100 * 500)
        sender = UdpSender(group, near.fileno(), datagram_bytes=500, segments=segments)
        assert sender.segmentation
        send(sender, group)
        numbers = [struct.unpack_from(">III", far.recv(65536))[2] for _ in range(100)]
    assert not sender.segmentation
    assert sender.segments == 1
    assert sender.fallback_errno in (errno.EINVAL, errno.EIO)
    assert sender.reason == "budget"
    assert sender.errno == 0
    assert numbers == list(range(1, 101))


def test_a_train_is_as_long_as_the_kernel_takes_it() -> None:
    """Each of the datagrams arrives, whichever length that is."""
    with pair() as (near, far):
        group = Group(budget=300 * 16)
        sender = UdpSender(group, near.fileno(), datagram_bytes=16, segments=1000)
        assert sender.segments == 128
        send(sender, group)
        numbers = [struct.unpack_from(">III", far.recv(65536))[2] for _ in range(300)]
    assert (sender.segments, sender.fallback_errno, sender.errno) == (longest_train(), 0, 0)
    assert (sender.packets, sender.refused, sender.icmp_errors) == (300, 0, 0)
    assert numbers == list(range(1, 301))


@pytest.mark.network
class TestLink:
    """On a veth pair with an MTU of 1500."""

    @pytest.fixture
    def link(self) -> Iterator[netns.Network]:
        with netns.Network() as network:
            yield network

    @pytest.fixture
    def sockets(self, link: netns.Network) -> Iterator[tuple[socket.socket, socket.socket]]:
        with contextlib.ExitStack() as stack:
            both = []
            for side in (link.client, link.server):
                with netns.entered(side.namespace):
                    sock = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
                sock.bind((side.address, 0))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
                both.append(sock)
            near, far = both
            near.connect(far.getsockname())
            far.connect(near.getsockname())
            yield near, far

    def test_segments_larger_than_the_mtu_are_sent_as_fragments(self, sockets: Any) -> None:
        near, far = sockets
        sending, receiving = Group(budget=50 * 8000), Group()
        sender = UdpSender(sending, near.fileno(), datagram_bytes=8000, segments=8)
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=8000)
        with threads(receiving, receiver):
            send(sender, sending)
            assert settle(lambda: receiver.packets == 50)
        assert not sender.segmentation
        assert sender.fallback_errno in (errno.EINVAL, errno.EMSGSIZE)
        assert receiver.snapshot().lost_packets == 0

    def test_a_datagram_that_may_not_be_fragmented_is_an_error(self, sockets: Any) -> None:
        near, _ = sockets
        near.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        group = Group()
        sender = UdpSender(group, near.fileno(), datagram_bytes=8000, duration_ns=SECOND_NS)
        send(sender, group)
        assert sender.reason == "error"
        assert sender.errno == errno.EMSGSIZE
        assert sender.packets == 0

    @pytest.mark.rates
    @pytest.mark.parametrize(("rate", "refused"), [("20mbit", False), ("40kbit", True)])
    def test_a_full_send_buffer_costs_no_sequence_number(
        self, link: netns.Network, sockets: Any, rate: str, refused: bool
    ) -> None:
        """The queue holds more than the socket's buffer, so the link itself drops nothing. At 40
        kbit/s a datagram takes longer than two calls may block."""
        near, far = sockets
        link.shape(rate, burst="2k", latency="60s")
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        duration_ns = 600 * MILLISECOND_NS
        sending, receiving = Group(), Group()
        sender = UdpSender(sending, near.fileno(), datagram_bytes=1400, duration_ns=duration_ns)
        receiver = UdpReceiver(receiving, far.fileno(), datagram_bytes=1400)
        with threads(receiving, receiver):
            send(sender, sending)
            assert settle(lambda: receiver.packets == sender.packets, 10)
        assert sender.reason == "deadline"
        assert sender.icmp_errors == 0
        assert (sender.refused > 0) == refused
        assert receiver.snapshot().lost_packets == 0
        assert sender.last_ns is not None
        assert sending.opened_ns is not None
        assert sender.last_ns - sending.opened_ns <= duration_ns + 10 * MILLISECOND_NS
