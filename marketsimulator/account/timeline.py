"""A panel of bars as settlement walks it, and the two steps of every instant: what has become
known, then what opens.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from execution.fees import FeeSchedule
from execution.lending import MarginTerms
from foundation.arrays import Array, Index, Instants, Mask, Records
from foundation.compiled import compiled
from foundation.errors import InputError
from marketsimulator.account.book import Book, Record
from marketsimulator.account.margin import note_deficit
from marketsimulator.account.matching import meet_close, open_waiting, trade_through
from marketsimulator.account.settlement import (
    close_session,
    coin_tier,
    corporate_action,
    liquidate,
    mark,
    open_session,
    start_bar,
)
from marketsimulator.account.terms import FillTerms, day_table
from trainingdata.actions import Action
from trainingdata.bars import CLOSE, HIGH, LOW, OPEN, VOLUME, Bars
from trainingdata.instruments import Kind
from trainingdata.sessions import (
    in_session,
    known_at,
    new_york_date,
    nights_between,
    sessions_opened,
    started_at,
    stock_grid,
)

ACTION = np.dtype([("symbol", "i8"), ("ratio", "f8"), ("dividend", "f8")], align=True)
IMPACT_BARS = 50  # of a symbol's own, whose ranges are its volatility for market impact


class Timeline(NamedTuple):
    """T instants, S symbols; kinds: stocks 0, coins 1.

    bars [T, S, 5]: known at each instant, NaN where none; volume as far as orders meet it. ends [T,
    2]: row of the bar that starts at an instant, -1 where none. starts [T, 2] (ns): of the bars
    known then. fresh [T, 2]: whether that start is no instant of its own; false where no bar became
    known. now [T] (ns). day [T]: row of days. nights [T]: carried since the instant before. opened
    [T]: a session has opened since. first [T]: the stock bar known then began its session. trading
    [T]: stocks trade. volatility [T or 1, S]. first_action [T + 1]: rows of actions.
    """

    bars: Array
    ends: Index
    starts: Index
    fresh: Mask
    now: Index
    day: Index
    days: Records
    nights: Index
    opened: Mask
    first: Mask
    trading: Mask
    volatility: Array
    actions: Records
    first_action: Index


def timeline(
    bars: Bars,
    fees: FeeSchedule,
    margin: MarginTerms,
    fills: FillTerms,
    *,
    impact: bool,
    actions: tuple[Action, ...],
) -> Timeline:
    """The panel laid out for settlement.

    impact: whether ranges are needed. actions: on the panel's prices.

    Raises
    ------
    InputError
        for a symbol without any volume, where orders fill against it.
    """
    if fills.volume_share is not None:
        for s, symbol in enumerate(bars.symbols):
            if not (bars.own(s)[1][:, VOLUME] > 0).any():
                raise InputError(
                    f"{symbol}: no bar has volume, so nothing would fill; fills.volume_share=null"
                    " ignores volume"
                )
    times = bars.times
    dates = new_york_date(bars.times)
    panel = np.ascontiguousarray(
        np.where(bars.mask[:, :, None], bars.values, np.nan).transpose(1, 0, 2)
    )
    panel[:, :, VOLUME] /= fills.coverage
    days, day = np.unique(dates, return_inverse=True)
    starts = np.stack([started_at(kind, times) for kind in (Kind.STOCK, Kind.CRYPTO)], axis=1)
    found = np.minimum(np.searchsorted(times, starts), len(times) - 1)
    opened = sessions_opened(times)
    table, first = _action_table(bars, opened, actions)
    return Timeline(
        bars=panel,
        ends=np.stack([_ends(kind, times) for kind in (Kind.STOCK, Kind.CRYPTO)], axis=1),
        starts=starts.astype(np.int64),
        fresh=~np.isnat(starts)
        & (times[found] != starts),  # NaT, where no bar became known, differs from everything
        now=times.astype(np.int64),
        day=day.astype(np.int64),
        days=day_table(days, fees, margin, fills),
        nights=nights_between(times),
        opened=opened,
        first=np.isin(starts[:, 0], stock_grid().opens),
        trading=in_session(times),
        volatility=_volatility(panel) if impact else np.zeros((1, panel.shape[1])),
        actions=table,
        first_action=first,
    )


@compiled
def advance(book: Book, line: Timeline, tape: Records, t: int) -> None:
    """Instant t has come: sessions open and close, and bars have become known since the instant
    before.
    """
    day = line.days[line.day[t]]
    if line.day[t] != line.day[t - 1]:
        coin_tier(book, day.date)
    if line.opened[t]:
        for k in range(line.first_action[t], line.first_action[t + 1]):
            action = line.actions[k]
            corporate_action(book, tape, t, action.symbol, action.ratio, action.dividend)
        open_session(book, day)
    volatility = _volatility_at(line, t)
    if book.account[0].called or len(book.orders) > 0:
        _meet_bars(book, line, day, tape, t, volatility)
    mark(book.account[0], book.holding, line.bars[t, :, CLOSE])
    if line.nights[t] > 0:
        close_session(book, day, line.nights[t])
    elif line.trading[t]:
        note_deficit(book, day)


@compiled
def open_bars(book: Book, line: Timeline, tape: Records, t: int) -> tuple[Array, Array, Array]:
    """Bars start at instant t: their opens, volumes and volatility [S]; what waited for an open
    has met it.
    """
    day = line.days[line.day[t]]
    volatility = _volatility_at(line, t)
    size = len(book.holding)
    opens = np.full(size, np.nan)
    volumes = np.full(size, np.nan)
    starts = np.full(2, line.now[t])
    for s in range(size):
        row = line.ends[t, book.holding[s].crypto]
        if row >= 0 and _trades(day, line.bars[row, s, VOLUME]):
            opens[s] = line.bars[row, s, OPEN]
            volumes[s] = line.bars[row, s, VOLUME]
    start_bar(book, day, volumes)
    if book.account[0].called and line.ends[t, 0] >= 0:
        liquidate(book, day, tape, t, opens, volumes, volatility)
    if (
        len(book.orders) > 0
    ):  # no bar is known at the instant a session opens: its first one is met once it is
        open_waiting(book, day, tape, t, opens, volumes, volatility, starts, False)
    return opens, volumes, volatility


@compiled
def _meet_bars(
    book: Book, line: Timeline, day: Record, tape: Records, t: int, volatility: Array
) -> None:
    """Waiting orders and a liquidation meet the bars known at t; their opens only where no
    instant came at the start.
    """
    size = len(book.holding)
    opens = np.full(size, np.nan)
    volumes = np.full(size, np.nan)
    highs = np.full(size, np.nan)
    lows = np.full(size, np.nan)
    for s in range(size):
        if not _trades(day, line.bars[t, s, VOLUME]):
            continue
        highs[s] = line.bars[t, s, HIGH]
        lows[s] = line.bars[t, s, LOW]
        if line.fresh[t, book.holding[s].crypto]:
            opens[s] = line.bars[t, s, OPEN]
            volumes[s] = line.bars[t, s, VOLUME]
    start_bar(book, day, volumes)
    if book.account[0].called and line.fresh[t, 0]:
        liquidate(book, day, tape, t, opens, volumes, volatility)
    if len(book.orders) > 0:
        starts = line.starts[t]
        open_waiting(book, day, tape, t, opens, volumes, volatility, starts, line.first[t])
        trade_through(
            book,
            day,
            tape,
            t,
            highs,
            lows,
            line.bars[t, :, VOLUME],
            volatility,
            starts,
            line.now[t],
        )
        if line.nights[t] > 0:
            meet_close(
                book,
                day,
                tape,
                t,
                line.bars[t, :, CLOSE],
                line.bars[t, :, VOLUME],
                volatility,
                line.now[t],
            )


@compiled
def _trades(day: Record, volume: float) -> bool:
    """Whether a bar fills orders: it is there, and something traded in it (where volume matters
    at all).
    """
    return volume > 0.0 or (volume == 0.0 and day.volume_share == np.inf)


@compiled
def _volatility_at(line: Timeline, t: int) -> Array:
    volatility: Array = line.volatility[t if len(line.volatility) > 1 else 0]
    return volatility


def _ends(kind: Kind, times: Instants) -> Index:
    """[T] row of the instant at which the bar that starts at each becomes known; -1 where none
    is in the panel.
    """
    ends = known_at(kind, times)
    place = np.minimum(np.searchsorted(times, ends), len(times) - 1)
    return np.where(times[place] == ends, place, -1).astype(np.int64)


def _volatility(panel: Array) -> Array:
    """[T, S] deviation of a bar's return by the ranges of a symbol's last own bars (Parkinson
    1980); 0 before the first.
    """
    squared = np.log(panel[:, :, HIGH] / panel[:, :, LOW]) ** 2 / (4 * np.log(2))
    result = np.zeros(squared.shape)
    for s in range(squared.shape[1]):
        own = np.flatnonzero(~np.isnan(squared[:, s]))
        if len(own):
            total = np.concatenate([[0.0], np.cumsum(squared[own, s])])
            first = np.maximum(np.arange(1, len(own) + 1) - IMPACT_BARS, 0)
            mean = (total[1:] - total[first]) / (np.arange(1, len(own) + 1) - first)
            row = np.searchsorted(own, np.arange(len(squared)), side="right") - 1
            result[:, s] = np.where(row >= 0, np.sqrt(np.maximum(mean[row], 0.0)), 0.0)
    return result


def _action_table(bars: Bars, opened: Mask, actions: tuple[Action, ...]) -> tuple[Records, Index]:
    """Actions as records in the order of the instants that find them in force, and where each
    instant's begin.

    What took hold before the panel's first bar became known is in its prices, and nobody was there
    to hold anything.
    """
    rows: list[tuple[int, int, float, float]] = []
    first_of: npt.NDArray[np.int64] = np.flatnonzero(opened)
    for action in sorted(actions, key=lambda action: action.opens):
        later = first_of[bars.times[first_of] >= action.opens]
        if action.opens >= bars.times[0] and action.symbol in bars.symbols and len(later):
            rows.append(
                (int(later[0]), bars.symbols.index(action.symbol), action.ratio, action.dividend)
            )
    table = np.array([row[1:] for row in rows], dtype=ACTION)
    return table, np.searchsorted([row[0] for row in rows], np.arange(len(bars.times) + 1)).astype(
        np.int64
    )
