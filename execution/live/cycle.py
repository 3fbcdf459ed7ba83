"""Decision step of a cycle: read the account and the bars, and run the trader.

This step sends no order.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from execution.decision.decision import Decision
from execution.decision.settings import TradingSettings
from execution.decision.trader import Trader
from execution.journal.decisions import DecisionJournal
from execution.live.exposure import open_order_prices
from execution.live.settings import LiveSettings
from execution.live.validation import BarValidator
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.auctions import auction_send_deadline
from execution.orders.broker import Broker
from execution.orders.gate import OrderGate
from execution.orders.orders import Fill, Order
from execution.orders.venue_rules import VenueRules
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.formatting import format_count
from trainingdata.bars import Bars, last_closes_by_symbol
from trainingdata.delistings import BarAbsence
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass, instrument
from trainingdata.schedule import EVERY_BAR, Schedule
from trainingdata.timeframe import Timeframe

log = logging.getLogger(__name__)

# Age of the last bar from which no decision is made; half a bar's length if that is shorter.
MAX_BAR_AGE = np.timedelta64(30, "m")
BAR_POLL_SECONDS = 2.0  # seconds between queries for a late bar

REDUCTION_UNFILLED_REASON = "a reducing order of the same decision did not fill completely"
NO_BAR_CLOSED_REASON = (
    "no symbol is due for a decision (no bar has closed in a market that is open)"
)


class AccountProtocol(Protocol):
    """Interface of an account that is reconciled with its journal and provides a pre-trade gate."""

    def reconcile(self) -> None:
        """Compare the account's positions with the positions that its journal expects."""
        ...

    def build_gate(self, account: AccountSnapshot, symbols: Iterable[str]) -> OrderGate:
        """Return the pre-trade gate of orders in these symbols.

        account: fresh account snapshot.
        """
        ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """Inputs and results of a cycle.

    account: account snapshot at the prices of the decision.
    bars: bars of the decision.
    decision: decision of the cycle; None for an idle cycle.
    fills: fills of the decision's orders.
    idle_reason: reason why the cycle made no decision; empty if it made one.
    rejected_bars: reasons why the last bar of a symbol was rejected, by symbol.
    decision_id: id of the decision in the journal; empty if it is not recorded.
    unsent_reasons: reasons why orders of the decision were not sent, by client order id.
    planned_orders: orders of the decision that are sent later, once the venue accepts them.
    """

    account: AccountSnapshot
    bars: Bars
    decision: Decision | None
    fills: tuple[Fill, ...] = ()
    idle_reason: str = ""
    rejected_bars: Mapping[str, str] = field(default_factory=dict)
    decision_id: str = ""
    unsent_reasons: Mapping[str, str] = field(default_factory=dict)
    planned_orders: tuple[Order, ...] = ()


def run_decision_cycle(
    broker: Broker,
    feed: BarFeed,
    trader: Trader,
    settings: LiveSettings,
    *,
    rules: VenueRules | None = None,
    time: TimeSource = SYSTEM_TIME,
    validator: BarValidator | None = None,
    journal: DecisionJournal | None = None,
    live: AccountProtocol | None = None,
    peak_equity: float = 0.0,
) -> Cycle:
    """Read the account and the bars, decide at the venue's latest prices, and return the cycle.

    rules: trading properties of the symbols at the venue; None applies no restrictions.
    time: clock that measures the wait for late bars.
    validator: bar validator used in earlier cycles; None creates a new one.
    journal: journal of earlier decisions. If it has a decision at the same instant, none is made.
        None allows a decision at every instant.
    live: account that is reconciled again after a wait for bars; None skips this.
    peak_equity: highest equity at an earlier decision, USD, for `guards.tiers`; 0 before the first.
    """
    validator = validator or BarValidator()
    account = broker.account()
    bars, waited = _await_bars(feed, account.as_of, settings.bar_wait_seconds, time)
    bars = settings.data.build_market(settings.with_quantity_increments(bars)).visible_bars()
    _log_missing_bars(bars)
    if waited:
        if live is not None:
            live.reconcile()
        account = broker.account()
    if rules is not None:
        bars = rules.apply(bars, account.as_of, settings.increments)
    idle_reason = _idle_reason(account, bars)
    if not idle_reason and journal is not None and journal.has_decision(bars.last_instant):
        idle_reason = f"a decision for {format_utc(bars.last_instant)} was made before"
    if idle_reason:
        return build_idle_cycle(account, bars, idle_reason, validator)
    closed = [bars.symbols[s] for s in np.flatnonzero(bars.mask[:, -1])]
    prices = feed.prices(closed, account.as_of)
    # The venue's mark is used for symbols without a price of the last hours.
    marks = {symbol: account.prices[symbol] for symbol in closed if symbol in account.prices}
    bars, rejected_bars = validator.validate(bars, {**marks, **prices})
    bars = _mark_unknown_untradable(bars, account)
    account = account.with_prices({**last_closes_by_symbol(bars), **prices})
    account = account.with_prices(open_order_prices(account, feed))
    idle_reason = _describe_unpriced_order(account)
    account = settings.guards.apply(account, peak_equity)
    decision = None if idle_reason else trader.decide(bars, account)
    if decision is None:
        idle_reason = idle_reason or no_decision_reason(settings)
    return Cycle(account, bars, decision, idle_reason=idle_reason, rejected_bars=rejected_bars)


def build_idle_cycle(
    account: AccountSnapshot, bars: Bars, why: str, validator: BarValidator
) -> Cycle:
    """Return a cycle without a decision.

    account: account snapshot, which the cycle values at the last closes of the bars.
    why: reason why the cycle makes no decision.
    """
    bars, rejected_bars = validator.validate(bars, {})
    return Cycle(
        account.with_prices(last_closes_by_symbol(bars)),
        bars,
        None,
        idle_reason=why,
        rejected_bars=rejected_bars,
    )


def _describe_unpriced_order(account: AccountSnapshot) -> str:
    """Describe an open order whose exposure is unknown because it has no price; empty if none."""
    for order in account.open_orders:
        if order.symbol not in account.prices:
            return (
                f"no price for {order.symbol}; cannot value open order {order.client_order_id} of"
                f" {order.qty:f}"
            )
    return ""


def _await_bars(
    feed: BarFeed, now: np.datetime64, patience: float, time: TimeSource
) -> tuple[Bars, bool]:
    """Wait for late bars, at most `patience` seconds; return the bars, and whether it waited."""
    bars = feed.bars(now)
    at = now
    most = np.timedelta64(round(patience * 1000), "ms")
    step = np.timedelta64(round(BAR_POLL_SECONDS * 1000), "ms")
    while at - now < most and (late := feed.late_symbols(at)):
        log.info("%s: waiting for the bars of %s", format_utc(now), " ".join(late))
        time.wait(BAR_POLL_SECONDS)
        at = at + step
        bars = feed.bars(at)
    return bars, bool(at > now)


def _log_missing_bars(bars: Bars) -> None:
    """Log the symbols whose bars have been missing for a session or more while others have bars."""
    for symbol, count in zip(
        bars.symbols, BarAbsence.from_bars(bars).missed_sessions_at_end.tolist(), strict=True
    ):
        if count:
            log.warning(
                "%s: no decision, bars are missing for %s", symbol, format_count(count, "session")
            )


def _idle_reason(account: AccountSnapshot, bars: Bars) -> str:
    """Return why no decision is possible, or an empty string.

    The account may be blocked, or the bars may be too old.
    """
    if account.block_reason:
        return account.block_reason
    if account.as_of >= (end := decision_deadline(bars, bars.last_instant)):
        bar = format_utc(bars.last_instant)
        last = f"the latest bar is {bar}; its decision deadline was {format_utc(end)}"
        return f"{NO_BAR_CLOSED_REASON}; {last}"
    return ""


def _mark_unknown_untradable(bars: Bars, account: AccountSnapshot) -> Bars:
    """Return the panel with symbols marked untradable if the account allows no orders in them."""
    if account.uncertain_symbols:
        names = " ".join(sorted(account.uncertain_symbols))
        log.warning("positions or open orders are uncertain; no orders in %s", names)
    items = []
    for item in bars.instruments:
        shut = item.kind is AssetClass.CRYPTO and not account.is_crypto_enabled
        if shut or item.symbol in account.uncertain_symbols:
            item = replace(item, is_tradable=False)
        items.append(item)
    return replace(bars, instruments=tuple(items))


def decision_deadline(bars: Bars, at: np.datetime64) -> np.datetime64:
    """Return the latest time at which a decision on bars that ended at `at` can be made.

    For daily bars of stocks, this is the latest time to send orders for the next auction.
    """
    timeframe = bars.timeframe
    stocks = not bars.crypto.all()
    if (
        timeframe.auction_time_in_force
        and stocks
        and timeframe.stock_clock.is_decision(np.array([at]))[0]
    ):
        return auction_send_deadline(timeframe.auction_time_in_force, at)
    return np.datetime64(at + min(MAX_BAR_AGE, timeframe.length // 2))


def next_decision_instant(
    now: np.datetime64, symbols: Sequence[str], timeframe: Timeframe, schedule: Schedule = EVERY_BAR
) -> np.datetime64:
    """Return the next time after `now` at which the schedule has a decision on one of the symbols.

    symbols: symbols to trade.
    timeframe: timeframe of the bars.
    schedule: schedule of the decisions.
    """
    kinds = {instrument(symbol).kind for symbol in symbols}
    return min(schedule.holding_end(timeframe.clock(kind), now) for kind in kinds)


def no_decision_reason(settings: TradingSettings) -> str:
    """Return the reason reported if the trader makes no decision at a bar."""
    if settings.decision_schedule == EVERY_BAR:
        return NO_BAR_CLOSED_REASON
    return f"no decision is due (schedule={','.join(settings.schedule)})"
