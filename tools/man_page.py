"""Make the manual page from the program's own option parsers.

python -m tools.man_page      write docs/netmeasure.1
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from netmeasure.version import __version__

FILE = Path(__file__).parents[1] / "docs" / "netmeasure.1"
_EXITS = {
    Exit.OK: "the test is complete",
    Exit.FAILED: "something else went wrong",
    Exit.USAGE: "a wrong option or value; nothing was started",
    Exit.NO_CONNECTION: "no connection: name not found, refused, timed out, no route",
    Exit.NOT_A_SERVER: "the peer does not speak the protocol, or refuses this test or file",
    Exit.BUSY: "the server has no room for another test",
    Exit.CUT_SHORT: "the test began and broke off; what was measured was printed",
    Exit.CANT_LISTEN: "the server can't have its port",
    Exit.BELOW: "an objective is missed, or B carries too little",
    Exit.CANT_TELL: "too few runs, or a figure is not known",
    Exit.HOST_LIMIT: "this host has no descriptors, threads or memory left",
    Exit.HOLE: "long packets are dropped on the path",
    Exit.MOVED: "a figure of the history changed its level",
    Exit.INTERRUPTED: "SIGINT; what was measured was printed",
    Exit.TERMINATED: "SIGTERM; what was measured was printed",
}


def page() -> str:
    """Return the manual page as roff (man(7))."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    top = parser()
    yield '.\\" made by `python -m tools.man_page`; change the parsers instead'
    yield f'.TH NETMEASURE 1 "" "netmeasure {__version__}" "User Commands"'
    yield ".SH NAME"
    yield r"netmeasure \- measure networks, with connection set-up apart from the steady bitrate"
    yield ".SH SYNOPSIS"
    for name in top.commands:
        yield ".br"
        yield f".B netmeasure {_text(name)}"
        yield ".RI [ options ]"
    helps = {one.dest: one.help or "" for one in _choices_of(top)._choices_actions}
    yield ".SH COMMANDS"
    for name, command in top.commands.items():
        yield f".SS netmeasure {_text(name)}"
        said = _text(helps.get(name, ""))
        yield f"{said[:1].upper()}{said[1:]}."
        for action in command._actions:
            if action.help != argparse.SUPPRESS and action.dest != "help":
                yield from _option(action)
    yield ".SH EXIT STATUS"
    for code, words in _EXITS.items():
        yield ".TP"
        yield f".B {int(code)}"
        yield _text(words)
    yield ".SH ENVIRONMENT"
    yield ".TP"
    yield ".B NETMEASURE_CONFIG"
    yield "A TOML file with a server's options, and a client's in the table [client]."
    yield ".TP"
    yield ".B NETMEASURE_TIME, NETMEASURE_MAX_TESTS"
    yield "and so on: the value of the option of that name. The command line goes first."
    yield ".TP"
    yield ".B NETMEASURE_SECRET, NETMEASURE_PASSWORD"
    yield "The secret that both ends must know, and the password of --auth-user."
    yield ".SH SEE ALSO"
    yield ".BR iperf3 (1)"


def _option(action: argparse.Action) -> Iterator[str]:
    names = [rf"\fB{_text(name)}\fR" for name in action.option_strings]
    shown = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    if action.choices is not None and action.metavar is None:
        shown = "|".join(map(str, action.choices))
    value = " ".join(shown) if isinstance(shown, tuple) else shown
    words = ", ".join(names)
    if value:
        words = f"{words} \\fI{_text(value)}\\fR".lstrip()
    yield ".TP"
    yield words
    yield _text((action.help or "") % {**vars(action), "prog": "netmeasure"})


def _choices_of(top: argparse.ArgumentParser) -> argparse._SubParsersAction[Any]:
    (found,) = (one for one in top._actions if isinstance(one, argparse._SubParsersAction))
    return found


def _text(words: str) -> str:
    """Return words so that roff prints them unchanged."""
    escaped = words.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


if __name__ == "__main__":
    sys.stdout.write(f"{FILE}\n")
    FILE.write_text(page())
