"""A panel of bars as settlement walks it, and the two steps of every instant.

First comes what has become known, then what opens.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from execution.orders.fees import FeeSchedule
from execution.orders.lending import MarginTerms
from foundation.arrays import Array, Index, Instants, Mask, Records
from foundation.compiled import compiled, jit_inline
from foundation.errors import InputError
from marketsimulator.account.book import BarOpens, Book, Record
from marketsimulator.account.calendar_events import (
    apply_corporate_action,
    close_session,
    delist_symbol,
    open_session,
    update_crypto_tier,
)
from marketsimulator.account.margin import record_deficit
from marketsimulator.account.matching import match_closes, match_extremes, match_opens
from marketsimulator.account.settlement import liquidate, mark_positions, reset_bar_volume
from marketsimulator.account.terms import FillTerms, day_table
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from trainingdata.instants import new_york_date
from trainingdata.instruments import AssetClass
from trainingdata.market import Market
from trainingdata.sessions import calendar, has_session_opened, in_session, nights_between
from trainingdata.timeframe import Clock

ACTION = np.dtype(
    [
        ("opens", "i8"),
        ("symbol", "i8"),
        ("ratio", "f8"),  # of a split; of an end the shares of `into` for one share
        ("dividend", "f8"),  # USD a share; of an end what a share is paid
        ("ends", "i8"),  # 1: the symbol has ended
        ("share", "f8"),  # of its last price that a share is worth then
        ("into", "i8"),  # the symbol that takes its place, below 0 for none
    ],
    align=True,
)
IMPACT_VOLATILITY_BARS = 50  # of a symbol's own, whose ranges are its volatility for market impact


class Timeline(NamedTuple):
    """T instants, S symbols; of a pair, stocks stand at 0 and coins at 1.

    bars: [T, S, 5] known at each instant, NaN where none; volume as far as orders meet it.
    ends: [T, 2] row of the bar that starts at an instant, -1 where none.
    starts: [T, 2] instant (ns) at which the bars known at each started.
    skipped_open_rows: [T, 2] row of the bar that has started since the instant before, at no
        instant of the
        panel, so that its open is met here; -1 where none has.
    now: [T] instant (ns).
    day: [T] row of days.
    days: [D] DAY, the terms of each date.
    nights: [T] carried since the instant before.
    session_opened: [T] since the instant before.
    begins_session: [T] whether the stock bar known then began its session.
    trading: [T] whether stocks trade.
    auction: whether orders of stocks wait for the auction in which their next bar opens.
    closes: whether that is the closing one, after which come the night and the next session.
    volatility: [T, S] deviation of a bar's return; [1, S] of zeros where nothing has impact.
    actions: [A] ACTION, in the order in which they take hold.
    first_action: [T + 1] row of actions at which each instant's begin.
    """

    bars: Array
    ends: Index
    starts: Index
    skipped_open_rows: Index
    now: Index
    day: Index
    days: Records
    nights: Index
    session_opened: Mask
    begins_session: Mask
    trading: Mask
    auction: bool
    closes: bool
    volatility: Array
    actions: Records
    first_action: Index


def timeline(
    market: Market, fees: FeeSchedule, margin: MarginTerms, fills: FillTerms, *, impact: bool
) -> Timeline:
    """The market laid out for settlement; impact: whether ranges are needed."""
    bars = market.execution_bars
    # Between two decisions several bars meet what is left of an order.
    if market.finer is not None:
        fills = replace(fills, remainder="carry")
    if fills.volume_share is not None:
        _check_volume(bars)
    times = bars.times
    dates = new_york_date(times)
    # Instants come first here and symbols in a panel: settlement reads all symbols of an instant.
    values = np.where(bars.mask[:, :, None], bars.values, np.nan)
    panel = np.ascontiguousarray(values.transpose(1, 0, 2))
    # An account is worth what its decisions see: finer bars fill orders and mark nothing.
    if market.finer is not None:
        panel[:, :, CLOSE] = np.nan
        rows = np.searchsorted(times, market.bars.times)
        panel[rows, :, CLOSE] = np.where(
            market.bars.mask, market.bars.values[:, :, CLOSE], np.nan
        ).T
    # A feed that shows a part of the trades (IEX: 3 %) is scaled to the market that orders meet.
    panel[:, :, VOLUME] /= fills.coverage
    days, day = np.unique(dates, return_inverse=True)
    clocks = [bars.clock(kind) for kind in (AssetClass.STOCK, AssetClass.CRYPTO)]
    starts = np.stack([clock.started_at(times) for clock in clocks], axis=1)
    session_opened = has_session_opened(times)
    # Of a day that is filled in the closing auction, that one is the first price.
    opens = calendar().closes if bars.timeframe.fills_at_close else calendar().opens
    action_table, first_action = _action_table(market, session_opened)
    return Timeline(
        bars=panel,
        ends=np.stack([_end_rows(clock, times) for clock in clocks], axis=1),
        starts=starts.astype(np.int64),
        skipped_open_rows=np.stack([_unseen_rows(times, starts[:, k]) for k in (0, 1)], axis=1),
        now=times.astype(np.int64),
        day=day.astype(np.int64),
        days=day_table(days, fees, margin, fills),
        nights=nights_between(times),
        session_opened=session_opened,
        begins_session=np.isin(starts[:, 0], opens),
        trading=in_session(times),
        auction=bars.timeframe.auction is not None,
        closes=bars.timeframe.fills_at_close,
        volatility=_range_volatility(panel) if impact else np.zeros((1, panel.shape[1])),
        actions=action_table,
        first_action=first_action,
    )


@compiled
def advance(book: Book, line: Timeline, tape: Records, t: int) -> None:
    """Instant t has come: sessions open and close, and bars have become known since t - 1."""
    day = line.days[line.day[t]]
    if line.day[t] != line.day[t - 1]:
        update_crypto_tier(book, line.days[line.day[t - 1]].date, day.date)
    volatility = _volatility_at(line, t)
    if line.closes:
        _close_in_auction(book, line, tape, t)
    # What was sold before the ex-date gets no dividend, and opens are quoted after the split: the
    # actions come before anything meets a price of the session.
    if line.session_opened[t]:
        for k in range(line.first_action[t], line.first_action[t + 1]):
            action = line.actions[k]
            at, s = action.opens, action.symbol
            ratio, paid = action.ratio, action.dividend
            if action.ends:
                delist_symbol(book, tape, at, s, paid, action.share, action.into, ratio)
            else:
                apply_corporate_action(book, tape, at, s, ratio, paid)
        open_session(book, day)
    if not line.closes:
        _match_opens(book, line, day, tape, t)
    if len(book.orders) > 0:
        _match_ranges(book, line, day, tape, t, volatility)
    mark_positions(book.account[0], book.holding, line.bars[t, :, CLOSE])
    # Interest and margin calls of the night are on the book as the last bar has left it.
    if line.nights[t] > 0 and not line.closes:
        close_session(book, tape, line.now[t], day, line.nights[t])
    elif line.trading[t]:
        record_deficit(book, day)


@jit_inline
def _close_in_auction(book: Book, line: Timeline, tape: Records, t: int) -> None:
    """A session has closed since t - 1: its auction fills what waited for it, then comes the night.

    Positions are worth its prices then.
    """
    day = line.days[line.day[t - 1]]
    _match_opens(book, line, day, tape, t)
    row = line.skipped_open_rows[t, 0]
    if row >= 0:
        mark_positions(book.account[0], book.holding, line.bars[row, :, OPEN])
    if line.nights[t] > 0:
        close_session(book, tape, line.now[t], day, line.nights[t])


@compiled
def open_bars(book: Book, line: Timeline, tape: Records, t: int) -> BarOpens:
    """Bars start at instant t: their opens.

    What waited for an open has met it, and the broker has closed what was called.
    """
    day = line.days[line.day[t]]
    opens = _opens_of(book, line, day, line.ends[t], _volatility_at(line, t))
    reset_bar_volume(book, day, opens.volume)
    if book.account[0].called and line.ends[t, 0] >= 0:
        liquidate(book, day, tape, line.now[t], opens)
    # A session opens between two instants, as no bar becomes known then. `_match_opens` meets its
    # first open, so none that is met here begins a session.
    if len(book.orders) > 0:
        match_opens(book, day, tape, opens, np.full(2, line.now[t]), False)
    return opens


@jit_inline
def _opens_of(book: Book, line: Timeline, day: Record, rows: Index, volatility: Array) -> BarOpens:
    """The opens of the bars at these rows (stocks, coins; -1 for none) that fill orders."""
    size = len(book.holding)
    opens = BarOpens(np.full(size, np.nan), np.full(size, np.nan), volatility)
    for s in range(size):
        row = rows[book.holding[s].crypto]
        if row >= 0 and fills_orders(day, line.bars[row, s, VOLUME]):
            opens.price[s] = line.bars[row, s, OPEN]
            opens.volume[s] = line.bars[row, s, VOLUME]
    return opens


@compiled
def step_finer_bars(
    book: Book, line: Timeline, tape: Records, between: tuple[int, int], tape_space: int
) -> int:
    """Instants at which finer bars end come and go; the last one that has.

    between: the first of them, and the one after the last. room: on the tape that one needs; the
    others wait where it lacks.
    """
    first, end = between
    for t in range(first, end):
        if t > first and book.account[0].tape_length + tape_space > len(tape):
            return t - 1
        advance(book, line, tape, t)
        open_bars(book, line, tape, t)
    return end - 1


@compiled
def _match_opens(book: Book, line: Timeline, day: Record, tape: Records, t: int) -> None:
    """Waiting orders and a liquidation meet opens since t - 1.

    They meet them only where no instant came at the start of the bars: elsewhere `open_bars` has
    shown them. A coin's hour may end while a stock's bar runs: the open was before it.
    """
    if not book.account[0].called and not len(book.orders):
        return
    # As at any other open, the ranges known by then; what the bar itself has shown came later.
    opens = _opens_of(book, line, day, line.skipped_open_rows[t], _volatility_at(line, t - 1))
    reset_bar_volume(book, day, opens.volume)
    stocks = line.skipped_open_rows[t, 0]
    crypto = line.skipped_open_rows[t, 1]
    if book.account[0].called and stocks >= 0:
        liquidate(book, day, tape, line.starts[stocks, 0], opens)
    if len(book.orders) > 0:
        # Where no open is met, the instant of its bar is asked for nothing.
        starts = np.array([line.starts[stocks, 0], line.starts[crypto, 1]])
        first = stocks >= 0 and line.begins_session[stocks]
        match_opens(book, day, tape, opens, starts, first)


@compiled
def _match_ranges(
    book: Book, line: Timeline, day: Record, tape: Records, t: int, volatility: Array
) -> None:
    """Waiting orders meet the bars that are known at t, and where those end a session its close."""
    size = len(book.holding)
    now = line.now[t]
    highs = np.full(size, np.nan)
    lows = np.full(size, np.nan)
    volumes = line.bars[t, :, VOLUME]
    for s in range(size):
        if fills_orders(day, volumes[s]):
            highs[s] = line.bars[t, s, HIGH]
            lows[s] = line.bars[t, s, LOW]
    match_extremes(book, day, tape, highs, lows, volumes, volatility, line.starts[t], now)
    if line.nights[t] > 0 and not line.closes:
        # In one piece, as opens are: for other strides all would be compiled a second time.
        closes = BarOpens(line.bars[t, :, CLOSE].copy(), volumes.copy(), volatility)
        match_closes(book, day, tape, closes, now)


@compiled
def fills_orders(day: Record, volume: float) -> bool:
    """Whether a bar fills orders: it is there, and something traded in it where volume matters."""
    return volume > 0.0 or (volume == 0.0 and day.volume_share == np.inf)


@compiled
def _volatility_at(line: Timeline, t: int) -> Array:
    volatility: Array = line.volatility[t if len(line.volatility) > 1 else 0]
    return volatility


def _check_volume(bars: Bars) -> None:
    """Refuse a symbol no order in which would ever fill."""
    for s, symbol in enumerate(bars.symbols):
        if not (bars.real_bars(s)[1][:, VOLUME] > 0).any():
            raise InputError(
                f"{symbol}: no bar has volume, so nothing would fill; fills.volume_share=null"
                " ignores volume"
            )


def _unseen_rows(times: Instants, starts: Instants) -> Index:
    """[T] row of the bar whose start lies between each instant and the one before; -1 for none.

    starts: [T] of the bars that become known, NaT where none does.
    """
    place = np.minimum(np.searchsorted(times, starts), len(times) - 1)
    # NaT, where no bar became known, differs from everything, so it has to be asked for first.
    rows = np.flatnonzero(~np.isnat(starts) & (times[place] != starts))
    skipped_open_rows = np.full(len(times), -1, dtype=np.int64)
    skipped_open_rows[np.searchsorted(times, starts[rows], side="right")] = rows
    return skipped_open_rows


def _end_rows(clock: Clock, times: Instants) -> Index:
    """[T] row of the instant at which the bar that starts at each becomes known.

    -1 where none is in the panel.
    """
    ends = clock.known_at(times)
    row = np.minimum(np.searchsorted(times, ends), len(times) - 1)
    return np.where(times[row] == ends, row, -1).astype(np.int64)


def _range_volatility(panel: Array) -> Array:
    """[T, S] deviation of a bar's return by the ranges of a symbol's last own bars.

    Parkinson (1980); 0 before the first.
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
        # A difference of running sums may fall an ulp below zero for bars that did not move.
        deviation = np.sqrt(np.maximum(mean[latest], 0.0))
        result[:, s] = np.where(latest >= 0, deviation, 0.0)
    return result


def _action_table(market: Market, session_opened: Mask) -> tuple[Records, Index]:
    """Actions and ends in the order in which they take hold; the row where each instant's begin.

    An action from before the panel's first bar became known is in its prices already, and the
    account held nothing then.
    """
    bars = market.execution_bars
    place = {symbol: s for s, symbol in enumerate(bars.symbols)}
    listed: list[tuple[np.datetime64, tuple[float, ...]]] = []
    for each in sorted(market.actions, key=lambda action: action.opens):
        if each.symbol in place:
            does = (place[each.symbol], each.ratio, each.dividend, 0, 0.0, -1)
            listed.append((each.opens, does))
    for end in market.ended:
        becomes = (end.ratio, end.price, 1, end.share, place.get(end.into, -1))
        listed.append((end.booked, (place[end.symbol], *becomes)))
    rows: list[tuple[float, ...]] = []
    instants: list[int] = []
    openings: npt.NDArray[np.int64] = np.flatnonzero(session_opened)
    for opens, row in sorted(listed, key=lambda each: each[0]):
        later = openings[bars.times[openings] >= opens]
        if opens >= bars.times[0] and len(later):
            instants.append(int(later[0]))
            rows.append((int(opens.astype("datetime64[ns]").astype(np.int64)), *row))
    first_action = np.searchsorted(instants, np.arange(len(bars.times) + 1))
    return np.array(rows, dtype=ACTION), first_action.astype(np.int64)
