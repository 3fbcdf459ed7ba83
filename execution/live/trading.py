"""The job that trades stocks and coins: a cycle at every bar, and a cut before the close.

What a daily decision orders for the next auction is planned, and sent by a cycle of its own once
the venue takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np

from execution.brokers import Unbelieved
from execution.decision.trader import Trader
from execution.journal.decisions import Journal
from execution.journal.events import UNDECIDED
from execution.journal.order_store import WAITING
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE
from execution.live.belief import BarBelief, histories_gone
from execution.live.cycle import NOT_REDUCED, Cycle, Look, decided_cycle, idle_cycle, next_instant
from execution.live.guards import why_stopped
from execution.live.night import NightWatch, flattening_orders
from execution.live.resumption import resume
from execution.live.settings import LiveSettings
from execution.live.undecided import undecided_reasons
from execution.orders.auctions import next_sending, sending_end, sent_until, taken_from
from execution.orders.broker import Broker, place
from execution.orders.orders import Account, Order
from execution.orders.venue_rules import VenueRules
from foundation.errors import AccountChanged, BrokerError, DataError
from trainingdata.bars import Bars, closes_of
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import compact_text
from trainingdata.instruments import Kind, is_stock

log = logging.getLogger("live")

# Until a day's cycle that failed is made again, and what could not be sent for an auction is: it
# takes orders of a decision for a night, or for minutes.
RETRY = {"open": np.timedelta64(15, "m"), "close": np.timedelta64(1, "m")}


class TradingJob:
    """Cycles of one trader on one account.

    live: what is written down, believed and guarded.
    cycles: how many to make; none makes them until the loop stops.
    show: called with every cycle.
    patience: seconds that orders may take.
    """

    name = TRADE

    def __init__(
        self,
        live: LiveAccount,
        feed: BarFeed,
        trader: Trader,
        settings: LiveSettings,
        *,
        cycles: int | None,
        show: Callable[[Cycle], None],
        patience: float = 10.0,
    ) -> None:
        self._live = live
        self._connection = live.connection
        self.broker = live.connection.broker(
            terms=settings.orders,
            patience=patience,
            book=live.book,
            guard=live.guards,
            job=TRADE,
            collateral=lambda: sum(live.at_risk().values()),
            last_prices=live.last_prices,
            believe=live.believe,
        )
        self._feed = feed
        self._trader = trader
        self._settings = settings
        self._cycles = cycles
        self._show = show
        self._journal = live.account.journal(TRADE)
        self._rules = VenueRules(self.broker)
        self._made = 0
        self._next_cycle: np.datetime64 | None = None
        self._next_sending: np.datetime64 | None = None
        self._night = NightWatch(self.broker, live, self._journal, settings)
        self._followed = False
        self._belief = BarBelief()
        self._decided = {row.choice.symbol for row in self._journal.last_choices()}
        last = self._journal.cycles.last(ended=True)
        self._last_idle = "" if last is None else last.idle

    @property
    def ended(self) -> bool:
        """Whether all its cycles were made, and nothing that they planned is to be sent."""
        return self._made == self._cycles and self._next_sending is None

    def due(self, now: np.datetime64) -> np.datetime64 | None:
        """The next cycle, or look before the close, or sending; None once all cycles were made."""
        if self._made == self._cycles:
            return self._next_sending
        if self._next_cycle is None:
            return now
        instants = (self._next_cycle, self._night.due(now), self._next_sending)
        return min(each for each in instants if each is not None)

    def step(self) -> None:
        """A cycle, or a look at the book before the close."""
        now = self._connection.now()
        if self._next_cycle is not None and self._night.step(now):
            return
        if self._next_cycle is not None and now < self._next_cycle:
            self._made -= 1  # one that is there to send counts as none
        self.cycle_now()

    def cycle_now(self) -> None:
        """Look after what was sent, and decide what can be decided now."""
        now = self._connection.now()
        self._made += 1
        done = False
        try:
            if self._settings.broker.on_this_machine:
                self._live.refuse_another_account()
            number = self._journal.cycles.begin(now)
            with self._failure_noted(number):
                try:
                    cycle = self._cycle()
                except Unbelieved as error:
                    bars = self._feed.bars(error.account.as_of)
                    account = error.account.with_prices(closes_of(bars))
                    cycle = Cycle(account, bars, None, idle=str(error))
            done = not self._waits_for_bars(cycle)
        finally:
            # Whoever moves a practice server's clock does so once the cycle has ended.
            self._next_cycle = self._instant_after(done=done)
            self._next_sending = self._sending_after()
        account = cycle.account
        self._live.book.refusals.report_account(account.blocked, account.as_of)
        self._note_undecided(undecided_reasons(cycle, self._settings))
        self._journal.cycles.end(
            number,
            self._connection.estimated_now(),
            decision=cycle.name,
            fills=len(cycle.fills),
            idle=cycle.idle,
        )
        self._show(cycle)

    @contextmanager
    def _failure_noted(self, number: int) -> Iterator[None]:
        """Write down what a cycle fails by."""
        try:
            yield
        except (BrokerError, DataError) as error:
            self._journal.cycles.end(number, self._connection.estimated_now(), failed=str(error))
            raise

    def _instant_after(self, *, done: bool) -> np.datetime64 | None:
        """The next instant at which anything may decide; none before the venue has said its time.

        The next try comes at once then.

        done: whether the cycle before did what it was for. Another one of the same day comes where
            it did not: there is time until the auction.
        """
        timeframe = self._settings.named_timeframe
        try:
            now = self._connection.known_now()
            following = next_instant(now, self._settings.symbols, timeframe)
        except BrokerError:
            return None
        retried = now + RETRY[timeframe.fill]
        return min(following, retried) if timeframe.daily and not done else following

    def _waits_for_bars(self, cycle: Cycle) -> bool:
        """Whether the day of stocks that has ended is not listed yet, of none of them."""
        timeframe, now = self._settings.named_timeframe, cycle.account.as_of
        auction = timeframe.auction
        if auction is None or not any(map(is_stock, self._settings.symbols)):
            return False
        ended = timeframe.last_known(Kind.STOCK, now)
        return bool(cycle.bars.now < ended and now < sending_end(auction, ended))

    def _sending_after(self) -> np.datetime64 | None:
        """When what is planned for an auction is sent, tried again or given up."""
        planned = [
            intent.single
            for decision in self._journal.unfinished()
            for intent in self._live.book.of_decision(decision.name)
            if intent.state in WAITING and intent.state != "working"
        ]
        try:
            retry = RETRY[self._settings.fill]
            return next_sending(planned, self._connection.known_now(), retry)
        except BrokerError:
            return self._next_sending

    def _cycle(self) -> Cycle:
        """Follow what was sent, compare and mark what is held, go on with what was decided, decide.

        The order is that of OPERATIONS, "What a cycle does".
        """
        self._follow()
        self._night.closes = self._connection.next_close()
        self._live.reconcile()
        account = self._live.read_and_mark(self.broker.account)
        stopped = why_stopped(self._live.halts, self._live.account.kill_file)
        if why := stopped or self._gone(account):
            bars = self._settings.data.market(self._feed.bars(account.as_of)).view()
            return idle_cycle(account, bars, why, self._belief)
        ours = self._settings.tradable_symbols
        resumed = resume(self.broker, self._journal, self._live.book, ours, self._live.snapshot)
        cycle = sent_cycle(
            self._decide,
            self.broker,
            self._journal,
            self._live.snapshot,
            self._settings.decision_seconds,
        )
        self._tell_of_bars(
            {**self._histories_gone(cycle.bars), **self._feed.shrunk, **cycle.doubted}
        )
        if resumed or cycle.fills:
            with suppress(Unbelieved):  # it has been told, and the cycle is what it did
                self._live.read_and_mark(self.broker.account)
        return replace(cycle, unsent=self._live.book.unsent_of(cycle.name)) if cycle.name else cycle

    def _follow(self) -> None:
        """Write down what became of what was sent, by whichever process."""
        if not self._followed:
            self._journal.end_unfollowed()
            self._followed = True
        self.broker.follow()

    def _decide(self) -> Cycle:
        return decided_cycle(
            self.broker,
            self._feed,
            self._trader,
            self._settings,
            rules=self._rules,
            time=self._connection.time,
            belief=self._belief,
            decided=self._journal.decided,
            again=self._compared_account,
        )

    def _compared_account(self) -> Account:
        """The account, whose holdings are compared once more first."""
        self._live.reconcile()
        return self.broker.account()

    def _note_undecided(self, reasons: Mapping[str, str]) -> None:
        """Record why symbols are not decided, if it differs from the last record."""
        events = self._live.account.events
        if reasons != events.last_undecided(TRADE):
            events.append(UNDECIDED, TRADE, dict(reasons))

    def _tell_of_bars(self, doubted: Mapping[str, str]) -> None:
        """Have a person told of symbols whose last bars are not believed."""
        whys = "; ".join(f"{symbol}: {why}" for symbol, why in sorted(doubted.items()))
        self._live.notices.tell("bars", f"not traded and not read: {whys}" if whys else "")

    def _gone(self, account: Account) -> str:
        """Why nothing is decided at the first cycle on bars of which a symbol's history is gone.

        Without its forecasts the others would be given its room. What a second cycle finds too is
        so, whichever process makes it.
        """
        if self._made > 1:
            return ""
        gone = self._histories_gone(self._feed.bars(account.as_of))
        why = "; ".join(f"{symbol}: {why}" for symbol, why in gone.items())
        if not why or why == self._last_idle:
            return ""
        self._tell_of_bars(gone)
        return why

    def _histories_gone(self, bars: Bars) -> dict[str, str]:
        ours = self._decided & self._settings.tradable_symbols
        return histories_gone(bars, ours, self._settings.forecaster.own_bars)

    def finish(self, *, flatten: bool) -> list[str]:
        self.broker.follow()
        stuck, troubles = self._cancel_ours()
        left: list[str] = []
        if flatten:
            try:
                self._live.reconcile()
            except BrokerError as error:
                log.warning("what is held is not compared before it is closed: %s", error)
            account = self.broker.account()
            account = replace(account, positions=self._live.ours_of(account.positions))
            # What an order that works on may still trade is not sold a second time.
            orders = flattening_orders(
                account,
                self._settings.order_name,
                self._settings.tradable_symbols - stuck,
                self._settings.orders,
            )
            name = f"{TRADE}-flat-{compact_text(account.as_of)}"
            self._night.send(orders, account, name)
            # What has no price is held too, and was not closed.
            held = self._connection.held()
            ours = sorted(self._settings.tradable_symbols & {*held})
            left = [f"{held[symbol].quantity:f} {symbol}" for symbol in ours]
        if troubles:
            held_on = f"; NOT closed: {', '.join(left)}" if left else ""
            raise BrokerError(f"{'; '.join(troubles)}{held_on}")
        return left

    def _cancel_ours(self) -> tuple[set[str], list[str]]:
        """Cancel what works; symbols of what does not end, and why, an order each."""
        stuck, troubles = set(), []
        for intent in self._live.book.in_states(("working",)):
            if intent.job != TRADE or not isinstance(intent.order, Order):
                continue
            log.warning("cancelling %s", intent.client_order_id)
            try:
                self.broker.cancel([intent.client_order_id])
            except BrokerError as error:
                stuck.add(intent.order.symbol)
                troubles.append(str(error))
        return stuck, troubles


def sent_cycle(
    decide: Callable[[], Cycle],
    broker: Broker,
    journal: Journal,
    look: Look,
    seconds: float,
    *,
    again: bool = True,
) -> Cycle:
    """Decide, write the decision down, and send its orders.

    seconds: for which an order may be sent.
    again: whether it decides once more, where an order that is replaced fills meanwhile.
    """
    cycle = decide()
    if cycle.decision is None:
        return cycle
    account = cycle.account
    life = np.timedelta64(round(seconds * 1000), "ms")
    orders = [
        replace(order, expires_at=sent_until(order, cycle.decision.at, account.as_of, life))
        for order in cycle.decision.orders
    ]
    planned = [order for order in orders if taken_from(order, account.as_of) > account.as_of]
    decision = replace(cycle.decision, orders=tuple(orders))
    # An order that is replaced is cancelled first, so it is not judged beside its successor.
    seen = look(account.without(decision.cancels), {order.symbol for order in orders})
    name = journal.write(decision, account)
    try:
        sent = [order for order in orders if order not in planned]
        fills = place(broker, sent, decision.cancelled, seen)
    except AccountChanged as error:
        journal.end(name, str(error), taken_back=True)
        if not again:
            raise
        log.warning("%s; deciding once more", error)
        return sent_cycle(decide, broker, journal, look, seconds, again=False)
    except BrokerError as error:
        journal.end(name, str(error))
        raise
    if not planned:
        journal.end(name, NOT_REDUCED)
    return replace(cycle, fills=tuple(fills), name=name, planned=tuple(planned))
