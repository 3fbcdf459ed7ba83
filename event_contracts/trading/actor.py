"""Trade event contracts with a policy: from a market's tick to at most one order.

At each tick the service cancels old orders, builds the observation and the action mask, lets the
policy choose, records the decision and sends its order. An order rests for as many ticks as in
training. It is cancelled at the tick after that, even if that tick has no decision. The policy sees
the same features as in the training environment. An order is recorded with its decision before it
is sent. Each tick has at most one decision.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

import numpy as np

from event_contracts.trading.action_log import ActionEntry, ActionLog, make_client_order_id
from event_contracts.trading.actions import (
    ACTION_COUNT,
    INTENTS,
    LimitOrderActions,
    LimitOrderActionSpace,
    intent_code_of,
    reserved_cash,
)
from event_contracts.trading.observation import FEATURES, write_observation
from event_contracts.trading.orders import (
    EventContractOrder,
    MarketView,
    OrderManager,
    OrderReceipt,
    opposite_side,
)
from event_contracts.trading.policies import Observations, Policy
from event_contracts.trading.records import (
    MARKET_DTYPE,
    MAX_RESTING_ORDERS,
    MICROS_PER_DOLLAR,
    ORDER_DTYPE,
    PRICE_UNITS_PER_DOLLAR,
    TICK_DTYPE,
    MarketUpdate,
    Record,
    SamplingSchedule,
    quote_from_tick,
)
from execution.journal.order_store import OrderIntent
from execution.journal.outbox import OrderPaused
from execution.orders.gate import infer_order_role
from foundation.arrays import Mask, StructuredArray
from foundation.decimals import CENT
from foundation.errors import BrokerError, OrderRejected, OutcomeUnknown, TradingPaused
from foundation.notifier import Notifier

log = logging.getLogger(__name__)

UNKNOWN_OUTCOME_REASON = "no new order while an earlier order has an unknown outcome"


@dataclass(eq=False)
class ActorService:
    """Service that trades live, recorded or simulated markets with a policy, tick by tick.

    After a crash, a new process resumes with the same journal: planned but unsent orders are
    denied, and a market with an order of unknown outcome gets no new order.

    account: account name, from which client order ids are derived.
    action_space: sizes, limits, price styles and life of the orders, as in the policy's training.
    clock: function that returns the current instant, UTC; simulated in a simulation.
    decision_valid_seconds: seconds after a tick within which a decision is allowed.
    is_opening_halted: function that returns whether opening orders are halted. Resting orders are
        then cancelled at every tick.
    on_decision: callback for every decision, after its order was sent.
    skipped_tick_counts: number of ticks without a decision, by reason: `old`, `settling`, `late`,
        `paused`.
    """

    account: str
    manager: OrderManager
    action_space: LimitOrderActionSpace
    policy: Policy
    action_log: ActionLog
    notices: Notifier
    _: KW_ONLY
    clock: Callable[[], np.datetime64]
    decision_valid_seconds: float = 60.0
    is_opening_halted: Callable[[], bool] = lambda: False
    on_decision: Callable[[ActionEntry], None] = lambda entry: None
    skipped_tick_counts: dict[str, int] = field(default_factory=dict, init=False)
    _history_by_market: dict[str, MarketHistory] = field(default_factory=dict, init=False)
    _starting_equity_micros: int | None = field(default=None, init=False)
    _paused_at: np.datetime64 | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.action_log.deny_unsent_orders()

    def follow_market(self, market: str, schedule: SamplingSchedule) -> None:
        """Start to trade a market, and load its earlier ticks and orders from the journal.

        schedule: sampling schedule; a schedule in the journal takes precedence.
        """
        starting_equity = self._load_starting_equity(market)
        memory = MarketHistory(
            self.action_log.record_schedule(market, schedule), self.action_space, starting_equity
        )
        for update in self.action_log.read_ticks(market):
            memory.add_tick(update.at, update.tick)
        for entry in self.action_log.read_entries(market):
            memory.record_order_size(memory.schedule.row_index_at(entry.at), entry.sent_count)
        self._history_by_market[market] = memory

    def process_update(self, update: MarketUpdate) -> ActionEntry | None:
        """Decide on a tick of a followed market, send the order, and return the decision.

        Return None for a tick without a decision; `skipped_tick_counts` counts the reasons.
        """
        memory = self._history_by_market[update.market]
        if not memory.is_newer_tick(update.at):
            self._count_skipped_tick("old")
            return None
        is_open = memory.add_tick(update.at, update.tick)
        if update.at == self._paused_at:
            # Another market has met the pause at this tick: no requests are sent for this one.
            self.action_log.record_tick(update)
            self._count_skipped_tick("paused")
            return None
        try:
            self._cancel_stale_orders(update, memory.schedule)
            age = (self.clock() - update.at) / np.timedelta64(1, "s")
            is_late = age > self.decision_valid_seconds
            if not is_open or is_late:
                self.action_log.record_tick(update)
                self._count_skipped_tick("late" if is_open else "settling")
                return None
            entry = self._decide_and_send(memory, update)
        except TradingPaused as error:
            # Nothing was sent, and orders to be cancelled rest until a later tick.
            log.info("%s: %s", update.market, error)
            self._paused_at = update.at
            self.action_log.order_store.refusals.record_venue_pause(str(error), self.clock())
            self.action_log.record_tick(update)
            self._count_skipped_tick("paused")
            return None
        except BrokerError as error:
            self.action_log.record_tick(update)
            self._alert_failure(update.market, str(error))
            return None
        self.on_decision(entry)
        return entry

    def _count_skipped_tick(self, why: str) -> None:
        self.skipped_tick_counts[why] = self.skipped_tick_counts.get(why, 0) + 1

    def _cancel_stale_orders(self, update: MarketUpdate, schedule: SamplingSchedule) -> None:
        """Cancel orders in a market that have rested too long, or that may no longer rest.

        An order may rest for `action_space.life` ticks, or for one tick while opening orders are
        halted.
        """
        met = 1 if self.is_opening_halted() else self.action_space.life
        before = update.at - (met - 1) * schedule.interval
        for each in self.manager.cancel_stale_orders(update.market, before):
            log.info(
                "%s: order %s cancelled, it has rested too long or may no longer rest",
                update.market,
                each.client_order_id,
            )
            self.action_log.order_store.refusals.record_trading_resumed()

    def _decide_and_send(self, memory: MarketHistory, update: MarketUpdate) -> ActionEntry:
        """Build an observation, let the policy choose, record the decision and send its order.

        While an order has an unknown outcome, the decision is HOLD.
        """
        market = update.market
        unknown = self.manager.query_unknown_outcomes(market)
        view = self.manager.view(market)
        if unknown:
            self.notices.alert(
                _unknown_outcome_alert_kind(market), f"{market}: {UNKNOWN_OUTCOME_REASON}"
            )
            reason = f"{UNKNOWN_OUTCOME_REASON}: {unknown[0].client_order_id}"
            entry = self._build_entry(update, view, None, LimitOrderActions.HOLD, reason)
            self.action_log.record_decision(update, entry)
            return entry
        self.notices.reset_alert(_unknown_outcome_alert_kind(market))
        # Orders are priced from the quote that the policy saw, even if the venue's has changed.
        view = replace(view, quote=quote_from_tick(update.tick, view.quote.price_step))
        seen = memory.build_observation(view)
        chosen = int(self.policy.choose_actions(seen.features[None], seen.allowed_actions[None])[0])
        # A masked action does what HOLD does, as in the environment.
        action = chosen if seen.allowed_actions[chosen] else LimitOrderActions.HOLD
        held = (
            f"{self.policy.name} chose action {chosen}, which is masked" if action != chosen else ""
        )
        entry = self._build_entry(update, view, seen, action, held)
        name = make_client_order_id(self.account, market, update.at, action)
        order = self.action_space.build_order(action, view, name)
        if order is None:
            entry = replace(
                entry, reason=held or self.action_space.refusal_reason(action, view) or INTENTS[0]
            )
            self.action_log.record_decision(update, entry)
            self.notices.reset_alert(failure_alert_kind(market))
        else:
            entry = self._send_order(order, update, view, entry)
        memory.record_order_size(memory.row, entry.sent_count)
        return entry

    def _send_order(
        self, order: EventContractOrder, update: MarketUpdate, view: MarketView, draft: ActionEntry
    ) -> ActionEntry:
        """Record a decision with its intent in one commit, send the order, record the response.

        draft: decision whose order fields are still empty.
        """
        entry = replace(
            draft,
            size=int(order.count),
            price=order.price,
            reason=f"{draft.policy}: {order.action} {order.count} {order.side}",
            client_order_id=order.client_order_id,
        )
        order = replace(
            order,
            expires_at=self.manager.next_order_expiry(),
            reduces=_is_reducing_order(order, view),
            reason=entry.reason,
        )
        intent = OrderIntent(
            order=order,
            sent_at=self.clock(),
            state="planned",
            job=self.action_log.job,
            venue="kalshi",
            decision_id=f"{entry.market} {entry.at}",
            role=infer_order_role(order),
        )
        self.action_log.record_decision(update, entry, intent)
        try:
            receipt = self.manager.submit(order)
            response = _format_acceptance(order, receipt)
            self.notices.reset_alert(failure_alert_kind(update.market))
        except (OrderRejected, OutcomeUnknown) as error:
            response = f"{'unknown' if isinstance(error, OutcomeUnknown) else 'rejected'}: {error}"
            kept = self.action_log.order_store.get(order.client_order_id)
            # An order that a guard denied is not a failure of its market. The record of refusals
            # has already alerted the venue's rejections.
            alerted = isinstance(error, OrderRejected) and error.alerted
            if isinstance(error, OrderPaused):
                self._paused_at = update.at
            if not alerted and (kept is None or kept.state != "denied"):
                self._alert_failure(update.market, str(error))
        self.action_log.record_response(update.market, update.at, response)
        return replace(entry, response=response)

    def _alert_failure(self, market: str, why: str) -> None:
        log.warning("%s: %s", market, why)
        self.notices.alert(
            failure_alert_kind(market),
            f"{market}: decision or order failed: {why}; retrying at its next tick",
        )

    def _load_starting_equity(self, market: str) -> int:
        """Return the recorded starting equity, millionths of a USD.

        If none is recorded, the current equity is read and recorded.

        market: market whose view supplies the equity.
        """
        if self._starting_equity_micros is None:
            starting_equity = self.action_log.read_starting_equity()
            if starting_equity is None:
                starting_equity = self.action_log.record_starting_equity(
                    self.manager.view(market).equity
                )
            self._starting_equity_micros = int(starting_equity * MICROS_PER_DOLLAR)
        return self._starting_equity_micros

    def _build_entry(
        self,
        update: MarketUpdate,
        view: MarketView,
        seen: Observation | None,
        action: int,
        reason: str,
    ) -> ActionEntry:
        return ActionEntry(
            market=update.market,
            at=update.at,
            policy=self.policy.name,
            action=action,
            intent=self.action_space.process_action(action)[0],
            size=0,
            price=None,
            reason=reason,
            observation_digest=hashlib.sha256(b"".join(each.tobytes() for each in seen)).hexdigest()
            if seen
            else "",
            allowed_bits=sum(1 << int(code) for code in np.flatnonzero(seen.allowed_actions))
            if seen
            else 0,
            cash=view.cash,
            equity=view.equity,
            job=self.action_log.job,
        )


def _format_acceptance(order: EventContractOrder, receipt: OrderReceipt) -> str:
    """Describe the response to an accepted order: contracts filled, resting and cancelled."""
    text = (
        f"accepted {receipt.order_id}: {receipt.filled_count} filled,"
        f" {receipt.remaining_count} resting"
    )
    missed = order.count - receipt.filled_count - receipt.remaining_count
    return f"{text}, {missed} cancelled for lack of depth" if missed else text


def _is_reducing_order(order: EventContractOrder, view: MarketView) -> bool:
    """Return whether an order can only reduce the position, even if resting orders fill first."""
    if order.action == "SELL":
        return True
    # Resting orders in the same direction may use up the position before this one does.
    return order.count + view.resting_count_towards(order.side) <= view.held_count(
        opposite_side(order.side)
    )


def failure_alert_kind(market: str) -> str:
    """Return the alert kind of one market's trading failures."""
    return f"kalshi {market}"


def _unknown_outcome_alert_kind(market: str) -> str:
    return f"kalshi outcome {market}"


class Observation(NamedTuple):
    """Input of a policy.

    features: float32 [F].
    allowed_actions: mask of permitted actions, bool [25].
    """

    features: Observations
    allowed_actions: Mask


class MarketHistory:
    """History of one market: its ticks, and the sizes of the orders that were sent.

    tape: tick records of all rows of the schedule; future rows are empty.
    schedule: sampling schedule of the ticks.
    space: sizes, limits and price styles of the orders.
    starting_equity: equity by which money features are scaled, millionths of a USD.
    """

    def __init__(
        self, schedule: SamplingSchedule, space: LimitOrderActionSpace, starting_equity: int
    ) -> None:
        self.schedule = schedule
        self.row = -1  # the row shown
        self._fees = space.fees
        self._terms = space.build_scaled_order_rules(CENT)
        self.tape: StructuredArray = np.zeros(schedule.row_count, TICK_DTYPE)
        self._market = np.zeros(1, MARKET_DTYPE)
        self._market["rows"] = schedule.row_count
        self._market["starting_equity"] = starting_equity
        self._sent = (-1, 0)  # row of the last decision, and contracts sent

    def is_newer_tick(self, at: np.datetime64) -> bool:
        return self.row < self.schedule.row_index_at(at) < self.schedule.row_count

    def add_tick(self, at: np.datetime64, tick: Record) -> bool:
        """Add a tick that is newer than the last; return whether it is before settlement.

        Rows of missed ticks repeat the previous quote without trades. Rows before the first tick
        repeat the first tick's quote.
        """
        row = self.schedule.row_index_at(at)
        self.tape[row] = tick
        passed = self.tape[self.row + 1 : row]
        passed[:] = self.tape[self.row] if self.row >= 0 else tick
        passed["sold"] = 0
        passed["bought"] = 0
        self.row = row
        return row < self.schedule.row_count - 1

    def record_order_size(self, row: int, size: int) -> None:
        """Record the contracts sent at a row; a size of 0 means that no order was sent."""
        self._sent = (row, size)
        self._market["numbers"] += size > 0
        self._market["total"] += size

    def build_observation(self, view: MarketView) -> Observation:
        """Build the policy's observation from the account and the latest tick.

        Positions are rounded down to whole contracts, resting orders are rounded up.
        """
        resting = [each for each in view.resting_orders if each.order.market == view.market]
        elsewhere = [each for each in view.resting_orders if each.order.market != view.market]
        orders = np.zeros(max(len(resting), MAX_RESTING_ORDERS), ORDER_DTYPE)
        for slot, each in zip(orders, resting, strict=False):
            slot["intent"] = intent_code_of(each.order)
            slot["price"] = int(each.order.price * PRICE_UNITS_PER_DOLLAR)
            slot["remaining"] = int(each.remaining_count.to_integral_value(ROUND_CEILING))
        record = self._market[0]
        record["cash"] = _round_to_micros(view.cash, ROUND_FLOOR)
        record["yes"] = int(view.yes_count)
        record["no"] = int(view.no_count)
        record["row"] = self.row
        record["sent"] = self._sent[1] if self._sent[0] == self.row - 1 else 0
        record["resting"] = len(resting)
        record["elsewhere"] = _round_to_micros(view.other_positions_value, ROUND_FLOOR)
        record["event_if_yes"] = math.ceil(view.exposure.event_loss_if_yes)
        record["event_if_no"] = math.ceil(view.exposure.event_loss_if_no)
        record["other_events"] = math.ceil(view.exposure.other_events_loss)
        record["reserved_cash"] = _round_to_micros(
            reserved_cash(elsewhere, self._fees), ROUND_CEILING
        )
        terms = self._terms._replace(
            price_step_units=int(view.quote.price_step * PRICE_UNITS_PER_DOLLAR)
        )
        features = np.zeros(len(FEATURES), np.float32)
        allowed = np.zeros(ACTION_COUNT, dtype=bool)
        write_observation(record, orders, self.tape, terms, features, allowed)
        if len(resting) > MAX_RESTING_ORDERS:
            # The environment never has so many orders, so the policy is not trained for them.
            allowed[1:] = False
        return Observation(features, allowed)


def _round_to_micros(amount: Decimal, direction: str) -> int:
    return int((amount * MICROS_PER_DOLLAR).to_integral_value(direction))
