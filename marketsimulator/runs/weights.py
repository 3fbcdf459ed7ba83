"""Replay of given weights: each row is decided on its close and filled at the next row's open. No
forecast, no calendar.

The same settlement as every other account, compiled together with the loop over the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache, cached_property

import numpy as np
import pandas as pd

from execution.fees import CryptoTier, FeeSchedule, TradingCosts
from execution.lending import MarginTerms
from foundation.arrays import Array, Index, Records
from foundation.compiled import compiled, inlined, unowned
from foundation.errors import InputError
from marketsimulator.account.book import Book, Record, new_book, new_tape
from marketsimulator.account.rebalancing import move, whole_quantity
from marketsimulator.account.settlement import close_session, liquidate, mark, open_session
from marketsimulator.account.terms import FillTerms, day_table, holdings_of, tier_table
from trainingdata.instruments import Instrument, Kind, instrument, is_symbol
from trainingdata.sessions import new_york_date

_FREE = (CryptoTier(0.0, 0.0, 0.0),)


@dataclass(frozen=True, eq=False)
class Replay:
    """What became of the weights.

    index [T]: the rows. symbols [S]: the columns. values [T]: equity in USD at each row's close.
    tape: the fills.
    """

    index: pd.DatetimeIndex
    symbols: pd.Index
    values: Array
    tape: Records

    @cached_property
    def equity(self) -> pd.Series:
        """USD at each row's close, after its fills."""
        return pd.Series(self.values, index=self.index, name="equity")

    @cached_property
    def fills(self) -> pd.DataFrame:
        """A row a fill, in order: at (the row at whose open), symbol, qty (signed), price and
        fee (USD).
        """
        tape = self.tape
        columns = {
            "at": self.index.take(tape["at"].astype(np.intp)),
            "symbol": self.symbols.astype("str").array.take(tape["symbol"].astype(np.intp)),
            "qty": np.ascontiguousarray(tape["quantity"]),
            "price": np.ascontiguousarray(tape["price"]),
            "fee": np.ascontiguousarray(tape["fee"]),
        }
        return pd.DataFrame(columns, copy=False)


def replay(
    weights: pd.DataFrame,
    bars: Mapping[str, pd.DataFrame],
    *,
    capital: float = 100_000.0,
    fee_bps: float = 1.0,
    slippage_bps: float = 1.0,
    increments: float | Mapping[str, float] | None = None,
    symbol_cap: float = 0.6,
    intraday_leverage: float = 4.0,
    overnight_leverage: float = 2.0,
    interest_rate: float = 0.065,
) -> Replay:
    """Follow target weights over bars, one account for all symbols.

    Parameters
    ----------
    weights : [T, S]
        signed fractions of equity; index instants, columns symbols. NaN leaves a symbol as it is.
    bars
        frames `open`, `close` (and `high`, `low`, `volume`, which are not needed) on the same index
        and columns. NaN where a symbol has no bar: it then fills nothing and keeps its last close.
    fee_bps, slippage_bps
        basis points of what is traded; slippage moves the price away from the open.
    increments
        smallest step of a quantity, for all or by symbol; whole shares and thousandths of a coin by
        default.
    symbol_cap, intraday_leverage, overnight_leverage
        a weight beyond the cap is cut to it; coins are long only; stock gross / leverage + coins ≤
        1 by scaling. The overnight leverage holds for what fills at the open of a New York date's
        last row.
    interest_rate
        per year on the debit after a date's last row, / 360, for the nights to the next row's date.

    Raises
    ------
    InputError
        naming the argument that cannot be used.
    """
    _check(weights, capital, fee_bps, slippage_bps, symbol_cap, overnight_leverage)
    columns = weights.columns
    index = _instants(weights.index)
    opens, closes = (_matrix(name, bars, weights) for name in ("open", "close"))
    instruments = _instruments(columns, increments)
    costs = TradingCosts(0.0, slippage_bps, 0.0, 0.0, slippage_bps, 0.0)
    fees = FeeSchedule(crypto_tiers=_FREE, commission_bps=fee_bps)
    margin = MarginTerms(leverage=intraday_leverage, interest_rate=interest_rate)
    book = new_book(capital, holdings_of(instruments, costs), tier_table(fees))
    dates = new_york_date(index.asi8.view(f"datetime64[{index.unit}]"))
    tape = new_tape(
        3 * len(dates) * len(columns)
    )  # at most a liquidation, a close and an opening a row and symbol
    begins = np.concatenate([[True], np.diff(dates) > np.timedelta64(0)])
    values = _follow(
        book,
        day_table(dates[begins], fees, margin, FillTerms(volume_share=None)),
        np.cumsum(begins) - 1,
        opens,
        closes,
        _numbers("weights", weights),
        (symbol_cap, intraday_leverage, min(overnight_leverage, intraday_leverage)),
        tape,
    )
    return Replay(index, columns, values, tape[: int(book.account["fills"][0])])


@compiled
def _follow(
    book: Book,
    days: Records,
    day: Index,
    opens: Array,
    closes: Array,
    weights: Array,
    bounds: tuple[float, float, float],
    tape: Records,
) -> Array:
    """Equity [T] at each row's close; fills go on the tape.

    day [T]: row of days. bounds: cap, intraday and overnight leverage.
    """
    rows, size = weights.shape
    equity = np.empty(rows)
    targets = np.zeros(size)
    account = book.account[0]
    holding = book.holding
    tape = unowned(tape)
    none = np.zeros(size)
    endless = np.full(size, np.inf)
    turn = np.zeros(size, np.int64)
    for t in range(rows):
        today = days[day[t]]
        if t > 0:
            if day[t] != day[t - 1]:
                open_session(book, today)
            if account.called:
                liquidate(book, today, tape, t, opens[t], endless, none)
            move(
                account,
                holding,
                today,
                tape,
                t,
                holding["quantity"],
                targets,
                opens[t],
                endless,
                none,
                np.inf,
                turn,
            )
        mark(account, holding, closes[t])
        last = t + 1 == rows
        if not last and day[t + 1] != day[t]:
            close_session(book, today, days[day[t + 1]].date - today.date)
        equity[t] = account.equity
        if not last:
            night = t + 2 < rows and day[t + 2] != day[t + 1]
            _choose(
                account,
                holding,
                today,
                weights[t],
                closes[t],
                bounds[0],
                bounds[2] if night else bounds[1],
                targets,
            )
    return equity


@inlined
def _choose(
    account: Record,
    holding: Records,
    day: Record,
    weights: Array,
    closes: Array,
    cap: float,
    ceiling: float,
    targets: Array,
) -> None:
    """Target quantities [S] of the symbols that have a weight and a close; the others keep what
    they hold.
    """
    equity = account.equity
    lowest = -cap
    if equity < day.margin_equity:
        ceiling = min(ceiling, 1.0)
        lowest = 0.0
    fixed = 0.0
    wanted = 0.0
    share = 1.0 / ceiling
    for s in range(len(targets)):
        held = holding[s]
        unit = 1.0 if held.crypto else share
        if np.isnan(weights[s]) or np.isnan(closes[s]):
            targets[s] = held.quantity
            if held.quantity != 0.0:
                fixed += abs(held.quantity * held.mark) * unit / max(equity, 1e-9)
        else:
            targets[s] = min(max(weights[s], 0.0 if held.crypto else lowest), cap)
            wanted += abs(targets[s]) * unit
    scale = 0.0 if equity <= 0.0 else min(1.0, max(1.0 - fixed, 0.0) / max(wanted, 1e-300)) * equity
    for s in range(len(targets)):
        if not (np.isnan(weights[s]) or np.isnan(closes[s])):
            step = holding[s].increment
            targets[s] = whole_quantity(targets[s] * scale / closes[s], step)


def _check(
    weights: pd.DataFrame,
    capital: float,
    fee_bps: float,
    slippage_bps: float,
    symbol_cap: float,
    overnight_leverage: float,
) -> None:
    """What the other settings do not check themselves."""
    for name, value in (
        ("capital", capital),
        ("symbol_cap", symbol_cap),
        ("overnight_leverage", overnight_leverage),
    ):
        if not 0 < value < float("inf"):
            raise InputError(f"{name}: {value} is not above 0")
    for name, value in (("fee_bps", fee_bps), ("slippage_bps", slippage_bps)):
        if not 0 <= value < 5_000:
            raise InputError(f"{name}: {value} is outside 0 … 5000")
    if len(weights) == 0:
        raise InputError("weights: there are no rows")


def _matrix(name: str, bars: Mapping[str, pd.DataFrame], weights: pd.DataFrame) -> Array:
    """[T, S] of a frame that has the weights' rows and columns."""
    if name not in bars:
        raise InputError(f"bars: {name!r} is missing; got {', '.join(bars) or 'none'}")
    frame = bars[name]
    if not (_same(frame.index, weights.index) and _same(frame.columns, weights.columns)):
        raise InputError(f"bars[{name!r}]: its index and columns are not those of weights")
    values = _numbers(f"bars[{name!r}]", frame)
    if (values <= 0).any() or (values == np.inf).any():
        raise InputError(f"bars[{name!r}]: a price must be above 0 and finite")
    return values


def _same(one: pd.Index, other: pd.Index) -> bool:
    """Frames of one market mostly share their index, which takes no look at its values."""
    return one is other or bool(one.equals(other))


def _numbers(name: str, frame: pd.DataFrame) -> Array:
    try:
        return np.ascontiguousarray(frame.to_numpy(dtype=np.float64))
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error


def _instruments(
    columns: pd.Index, increments: float | Mapping[str, float] | None
) -> list[Instrument]:
    """What the columns stand for; a name that is no symbol of the project's is a stock."""
    found = [_named(str(column)) for column in columns.tolist()]
    if increments is None:
        return found
    steps = increments if isinstance(increments, Mapping) else dict.fromkeys(columns, increments)
    try:
        return [
            Instrument(
                item.symbol, item.kind, Decimal(str(steps[c])) if c in steps else item.increment
            )
            for c, item in zip(columns, found, strict=True)
        ]
    except (InvalidOperation, ValueError) as error:
        raise InputError(f"increments: {error}") from error


@cache
def _named(name: str) -> Instrument:
    return instrument(name) if is_symbol(name) else Instrument(name, Kind.STOCK, Decimal(1))


def _instants(index: pd.Index) -> pd.DatetimeIndex:
    """The index, which must be instants that increase; one without a zone is UTC."""
    if not isinstance(index, pd.DatetimeIndex) or not (
        index.is_monotonic_increasing and index.is_unique
    ):
        raise InputError("weights: the index must be instants that increase")
    return index
