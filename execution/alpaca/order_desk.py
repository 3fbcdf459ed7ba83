"""Orders of one account at Alpaca, from an intent to what the venue says of it.

Of an id the venue takes one order and no second, so that one whose fate is open is asked for once
more under it. Later on it is only looked for. Whoever has made sure that what the order assumes is
still so may ask for it again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np

from execution.alpaca.account import open_orders
from execution.alpaca.connection import Answer, elapsed_seconds
from execution.alpaca.fields import OrderEntry
from execution.alpaca.order_answers import (
    chain_of,
    is_done,
    progress_of,
    same_terms,
)
from execution.alpaca.order_reader import OrderReader, PriceOf, no_price
from execution.alpaca.posting import post_order
from execution.journal.intents import Intent, IntentBook, Progress
from execution.option_orders import SpreadOrder
from execution.posting import Guard, PostingDesk, unguarded
from trainingdata.feed.endpoint import BrokerSettings, Keys
from trainingdata.feed.fields import entries

log = logging.getLogger(__name__)

ORDERS_LISTED = 500  # the most that the venue lists at once
LOOKING = 20.0  # seconds that the looks for an order take together, or asking again what became
EXPIRED = np.timedelta64(1, "h")  # after the last session of an option nobody trades it any more


class OrderDesk(OrderReader, PostingDesk[Answer]):
    """Requests about orders to one venue.

    pause: waits for so many seconds.
    book: where intents are kept; none keeps them in memory, until the process ends.
    clock: seconds that only increase.
    guard: has the last word before an intent is sent.
    job: whose orders go this way.
    price_of: the price of a symbol that was seen last, USD; None for none.
    """

    venue = "alpaca"
    one_order_an_id = True

    def __init__(
        self,
        settings: BrokerSettings,
        keys: Keys,
        pause: Callable[[float], None],
        book: IntentBook | None = None,
        clock: Callable[[], float] = elapsed_seconds,
        guard: Guard = unguarded,
        job: str = "",
        price_of: PriceOf = no_price,
    ) -> None:
        OrderReader.__init__(self, settings, keys, pause, clock, price_of)
        PostingDesk.__init__(self, pause, book, guard, job)

    def adopt(self, ours: Callable[[str], bool]) -> None:
        """Write down orders that work at the venue, are ours by their id, and are not in the book.

        ours: whether an id is one of ours.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        with self.translated_errors("open orders"):
            query = {"status": "open", "limit": ORDERS_LISTED, "nested": "true"}
            for answer in entries(self.client.get("/orders", query)):
                name = OrderEntry.client_order_id.of(answer)
                if not ours(name) or self._book.get(name) is not None:
                    continue
                log.warning("%s works at the venue and is not in the book: it is now", name)
                at = self.estimated_now()
                for order in open_orders(answer, {}):
                    whole = replace(order, qty=OrderEntry.whole_qty.of(answer), reason="adopted")
                    self._book.begin(
                        Intent(whole, at, job=self._job, reason="adopted", state="working")
                    )
                    self._noted(answer)

    def refreshed(self, answer: Answer) -> Answer:
        """The order as it is now, which the book then says as well.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or answers about something else.
        """
        return self._noted(super().refreshed(answer))

    def end(self, answer: Answer) -> Answer:
        """Cancel an order if it still works, and return it as it is after that; the book says it.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        return self._noted(super().end(answer))

    def ask_again(self, client_order_id: str) -> Answer | Literal["open"] | None:
        """The `fate` of an order, which is asked for once more where the venue does not know it.

        It may trade then as if it were new, so what it assumes of the account has to be so.
        """
        return self._fate(client_order_id, again=True)

    def _looking(self) -> float:
        return LOOKING

    def _posted(self, intent: Intent, patience: float) -> Answer:
        return post_order(
            self.client,
            self._keys,
            intent,
            patience,
            self._pause,
            self.estimated_now,
            self._checked,
        )

    def _same_terms(self, intent: Intent, answer: Answer) -> bool:
        # Whoever has replaced it may have changed its terms: those it was sent with count.
        with self.translated_errors(f"order {intent.client_order_id}"):
            return same_terms(intent.order, chain_of(answer)[-1])

    def _progress(self, answer: Answer) -> tuple[str, Progress]:
        return OrderEntry.client_order_id.of(chain_of(answer)[-1]), progress_of(answer)

    def _is_done(self, answer: Answer) -> bool:
        return is_done(answer)

    def _lands_no_more(self, intent: Intent, now: np.datetime64) -> bool:
        legs = intent.order.legs if isinstance(intent.order, SpreadOrder) else ()
        expired = any(leg.contract.has_expired(now - EXPIRED) for leg in legs)
        return expired or intent.lands_no_more(now)
