"""Define the options about packets, local addresses and authentication, and evaluate them."""

from __future__ import annotations

import argparse
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from netmeasure.cli.values import (
    allowed_networks,
    bitrate,
    byte_size,
    count,
    cpus,
    dscp,
    networks,
    number,
    seconds,
)
from netmeasure.errors import SpecError
from netmeasure.spec import Credentials, Padding, Secret, ServerTls
from netmeasure.spec.words import USUAL_STREAMS

if TYPE_CHECKING:
    from netmeasure.protocol.auth import Gatekeeper

#: The environment variable with the password. As an option, all users of the host could see it.
PASSWORD = "NETMEASURE_PASSWORD"
#: The environment variable with the shared secret, for both ends.
SECRET = "NETMEASURE_SECRET"
#: The least length of a secret: a shorter one can be found by brute force.
GOOD_SECRET_BYTES = 16


def add_packet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a test's packets, traffic threads and texts."""
    sock = parser.add_argument_group("packets")
    mark = sock.add_mutually_exclusive_group()
    mark.add_argument("--tos", type=number, metavar="N", help="type of service or traffic class")
    mark.add_argument("--dscp", type=dscp, metavar="NAME|N", help="DSCP, such as ef, af41, cs1, 46")
    sock.add_argument(
        "--pacing-rate",
        type=bitrate,
        metavar="RATE",
        help="pacing rate of each stream, at both ends",
    )
    sock.add_argument(
        "--flow-label", type=number, metavar="N", help="IPv6: flow label of what this end sends"
    )
    sock.add_argument("--dont-fragment", action="store_true", help="UDP over IPv4: set the DF bit")
    sock.add_argument("--mptcp", action="store_true", help="multipath TCP, if both ends support it")
    sock.add_argument("--bind-dev", metavar="NAME", help="use this network interface only")
    sock.add_argument(
        "--repeating-payload", action="store_true", help="send repeating digits, not random bytes"
    )
    sock.add_argument("--file", help="TCP: send FILE once, or write what is received to it")
    sock.add_argument(
        "--cpu",
        type=cpus,
        metavar="N[,M]",
        help="run traffic threads on CPU N, the server's on CPU M",
    )
    sock.add_argument(
        "--exclusive",
        action="store_true",
        help="wait until no other test runs on the server, and let none run beside this one",
    )
    sock.add_argument("--title", metavar="TEXT", help="text to store in the results of both ends")


def add_client_auth(parser: argparse.ArgumentParser) -> None:
    """Add the options of a client that authenticates itself."""
    auth = parser.add_argument_group(
        "authentication",
        f"for a server that asks for it; the password is in the environment variable {PASSWORD}",
    )
    _add_secret(auth)
    auth.add_argument(
        "--tls",
        action="store_true",
        help="encrypt the control connection and check the server's certificate (--ca-file)",
    )
    auth.add_argument("--auth-user", metavar="NAME", help="the user's name")
    auth.add_argument("--auth-key", metavar="FILE", help="the server's public RSA key (PEM)")
    _add_padding(auth)


def add_server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a server's limits, and of the clients that it serves."""
    parser.add_argument("--bind-dev", metavar="NAME", help="listen on this network interface only")
    parser.add_argument("--mptcp", action="store_true", help="serve multipath TCP as well")
    parser.add_argument("--one-off", action="store_true", help="end after one client's test")
    parser.add_argument(
        "--idle-timeout", type=seconds, metavar="S", help="end if no client connects for S"
    )
    parser.add_argument(
        "--max-bitrate",
        type=bitrate,
        metavar="RATE",
        help="highest bitrate of a test, all its streams together",
    )
    parser.add_argument("--max-time", type=seconds, metavar="S", help="longest duration of a test")
    parser.add_argument(
        "--max-total-bitrate",
        type=bitrate,
        metavar="RATE",
        help="highest bitrate of all tests together; each test must then ask for a bitrate",
    )
    parser.add_argument(
        "--max-bytes", type=byte_size, metavar="BYTES", help="most bytes that a test moves"
    )
    parser.add_argument(
        "--max-streams",
        type=count,
        default=USUAL_STREAMS,
        metavar="N",
        help="most streams of a test in each direction (default %(default)s, at most 1024)",
    )
    parser.add_argument(
        "--allow",
        type=allowed_networks,
        default=(),
        metavar="NETWORKS",
        help="serve only clients of these networks, such as 192.0.2.0/24,2001:db8::/32",
    )
    parser.add_argument(
        "--deny",
        type=networks,
        default=(),
        metavar="NETWORKS",
        help="serve no clients of these networks, also where --allow has them",
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file with the values of these options, by their names; environment variables"
        " (NETMEASURE_MAX_TESTS and so on) and the command line override it",
    )
    auth = parser.add_argument_group(
        "authentication", "without these options, every client is served"
    )
    _add_secret(auth)
    auth.add_argument(
        "--allow-iperf3",
        action="store_true",
        help="with a secret: also serve iperf3 clients, which can't prove that they know it",
    )
    auth.add_argument(
        "--tls-cert",
        metavar="FILE",
        help="this server's certificate (PEM): control connections may then be encrypted",
    )
    auth.add_argument(
        "--tls-key",
        metavar="FILE",
        help="its private key (PEM), unless the file of --tls-cert has it",
    )
    auth.add_argument(
        "--tls-required",
        action="store_true",
        help="refuse clients without TLS, which includes all iperf3 clients",
    )
    auth.add_argument("--auth-key", metavar="FILE", help="this server's private RSA key (PEM)")
    auth.add_argument("--auth-users", metavar="FILE", help="users, in lines USER,HASH as in iperf3")
    _add_padding(auth)


def _add_secret(group: Any) -> None:
    group.add_argument(
        "--secret-file",
        metavar="FILE",
        help=f"file of the secret that both ends must know (or {SECRET} in the environment)",
    )


def _add_padding(group: Any) -> None:
    group.add_argument(
        "--auth-pkcs1", action="store_true", help="use PKCS #1 v1.5 padding, as iperf3 before 3.17"
    )


def socket_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of SocketOptions that these options set."""
    return {
        "tos": options.tos if options.dscp is None else options.dscp * 4,
        "pacing_bps": options.pacing_rate,
        "flow_label": options.flow_label,
        "dont_fragment": options.dont_fragment,
        "multipath": options.mptcp,
        "bind_device": options.bind_dev,
    }


def peer_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of TcpSpec and UdpSpec that these options set."""
    cpu, server_cpu = options.cpu or (None, None)
    return {
        "repeating_payload": options.repeating_payload,
        "cpu": cpu,
        "server_cpu": server_cpu,
        "title": options.title,
        "exclusive": options.exclusive,
        "credentials": _credentials(options),
        "secret": client_secret(options),
        **_tls(options),
    }


_NOT_FOR_URLS = (
    "exclusive",
    "repeating_payload",
    "cpu",
    "title",
    "file",
    "auth_user",
    "auth_key",
    "secret_file",
    "tls",
)


def refuse_for_urls(options: argparse.Namespace) -> None:
    """Raise SpecError for options that transfers by URL do not have."""
    for name in _NOT_FOR_URLS:
        if getattr(options, name, None):
            raise SpecError(f"--{name.replace('_', '-')} is not an option of transfers by URL")


def _tls(options: argparse.Namespace) -> dict[str, Any]:
    """Return the fields of a specification about TLS."""
    wanted, ca_file = getattr(options, "tls", False), getattr(options, "ca_file", None)
    if ca_file is not None and not wanted:
        raise SpecError("--ca-file needs TLS", hint="add --tls, or give a URL")
    return {"tls": wanted, "ca_file": ca_file}


def server_tls(options: argparse.Namespace) -> ServerTls | None:
    """Return a server's certificate; None: it has none. Raises SpecError."""
    if options.tls_cert is None:
        for name in ("tls_key", "tls_required"):
            if getattr(options, name):
                raise SpecError(f"--{name.replace('_', '-')} needs --tls-cert")
        return None
    _warn_if_others_read(options.tls_key or options.tls_cert)
    return ServerTls(
        certificate=options.tls_cert, key=options.tls_key, required=options.tls_required
    )


def client_secret(options: argparse.Namespace) -> Secret | None:
    """Return the secret of a client; None: it has none, or the command has no such option. Raises
    SpecError."""
    return _secret(options) if hasattr(options, "secret_file") else None


def server_secret(options: argparse.Namespace) -> Secret | None:
    """Return the secret of a server; None: it requires none. Raises SpecError."""
    secret = _secret(options)
    if secret is None:
        if options.allow_iperf3:
            raise SpecError("--allow-iperf3 needs a secret")
        return None
    if len(secret.key) < GOOD_SECRET_BYTES:
        _warn(
            f"the secret has only {len(secret.key)} bytes, and can be found by brute force"
            " (make one: openssl rand -hex 32)"
        )
    if options.secret_file is not None:
        _warn_if_others_read(options.secret_file)
    return secret


def _secret(options: argparse.Namespace) -> Secret | None:
    """Return the content of the file or of the environment variable, without the line break."""
    path = options.secret_file
    key = _read(path) if path is not None else os.environb.get(SECRET.encode())
    if key is None:
        return None
    key = key.rstrip(b"\r\n")
    if not key:
        where = path if path is not None else f"the variable {SECRET}"
        raise SpecError(f"{where} holds no secret", hint="make one: openssl rand -hex 32")
    return Secret(key=key)


def _credentials(options: argparse.Namespace) -> Credentials | None:
    user, key = getattr(options, "auth_user", None), getattr(options, "auth_key", None)
    if user is None and key is None:
        return None
    if user is None or key is None:
        raise SpecError("authentication needs both --auth-user and --auth-key")
    password = os.environ.get(PASSWORD)
    if not password:
        raise SpecError("no password", hint=f"set the environment variable {PASSWORD}")
    return Credentials(
        user=user, password=password, public_key=_read(key), padding=_padding(options)
    )


def gatekeeper(options: argparse.Namespace) -> Gatekeeper | None:
    """Return the gatekeeper of the server; None: the server accepts all clients. Raises
    SpecError."""
    if options.auth_key is None and options.auth_users is None:
        return None
    if options.auth_key is None or options.auth_users is None:
        raise SpecError("authentication needs both --auth-key and --auth-users")
    from netmeasure.protocol.auth import Gatekeeper, read_users

    try:
        users = read_users(_read(options.auth_users).decode())
    except UnicodeDecodeError:
        raise SpecError(f"{options.auth_users} is not UTF-8") from None
    for path in (options.auth_key, options.auth_users):
        _warn_if_others_read(path)
    return Gatekeeper(_read(options.auth_key), users, padding=_padding(options))


def _warn_if_others_read(path: str) -> None:
    """Print a warning if every user of this host can read a secret file."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return  # reading the file will raise the error
    if mode & stat.S_IROTH:
        _warn(f"every user of this host can read {path} (change it: chmod o-rwx)")


def _warn(warning: str) -> None:
    sys.stderr.write(f"netmeasure: warning: {warning}\n")


def _padding(options: argparse.Namespace) -> Padding:
    return "pkcs1" if options.auth_pkcs1 else "oaep"


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as exc:
        raise SpecError(f"can't read {path}: {getattr(exc, 'strerror', None) or exc}") from None
