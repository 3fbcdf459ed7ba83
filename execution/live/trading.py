"""The job that trades stocks and coins: a pass at every hourly bar, and a cut before the close."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.broker import Broker, place
from execution.decision import Decision
from execution.live.account import LiveAccount
from execution.live.closing import (
    LOOKS,
    close_of_day,
    flattening_orders,
    is_over_the_ceiling,
    looks_before_close,
    night_cuts,
)
from execution.live.cycle import Cycle, next_instant, run_cycle
from execution.live.exposure import Sight
from execution.live.journal import Journal
from execution.live.marking import exposure_line, is_stock, mark_of, profit_line
from execution.live.resumption import resume
from execution.live.settings import LiveSettings
from execution.live.style import WorkedOrders
from execution.orders import Account, strategy_of
from execution.trader import Trader
from execution.venue_rules import VenueRules
from foundation.errors import BrokerError, DataError
from trainingdata.bars import closes_of
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import compact_text, utc_text

log = logging.getLogger("live")

NAME = "trade"
DAY_AND_A_BIT = np.timedelta64(30, "h")


class GuardedJournal:
    """Where a pass writes its decision down, and has the guards look at the account first."""

    def __init__(self, live: LiveAccount, journal: Journal, feed: BarFeed) -> None:
        self._live = live
        self._journal = journal
        self._feed = feed
        self.written = ""

    def decided(self, at: np.datetime64) -> bool:
        """Whether an instant was decided, by a decision that was not taken back."""
        return self._journal.decided(at)

    def write(self, decision: Decision, account: Account) -> str:
        """Write a decision and its orders down as one, and return its name."""
        ordered = {order.symbol for order in decision.orders}
        # An order that is replaced is cancelled first, so it is not judged beside its successor.
        have_seen(self._live, self._feed, account.without(decision.cancels), ordered)
        self.written = self._journal.write(decision, account)
        return self.written

    def end(self, name: str, why: str, *, taken_back: bool = False) -> None:
        """Withhold whatever of a decision was not sent."""
        self._journal.end(name, why, taken_back=taken_back)


class TradingJob:
    """Passes of one trader on one account.

    broker: of the account, with its book and its guards.
    connection: to its venue.
    live: what is written down and guarded.
    cycles: passes to make; none makes them until the loop stops.
    show: called with every pass.
    pause: waits for so many seconds.
    """

    def __init__(
        self,
        broker: AlpacaBroker,
        connection: VenueConnection,
        live: LiveAccount,
        feed: BarFeed,
        trader: Trader,
        settings: LiveSettings,
        *,
        cycles: int | None,
        show: Callable[[Cycle], None],
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._broker = broker
        self._connection = connection
        self._live = live
        self._feed = feed
        self._trader = trader
        self._settings = settings
        self._cycles = cycles
        self._show = show
        self._pause = pause
        self._journal = live.journal(NAME)
        self._plan = GuardedJournal(live, self._journal, feed)
        self._orders: Broker = broker
        if settings.style.type == "limit":
            self._orders = WorkedOrders(broker, live.book, feed.last_trades, settings.style)
        self._rules = VenueRules(broker)
        self._passes = 0
        self._next_pass: np.datetime64 | None = None
        self._looked_until: np.datetime64 = np.datetime64("1970-01-01", "ns")
        self._closes: np.datetime64 | None = None
        self._adopted = False

    @property
    def name(self) -> str:
        """What it is called."""
        return NAME

    @property
    def ended(self) -> bool:
        """Whether all its passes were made."""
        return self._passes == self._cycles

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next pass, or the next look before the close; None once all passes were made."""
        if self.ended:
            return None
        if self._next_pass is None:
            return now
        looks = self._looks(now)
        return min(self._next_pass, looks[0]) if looks else self._next_pass

    def _looks(self, now: np.datetime64) -> list[np.datetime64]:
        """Instants before the next close at which the book is still to be looked at."""
        closes = close_of_day(now, self._closes)
        stocks = any(is_stock(symbol) for symbol in self._settings.symbols)
        if not stocks or closes is None or now >= closes:
            return []
        return looks_before_close(self._looked_until, closes)

    def step(self) -> None:
        """A pass, or a look at the book before the close.

        Raises
        ------
        BrokerError, DataError
            for a venue that does not answer, or bars that cannot be trusted.
        """
        now = self._connection.now()
        due = [look for look in self._looks(now) if look <= now]
        if self._next_pass is not None and due:
            self._looked_until = due[-1]
            self._look_before_close(due[-1])
        else:
            self.pass_now()

    def pass_now(self) -> None:
        """Look after what was sent, and decide what can be decided now.

        Raises
        ------
        BrokerError, DataError
            for a venue that does not answer, or bars that cannot be trusted.
        """
        now = self._connection.now()
        self._passes += 1
        number = self._journal.begin_cycle(now)
        try:
            cycle = self._pass()
        except (BrokerError, DataError) as error:
            self._journal.end_cycle(number, self._connection.estimated_now(), failed=str(error))
            raise
        finally:
            self._next_pass = self._instant_after()
        decided = cycle.decision is not None
        self._journal.end_cycle(
            number,
            self._connection.estimated_now(),
            decision=self._plan.written if decided else "",
            fills=len(cycle.fills),
            idle="" if decided else cycle.idle,
        )
        self._show(cycle)

    def _instant_after(self) -> np.datetime64 | None:
        """The next instant at which anything may decide; none before the venue has said its time.

        The next try comes at once then.
        """
        try:
            return next_instant(self._connection.known_now(), self._settings.symbols)
        except BrokerError:
            return None

    def _pass(self) -> Cycle:
        """Look after what was sent, compare what is held, go on with what was decided, decide."""
        if not self._adopted:
            self._broker.adopt(self._settings.order_name)
            self._adopted = True
        self._broker.follow()
        account = self._broker.account()
        self._closes = self._connection.hours().next_close
        agrees = self._live.reconcile()
        self._mark(account)
        if why := self._blocked(account, agrees):
            bars = self._feed.bars(account.as_of)
            return Cycle(account.with_prices(closes_of(bars)), bars, None, (), why)
        for decision in self._journal.unfinished():
            have_seen(self._live, self._feed, account.with_prices(decision.prices), decision.prices)
        resume(self._orders, self._journal, self._live.book)
        cycle = run_cycle(
            self._orders,
            self._feed,
            self._trader,
            self._settings,
            send=True,
            rules=self._rules,
            pause=self._pause,
            plan=self._plan,
        )
        if cycle.fills:
            self._mark(self._broker.account())
        return cycle

    def _blocked(self, account: Account, agrees: bool) -> str:
        """Why nothing is decided at all; empty where something may be."""
        if self._live.killed:
            return f"{self._live.kill_file} is there"
        if not agrees:
            return "the account holds something else than what is written down"
        for halt in self._live.halts.standing():
            if halt.rule.forbids == "everything":
                return f"halted: {halt}"
        if self._settings.account.foreign == "refuse" and (names := self._foreign(account)):
            text = f"account.foreign=refuse: not ours are {', '.join(names)}"
            self._live.notices.alert("foreign", text)
            return text
        self._live.notices.end_alert("foreign")
        return ""

    def _foreign(self, account: Account) -> list[str]:
        """Positions and orders that are not ours."""
        ours = self._settings.tradable_symbols
        held = {symbol for symbol, quantity in account.positions.items() if quantity}
        names = sorted(held - ours)
        for order in account.open_orders:
            if strategy_of(order.client_order_id) != self._settings.order_name:
                names.append(f"order {order.client_order_id}")
        return names

    def _look_before_close(self, look: np.datetime64) -> None:
        """Cut what is above the night's ceiling, and at the last look say where it still is."""
        closes = close_of_day(look, self._closes)
        if closes is None:
            return
        attempt = LOOKS.index(closes - look)
        self._broker.follow()
        account = self._cancelled_before(closes, attempt)
        self._mark(account)
        orders = night_cuts(
            account,
            self._settings.limits,
            self._settings.order_name,
            closes,
            attempt,
            self._settings.tradable_symbols,
        )
        if not orders:
            self._live.notices.end_alert("overnight")
            log.info("%s: the book is under the night's ceiling", utc_text(look))
            return
        orders = tuple(replace(order, expires_at=closes) for order in orders)
        have_seen(self._live, self._feed, account, {order.symbol for order in orders})
        name = f"{NAME}-night-{compact_text(closes)}-{attempt}"
        self._journal.write_orders(name, orders, account.as_of)
        for order in orders:
            log.warning("%s: %s %s: %s", name, order.side, order.qty, order.reason)
        try:
            place(self._broker, orders)
        finally:
            self._journal.end(name, "it was not sent")
        if attempt == len(LOOKS) - 1:
            self._verify_night()

    def _cancelled_before(self, closes: np.datetime64, attempt: int) -> Account:
        """The account once what earlier looks left working was cancelled."""
        account = self._broker.account()
        if attempt:
            ours = [
                order.client_order_id
                for order in account.open_orders
                if strategy_of(order.client_order_id) == self._settings.order_name
                and is_stock(order.symbol)
            ]
            if ours:
                self._broker.cancel(ours)
                account = self._broker.account()
        return account

    def finish(self, *, flatten: bool) -> None:
        """Cancel what works, and where it is to, close what is held, before the loop ends.

        Raises
        ------
        BrokerError
            for a venue that does not answer; what works there goes on working.
        """
        self._broker.follow()
        working = self._live.book.in_states(("working",))
        names = [intent.client_order_id for intent in working if intent.job == NAME]
        if names:
            log.warning("cancelling %s", " ".join(names))
            self._broker.cancel(names)
        if not flatten:
            return
        account = self._broker.account()
        orders = flattening_orders(
            account, self._settings.order_name, self._settings.tradable_symbols
        )
        have_seen(self._live, self._feed, account, {order.symbol for order in orders})
        name = f"{NAME}-flat-{compact_text(account.as_of)}"
        self._journal.write_orders(name, orders, account.as_of)
        try:
            place(self._broker, orders)
        finally:
            self._journal.end(name, "it was not sent")

    def _verify_night(self) -> None:
        account = self._broker.account()
        if is_over_the_ceiling(account, self._settings.limits):
            text = "the book is above the night's ceiling two minutes before the close"
            self._live.notices.alert("overnight", f"{text}; the broker may sell of it")

    def _mark(self, account: Account) -> None:
        """Write down what the account is worth, in the words that operators search for."""
        # The last one may be of before a weekend: what was paid in since is no profit.
        last = self._journal.last_mark()
        since = account.as_of - DAY_AND_A_BIT
        marks = self._journal.marks(since if last is None else min(last.at, since))
        before = [mark for mark in marks if mark.at < account.as_of]
        flows = self._live.flows() - self._journal.flows_before(account.as_of)
        mark = mark_of(account, self._settings.limits, flows)
        self._live.mark(self._journal, mark)
        log.info("%s %s", utc_text(mark.at), exposure_line(mark))
        log.info("%s %s", utc_text(mark.at), profit_line([*before, mark]))


def have_seen(live: LiveAccount, feed: BarFeed, account: Account, symbols: Iterable[str]) -> None:
    """Have the guards judge orders of some symbols by the account as it is."""
    names = sorted(set(symbols))
    trades = feed.last_trades(names) if names else {}
    live.guards.see(Sight(account, trades, live.at_risk()))
