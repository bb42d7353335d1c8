"""Write the completion of the command line for bash, zsh and fish, from the parsers themselves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from netmeasure.cli.parsing import OneLineParser

_BASH = """\
_netmeasure() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} $prev" in
{values}
            *)
                case "${{COMP_WORDS[1]}}" in
{options}
                esac
                ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
}}
complete -o default -F _netmeasure netmeasure
"""


async def completion(options: argparse.Namespace) -> int:
    """Print the completion for a shell; return the exit code."""
    sys.stdout.write(script(parser(), options.shell))
    return Exit.OK


def script(top: OneLineParser, shell: str) -> str:
    """Return the completion for a shell."""
    head = f"# completion of netmeasure for {shell}, by `netmeasure completion {shell}`\n"
    if shell == "fish":
        return head + "".join(f"{line}\n" for line in _fish(top))
    if shell == "zsh":
        return f"#compdef netmeasure\n{head}autoload -U +X bashcompinit && bashcompinit\n" + _bash(
            top
        )
    return head + _bash(top)


def _options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    return [one for one in parser._actions if one.option_strings and one.help != argparse.SUPPRESS]


def _plain_words(parser: argparse.ArgumentParser) -> list[str]:
    """Return the known words that are no options."""
    places = [one for one in parser._actions if not one.option_strings and one.choices]
    return [str(word) for one in places for word in one.choices or ()]


def _takes_value(action: argparse.Action) -> bool:
    return action.nargs not in (0, "?")


# ---- bash, and zsh with bash's completion --------------------------------------------------------


def _bash(top: OneLineParser) -> str:
    values, options = [], []
    for name, command in top.commands.items():
        words = _plain_words(command)
        for action in _options(command):
            words += action.option_strings
            if not _takes_value(action):
                continue
            pattern = "|".join(f'"{name} {option}"' for option in action.option_strings)
            choices = " ".join(map(str, action.choices or ()))
            values.append(f'            {pattern}) words="{choices}" ;;')
        options.append(f'                    {name}) words="{" ".join(words)}" ;;')
    return _BASH.format(
        commands=" ".join(top.commands), values="\n".join(values), options="\n".join(options)
    )


# ---- fish ----------------------------------------------------------------------------------------


def _fish(top: OneLineParser) -> Iterator[str]:
    helps = {one.dest: one.help or "" for one in _choices_of(top)._choices_actions}
    yield "complete -c netmeasure -n __fish_use_subcommand -f"
    for name in top.commands:
        said = _quoted(helps.get(name, ""))
        yield f"complete -c netmeasure -n __fish_use_subcommand -a {name} -d {said}"
    for name, command in top.commands.items():
        start = f"complete -c netmeasure -n '__fish_seen_subcommand_from {name}'"
        if words := _plain_words(command):
            yield f"{start} -f -a {_quoted(' '.join(words))}"
        for action in _options(command):
            parts = [start]
            for option in action.option_strings:
                flag = "-l" if option.startswith("--") else "-s"
                parts.append(f"{flag} {option.lstrip('-')}")
            if action.choices and _takes_value(action):
                parts.append(f"-x -a {_quoted(' '.join(map(str, action.choices)))}")
            elif _takes_value(action):
                parts.append("-r")
            help_words = (action.help or "") % {**vars(action), "prog": "netmeasure"}
            yield " ".join([*parts, f"-d {_quoted(help_words)}"])


def _choices_of(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[OneLineParser]:
    found = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    return found[0]


def _quoted(words: str) -> str:
    """Return words as one of fish's, in single quotes."""
    escaped = words.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
