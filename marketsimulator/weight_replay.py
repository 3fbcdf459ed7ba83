"""Replay of target weights: decided at the close of a row, filled at the open of the next row.

A replay uses no forecasts. Fills, costs, margin, delistings and doubts about prices are those of a
backtest, by the same functions.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from execution.orders.fees import CryptoTier, FeeSchedule, TradingCosts
from execution.orders.lending import MarginTerms
from foundation.arrays import Array, Index, Instants, Mask, StructuredArray
from foundation.compiled import compiled, jit_inline, without_refcount
from foundation.errors import InputError, invalid_choice_error, not_installed_error
from foundation.formatting import format_count
from foundation.settings import setting, settings_class
from marketsimulator.account.book import (
    BORROW,
    BY_DELISTING,
    DIVIDEND,
    INTEREST,
    ROUNDING,
    Book,
    NumpyRecord,
    ReferencePrices,
    create_account_log,
    create_book,
    max_logged_cash_flows,
)
from marketsimulator.account.calendar_events import close_session, delist_symbol, open_session
from marketsimulator.account.rebalancing import trade_to_targets, truncate_to_step
from marketsimulator.account.settlement import liquidate_called_positions, mark_positions
from marketsimulator.account.terms import (
    FillTerms,
    create_holdings,
    day_terms_table,
    fee_tier_table,
)
from marketsimulator.results.comparison import Comparison, compare_records
from marketsimulator.results.figures import account_figures
from marketsimulator.results.metrics import daily_equity_curve, returns_until_ruin
from marketsimulator.results.remarks import data_warning_remarks, delisting_remarks
from marketsimulator.results.run_record import RunRecord
from marketsimulator.results.track_record import TrackRecord
from marketsimulator.run_result import DELISTED, Booking, Run
from marketsimulator.runs.outcome import RunTotals, VariantOutcome
from marketsimulator.runs.price_frames import AlignedFrames, BarFrames, align_frames
from trainingdata.bars import CLOSE, OHLCV_FIELDS, OPEN, Bars
from trainingdata.delistings import DEFAULT_DELISTING_LOSS, DEFAULT_MISSED_SESSIONS, DelistingRules
from trainingdata.instants import new_york_date
from trainingdata.instruments import AssetClass, Instrument, instrument, is_symbol
from trainingdata.market import Market
from trainingdata.splits import find_symbol_jumps
from trainingdata.timeframe import DAILY, HOURLY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("marketsimulator")

# Crypto pays `fee_bps` as stocks do, and no venue fee.
_NO_VENUE_FEES = (CryptoTier(0.0, 0.0, 0.0),)
# Figures that daily returns do not determine.
_ACCOUNT_FIGURES = (
    *("total_return", "max_drawdown_intraday", "mean_leverage", "max_leverage"),
    *("turnover", "costs", "interest", "trades"),
)
_WAITING_NOTE = (
    "Not filled at once, because a bar was missing: {}; each waits for the next bar of its symbol."
)
_MARGIN_NOTE = (
    "The weights of {} exceed what the account may hold (intraday_leverage, overnight_leverage;"
    " below 2,000 USD no loans) and are scaled down."
)
FORECASTER_LABEL = "given weights"  # forecaster of a replay, in comparisons


@settings_class()
class _Bounds:
    """Bounds of arguments that no other settings class validates."""

    capital: float = setting(100_000.0, "starting capital, USD", gt=0)
    fee_bps: float = setting(1.0, "fee in basis points of the traded value", ge=0, lt=5_000)
    slippage_bps: float = setting(
        1.0, "slippage in basis points of the opening price", ge=0, lt=5_000
    )
    overnight_leverage: float = setting(2.0, "overnight leverage limit, multiple of equity", gt=0)
    symbol_cap: float = setting(1.0, "maximum weight of a symbol, multiple of equity", gt=0)


@dataclass(frozen=True, eq=False)
class ReplayResult:
    """Result of a weight replay: equity, fills, figures, page.

    name: name of the run.
    index: [T] index of the rows.
    instants: [T] UTC instant at which each row ends; 16:00 New York for rows that are days.
    instruments: [S] instruments of the columns.
    symbols: [S] columns of the weights.
    equity_values: [T] equity at each row's close, USD.
    closes: [T, S] closes, USD.
    capital: equity at the start, USD.
    account_log: fills and cash flows, in order.
    remarks: deviations from the weights, and doubts about the prices.
    """

    name: str
    index: pd.DatetimeIndex
    instants: Instants
    instruments: tuple[Instrument, ...]
    symbols: pd.Index
    equity_values: Array
    closes: Array
    capital: float
    account_log: StructuredArray
    remarks: tuple[str, ...] = ()

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
        tape = self._fill_entries
        columns = {
            "at": self.index.take(tape["at"].astype(np.intp)),
            "symbol": self.symbols.astype("str").array.take(tape["symbol"].astype(np.intp)),
            "qty": np.ascontiguousarray(tape["quantity"]),
            "price": np.ascontiguousarray(tape["price"]),
            "fee": np.ascontiguousarray(tape["fee"]),
        }
        return pd.DataFrame(columns, copy=False)

    @cached_property
    def returns(self) -> pd.Series:
        """Return the daily returns, fractions; -1 on the day of ruin, then 0.

        A day ends at 16:00 New York, the last one at the last row.
        """
        marks, daily = daily_equity_curve(
            self.instants, self.equity_values, capital=self.capital, has_crypto=self.has_crypto
        )
        days = pd.DatetimeIndex(new_york_date(marks[1:]), name="date")
        return pd.Series(returns_until_ruin(daily), index=days, name=self.name)

    @cached_property
    def figures(self) -> dict[str, Any]:
        """Return the figures of return, risk, exposure and costs by name, as in `summary.json`."""
        return account_figures(
            self.instants, self._variant_outcome(), capital=self.capital, has_crypto=self.has_crypto
        )

    @property
    def stats(self) -> pd.Series:
        """Return the figures under their standard names (CAGR, Sharpe, …); fractions and USD."""
        return self.track_record().stats

    @property
    def has_crypto(self) -> bool:
        """Return whether a column is crypto, which trades on calendar days."""
        return any(item.kind is AssetClass.CRYPTO for item in self.instruments)

    def track_record(
        self, benchmark: str | pd.Series | None = None, *, trials: int | None = None
    ) -> TrackRecord:
        """Return the record of daily returns, with intervals and significance.

        benchmark: a column of the weights to buy and hold, or daily returns with dates.
        trials: number of variants tried, of which this run is the best.
        """
        if isinstance(benchmark, str):
            benchmark = self._buy_and_hold(benchmark)
        record = TrackRecord.from_returns(
            self.returns,
            benchmark,
            name=self.name,
            trials=trials,
            source=", ".join(map(str, self.symbols))
            + f" · {format_count(len(self.instants), 'row')}",
            account={name: self.figures[name] for name in _ACCOUNT_FIGURES},
        )
        return replace(record, notes=(*self.remarks, *record.notes))

    def page(
        self,
        path: str | Path,
        benchmark: str | pd.Series | None = None,
        *,
        trials: int | None = None,
    ) -> Path:
        """Write the page of the run, one self-contained HTML file; return its path."""
        text = self.track_record(benchmark, trials=trials).page()
        file = Path(path).expanduser()
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        except OSError as error:
            reason = error.strerror
            if isinstance(error, FileExistsError):
                reason = f"{error.filename} is a file, not a folder"
            raise InputError(f"page: cannot write {path}: {reason}") from error
        return file

    def compare(self, *others: ReplayResult) -> Comparison:
        """Compare this run with others over their common days; names must differ."""
        runs = (self, *others)
        names = Counter(run.name for run in runs)
        if len(names) < len(runs):
            twice = names.most_common(1)[0][0]
            raise InputError(
                f"compare: two runs have the name {twice!r}; choose names by replay(…, name=…)"
            )
        return compare_records([run._run_record() for run in runs])

    def plot(self) -> Figure:
        """Return a matplotlib figure of equity and drawdown."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            raise not_installed_error("matplotlib", "plot()", "pictures") from None
        figure = Figure(figsize=(9, 5), layout="constrained")
        above, below = figure.subplots(2, sharex=True, height_ratios=(2, 1))
        equity = self.equity
        above.plot(equity.index, equity, linewidth=1)
        above.set(ylabel="equity, USD", title=self.name)
        drawdown = equity / equity.cummax().clip(lower=self.capital) - 1
        below.fill_between(equity.index, 100 * drawdown, linewidth=0, alpha=0.5)
        below.set(ylabel="drawdown, %")
        return figure

    @cached_property
    def _fill_entries(self) -> StructuredArray:
        return self.account_log[self.account_log["cause"] < DIVIDEND]

    def _variant_outcome(self) -> VariantOutcome:
        """Return equity, gross exposure and costs."""
        fills, tape = self._fill_entries, self.account_log
        held = np.zeros(self.closes.shape)
        np.add.at(held, (fills["at"], fills["symbol"]), fills["quantity"])
        marks = pd.DataFrame(self.closes).ffill().fillna(0.0).to_numpy()

        def total_paid(cause: int) -> float:
            return 0.0 - float(tape["usd"][tape["cause"] == cause].sum())

        # A delisting is no trade, and its loss no cost of trading.
        trades = fills[fills["cause"] != BY_DELISTING]
        totals = RunTotals(
            notional=float(np.abs(trades["quantity"] * trades["price"]).sum()),
            trades=len(trades),
            fees=float(trades["fee"].sum()),
            crypto_fees=0.0,
            spread=float(trades["spread"].sum()),
            slippage=float(trades["slippage"].sum()),
            interest=total_paid(INTEREST),
            borrow=total_paid(BORROW),
            rounding=total_paid(ROUNDING),
            dividends=0.0,
            failures=0,
        )
        gross = np.abs(held.cumsum(axis=0) * marks).sum(axis=1)
        return VariantOutcome(self.equity_values, gross, totals)

    def _run_record(self) -> RunRecord:
        symbols = [str(symbol) for symbol in self.symbols]
        run = {
            "forecaster": FORECASTER_LABEL,
            "data": "given bars",
            "symbols": symbols,
            "trials": None,
        }
        return RunRecord(
            {**self.figures, **run}, {}, self.instants, self.equity_values, name=self.name
        )

    def _buy_and_hold(self, symbol: str) -> pd.Series:
        """Return the daily returns of a column bought at its first close and held."""
        columns = [str(column) for column in self.symbols]
        if symbol not in columns:
            raise invalid_choice_error(
                "benchmark", symbol, columns, other_accepted_values="a Series of daily returns"
            )
        column = pd.Series(self.closes[:, columns.index(symbol)])
        # Cash until its first close, as in the buy-and-hold benchmark of a backtest.
        closes = np.asarray(column.ffill().bfill(), dtype=np.float64)
        marks, values = daily_equity_curve(
            self.instants, closes, capital=float(closes[0]), has_crypto=self.has_crypto
        )
        days = pd.DatetimeIndex(new_york_date(marks[1:]))
        return pd.Series(values[1:] / values[:-1] - 1, index=days, name=symbol)


def replay(
    weights: pd.DataFrame,
    bars: BarFrames,
    *,
    name: str = "replay",
    capital: float = 100_000.0,
    fee_bps: float = 1.0,
    slippage_bps: float = 1.0,
    increments: float | Mapping[str, float] | None = None,
    symbol_cap: float | None = None,
    intraday_leverage: float = 4.0,
    overnight_leverage: float = 2.0,
    interest_rate: float = 0.065,
    accept_jumps: bool = False,
) -> ReplayResult:
    """Replay target weights over bars in one account for all symbols.

    Parameters
    ----------
    weights : [T, S]
        signed fractions of equity, at rows of the bars; crypto cannot be short. NaN, or no row,
        keeps the position.
    bars
        a frame per symbol with columns `open` and `close`, or frames `open` and `close` with a
        column per symbol. Where the bar of a symbol is NaN or missing, the symbol keeps its last
        close, and its order waits for its next bar. A symbol that misses ten sessions is delisted
        as in a backtest. Midnight stamps are days; other stamps require a time zone.
    name
        name of the run, for its page and for comparisons.
    fee_bps, slippage_bps
        basis points of traded value; slippage moves the price away from the open.
    increments
        quantity increment, for all symbols or by symbol; by default 1 share and 0.001 coins.
    symbol_cap
        weights are clipped to ±symbol_cap; None: not clipped.
    intraday_leverage, overnight_leverage
        weights are scaled until gross stock / leverage + crypto ≤ 1. The overnight leverage applies
        to fills at the open of the last row of a New York date. Margin is checked at the order
        price, without a price buffer.
    interest_rate
        annual rate on the debit after the last row of a date, / 360 per night to the next date.
    accept_jumps
        true to accept a stock's price that jumps like an unadjusted split.

    Raises
    ------
    InputError
        for an invalid argument; the message names it.
    """
    bounds = _Bounds(capital, fee_bps, slippage_bps, overnight_leverage)
    cap = np.inf if symbol_cap is None else _Bounds(symbol_cap=symbol_cap).symbol_cap
    if isinstance(weights, pd.Series):
        weights = weights.to_frame(weights.name or "STOCK")
    if not isinstance(weights, pd.DataFrame):
        raise InputError(f"weights: expected a DataFrame, got {type(weights).__name__}")
    columns = weights.columns
    instruments = _instruments(columns, increments)
    rows = align_frames(
        weights, bars, np.array([item.kind is AssetClass.STOCK for item in instruments])
    )
    _refuse_crypto_shorts(rows, instruments)
    market = _build_market(rows, instruments)
    jumps = [
        jump
        for s, item in enumerate(instruments)
        if item.kind is AssetClass.STOCK
        for jump in find_symbol_jumps(item.symbol, *market.bars.bars_of_symbol(s))
    ]
    if jumps and not accept_jumps:
        stamp = rows.index[int(np.searchsorted(market.bars.times, jumps[0].bar_start))]
        raise InputError(
            f"bars: {jumps[0].symbol} at {stamp}: {jumps[0].observation};"
            " adjust the bars, or pass accept_jumps=True if the move is real"
        )
    slippage = bounds.slippage_bps
    costs = TradingCosts(0.0, slippage, 0.0, 0.0, slippage, 0.0)
    fees = FeeSchedule(crypto_tiers=_NO_VENUE_FEES, commission_bps=bounds.fee_bps)
    margin = MarginTerms(
        leverage=intraday_leverage, order_price_buffer=1.0, interest_rate=interest_rate
    )
    book = create_book(bounds.capital, create_holdings(instruments, costs), fee_tier_table(fees))
    dates = rows.dates
    begins = np.concatenate([[True], np.diff(dates) > np.timedelta64(0)])
    # At most a liquidation, a close and an opening per row and symbol, and the flows of each night.
    size = len(columns)
    tape = create_account_log(
        3 * (len(dates) + 1) * size + int(begins.sum()) * max_logged_cash_flows(size, 0)
    )
    counts = np.zeros(2, np.int64)
    values = _follow_weights(
        book,
        day_terms_table(dates[begins], fees, margin, FillTerms(volume_share=None)),
        np.cumsum(begins) - 1,
        rows.opens,
        rows.closes,
        _weights_from_first_close(rows),
        (cap, intraday_leverage, min(bounds.overnight_leverage, intraday_leverage)),
        _delisting_rows(rows, market),
        counts,
        tape,
    )
    written = tape[: int(book.account["tape_length"][0])]
    waited, scaled = counts.tolist()
    remarks = (
        *data_warning_remarks(jumps),
        *([_WAITING_NOTE.format(format_count(waited, "order"))] if waited else []),
        *([_MARGIN_NOTE.format(format_count(scaled, "row"))] if scaled else []),
        *_ended_symbol_remarks(written, market),
    )
    for remark in remarks:
        log.warning("%s: %s", name, remark)
    return ReplayResult(
        name=name,
        index=rows.index,
        instants=rows.instants,
        instruments=tuple(instruments),
        symbols=columns,
        equity_values=values,
        closes=rows.closes,
        capital=bounds.capital,
        account_log=written,
        remarks=remarks,
    )


@compiled
def _follow_weights(
    book: Book,
    days: StructuredArray,
    day: Index,
    opens: Array,
    closes: Array,
    weights: Array,
    bounds: tuple[float, float, float],
    delistings: Index,
    counts: Index,
    tape: StructuredArray,
) -> Array:
    """Trade the weights; return the equity at each row's close, [T], USD.

    Fills and cash flows are appended to the account log.

    day: [T] row of `days` for each row of the weights.
    bounds: cap of a symbol, intraday leverage and overnight leverage.
    delistings: [S] row at which each symbol is delisted; negative: never.
    counts: [2] set to the numbers of orders that waited for a bar and of rows with scaled weights.
    """
    rows, size = weights.shape
    equity = np.empty(rows)
    targets = np.zeros(size)
    waits = np.zeros(size, np.bool_)
    account = book.account[0]
    holding = book.holdings
    tape = without_refcount(tape)
    calm = np.zeros(size)
    endless = np.full(size, np.inf)
    queue = np.zeros(size, np.int64)
    for t in range(rows):
        today = days[day[t]]
        if t > 0:
            if day[t] != day[t - 1]:
                open_session(book)
            for s in range(size):
                if delistings[s] == t:
                    delist_symbol(book, tape, t, s, 0.0, 1.0 - DEFAULT_DELISTING_LOSS, -1, 1.0)
                    targets[s] = 0.0
            bars = ReferencePrices(opens[t], endless, calm)
            if account.called:
                liquidate_called_positions(book, today, tape, t, bars)
                # Without a weight, what was liquidated stays closed.
                keeps = np.isnan(weights[t - 1]) & ~waits
                targets[:] = np.where(keeps, holding["quantity"], targets)
            held = holding["quantity"]
            budget = trade_to_targets(
                account, holding, today, tape, t, held, targets, bars, np.inf, queue, False
            )
            for s in range(size):
                waited = waits[s]
                waits[s] = targets[s] != holding[s].quantity and (
                    budget < np.inf or np.isnan(opens[t, s])
                )
                counts[0] += waits[s] and not waited
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
            counts[1] += _choose_targets(
                account, holding, today, weights[t], waits, bounds[0], leverage, targets
            )
    return equity


@jit_inline
def _choose_targets(
    account: NumpyRecord,
    holding: StructuredArray,
    day: NumpyRecord,
    weights: Array,
    waits: Mask,
    cap: float,
    ceiling: float,
    targets: Array,
) -> bool:
    """Fill in target quantities [S]; return whether margin rules scale the weights.

    Without a weight, a symbol keeps its quantity, or its target while its order waits for a bar.

    waits: [S] whether the order of each symbol waits for a bar.
    """
    equity = account.equity
    # Below the minimum equity of a margin account, no borrowing and no short positions.
    can_borrow = equity >= day.margin_equity
    if not can_borrow:
        ceiling = min(ceiling, 1.0)
    scaled = False
    fixed = 0.0
    requested = 0.0
    share = 1.0 / ceiling
    for s in range(len(targets)):
        position = holding[s]
        unit = 1.0 if position.crypto else share
        if np.isnan(weights[s]):
            if not waits[s]:
                targets[s] = position.quantity
            largest = max(abs(position.quantity), abs(targets[s]))
            if largest != 0.0:
                fixed += largest * position.mark * unit / max(equity, 1e-9)
        else:
            targets[s] = min(max(weights[s], -cap), cap)
            if targets[s] < 0.0 and not can_borrow:
                targets[s] = 0.0
                scaled = True
            requested += abs(targets[s]) * unit
    # Positions without a new weight use their part of the ceiling first; the rest is shared.
    free = max(1.0 - fixed, 0.0)
    scale = min(1.0, free / max(requested, 1e-300))
    scaled |= requested > 0.0 and scale < 1.0 - 1e-12
    scale *= equity
    if equity <= 0.0:
        scale = 0.0
    for s in range(len(targets)):
        if not np.isnan(weights[s]):
            position = holding[s]
            targets[s] = truncate_to_step(targets[s] * scale / position.mark, position.increment)
    return scaled


def _refuse_crypto_shorts(rows: AlignedFrames, instruments: Sequence[Instrument]) -> None:
    """Raise InputError for a negative weight of crypto, which no broker lends."""
    is_crypto = np.array([item.kind is AssetClass.CRYPTO for item in instruments])
    shorts = np.argwhere((rows.weights < 0) & is_crypto)
    if len(shorts):
        t, s = shorts[0]
        raise InputError(
            f"weights: {instruments[s].symbol} at {rows.index[t]} is {rows.weights[t, s]:g}; the"
            " broker lends no crypto to sell short: use 0 or more"
        )


def _build_market(rows: AlignedFrames, instruments: Sequence[Instrument]) -> Market:
    """Return the rows as market data under the default delisting rules of a backtest."""
    shape = (len(instruments), len(rows.instants))
    values = np.full((*shape, len(OHLCV_FIELDS)), np.nan)
    values[:, :, OPEN] = rows.opens.T
    values[:, :, CLOSE] = rows.closes.T
    is_daily = bool((rows.index == rows.index.normalize()).all())
    mask = ~np.isnan(values[:, :, CLOSE])
    timeframe = DAILY if is_daily else HOURLY
    bars = Bars(tuple(instruments), rows.instants, values, mask, "given bars", timeframe)
    return Market(bars, delisting_rules=DelistingRules(missed_sessions=DEFAULT_MISSED_SESSIONS))


def _delisting_rows(rows: AlignedFrames, market: Market) -> Index:
    """Return the row at which each symbol is delisted, [S]; -1 if never, or if it trades again."""
    ends = np.full(rows.opens.shape[1], -1)
    for each in market.booked_delistings:
        s = market.bars.symbols.index(each.symbol)
        row = int(np.searchsorted(rows.instants, each.booked_at))
        ends[s] = row if np.isnan(rows.opens[row, s]) else -1
    return ends


def _weights_from_first_close(rows: AlignedFrames) -> Array:
    """Return the weights [T, S]; the last one before a symbol's first close moves to that row."""
    weights = rows.weights.copy()
    for s, first in enumerate((~np.isnan(rows.closes)).argmax(axis=0).tolist()):
        early = weights[: first + 1, s]
        stated = early[~np.isnan(early)]
        early[:] = np.nan
        weights[first, s] = stated[-1] if len(stated) else np.nan
    weights[:, np.isnan(rows.closes).all(axis=0)] = np.nan
    weights.flags.writeable = False
    return weights


def _ended_symbol_remarks(account_log: StructuredArray, market: Market) -> list[str]:
    """Return the remarks of a backtest on delisted symbols and symbols without final bars."""
    symbols, closes = market.bars.symbols, market.bars.last_closes()
    fills = account_log[account_log["cause"] < DIVIDEND]
    profits = np.zeros(len(symbols))
    held = np.zeros(len(symbols))
    np.add.at(profits, fills["symbol"], -fills["quantity"] * fills["price"] - fills["fee"])
    np.add.at(held, fills["symbol"], fills["quantity"])
    profits += np.where(held == 0.0, 0.0, held * closes)
    lost = float(fills["slippage"][fills["cause"] == BY_DELISTING].sum())
    booked = [Booking(market.bars.last_instant, "", DELISTED, -lost)]
    run = Run("", (), [], [], {}, booked)
    return delisting_remarks(run, market, dict(zip(symbols, profits.tolist(), strict=True)))


def _instruments(
    columns: pd.Index, increments: float | Mapping[str, float] | None
) -> list[Instrument]:
    """Return the instruments of the columns; an unknown name is a stock."""
    instruments = [_parse_instrument(str(column)) for column in columns.tolist()]
    # Duplicates would each have a cap and a position.
    for symbol, count in Counter(item.symbol for item in instruments).items():
        if count > 1:
            raise InputError(f"weights: {symbol} has {count} columns; keep one")
    if increments is None:
        return instruments
    steps = increments if isinstance(increments, Mapping) else dict.fromkeys(columns, increments)
    if unknown := [name for name in steps if name not in columns]:
        raise invalid_choice_error("increments", unknown[0], map(str, columns))
    for k, column in enumerate(columns):
        if column in steps:
            item = instruments[k]
            try:
                step = Decimal(str(steps[column]))
                instruments[k] = Instrument(item.symbol, item.kind, step)
            except InvalidOperation:
                raise InputError(
                    f"increments: {column}: {steps[column]!r} is not a number"
                ) from None
            except ValueError as error:
                raise InputError(f"increments: {error}") from error
    return instruments


@cache
def _parse_instrument(name: str) -> Instrument:
    return instrument(name) if is_symbol(name) else Instrument(name, AssetClass.STOCK, Decimal(1))
