"""Read keys and users for authentication from files, and the password from the same places as
iperf3."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from netmeasure.cli.iperf3.command_line import CommandLine
from netmeasure.errors import SpecError
from netmeasure.protocol.auth import Gatekeeper, make_token, read_users
from netmeasure.spec import Credentials, Padding

PASSWORD_VARIABLE = "IPERF3_PASSWORD"
_CLIENT = "you must specify a username, password, and path to a valid RSA public key"
_SERVER = "you must specify a path to a valid RSA private key and a user credential file"


def credentials(settings: CommandLine) -> Credentials | None:
    """Return the client's credentials; None: it has none. Raises SpecError."""
    if settings.username is None or settings.rsa_public_key_path is None:
        return None
    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        key = Path(settings.rsa_public_key_path).read_bytes()
        mine = Credentials(
            user=settings.username,
            password=_ask() if password is None else password,
            public_key=key,
            padding=_padding(settings),
        )
        make_token(mine, 0)  # find a bad key before the test, not while the server waits
    except OSError:
        raise SpecError(_CLIENT) from None
    except SpecError as exc:
        raise SpecError(f"{_CLIENT} ({exc})") from None
    return mine


def gatekeeper(settings: CommandLine) -> Gatekeeper | None:
    """Return the gatekeeper of the server; None: the server accepts all clients. Raises
    SpecError."""
    if settings.rsa_private_key_path is None or settings.authorized_users_path is None:
        return None
    try:
        return Gatekeeper(
            Path(settings.rsa_private_key_path).read_bytes(),
            read_users(Path(settings.authorized_users_path).read_text(errors="replace")),
            skew_s=settings.time_skew_threshold,
            padding=_padding(settings),
        )
    except OSError:
        raise SpecError(_SERVER) from None
    except SpecError as exc:
        raise SpecError(f"{_SERVER} ({exc})") from None


def _padding(settings: CommandLine) -> Padding:
    return "pkcs1" if settings.use_pkcs1_padding else "oaep"


def _ask() -> str:
    """Read the password from the terminal without showing it, or from standard input."""
    if sys.stdin is not None and sys.stdin.isatty():
        from getpass import getpass

        return getpass("Password: ")
    return sys.stdin.readline().rstrip("\n") if sys.stdin is not None else ""
