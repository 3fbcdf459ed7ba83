"""Protective orders of a live account: kept at the venue, after each cycle and between cycles.

Each order is journaled before it is sent, with the role `protection`, and recognised by its id
after a restart. The rule is `execution.decision.protection.plan_protection`, as in a backtest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from execution.decision.protection import (
    ProtectedAccount,
    ProtectionPlan,
    daily_deviations,
    is_crypto_bar_end,
    plan_protection,
    with_next_attempt,
)
from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES, OrderIntent
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.guarded_broker import GuardedBroker
from execution.live.guards import SnapshotGate, stop_reason
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import Order, parse_order_instant
from foundation.errors import BrokerError
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument

log = logging.getLogger("live")

# Condition on intents, and its values.
_RESTING_STOPS = (
    "role = 'protection' AND job = ? AND state IN ('accepted', 'submitting', 'unknown')",
    (TRADE_JOB,),
)


class LiveProtection:
    """Keeper of a live account's protective orders.

    desk: broker that sends the orders.
    journal: journal of the job that trades stocks and crypto.
    feed: source of the bars for distances in deviations.
    """

    def __init__(
        self,
        desk: GuardedBroker,
        live: LiveAccount,
        journal: DecisionJournal,
        feed: BarFeed,
        settings: LiveSettings,
    ) -> None:
        self._desk = desk
        self._live = live
        self._journal = journal
        self._feed = feed
        self._settings = settings
        self._deviations: Mapping[str, float] = {}  # by symbol, at the end of the bar below
        self._deviations_at: np.datetime64 | None = None

    def update(self, account: AccountSnapshot | None = None, *, ends_cycle: bool = False) -> None:
        """Cancel and send protective orders at the venue, so that each position has one.

        With `protect.kind=none`, orders of an earlier process are cancelled. Does nothing while the
        kill file or a halt stops every order.

        account: account snapshot since which nothing was sent; None reads the account.
        ends_cycle: true at the end of a cycle; stops of crypto that trail are raised only then.

        Raises
        ------
        AccountReadingRejected
            if the account contradicts the journal; resting orders stay as they are.
        BrokerError
            if the venue does not respond.
        """
        live, protect = self._live, self._settings.protect
        recorded = live.book.select_intents(*_RESTING_STOPS)
        if not (protect.is_on or recorded) or stop_reason(live.halts, live.account.kill_file):
            return
        if account is None:
            account = self._desk.account()
        else:
            self._desk.cache_account(account)
        if _find_changed_orders(account, recorded):
            self._desk.refresh_open_orders()
        state = self._read_state(account)
        state = replace(
            state,
            raises_crypto_stops=ends_cycle
            and is_crypto_bar_end(self._settings.timeframe_or_hourly, state.at),
        )
        plan = plan_protection(protect, state)
        if plan.unprotected:
            # Only a last trade confirms that the market has passed a stop.
            trades = live.with_guard_data(account, account.positions, require_trades=False)
            last = {symbol: trade.price for symbol, trade in (trades.last_trades or {}).items()}
            plan = plan_protection(protect, replace(state, last_trades=last))
        self._carry_out(plan, account)
        why = "; ".join(f"{symbol}: {text}" for symbol, text in sorted(plan.unprotected.items()))
        live.notices.update_alert("protection", f"positions without a stop: {why}" if why else "")

    def _read_state(self, account: AccountSnapshot) -> ProtectedAccount:
        """Return what the plan depends on. Orders that are planned for later count as open."""
        live, settings = self._live, self._settings
        timeframe, now = settings.timeframe_or_hourly, account.as_of
        open_ids = {order.client_order_id for order in account.open_orders}
        planned = [
            intent.order
            for intent in live.book.intents_in_states(("planned",))
            if intent.job == TRADE_JOB
            and intent.role != "protection"
            and isinstance(intent.order, Order)
            and intent.client_order_id not in open_ids
            and intent.is_unexpired(now)
        ]
        kinds = {instrument(symbol).kind for symbol in settings.symbols}
        at = max(timeframe.last_bar_end(kind, now) for kind in kinds)
        return ProtectedAccount(
            replace(account, open_orders=(*account.open_orders, *planned)),
            live.account.positions.entry_prices(account.positions),
            self._read_deviations(account, at) if settings.protect.uses_deviation else {},
            settings.order_prefix,
            settings.orders,
            at=at,
            auction=timeframe.auction_time_in_force,
            checked_at=now,
            blocked_symbols=live.halts.quarantined_symbols()
            | (account.positions.keys() - settings.tradable_symbols),
            misstated_orders=_find_changed_orders(
                account, live.book.select_intents(*_RESTING_STOPS)
            ),
        )

    def _read_deviations(self, account: AccountSnapshot, at: np.datetime64) -> Mapping[str, float]:
        """Return the deviation of each symbol's day, computed once a bar.

        While one of a position is unknown, they are computed again.
        """
        if at != self._deviations_at or not account.positions.keys() <= self._deviations.keys():
            bars = self._feed.bars(account.as_of)
            bars = self._settings.data.build_market(bars).visible_bars()
            self._deviations, self._deviations_at = daily_deviations(bars, bars.symbols), at
        return self._deviations

    def _carry_out(self, plan: ProtectionPlan, account: AccountSnapshot) -> None:
        """Cancel and send the orders of a plan; send kept orders of unknown outcome again.

        account: account snapshot on which the plan is based.
        """
        desk, live, journal = self._desk, self._live, self._journal
        traded = cancel_stops(desk, plan.cancels)
        orders = [
            _with_unused_id(order, desk, live)
            for order in plan.orders
            if order.symbol not in traded
        ]
        cancelled = {order.client_order_id for order in plan.cancels}
        unknown = [
            intent.stock_or_crypto_order
            for intent in live.book.intents_in_states(UNKNOWN_OUTCOME_STATES)
            if intent.role == "protection" and intent.client_order_id not in cancelled
        ]
        if not (orders or unknown):
            return
        gate = live.build_gate(
            account.without_orders(plan.cancels),
            {order.symbol for order in orders},
            require_trades=False,
        )
        name = f"{TRADE_JOB}-protect-{format_compact_utc(account.as_of)}"
        journal.record_reducing_orders(name, orders, account.as_of, "protection")
        for order in orders:
            log.info("%s: %s %s %s: %s", name, order.side, order.qty, order.symbol, order.reason)
        try:
            _submit_each([*unknown, *orders], desk, live, gate)
        finally:
            journal.end_decision(name, "the order was not sent")


def _find_changed_orders(
    account: AccountSnapshot, recorded: Sequence[OrderIntent]
) -> frozenset[str]:
    """Return the ids of recorded orders that rest with another quantity, or no longer rest."""
    resting = {order.client_order_id: order.qty for order in account.open_orders}
    return frozenset(
        intent.client_order_id
        for intent in recorded
        if resting.get(intent.client_order_id)
        != intent.stock_or_crypto_order.qty - intent.progress.filled
    )


def cancel_stops(desk: GuardedBroker, stops: Sequence[Order]) -> set[str]:
    """Cancel protective orders; return the symbols in which one of them has traded meanwhile.

    Another order in such a symbol would be sized for a position that has changed.
    """
    left = desk.cancel([order.client_order_id for order in stops]) if stops else {}
    return {o.symbol for o in stops if left.get(o.client_order_id, o.qty) != o.qty}


def _submit_each(
    orders: Sequence[Order], desk: GuardedBroker, live: LiveAccount, gate: SnapshotGate
) -> None:
    """Send orders; an order of unknown outcome does not hold up those after it.

    Raises the first `BrokerError`, after all orders were tried.
    """
    errors: list[BrokerError] = []
    left = list(orders)
    while left:
        try:
            desk.submit(left, gate)
            break
        except BrokerError as error:
            errors.append(error)
            unsent = [order for order in left[1:] if _is_planned(order, live)]
            left = unsent if len(unsent) < len(left) else []
    if errors:
        raise errors[0]


def _is_planned(order: Order, live: LiveAccount) -> bool:
    intent = live.book.get(order.client_order_id)
    return intent is not None and intent.state == "planned"


def _with_unused_id(order: Order, desk: GuardedBroker, live: LiveAccount) -> Order:
    """Return the order with the first attempt number under which no order was sent."""
    while _is_used(order.client_order_id, desk, live):
        order = with_next_attempt(order)
    return order


def _is_used(client_order_id: str, desk: GuardedBroker, live: LiveAccount) -> bool:
    """Return whether an order was sent under an id, by this journal or one before it."""
    intent = live.book.get(client_order_id)
    if intent is not None:
        return intent.state not in ("planned", "denied")
    began_at = live.reconciler.holdings.journal_started_at
    may_be_earlier = bool(parse_order_instant(client_order_id) <= began_at)
    return may_be_earlier and desk.has_order_id(client_order_id)
