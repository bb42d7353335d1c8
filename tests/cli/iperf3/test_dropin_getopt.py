"""Compare our parser of command lines with the C library's own getopt_long."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import pytest
from hypothesis import given, strategies as st

from netmeasure.cli.iperf3.getopt import read
from netmeasure.cli.iperf3.table import OPTIONS, Option
from netmeasure.errors import UsageError

#: Only the options of 3.12, so that abbreviations mean the same.
OLD = tuple(option for option in OPTIONS if not option.newer)
_ARGUMENTS = {"none": 0, "required": 1, "optional": 2}


class _COption(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("has_arg", ctypes.c_int),
        ("flag", ctypes.POINTER(ctypes.c_int)),
        ("val", ctypes.c_int),
    )


def c_getopt(words: Sequence[str], options: Sequence[Option]) -> tuple[list[object], bool]:
    """Return what getopt_long finds up to the end or the first bad word, and whether there was
    one."""
    libc = ctypes.CDLL(None)
    ctypes.c_int.in_dll(libc, "opterr").value = 0
    ctypes.c_int.in_dll(libc, "optind").value = 0  # begin anew
    argument = ctypes.c_char_p.in_dll(libc, "optarg")
    longs = [
        _COption(long.encode(), _ARGUMENTS[option.argument], None, 1000 + number)
        for number, option in enumerate(options)
        for long in option.longs
    ]
    table = (_COption * (len(longs) + 1))(*longs)
    shorts = "".join(
        option.short + (":" if option.argument == "required" else "")
        for option in options
        if option.short
    ).encode()
    line = ("iperf3", *words)
    argv = (ctypes.c_char_p * (len(line) + 1))(*(word.encode() for word in line))
    letters = {ord(option.short): option for option in options if option.short}
    found: list[object] = []
    while (value := libc.getopt_long(len(line), argv, shorts, table, None)) != -1:
        if value == ord("?"):
            return found, True
        option = letters.get(value) or options[value - 1000]
        text = argument.value
        found.append((option.name, None if text is None else text.decode()))
    return found, False


def ours(words: Sequence[str], options: Sequence[Option] = OLD) -> tuple[list[object], bool]:
    found: list[object] = []
    try:
        for option, value in read(words, options):
            found.append((option.name, value))
    except UsageError:
        return found, True
    return found, False


_SHORTS = [option.short for option in OLD if option.short]
_LONGS = [long for option in OLD for long in option.longs]
_VALUE = st.sampled_from(["", "5", "-5", "1.0", "KBytes", "a b", "-", "--", "é"])
_LETTERS = st.text(st.sampled_from([*_SHORTS, "y", "5", "é"]), min_size=1, max_size=4)
_PREFIX = st.sampled_from(_LONGS).flatmap(
    lambda long: st.integers(0, len(long)).map(lambda size: long[:size])
)
_WORD = st.one_of(
    _VALUE,
    _LETTERS.map(lambda letters: f"-{letters}"),
    _PREFIX.map(lambda name: f"--{name}"),
    st.builds(lambda name, value: f"--{name}={value}", _PREFIX, _VALUE),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
)


@given(st.lists(_WORD, max_size=6))
def test_reads_like_the_c_library(words: list[str]) -> None:
    if any(not word.isascii() and word.startswith("-") and word[1:2] != "-" for word in words):
        return  # C takes a letter of UTF-8 for several bad options: the same end, by other steps
    assert ours(words) == c_getopt(words, OLD)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("-s1J", [("server", None), ("one-off", None), ("json", None)]),
        ("-t2 -i0", [("time", "2"), ("interval", "0")]),
        ("x --time=5 -c", [("time", "5")]),
        ("--len 128K", [("length", "128K")]),
        ("--bandwidth 1M", [("bitrate", "1M")]),
        ("--timestamps %F -d4", [("timestamps", None), ("debug", None), ("version4", None)]),
        ("-R -- -u", [("reverse", None)]),
        ("-t -5", [("time", "-5")]),
        # later options make no word ambiguous that was good on 3.12
        ("--js --use x", [("json", None), ("username", "x")]),
        ("--json-stream", [("json-stream", None)]),
        ("--ne", [("netmeasure", None)]),
    ],
)
def test_reads(words: str, found: list[object]) -> None:
    assert ours(words.split(), OPTIONS)[0] == found


def test_an_exact_name_is_no_abbreviation() -> None:
    assert ours(["--json"], OPTIONS) == ([("json", None)], False)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--bogus=3"], "unrecognized option '--bogus=3'"),
        (["--udp=3"], "option '--udp' doesn't allow an argument"),
        (["--ud=3"], "option '--ud=3' is ambiguous"),
        (["-t"], "option requires an argument -- 't'"),
        (["--time"], "option '--time' requires an argument"),
        (["-uy"], "invalid option -- 'y'"),
    ],
)
def test_says_what_is_wrong(words: list[str], sentence: str) -> None:
    with pytest.raises(UsageError) as raised:
        list(read(words, OPTIONS))
    assert str(raised.value).startswith(sentence)


def test_names_are_unique() -> None:
    assert len(set(_LONGS)) == len(_LONGS)
    assert len(set(_SHORTS)) == len(_SHORTS)
