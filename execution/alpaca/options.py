"""Alpaca, or a server that speaks as it does, as a venue for spreads: orders of several legs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.alpaca.account import instant_of, number
from execution.alpaca.order_desk import DONE, Answer, OrderDesk
from execution.spreads.orders import Contract, Quote, SpreadFill, SpreadOrder, contract_of
from foundation.errors import BrokerError, InputError, OrderRejected
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.option_data import OptionData
from trainingdata.source import Feed

FINEST = Decimal("0.0001")  # points of a mean price of several fills


class AlpacaSpreads:
    """An account at the venue that trades options on one stock, or on the index it follows.

    patience: seconds that an order may take; what it has not done then is cancelled. pause: how it
    waits.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        *,
        underlying: str,
        scale: float = 1.0,
        feed: Feed = "iex",
        patience: float = 10.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._desk = OrderDesk(settings, keys, pause)
        self._patience = patience
        self._pause = pause
        self._data = OptionData(settings, keys, feed, underlying, scale)

    def now(self) -> np.datetime64:
        """What the venue's clock says."""
        with self._desk.asking("the clock"):
            return instant_of(self._desk.client.get_clock()["timestamp"])

    def index(self) -> float:
        """The last trade of the underlying, in the index's points."""
        return self._data.index()

    def close_of(self, day: date) -> float | None:
        """The index at the close of a session; None where it is not known yet."""
        return self._data.close_of(day, self.now())

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        """What each sells and buys at; one without a quote is left out.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or whose bid is above its ask.
        """
        wanted = {contract.symbol: contract for contract in contracts}
        found = {}
        for symbol, (bid, ask) in self._data.quotes(list(wanted)).items():
            try:
                found[wanted[symbol]] = Quote(Decimal(bid), Decimal(ask))
            except InvalidOperation:
                raise BrokerError(
                    f"quote of {symbol}: the answer makes no sense: {bid!r}, {ask!r}"
                ) from None
        return found

    def submit(self, order: SpreadOrder) -> SpreadFill:
        """Send an order, once; what it has done when it is done, or cancelled after `patience`.

        Raises
        ------
        OrderRejected
            for one that the venue does not take, or takes and rejects.
        OutcomeUnknown
            where nobody knows what became of it.
        """
        answer = self._desk.post(_request(order))
        waited = 0.0
        step = 0.05
        while waited < self._patience and answer["status"] not in DONE:
            self._pause(step)
            waited = waited + step
            step = min(2 * step, 1.0)
            answer = self._desk.again(answer)
        fill = self._filled(self._desk.ended(answer))
        if fill.contracts == 0 and answer["status"] == "rejected":
            raise OrderRejected(
                f"{order.client_order_id}: rejected by the venue after it was taken"
            )
        return fill

    def fate(self, client_order_id: str) -> SpreadFill | None:
        """What became of an order, which is ended if it still works; None where the venue has none
        of that id.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        answer = self._desk.named(client_order_id)
        return None if answer is None else self._filled(self._desk.ended(answer))

    def held(self) -> dict[Contract, int]:
        """Options held, below 0 where they are owed.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers nonsense.
        """
        with self._desk.asking("positions"):
            rows = self._desk.client.get_all_positions()
            return {
                contract_of(str(row["symbol"])): int(number(row, "qty"))
                for row in rows
                if _is_option(str(row["symbol"]))
            }

    def _filled(self, answer: Answer) -> SpreadFill:
        """What an ended order has done, by its legs.

        Raises
        ------
        BrokerError
            for legs that filled in different numbers: a person has to look.
        """
        name = str(answer["client_order_id"])
        answer = self._desk.whole(answer)
        with self._desk.asking(f"order {name}"):
            legs = answer["legs"] or []
            counts = {
                number(leg, "filled_qty") if leg.get("filled_qty") else Decimal(0) for leg in legs
            }
            at = instant_of(answer.get("filled_at") or answer.get("updated_at"))
            if len(counts) != 1:
                raise BrokerError(
                    f"{name}: its legs filled in different numbers:"
                    f" {', '.join(sorted(map(str, counts)))}"
                )
            filled = counts.pop()
            if filled == 0:
                return SpreadFill(name, 0, Decimal(0), at)
            prices = (
                number(leg, "filled_avg_price") * (1 if leg["side"] == "sell" else -1)
                for leg in legs
            )
            return SpreadFill(
                name, int(filled), sum(prices, Decimal(0)).quantize(FINEST).normalize(), at
            )


def _is_option(symbol: str) -> bool:
    try:
        contract_of(symbol)
    except InputError:
        return False
    return True


def _request(order: SpreadOrder) -> dict[str, Any]:
    """The order in the venue's words, in which what is brought in is below 0."""
    request: dict[str, Any] = {
        "order_class": "mleg",
        "qty": str(order.contracts),
        "type": "market" if order.least is None else "limit",
        "time_in_force": "day",
        "client_order_id": order.client_order_id,
        "legs": [
            {"symbol": leg.contract.symbol, "ratio_qty": "1", "side": "buy" if leg.buy else "sell"}
            for leg in order.legs
        ],
    }
    return request if order.least is None else {**request, "limit_price": f"{-order.least:.2f}"}
