"""Tables for terminals and pages, and JSON output for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table as TerminalTable

DrawnShape = tuple[str, str]  # kind (a page's colour), and path in a box 1,000 wide, 100 high


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    text: formatted value, or the description of a drawing.
    tone: `good`, `bad`, `muted` or `strong`; empty: normal.
    subtext: smaller text below.
    line_colour: colour of the row's line in a chart.
    link: address that the text links to.
    drawn_shapes: shapes that a page draws instead of the text.
    """

    text: str
    tone: str = ""
    subtext: str = ""
    line_colour: str = ""
    link: str = ""
    drawn_shapes: Sequence[DrawnShape] = ()

    def __str__(self) -> str:
        return f"{self.text} ({self.subtext})" if self.subtext else self.text


EMPTY_CELL = Cell("")
MAX_TERMINAL_WIDTH = 10_000  # characters, to measure a table before it is fitted
Row = Sequence[str | Cell]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of formatted values; the first column names the rows.

    headings: column headings; empty for a list of named figures.
    left_aligned_columns: indices of columns aligned left, in addition to the first column.
    optional_columns: indices of the columns that narrow pages and terminals do not show.
    has_total_row: whether the last row is the sum of the others.
    """

    title: str
    headings: Sequence[str]
    rows: Sequence[Row]
    left_aligned_columns: Collection[int] = ()
    optional_columns: Collection[int] = ()
    has_total_row: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table with as many optional columns as fit without wrapping."""
        unlimited = options.update_width(MAX_TERMINAL_WIDTH)
        left_out = sorted(self.optional_columns)
        table = self._to_terminal_table(left_out)
        while left_out:
            wider = self._to_terminal_table(left_out[1:])
            if console.measure(wider, options=unlimited).maximum > options.max_width:
                break
            table = wider
            left_out = left_out[1:]
        yield table

    def _to_terminal_table(self, left_out: Collection[int]) -> TerminalTable:
        table = TerminalTable(title=self.title or None)
        for k, head in enumerate(self.headings):
            if k not in left_out:
                is_text = k == 0 or k in self.left_aligned_columns
                table.add_column(head, justify="left" if is_text else "right", overflow="fold")
        for row in self.rows:
            table.add_row(*(str(cell) for k, cell in enumerate(row) if k not in left_out))
        return table

    def css_classes(self, column: int, cell: Cell = EMPTY_CELL) -> str:
        """Return the CSS classes of a cell of a column, or of its heading."""
        kinds = (
            ("words", column in self.left_aligned_columns),
            ("optional", column in self.optional_columns),
            ("drawn", cell.drawn_shapes),
            (cell.tone, cell.tone),
        )
        return " ".join(kind for kind, so in kinds if so)


def horizontal_bar_shape(begin: float, end: float, kind: str = "") -> DrawnShape:
    """Return the shape of a horizontal bar between two positions from 0 to 100.

    kind: colour of the bar; empty: `long` or `short` by its direction.
    """
    path = f"M{10 * begin:.1f} 10V90H{10 * end:.1f}V10Z"
    return kind or ("long" if end >= begin else "short"), path


def format_json(content: Any) -> str:
    """Return values as JSON text: money and quantities as strings, instants in UTC.

    Raises ValueError for NaN and infinity: use None for a missing number.
    """
    return json.dumps(content, indent=1, allow_nan=False, default=_to_json_value) + "\n"


def _to_json_value(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.datetime64):
        return f"{np.datetime_as_string(value, unit='s')}Z"
    if isinstance(value, Fraction):
        return str(float(value))
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} is not JSON serializable")
