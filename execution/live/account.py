"""One account at a venue as a process works on it: what is written down, guarded and told.

All jobs of the process share it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.account_lock import KILL_FILE, is_there
from execution.alpaca.account import MOST_LENT, Reading, Unbelieved
from execution.alpaca.activities import EXACT, FILL, Activity, activities_since, raw_holdings
from execution.alpaca.broker import BETWEEN_READINGS
from execution.alpaca.connection import VenueConnection
from execution.journal.decisions import Journal
from execution.journal.events import EventLog
from execution.journal.halts import HALT_RULES, HaltChanges, HaltKind, Halts
from execution.journal.intents import IntentBook
from execution.journal.marks import AccountMark
from execution.journal.notices import NoticeBook
from execution.live.bar_belief import LARGEST_GAP
from execution.live.cash import CashReading, room_of, why_unexplained
from execution.live.differences import NONE, Difference, line_of, plain
from execution.live.guards import Guards
from execution.live.holdings import OVERLAP, HoldingsBook
from execution.live.listed_prices import odd_prices
from execution.live.losses import write_mark
from execution.live.settings import LiveSettings
from execution.orders import coin_bids
from foundation.database import Database
from foundation.errors import BrokerError, SenselessAnswer
from foundation.notices import Notices
from trainingdata.feed.endpoint import Keys
from trainingdata.instants import utc_text
from trainingdata.sessions import in_session

log = logging.getLogger(__name__)

READINGS = 3  # of holdings and activities that do not go together, before that is a halt
ALL_TIME = np.datetime64("1970-01-01", "ns")


class LiveAccount:
    """The books, the guards and the halts of one account.

    connection: to its venue.
    database: its journal, whose lock this process holds.
    notices: told of whatever needs a person.
    folder: of the journal, where the kill file would be.
    pause: waits for so many seconds.
    """

    def __init__(
        self,
        connection: VenueConnection,
        database: Database,
        settings: LiveSettings,
        keys: Keys,
        notices: Notices,
        folder: Path,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._pause = pause
        self.notices = notices
        self._database = database
        self.events = EventLog(database, keys.redact, connection.estimated_now)
        self.book = IntentBook(database, self.events)
        self.halts = Halts(database, self.events)
        self.at_risk: Callable[[], Mapping[str, float]] = dict
        self.kill_file = folder / KILL_FILE
        self.guards = Guards(settings.guards, self.halts, self.book, self.kill_file)
        self._holdings = HoldingsBook(database, self.events)
        self._redact = keys.redact
        self._read_at: np.datetime64 = ALL_TIME
        self._readings = 0  # before, at that instant
        self._equity: Decimal | None = None  # USD, of the last reading that was believed
        self._marks: Mapping[str, float] = {}  # USD by symbol, of that reading
        self.closing = False  # told to close everything, it asks for no more words
        notices.keep_in(NoticeBook(database, keys.redact, connection.estimated_now))
        self._taker_fee = Decimal(repr(settings.fees.crypto_taker))

    def journal(self, job: str) -> Journal:
        """What a job writes down."""
        return Journal(self._database, self.events, self.book, job)

    @property
    def killed(self) -> bool:
        """Whether somebody has put the kill file there."""
        return is_there(self.kill_file)

    def halt(self, kind: HaltKind, why: str, *, cause: str = "") -> None:
        """Raise a halt, and tell somebody.

        cause: as for `Halts.raise_halt`.
        """
        at = self._connection.estimated_now()
        self._tell_of_halt(kind, why, new=self.halts.raise_halt(kind, why, at, cause=cause))

    def _tell_of_halt(self, kind: HaltKind, why: str, *, new: bool) -> None:
        """Alert of a halt once; new: whether none of its kind stood, which ends earlier alerts."""
        if new:
            self.notices.end_alert(f"halt {kind}")
        self.notices.alert(f"halt {kind}", f"halted: {why}. {HALT_RULES[kind].remedy}")

    def reconcile(self) -> bool:
        """Whether the account holds what is written down; where it does not, that is a halt.

        Once a person has looked at the difference and cleared the halt, what is held then counts.
        That holds once, and for the difference that the halt was raised for: another one halts
        again, and so does the same after all has agreed.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        if not self._holdings.begun:
            self._begin()
            return True
        differences: Mapping[str, Difference] = {}
        for reading in range(READINGS):
            if reading:
                self._pause(BETWEEN_READINGS)
            self.read_activities()
            held = raw_holdings(self._connection)
            differences = self._holdings.differences(held, self._taker_fee)
            if differences and self._holdings.admit_earlier(differences):
                differences = self._holdings.differences(held, self._taker_fee)
            if not differences:
                self._use_clearing()
                self._end_explained_halt()
                return True
        line = line_of(differences)
        cause = _surplus(differences)
        if self.halts.cleared_cause("positions") == cause:
            log.warning("somebody has looked at it, and it is the ground from now on: %s", line)
            self._begin()
            self._use_clearing()
            return True
        self.halt("positions", line, cause=cause)
        return False

    def _end_explained_halt(self) -> None:
        """End the halt whose whole difference the venue has listed since, late."""
        standing = self.halts.standing_cause("positions")
        if standing is None:
            return
        raised_at, cause = standing
        listed = self._holdings.listed_late(raised_at)
        surplus = json.loads(cause)
        if {symbol: plain(listed.get(symbol, NONE)) for symbol in surplus} == surplus:
            changes = HaltChanges(ended=("positions",))
            self.halts.apply(changes, self._connection.estimated_now())
            self.notices.end_alert("halt positions")

    def _use_clearing(self, kind: HaltKind = "positions") -> None:
        """Have what a person has cleared count no more."""
        if self.halts.cleared_cause(kind):
            self.halts.use_clearing(kind)

    def believe(self, reading: Reading) -> None:
        """Look at an account as it was read: whether its cash is explained, and its market open.

        Cash that nothing explains at a second reading either is a halt. What a person has looked
        at then counts: that holds once, and for the difference that the halt was raised for.

        Raises
        ------
        SenselessAnswer
            for cash that nothing explains at the first reading.
        Unbelieved
            at the second one.
        BrokerError
            for a venue that does not answer.
        """
        self._look_at_hours(reading)
        self._look_at_loan(reading.multiplier)
        if self.closing:
            return
        if not self._holdings.begun:
            self._begin()
        equity = Decimal(repr(reading.account.equity))
        bids = Decimal(repr(coin_bids(reading.account.open_orders, reading.account.prices)))
        why = self._why_unexplained(reading.cash, equity, bids)
        if why:
            self.read_activities()
            why = self._why_unexplained(reading.cash, equity, bids)
        now = self._holdings.cash_reading(reading.cash)
        if not reading.again and (odd := why or self._jump(reading.account.prices)):
            raise SenselessAnswer(odd)
        if why and not self._is_cleared(now, equity):
            self.halt("cash", why, cause=now.cause)
            raise Unbelieved(why, reading.account)
        self._end_listed_halt(now, equity)
        self._use_clearing("cash")
        self._holdings.believe_cash(now)
        self._equity = equity
        self._marks = dict(reading.account.prices)

    def _jump(self, prices: Mapping[str, float]) -> str:
        """A mark far from the one before, which one answer is not believed alone; empty for none.

        A split or a crash says the same twice.
        """
        for symbol, price in prices.items():
            before = self._marks.get(symbol, price)
            if abs(price / before - 1.0) >= LARGEST_GAP:
                return f"{symbol} is marked at {price:g}, and was at {before:g}"
        return ""

    def _why_unexplained(self, cash: Decimal, equity: Decimal, bids: Decimal) -> str:
        now = self._holdings.cash_reading(cash)
        return why_unexplained(now, self._holdings.last_cash(), equity, bids)

    def _is_cleared(self, now: CashReading, equity: Decimal) -> bool:
        """Whether a person has looked at this difference, which is the ground from now on."""
        cause = self.halts.cleared_cause("cash")
        if not cause or not now.is_near(CashReading.of_cause(cause), room_of(equity)):
            return False
        log.warning("somebody has looked at it, and it is the ground from now on: %s", now)
        return True

    def _end_listed_halt(self, now: CashReading, equity: Decimal) -> None:
        """End the halt whose whole difference the venue has listed since, late."""
        standing = self.halts.standing_cause("cash")
        if standing is None:
            return
        booked = now.booked - CashReading.of_cause(standing[1]).booked
        if abs(booked) > room_of(equity):
            changes = HaltChanges(ended=("cash",))
            self.halts.apply(changes, self._connection.estimated_now())
            self.notices.end_alert("halt cash")

    def _look_at_hours(self, reading: Reading) -> None:
        """Alert of an exchange that is open by one of the venue's clock and the calendar alone."""
        at = reading.account.as_of
        opened = bool(in_session(np.array([at]))[0])
        differs = reading.is_open is not None and reading.is_open != opened
        self.guards.shut = differs and opened
        if not differs:
            self.notices.end_alert("hours")
            return
        shown = "open" if reading.is_open else "closed"
        so = "no order of a stock is sent" if opened else "the calendar counts"
        text = f"by the venue's clock the exchange is {shown} at {utc_text(at)}, by the calendar"
        self.notices.alert("hours", f"{text} it is not: {so}")

    def _look_at_loan(self, multiplier: Decimal) -> None:
        """Alert of a loan that no broker gives."""
        if multiplier <= MOST_LENT:
            self.notices.end_alert("multiplier")
            return
        text = f"the venue says that it lends {multiplier} times equity: {MOST_LENT} are believed"
        self.notices.alert("multiplier", text)

    def read_activities(self) -> None:
        """Take over what the venue lists since the last reading; nothing before the ground.

        A trade at another price than its order filled at is asked for again. A booking that would
        move equity by more than what is listed late counts once cash shows it too.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        if not self._holdings.begun:
            return
        at = self._listing_instant()
        listed = activities_since(self._connection, self._holdings.last_at())
        if odd := self._odd_prices(listed):
            log.warning("activities are read again: %s", odd)
            self._pause(BETWEEN_READINGS)
            at = self._listing_instant()
            listed = activities_since(self._connection, self._holdings.last_at())
            odd = self._odd_prices(listed)
        self._tell("price", odd)
        large = self._large_bookings(listed)
        self._holdings.add([each for each in listed if each not in large], at)
        if large:
            self._holdings.add(self._shown_by_cash(large), at)
        else:
            self._tell("booking", "")

    def _odd_prices(self, listed: Sequence[Activity]) -> str:
        return odd_prices(self._holdings.unwritten(listed), self.book)

    def _large_bookings(self, listed: Sequence[Activity]) -> list[Activity]:
        """What is new, no trade, and moves equity by more than what is listed late."""
        if self._equity is None:
            mark = self.journal("").last_mark()
            if mark is None:
                return []
            self._equity = Decimal(repr(mark.equity))
        room = room_of(self._equity)
        news = self._holdings.unwritten(listed)
        return [each for each in news if each.kind != FILL and abs(each.amount) > room]

    def _shown_by_cash(self, large: Sequence[Activity]) -> list[Activity]:
        """Those that bring what is written down nearer to the venue's cash; others are told."""
        last = self._holdings.last_cash() or CashReading(NONE, NONE)
        away = self._holdings.cash_reading(self._connection.cash()).beyond - last.beyond
        shown = []
        hidden = []
        for each in large:
            if abs(away - each.amount) < abs(away):
                away -= each.amount
                shown.append(each)
            else:
                hidden.append(
                    f"activity {each.id}: {each.kind} of {plain(each.amount)} USD is listed, and"
                    " cash does not show it: it is left out"
                )
        self._tell("booking", "; ".join(hidden))
        return shown

    def _tell(self, kind: str, text: str) -> None:
        """Alert of something, or end the alert where there is nothing."""
        if text:
            self.notices.alert(kind, text)
        else:
            self.notices.end_alert(kind)

    def _listing_instant(self) -> np.datetime64:
        """The venue's time, later than at the last reading though its clock may stand still.

        What is listed after an account was read was not in it.
        """
        now = self._connection.now()
        self._readings = self._readings + 1 if now == self._read_at else 0
        self._read_at = now
        return now + np.timedelta64(self._readings, "ns")

    def _begin(self) -> None:
        """Write down what the account holds as the journal meets it.

        Raises
        ------
        BrokerError
            for an account in which something trades whenever it is read.
        """
        for _ in range(READINGS):
            at = self._connection.now()
            listed = activities_since(self._connection, at - OVERLAP)
            cash = self._connection.cash()
            held = raw_holdings(self._connection)
            # What trades while the account is read is in the holdings or not: nobody knows which.
            unchanged = activities_since(self._connection, at - OVERLAP) == listed
            if unchanged and self._connection.cash() == cash:
                self._holdings.begin(held, cash, at, listed)
                log.info("the journal begins with %d positions and %s USD", len(held), cash)
                return
            self._pause(BETWEEN_READINGS)
        raise BrokerError("the account: something trades in it whenever it is read")

    def mark(self, journal: Journal, mark: AccountMark) -> None:
        """Write down what the account is worth, and halt or resume by what it has lost."""
        with self._database.transaction():
            changes = write_mark(journal, self.halts, mark, self._settings.guards)
        for kind in changes.ended:
            self.notices.end_alert(f"halt {kind}")
        for kind, why in changes.raised.items():
            self._tell_of_halt(kind, why, new=True)

    def flows(self) -> float:
        """Deposits less withdrawals since the journal began, USD."""
        return float(self._holdings.explained_flows(ALL_TIME))


def _surplus(differences: Mapping[str, Difference]) -> str:
    """What is held beyond what is written down, by symbol: equal texts for equal surpluses.

    Trades that are explained change both sides of a difference, and not the surplus.
    """
    surplus = {
        symbol: plain(EXACT.subtract(each.actual, each.expected))
        for symbol, each in sorted(differences.items())
    }
    return json.dumps(surplus)
