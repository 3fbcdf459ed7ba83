"""Simulation of a trader or other decider over bars: compiled if possible, else stepwise."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np

from execution.decision.decision import ClassSizingRule, Decision
from execution.decision.trader import Decider, Trader
from execution.orders.orders import Fill, Order, format_order_id
from forecasting.forecast import Progress, no_progress
from foundation.arrays import Index
from marketsimulator.account.broker import SimulatedBroker, count_margin_events
from marketsimulator.account.tape import AccountLogEntry, append_fills_and_bookings
from marketsimulator.run_result import Booking, EquityRow, Run
from marketsimulator.runs.compiled_run import run_compiled
from marketsimulator.runs.decisions import CompiledDecisions
from marketsimulator.runs.stepped_account import SteppedAccount
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import format_compact_utc, format_utc, format_utc_each
from trainingdata.market import Market

log = logging.getLogger("marketsimulator")

_MAX_GC_THRESHOLD = 2**31 - 1  # collections of the middle generation before a full one


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
    ways produce the same fills.

    name: name of the run in log lines and progress reports.
    decider: trader, or any other object that maps bars and an account to a decision.
    log_level: log level of the decisions.
    """
    if isinstance(decider, Trader) and _can_run_trader_compiled(settings, market, decider):
        with _without_full_collections():
            return _simulate_compiled(settings, market, name, decider, progress, log_level)
    broker = settings.build_broker(market)
    return simulate_stepwise(settings, market, name, decider, broker, progress, log_level)


def can_run_compiled(settings: BacktestSettings, market: Market) -> bool:
    """Return whether these settings can run compiled, with the fills of a stepwise run.

    A compiled run supports neither a fallback strategy, nor protective orders, nor limits of the
    watch, nor limits by drawdown (`guards.tiers`), nor unfilled remainders that stay open, which
    occur with `fills.remainder=carry` and with finer bars. All symbols must be tradable. Daily bars
    of stocks and crypto together are not supported, because crypto decisions then depend on waiting
    stock orders. Order types need no check: such a trader sends market and auction orders alone,
    and any other decider runs stepwise.
    """
    bars = market.bars
    carries = settings.fills.remainder == "carry" or market.finer_bars is not None
    mixed = bars.timeframe.is_daily and bool(bars.crypto.any()) and not bars.crypto.all()
    stepped = carries or settings.protect.is_on or settings.watch.limits or settings.guards.tiers
    plain = not stepped and settings.sizing.fallback == "none"
    return plain and not mixed and bool(bars.tradable.all())


def _can_run_trader_compiled(settings: BacktestSettings, market: Market, trader: Trader) -> bool:
    """Return whether the trader has these settings and they can run compiled."""
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
    same &= trader.schedule == settings.decision_schedule
    return same and can_run_compiled(settings, market)


def _simulate_compiled(
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
    work = _progress_label(name)
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
    def format_at(at: int) -> str:
        return format_compact_utc(np.datetime64(at, "ns"))

    def order_id_of(entry: AccountLogEntry) -> str:
        symbol = bars.symbols[entry.symbol_index]
        sent, leg = entry.instant, entry.order_number
        if line.waits_for_auction and not bars.crypto[entry.symbol_index]:
            sent, leg = int(line.instants_ns[entry.order_number]), 0
        return format_order_id(trader.order_prefix, format_at(sent), symbol, leg)

    begin = 0
    ends: Index = np.unique(walk.account_log_lengths, return_index=True)[1]
    for t in ends.tolist():
        written = walk.account_log[begin : walk.account_log_lengths[t]]
        append_fills_and_bookings(written, at[t], bars.symbols, order_id_of, fills, bookings)
        begin = walk.account_log_lengths[t]
    run = Run(name, decisions, fills, rows, count_margin_events(walk.book), bookings)
    if log.isEnabledFor(level):
        row_at = np.searchsorted(at, decisions.instants)
        stamps = format_utc_each(decisions.instants)
        for k, (t, stamp) in enumerate(zip(row_at.tolist(), stamps, strict=True)):
            what = (
                decisions.failure_reason(k),
                decisions.sizing_rules_of(k),
                decisions.orders_of(k),
            )
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
    """Call a decider at every instant, as a live loop does, and return the simulated run.

    broker: simulated broker with the account at the start of the run.
    """
    decisions: list[Decision] = []
    rows: list[EquityRow] = []
    stepped = SteppedAccount(settings, market, broker)
    first = market.start_row
    total = len(market.bars.times)
    work = _progress_label(name)
    with _without_full_collections():
        for begin, end, view in market.visible_bars_by_segment():
            for index in range(begin, end):
                known = view.slice_rows(0, index + 1)
                if index > first:
                    stepped.advance(index, known)
                account = stepped.account()
                decision = decider.decide(known, account)
                stepped.trade(decision, account.equity, known)
                rows.append(broker.equity_row())
                if decision is not None:
                    decisions.append(decision)
                if decision is not None and log.isEnabledFor(log_level):
                    what = decision.sizing_failure, decision.sizing_rules, decision.orders
                    ceiling = decision.stock_ceiling
                    stamp = format_utc(rows[-1].at)
                    _log_decision(
                        log_level, stamp, name, *what, ceiling, rows[-1], settings.capital
                    )
                if index % 64 == 0 or index == total - 1:
                    progress(work, index + 1 - first, total - first)
    counts = broker.margin_event_counts()
    run = Run(name, decisions, broker.fills, rows, counts, broker.bookings)
    return stepped.with_protection(run)


def _progress_label(name: str) -> str:
    """Return the label of a run in progress reports."""
    return f"bars, {name}".replace("_", " ")


@contextmanager
def _without_full_collections() -> Iterator[None]:
    """Suspend full garbage collections within the block; collect young objects only.

    A run keeps all decisions, and they have no reference cycles. Full collections would find
    nothing and take a fifth of the time.
    """
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _MAX_GC_THRESHOLD)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _log_decision(
    level: int,
    at: str,
    name: str,
    failure: str,
    rule: Sequence[ClassSizingRule],
    orders: Sequence[Order],
    stock_ceiling: float,
    row: EquityRow,
    capital: float,
) -> None:
    """Log one decision in the documented phrases, for which operators search the log."""
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
