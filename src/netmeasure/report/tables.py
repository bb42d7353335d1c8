"""Build tables whose cells are shown literally, and completely at every width.

A string in a rich table is mark-up: "[/b]" in a server's reply would raise MarkupError. Cells of
this module are Text, which has no mark-up. rich cuts cells that do not fit; in a table of this
module, each row is then shown as separate lines instead.
"""

from __future__ import annotations

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Column, Table
from rich.text import Text

#: The rows of the tables that most reports have: name, figure, words.
Row = tuple[str, str, str]
#: The least width of a column whose cells wrap, unless its longest cell is shorter.
LEAST_WRAPPED = 20
_INDENT = "  "
#: The blanks between two columns.
_GAP = 2


class WholeTable(Table):
    """Show a table if it fits, and otherwise each row as lines of "name: cell"."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table, or its rows as lines, for the available width."""
        if self._least_width() <= options.max_width:
            yield from super().__rich_console__(console, options)
        else:
            yield from self._turned()

    def _least_width(self) -> int:
        """Return the width below which a cell would be cut."""
        widths = [_width(column) for column in self.columns]
        wanted = [
            width if column.no_wrap else min(width, LEAST_WRAPPED)
            for column, width in zip(self.columns, widths, strict=True)
        ]
        return sum(wanted) + _GAP * max(0, len(wanted) - 1)

    def _turned(self) -> RenderResult:
        cells = [[_plain(cell) for cell in column._cells] for column in self.columns]
        names = [_plain(column.header) for column in self.columns]
        for row in zip(*cells, strict=True):
            if not self.show_header:
                head = [cell for cell in row[:-1] if cell]
                yield Text(" ".join(head) or row[-1])
                if head and row[-1]:
                    yield Text(_INDENT + row[-1])
                continue
            yield Text(row[0])
            for name, cell in zip(names[1:], row[1:], strict=True):
                if cell:
                    yield Text(f"{_INDENT}{name}: {cell}" if name else _INDENT + cell)


def plain_table(*, header: bool = True) -> Table:
    """Return a table without lines and colours."""
    return WholeTable(box=None, pad_edge=False, show_header=header, header_style="")


def add_column(table: Table, name: str = "", *, right: bool = False, wraps: bool = False) -> None:
    """Add a column. `right`: its cells end at the right. `wraps`: long cells go over many lines."""
    table.add_column(Text(name), justify="right" if right else "left", no_wrap=not wraps)


def add_row(table: Table, *cells: str) -> None:
    """Add a row of cells, each shown literally."""
    table.add_row(*map(Text, cells))


def _width(column: Column) -> int:
    cells = [column.header, *column._cells]
    return max((Text(_plain(cell)).cell_len for cell in cells), default=0)


def _plain(cell: object) -> str:
    return cell.plain if isinstance(cell, Text) else str(cell or "")
