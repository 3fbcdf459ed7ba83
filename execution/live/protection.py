"""Protective orders of a live account: kept at the venue, after each cycle and between cycles.

Each order is journaled before it is sent, with the role `protection`, and recognised by its id
after a restart. The rule is `execution.decision.protection.plan_protection`, as in a backtest.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from execution.decision.protection import (
    ProtectedAccount,
    ProtectionPlan,
    daily_deviations,
    is_crypto_bar_end,
    plan_protection,
)
from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES, OrderIntent
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.guarded_broker import GuardedBroker
from execution.live.guards import SnapshotGate, stop_reason
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.orders import PROTECTIVE_LEG, Order, format_order_id
from foundation.errors import BrokerError
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument

log = logging.getLogger("live")


def update_protection(
    desk: GuardedBroker,
    live: LiveAccount,
    journal: DecisionJournal,
    feed: BarFeed,
    settings: LiveSettings,
    *,
    ends_cycle: bool,
) -> ProtectionPlan:
    """Cancel and send protective orders at the venue, so that each position has one.

    Returns what was planned. Without protection nothing is read, and orders left by an earlier
    process are cancelled. While the kill file or a halt stops every order, nothing is done.

    desk: broker that sends the orders.
    journal: journal of the job that trades stocks and crypto.
    feed: source of the bars for distances in deviations.
    ends_cycle: true at the end of a cycle; stops of crypto that trail are raised only then.

    Raises
    ------
    AccountReadingRejected
        if the account contradicts the journal; resting orders stay as they are.
    BrokerError
        if the venue does not respond.
    """
    recorded = live.book.select_intents(
        "role = 'protection' AND job = ? AND state IN ('accepted', 'submitting', 'unknown')",
        (TRADE_JOB,),
    )
    if not (settings.protect.is_on or recorded):
        return ProtectionPlan()
    if stop_reason(live.halts, live.account.kill_file):
        return ProtectionPlan()
    account = desk.account()
    resting = {order.client_order_id for order in account.open_orders}
    if any(intent.client_order_id not in resting for intent in recorded):
        desk.refresh_open_orders()
    state = _read_state(account, live, feed, settings)
    state = replace(
        state,
        adjusted_orders=_find_adjusted_orders(account, recorded),
        raises_crypto_stops=ends_cycle
        and is_crypto_bar_end(settings.timeframe_or_hourly, state.at),
    )
    plan = plan_protection(settings.protect, state)
    if plan.unprotected:
        # Only a last trade confirms that the market has passed a stop.
        trades = live.with_guard_data(account, account.positions, require_trades=False)
        last = {symbol: trade.price for symbol, trade in (trades.last_trades or {}).items()}
        plan = plan_protection(settings.protect, replace(state, last_trades=last))
    _carry_out(plan, desk, live, journal, account)
    why = "; ".join(f"{symbol}: {text}" for symbol, text in sorted(plan.unprotected.items()))
    live.notices.update_alert("protection", f"positions without a stop: {why}" if why else "")
    return plan


def _find_adjusted_orders(
    account: AccountSnapshot, recorded: Sequence[OrderIntent]
) -> frozenset[str]:
    """Return the ids of orders that rest with other terms than recorded, as after a split.

    A venue multiplies the quantity and divides the stop price of an order (FINRA Rule 5330).
    """
    sent = {intent.client_order_id: intent.stock_or_crypto_order for intent in recorded}
    return frozenset(
        resting.client_order_id
        for resting in account.open_orders
        if (order := sent.get(resting.client_order_id)) is not None
        and (
            resting.qty > order.qty
            or (order.stop_price is not None and resting.stop_price != order.stop_price)
        )
    )


def _read_state(
    account: AccountSnapshot, live: LiveAccount, feed: BarFeed, settings: LiveSettings
) -> ProtectedAccount:
    """Return what the plan depends on. Orders that are planned for later count as open."""
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
    deviations = {}
    if settings.protect.uses_deviation:
        bars = settings.data.build_market(feed.bars(now)).visible_bars()
        deviations = daily_deviations(bars, account.positions)
    kinds = {instrument(symbol).kind for symbol in settings.symbols}
    return ProtectedAccount(
        replace(account, open_orders=(*account.open_orders, *planned)),
        live.account.positions.entry_prices(account.positions),
        deviations,
        settings.order_prefix,
        settings.orders,
        at=max(timeframe.last_bar_end(kind, now) for kind in kinds),
        auction=timeframe.auction_time_in_force,
        checked_at=now,
        blocked_symbols=live.halts.quarantined_symbols()
        | (account.positions.keys() - settings.tradable_symbols),
    )


def _carry_out(
    plan: ProtectionPlan,
    desk: GuardedBroker,
    live: LiveAccount,
    journal: DecisionJournal,
    account: AccountSnapshot,
) -> None:
    """Cancel and send the orders of a plan; send kept orders of unknown outcome again.

    account: account snapshot on which the plan is based.
    """
    traded = cancel_stops(desk, plan.cancels)
    orders = [_with_unused_id(order, live) for order in plan.orders if order.symbol not in traded]
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


def _with_unused_id(order: Order, live: LiveAccount) -> Order:
    """Return the order with the first attempt number under which no order was sent."""
    prefix, when, symbol, _, attempt = order.client_order_id.rsplit("-", 4)
    number = int(attempt)
    while (intent := live.book.get(order.client_order_id)) is not None and intent.state not in (
        "planned",
        "denied",
    ):
        number += 1
        name = format_order_id(prefix, when, symbol, PROTECTIVE_LEG, number)
        order = replace(order, client_order_id=name)
    return order
