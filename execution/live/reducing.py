"""Cancelling and reducing for the commands `reduce`, `exit` and `flatten`: stocks and crypto.

The first attempt records in the journal the quantity to which each position is reduced. Every
attempt, also one after a crash, first cancels our open orders, and sends orders of unknown outcome
again under their ids. New orders then cover only what still exceeds the recorded quantities. No
attempt can therefore trade the same shares twice.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from execution.brokers import MarksRejected
from execution.decision.reduction import excess_quantities, plan_reductions, target_quantities
from execution.journal.commands import WATCH, Command
from execution.journal.decisions import DecisionJournal
from execution.journal.order_store import REFUSED_STATES, UNKNOWN_OUTCOME_STATES, OrderIntent
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.commands import CommandOutcome
from execution.live.expected_positions import net_fills_by_symbol
from execution.live.guarded_broker import GuardedBroker
from execution.live.overnight import closable_positions
from execution.live.resumption import POSITIONS_CHANGED_REASON
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import place_reductions
from execution.orders.orders import Order, is_protective_order
from foundation.errors import BrokerError
from foundation.formatting import format_price

log = logging.getLogger("live")

# Seconds before each reading of the account. Orders follow all but the last reading.
READ_DELAYS_SECONDS = (0.0, 0.0, 2.0, 2.0)
ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class PositionReducer:
    """Reducer of positions in stocks and crypto to the quantities that commands ask for.

    desk: broker that sends the orders.
    journal: journal of the job that trades stocks and crypto.
    """

    desk: GuardedBroker
    live: LiveAccount
    journal: DecisionJournal
    settings: LiveSettings

    def reduce(self, command: Command) -> CommandOutcome:
        """Reduce positions as a command asks, and return what was done."""
        group = f"{TRADE_JOB}-command-{command.command_id}"
        book = self.live.book
        self.desk.refresh_open_orders()
        self.live.reconcile()
        earlier = {*book.unsent_reasons(group)}
        attempts = self.live.connection.time.delayed_attempts(READ_DELAYS_SECONDS)
        for attempt, _ in enumerate(attempts, start=1):
            symbols = (command.argument,) if command.verb == "exit" else None
            stuck, _ = self.cancel_own_orders(symbols, group)
            account = self._read_account(command)
            held = self.closable_positions(account)
            if command.targets is None:
                chosen = {s: q for s, q in held.items() if symbols is None or s in symbols}
                targets = target_quantities(chosen, command.kept_fraction)
                command = self.live.account.commands.set_targets(command, targets)
            excess = excess_quantities(held, command.targets or {})
            intents = book.intents_for_decision(group)
            reasons = {symbol: "an open order could not be cancelled" for symbol in stuck}
            for intent in intents:
                if intent.state in REFUSED_STATES and intent.client_order_id not in earlier:
                    reasons[intent.stock_or_crypto_order.symbol] = intent.state_reason
            orders = self._resend(intents, excess, reasons) or self._build_orders(
                command, account, excess, reasons, intents
            )
            if not orders or attempt == len(READ_DELAYS_SECONDS):
                break
            self._send(orders, account, group, intents)
        left = [
            f"{abs(quantity):f} {symbol} ({reasons.get(symbol, 'not filled')})"
            for symbol, quantity in excess.items()
        ]
        return CommandOutcome(_describe_fills(book.intents_for_decision(group)), left)

    def closable_positions(self, account: AccountSnapshot) -> Mapping[str, Decimal]:
        """Return the part of each position that may be closed, by symbol."""
        return closable_positions(
            self.live.reconciler.explained_quantities(account.positions),
            self.settings.tradable_symbols,
            net_fills_by_symbol(self.live.book, TRADE_JOB),
        )

    def cancel_own_orders(
        self,
        symbols: Collection[str] | None = None,
        resent_group: str = "",
        *,
        keep_stops: bool = False,
    ) -> tuple[set[str], list[str]]:
        """Cancel our open orders, and those of unknown outcome that the venue has received.

        Returns the symbols of the orders that could not be cancelled, and the texts of the errors.

        symbols: symbols of the orders; None cancels those in all symbols.
        resent_group: id of a command's group, whose orders of unknown outcome are sent again and
            not cancelled, and whose accepted orders the venue must know; empty for none.
        keep_stops: true leaves protective orders at the venue.
        """
        stuck, troubles = set(), []
        for intent in self.live.book.intents_in_states((*UNKNOWN_OUTCOME_STATES, "accepted")):
            if intent.job != TRADE_JOB or not isinstance(intent.order, Order):
                continue
            if symbols is not None and intent.order.symbol not in symbols:
                continue
            if keep_stops and is_protective_order(intent.order):
                continue
            is_in_group = bool(resent_group) and intent.decision_id == resent_group
            if is_in_group and intent.state in UNKNOWN_OUTCOME_STATES:
                continue
            log.warning("cancelling %s", intent.client_order_id)
            try:
                cancelled = self.desk.cancel([intent.client_order_id])
                if is_in_group and intent.client_order_id not in cancelled:
                    stuck.add(intent.order.symbol)
            except BrokerError as error:
                stuck.add(intent.order.symbol)
                troubles.append(str(error))
        return stuck, troubles

    def _read_account(self, command: Command) -> AccountSnapshot:
        """Return the account snapshot.

        If the venue's marks are rejected, a person's command uses the feed's prices. The watch's
        command waits for marks that are accepted.
        """
        try:
            return self.desk.account()
        except MarksRejected as error:
            if command.by == WATCH:
                raise
            return error.account

    def _resend(
        self, intents: Sequence[OrderIntent], excess: Mapping[str, Decimal], reasons: dict[str, str]
    ) -> list[Order]:
        """Return the recorded orders that may be unsent, to be sent under their ids.

        An order that exceeds what is left to reduce is not sent.
        """
        orders = []
        remaining = {symbol: abs(quantity) for symbol, quantity in excess.items()}
        for intent in intents:
            order = intent.stock_or_crypto_order
            is_unknown = intent.state in UNKNOWN_OUTCOME_STATES
            if not (is_unknown or intent.state == "planned"):
                continue
            if order.qty <= remaining.get(order.symbol, ZERO):
                remaining[order.symbol] -= order.qty
                orders.append(order)
            elif is_unknown:
                reasons[order.symbol] = f"the outcome of {order.client_order_id} is unknown"
            else:
                self.live.book.deny(intent, POSITIONS_CHANGED_REASON)
        return orders

    def _build_orders(
        self,
        command: Command,
        account: AccountSnapshot,
        excess: Mapping[str, Decimal],
        reasons: dict[str, str],
        intents: Sequence[OrderIntent],
    ) -> list[Order]:
        """Return new orders for what is left to reduce, and add the reasons why there are none."""
        numbers = Counter(intent.stock_or_crypto_order.symbol for intent in intents)
        orders, obstacles = plan_reductions(
            account,
            {symbol: quantity for symbol, quantity in excess.items() if symbol not in reasons},
            self.settings.order_prefix,
            command.received_at,
            self.settings.orders,
            f"command {command}",
            numbers,
        )
        reasons |= obstacles
        return orders

    def _send(
        self,
        orders: Sequence[Order],
        account: AccountSnapshot,
        group: str,
        intents: Sequence[OrderIntent],
    ) -> None:
        """Record new orders as planned, and send all orders.

        intents: recorded orders of the group.
        """
        gate = self.live.build_gate(
            account, {order.symbol for order in orders}, require_trades=False
        )
        recorded = {intent.client_order_id for intent in intents}
        new = [order for order in orders if order.client_order_id not in recorded]
        if new:
            self.journal.record_reducing_orders(group, new, account.as_of)
        for order in orders:
            log.warning("%s: %s %s %s", group, order.side, order.qty, order.symbol)
        try:
            place_reductions(self.desk, orders, gate)
        except BrokerError as error:
            log.warning("%s", error)  # the next reading shows what it has done


def _describe_fills(intents: Sequence[OrderIntent]) -> list[str]:
    """Describe the fills of orders, one text for each symbol."""
    filled: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    paid: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
    for intent in intents:
        order, progress = intent.stock_or_crypto_order, intent.progress
        if progress.filled:
            key = ("sold" if order.side == "sell" else "bought", order.symbol)
            filled[key] += progress.filled
            paid[key] += progress.filled * (progress.filled_price or ZERO)
    return [
        f"{verb} {quantity:f} {symbol} at {format_price(float(paid[verb, symbol] / quantity))}"
        for (verb, symbol), quantity in sorted(filled.items())
    ]
