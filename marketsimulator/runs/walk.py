"""The walk through a panel: advance, decide, fill, record.

A backtest by Kelly and every such variant of a sweep take it, in one compiled loop. A backtest also
keeps what each decision saw and answered; `runs.decisions` says of that why.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from execution.beliefs import BeliefTable
from execution.problem import Terms
from foundation.arrays import Index, Records
from foundation.threads import undivided
from marketsimulator.account.book import Book, most_flows, new_tape
from marketsimulator.account.settlement import mark_positions
from marketsimulator.account.timeline import Timeline
from marketsimulator.runs.instants import ACCOUNT_ROW, Kept, WalkInputs, walk_instants
from marketsimulator.settings import BacktestSettings
from sizing.strategies import Kelly
from trainingdata.bars import Bars
from trainingdata.market import Market

AT_ONCE = 512  # instants of one call: between two a walk can be watched and ended


class Walk(NamedTuple):
    """What became of an account over T instants.

    inputs: what it decided by.
    account: [T] ACCOUNT_ROW.
    tape: the entries; none where no decision is kept.
    written: [T] how many of them there were after each instant; likewise.
    kept: the decisions.
    book: as it ended.
    """

    inputs: WalkInputs
    account: Records
    tape: Records
    written: Index
    kept: Kept
    book: Book


def walk_inputs(settings: BacktestSettings, bars: Bars, table: BeliefTable) -> WalkInputs:
    """What a walk by these settings decides by, on the panel's beliefs."""
    limits = settings.limits
    rule = settings.sizing.chosen_strategy()
    assert isinstance(rule, Kelly)
    sharpe = settings.prior.sharpe(bars.crypto)
    return WalkInputs(
        deciding=table.deciding,
        outside=table.outside,
        leaving=table.leaving,
        overnight=table.overnight,
        cuts=table.cuts,
        mu=table.mu,
        sigma=table.sigma,
        premium=table.premium,
        signal=table.signal,
        years=table.years,
        matrix=table.matrix,
        correlations=table.correlations,
        shared=table.shared,
        financing=settings.margin.nightly_rate(table.at)[:, None] * table.nights,
        terms=Terms(
            crypto=bars.crypto,
            long_only=bars.long_only,
            cost=settings.costs.expected(bars.crypto, settings.fees),
            sharpe=sharpe if rule.uses_premium else np.zeros(len(sharpe)),
            forecast=rule.uses_forecast,
            caps=limits.caps,
            leverage=(limits.intraday_leverage, limits.overnight_ceiling),
            order_margin=settings.margin.order_margin,
            rows=limits.of_groups().rows_over(bars.symbols),
        ),
        lent=(settings.margin.leverage, settings.margin.margin_equity),
        fraction=rule.fraction,
        largest_coin=settings.orders.largest_value,
        increment=np.array([float(item.increment) for item in bars.instruments]),
        tradable=bars.tradable,
    )


def walked(
    settings: BacktestSettings,
    market: Market,
    table: BeliefTable,
    line: Timeline,
    *,
    keeps: bool,
    progress: Callable[[int], object] | None = None,
) -> Walk:
    """An account's way through a run.

    table: the beliefs. line: the market, laid out. keeps: whether decisions and entries are kept.
    progress: told how many instants are done.
    """
    bars, first = market.bars, market.first
    inputs = walk_inputs(settings, bars, table)
    book = settings.book(bars)
    mark_positions(book.account[0], book.holding, market.history.last_closes())
    count = len(bars.times)
    rows = np.full(count, -1, dtype=np.int64)
    places = np.searchsorted(bars.times, table.at)
    rows[places] = np.arange(len(table.at))
    size, actions = len(book.holding), len(line.actions)
    tape = new_tape(4 * size + actions + most_flows(size, actions))
    account = np.zeros(count - first, ACCOUNT_ROW)
    written = np.zeros(count - first if keeps else 0, dtype=np.int64)
    kept = Kept.room(table, inputs.terms.rows, none=not keeps)
    step = AT_ONCE if progress else count
    for begin in range(first, count, step):
        end = min(begin + step, count)
        span = first, begin, end
        with undivided():
            book, tape = walk_instants(book, line, span, rows, inputs, tape, account, written, kept)
        if progress:
            progress(end - first)
    tape = tape[: int(book.account["entries"][0])]
    return Walk(inputs, account, tape, written, kept, book)
