"""Dividends and splits: read from a file, and splits applied to a history of prices.

Settlement applies both to a book. A file (CSV or Parquet) has a row an action:

    symbol  of a stock
    date    New York, YYYY-MM-DD, the first day without it
    kind    dividend or split
    value   USD a share, in the prices' own units; or new shares for one old share

What a session has twice is refused: two splits, or one dividend in two rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foundation.errors import DataError
from trainingdata.bars import VOLUME, Bars
from trainingdata.instants import date_of
from trainingdata.instruments import instrument, is_coin, is_symbol
from trainingdata.sessions import session_open

COLUMNS = ("symbol", "date", "kind", "value")


@dataclass(frozen=True, slots=True)
class Action:
    """A dividend or a split of a stock.

    symbol: of the stock.
    opens: when the first session without it opens, UTC.
    ratio: new shares for one old share; 1 where there is no split.
    dividend: USD an old share; 0 where there is none.
    """

    symbol: str
    opens: np.datetime64
    ratio: float = 1.0
    dividend: float = 0.0


def read_actions(path: Path) -> tuple[Action, ...]:
    """The actions of a file, in time order.

    Raises DataError naming the file, the row and what is wrong with it.
    """
    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, pd.errors.EmptyDataError) as error:
        reason = getattr(error, "strerror", None) or (str(error).splitlines() or ["empty"])[0]
        raise DataError(f"{path}: cannot be read as corporate actions: {reason}") from error
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: column {missing[0]!r} is missing; corporate actions have {', '.join(COLUMNS)}"
        )
    actions = []
    rows: dict[tuple[object, ...], int] = {}
    for number, row in enumerate(frame[list(COLUMNS)].itertuples(index=False, name=None), 1):
        symbol, date, kind, value = ("" if pd.isna(cell) else str(cell).strip() for cell in row)
        action = _action(path, number, symbol, date, kind, value)
        # A session may have a regular and a special dividend.
        same = (action.symbol, action.opens, kind, action.dividend)
        if same in rows:
            raise DataError(
                f"{path}: rows {rows[same]} and {number}: a {kind} of {action.symbol} twice in the"
                f" session of {date}; leave one of them, or one that is both together"
            )
        rows[same] = number
        actions.append(action)
    return tuple(sorted(actions, key=_place))


def _place(action: Action) -> tuple[object, ...]:
    """Its place in a file's actions; a dividend comes before its session's split."""
    return action.opens, action.symbol, action.ratio != 1.0, action.dividend


def split_adjusted(bars: Bars, actions: Sequence[Action]) -> Bars:
    """Raw prices and volumes in the units after the panel's last split.

    A model compares these across a split; raw ones would read as a loss of most of the price.
    """
    splits = [action for action in actions if action.ratio != 1.0]
    if not splits:
        return bars
    values = bars.values.copy()
    for action in splits:
        # A decision sees the splits that are known then and no later one: a panel adjusted for
        # those, too, would give it the same returns, but for the rounding of a quotient, and so now
        # and then another share.
        if action.symbol not in bars.symbols or action.opens > bars.now:
            continue
        s = bars.symbols.index(action.symbol)
        before = bars.times <= action.opens
        values[s, before, :VOLUME] /= action.ratio
        values[s, before, VOLUME] *= action.ratio
    return Bars(bars.instruments, bars.times, values, bars.mask, bars.source, bars.timeframe)


def _action(path: Path, row: int, symbol: str, date: str, kind: str, value: str) -> Action:
    if not (is_symbol(symbol.upper()) and not is_coin(symbol)):
        raise DataError(f"{path}: row {row}: {symbol!r} is no stock")
    if kind not in ("dividend", "split"):
        raise DataError(f"{path}: row {row}: kind is {kind!r}, not 'dividend' or 'split'")
    try:
        # A column of days in a Parquet file has the midnight with them.
        day = date_of(date.removesuffix(" 00:00:00"))
        amount = float(value)
    except ValueError:
        raise DataError(
            f"{path}: row {row}: date {date!r} (YYYY-MM-DD) or value {value!r} cannot be read"
        ) from None
    if not (np.isfinite(amount) and amount > 0):
        raise DataError(f"{path}: row {row}: {kind} of {value} on {date}; a value must be above 0")
    opens = session_open(day)
    if opens is None:
        raise DataError(f"{path}: row {row}: {date} lies beyond the exchange calendar")
    name = instrument(symbol).symbol
    if kind == "split":
        return Action(name, opens, ratio=amount)
    return Action(name, opens, dividend=amount)
