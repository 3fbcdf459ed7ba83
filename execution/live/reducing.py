"""Reduction of stock and crypto positions for commands, for the watch and for `kill --flatten`.

`execution.decision.authority.plan_reduction` plans each step from a reading of the account and from
our orders that have not ended. The unfilled quantity of command orders counts as sold, also after
a restart, so that no attempt trades the same shares twice. The next call continues a reduction
that waits.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np

from execution.brokers import AccountReadingRejected
from execution.decision.authority import (
    OrderPhase,
    ReductionPlan,
    ReductionState,
    TrackedOrder,
    plan_reduction,
)
from execution.decision.reduction import (
    build_reduction,
    build_reductions,
    excess_quantities,
    target_quantities,
)
from execution.journal.commands import KILL, WATCH, Command
from execution.journal.decisions import PROCESS_ENDED_REASON, DecisionJournal
from execution.journal.order_store import (
    PENDING_STATES,
    REFUSED_STATES,
    UNKNOWN_OUTCOME_STATES,
    OrderIntent,
)
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE_JOB
from execution.live.commands import CommandOutcome
from execution.live.expected_positions import net_fills_by_symbol
from execution.live.guarded_broker import GuardedBroker
from execution.live.overnight import closable_positions
from execution.live.resumption import POSITIONS_CHANGED_REASON
from execution.live.settings import LiveSettings
from execution.orders.account_snapshot import AccountSnapshot
from execution.orders.broker import Cancellations, cancel_orders, place_reductions
from execution.orders.orders import Order, is_protective_order
from foundation.errors import BrokerError
from foundation.formatting import format_price

log = logging.getLogger("live")

# Seconds before each reading of the account. Steps follow all but the last reading.
READ_DELAYS_SECONDS = (0.0, 0.0, 2.0, 2.0)
COMMAND_GROUP_PREFIX = f"{TRADE_JOB}-command-"  # begins the group id of a command's orders
# Our reasons for which an order was not sent; they do not count as refusals.
UNSENT_REASONS = (POSITIONS_CHANGED_REASON, PROCESS_ENDED_REASON)
ZERO = Decimal(0)


class PositionReducer:
    """Reducer of positions in stocks and crypto to the quantities that commands ask for.

    desk: broker that sends the orders.
    journal: journal of the job that trades stocks and crypto.
    """

    def __init__(
        self,
        desk: GuardedBroker,
        live: LiveAccount,
        journal: DecisionJournal,
        settings: LiveSettings,
    ) -> None:
        self._desk = desk
        self._live = live
        self._journal = journal
        self._settings = settings
        self._symbols_by_command: dict[str, Mapping[str, str]] = {}  # by command id

    @property
    def symbols_in_reduction(self) -> Mapping[str, str]:
        """Symbols in which a waiting command has changed orders, each with the reason.

        No stop is sent in these symbols meanwhile.
        """
        waiting = {command.command_id for command in self._live.account.commands.unanswered()}
        return {
            symbol: why
            for command_id, symbols in self._symbols_by_command.items()
            if command_id in waiting
            for symbol, why in symbols.items()
        }

    def reduce(self, command: Command) -> CommandOutcome:
        """Execute the next steps of a command, and return its outcome so far.

        Without a response of the venue, the command waits.
        """
        left, waiting = [], []
        try:
            plan, account = self.execute_steps(command)
            left = _describe_positions(plan.not_reduced, account)
            waiting = _describe_positions(plan.waiting, account)
        except BrokerError as error:
            log.warning("command %s: %s; retrying", command, error)
            waiting = [str(error)]
        intents = self._live.book.intents_for_decision(_order_group_id(command))
        return CommandOutcome(_describe_fills(intents), left, waiting)

    def release_symbols(self) -> None:
        """Let stops be sent again in the symbols of waiting commands, because the loop ends."""
        self._symbols_by_command = {}

    def execute_steps(self, command: Command) -> tuple[ReductionPlan, AccountSnapshot]:
        """Execute the next steps of a command; return the last plan and its account snapshot.

        If the command has ended, its open orders are cancelled and no new order is sent.
        """
        live, group = self._live, _order_group_id(command)
        self._desk.refresh_open_orders()
        try:
            live.reconcile()
        except BrokerError as error:
            if command.by != KILL:
                raise
            log.warning("closing positions without reconciling them first: %s", error)
        if not command.is_unanswered:
            self._cancel_command_orders({group})
        refused_before = {intent.client_order_id for intent in self._refused_orders(group)}
        attempts = live.connection.time.delayed_attempts(READ_DELAYS_SECONDS)
        for attempt, _ in enumerate(attempts, start=1):
            account = self._read_account(command)
            self._refresh_ended_orders(account)
            command, state = self._read_state(command, account, group, refused_before)
            plan = plan_reduction(state)
            is_last = attempt == len(READ_DELAYS_SECONDS) or not command.is_unanswered
            if is_last or not plan.has_steps:
                break
            self._execute_plan(plan, command, account, group)
        # Steps that the last reading asks for are left to the next call.
        unsent = {*plan.sales, *(order.symbol for order in plan.resends)}
        plan.waiting.update(dict.fromkeys(unsent - {*plan.waiting}, "its order is not sent yet"))
        self._record_finished_symbols(command, plan)
        self._symbols_by_command[command.command_id] = _symbols_in_reduction(command, plan, state)
        return plan, account

    def _record_finished_symbols(self, command: Command, plan: ReductionPlan) -> None:
        """Remove the symbols that `reduce` has reduced from its targets.

        A later attempt does not sell what decisions have opened in these symbols.
        """
        pending = {*plan.waiting, *plan.not_reduced}
        targets = command.targets or {}
        unfinished = {symbol: targets[symbol] for symbol in targets if symbol in pending}
        if command.is_unanswered and unfinished != targets:
            self._live.account.commands.set_targets(command, unfinished)

    def _refresh_ended_orders(self, account: AccountSnapshot) -> None:
        """Query our accepted orders if the snapshot shows that one has ended or traded."""
        resting = {order.client_order_id: order.qty for order in account.open_orders}
        accepted = self._tracked_orders()
        if any(
            resting.get(each.order.client_order_id) != each.order.qty
            for each in accepted
            if each.phase == "working"
        ):
            self._desk.refresh_open_orders()

    def find_closable_positions(self, positions: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Return the quantity of each position that a command may close, by symbol."""
        return closable_positions(
            positions,
            self._settings.tradable_symbols,
            net_fills_by_symbol(self._live.book, TRADE_JOB),
        )

    def cancel_open_orders(self, *, keep_stops: bool) -> Cancellations:
        """Cancel our open orders, and those of unknown outcome that the venue has received.

        keep_stops: true leaves protective orders at the venue.
        """
        names = [
            each.order.client_order_id
            for each in self._tracked_orders()
            if each.phase != "planned" and not (keep_stops and is_protective_order(each.order))
        ]
        for name in names:
            log.warning("cancelling %s", name)
        return cancel_orders(self._desk, names)

    def cancel_orders_of_ended_commands(self) -> None:
        """Cancel the open orders of ended commands, such as commands that `resume` cancelled."""
        waiting = {_order_group_id(command) for command in self._live.account.commands.unanswered()}
        groups = {
            intent.decision_id
            for intent in self._live.book.intents_in_states(PENDING_STATES)
            if intent.decision_id.startswith(COMMAND_GROUP_PREFIX)
        }
        self._cancel_command_orders(groups - waiting)

    def _cancel_command_orders(self, groups: Collection[str]) -> None:
        """Cancel the open orders of commands, and deny their unsent orders."""
        for group in sorted(groups):
            names = [
                intent.client_order_id
                for intent in self._live.book.intents_for_decision(group)
                if intent.state in ("accepted", *UNKNOWN_OUTCOME_STATES)
            ]
            cancel_orders(self._desk, names)
            self._journal.end_decision(group, "the command has ended")

    def _read_state(
        self,
        command: Command,
        account: AccountSnapshot,
        group: str,
        refused_before: Collection[str],
    ) -> tuple[Command, ReductionState]:
        """Return the inputs of the next plan, and the command with its targets recorded.

        refused_before: ids of the orders that were refused at earlier attempts.
        """
        symbols = {command.argument} if command.verb == "exit" else None
        held = {
            symbol: quantity
            for symbol, quantity in self.find_closable_positions(account.positions).items()
            if symbols is None or symbol in symbols
        }
        live = self._live
        quarantined = live.halts.quarantined_symbols() | live.reconciler.discrepant_symbols
        closable = {symbol: each for symbol, each in held.items() if symbol not in quarantined}
        targets: Mapping[str, Decimal] = dict.fromkeys(held, ZERO)
        if command.verb == "reduce":
            if command.targets is None and command.is_unanswered:
                targets = target_quantities(held, command.kept_fraction)
                command = self._live.account.commands.set_targets(command, targets)
            targets = {
                symbol: self._adjust_for_split(symbol, target, command.received_at)
                for symbol, target in (command.targets or {}).items()
            }
        refusals = {
            intent.stock_or_crypto_order.symbol: intent.state_reason
            for intent in self._refused_orders(group)
            if intent.client_order_id not in refused_before
        }
        orders = [
            each
            for each in self._tracked_orders(account.cancelling_orders)
            if symbols is None or each.order.symbol in symbols
        ]
        return command, ReductionState(
            account,
            closable,
            targets,
            orders,
            self._settings.orders,
            quarantined,
            self._forbidden_symbols(command, account, excess_quantities(closable, targets)),
            refusals,
            takes_auctions=command.by != KILL,
        )

    def _refused_orders(self, group: str) -> list[OrderIntent]:
        return [
            intent
            for intent in self._live.book.intents_for_decision(group)
            if intent.state in REFUSED_STATES and intent.state_reason not in UNSENT_REASONS
        ]

    def _adjust_for_split(self, symbol: str, target: Decimal, since: np.datetime64) -> Decimal:
        """Return a recorded target in the shares of today, without fractions after a split."""
        ratio = self._live.book.split_ratio_since(symbol, since)
        return target if ratio == 1 else Decimal(int(Fraction(target) * ratio))

    def _forbidden_symbols(
        self, command: Command, account: AccountSnapshot, excess: Mapping[str, Decimal]
    ) -> dict[str, str]:
        """Return the reasons by symbol for which the gate refuses sales now.

        The gate is asked before a stop is cancelled for a sale.

        excess: quantity to close by symbol, signed like the position.
        """
        gate = self._live.build_gate(account, {*excess}, require_trades=False)
        reasons = {}
        for symbol, quantity in excess.items():
            sale = build_reduction("asked", symbol, quantity, abs(quantity), "")
            if why := gate.refusal_reason(sale, command.role, account.as_of):
                reasons[symbol] = why
        return reasons

    def _tracked_orders(self, cancelling: Collection[str] = ()) -> list[TrackedOrder]:
        """Return our orders that have not ended, with their unfilled quantities.

        cancelling: ids of the orders whose cancellation is pending.
        """
        orders = []
        for intent in self._live.book.intents_in_states(PENDING_STATES):
            if intent.job != TRADE_JOB or not isinstance(intent.order, Order):
                continue
            left = intent.order.qty - intent.progress.filled
            phase: OrderPhase = "unknown" if intent.state in UNKNOWN_OUTCOME_STATES else "working"
            if intent.state == "planned":
                phase = "planned"
            elif intent.client_order_id in cancelling:
                phase = "cancelling"
            is_command_order = intent.decision_id.startswith(COMMAND_GROUP_PREFIX)
            if left > 0:
                orders.append(
                    TrackedOrder(replace(intent.order, qty=left), phase, is_command_order)
                )
        return orders

    def _read_account(self, command: Command) -> AccountSnapshot:
        """Return the account snapshot.

        A person's command also acts on a snapshot whose cash or marks are rejected, because only
        its positions matter. A command of the watch needs an accepted snapshot.

        Raises
        ------
        AccountReadingRejected
            for a command of the watch if the reading is rejected.
        """
        try:
            return self._desk.account()
        except AccountReadingRejected as error:
            if command.by == WATCH:
                raise
            return error.account

    def _execute_plan(
        self, plan: ReductionPlan, command: Command, account: AccountSnapshot, group: str
    ) -> None:
        """Deny, cancel, record and send the orders of a plan."""
        book = self._live.book
        for order in plan.denials:
            if (intent := book.get(order.client_order_id)) is not None:
                book.deny(intent, POSITIONS_CHANGED_REASON)
        for order in plan.cancels:
            log.warning("%s: cancelling %s", group, order.client_order_id)
        cancel_orders(self._desk, [order.client_order_id for order in plan.cancels])
        numbers = Counter(
            intent.stock_or_crypto_order.symbol for intent in book.intents_for_decision(group)
        )
        new = build_reductions(
            account,
            plan.sales,
            self._settings.order_prefix,
            command.received_at,
            self._settings.orders,
            f"command {command}",
            numbers,
        )
        if new:
            self._journal.record_reducing_orders(group, new, account.as_of, command.role)
        if not (orders := [*plan.resends, *new]):
            return
        for order in orders:
            log.warning("%s: %s %s %s", group, order.side, order.qty, order.symbol)
        gate = self._live.build_gate(
            account, {order.symbol for order in orders}, require_trades=False
        )
        try:
            place_reductions(self._desk, orders, gate)
        except BrokerError as error:
            log.warning("%s", error)  # the next reading shows the outcome


def _order_group_id(command: Command) -> str:
    """Return the id that groups the orders of a command."""
    return f"{COMMAND_GROUP_PREFIX}{command.command_id}"


def _symbols_in_reduction(
    command: Command, plan: ReductionPlan, state: ReductionState
) -> Mapping[str, str]:
    """Return the symbols in which a waiting command has changed orders, each with the reason."""
    touched = {order.symbol for order in plan.cancels} | {
        each.order.symbol
        for each in state.orders
        if each.is_command_order or each.phase == "cancelling"
    }
    return {
        symbol: f"`{command}` waits: {why}"
        for symbol, why in plan.waiting.items()
        if symbol in touched and command.is_unanswered
    }


def _describe_positions(reasons: Mapping[str, str], account: AccountSnapshot) -> list[str]:
    return [
        f"{abs(account.positions.get(symbol, ZERO)):f} {symbol} ({why})"
        for symbol, why in reasons.items()
    ]


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
