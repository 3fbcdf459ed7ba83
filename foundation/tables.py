"""One table for readers, on the terminal and on a page; what was found as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
from rich.table import Table as TerminalTable


@dataclass(frozen=True, slots=True)
class Table:
    """Figures as they are read, a row each; the first column names the row.

    words: numbers of the other columns that are text: they stand to the left.
    """

    title: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = ()

    def __rich__(self) -> TerminalTable:
        """The table in a terminal's width."""
        table = TerminalTable(*self.heads, title=self.title or None)
        for k, column in enumerate(table.columns):
            column.justify = "left" if k == 0 or k in self.words else "right"
            column.overflow = "fold"
        for row in self.rows:
            table.add_row(*row)
        return table


def json_text(content: Any) -> str:
    """JSON of values that know no JSON: money and quantities as text, instants in UTC.

    Raises
    ------
    ValueError
        for what is not a number: whoever has none says None.
    """
    return json.dumps(content, indent=1, allow_nan=False, default=_plain) + "\n"


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, np.datetime64):
        return f"{np.datetime_as_string(value, unit='s')}Z"
    if isinstance(value, Fraction):
        return str(float(value))
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{value!r} has no place in JSON")
