"""Replay of given weights: a row is decided at its close and filled at the open of the next row.

A replay uses no forecast and no calendar. Fills and charges are settled as in every backtest, by
functions that are compiled together with the loop over the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache, cached_property

import numpy as np
import pandas as pd

from execution.orders.fees import CryptoTier, FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from foundation.arrays import Array, Index, Records
from foundation.compiled import compiled, jit_inline, without_refcount
from foundation.errors import InputError
from foundation.settings import setting, settings_class
from marketsimulator.account.book import (
    DIVIDEND,
    BarOpens,
    Book,
    Record,
    create_book,
    create_tape,
    max_flow_entries,
)
from marketsimulator.account.calendar_events import close_session, open_session
from marketsimulator.account.rebalancing import trade_to_targets, truncate_to_steps
from marketsimulator.account.settlement import liquidate, mark_positions
from marketsimulator.account.terms import FillTerms, day_table, fee_tier_table, holding_table
from trainingdata.instants import new_york_date
from trainingdata.instruments import AssetClass, Instrument, instrument, is_symbol

# Crypto pays `fee_bps` as stocks do, and no venue fee.
_NO_VENUE_FEES = (CryptoTier(0.0, 0.0, 0.0),)


@settings_class()
class _Bounds:
    """Bounds of the arguments that no other settings class checks."""

    capital: float = setting(100_000.0, "starting cash, USD", gt=0)
    fee_bps: float = setting(1.0, "fee, basis points of the traded value", ge=0, lt=5_000)
    slippage_bps: float = setting(1.0, "slippage, basis points of the open", ge=0, lt=5_000)
    symbol_cap: float = setting(0.6, "maximum weight of a symbol, multiples of equity", gt=0)
    overnight_leverage: float = setting(
        2.0, "maximum gross exposure overnight, multiples of equity", gt=0
    )


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """Result of a replay of weights.

    index: [T] index of the weights.
    symbols: [S] columns of the weights.
    equity_values: [T] equity at each row's close, USD.
    tape: tape entries of the fills, in order.
    """

    index: pd.DatetimeIndex
    symbols: pd.Index
    equity_values: Array
    tape: Records

    @cached_property
    def equity(self) -> pd.Series:
        """Return the equity at each row's close, after its fills, USD."""
        return pd.Series(self.equity_values, index=self.index, name="equity")

    @cached_property
    def fills(self) -> pd.DataFrame:
        """Return a frame with one row per fill, in order.

        at: row at whose open the order filled.
        symbol: column of the weights.
        qty: signed quantity.
        price, fee: USD.
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
) -> ReplayResult:
    """Replay target weights over bars in one account for all symbols.

    Parameters
    ----------
    weights : [T, S]
        signed fractions of equity; index instants, columns symbols. NaN keeps the position of a
        symbol.
    bars
        frames `open`, `close` (and `high`, `low`, `volume`, which are not needed) on the same index
        and columns. NaN without a bar: the symbol fills nothing and keeps its last close.
    fee_bps, slippage_bps
        basis points of traded value; slippage moves the price away from the open.
    increments
        smallest step of a quantity, for all or by symbol; whole shares and thousandths of a coin by
        default.
    symbol_cap, intraday_leverage, overnight_leverage
        a weight beyond the cap is cut to it; crypto is long only; stock gross / leverage + crypto ≤
        1 by scaling. The overnight leverage applies to fills at the open of a New York date's last
        row. Orders are checked at their price, without a venue's price buffer.
    interest_rate
        per year on the debit after a date's last row, / 360, for the nights to the next row's date.

    Raises
    ------
    InputError
        for an invalid argument, with its name.
    """
    bounds = _Bounds(capital, fee_bps, slippage_bps, symbol_cap, overnight_leverage)
    if len(weights) == 0:
        raise InputError("weights: there are no rows")
    columns = weights.columns
    index = _checked_instants(weights.index)
    opens = _price_matrix("open", bars, weights)
    closes = _price_matrix("close", bars, weights)
    target = _float_values("weights", weights)
    if np.isinf(target).any():
        raise InputError("weights: a weight must be finite, or NaN")
    instruments = _instruments(columns, increments)
    slippage = bounds.slippage_bps
    costs = TradingCosts(0.0, slippage, 0.0, 0.0, slippage, 0.0)
    fees = FeeSchedule(crypto_tiers=_NO_VENUE_FEES, commission_bps=bounds.fee_bps)
    margin = MarginTerms(
        leverage=intraday_leverage, order_price_buffer=1.0, interest_rate=interest_rate
    )
    book = create_book(bounds.capital, holding_table(instruments, costs), fee_tier_table(fees))
    dates = new_york_date(index.asi8.view(f"datetime64[{index.unit}]"))
    begins = np.concatenate([[True], np.diff(dates) > np.timedelta64(0)])
    # At most a liquidation, a close and an opening per row and symbol, and the flows of each night.
    size = len(columns)
    tape = create_tape(3 * len(dates) * size + int(begins.sum()) * max_flow_entries(size, 0))
    values = _follow_weights(
        book,
        day_table(dates[begins], fees, margin, FillTerms(volume_share=None)),
        np.cumsum(begins) - 1,
        opens,
        closes,
        target,
        (bounds.symbol_cap, intraday_leverage, min(bounds.overnight_leverage, intraday_leverage)),
        tape,
    )
    written = tape[: int(book.account["tape_length"][0])]
    return ReplayResult(index, columns, values, written[written["cause"] < DIVIDEND])


@compiled
def _follow_weights(
    book: Book,
    days: Records,
    day: Index,
    opens: Array,
    closes: Array,
    weights: Array,
    bounds: tuple[float, float, float],
    tape: Records,
) -> Array:
    """Trade the weights; return the equity at each row's close, [T], USD.

    Fills are appended to the tape.

    day: [T] row of `days` for each row of the weights.
    bounds: cap of a symbol, intraday leverage and overnight leverage.
    """
    rows, size = weights.shape
    equity = np.empty(rows)
    targets = np.zeros(size)
    account = book.account[0]
    holding = book.holding
    tape = without_refcount(tape)
    calm = np.zeros(size)
    endless = np.full(size, np.inf)
    queue = np.zeros(size, np.int64)
    for t in range(rows):
        today = days[day[t]]
        if t > 0:
            if day[t] != day[t - 1]:
                open_session(book, today)
            bars = BarOpens(opens[t], endless, calm)
            if account.called:
                liquidate(book, today, tape, t, bars)
            held = holding["quantity"]
            trade_to_targets(account, holding, today, tape, t, held, targets, bars, np.inf, queue)
        mark_positions(account, holding, closes[t])
        last = t + 1 == rows
        if not last and day[t + 1] != day[t]:
            close_session(book, tape, t, today, days[day[t + 1]].date - today.date)
        equity[t] = account.equity
        if not last:
            # The decision fills at the open of row t + 1. If that is the last row of its date,
            # exposure cannot be cut before the night.
            overnight = t + 2 < rows and day[t + 2] != day[t + 1]
            leverage = bounds[2] if overnight else bounds[1]
            _choose_targets(
                account, holding, today, weights[t], closes[t], bounds[0], leverage, targets
            )
    return equity


@jit_inline
def _choose_targets(
    account: Record,
    holding: Records,
    day: Record,
    weights: Array,
    closes: Array,
    cap: float,
    ceiling: float,
    targets: Array,
) -> None:
    """Fill in target quantities [S]; a symbol without a weight or a close keeps its quantity."""
    equity = account.equity
    lowest = -cap
    # Below the minimum equity for margin nothing is lent and nothing is short.
    if equity < day.margin_equity:
        ceiling = min(ceiling, 1.0)
        lowest = 0.0
    fixed = 0.0
    requested = 0.0
    share = 1.0 / ceiling
    for s in range(len(targets)):
        position = holding[s]
        unit = 1.0 if position.crypto else share
        if np.isnan(weights[s]) or np.isnan(closes[s]):
            targets[s] = position.quantity
            if position.quantity != 0.0:
                fixed += abs(position.quantity * position.mark) * unit / max(equity, 1e-9)
        else:
            targets[s] = min(max(weights[s], 0.0 if position.crypto else lowest), cap)
            requested += abs(targets[s]) * unit
    # Kept positions use their part of the ceiling first; the others share the rest.
    free = max(1.0 - fixed, 0.0)
    scale = min(1.0, free / max(requested, 1e-300)) * equity
    if equity <= 0.0:
        scale = 0.0
    for s in range(len(targets)):
        if not (np.isnan(weights[s]) or np.isnan(closes[s])):
            step = holding[s].increment
            targets[s] = truncate_to_steps(targets[s] * scale / closes[s], step)


def _price_matrix(name: str, bars: Mapping[str, pd.DataFrame], weights: pd.DataFrame) -> Array:
    """Return the values [T, S] of a price frame; refuse an index or columns unlike the weights'."""
    if name not in bars:
        raise InputError(f"bars: {name!r} is missing; got {', '.join(bars) or 'none'}")
    frame = bars[name]
    if not (frame.index.equals(weights.index) and frame.columns.equals(weights.columns)):
        raise InputError(f"bars[{name!r}]: its index and columns are not those of weights")
    values = _float_values(f"bars[{name!r}]", frame)
    if (values <= 0).any() or (values == np.inf).any():
        raise InputError(f"bars[{name!r}]: a price must be above 0 and finite")
    return values


def _float_values(name: str, frame: pd.DataFrame) -> Array:
    try:
        values = np.ascontiguousarray(frame.to_numpy(dtype=np.float64)).view()
    except (TypeError, ValueError) as error:
        raise InputError(f"{name}: {error}") from error
    # Some frames return writable arrays and some do not, and the loop would be compiled for both.
    values.flags.writeable = False
    return values


def _instruments(
    columns: pd.Index, increments: float | Mapping[str, float] | None
) -> list[Instrument]:
    """Return the instruments of the columns; an unknown name is a stock."""
    instruments = [_instrument_named(str(column)) for column in columns.tolist()]
    # Duplicates would each have a cap and a position.
    for symbol, count in Counter(item.symbol for item in instruments).items():
        if count > 1:
            raise InputError(f"weights: {symbol} has {count} columns")
    if increments is None:
        return instruments
    steps = increments if isinstance(increments, Mapping) else dict.fromkeys(columns, increments)
    try:
        for k, column in enumerate(columns):
            if column in steps:
                step = Decimal(str(steps[column]))
                item = instruments[k]
                instruments[k] = Instrument(item.symbol, item.kind, step)
        return instruments
    except (InvalidOperation, ValueError) as error:
        raise InputError(f"increments: {error}") from error


@cache
def _instrument_named(name: str) -> Instrument:
    return instrument(name) if is_symbol(name) else Instrument(name, AssetClass.STOCK, Decimal(1))


def _checked_instants(index: pd.Index) -> pd.DatetimeIndex:
    """Return the index if its instants increase; refuse any other index."""
    if not isinstance(index, pd.DatetimeIndex) or not (
        index.is_monotonic_increasing and index.is_unique
    ):
        raise InputError("weights: the index must be instants that increase")
    return index
