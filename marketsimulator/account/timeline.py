"""A market as arrays for settlement, and the two steps that settlement takes at each instant.

First `advance_account` applies the bars that have become known. Then `open_bars` opens the bars
that start at the instant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from execution.orders.fees import FeeSchedule
from execution.orders.lending import MarginTerms
from foundation.arrays import Array, Index, Instants, Mask, StructuredArray
from foundation.compiled import compiled, jit_inline
from foundation.errors import InputError
from marketsimulator.account.book import Book, NumpyRecord, ReferencePrices
from marketsimulator.account.calendar_events import (
    apply_corporate_action,
    close_session,
    delist_symbol,
    open_session,
    update_crypto_tier,
)
from marketsimulator.account.margin import record_intraday_deficit
from marketsimulator.account.matching import match_closes, match_highs_and_lows, match_opens
from marketsimulator.account.settlement import (
    liquidate_called_positions,
    mark_positions,
    reset_bar_volume,
)
from marketsimulator.account.terms import FillTerms, day_terms_table
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from trainingdata.confirmation import restore_confirmed_bars
from trainingdata.corporate_actions import adjust_for_splits
from trainingdata.instants import new_york_date
from trainingdata.instruments import AssetClass
from trainingdata.market import Market
from trainingdata.sessions import (
    count_nights_since_previous,
    exchange_calendar,
    has_session_opened_since_previous,
    is_in_session,
)
from trainingdata.timeframe import Clock

CORPORATE_ACTION_DTYPE = np.dtype(
    [
        ("opens", "i8"),
        ("symbol", "i8"),
        ("ratio", "f8"),  # of a split; for a delisting the shares of `into` for one share
        ("dividend", "f8"),  # USD a share; for a delisting the cash paid per share
        ("ends", "i8"),  # 1: the symbol is delisted
        ("share", "f8"),  # for a delisting: fraction of the last price that a share is worth
        ("into", "i8"),  # the successor symbol, negative for none
    ],
    align=True,
)


class ConfirmedBar(NamedTuple):
    """A bar with a large price move that the symbol's next bar confirms.

    symbol_index: index of the symbol.
    start, end: start and end of the bar (ns).
    values: [5] prices and volume of the bar, the volume scaled to the whole market.
    """

    symbol_index: int
    start: int
    end: int
    values: Array


IMPACT_VOLATILITY_BARS = 50  # bars of a symbol whose ranges give its volatility for market impact


class Timeline(NamedTuple):
    """Arrays of a market over T instants and S symbols.

    In arrays [T, 2] column 0 is for stocks and column 1 for crypto. "Row" is a row of the T
    instants unless another array is named.

    bar_values: [T, S, 5] bars that became known at each instant, NaN without a bar; volume is
        scaled to the whole market.
    bar_end_rows: [T, 2] row at which the bar that starts at an instant becomes known; -1 without a
        bar.
    bar_start_times: [T, 2] start (ns) of the bars known at each instant.
    intermediate_open_rows: [T, 2] row of the bar that started between the previous instant and this
        one; its open is matched at this instant. -1 without such a bar.
    instants_ns: [T] instant (ns).
    day_term_rows: [T] row of `day_terms`.
    day_terms: [D] fees and rules of each date, dtype DAY_TERMS_DTYPE.
    nights_since_previous: [T] number of nights since the previous instant.
    session_opened: [T] true if a session opened since the previous instant.
    is_first_session_bar: [T] true if the stock bar known at the instant is the first of its
        session.
    is_stock_session_open: [T] true if the stock market is open.
    waits_for_auction: true if stock orders wait for the auction at the open of the next bar.
    is_closing_auction: true if that auction is the closing auction.
    bar_volatility: [T, S] standard deviation of a bar's return; [1, S] of zeros if market impact is
        not simulated.
    corporate_actions: [A] corporate actions, dtype CORPORATE_ACTION_DTYPE, in the order in which
        they take effect.
    first_action_rows: [T + 1] row of `corporate_actions` with the first corporate action of each
        instant.
    """

    bar_values: Array
    bar_end_rows: Index
    bar_start_times: Index
    intermediate_open_rows: Index
    instants_ns: Index
    day_term_rows: Index
    day_terms: StructuredArray
    nights_since_previous: Index
    session_opened: Mask
    is_first_session_bar: Mask
    is_stock_session_open: Mask
    waits_for_auction: bool
    is_closing_auction: bool
    bar_volatility: Array
    corporate_actions: StructuredArray
    first_action_rows: Index


def build_timeline(
    market: Market, fees: FeeSchedule, margin: MarginTerms, fills: FillTerms, *, impact: bool
) -> Timeline:
    """Build the arrays of a market that settlement needs.

    impact: true to estimate bar volatilities from bar ranges, for market impact.
    """
    bars = market.execution_bars
    # Between two decisions several finer bars match an order's remainder.
    if market.finer_bars is not None:
        fills = replace(fills, remainder="carry")
    if fills.volume_share is not None:
        _check_volume(bars)
    times = bars.times
    dates = new_york_date(times)
    # Settlement reads all symbols of an instant, so instants come first here and symbols in a
    # panel.
    values = np.where(bars.mask[:, :, None], bars.values, np.nan)
    panel = np.ascontiguousarray(values.transpose(1, 0, 2))
    # An account is valued at the bars of its decisions: finer bars fill orders and mark nothing.
    if market.finer_bars is not None:
        panel[:, :, CLOSE] = np.nan
        rows = np.searchsorted(times, market.bars.times)
        panel[rows, :, CLOSE] = np.where(
            market.bars.mask, market.bars.values[:, :, CLOSE], np.nan
        ).T
    # The volume of a partial feed (IEX: 3 %) is scaled to the whole market.
    panel[:, :, VOLUME] /= fills.feed_volume_share
    days, day = np.unique(dates, return_inverse=True)
    clocks = [bars.clock(kind) for kind in (AssetClass.STOCK, AssetClass.CRYPTO)]
    starts = np.stack([clock.starts_by_end(times) for clock in clocks], axis=1)
    session_opened = has_session_opened_since_previous(times)
    # For a daily bar that fills in the closing auction, the auction is the first price.
    opens = (
        exchange_calendar().closes if bars.timeframe.fills_at_close else exchange_calendar().opens
    )
    action_table, first_action = _corporate_action_table(market, session_opened)
    return Timeline(
        bar_values=panel,
        bar_end_rows=np.stack([_end_rows(clock, times) for clock in clocks], axis=1),
        bar_start_times=starts.astype(np.int64),
        intermediate_open_rows=np.stack(
            [_skipped_open_rows(times, starts[:, k]) for k in (0, 1)], axis=1
        ),
        instants_ns=times.astype(np.int64),
        day_term_rows=day.astype(np.int64),
        day_terms=day_terms_table(days, fees, margin, fills),
        nights_since_previous=count_nights_since_previous(times),
        session_opened=session_opened,
        is_first_session_bar=np.isin(starts[:, 0], opens),
        is_stock_session_open=is_in_session(times),
        waits_for_auction=bars.timeframe.auction_time_in_force is not None,
        is_closing_auction=bars.timeframe.fills_at_close,
        bar_volatility=_parkinson_volatility(panel) if impact else np.zeros((1, panel.shape[1])),
        corporate_actions=action_table,
        first_action_rows=first_action,
    )


def find_confirmed_bars(
    market: Market, feed_volume_share: float
) -> dict[tuple[int, int], list[ConfirmedBar]]:
    """Return the confirmed bars by the confirming bar: its row, and its class (1 for crypto).

    feed_volume_share: fraction of the whole market's volume that the bars report.
    """
    bars = market.execution_bars
    if not bars.unconfirmed_bars:
        return {}
    visible = restore_confirmed_bars(adjust_for_splits(bars, market.actions))
    whole = bars.with_unconfirmed_bars()
    found: dict[tuple[int, int], list[ConfirmedBar]] = {}
    for s, row in np.argwhere(visible.mask & ~bars.mask).tolist():
        end = bars.times[row]
        start = bars.clock(bars.instruments[s].kind).starts_by_end(bars.times[row : row + 1])[0]
        values = whole.values[s, row].copy()
        values[VOLUME] /= feed_volume_share
        confirming = row + 1 + int(np.argmax(bars.mask[s, row + 1 :]))
        first, last = (int(at.astype(np.int64)) for at in (start, end))
        bar = ConfirmedBar(s, first, last, values)
        found.setdefault((confirming, int(bars.crypto[s])), []).append(bar)
    return found


@compiled
def advance_account(book: Book, timeline: Timeline, account_log: StructuredArray, t: int) -> None:
    """Advance the account from instant number t - 1 to t.

    Opens and closes sessions, applies corporate actions, and matches orders with the bars that
    became known since t - 1.
    """
    advance_to_opens(book, timeline, account_log, t)
    advance_from_opens(book, timeline, account_log, t)


@compiled
def advance_to_opens(book: Book, timeline: Timeline, account_log: StructuredArray, t: int) -> None:
    """Execute `advance_account` up to and including the opens of bars that start after t - 1."""
    day = timeline.day_terms[timeline.day_term_rows[t]]
    if timeline.day_term_rows[t] != timeline.day_term_rows[t - 1]:
        update_crypto_tier(book, timeline.day_terms[timeline.day_term_rows[t - 1]].date, day.date)
    if timeline.is_closing_auction:
        _close_in_auction(book, timeline, account_log, t)
    else:
        _begin_session(book, timeline, account_log, t)
        _match_opens(book, timeline, day, account_log, t)


@compiled
def advance_from_opens(
    book: Book, timeline: Timeline, account_log: StructuredArray, t: int
) -> None:
    """Execute the rest of `advance_account`, after the opens of bars that start after t - 1."""
    day = timeline.day_terms[timeline.day_term_rows[t]]
    if timeline.is_closing_auction:
        _begin_session(book, timeline, account_log, t)
    if len(book.orders) > 0:
        _match_highs_and_lows(book, timeline, day, account_log, t, _volatility_at(timeline, t))
    mark_positions(book.account[0], book.holdings, timeline.bar_values[t, :, CLOSE])
    # Interest and margin calls of the night use the book after the last bar.
    if timeline.nights_since_previous[t] > 0 and not timeline.is_closing_auction:
        close_session(
            book, account_log, timeline.instants_ns[t], day, timeline.nights_since_previous[t]
        )
    elif timeline.is_stock_session_open[t]:
        record_intraday_deficit(book, day)


@jit_inline
def _begin_session(book: Book, timeline: Timeline, account_log: StructuredArray, t: int) -> None:
    """Apply the corporate actions of a session that has opened since t - 1, and open it."""
    # Shares sold before the ex-date get no dividend, and opens are quoted after the split: actions
    # come before the session's prices.
    if timeline.session_opened[t]:
        for k in range(timeline.first_action_rows[t], timeline.first_action_rows[t + 1]):
            action = timeline.corporate_actions[k]
            at, s = action.opens, action.symbol
            ratio, paid = action.ratio, action.dividend
            if action.ends:
                delist_symbol(book, account_log, at, s, paid, action.share, action.into, ratio)
            else:
                apply_corporate_action(book, account_log, at, s, ratio, paid)
        open_session(book)


@jit_inline
def _close_in_auction(book: Book, line: Timeline, tape: StructuredArray, t: int) -> None:
    """Fill orders in the closing auction of a session that ended between t - 1 and t.

    Positions are marked at the auction prices, and carrying costs are charged.
    """
    day = line.day_terms[line.day_term_rows[t - 1]]
    _match_opens(book, line, day, tape, t)
    row = line.intermediate_open_rows[t, 0]
    if row >= 0:
        mark_positions(book.account[0], book.holdings, line.bar_values[row, :, OPEN])
    if line.nights_since_previous[t] > 0:
        close_session(book, tape, line.instants_ns[t], day, line.nights_since_previous[t])


@compiled
def open_bars(
    book: Book, timeline: Timeline, account_log: StructuredArray, t: int
) -> ReferencePrices:
    """Open the bars that start at instant number t; return their opens.

    Orders that wait for an open are matched, and positions under a margin call are liquidated.
    """
    day = timeline.day_terms[timeline.day_term_rows[t]]
    opens = _bar_opens(book, timeline, day, timeline.bar_end_rows[t], _volatility_at(timeline, t))
    reset_bar_volume(book, day, opens.volumes)
    if book.account[0].called and timeline.bar_end_rows[t, 0] >= 0:
        liquidate_called_positions(book, day, account_log, timeline.instants_ns[t], opens)
    # A session opens between two instants, as no bar becomes known then. `_match_opens` matches its
    # first open, so none of the opens here begins a session.
    if len(book.orders) > 0:
        match_opens(book, day, account_log, opens, np.full(2, timeline.instants_ns[t]), False)
    return opens


@jit_inline
def _bar_opens(
    book: Book, line: Timeline, day: NumpyRecord, rows: Index, volatility: Array
) -> ReferencePrices:
    """Return the opens of the bars in two rows of the timeline, NaN for bars that fill no orders.

    rows: row of the stock bars, then of the crypto bars; -1 for none.
    """
    size = len(book.holdings)
    opens = ReferencePrices(np.full(size, np.nan), np.full(size, np.nan), volatility)
    for s in range(size):
        row = rows[book.holdings[s].crypto]
        if row >= 0 and can_fill_orders(day, line.bar_values[row, s, VOLUME]):
            opens.prices[s] = line.bar_values[row, s, OPEN]
            opens.volumes[s] = line.bar_values[row, s, VOLUME]
    return opens


@compiled
def process_finer_bars(
    book: Book,
    timeline: Timeline,
    account_log: StructuredArray,
    instant_range: tuple[int, int],
    max_new_entries: int,
) -> int:
    """Process the instants at which finer bars end; return the last processed instant.

    instant_range: number of the first instant, and of the one after the last.
    max_new_entries: maximum number of fills and cash flows of one instant. Processing stops early
        if the account log has less space left.
    """
    first, end = instant_range
    for t in range(first, end):
        if t > first and book.account[0].tape_length + max_new_entries > len(account_log):
            return t - 1
        advance_account(book, timeline, account_log, t)
        open_bars(book, timeline, account_log, t)
    return end - 1


@compiled
def _match_opens(
    book: Book, line: Timeline, day: NumpyRecord, tape: StructuredArray, t: int
) -> None:
    """Match waiting orders, and liquidate, at the opens of bars that started between t - 1 and t.

    `open_bars` matches the opens of all bars that start at an instant of the panel. A bar may start
    between two instants: a crypto bar may end while a stock bar that opened earlier is still
    running.
    """
    if not book.account[0].called and not len(book.orders):
        return
    # As at any other open, only ranges known by then: the bar's own range came later.
    opens = _bar_opens(book, line, day, line.intermediate_open_rows[t], _volatility_at(line, t - 1))
    reset_bar_volume(book, day, opens.volumes)
    stocks = line.intermediate_open_rows[t, 0]
    crypto = line.intermediate_open_rows[t, 1]
    if book.account[0].called and stocks >= 0:
        liquidate_called_positions(book, day, tape, line.bar_start_times[stocks, 0], opens)
    if len(book.orders) > 0:
        # Without an open, the start of its bar is not used.
        starts = np.array([line.bar_start_times[stocks, 0], line.bar_start_times[crypto, 1]])
        first = stocks >= 0 and line.is_first_session_bar[stocks]
        match_opens(book, day, tape, opens, starts, first)


@compiled
def _match_highs_and_lows(
    book: Book, line: Timeline, day: NumpyRecord, tape: StructuredArray, t: int, volatility: Array
) -> None:
    """Match waiting orders with highs and lows of the bars known at instant number t.

    If the instant ends a session, market-on-close orders are matched with its closes.
    """
    size = len(book.holdings)
    now = line.instants_ns[t]
    highs = np.full(size, np.nan)
    lows = np.full(size, np.nan)
    volumes = line.bar_values[t, :, VOLUME]
    for s in range(size):
        if can_fill_orders(day, volumes[s]):
            highs[s] = line.bar_values[t, s, HIGH]
            lows[s] = line.bar_values[t, s, LOW]
    match_highs_and_lows(
        book, day, tape, highs, lows, volumes, volatility, line.bar_start_times[t], now
    )
    if line.nights_since_previous[t] > 0 and not line.is_closing_auction:
        # Contiguous, as opens are: other strides would compile everything a second time.
        closes = ReferencePrices(line.bar_values[t, :, CLOSE].copy(), volumes.copy(), volatility)
        match_closes(book, day, tape, closes, now)


@compiled
def can_fill_orders(day: NumpyRecord, volume: float) -> bool:
    """Return whether a bar can fill orders.

    It can if it has volume, or if it exists and the settings do not limit fills by volume.
    """
    return volume > 0.0 or (volume == 0.0 and day.volume_share == np.inf)


@compiled
def _volatility_at(line: Timeline, t: int) -> Array:
    volatility: Array = line.bar_volatility[t if len(line.bar_volatility) > 1 else 0]
    return volatility


def _check_volume(bars: Bars) -> None:
    """Refuse a symbol whose bars have no volume, because its orders would never fill."""
    for s, symbol in enumerate(bars.symbols):
        if not (bars.bars_of_symbol(s)[1][:, VOLUME] > 0).any():
            raise InputError(
                f"{symbol}: no bar has volume, so no order would fill; set"
                " fills.volume_share=null to ignore volume"
            )


def _skipped_open_rows(times: Instants, starts: Instants) -> Index:
    """Return, for each instant, the row of the bar that started since the previous instant, [T].

    Only bars that start between two instants of the panel are included; -1 for none.

    starts: [T] start of the bar that becomes known at each instant; NaT without one.
    """
    place = np.minimum(np.searchsorted(times, starts), len(times) - 1)
    # NaT, without a bar, differs from everything and is tested first.
    rows = np.flatnonzero(~np.isnat(starts) & (times[place] != starts))
    skipped_open_rows = np.full(len(times), -1, dtype=np.int64)
    skipped_open_rows[np.searchsorted(times, starts[rows], side="right")] = rows
    return skipped_open_rows


def _end_rows(clock: Clock, times: Instants) -> Index:
    """Return the row at which the bar that starts at each instant becomes known, [T].

    -1 if the panel has no instant at which that bar ends.
    """
    ends = clock.ends_by_start(times)
    row = np.minimum(np.searchsorted(times, ends), len(times) - 1)
    return np.where(times[row] == ends, row, -1).astype(np.int64)


def _parkinson_volatility(panel: Array) -> Array:
    """Estimate the standard deviation of a bar's return, [T, S], from the ranges of recent bars.

    The estimator is that of Parkinson (1980). The result is 0 before a symbol's first bar.

    panel: [T, S, 5] bars.
    """
    squared = np.log(panel[:, :, HIGH] / panel[:, :, LOW]) ** 2 / (4 * np.log(2))
    result = np.zeros(squared.shape)
    instants = np.arange(len(squared))
    for s in range(squared.shape[1]):
        bar_rows = np.flatnonzero(~np.isnan(squared[:, s]))
        if len(bar_rows) == 0:
            continue
        total = np.concatenate([[0.0], np.cumsum(squared[bar_rows, s])])
        count = np.arange(1, len(bar_rows) + 1)
        first = np.maximum(count - IMPACT_VOLATILITY_BARS, 0)
        mean = (total[1:] - total[first]) / (count - first)
        latest = np.searchsorted(bar_rows, instants, side="right") - 1
        # A difference of running sums may be an ulp below zero for bars without a range.
        deviation = np.sqrt(np.maximum(mean[latest], 0.0))
        result[:, s] = np.where(latest >= 0, deviation, 0.0)
    return result


def _corporate_action_table(market: Market, session_opened: Mask) -> tuple[StructuredArray, Index]:
    """Return corporate actions in order of effect, and the row of each instant's first action.

    Actions before the panel's first known bar are skipped, because later prices already reflect
    them and the account had no positions.
    """
    bars = market.execution_bars
    place = {symbol: s for s, symbol in enumerate(bars.symbols)}
    listed: list[tuple[np.datetime64, tuple[float, ...]]] = []
    for each in sorted(market.actions, key=lambda action: action.effective_open):
        if each.symbol in place:
            does = (place[each.symbol], each.split_ratio, each.dividend, 0, 0.0, -1)
            listed.append((each.effective_open, does))
    for end in market.booked_delistings:
        becomes = (
            end.exchange_ratio,
            end.cash_per_share,
            1,
            end.last_price_fraction,
            place.get(end.successor, -1),
        )
        listed.append((end.booked_at, (place[end.symbol], *becomes)))
    rows: list[tuple[float, ...]] = []
    instants: list[int] = []
    openings: npt.NDArray[np.int64] = np.flatnonzero(session_opened)
    for opens, row in sorted(listed, key=lambda each: each[0]):
        later = openings[bars.times[openings] >= opens]
        if opens >= bars.times[0] and len(later):
            instants.append(int(later[0]))
            rows.append((int(opens.astype("datetime64[ns]").astype(np.int64)), *row))
    first_action = np.searchsorted(instants, np.arange(len(bars.times) + 1))
    return np.array(rows, dtype=CORPORATE_ACTION_DTYPE), first_action.astype(np.int64)
