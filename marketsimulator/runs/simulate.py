"""One decider's walk through a panel: advance, look, decide, submit, record."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from execution.broker import place
from execution.decision import Decision
from execution.records import Row, Run
from execution.trader import Decider
from forecasting.forecast import Progress, silent
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.instants import utc_text

log = logging.getLogger("marketsimulator")

_NEVER = 2**31 - 1  # collections of the middle generation before a full one


def simulate_trading(
    settings: BacktestSettings,
    bars: Bars,
    first: int,
    name: str,
    decider: Decider,
    progress: Progress = silent,
    level: int = logging.DEBUG,
    broker: SimulatedBroker | None = None,
) -> Run:
    """What one decider does on the panel's instants.

    Parameters
    ----------
    first
        number of the instant at which the account begins, in cash where it is its own.
    name
        of the run, in its log lines and its progress.
    decider
        a trader, or whatever else turns bars and an account into a decision.
    level
        at which its decisions are logged.
    broker
        the account, at instant number `first`; none is one of its own.
    """
    if broker is None:
        broker = settings.broker(bars, first)
    decisions: list[Decision] = []
    rows: list[Row] = []
    total = len(bars.times)
    work = f"bars, {name}".replace("_", " ")
    with _only_young_garbage():
        for begin, end, view in settings.views(bars, first):
            for index in range(begin, end):
                if index > first:
                    broker.advance(index)
                decision = decider.decide(view.between(0, index + 1), broker.account())
                if decision is not None:
                    decisions.append(decision)
                    place(broker, decision.orders, decision.cancelled)
                rows.append(broker.row())
                if decision is not None:
                    _log_decision(level, name, decision, rows[-1], settings.capital)
                if index % 64 == 0 or index == total - 1:
                    progress(work, index + 1 - first, total - first)
    return Run(name, decisions, broker.fills, rows, broker.margin_events(), broker.bookings)


@contextmanager
def _only_young_garbage() -> Iterator[None]:
    """Python collects what has just been left behind, but no full collection takes place.

    A run keeps every decision, and nothing that it keeps refers back: a full collection, a fifth of
    its time, finds nothing.
    """
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _log_decision(level: int, name: str, decision: Decision, row: Row, capital: float) -> None:
    """The lines operators grep for, once a decision."""
    if not log.isEnabledFor(level):
        return
    stamp = f"{utc_text(decision.at)} {name}:"
    if decision.failure:
        log.warning("%s Enhanced sizing failed: %s", stamp, decision.failure)
    for rule in decision.rule:
        log.log(level, "%s %s", stamp, rule)
    for order in decision.orders:
        log.log(level, "%s %s %s %s: %s", stamp, order.side, order.qty, order.symbol, order.reason)
    equity = row.equity if row.equity > 0 else float("nan")
    stocks = f"stocks {row.gross_stock / equity:.2f}x of {decision.stock_ceiling:.1f}x"
    crypto = f"crypto {row.gross_crypto / equity:.2f}x"
    log.log(level, "%s exposure: %s, %s PnL: %+.2f", stamp, stocks, crypto, row.equity - capital)
