"""Test that the migration guide has every option, and no other one."""

from __future__ import annotations

import re
from pathlib import Path

from netmeasure.cli.iperf3.table import OPTIONS

GUIDE = Path(__file__).parents[3] / "docs" / "how-to" / "replace-iperf3.md"


def test_the_guide_lists_every_option() -> None:
    text = GUIDE.read_text()
    table = text[text.index("| option | here |") : text.index("## What else is the same")]
    cells = [line.split("|")[1] for line in table.splitlines()[2:] if line.startswith("|")]
    listed = {word for cell in cells for word in re.findall(r"`(-[^`]+)`", cell)}
    words = {f"-{option.short}" for option in OPTIONS if option.short}
    words |= {f"--{long}" for option in OPTIONS for long in option.longs}
    assert listed == words
