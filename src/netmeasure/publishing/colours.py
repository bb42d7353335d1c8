"""Name the colours of a report: one set for light pages, one for dark ones.

Charts of a page are drawn in placeholder colours, which are then replaced by the page's variables,
so that one drawing serves both themes.
"""

from __future__ import annotations

from typing import NamedTuple


class Colours(NamedTuple):
    """Hold the colours of one theme."""

    paper: str
    ink: str
    faint: str
    line: str
    band: str
    ramp: str
    stall: str
    one: str
    two: str
    three: str
    four: str

    @property
    def several(self) -> tuple[str, ...]:
        """Return the colours that distinguish lines."""
        return (self.one, self.two, self.three, self.four)


LIGHT = Colours(
    paper="#ffffff",
    ink="#1f2933",
    faint="#8a97a5",
    line="#2f6db3",
    band="#e08a1e",
    ramp="#cdd6df",
    stall="#c8372d",
    one="#2f6db3",
    two="#c2701a",
    three="#3d8b57",
    four="#8b5fb0",
)
DARK = Colours(
    paper="#14191f",
    ink="#e3e8ed",
    faint="#7d8b99",
    line="#6db1f2",
    band="#f0ac4e",
    ramp="#3a4550",
    stall="#f0736a",
    one="#6db1f2",
    two="#f0ac4e",
    three="#7cc795",
    four="#c3a1e3",
)
#: The placeholder of each colour, which is replaced after drawing. No drawing uses these colours
#: otherwise.
MARKS = Colours(*(f"#01fe{number:02x}" for number in range(len(LIGHT))))


def themed(drawing: str) -> str:
    """Return an SVG drawing with the page's variables instead of the placeholders."""
    for name, mark in MARKS._asdict().items():
        drawing = drawing.replace(mark, f"var(--{name})")
    return drawing


def styles() -> str:
    """Return the style sheet that sets the variables, for both themes and for paper."""
    light, dark = (
        "".join(f"--{name}:{colour};" for name, colour in theme._asdict().items())
        for theme in (LIGHT, DARK)
    )
    return (
        f":root{{color-scheme:light dark;{light}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}"
    )
