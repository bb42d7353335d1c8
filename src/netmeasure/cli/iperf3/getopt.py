"""Read a command line as GNU getopt_long(3) does, one option at a time.

It takes options and operands in any order, clusters (`-uR`), glued values (`-t5`), `--name=value`,
unambiguous abbreviations, and optional values only after `=`. The first bad word ends the reading;
the options before it have taken effect by then. The standard library's `getopt.gnu_getopt` reads
the whole line first and has no optional values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, TypeVar

from netmeasure.errors import UsageError

Argument = Literal["none", "required", "optional"]


class Named(Protocol):
    """Define the properties of an option that this module uses."""

    @property
    def longs(self) -> tuple[str, ...]: ...

    @property
    def short(self) -> str: ...

    @property
    def argument(self) -> Argument: ...

    @property
    def newer(self) -> bool:
        """Return whether the option must not make an abbreviation of older ones ambiguous."""
        ...


T = TypeVar("T", bound=Named)


def read(words: Sequence[str], options: Sequence[T]) -> Iterator[tuple[T, str | None]]:
    """Yield the options and their values in the order of the words. Raises UsageError."""
    rest = iter(words)
    for word in rest:
        if word == "--":
            return
        if word.startswith("--"):
            yield _long(word, rest, options)
        elif word.startswith("-") and word != "-":
            yield from _cluster(word, rest, options)


def _long(word: str, rest: Iterator[str], options: Sequence[T]) -> tuple[T, str | None]:
    name, equals, value = word[2:].partition("=")
    option, full = _find(name, word, options)
    if option.argument == "none" and equals:
        raise UsageError(f"option '--{full}' doesn't allow an argument")
    if equals:
        return option, value
    if option.argument == "required":
        return option, _next(rest, f"option '--{full}' requires an argument")
    return option, None


def _find(name: str, word: str, options: Sequence[T]) -> tuple[T, str]:
    named: list[tuple[T, str]] = []
    for option in options:
        for long in option.longs:
            if long == name:
                return option, long
            if long.startswith(name) and not any(other is option for other, _ in named):
                named.append((option, long))
    chosen = [found for found in named if not found[0].newer] or named
    if not chosen:
        raise UsageError(f"unrecognized option '{word}'")
    if len(chosen) > 1:
        listed = "".join(f" '--{long}'" for _, long in named)
        raise UsageError(f"option '{word}' is ambiguous; possibilities:{listed}")
    return chosen[0]


def _cluster(
    word: str, rest: Iterator[str], options: Sequence[T]
) -> Iterator[tuple[T, str | None]]:
    letters = word[1:]
    while letters:
        letter, letters = letters[0], letters[1:]
        option = next((option for option in options if option.short == letter), None)
        if option is None:
            raise UsageError(f"invalid option -- '{letter}'")
        if option.argument == "required":
            yield option, letters or _next(rest, f"option requires an argument -- '{letter}'")
            return
        yield option, None


def _next(rest: Iterator[str], otherwise: str) -> str:
    value = next(rest, None)
    if value is None:
        raise UsageError(otherwise)
    return value
