"""A list of members with dates, such as an index's: which symbols it holds on each day.

A file (CSV or Parquet) has a row a membership; a symbol that comes back has several:

    symbol  of a stock or a coin
    from    New York, YYYY-MM-DD, the first day it is a member
    to      the first day it is none any more; empty while it still is one
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from foundation.arrays import Mask
from foundation.errors import DataError
from trainingdata.instants import date_of
from trainingdata.instruments import instrument, is_symbol
from trainingdata.text_rows import text_rows

COLUMNS = ("symbol", "from", "to")
STILL = np.datetime64("9999-12-31", "D")

Dates = npt.NDArray[np.datetime64]  # New York's, `datetime64[D]`


@dataclass(frozen=True, eq=False, slots=True)
class Members:
    """M memberships.

    file: where they were read.
    symbols: [M] whose they are.
    begins: [M] the first day of each.
    ends: [M] the first day after it.
    """

    file: str
    symbols: tuple[str, ...]
    begins: Dates
    ends: Dates

    @property
    def changes(self) -> Dates:
        """The days on which somebody comes or goes, in order."""
        return np.unique(np.concatenate([self.begins, self.ends[self.ends != STILL]]))

    def on(self, dates: Dates, symbols: tuple[str, ...]) -> Mask:
        """[R, S] whether each symbol is a member on each day; days increase."""
        place = {symbol: s for s, symbol in enumerate(symbols)}
        rows = [m for m, symbol in enumerate(self.symbols) if symbol in place]
        if not rows:
            raise DataError(
                f"universe.members: {self.file} names none of the {len(symbols)} symbols that have"
                f" bars, as {symbols[0]}; nothing could be held"
            )
        members = np.zeros((len(dates), len(symbols)), dtype=bool)
        for m in rows:
            begin, end = np.searchsorted(dates, [self.begins[m], self.ends[m]])
            members[begin:end, place[self.symbols[m]]] = True
        return members


def read_members(path: Path) -> Members:
    """The memberships of a file."""
    found = text_rows(path, COLUMNS, ("a list of members", "has"))
    if not found:
        raise DataError(f"{path}: no row; a list of members has one a membership")
    rows = [
        _membership(f"{path}: row {number}", *(row[name] for name in COLUMNS))
        for number, row in enumerate(found, 1)
    ]
    _refuse_overlaps(path, rows)
    symbols, begins, ends = zip(*rows, strict=True)
    return Members(str(path), symbols, np.array(begins), np.array(ends))


def _membership(
    place: str, symbol: str, begin: str, end: str
) -> tuple[str, np.datetime64, np.datetime64]:
    if not is_symbol(symbol.upper()):
        raise DataError(f"{place}: {symbol!r} is no symbol")
    try:
        # A column of days in a Parquet file has the midnight with them.
        first = date_of(begin.removesuffix(" 00:00:00"))
        last = date_of(end.removesuffix(" 00:00:00")) if end else STILL
    except ValueError as error:
        raise DataError(f"{place}: from {begin!r} or to {end!r}: {error}") from None
    if last <= first:
        raise DataError(
            f"{place}: {symbol} is a member from {first} to {last}; `to` is the first day after it"
        )
    return instrument(symbol).symbol, first, last


def _refuse_overlaps(path: Path, rows: list[tuple[str, np.datetime64, np.datetime64]]) -> None:
    order = sorted(range(len(rows)), key=rows.__getitem__)
    for before, after in pairwise(order):
        if rows[before][0] == rows[after][0] and rows[after][1] < rows[before][2]:
            first, second = sorted((before + 1, after + 1))
            raise DataError(
                f"{path}: rows {first} and {second}: {rows[after][0]} is a member twice on"
                f" {rows[after][1]}; end one before the other begins"
            )
