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
from execution.journal.decisions import Journal
from execution.journal.intents import Intent
from execution.live.accounts import CONTRACTS
from execution.live.guards import why_halted
from execution.live.open_account import OpenAccount, open_account
from execution.posting import Guard
from execution.sight import Sight

JOB = "kalshi"
_NAME = 16  # characters that tell them apart


@dataclass(frozen=True, slots=True)
class KalshiRecords:
    """An account at Kalshi while a process has it, and what its job writes down.

    journal, actions: of the job.
    guard: has the last word before an order is sent.
    """

    account: OpenAccount
    journal: Journal
    actions: ActionLog
    guard: Guard

    def opens_nothing(self) -> bool:
        """Whether a halt stands under which nothing is opened."""
        halts = self.account.halts
        return bool(why_halted(halts, "everything") or why_halted(halts, "openings"))


@contextmanager
def kalshi_records(
    settings: KalshiTradingSettings,
    venue: KalshiSettings,
    keys: KalshiKeys,
    now: Callable[[], np.datetime64],
) -> Iterator[KalshiRecords]:
    """Hold the locks of an account, and open its journal; in memory where nothing is sent.

    Raises
    ------
    InputError
        for an account that another process trades, a journal that cannot be used, and a kill file.
    """
    name, root, dry = account_name(venue, keys), Path(settings.folder), settings.mode == "dry"
    told = settings.healthcheck_url, settings.alert_url
    with open_account(name, root, keys.redact, now, *told, unattended=True, dry=dry) as account:
        account.next_pass.expect(JOB, now(), now())
        guard = KalshiGuard(settings.guards, account.halts, account.book, account.kill_file)
        yield KalshiRecords(
            account,
            account.journal(JOB),
            ActionLog(account.database, account.events, account.book, JOB),
            _nothing_is_sent if dry else guard,
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
