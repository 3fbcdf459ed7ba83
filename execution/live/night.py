"""The looks at the book before a close: what is above the night's ceiling is cut, never twice."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np

from execution.alpaca.account import Unbelieved
from execution.alpaca.broker import AlpacaBroker
from execution.broker import place_each
from execution.journal.decisions import Journal
from execution.journal.intents import UNDETERMINED, Part
from execution.live.account import LiveAccount
from execution.live.closing import (
    LOOKS,
    close_of_day,
    is_over_the_ceiling,
    looks_before_close,
    night_cuts,
    with_reductions,
)
from execution.live.marking import is_stock
from execution.live.settings import LiveSettings
from execution.live.sight import have_seen
from execution.orders import Account, Order, strategy_of
from foundation.errors import BrokerError
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import utc_text

log = logging.getLogger("live")

RETRY = np.timedelta64(15, "s")  # until a look that failed is made again
NOTHING_YET = np.datetime64("1970-01-01", "ns")


class NightWatch:
    """Looks at one account's book ten, six and two minutes before each close.

    A cut of which nobody knows what became of it counts as done, and is asked for again under its
    own id: another one beside it could sell the same shares twice. So does what a decision was to
    take off, until the last look: from then on it counts as held, and other shares are cut for it.

    broker: of the account, with its book and its guards.
    live: what is written down and guarded.
    journal: of the job that cuts; job: its name.
    read: reads the account, and writes down what it is worth.
    """

    def __init__(
        self,
        broker: AlpacaBroker,
        live: LiveAccount,
        journal: Journal,
        job: str,
        feed: BarFeed,
        settings: LiveSettings,
        read: Callable[[], Account],
    ) -> None:
        self._broker = broker
        self._live = live
        self._journal = journal
        self._job = job
        self._feed = feed
        self._settings = settings
        self._read = read
        self._looked_until: np.datetime64 = NOTHING_YET
        self._not_before: np.datetime64 = NOTHING_YET
        self.closes: np.datetime64 | None = None  # the venue's next close, where it names one

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next look of the session of an instant, which may have come; none without one."""
        looks = self._looks(now)
        return max(looks[0], self._not_before) if looks else None

    def _looks(self, now: np.datetime64) -> list[np.datetime64]:
        closes = close_of_day(now, self.closes)
        stocks = any(is_stock(symbol) for symbol in self._settings.symbols)
        if not stocks or closes is None or now >= closes:
            return []
        return looks_before_close(self._looked_until, closes)

    def step(self, now: np.datetime64) -> bool:
        """Look, where that is due at an instant; whether it was.

        A look that fails is made again.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        due = [look for look in self._looks(now) if look <= now]
        if not due or now < self._not_before:
            return False
        self._not_before = now + RETRY
        try:
            self._look(due[-1])
        except Unbelieved as error:
            # It is a halt, beside which nothing is sent.
            log.warning("%s: nothing is cut: %s", utc_text(due[-1]), error)
        except BrokerError as error:
            self._live.notices.alert("overnight", f"a look before the close failed: {error}")
            raise
        self._looked_until = due[-1]
        self._not_before = NOTHING_YET
        return True

    def _look(self, look: np.datetime64) -> None:
        """Cut what is above the night's ceiling, and at the last look say where it still is."""
        closes = close_of_day(look, self.closes)
        if closes is None:
            return
        attempt = LOOKS.index(closes - look)
        self._ask_again(closes)
        self._broker.follow()
        self._cancel_what_works(cuts_alone=not attempt)
        account = self._read()
        if not is_over_the_ceiling(account, self._settings.limits):
            self._live.notices.end_alert("overnight")
            log.info("%s: the book is under the night's ceiling", utc_text(look))
            return
        number = self._journal.next_night(closes)
        last = attempt == len(LOOKS) - 1
        done = self._on_their_way(*(("night",) if last else ("night", "reduction")))
        orders = night_cuts(
            with_reductions(account, done),
            self._settings.limits,
            self._settings.order_name,
            closes,
            number,
            self._settings.tradable_symbols
            - self._in_somebodys_way(account)
            - self._live.halts.set_aside(),
            at_limit=not attempt,
            uncertain=self._on_their_way("reduction") if last else {},
        )
        if orders:
            self._send(orders, account, closes, number)
        if last:
            self._verify()

    def _send(
        self, cuts: Sequence[Order], account: Account, closes: np.datetime64, number: int
    ) -> None:
        """Write cuts down, and send them."""
        orders = tuple(replace(order, expires_at=closes) for order in cuts)
        symbols = {order.symbol for order in orders}
        have_seen(self._live, self._feed, account, symbols, needed=False)
        name = self._journal.night_name(closes, number)
        self._journal.write_orders(name, orders, account.as_of)
        for order in orders:
            log.warning("%s: %s %s: %s", name, order.side, order.qty, order.reason)
        try:
            place_each(self._broker, orders)
        finally:
            self._journal.end(name, "it was not sent")

    def _of_unknown_fate(self, *parts: Part) -> list[Order]:
        """Orders of ours that may be on their way."""
        intents = self._live.book.in_states(UNDETERMINED)
        ours = [each for each in intents if each.job == self._job and each.part in parts]
        return [intent.single for intent in ours]

    def _ask_again(self, closes: np.datetime64) -> None:
        """Have earlier cuts of unknown fate taken under their own ids, or known not to be."""
        cuts = [cut for cut in self._of_unknown_fate("night") if cut.expires_at == closes]
        if not cuts:
            return
        symbols = {cut.symbol for cut in cuts}
        have_seen(self._live, self._feed, self._broker.account(), symbols, needed=False)
        try:
            place_each(self._broker, cuts)
        except BrokerError as error:
            log.warning("%s", error)

    def _in_somebodys_way(self, account: Account) -> set[str]:
        """Symbols whose cut would trade with an open order of somebody else's in the account.

        The venue refuses such a cut as a wash trade: what can be cut has to make up for it.
        """
        return {
            order.symbol
            for order in account.open_orders
            if strategy_of(order.client_order_id) != self._settings.order_name
            and order.signed_qty * account.positions.get(order.symbol, Decimal(0)) > 0
        }

    def _on_their_way(self, *parts: Part) -> Mapping[str, Decimal]:
        """What orders of unknown fate may yet take off each position, signed."""
        changes: dict[str, Decimal] = {}
        for order in self._of_unknown_fate(*parts):
            changes[order.symbol] = changes.get(order.symbol, Decimal(0)) + order.signed_qty
        return changes

    def _cancel_what_works(self, *, cuts_alone: bool) -> None:
        """Cancel what earlier looks have left working in stocks, and what decisions have."""
        working = self._live.book.in_states(("working",))
        names = [each.client_order_id for each in working if each.part == "night"]
        if not cuts_alone:
            names = [
                order.client_order_id
                for order in self._broker.account().open_orders
                if strategy_of(order.client_order_id) == self._settings.order_name
                and is_stock(order.symbol)
            ]
        if names:
            self._broker.cancel(names)

    def _verify(self) -> None:
        if is_over_the_ceiling(self._broker.account(), self._settings.limits):
            text = "the book is above the night's ceiling two minutes before the close"
            self._live.notices.alert("overnight", f"{text}; the broker may sell of it")
