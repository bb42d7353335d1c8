"""Test what a shell's completion offers for the words that were typed."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import subprocess
from pathlib import Path

import pytest

from netmeasure.cli.completion import completion, script
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import SHELLS, parser

_ASK = """
source {script}
COMP_WORDS=({words} "$1"); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMPREPLY=()
_netmeasure
printf '%s\\n' "${{COMPREPLY[@]}}"
"""

CASES = [
    ("netmeasure", "cl", {"client"}),
    ("netmeasure client", "--dir", {"--direction"}),
    ("netmeasure client -d", "", {"upload", "download", "both"}),
    ("netmeasure client --direction", "d", {"download"}),
    ("netmeasure client --time", "", {""}),  # the shell then offers files
    ("netmeasure completion", "", {*SHELLS, "-h", "--help"}),
    ("netmeasure compare --measure", "--link-r", {"--link-rate"}),
]


@pytest.mark.parametrize(("words", "begun", "offered"), CASES)
def test_bash(tmp_path: Path, words: str, begun: str, offered: set[str]) -> None:
    file = tmp_path / "completion"
    file.write_text(script(parser(), "bash"))
    ask = _ASK.format(script=file, words=words)
    ran = subprocess.run(["bash", "-c", ask, "bash", begun], capture_output=True, text=True)
    assert ran.stderr == ""
    assert set(ran.stdout[:-1].split("\n")) == offered


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed here")
def test_fish(tmp_path: Path) -> None:
    file = tmp_path / "completion"
    file.write_text(script(parser(), "fish"))
    ask = f"source {file}; complete -C 'netmeasure client -d '"
    ran = subprocess.run(["fish", "-c", ask], capture_output=True, text=True)
    assert {line.split("\t")[0] for line in ran.stdout.splitlines()} == {
        "upload",
        "download",
        "both",
    }


@pytest.mark.parametrize("shell", SHELLS)
def test_every_long_option_is_offered(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert asyncio.run(completion(argparse.Namespace(shell=shell))) == Exit.OK
    text = capsys.readouterr().out
    for name, command in parser().commands.items():
        assert name in text
        for option in command._option_string_actions:
            if option.startswith("--"):
                assert option in text or f"-l {option[2:]} " in text, (name, option)
