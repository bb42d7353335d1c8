"""Parse command lines: report an error on one line, with a suggestion."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NoReturn

#: iperf3's options, and what to write instead.
IPERF3_WORDS = {
    "-R": "-d download",
    "--reverse": "-d download",
    "--bidir": "-d both",
    "-J": "--json",
    "--json-stream": "--json-lines",
    "--parallel": "-P",
    "--bandwidth": "-b",
    "--length": "-l",
    "--len": "-l",
    "--blockcount": "-k",
    "-Z": "--send-mode sendfile",
    "--zerocopy": "--send-mode sendfile",
    "--skip-rx-copy": "--receive-mode discard",
    "-A": "--cpu",
    "--affinity": "--cpu",
    "--cport": "--bind-port",
    "--set-mss": "-M",
    "-S": "--tos",
    "-L": "--flow-label",
    "--flowlabel": "--flow-label",
    "-T": "--title",
    "-F": "--file",
    "-V": "-v",
    "-m": "--mptcp",
    "--fq-rate": "--pacing-rate",
    "--rcv-timeout": "--stall-timeout",
    "--username": "--auth-user",
    "--rsa-public-key-path": "--auth-key",
    "--rsa-private-key-path": "--auth-key",
    "--authorized-users-path": "--auth-users",
    "--use-pkcs1-padding": "--auth-pkcs1",
    "--server-bitrate-limit": "--max-bitrate",
    "-1": "--one-off",
    "--version4": "-4",
    "--version6": "-6",
    "-c": "netmeasure client HOST",
    "--client": "netmeasure client HOST",
    "-s": "netmeasure server",
    "--server": "netmeasure server",
}
#: iperf3's options that have no counterpart, and the reasons.
IPERF3_NEEDLESS = {
    "-f": "each figure has the unit that suits it; --json has plain numbers",
    "--format": "each figure has the unit that suits it; --json has plain numbers",
    "--forceflush": "every line is flushed",
    "--logfile": "redirect standard output",
    "-D": "start it from systemd, or with & behind it",
    "--daemon": "start it from systemd, or with & behind it",
    "--get-server-output": "what the server saw is in the result",
    "--udp-counters-64bit": "a netmeasure server counts in 64 bits",
    "--gsro": "it is on unless --no-offload is given",
    "--timestamps": "pipe the output through ts(1), or use --json-lines",
    "--sctp": "there are only TCP and UDP",
}
#: Long options of other tools, and netmeasure's options with the same meaning.
SYNONYMS = {"--duration": "--time", "--threads": "--streams", "--connections": "--streams"}


class HelpLines(argparse.HelpFormatter):
    """Write help as wide as the terminal.

    argparse makes a formatter for each option, and each of them asks shutil for the width, which
    takes several milliseconds of every start.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_columns() - 2)


class RawHelpLines(HelpLines, argparse.RawDescriptionHelpFormatter):
    """Write help with descriptions as they are."""


class OneLineParser(argparse.ArgumentParser):
    """Report a wrong command line on one line, with the help page to read.

    Attributes:
        commands: The parsers of the commands, by name.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, "formatter_class": HelpLines, **options})
        self.commands: dict[str, OneLineParser] = {}

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Return the options. Exits with one line if something is wrong."""
        words = list(args or ())
        for parser in (self, *self.commands.values()):
            # -4 and -6 are options, but -1 after an option is its value, which is then refused
            parser._has_negative_number_optionals.clear()
        if self.commands:
            self._check_command(words)
        chosen, unknown = self.parse_known_args(words, namespace)
        if unknown:
            of = self.commands.get(getattr(chosen, "command", ""), self)
            of.refuse(unknown[0])
        return chosen

    def _check_command(self, words: Sequence[str]) -> None:
        """Exit with a suggestion if the first word is not a command but similar to one."""
        first = words[0] if words else ""
        if first in ("-c", "--client", "-s", "--server"):
            role = "client HOST" if "c" in first.strip("-")[:1] else "server"
            self.error(
                f"{first} is iperf3's: write netmeasure {role}, or netmeasure iperf3"
                f" {' '.join(words)} for iperf3's own options and output"
            )
        if not first or first.startswith("-") or first in self.commands:
            return
        if first == "help":
            of = next((word for word in words[1:] if word in self.commands), "")
            self.error(f"did you mean netmeasure {f'{of} ' if of else ''}--help?")
        close = _similar(first, self.commands)
        meant = close[0] if close else f"client {first}"
        self.error(f"{first!r} is not a command: did you mean netmeasure {meant}?")

    def refuse(self, word: str) -> NoReturn:
        """Exit with a line about an unknown argument."""
        option = word.partition("=")[0]
        if not option.startswith("-"):
            self.error(f"{word!r} is one argument too many")
        glued = option[:2] if not option.startswith("--") else option
        mine = {name for action in self._actions for name in action.option_strings}
        for given in (option, glued):
            meant = SYNONYMS.get(given) or IPERF3_WORDS.get(given)
            if meant is not None and (meant.split()[0] in mine or meant.startswith("netmeasure")):
                whose = "" if given in SYNONYMS else "is iperf3's"
                self.error(f"{given} {whose or 'is unknown'}: did you mean {meant}?")
            if given in IPERF3_NEEDLESS:
                self.error(f"{given} is iperf3's and not needed: {IPERF3_NEEDLESS[given]}")
        begun = sorted(name for name in mine if name.startswith(option) and len(option) > 3)
        close = begun or _similar(option, mine)
        if close and option.startswith("--"):
            self.error(f"{option} is unknown: did you mean {' or '.join(close)}?")
        self.error(f"{option} is unknown")

    def error(self, message: str) -> NoReturn:
        """Exit with one line."""
        message = message.replace("expected one argument", "it needs a value")
        self.exit(2, f"netmeasure: {message} (see {self.prog} --help)\n")


def _columns() -> int:
    """Return the width of the terminal, or 80."""
    with suppress(ValueError):
        if (wanted := int(os.environ.get("COLUMNS", ""))) > 0:
            return wanted
    with suppress(AttributeError, ValueError, OSError):  # no standard output, closed, no terminal
        return os.get_terminal_size(sys.__stdout__.fileno()).columns or 80  # type: ignore[union-attr]
    return 80


def _similar(word: str, known: Iterable[str]) -> list[str]:
    """Return the most similar of the known words, if one is similar."""
    import difflib  # only after a mistake, since it takes long to import

    return difflib.get_close_matches(word, known, n=1, cutoff=0.7)
