"""The job that trades stocks and coins: a pass at every hourly bar, and a cut before the close."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np

from execution.alpaca.account import Unbelieved
from execution.alpaca.broker import AlpacaBroker
from execution.alpaca.connection import VenueConnection
from execution.decision import Decision
from execution.journal.decisions import Journal
from execution.journal.marks import exposure_line
from execution.live.account import LiveAccount
from execution.live.accounts import TRADE
from execution.live.bar_belief import BarBelief, histories_gone
from execution.live.closing import flattening_orders
from execution.live.cycle import Cycle, next_instant, run_cycle
from execution.live.footing import Footing
from execution.live.marking import mark_of, profit_line
from execution.live.night import NightWatch
from execution.live.resumption import resume
from execution.live.settings import LiveSettings
from execution.live.sight import sight_of
from execution.orders import Account, strategy_of
from execution.sight import Sight
from execution.trader import Trader
from execution.venue_rules import VenueRules
from foundation.errors import BrokerError, DataError
from trainingdata.bars import Bars, closes_of
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.instants import compact_text, utc_text

log = logging.getLogger("live")

DAY_AND_A_BIT = np.timedelta64(30, "h")
READINGS = 3  # of an account while something is paid in or out


class GuardedJournal:
    """Where a pass writes its decision down."""

    def __init__(self, live: LiveAccount, journal: Journal, feed: BarFeed) -> None:
        self._live = live
        self._journal = journal
        self._feed = feed
        self.written = ""

    def decided(self, at: np.datetime64) -> bool:
        """Whether an instant was decided, by a decision that was not taken back."""
        return self._journal.decided(at)

    def seen(self, decision: Decision, account: Account) -> Sight:
        """The account as it is, and the last trades of what is ordered.

        An order that is replaced is cancelled first, so it is not judged beside its successor.
        """
        ordered = {order.symbol for order in decision.orders}
        return sight_of(self._live, self._feed, account.without(decision.cancels), ordered)

    def write(self, decision: Decision, account: Account) -> str:
        """Write a decision and its orders down as one, and return its name."""
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
    footing: looked at before every pass.
    cycles: passes to make; none makes them until the loop stops.
    show: called with every pass.
    """

    def __init__(
        self,
        broker: AlpacaBroker,
        connection: VenueConnection,
        live: LiveAccount,
        footing: Footing,
        feed: BarFeed,
        trader: Trader,
        settings: LiveSettings,
        *,
        cycles: int | None,
        show: Callable[[Cycle], None],
    ) -> None:
        self._broker = broker
        self._connection = connection
        self._live = live
        self._footing = footing
        self._feed = feed
        self._trader = trader
        self._settings = settings
        self._cycles = cycles
        self._show = show
        self._journal = live.account.journal(TRADE)
        self._plan = GuardedJournal(live, self._journal, feed)
        self._rules = VenueRules(broker)
        self._passes = 0
        self._next_pass: np.datetime64 | None = None
        self._night = NightWatch(broker, live, self._journal, feed, settings, self._read_and_mark)
        self._adopted = False
        self._belief = BarBelief()
        self._decided = {row.choice.symbol for row in self._journal.last_choices()}
        last = self._journal.passes.last(ended=True)
        self._last_idle = "" if last is None else last.idle

    @property
    def name(self) -> str:
        """What it is called."""
        return TRADE

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
        look = self._night.due(now)
        return self._next_pass if look is None else min(self._next_pass, look)

    def step(self) -> None:
        """A pass, or a look at the book before the close.

        Raises
        ------
        BrokerError, DataError
            for a venue that does not answer, or bars that cannot be trusted.
        """
        looked = self._next_pass is not None and self._night.step(self._connection.now())
        if not looked:
            self.pass_now()

    def pass_now(self) -> None:
        """Look after what was sent, and decide what can be decided now.

        Raises
        ------
        BrokerError, DataError
            for a venue that does not answer, or bars that cannot be trusted.
        InputError
            for an account or a clock that the journal cannot be gone on with at.
        """
        now = self._connection.now()
        self._passes += 1
        try:
            last = self._journal.passes.last()
            self._footing.check(now, None if last is None else last.began_at)
        except BrokerError:
            self._next_pass = self._instant_after()
            raise
        number = self._journal.passes.begin(now)
        try:
            cycle = self._believed_pass()
        except (BrokerError, DataError) as error:
            self._journal.passes.end(number, self._connection.estimated_now(), failed=str(error))
            raise
        finally:
            self._next_pass = self._instant_after()
        decided = cycle.decision is not None
        self._journal.passes.end(
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

    def _believed_pass(self) -> Cycle:
        """A pass, which decides nothing on an account that nothing explains."""
        try:
            return self._pass()
        except Unbelieved as error:
            bars = self._feed.bars(error.account.as_of)
            account = error.account.with_prices(closes_of(bars))
            return Cycle(account, bars, None, (), str(error))

    def _pass(self) -> Cycle:
        """Look after what was sent, compare what is held, go on with what was decided, decide."""
        if not self._adopted:
            self._broker.adopt(self._settings.order_name)
            self._journal.end_unfollowed()
            self._adopted = True
        self._broker.follow()
        self._night.closes = self._connection.hours().next_close
        self._live.reconcile()
        account = self._read_and_mark()
        if why := self._blocked(account) or self._gone(account):
            bars = self._settings.view(self._feed.bars(account.as_of))
            bars, _ = self._belief.believed(bars, {})
            return Cycle(account.with_prices(closes_of(bars)), bars, None, (), why)
        resume(
            self._broker,
            self._journal,
            self._live.book,
            self._settings.tradable_symbols,
            lambda now, prices: sight_of(self._live, self._feed, now.with_prices(prices), prices),
        )
        cycle = run_cycle(
            self._broker,
            self._feed,
            self._trader,
            self._settings,
            send=True,
            rules=self._rules,
            time=self._connection.time,
            plan=self._plan,
            belief=self._belief,
        )
        self._tell_of_bars(
            {**self._histories_gone(cycle.bars), **self._feed.shrunk, **cycle.doubted}
        )
        if cycle.fills:
            with suppress(Unbelieved):  # it has been told, and the pass is what it did
                self._read_and_mark()
        if cycle.decision is None:
            return cycle
        return replace(cycle, unsent=self._live.book.unsent_of(self._plan.written))

    def _tell_of_bars(self, doubted: Mapping[str, str]) -> None:
        """Have a person told of symbols whose last bars are not believed."""
        if doubted:
            whys = "; ".join(f"{symbol}: {why}" for symbol, why in sorted(doubted.items()))
            self._live.notices.alert("bars", f"not traded and not read: {whys}")
        else:
            self._live.notices.end_alert("bars")

    def _blocked(self, account: Account) -> str:
        """Why nothing is decided at all; empty where something may be."""
        if self._live.account.killed:
            return f"{self._live.account.kill_file} is there"
        for halt in self._live.halts.standing():
            if halt.rule.forbids == "everything":
                return f"halted: {halt}"
        if self._settings.account.foreign == "refuse" and (names := self._foreign(account)):
            text = f"account.foreign=refuse: not ours are {', '.join(names)}"
            self._live.notices.alert("foreign", text)
            return text
        self._live.notices.end_alert("foreign")
        return ""

    def _gone(self, account: Account) -> str:
        """Why nothing is decided at the first pass on bars of which a symbol's history is gone.

        Without its forecasts the others would be given its room. What a second pass finds too is
        so, whichever process makes it.
        """
        if self._passes > 1:
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

    def _foreign(self, account: Account) -> list[str]:
        """Positions and orders that are not ours."""
        ours = self._settings.tradable_symbols
        held = {symbol for symbol, quantity in account.positions.items() if quantity}
        names = sorted(held - ours)
        for order in account.open_orders:
            if strategy_of(order.client_order_id) != self._settings.order_name:
                names.append(f"order {order.client_order_id}")
        return names

    def finish(self, *, flatten: bool) -> list[str]:
        """Cancel what works, and where it is to, close what is held, before the loop ends.

        Returns what of ours was to be closed and is held all the same.

        Raises
        ------
        BrokerError
            for a venue that does not answer; what works there goes on working.
        """
        self._live.closing = flatten
        self._broker.follow()
        working = self._live.book.in_states(("working",))
        names = [intent.client_order_id for intent in working if intent.job == TRADE]
        if names:
            log.warning("cancelling %s", " ".join(names))
            self._broker.cancel(names)
        if not flatten:
            return []
        account = self._broker.account()
        orders = flattening_orders(
            account,
            self._settings.order_name,
            self._settings.tradable_symbols,
            self._settings.orders,
        )
        name = f"{TRADE}-flat-{compact_text(account.as_of)}"
        self._night.send(orders, account, name)
        left = self._broker.account().positions
        ours = sorted(self._settings.tradable_symbols)
        return [f"{left[symbol]:f} {symbol}" for symbol in ours if left.get(symbol)]

    def _read_and_mark(self) -> Account:
        """The account, and what was paid in and out by then, written down as what it is worth.

        What was paid in between the two would count as profit, what was taken out as a loss.
        """
        for _ in range(READINGS):
            before = self._live.flows()
            account = self._broker.account()
            self._live.read_activities()
            if self._live.flows() == before:
                break
        self._mark(account)
        return account

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
