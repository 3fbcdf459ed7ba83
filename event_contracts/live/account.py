"""An account at Kalshi on this machine: journal, halts, guard, notices, and what it is worth.

A day is New York's, as for stocks: the venue is there, and its fees are dated by it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from event_contracts.live.settings import KalshiGuard, KalshiTradingSettings
from event_contracts.trading.action_log import ActionLog
from event_contracts.trading.books import Reading
from event_contracts.trading.endpoint import KalshiKeys, KalshiSettings
from event_contracts.trading.listings import read_markets, sale_prices
from event_contracts.trading.manager import KalshiMultiMarketOrderManager
from execution.journal.decisions import Journal
from execution.journal.intents import Intent
from execution.journal.marks import AccountMark
from execution.live.accounts import CONTRACTS
from execution.live.guards import why_halted
from execution.live.losses import LossLimits, write_mark
from execution.live.open_account import OpenAccount, open_account
from execution.posting import Guard
from execution.sight import Sight

JOB = "kalshi"
DIFFERENCES = "kalshi books"  # a kind of alert
_NAME = 16  # characters that tell accounts apart
_TICK = np.timedelta64(1, "ns")


@dataclass(frozen=True, slots=True)
class KalshiAccount:
    """An account at Kalshi while a process has it, and the marks by which its openings are halted.

    journal, actions: of the job.
    guard: has the last word before an order is sent.
    limits: shares whose loss halts.
    """

    account: OpenAccount
    journal: Journal
    actions: ActionLog
    guard: Guard
    limits: LossLimits

    def opens_nothing(self) -> bool:
        """Whether a halt stands under which nothing is opened."""
        halts = self.account.halts
        return bool(why_halted(halts, "everything") or why_halted(halts, "openings"))

    def go_on(self, manager: KalshiMultiMarketOrderManager) -> None:
        """Have a manager go on from the books that are kept."""
        if kept := self.actions.kept():
            manager.begin(kept[0])

    def mark(self, manager: KalshiMultiMarketOrderManager) -> Reading:
        """Read the account, write down what it is worth, and halt or resume by what it has lost.

        Returns what was read, beside what it was when it was marked before.

        Raises
        ------
        BrokerError
            for a venue that does not answer, or an account that trades whenever it is read.
        """
        reading = manager.reading()
        cash, positions = reading.books.cash, reading.books.positions
        listings = read_markets(manager.venue, positions)
        kept = self.actions.kept()
        sales = sale_prices(listings, kept[1] if kept else {})
        values = {
            market: listings[market].value_of(count, sales[market])
            for market, count in positions.items()
        }
        mark = AccountMark(
            at=self._instant(reading.books.at),
            equity=float(sum(values.values(), cash)),
            cash=float(cash),
            gross_stock=0.0,
            gross_crypto=0.0,
            stock_ceiling=0.0,
            flows=float(reading.flow),
            positions={market: float(value) for market, value in values.items()},
        )
        with self.account.database.transaction():
            _, changes = write_mark(self.journal, self.account.halts, mark, self.limits)
            self.actions.keep(reading.books, sales)
        manager.begin(reading.books)
        self.account.tell_of_changes(changes)
        if reading.differences:
            self.account.notices.alert(DIFFERENCES, "; ".join(reading.differences))
        else:
            self.account.notices.end_alert(DIFFERENCES)
        return reading

    def _instant(self, at: np.datetime64) -> np.datetime64:
        """When a mark is made: after the one before, though the clock may have gone back."""
        last = self.journal.point_before()
        return at if last is None else max(at, last.at + _TICK)


@contextmanager
def kalshi_account(
    settings: KalshiTradingSettings,
    venue: KalshiSettings,
    keys: KalshiKeys,
    now: Callable[[], np.datetime64],
) -> Iterator[KalshiAccount]:
    """Hold the locks of an account, and open its journal; in memory where nothing is sent.

    Raises `InputError` for an account that another process trades, a journal that cannot be used,
    and a kill file.
    """
    name, root, dry = account_name(venue, keys), Path(settings.folder), settings.mode == "dry"
    told = settings.healthcheck_url, settings.alert_url
    with open_account(name, root, keys.redact, now, *told, unattended=True, dry=dry) as account:
        account.next_pass.expect(JOB, now(), now())
        guard = KalshiGuard(settings.guards, account.halts, account.book, account.kill_file)
        yield KalshiAccount(
            account,
            account.journal(JOB),
            ActionLog(account.database, account.events, account.book, JOB),
            _nothing_is_sent if dry else guard,
            settings.guards,
        )


def account_name(venue: KalshiSettings, keys: KalshiKeys) -> str:
    """What the account is called here: the venue tells no id, so that a key stands for its account.

    Two keys of one account are two names: one process alone may trade an account.
    """
    # This machine has several names, and a port has one account.
    where = urlsplit(venue.address).port if venue.on_this_machine else venue.address
    digest = hashlib.sha256(f"{where} {keys.key_id}".encode()).hexdigest()
    return f"{CONTRACTS}{venue.mode}-{digest[:_NAME]}"


def _nothing_is_sent(intent: Intent, now: np.datetime64, seen: Sight | None) -> str:
    del intent, now, seen
    return "mode=dry sends nothing"
