"""Protective orders of a live account: kept at the venue, after each cycle and between cycles.

Each order is journaled before it is sent, with the role `protection`, and recognised by its id
after a restart. The rule is `execution.decision.protection.plan_protection`, as in a backtest.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from execution.brokers import AccountReadingRejected
from execution.decision.authority import uncovered_quantities
from execution.decision.protection import (
    ProtectedAccount,
    ProtectionPlan,
    daily_deviations,
    find_protective_orders,
    is_crypto_bar_end,
    plan_protection,
    with_next_attempt,
)
from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import UNKNOWN_OUTCOME_STATES, OrderIntent
from execution.journal.rows import format_instant
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.expected_positions import net_fills_by_symbol
from execution.live.guarded_broker import GuardedBroker
from execution.live.guards import SnapshotGate, stop_reason
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import cancel_orders
from execution.orders.orders import Order, parse_order_instant
from foundation.errors import BrokerError
from foundation.notices import ALL_CLEAR
from foundation.plugin import is_plugin
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import format_compact_utc
from trainingdata.instruments import instrument

log = logging.getLogger("live")

PROTECTION_ALERT = "protection"
# Kind of a job's event: reason by symbol for which a position has no stop.
UNPROTECTED_EVENT = "unprotected"
# Time after which a refused stop is sent again between cycles.
REFUSED_STOP_PAUSE = np.timedelta64(10, "m")

# Condition on intents, and its values.
_RESTING_STOPS = (
    "role = 'protection' AND job = ? AND state IN ('accepted', 'submitting', 'unknown')",
    (TRADE_JOB,),
)


class ReducingJob(Protocol):
    """Interface of a reducer of positions."""

    @property
    def symbols_in_reduction(self) -> Mapping[str, str]:
        """Symbols in which a waiting command has changed orders, each with the reason."""
        ...


class LiveProtection:
    """Keeper of a live account's protective orders.

    desk: broker that sends the orders.
    journal: journal of the job that trades stocks and crypto.
    feed: source of the bars for distances in deviations.
    reducer: source of the symbols in which no stop is sent, because a command reduces them.
    """

    def __init__(
        self,
        desk: GuardedBroker,
        live: LiveAccount,
        journal: DecisionJournal,
        feed: BarFeed,
        settings: LiveSettings,
        reducer: ReducingJob,
    ) -> None:
        self.resting_count = 0  # stops that rest at the venue after the last update
        self._desk = desk
        self._reducer = reducer
        self._live = live
        self._journal = journal
        self._feed = feed
        self._settings = settings
        self._deviations: Mapping[str, float] = {}  # by symbol, at the end of the bar below
        self._deviations_at: np.datetime64 | None = None
        self._elected_since: Mapping[str, np.datetime64] = {}

    def update(self, account: AccountSnapshot | None = None, *, ends_cycle: bool = False) -> None:
        """Cancel and send protective orders at the venue, so that each position has one.

        With `protect.kind=none`, protective orders of an earlier process are cancelled. Under every
        halt positions stay protected, because stops only reduce. Under the kill file nothing is
        sent. Each position that has neither a stop nor a sale is alerted once, with the reason.

        account: account snapshot since which nothing was sent; None reads the account.
        ends_cycle: true at the end of a cycle; stops of crypto that trail are raised only then.

        Raises
        ------
        BrokerError
            if the venue does not respond; resting orders stay as they are.
        """
        live, protect = self._live, self._settings.protect
        recorded = live.book.select_intents(*_RESTING_STOPS)
        if not (protect.is_on or recorded):
            return
        if account is None:
            account = self._read_account()
        else:
            self._desk.cache_account(account)
        if _find_changed_orders(account, recorded):
            self._desk.refresh_open_orders()
        reasons: Mapping[str, str] = {}
        if live.account.has_kill_file:
            reasons = dict.fromkeys(
                account.positions, stop_reason(live.halts, live.account.kill_file)
            )
        else:
            plan = self._plan(account, ends_cycle=ends_cycle)
            account, reasons = self._execute_plan(plan, account, ends_cycle=ends_cycle)
        self._report_unprotected(account, reasons)

    def report_failure(self, error: str) -> None:
        """Alert that protective orders were not updated; name positions that may have no stop.

        These are the positions of the last mark and of our fills that have no stop in the journal.
        """
        live = self._live
        stopped = {
            intent.stock_or_crypto_order.symbol
            for intent in live.book.select_intents(*_RESTING_STOPS)
        }
        mark = live.account.marks.last_mark()
        held = {} if mark is None else mark.positions
        bought = net_fills_by_symbol(live.book, TRADE_JOB)
        ours = {*held, *(symbol for symbol, quantity in bought.items() if quantity)}
        without = ", ".join(sorted((ours & self._settings.tradable_symbols) - stopped))
        text = f"protective orders were not updated: {error}"
        live.notices.alert(
            PROTECTION_ALERT, f"{text}; the journal has no stop of: {without or 'none'}"
        )

    def _read_account(self) -> AccountSnapshot:
        """Return the account snapshot, even if its cash or marks are rejected.

        Neither changes the positions. Stop prices are measured from the average entry price.
        """
        try:
            return self._desk.account()
        except AccountReadingRejected as error:
            log.warning("protective orders on a rejected reading: %s", error)
            self._desk.cache_account(error.account)
            return error.account

    def _plan(self, account: AccountSnapshot, *, ends_cycle: bool) -> ProtectionPlan:
        live, protect = self._live, self._settings.protect
        state = self._read_state(account)
        state = replace(
            state,
            raises_crypto_stops=ends_cycle
            and is_crypto_bar_end(self._settings.timeframe_or_hourly, state.at),
        )
        plan = plan_protection(protect, state)
        if plan.unconfirmed:
            trades = live.with_guard_data(account, account.positions, require_trades=False)
            last = {symbol: trade.price for symbol, trade in (trades.last_trades or {}).items()}
            plan = plan_protection(protect, replace(state, last_trades=last))
        self._elected_since = plan.elected_since
        return plan

    def _report_unprotected(self, account: AccountSnapshot, reasons: Mapping[str, str]) -> None:
        """Alert positions that have lost protection, and send an all-clear for each regained.

        account: account snapshot with the orders that were sent.
        reasons: reason by symbol for which a position may have no stop.
        """
        protect, live, events = self._settings.protect, self._live, self._live.account.events
        live.notices.reset_alert(PROTECTION_ALERT)
        stops = find_protective_orders(self._settings.order_prefix, account.open_orders)
        self.resting_count = sum(o.client_order_id not in account.cancelling_orders for o in stops)
        symbols = self._settings.tradable_symbols if protect.is_on else frozenset()
        unknown = {i.client_order_id for i in live.book.intents_in_states(UNKNOWN_OUTCOME_STATES)}
        certain = [o for o in account.open_orders if o.client_order_id not in unknown]
        account = replace(account, open_orders=tuple(certain))
        uncovered = uncovered_quantities(account, symbols, protect.band)
        last = events.last_event(TRADE_JOB, UNPROTECTED_EVENT)
        before: Mapping[str, str] = {} if last is None else last.content
        now = {
            symbol: before.get(symbol) or reasons.get(symbol, "no stop rests at the venue")
            for symbol in uncovered
        }
        for symbol in sorted({*now} - {*before}):
            held = f"{uncovered[symbol]:f} of {abs(account.positions[symbol]):f} {symbol}"
            live.notices.send_notice(PROTECTION_ALERT, f"{held} without a stop: {now[symbol]}")
        for symbol in sorted({*before} - {*now}) if protect.is_on else ():
            live.notices.send_notice(ALL_CLEAR, f"{symbol} is not without a stop any more")
        if now != before:
            events.append(UNPROTECTED_EVENT, TRADE_JOB, now)

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
        states_stops = is_plugin(settings.sizing.strategy)
        rows = self._journal.latest_choice_by_symbol() if states_stops else ()
        return ProtectedAccount(
            replace(account, open_orders=(*account.open_orders, *planned)),
            live.account.positions.entry_prices(account.positions),
            self._read_deviations(account, at) if settings.protect.uses_deviation else {},
            settings.order_prefix,
            settings.orders,
            at=at,
            auction=timeframe.auction_time_in_force,
            checked_at=now,
            blocked_symbols={
                *live.halts.quarantined_symbols(),
                *self._reducer.symbols_in_reduction,
                *(account.positions.keys() - settings.tradable_symbols),
            },
            misstated_orders=_find_changed_orders(
                account, live.book.select_intents(*_RESTING_STOPS)
            ),
            stated_stops={
                row.choice.symbol: row.choice.rationale.stop_price
                for row in rows
                if row.choice.rationale.stop_price is not None
            },
            elected_since=self._elected_since,
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

    def _execute_plan(
        self, plan: ProtectionPlan, account: AccountSnapshot, *, ends_cycle: bool
    ) -> tuple[AccountSnapshot, Mapping[str, str]]:
        """Cancel and send the orders of a plan; send kept orders of unknown outcome again.

        Returns the account snapshot with the orders that rest now, and the reasons by symbol for
        which a position may have no stop.

        account: account snapshot on which the plan is based.
        ends_cycle: true to send recently refused stops again.
        """
        desk, live, journal = self._desk, self._live, self._journal
        refused = {} if ends_cycle else self._recently_refused_stops(account.as_of)
        reasons = {**self._reducer.symbols_in_reduction, **plan.unprotected}
        for symbol in live.halts.quarantined_symbols():
            reasons[symbol] = "it is quarantined until its discrepancy is resolved"
        reasons |= cancel_stops(desk, plan.cancels)
        waiting = {order.symbol for order in plan.cancels} & {*reasons}
        orders = [
            _with_unused_id(order, desk, live)
            for order in plan.orders
            if order.symbol not in waiting and order.symbol not in refused
        ]
        cancelled = {order.client_order_id for order in plan.cancels}
        unknown = [
            intent.stock_or_crypto_order
            for intent in live.book.intents_in_states(UNKNOWN_OUTCOME_STATES)
            if intent.role == "protection" and intent.client_order_id not in cancelled
        ]
        # An elected stop-limit order that does not fill protects nothing.
        unfilled = [
            order
            for order in account.open_orders
            if order.client_order_id in plan.elected_since and order.symbol in plan.unprotected
        ]
        account = account.without_orders([*plan.cancels, *unfilled])
        if not (orders or unknown):
            return account, {**refused, **reasons}
        symbols = {order.symbol for order in orders}
        gate = live.build_gate(account, symbols, require_trades=False)
        name = f"{TRADE_JOB}-protect-{format_compact_utc(account.as_of)}"
        journal.record_reducing_orders(name, orders, account.as_of, "protection")
        for order in orders:
            log.info("%s: %s %s %s: %s", name, order.side, order.qty, order.symbol, order.reason)
        try:
            _submit_each([*unknown, *orders], desk, live, gate)
        except BrokerError as error:
            log.warning("%s", error)  # the journal has the outcome of each order
        finally:
            journal.end_decision(name, "the order was not sent")
        resting = []
        for order in orders:
            intent = live.book.get(order.client_order_id)
            if intent is not None and intent.was_accepted and intent.state != "rejected":
                resting.append(order)
            elif intent is not None:
                reasons[order.symbol] = intent.state_reason
        open_orders = (*account.open_orders, *resting)
        return replace(account, open_orders=open_orders), {**refused, **reasons}

    def _recently_refused_stops(self, now: np.datetime64) -> dict[str, str]:
        """Return the reasons by symbol of stops that the venue has refused within ten minutes.

        These stops are sent again after ten minutes, and at the end of each cycle.
        """
        condition = "role = 'protection' AND job = ? AND state = 'rejected' AND sent_at > ?"
        since = format_instant(now - REFUSED_STOP_PAUSE)
        refused = self._live.book.select_intents(condition, (TRADE_JOB, since))
        return {each.stock_or_crypto_order.symbol: each.state_reason for each in refused}


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


def cancel_stops(desk: GuardedBroker, stops: Sequence[Order]) -> dict[str, str]:
    """Cancel protective orders; return by symbol the reasons for which no order may follow.

    A stop that is still open reserves its shares. If a stop has traded meanwhile, the position has
    changed, and an order that was sized for it is wrong.
    """
    result = cancel_orders(desk, [order.client_order_id for order in stops])
    waiting = {}
    for order in stops:
        name = order.client_order_id
        if name in result.reasons:
            waiting[order.symbol] = result.reasons[name]
        elif result.unfilled.get(name, order.qty) != order.qty:
            waiting[order.symbol] = f"{name} has traded while it was cancelled"
    return waiting


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
