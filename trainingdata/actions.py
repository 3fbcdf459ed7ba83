"""Dividends and splits: read from a file, applied to a book by settlement and to a history of
prices here.

A file (CSV or Parquet) has a row an action: `symbol`, `date` (New York, the first day without it),
`kind` (`dividend` or `split`), `value` (USD a share, in the prices' own units; or new shares for
one old share).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.errors import DataError
from trainingdata.bars import VOLUME, Bars
from trainingdata.instruments import Kind, instrument, is_symbol
from trainingdata.sessions import session_open

COLUMNS = ("symbol", "date", "kind", "value")


@dataclass(frozen=True, slots=True)
class Action:
    """A stock opens without it at `opens`: `ratio` new shares for one, after `dividend` USD an
    old share.
    """

    symbol: str
    opens: np.datetime64
    ratio: float = 1.0
    dividend: float = 0.0


def read_actions(path: Path) -> tuple[Action, ...]:
    """The actions of a file, in time order.

    Raises
    ------
    DataError
        naming the file, the row and what is wrong with it.
    """
    try:
        frame = (
            pd.read_parquet(path)
            if path.suffix.lower() == ".parquet"
            else pd.read_csv(path, dtype=str)
        )
    except (OSError, ValueError, pd.errors.EmptyDataError) as error:
        raise DataError(
            f"{path}: cannot be read as corporate actions:"
            f" {(str(error).splitlines() or ['empty'])[0]}"
        ) from error
    missing = [c for c in COLUMNS if c not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; corporate actions have {', '.join(COLUMNS)}"
        )
    rows = frame[list(COLUMNS)].itertuples(index=False, name=None)
    actions = [
        _action(path, number, *(str(word).strip() for word in row))
        for number, row in enumerate(rows, 1)
    ]
    return tuple(sorted(actions, key=lambda action: (action.opens, action.symbol, action.ratio)))


def split_adjusted(bars: Bars, actions: Sequence[Action]) -> Bars:
    """Raw prices and volumes in the units after the panel's last split; what a model may compare
    across a split.

    A decision sees the splits that are known then and no later one: a panel adjusted for those,
    too, would give it the same returns, but for the rounding of a quotient, and so now and then
    another share.
    """
    values = bars.values.copy()
    for action in actions:
        if action.ratio != 1.0 and action.symbol in bars.symbols and action.opens <= bars.now:
            s = bars.symbols.index(action.symbol)
            before = bars.times <= action.opens
            values[s, before, :VOLUME] /= action.ratio
            values[s, before, VOLUME] *= action.ratio
    return Bars(bars.instruments, bars.times, values, bars.mask, bars.source)


def spans_without_split(bars: Bars, actions: Sequence[Action], first: int) -> list[tuple[int, int]]:
    """Rows of instants from `first` on, as spans [begin, end), within each of which no split of
    the panel takes hold.
    """
    opens = [a.opens for a in actions if a.ratio != 1.0 and a.symbol in bars.symbols]
    starts = np.searchsorted(bars.times, np.array(opens, dtype="datetime64[ns]"))
    edges = sorted(
        {first, len(bars.times), *(int(s) for s in starts if first < s < len(bars.times))}
    )
    return list(pairwise(edges))


def _action(path: Path, row: int, symbol: str, date: str, kind: str, value: str) -> Action:
    if not (is_symbol(symbol.upper()) and instrument(symbol).kind is Kind.STOCK):
        raise DataError(f"{path}: row {row}: {symbol!r} is no stock")
    if kind not in ("dividend", "split"):
        raise DataError(f"{path}: row {row}: kind is {kind!r}, not 'dividend' or 'split'")
    try:
        day = pd.Timestamp(date).to_datetime64().astype("datetime64[D]")
        amount = float(value)
    except ValueError:
        raise DataError(
            f"{path}: row {row}: date {date!r} or value {value!r} cannot be read"
        ) from None
    if not (np.isfinite(amount) and amount > 0) or np.isnat(day):
        raise DataError(f"{path}: row {row}: {kind} of {value} on {date}; a value must be above 0")
    opens = session_open(day)
    if opens is None:
        raise DataError(f"{path}: row {row}: {date} lies beyond the exchange calendar")
    name = instrument(symbol).symbol
    return (
        Action(name, opens, ratio=amount)
        if kind == "split"
        else Action(name, opens, dividend=amount)
    )
