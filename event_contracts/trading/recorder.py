"""One decision on its way to the venue: written down with its intent before its order is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from event_contracts.trading.action_log import ActionEntry, ActionLog, intent_of
from event_contracts.trading.orders import (
    Fill,
    LimitOrder,
    MarketView,
    OrderManager,
    Receipt,
    other,
)
from event_contracts.trading.updates import MarketUpdate
from execution.journal.intents import Intent


class TradingManager(OrderManager, Protocol):
    """An order manager whose orders are written down before they are sent."""

    def expiry(self) -> np.datetime64 | None:
        """When an order that is sent now ends at the venue; none where it does not by itself."""

    def undetermined(self, market: str) -> tuple[Intent, ...]:
        """Orders of a market of which nobody knows what became, once they were looked for.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """

    def withdraw(self, market: str) -> tuple[Intent, ...]:
        """Take our orders that work in a market out of its book; they are returned.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or an order that it does not end.
        """


class DecisionRecorder:
    """The manager as one decision sees it: what was shown holds, and is written down before.

    manager: sends the order.
    actions: where it is written down.
    draft: the decision before it has an order.
    shown: the account as the policy was shown it.
    updates: ticks that the decision is about, not written down yet.
    sent_at: UTC.
    entry: the decision, once its order is about to be sent.
    """

    def __init__(
        self,
        manager: TradingManager,
        actions: ActionLog,
        draft: ActionEntry,
        shown: MarketView,
        updates: Sequence[MarketUpdate],
        *,
        sent_at: np.datetime64,
    ) -> None:
        self.entry: ActionEntry | None = None
        self._manager = manager
        self._actions = actions
        self._draft = draft
        self._shown = shown
        self._updates = updates
        self._sent_at = sent_at

    def view(self, market: str) -> MarketView:
        """The account as the policy was shown it."""
        del market
        return self._shown

    def submit(self, order: LimitOrder) -> Receipt:
        """Write the decision and its intent down as one, then send the order.

        Raises
        ------
        OrderRejected
            where the venue does not take it.
        OutcomeUnknown
            where nobody says what became of it.
        """
        entry = replace(
            self._draft,
            size=int(order.count),
            price=order.price,
            reason=f"{self._draft.policy}: {order.action} {order.count} {order.side}",
            client_order_id=order.client_order_id,
        )
        # What rests and goes the same way may use up what is held before this does.
        waiting = self._shown.resting_count("BUY", order.side)
        waiting += self._shown.resting_count("SELL", other(order.side))
        closes = order.count + waiting <= self._shown.held(other(order.side))
        intent = intent_of(
            order,
            entry,
            expires_at=self._manager.expiry(),
            sent_at=self._sent_at,
            job=self._actions.job,
            venue="kalshi",
            reduces=order.action == "SELL" or closes,
        )
        self._actions.write(self._updates, entry, intent)
        self.entry = entry
        return self._manager.submit(order)

    def hold(self, reason: str) -> ActionEntry:
        """Write down that nothing is sent, and why; the draft's own reason goes first."""
        entry = replace(self._draft, reason=self._draft.reason or reason)
        self._actions.write(self._updates, entry)
        return entry

    def cancel(self, order_id: str) -> None:
        """Take an order out of the book."""
        self._manager.cancel(order_id)

    def fills(self, market: str) -> tuple[Fill, ...]:
        """The account's fills in a market."""
        return self._manager.fills(market)
