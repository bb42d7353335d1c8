"""Read the values of options from a TOML file and from the environment, for servers and clients.

A file has a server's options at its top, and a client's in the table [client].
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from netmeasure.campaign.toml import parse_toml
from netmeasure.cli.parsing import HelpLines
from netmeasure.errors import SpecError

PREFIX = "NETMEASURE_"
#: A value, or several values, and its place.
Found = tuple[str | list[str], str]
#: A server's settings: addresses, limits, and files of secrets, never secrets themselves.
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
#: Kubernetes sets NETMEASURE_PORT to "tcp://..." in all containers beside a Service of our name.
_NOT_OF_ENVIRONMENT = {"port"}
#: Variables that Kubernetes sets for a Service whose name begins with "netmeasure", which are no
#: misspelt settings.
_OF_KUBERNETES = re.compile(r"_(PORT|SERVICE_HOST|SERVICE_PORT)(_|$)")
#: A variable whose name is this similar to a setting's is a misspelt setting.
_LIKE = 0.85
#: Options of a client whose variables have another meaning for a server on the same host.
_OF_SERVERS = {"port", "bind", "auth_key"}
#: The table of a file with a client's options, and the commands that have them.
CLIENT = "client"
CLIENTS = ("client", "loopback")
_NO_SETTINGS = {"help", "target", "config"}


def use_settings(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    client: Iterable[argparse.Action],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Make the values of the file and of the environment the defaults of a server's options.

    An option on the command line takes precedence over the environment, and the environment over
    the file. Options of a client in the same file and environment are ignored. Raise SpecError,
    with the place, if a value is not valid.
    """
    actions = {action.dest: action for action in parser._actions if action.dest in SETTINGS}
    found: dict[str, Found] = {}
    if path := _config_path(argv, environment):
        top = {name: value for name, value in _toml(path).items() if name != CLIENT}
        found |= _of_table(path, top, actions)
    others = {one.dest for one in client}
    found |= _of_environment(environment, set(actions) - _NOT_OF_ENVIRONMENT, others)
    _use(parser, actions, found)


def use_client_settings(
    parser: argparse.ArgumentParser,
    argv: Sequence[str],
    known: Iterable[argparse.Action],
    environment: Mapping[str, str] = os.environ,
) -> None:
    """Make the values of the table [client] of the file, and of the environment, the defaults of a
    client's options.

    The precedence is the same as for servers. An option on the command line removes the values of
    the options that it excludes, as -n does that of the time, and an option that may be given
    several times replaces its own values.

    Args:
        parser: The parser of the command.
        argv: The words after the command.
        known: The options that the table may have; those that the command lacks are ignored.
        environment: The environment.

    Raises:
        SpecError: A value is not valid.
    """
    all_known = {one.dest: one for one in known if one.dest not in _NO_SETTINGS}
    found: dict[str, Found] = {}
    if path := _config_path(argv, environment):
        table = _toml(path).get(CLIENT, {})
        if not isinstance(table, dict):
            raise SpecError(f"{path}: {CLIENT} is no table: write [{CLIENT}]")
        found |= _of_table(f"{path}: [{CLIENT}]", table, all_known)
    found |= _of_environment(environment, set(all_known) - _OF_SERVERS, set(SETTINGS))
    actions = {one.dest: one for one in parser._actions if one.dest in all_known}
    for group in parser._mutually_exclusive_groups:
        if any(_is_given(action, argv) for action in group._group_actions):
            for action in group._group_actions:
                found.pop(action.dest, None)
    for action in actions.values():  # argparse would add to these values
        if isinstance(action, argparse._AppendAction) and _is_given(action, argv):
            found.pop(action.dest, None)
    _use(parser, actions, found)


def _is_given(action: argparse.Action, argv: Sequence[str]) -> bool:
    """Return whether a command line has an option, as a separate word or with its value."""
    for name in action.option_strings:
        if name.startswith("--"):
            if any(word == name or word.startswith(f"{name}=") for word in argv):
                return True
        elif any(word.startswith(name) for word in argv if not word.startswith("--")):
            return True
    return False


def _use(
    parser: argparse.ArgumentParser,
    actions: Mapping[str, argparse.Action],
    found: Mapping[str, Found],
) -> None:
    """Make values the defaults of options. Raise SpecError for an invalid one."""
    for name, (value, place) in found.items():
        if name not in actions:
            continue
        try:
            parser.set_defaults(**{name: _converted(actions[name], value)})
        except (argparse.ArgumentTypeError, ValueError) as exc:
            raise SpecError(f"{place}: {exc}") from None


def _converted(action: argparse.Action, value: str | list[str]) -> Any:
    """Return the value of an option. Raises ArgumentTypeError, ValueError."""
    if _is_flag(action):
        return _flag(str(value))
    convert: Any = action.type or str
    if isinstance(action, argparse._AppendAction):
        return [convert(one) for one in (value if isinstance(value, list) else [value])]
    text = ",".join(value) if isinstance(value, list) else value
    if action.choices is not None and text not in action.choices:
        raise ValueError(f"{text!r} is not one of {', '.join(map(str, action.choices))}")
    return convert(text)


def _is_flag(action: argparse.Action) -> bool:
    return action.nargs == 0


def _flag(text: str) -> bool:
    """Return the value of a flag from a text."""
    if text.lower() not in ("true", "false", "1", "0"):
        raise ValueError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "1")


def _config_path(argv: Sequence[str], environment: Mapping[str, str]) -> str | None:
    """Return the file of --config or of the environment, before the other options are read."""
    early = argparse.ArgumentParser(
        add_help=False, allow_abbrev=False, exit_on_error=False, formatter_class=HelpLines
    )
    early.add_argument("--config")
    try:
        path: str | None = early.parse_known_args(argv)[0].config
    except argparse.ArgumentError:  # the value is missing, which the parser will report
        return None
    return path or environment.get(f"{PREFIX}CONFIG")


def _of_environment(
    environment: Mapping[str, str], names: Iterable[str], others: Iterable[str]
) -> dict[str, Found]:
    """Return the settings of the environment. Raise SpecError for a misspelt setting.

    Args:
        environment: The environment; other programs may have variables with the same prefix.
        names: The settings that it may have.
        others: The settings of another command, which are ignored.
    """
    found: dict[str, Found] = {}
    known = {PREFIX + name.upper(): name for name in sorted(names)}
    passed_over = {PREFIX + name.upper() for name in others}
    for variable, value in environment.items():
        if variable in known:
            found[known[variable]] = (value, variable)
        elif variable in passed_over:
            continue
        elif like := _misspelt(variable, known):
            raise SpecError(f"{variable} is not a setting", hint=f"did you mean {like}?")
    return found


def _misspelt(variable: str, known: Iterable[str]) -> str | None:
    """Return the setting that a variable of the environment was probably meant to be."""
    name = variable.removeprefix(PREFIX)
    if name == variable or _OF_KUBERNETES.search(variable):
        return None
    from difflib import get_close_matches

    close = get_close_matches(name, [one.removeprefix(PREFIX) for one in known], 1, _LIKE)
    return PREFIX + close[0] if close else None


def _toml(path: str) -> dict[str, Any]:
    try:
        return parse_toml(Path(path).read_bytes())
    except (OSError, ValueError, SpecError) as exc:
        raise SpecError(f"can't read {path}: {getattr(exc, 'strerror', None) or exc}") from None


def _of_table(
    place: str, table: Mapping[str, Any], actions: Mapping[str, argparse.Action]
) -> dict[str, Found]:
    """Return the settings of a table. Raise SpecError for an unknown one."""
    found: dict[str, Found] = {}
    for key, value in table.items():
        name = key.replace("-", "_")
        if name not in actions:
            known = ", ".join(sorted(actions))
            raise SpecError(f"{place}: {key!r} is not a setting", hint=f"settings: {known}")
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            found[name] = (value, f"{place}: {key}")
            continue
        flag = _is_flag(actions[name])
        if isinstance(value, bool) is not flag or not isinstance(value, str | int | float):
            wanted = "true or false" if flag else "a number or a text"
            raise SpecError(f"{place}: {key} must be {wanted}")
        found[name] = (str(value), f"{place}: {key}")
    return found
