"""Alpaca, or a server that speaks as it does, as a venue for spreads: orders of several legs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.alpaca.account import NOTHING, instant_of, number
from execution.alpaca.order_desk import DONE, Answer, OrderDesk, poll_delays
from execution.spreads.orders import Contract, Quote, SpreadFill, SpreadOrder, contract_of
from foundation.errors import BrokerError, InputError, OrderRejected
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.option_data import OptionData
from trainingdata.source import Feed

FINEST = Decimal("0.0001")  # points, of the mean price of several fills


class AlpacaSpreads:
    """An account at the venue that trades options on one stock, or on the index that it follows.

    underlying: the stock.
    scale: of the stock's prices, for options on the index.
    feed: of the stock's prices, `iex` or `sip`.
    patience: seconds that an order may take; an order that still works then is cancelled.
    pause: waits for so many seconds.
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
        """The instant that the venue's clock shows."""
        with self._desk.translated_errors("the clock"):
            return instant_of(self._desk.client.get_clock()["timestamp"])

    def index(self) -> float:
        """The last trade of the underlying, in the index's points."""
        return self._data.index()

    def close_of(self, day: date) -> float | None:
        """The index at the close of a session, points; None where it is not known yet."""
        return self._data.close_of(day, self.now())

    def quotes(self, contracts: Iterable[Contract]) -> dict[Contract, Quote]:
        """Quotes of options; an option without one is left out.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or whose bid is above its ask.
        """
        by_symbol = {contract.symbol: contract for contract in contracts}
        quotes = {}
        for symbol, (bid, ask) in self._data.quotes(list(by_symbol)).items():
            try:
                quotes[by_symbol[symbol]] = Quote(Decimal(bid), Decimal(ask))
            except InvalidOperation:
                raise BrokerError(
                    f"quote of {symbol}: the answer makes no sense: {bid!r}, {ask!r}"
                ) from None
        return quotes

    def submit(self, order: SpreadOrder) -> SpreadFill:
        """Send an order once, and wait until it is filled, or cancelled after `patience`.

        Raises
        ------
        OrderRejected
            for an order that the venue does not take, or takes and rejects.
        OutcomeUnknown
            where nobody knows what became of it.
        """
        answer = self._desk.post(_request(order))
        for delay in poll_delays(self._patience):
            if answer["status"] in DONE:
                break
            self._pause(delay)
            answer = self._desk.refreshed(answer)
        fill = self._fill(self._desk.end(answer))
        if fill.contracts == 0 and answer["status"] == "rejected":
            raise OrderRejected(
                f"{order.client_order_id}: rejected by the venue after it was taken"
            )
        return fill

    def fate(self, client_order_id: str) -> SpreadFill | None:
        """What became of an order, which is cancelled if it still works; None for an unknown id.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        answer = self._desk.find_order(client_order_id)
        return None if answer is None else self._fill(self._desk.end(answer))

    def held(self) -> dict[Contract, int]:
        """Options in the account, contracts, below 0 where they are owed.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers nonsense.
        """
        with self._desk.translated_errors("positions"):
            rows = self._desk.client.get_all_positions()
            return {
                contract_of(str(row["symbol"])): int(number(row, "qty"))
                for row in rows
                if _is_option(str(row["symbol"]))
            }

    def _fill(self, answer: Answer) -> SpreadFill:
        """What an ended order has traded, by its legs.

        Raises
        ------
        BrokerError
            for legs that filled in different numbers: a person has to look.
        """
        name = str(answer["client_order_id"])
        answer = self._desk.with_legs(answer)
        with self._desk.translated_errors(f"order {name}"):
            legs = answer["legs"] or []
            counts = {number(leg, "filled_qty", NOTHING) for leg in legs}
            at = instant_of(answer.get("filled_at") or answer.get("updated_at"))
            # A leg that filled without the one that protects it is no spread, and what it may lose
            # has no bound.
            if len(counts) != 1:
                raise BrokerError(
                    f"{name}: its legs filled in different numbers:"
                    f" {', '.join(sorted(map(str, counts)))}"
                )
            contracts = counts.pop()
            if contracts == 0:
                return SpreadFill(name, 0, Decimal(0), at)
            credit = Decimal(0)
            for leg in legs:
                credit += number(leg, "filled_avg_price") * (1 if leg["side"] == "sell" else -1)
            return SpreadFill(name, int(contracts), credit.quantize(FINEST).normalize(), at)


def _is_option(symbol: str) -> bool:
    try:
        contract_of(symbol)
    except InputError:
        return False
    return True


def _request(order: SpreadOrder) -> dict[str, Any]:
    """The order in the venue's words."""
    limit = order.least_credit
    request: dict[str, Any] = {
        "order_class": "mleg",
        "qty": str(order.contracts),
        "type": "market" if limit is None else "limit",
        "time_in_force": "day",
        "client_order_id": order.client_order_id,
        "legs": [
            {"symbol": leg.contract.symbol, "ratio_qty": "1", "side": leg.side}
            for leg in order.legs
        ],
    }
    # The venue's price is what an order costs: a credit is below 0.
    if limit is not None:
        request["limit_price"] = f"{-limit:.2f}"
    return request
