"""Hold the values of all options of a command line, checked as iperf3 checks them."""

from __future__ import annotations

import os
from collections.abc import Sequence

from netmeasure.cli.iperf3 import values
from netmeasure.cli.iperf3.getopt import read
from netmeasure.cli.iperf3.table import OPTIONS, Option
from netmeasure.cli.iperf3.values import Affinity, Bitrate, Keepalive, Place
from netmeasure.errors import SpecError

DEFAULT_PORT = 5201
DEFAULT_RECEIVE_TIMEOUT_MS = 120_000


class CommandLine:
    """Hold the values of all options, named as the options are; None: not given."""

    def __init__(self) -> None:
        # what to be and to do
        self.server = False
        self.client: Place | None = None
        self.help = False
        self.version = False
        self.daemon = False
        self.one_off = False
        # output
        self.format = "a"
        self.interval = 1.0
        self.verbose = False
        self.json = False
        self.json_stream = False
        self.json_stream_full_output = False
        self.netmeasure = False
        self.logfile: str | None = None
        self.pidfile: str | None = None
        self.forceflush = False
        self.timestamps: str | None = None
        self.title: str | None = None
        self.extra_data: str | None = None
        self.get_server_output = False
        self.debug: int | None = None
        # where
        self.port = DEFAULT_PORT
        self.bind: Place | None = None
        self.bind_dev: str | None = None
        self.cport: int | None = None
        self.ipv4 = False
        self.ipv6 = False
        # the test
        self.udp = False
        self.sctp = False
        self.mptcp = False
        self.nstreams: int | None = None
        self.xbind: str | None = None
        self.time: int | None = None
        self.bytes: int | None = None
        self.blockcount: int | None = None
        self.omit = 0
        self.parallel = 1
        self.reverse = False
        self.bidir = False
        self.length: int | None = None
        self.bitrate: Bitrate | None = None
        self.fq_rate = 0
        self.no_fq_socket_pacing = False
        self.pacing_timer: int | None = None
        self.window: int | None = None
        self.set_mss: int | None = None
        self.no_delay = False
        self.congestion: str | None = None
        self.tos = 0
        self.flowlabel: int | None = None
        self.zerocopy = False
        self.skip_rx_copy = False
        self.gsro = False
        self.udp_counters_64bit = False
        self.repeating_payload = False
        self.dont_fragment = False
        self.file: str | None = None
        self.affinity: Affinity | None = None
        # patience
        self.connect_timeout: int | None = None
        self.rcv_timeout: int | None = None
        self.snd_timeout: int | None = None
        self.cntl_ka: Keepalive | None = None
        self.idle_timeout: int | None = None
        # what a server grants
        self.server_bitrate_limit: values.RateLimit | None = None
        self.server_max_duration: int | None = None
        self.username: str | None = None
        self.rsa_public_key_path: str | None = None
        self.rsa_private_key_path: str | None = None
        self.authorized_users_path: str | None = None
        self.time_skew_threshold = 10
        self.use_pkcs1_padding = False

    @property
    def is_json(self) -> bool:
        """Return whether the output is JSON: a document, or a line for each event."""
        return self.json or self.json_stream

    @property
    def device(self) -> str | None:
        """Return the interface to use, from --bind-dev, or behind % in -B or -c."""
        places = (self.bind, self.client)
        return self.bind_dev or next((place.device for place in places if place), None)


def parse(words: Sequence[str]) -> CommandLine:
    """Return the settings of a command line. With -h or -v they end there, unchecked.

    Raises UsageError and SpecError.
    """
    settings = CommandLine()
    given: list[Option] = []
    for option, value in read(words, OPTIONS):
        given.append(option)
        converted = True if option.convert is None else option.convert(value)
        setattr(settings, option.field, converted)
        if settings.help or settings.version:
            return settings
        if settings.server and settings.client is not None:
            raise SpecError("cannot be both server and client")
        if option.field == "ipv4":
            settings.ipv6 = False
        elif option.field == "ipv6":
            settings.ipv4 = False
        elif option.field == "mptcp":
            settings.udp = False  # as iperf3 has it: the later word wins
        elif option.field == "udp":
            settings.mptcp = False
        elif option.field == "no_fq_socket_pacing":
            settings.fq_rate = 0
    _check(settings, given)
    return settings


def _check(settings: CommandLine, given: Sequence[Option]) -> None:
    if not settings.server and settings.client is None:
        raise SpecError("must either be a client (-c) or server (-s)")
    roles = {option.role for option in given}
    there = "client" if settings.server else "server"
    if there in roles:
        raise SpecError(f"some option you are trying to set is {there} only")
    if settings.server:
        _check_server(settings)
    else:
        _check_client(settings)


def _check_server(settings: CommandLine) -> None:
    if settings.affinity is not None and settings.affinity.server is not None:
        raise SpecError("some option you are trying to set is client only")
    key, users = settings.rsa_private_key_path, settings.authorized_users_path
    if (key is None) != (users is None) or not all(
        path is None or os.access(path, os.R_OK) for path in (key, users)
    ):
        raise SpecError(
            "you must specify a path to a valid RSA private key and a user credential file"
        )
    if settings.use_pkcs1_padding and key is None:
        raise SpecError(
            "you must specify a path to a valid RSA private key and a user credential file"
        )


def _check_client(settings: CommandLine) -> None:
    if settings.reverse and settings.bidir:
        raise SpecError("cannot be both reverse and bidirectional")
    if settings.rcv_timeout is not None and not (settings.reverse or settings.bidir):
        raise SpecError("client receive timeout is valid only in receiving mode: ")
    ends = (settings.time is not None, settings.bytes, settings.blockcount)
    if sum(map(bool, ends)) > 1:
        raise SpecError("only one test end condition (-t, -n, -k) may be specified")
    length = settings.length or None
    if settings.udp:
        if length is not None and not values.MIN_DATAGRAM <= length <= values.MAX_DATAGRAM:
            raise values.refused("DATAGRAM_SIZE")
        if settings.file is not None:
            raise SpecError("cannot transfer file using UDP")
    elif length is not None and length > values.MAX_BLOCK:
        raise values.refused("BLOCK_SIZE")
    if (settings.username is None) != (settings.rsa_public_key_path is None) or not (
        settings.rsa_public_key_path is None or os.access(settings.rsa_public_key_path, os.R_OK)
    ):
        raise SpecError("you must specify a username, password, and path to a valid RSA public key")
