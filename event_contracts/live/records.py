"""What an account at Kalshi has on the disk while it is traded: journal, halts, guard, notices."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from event_contracts.live.guard import KalshiGuard
from event_contracts.live.settings import KalshiTradingSettings
from event_contracts.trading.action_log import ActionLog
from event_contracts.trading.endpoint import KalshiKeys, KalshiSettings
from execution.account_lock import KILL_FILE, AccountJournal, is_there, journal_of_account
from execution.journal.decisions import Journal
from execution.journal.events import EventLog
from execution.journal.halts import Halts
from execution.journal.intents import Intent, IntentBook
from execution.journal.next_pass import NextPassBook
from execution.journal.notices import NoticeBook
from execution.live.accounts import CONTRACTS
from execution.live.guards import why_halted
from execution.posting import Guard
from execution.sight import Sight
from foundation.database import Database
from foundation.errors import InputError
from foundation.notices import Notices

JOB = "kalshi"
_NAME = 16  # characters that tell them apart


@dataclass(frozen=True, slots=True)
class KalshiRecords:
    """An account's journal, and what is written in it.

    name: of the account.
    database: its journal, whose lock this process holds.
    events, book, journal, actions, halts: tables of it.
    notices: told of whatever needs a person.
    next_pass: in which the next tick is expected.
    guard: has the last word before an order is sent.
    kill_file: nothing is traded while it is there.
    clock: this machine's; the venue shows none.
    """

    name: str
    database: Database
    events: EventLog
    book: IntentBook
    journal: Journal
    actions: ActionLog
    halts: Halts
    notices: Notices
    next_pass: NextPassBook
    guard: Guard
    kill_file: Path
    clock: Callable[[], np.datetime64]

    def opens_nothing(self) -> bool:
        """Whether a halt stands under which nothing is opened."""
        return bool(why_halted(self.halts, "everything") or why_halted(self.halts, "openings"))


@contextmanager
def kalshi_records(
    settings: KalshiTradingSettings,
    venue: KalshiSettings,
    keys: KalshiKeys,
    clock: Callable[[], np.datetime64],
) -> Iterator[KalshiRecords]:
    """Hold the locks of an account, and open its journal; in memory where nothing is sent.

    Raises
    ------
    InputError
        for an account that another process trades, a journal that cannot be used, and a kill file.
    """
    name = account_name(venue, keys)
    dry = settings.mode == "dry"
    with _journal(name, Path(settings.folder), dry=dry) as (database, folder, _):
        kill_file = folder / KILL_FILE
        if is_there(kill_file):
            raise InputError(f"{kill_file} is there: nothing is traded; remove it first")
        events = EventLog(database, keys.redact, clock)
        book = IntentBook(database, events)
        halts = Halts(database, events)
        guard = KalshiGuard(settings.guards, halts, book, kill_file)
        next_pass = NextPassBook(database, 0.0)
        next_pass.expect(JOB, clock(), clock())
        kept = None if dry else folder
        with Notices(settings.healthcheck_url, settings.alert_url, kept) as notices:
            notices.keep_in(NoticeBook(database, keys.redact, clock))
            yield KalshiRecords(
                name=name,
                database=database,
                events=events,
                book=book,
                journal=Journal(database, events, book, JOB),
                actions=ActionLog(database, events, book, JOB),
                halts=halts,
                notices=notices,
                next_pass=next_pass,
                guard=_nothing_is_sent if dry else guard,
                kill_file=kill_file,
                clock=clock,
            )


def account_name(venue: KalshiSettings, keys: KalshiKeys) -> str:
    """What the account is called here: the venue tells no id, so that a key stands for its account.

    Two keys of one account are two names: one process alone may trade an account.
    """
    # This machine has several names, and a port has one account.
    where = urlsplit(venue.address).port if venue.on_this_machine else venue.address
    digest = hashlib.sha256(f"{where} {keys.key_id}".encode()).hexdigest()
    return f"{CONTRACTS}{venue.mode}-{digest[:_NAME]}"


@contextmanager
def _journal(name: str, root: Path, *, dry: bool) -> Iterator[AccountJournal]:
    if not dry:
        with journal_of_account(name, root) as journal:
            yield journal
        return
    database = Database()
    try:
        yield AccountJournal(database, root, None)
    finally:
        database.close()


def _nothing_is_sent(intent: Intent, now: np.datetime64, seen: Sight | None) -> str:
    del intent, now, seen
    return "mode=dry sends nothing"
