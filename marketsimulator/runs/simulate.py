"""Simulation of a decider over a panel: compiled if the settings allow it, else stepwise."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np

from execution.decision.decision import ClassRule, Decision
from execution.decision.trader import Decider, Trader
from execution.orders.broker import place_orders
from execution.orders.orders import Fill, Order, format_order_id
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Index
from marketsimulator.account.broker import SimulatedBroker, margin_events
from marketsimulator.account.tape import TapeEntry, read_tape
from marketsimulator.run_result import Booking, EquityRow, Run
from marketsimulator.runs.compiled_run import run_compiled
from marketsimulator.runs.decisions import CompiledDecisions
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import compact_text, utc_text, utc_texts
from trainingdata.market import Market

log = logging.getLogger("marketsimulator")

_NEVER = 2**31 - 1  # collections of the middle generation before a full one


def simulate_trading(
    settings: BacktestSettings,
    market: Market,
    name: str,
    decider: Decider,
    progress: Progress = no_progress,
    log_level: int = logging.DEBUG,
) -> Run:
    """Simulate a decider on an account that starts in cash; return the run.

    A trader with these settings runs compiled if possible; any other decider runs stepwise. Both
    have the same fills.

    name: name of the run in log lines and progress.
    decider: trader, or any other object that maps bars and an account to a decision.
    log_level: log level of the decisions.
    """
    if isinstance(decider, Trader) and _can_walk(settings, market, decider):
        with _without_full_collections():
            return _walk(settings, market, name, decider, progress, log_level)
    broker = settings.build_broker(market)
    return simulate_stepwise(settings, market, name, decider, broker, progress, log_level)


def can_run_compiled(settings: BacktestSettings, market: Market) -> bool:
    """Return whether a compiled run has the same fills as a stepwise run with these settings.

    A compiled run supports neither unfilled remainders that stay open (`fills.remainder`, finer
    bars) nor a fallback strategy. All symbols must be tradable. Daily bars of both stocks and
    crypto are not supported, because crypto decisions then depend on waiting stock orders.
    """
    bars = market.bars
    carries = settings.fills.remainder == "carry" or market.finer_bars is not None
    mixed = bars.timeframe.is_daily and bool(bars.crypto.any()) and not bars.crypto.all()
    plain = not carries and settings.sizing.fallback == "none"
    return plain and not mixed and bool(bars.tradable.all())


def _can_walk(settings: BacktestSettings, market: Market, trader: Trader) -> bool:
    """Return whether the trader has these settings and can run compiled."""
    own = (
        trader.sizing,
        trader.limits,
        trader.costs,
        trader.fees,
        trader.order_size_limits,
        trader.prior,
    )
    named = settings.sizing, settings.limits, settings.costs, settings.fees, settings.orders
    if type(trader) is not Trader or trader.belief_table is None:
        return False
    same = own == (*named, settings.prior) and trader.margin == settings.margin
    same &= trader.schedule == settings.decisions
    return same and can_run_compiled(settings, market)


def _walk(
    settings: BacktestSettings,
    market: Market,
    name: str,
    trader: Trader,
    progress: Progress,
    level: int,
) -> Run:
    """Simulate a trader in compiled code and return its run."""
    table = trader.belief_table
    assert table is not None
    bars = market.bars
    line = settings.build_timeline(market)
    work = _work_of(name)
    at = market.run_bars.times
    walk = run_compiled(
        settings,
        market,
        table,
        line,
        keep_decisions=True,
        progress=lambda k: progress(work, k, len(at)),
    )
    rows = [
        EquityRow(instant, *values[: len(EquityRow._fields) - 1])
        for instant, values in zip(at, walk.equity_rows.tolist(), strict=True)
    ]
    decisions = CompiledDecisions(settings, trader.order_prefix, bars, table, walk)
    fills: list[Fill] = []
    bookings: list[Booking] = []

    @cache
    def text_of(at: int) -> str:
        return compact_text(np.datetime64(at, "ns"))

    def name_of(entry: TapeEntry) -> str:
        symbol = bars.symbols[entry.symbol]
        sent, leg = entry.at, entry.order_number
        if line.waits_for_auction and not bars.crypto[entry.symbol]:
            sent, leg = int(line.instants[entry.order_number]), 0
        return format_order_id(trader.order_prefix, text_of(sent), symbol, leg)

    begin = 0
    ends: Index = np.unique(walk.tape_lengths, return_index=True)[1]
    for t in ends.tolist():
        written = walk.tape[begin : walk.tape_lengths[t]]
        read_tape(written, at[t], bars.symbols, name_of, fills, bookings)
        begin = walk.tape_lengths[t]
    run = Run(name, decisions, fills, rows, margin_events(walk.book), bookings)
    if log.isEnabledFor(level):
        row_at = np.searchsorted(at, decisions.at)
        stamps = utc_texts(decisions.at)
        for k, (t, stamp) in enumerate(zip(row_at.tolist(), stamps, strict=True)):
            what = decisions.failure_of(k), decisions.class_rules_of(k), decisions.orders_of(k)
            ceiling = float(decisions.stock_ceilings[k])
            _log_decision(level, stamp, name, *what, ceiling, rows[t], settings.capital)
    return run


def simulate_stepwise(
    settings: BacktestSettings,
    market: Market,
    name: str,
    decider: Decider,
    broker: SimulatedBroker,
    progress: Progress = no_progress,
    log_level: int = logging.DEBUG,
) -> Run:
    """Simulate a decider stepwise: call it at every instant, as a live loop does; return the run.

    broker: simulated broker with the account at the start of the run.
    """
    decisions: list[Decision] = []
    rows: list[EquityRow] = []
    first = market.start_row
    total = len(market.bars.times)
    work = _work_of(name)
    with _without_full_collections():
        for begin, end, view in market.visible_bars_by_segment():
            for index in range(begin, end):
                if index > first:
                    broker.advance(index)
                decision = decider.decide(view.slice_rows(0, index + 1), broker.account())
                if decision is not None:
                    decisions.append(decision)
                    place_orders(broker, decision.orders, decision.cancelled_quantities)
                broker.open_bars()
                rows.append(broker.equity_row())
                if decision is not None and log.isEnabledFor(log_level):
                    what = decision.sizing_failure, decision.sizing_rules, decision.orders
                    ceiling = decision.stock_ceiling
                    stamp = utc_text(rows[-1].at)
                    _log_decision(
                        log_level, stamp, name, *what, ceiling, rows[-1], settings.capital
                    )
                if index % 64 == 0 or index == total - 1:
                    progress(work, index + 1 - first, total - first)
    return Run(name, decisions, broker.fills, rows, broker.margin_events(), broker.bookings)


def _work_of(name: str) -> str:
    """Return the label of a run in progress reports."""
    return f"bars, {name}".replace("_", " ")


@contextmanager
def _without_full_collections() -> Iterator[None]:
    """Suspend full garbage collections within the block; younger generations are collected.

    A run keeps all decisions, which have no reference cycles. Full collections would find nothing
    and take a fifth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _log_decision(
    level: int,
    at: str,
    name: str,
    failure: str,
    rule: Sequence[ClassRule],
    orders: Sequence[Order],
    stock_ceiling: float,
    row: EquityRow,
    capital: float,
) -> None:
    """Log one decision, in the phrases that operators search for."""
    stamp = f"{at} {name}:"
    if failure:
        log.warning("%s Enhanced sizing failed: %s", stamp, failure)
    for each in rule:
        log.log(level, "%s %s", stamp, each)
    for order in orders:
        log.log(level, "%s %s %s %s: %s", stamp, order.side, order.qty, order.symbol, order.reason)
    equity = row.equity if row.equity > 0 else float("nan")
    stocks = f"stocks {row.gross_stock / equity:.2f}x of {stock_ceiling:.1f}x"
    crypto = f"crypto {row.gross_crypto / equity:.2f}x"
    log.log(level, "%s exposure: %s, %s PnL: %+.2f", stamp, stocks, crypto, row.equity - capital)
