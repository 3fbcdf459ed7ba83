"""A simulated account that is stepped as a live one: broker, watch, protective orders and tiers.

The rules are those of the live loop, in `execution.decision`.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.decision.authority import ReductionState, TrackedOrder, plan_reduction
from execution.decision.decision import Decision
from execution.decision.protection import (
    UNEXECUTED_STOPS_WARNING,
    ProtectedAccount,
    cooling_symbols,
    daily_deviations,
    is_crypto_bar_end,
    plan_protection,
    with_next_attempt,
)
from execution.decision.reduction import (
    REDUCTION_ORDER_NUMBER,
    ReductionTerms,
    build_reductions,
    target_quantities,
)
from execution.decision.watch import Exposure, WatchState, halt_end, next_watch_state
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import cancels_for_orders, place_orders, place_reductions
from execution.orders.orders import Order, is_protective_id, parse_order_leg, parse_order_prefix
from foundation.console import print_warning_once
from marketsimulator.account.broker import SimulatedBroker
from marketsimulator.account.entry_prices import EntryPrices
from marketsimulator.run_result import SPLIT, Run
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import format_utc, new_york_day
from trainingdata.market import Market

log = logging.getLogger("marketsimulator")


class SteppedAccount:
    """A simulated account with the rules that act on a live one around its decisions.

    At each instant call `advance` (not at the first), `account` and `trade`, in this order.

    broker: simulated broker with the account at the start of the run.
    """

    def __init__(self, settings: BacktestSettings, market: Market, broker: SimulatedBroker) -> None:
        self._guards = settings.guards
        self._broker = broker
        self._watch = SimulatedWatch(settings, market, broker) if settings.watch.limits else None
        self._protection = SimulatedProtection(settings, broker) if settings.protect.is_on else None
        self._known = market.initial_history
        self._peak = 0.0  # highest equity at a decision, for `guards.tiers`

    def with_protection(self, run: Run) -> Run:
        """Return the run with its protective orders and its unprotected sessions."""
        kept = self._protection
        if kept is None:
            return run
        return replace(
            run,
            protective_orders=tuple(kept.orders),
            unprotected_sessions=kept.unprotected_sessions,
        )

    def advance(self, index: int, known: Bars) -> None:
        """Advance to a later instant of the panel, while the watch reads every bar in between.

        known: bars known at this instant.
        """
        if self._watch is None and self._protection is None:
            self._broker.advance(index)
            return
        on_auction = None if self._protection is None else self._protect_after_auction
        self._broker.advance(index, self._act_between_decisions, on_auction)
        self._known = known
        self._read_watch()

    def account(self) -> AccountSnapshot:
        """Return the account for a decision."""
        source = self._broker if self._protection is None else self._protection
        return self._guards.apply(source.account(), self._peak)

    def trade(self, decision: Decision | None, equity: float, known: Bars) -> None:
        """Place the orders of a decision, update protective orders, and open the bars.

        decision: decision at this instant; None without one.
        equity: equity of the account on which the decision is based, USD.
        known: bars known at this instant.
        """
        self._known = known
        if decision is not None:
            self._peak = max(self._peak, equity)
            if self._protection is not None:
                self._protection.read_stated_stops(decision)
            elif decision.stated_stops:
                print_warning_once(UNEXECUTED_STOPS_WARNING)
            orders = decision.orders
            if self._watch is not None:
                orders = tuple(self._watch.allow(orders))
            cancels = cancels_for_orders(decision.cancelled_quantities, decision.orders, orders)
            place_orders(self._broker, orders, cancels)
        if self._protection is not None:
            self._protection.update(known, ends_cycle=True)
        self._broker.open_bars()
        if self._watch is not None:
            self._watch.begin()

    def _act_between_decisions(self) -> None:
        """Let the watch read the account, and protect new fills, as in the live loop."""
        if not self._read_watch() and self._protection is not None:
            self._protection.update_after_fills(self._known)

    def _protect_after_auction(self) -> None:
        """Protect the fills of an auction before the rest of its bar."""
        assert self._protection is not None
        self._protection.update(self._known, ends_cycle=False)

    def _read_watch(self) -> bool:
        """Let the watch read the account; after it has acted, update protective orders.

        Returns whether it has acted.
        """
        if self._watch is None or not self._watch.read():
            return False
        if self._protection is not None:
            self._protection.update(self._known, ends_cycle=False)
        return True


class SimulatedWatch:
    """The watch of a simulated account.

    After it has acted, it forbids opening orders as the halt of the live loop does: until the close
    of the next session, and beyond `watch.drawdown` until the end of the run, because no person
    clears the halt.
    """

    def __init__(self, settings: BacktestSettings, market: Market, broker: SimulatedBroker) -> None:
        self._settings = settings
        self._market = market
        self._broker = broker
        self._state: WatchState | None = None
        self._halt: tuple[np.datetime64, str] | None = None  # start and reason
        self._targets: Mapping[
            str, Decimal
        ] = {}  # of the present reduction; empty if there is none
        self._numbers: Counter[str] = Counter()  # reducing orders sent since then, by symbol

    def begin(self) -> None:
        """Begin the watch with the account after the orders of the run's first instant.

        A later call does nothing.
        """
        if self._state is None:
            account = self._broker.account()
            self._state = WatchState.first(account.as_of, account.equity)

    def read(self) -> bool:
        """Read the account at the broker's instant, and act beyond a limit.

        A reduction that waited, such as for an open market, continues. Returns whether the watch
        has changed orders or positions.
        """
        if self._state is None:
            return False
        account = self._read_account()
        use = Exposure.from_account(account, self._settings.limits).ceiling_use
        self._state, reason = next_watch_state(
            self._state, account.as_of, account.equity, use, self._settings.watch
        )
        if self._halt is not None:
            raised_at, why = self._halt
            end = halt_end(why, raised_at)
            if end is not None and account.as_of >= end:
                self._halt, self._targets = None, {}
        if reason and self._halt is None:
            self._halt = account.as_of, reason
            log.warning("%s watch: %s", format_utc(account.as_of), reason)
            self._begin_reduction(account)
        return self._reduce(account)

    def allow(self, orders: Sequence[Order]) -> Sequence[Order]:
        """Return the orders that may be sent: while the watch's halt is active, reductions only."""
        return orders if self._halt is None else [order for order in orders if order.reduces]

    def _read_account(self) -> AccountSnapshot:
        """Return the account at the last closes of the finest bars."""
        account = self._broker.account()
        bars = self._market.finer_bars
        if bars is None:
            return account
        row = int(np.searchsorted(bars.times, account.as_of))
        closes = {
            bars.symbols[s]: float(bars.values[s, row, CLOSE])
            for s in np.flatnonzero(bars.mask[:, row]).tolist()
        }
        return replace(account, prices={**account.prices, **closes})

    def _begin_reduction(self, account: AccountSnapshot) -> None:
        """Set the target quantities of the reduction, if the watch reduces positions."""
        watch = self._settings.watch
        if watch.action == "halt":
            return
        kept = Decimal(repr(watch.reduce_to)) if watch.action == "reduce" else Decimal(0)
        self._targets = target_quantities(account.positions, kept)
        self._numbers.clear()

    def _reduce(self, account: AccountSnapshot) -> bool:
        """Execute the next steps of a reduction, and return whether there were any."""
        has_acted = False
        for _ in range(
            2 if self._targets else 0
        ):  # the first plan cancels orders, the second sends
            plan = plan_reduction(
                ReductionState(
                    account,
                    account.positions,
                    self._targets,
                    [_as_tracked_order(order) for order in account.open_orders],
                    self._settings.orders,
                )
            )
            if not plan.waiting:
                self._targets = {}
            if not plan.has_steps:
                break
            has_acted = True
            self._broker.cancel(order.client_order_id for order in plan.cancels)
            place_reductions(self._broker, self._build_orders(account, plan.sales))
            account = self._read_account()
        return has_acted

    def _build_orders(
        self, account: AccountSnapshot, sales: Mapping[str, ReductionTerms]
    ) -> list[Order]:
        assert self._halt is not None
        raised_at, reason = self._halt
        settings, why = self._settings, f"watch: {reason}"
        orders = build_reductions(
            account, sales, settings.order_prefix, raised_at, settings.orders, why, self._numbers
        )
        self._numbers.update(order.symbol for order in orders)
        return orders


def _as_tracked_order(order: Order) -> TrackedOrder:
    leg = parse_order_leg(order.client_order_id)
    return TrackedOrder(order, "working", is_command_order=leg == str(REDUCTION_ORDER_NUMBER))


class SimulatedProtection:
    """Keeper of a simulated account's protective orders.

    orders: protective orders sent so far, each with its instant.
    unprotected_sessions: New York date and symbol of each session in which a bar began while the
        position in the symbol had no protective order.
    """

    def __init__(self, settings: BacktestSettings, broker: SimulatedBroker) -> None:
        """Start with the broker's present positions, which enter at their last prices."""
        self.orders: list[tuple[np.datetime64, Order]] = []
        self.unprotected_sessions: set[tuple[np.datetime64, str]] = set()
        self._stated_stops: dict[str, float] = {}
        self._elected_since: Mapping[str, np.datetime64] = {}
        self._settings = settings
        self._broker = broker
        self._entries = EntryPrices()
        self._stopped_at: dict[str, np.datetime64] = {}
        self._fills_seen = 0
        account = broker.account()
        for symbol, quantity in account.positions.items():
            self._entries.add_fill(symbol, quantity, account.prices[symbol])

    def account(self) -> AccountSnapshot:
        """Return the account, with the symbols that are not opened after their stop has filled."""
        self._read_fills()
        account = self._broker.account()
        cooldown = self._settings.protect.cooldown
        cooling = cooling_symbols(self._stopped_at, account.as_of, cooldown)
        return replace(account, cooling_symbols=cooling)

    def read_stated_stops(self, decision: Decision) -> None:
        """Read the stops that the strategy states in a decision."""
        for symbol in decision.symbols:
            self._stated_stops.pop(symbol, None)
        self._stated_stops |= decision.stated_stops

    def update_after_fills(self, bars: Bars) -> None:
        """Update protective orders if orders have filled since the last update.

        bars: bars known at this instant.
        """
        if len(self._broker.fills) > self._fills_seen:
            self.update(bars, ends_cycle=False)

    def update(self, bars: Bars, *, ends_cycle: bool) -> None:
        """Cancel and send protective orders, so that each position has one.

        bars: bars known at this instant.
        ends_cycle: true after a decision; stops of crypto that trail are raised only then.
        """
        self._read_fills()
        settings, account = self._settings, self._broker.account()
        protect = settings.protect
        entries = {symbol: self._entries.entry_price(symbol) for symbol in account.positions}
        deviations = daily_deviations(bars, account.positions) if protect.uses_deviation else {}
        daily = bars.timeframe.is_daily
        plan = plan_protection(
            protect,
            ProtectedAccount(
                account,
                entries,
                deviations,
                settings.order_prefix,
                settings.orders,
                at=bars.last_instant,
                auction=bars.timeframe.auction_time_in_force,
                # With daily bars the account has no instant at which the next auction is open.
                checked_at=None if daily else account.as_of,
                last_trades={
                    symbol: self._broker.open_price(symbol) or account.prices[symbol]
                    for symbol in account.positions
                },
                raises_crypto_stops=ends_cycle
                and is_crypto_bar_end(bars.timeframe, bars.last_instant),
                stated_stops=self._stated_stops,
                elected_since=self._elected_since,
            ),
        )
        self._elected_since = plan.elected_since
        self._broker.cancel(order.client_order_id for order in plan.cancels)
        orders = [self._with_unused_id(order) for order in plan.orders]
        self._broker.submit(orders)
        self.orders += [(bars.last_instant, order) for order in orders]
        after = self._broker.account()
        covered = {
            order.symbol for order in after.open_orders if is_protective_id(order.client_order_id)
        }
        self.unprotected_sessions |= {
            (new_york_day(after.as_of), symbol)
            for symbol in after.positions.keys() - covered
            if self._broker.open_price(symbol) is not None
        }

    def _with_unused_id(self, order: Order) -> Order:
        """Return the order with the first attempt number under which no order was sent."""
        while self._broker.order_states([order.client_order_id]):
            order = with_next_attempt(order)
        return order

    def _read_fills(self) -> None:
        """Apply new fills to the entry prices, and note those of protective orders."""
        for fill in self._broker.fills[self._fills_seen :]:
            if parse_order_prefix(fill.client_order_id) == SPLIT:
                self._entries.apply_split(fill.symbol, fill.qty)
            else:
                self._entries.add_fill(fill.symbol, fill.qty, fill.price)
            if is_protective_id(fill.client_order_id):
                self._stopped_at[fill.symbol] = fill.at
        self._fills_seen = len(self._broker.fills)
