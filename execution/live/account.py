"""One account at a venue as a process works on it: what is written down, guarded and told.

All jobs of the process share it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np

from execution.account_lock import KILL_FILE
from execution.alpaca.activities import EXACT, activities_since, raw_holdings
from execution.alpaca.connection import VenueConnection
from execution.events import EventLog
from execution.intents import IntentBook
from execution.live.differences import NONE, Difference, line_of, plain
from execution.live.guards import Guards, is_there
from execution.live.halts import HALT_RULES, HaltChanges, HaltKind, Halts
from execution.live.holdings import OVERLAP, HoldingsBook
from execution.live.journal import AccountMark, Journal
from execution.live.losses import Mark, loss_halts
from execution.live.notice_book import NoticeBook
from execution.live.settings import LiveSettings
from foundation.database import Database
from foundation.errors import BrokerError
from foundation.notices import Notices
from trainingdata.feed.endpoint import Keys

log = logging.getLogger(__name__)

READINGS = 3  # of holdings and activities that do not go together, before that is a halt
BETWEEN_READINGS = 2.0  # seconds
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

    def _use_clearing(self) -> None:
        """Have what a person has cleared count no more."""
        if self.halts.cleared_cause("positions"):
            self.halts.use_clearing("positions")

    def read_activities(self) -> None:
        """Take over what the venue lists since the last reading; nothing before the ground.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        if not self._holdings.begun:
            return
        at = self._listing_instant()
        listed = activities_since(self._connection, self._holdings.last_at())
        self._holdings.add(listed, at)

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
            held = raw_holdings(self._connection)
            cash = self._connection.cash()
            # What trades while the account is read is in the holdings or not: nobody knows which.
            if activities_since(self._connection, at - OVERLAP) == listed:
                self._holdings.begin(held, cash, at, listed)
                log.info("the journal begins with %d positions and %s USD", len(held), cash)
                return
            self._pause(BETWEEN_READINGS)
        raise BrokerError("the account: something trades in it whenever it is read")

    def mark(self, journal: Journal, mark: AccountMark) -> None:
        """Write down what the account is worth, and halt or resume by what it has lost."""
        journal.mark(mark)
        marks = [Mark(each.at, each.equity, each.flows) for each in journal.marks(ALL_TIME)]
        changes = loss_halts(marks, mark.at, self._settings.guards, self.halts.history())
        self.halts.apply(changes, mark.at)
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
