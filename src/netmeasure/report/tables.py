"""Build tables whose cells are shown as they are.

A string in a rich table is mark-up: "[/b]" in a server's reply would raise MarkupError. Cells of
this module are Text, which has no mark-up.
"""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

#: A row of the tables that most reports have: name, figure, words.
Row = tuple[str, str, str]


def plain_table(*, header: bool = True) -> Table:
    """Return a table without lines and colours."""
    return Table(box=None, pad_edge=False, show_header=header, header_style="")


def add_column(table: Table, name: str = "", *, right: bool = False, wraps: bool = False) -> None:
    """Add a column. `right`: its cells end at the right. `wraps`: long cells go over many lines."""
    table.add_column(Text(name), justify="right" if right else "left", no_wrap=not wraps)


def add_row(table: Table, *cells: str) -> None:
    """Add a row of cells, each shown as it is."""
    table.add_row(*map(Text, cells))
