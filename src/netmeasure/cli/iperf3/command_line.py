"""Hold the values of all options of a command line, checked as iperf3 checks them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from netmeasure.cli.iperf3 import values
from netmeasure.cli.iperf3.getopt import read
from netmeasure.cli.iperf3.table import OPTIONS, Option
from netmeasure.cli.iperf3.values import Affinity, Bitrate, Keepalive, Place
from netmeasure.errors import SpecError

DEFAULT_PORT = 5201
DEFAULT_RECEIVE_TIMEOUT_MS = 120_000


@dataclass
class CommandLine:
    """Hold the values of all options, named as the options are; None: not given."""

    # the role, and other things to do
    server: bool = False
    client: Place | None = None
    help: bool = False
    version: bool = False
    daemon: bool = False
    one_off: bool = False
    # output
    format: str = "a"
    interval: float = 1.0
    verbose: bool = False
    json: bool = False
    json_stream: bool = False
    json_stream_full_output: bool = False
    netmeasure: bool = False
    logfile: str | None = None
    pidfile: str | None = None
    forceflush: bool = False
    timestamps: str | None = None
    title: str | None = None
    extra_data: str | None = None
    get_server_output: bool = False
    debug: int | None = None
    # where
    port: int = DEFAULT_PORT
    bind: Place | None = None
    bind_dev: str | None = None
    cport: int | None = None
    ipv4: bool = False
    ipv6: bool = False
    # the test
    udp: bool = False
    sctp: bool = False
    mptcp: bool = False
    nstreams: int | None = None
    xbind: str | None = None
    time: int | None = None
    bytes: int | None = None
    blockcount: int | None = None
    omit: int = 0
    parallel: int = 1
    reverse: bool = False
    bidir: bool = False
    length: int | None = None
    bitrate: Bitrate | None = None
    fq_rate: int = 0
    no_fq_socket_pacing: bool = False
    pacing_timer: int | None = None
    window: int | None = None
    set_mss: int | None = None
    no_delay: bool = False
    congestion: str | None = None
    tos: int = 0
    flowlabel: int | None = None
    zerocopy: bool = False
    skip_rx_copy: bool = False
    gsro: bool = False
    udp_counters_64bit: bool = False
    repeating_payload: bool = False
    dont_fragment: bool = False
    file: str | None = None
    affinity: Affinity | None = None
    # time limits
    connect_timeout: int | None = None
    rcv_timeout: int | None = None
    snd_timeout: int | None = None
    cntl_ka: Keepalive | None = None
    idle_timeout: int | None = None
    # what a server grants
    server_bitrate_limit: values.RateLimit | None = None
    server_max_duration: int | None = None
    username: str | None = None
    rsa_public_key_path: str | None = None
    rsa_private_key_path: str | None = None
    authorized_users_path: str | None = None
    time_skew_threshold: int = 10
    use_pkcs1_padding: bool = False

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
    """Return the settings of a command line. After -h or -v, nothing more is read or checked.

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
            settings.udp = False  # as in iperf3, the later option holds
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
