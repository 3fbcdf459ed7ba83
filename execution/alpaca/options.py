"""Option spreads (multi-leg orders) at Alpaca, or at a server with the same interface."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Literal

import numpy as np

from execution.alpaca.fields import AccountEntry
from execution.alpaca.holdings import read_positions
from execution.alpaca.order_venue import OrderVenue
from execution.alpaca.placed_order import AlpacaOrder, compute_spread_fill
from execution.journal.order_store import REJECTED_AFTER_ACCEPTANCE, OrderStore
from execution.journal.outbox import Outbox
from execution.orders.gate import ALLOW_ALL_ORDERS, OrderGate
from execution.orders.option_orders import (
    OptionContract,
    OrderNeverSent,
    Quote,
    SpreadFill,
    SpreadOrder,
    is_option,
    parse_occ_symbol,
)
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import OrderRejected, OutcomeUnknown
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.feed.option_data import OptionData
from trainingdata.source import Feed


class AlpacaSpreadAccount:
    """An account that trades options on one stock, or on the index that the stock tracks.

    underlying: symbol of the stock.
    scale: ratio of the index to the stock's price, for options on the index.
    feed: feed of the stock's prices, `iex` or `sip`.
    patience: longest wait for an order to fill, seconds; an order still open then is cancelled.
    book: store that records orders before they are sent.
    time: local clock that measures waits and extrapolates the venue's time.
    job: name of the job that sends the orders, as stored in the book.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: ApiKeys,
        *,
        underlying: str,
        book: OrderStore,
        scale: float = 1.0,
        feed: Feed = "iex",
        patience: float = 10.0,
        time: TimeSource = SYSTEM_TIME,
        job: str = "spreads",
    ) -> None:
        self._venue = OrderVenue(settings, keys, time)
        self._outbox = Outbox(self._venue, book, job)
        self._patience = patience
        self._data = OptionData(settings, keys, feed, underlying, scale)

    def now(self) -> np.datetime64:
        return self._venue.now()

    def index_level(self) -> float:
        """Return the last trade price of the underlying, in index points."""
        return self._data.index_level(self._venue.estimated_now())

    def index_close(self, day: date) -> float | None:
        """Return the index at the close of a session, points; None if not yet known."""
        return self._data.index_close(day, self.now())

    def quotes(self, contracts: Iterable[OptionContract]) -> dict[OptionContract, Quote]:
        """Return quotes of options; options without a quote in the last 20 minutes are left out."""
        by_symbol = {contract.symbol: contract for contract in contracts}
        quotes = {}
        now = self._venue.estimated_now()
        for symbol, (bid, ask) in self._data.quotes(list(by_symbol), now).items():
            with self._venue.translate_errors(f"the quote of {symbol}"):
                quotes[by_symbol[symbol]] = Quote(bid, ask)
        return quotes

    def submit(self, order: SpreadOrder, gate: OrderGate = ALLOW_ALL_ORDERS) -> SpreadFill:
        """Send an order once and wait until it fills; cancel the unfilled part after `patience`.

        gate: pre-trade checks that run right before the order is sent.

        Raises
        ------
        OrderRejected
            for an order that the venue does not accept.
        OutcomeUnknown
            for an order of unknown outcome.
        """
        name = order.client_order_id
        posted = self._outbox.post(order, gate)
        (placed,) = self._venue.wait_until_done([posted], self._patience)
        return self._build_fill(name, self._outbox.cancel_and_wait(placed))

    def resume(self, client_order_id: str, *, retry_gate: OrderGate | None) -> SpreadFill:
        """Cancel an earlier order if it is still open, and return its fill.

        retry_gate: pre-trade gate for resubmitting the order if the venue does not know it; None
            does not resubmit.

        Raises
        ------
        OrderRejected
            for an order that the venue never accepted; `OrderNeverSent` if it was never sent.
        OutcomeUnknown
            for an order of unknown outcome.
        """
        placed = self._outbox.resolve_order(client_order_id, retry_gate=retry_gate)
        if placed is None:
            begun = self._outbox.may_have_been_sent(client_order_id)
            refusal = OrderRejected if begun else OrderNeverSent
            raise refusal(f"{client_order_id}: the venue does not know the order; it has no effect")
        return self._build_fill(client_order_id, placed)

    def _build_fill(self, name: str, placed: AlpacaOrder | Literal["unknown"]) -> SpreadFill:
        """Return the fill of one of our orders, computed from the fills of its legs."""
        if placed == "unknown" or not placed.is_done:
            raise OutcomeUnknown(
                f"{name}: outcome unknown after every query; the order may be open at the venue"
            )
        chain = [self._venue.load_legs(each) for each in placed.replacement_chain]
        with self._venue.translate_errors(f"order {name}"):
            fill = SpreadFill(*compute_spread_fill(chain))
        if fill.contracts == 0 and placed.status == "rejected":
            raise OrderRejected(f"{name}: {REJECTED_AFTER_ACCEPTANCE}", alerted=True)
        return fill

    def option_positions(self) -> dict[OptionContract, int]:
        """Return the signed number of contracts of each option in the account."""
        return {
            parse_occ_symbol(symbol): int(holding.quantity)
            for symbol, holding in read_positions(self._venue, is_option).items()
        }

    def buying_power(self) -> Decimal | None:
        """Return the buying power for options, USD; None if the venue does not report it."""
        return self._venue.read_account_field(AccountEntry.options_buying_power)
