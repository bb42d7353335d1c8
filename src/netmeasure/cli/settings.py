"""Take the values of a server's options from a TOML file and from the environment."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from netmeasure.errors import SpecError

PREFIX = "NETMEASURE_"
#: Where to listen, limits, and files of secrets, never secrets themselves.
SETTINGS = (
    "port",
    "bind",
    "max_tests",
    "max_tests_per_address",
    "max_streams",
    "max_time",
    "max_bytes",
    "max_bitrate",
    "max_total_bitrate",
    "allow",
    "deny",
    "idle_timeout",
    "metrics",
    "auth_key",
    "auth_users",
    "secret_file",
    "allow_iperf3",
    "tls_cert",
    "tls_key",
    "tls_required",
)
#: Options without a value.
_FLAGS = {"allow_iperf3", "tls_required"}
#: Kubernetes sets NETMEASURE_PORT to "tcp://..." in all containers beside a Service of our name.
_NOT_OF_ENVIRONMENT = {"port"}


def use_settings(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Make the values of the file and of the environment the defaults of a server's options.

    An option on the command line goes before the environment, and that before the file. Raise
    SpecError if a value is not good, with its place.
    """
    found: dict[str, tuple[str, str]] = {}
    path = _config_path(argv) or environment.get(f"{PREFIX}CONFIG")
    if path:
        found |= _of_file(path)
    for name in sorted(set(SETTINGS) - _NOT_OF_ENVIRONMENT):
        value = environment.get(PREFIX + name.upper())
        if value is not None:
            found[name] = (value, PREFIX + name.upper())
    actions = {action.dest: action for action in parser._actions}
    for name, (text, place) in found.items():
        convert: Any = _flag if name in _FLAGS else actions[name].type or str
        try:
            parser.set_defaults(**{name: convert(text)})
        except (argparse.ArgumentTypeError, ValueError) as exc:
            raise SpecError(f"{place}: {exc}") from None


def _flag(text: str) -> bool:
    """Return what a text says of an option without a value."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _config_path(argv: Sequence[str]) -> str | None:
    """Return the file that --config names, before the other options are read."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config")
    try:
        path: str | None = early.parse_known_args(argv)[0].config
    except SystemExit:  # it lacks its value, as the whole parser says
        return None
    return path


def _of_file(path: str) -> dict[str, tuple[str, str]]:
    try:
        values = tomllib.loads(Path(path).read_text())
    except (OSError, ValueError) as exc:
        raise SpecError(f"can't read {path}: {getattr(exc, 'strerror', None) or exc}") from None
    found: dict[str, tuple[str, str]] = {}
    for key, value in values.items():
        name = key.replace("-", "_")
        if name not in SETTINGS:
            known = ", ".join(sorted(SETTINGS))
            raise SpecError(f"{path}: {key!r} is not a setting", hint=f"settings: {known}")
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = ",".join(value)
        if isinstance(value, bool) is not (name in _FLAGS) or not isinstance(
            value, str | int | float
        ):
            wanted = "true or false" if name in _FLAGS else "a number or a text"
            raise SpecError(f"{path}: {key} must be {wanted}")
        found[name] = (str(value), f"{path}: {key}")
    return found
