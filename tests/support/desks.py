"""Trading processes on an account of a practice server, whose answers a test may change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from execution.alpaca.broker import AlpacaConnection
from execution.brokers import EstimatedClock
from execution.live.account import LiveAccount
from execution.live.account_lock import JOURNAL_FILE
from execution.live.cycle import Cycle
from execution.live.guarded_broker import GuardedBroker
from execution.live.issued_forecasts import FORECASTS_FOLDER
from execution.live.loop import StopSignal
from execution.live.open_account import OpenAccount
from execution.live.trading import TradingJob
from execution.orders.account_snapshot import AccountSnapshot
from foundation.database import Database
from foundation.notifier import Notifier
from tests.e2e.changed_answers import changed_answers
from tests.e2e.practice import KEYS, Live, Practice
from tests.support.connections import open_for_test
from tests.support.passing import AT_ONCE
from tests.support.served import Change
from trainingdata.feed.endpoint import BrokerSettings

WORDS = ("symbols=[SYA,SYB]",)
SECOND = "2024-02-20T16:30:00Z"
THIRD = "2024-02-20T17:30:00Z"
PLAIN = ("forecaster=ewma", "sizing.strategy=equal_weight")
ACCOUNT = "/v2/account"
LISTED = "/v2/account/activities"
ALWAYS = 10**6


class RememberedJob(TradingJob):
    """The job, and the cycles that it has made."""

    def __init__(self, *parts: Any, **words: Any) -> None:
        super().__init__(*parts, **words)
        self.cycles: list[Cycle] = []

    def run_cycle(self) -> Cycle:
        self.cycles.append(super().run_cycle())
        return self.cycles[-1]


@dataclass
class Desk:
    """A process on an account of a practice server, without its loop."""

    here: Practice
    live: LiveAccount
    broker: GuardedBroker
    job: TradingJob
    cycles: list[Cycle]
    stop: StopSignal
    words: tuple[str, ...]

    @classmethod
    def at(cls, here: Practice, folder: Path, *words: str) -> Desk:
        """A process that has begun, its journal in a folder."""
        parts = Live.at(here, *WORDS, *words)
        settings = BrokerSettings(url_override=here.url, read_timeout=5.0)
        connection = AlpacaConnection(settings, KEYS, AT_ONCE)
        told = Notifier(None, None), KEYS, EstimatedClock(connection)
        database = open_for_test(folder / JOURNAL_FILE)
        account = OpenAccount(here.venue.record.account_id, database, folder, *told)
        stop = StopSignal()
        live = LiveAccount(connection, account, parts.settings, parts.feed, stop)
        job = RememberedJob(
            live,
            parts.feed,
            parts.trader,
            parts.settings,
            cycles=None,
            patience=0.0,
            forecasts=folder / FORECASTS_FOLDER,
        )
        return cls(here, live, job.desk, job, job.cycles, stop, words)

    def again(self) -> Desk:
        """The next process on the account, this one being gone."""
        self.database.close()
        return Desk.at(self.here, self.live.account.kill_file.parent, *self.words)

    @property
    def database(self) -> Database:
        """Its journal's."""
        return self.live.account.database

    def step_at(self, at: str | None = None) -> Cycle:
        """The cycle of an instant, of the next one where none is said."""
        self.here.advance(at)
        self.job.step()
        return self.cycles[-1]

    def mark(self, account: AccountSnapshot) -> None:
        """Mark an account as if it had been read so."""
        self.live.record_mark(account)


def halted_by(desk: Desk) -> list[str]:
    return [halt.kind for halt in desk.live.halts.active()]


@contextmanager
def attacked(here: Practice, folder: Path, told: Change, *words: str) -> Iterator[Desk]:
    """A desk that has made its first cycle at a server whose answers may change from then on."""
    with changed_answers(here, told) as seen:
        desk = Desk.at(seen, folder, *(words or PLAIN))
        desk.job.step()
        assert desk.cycles[-1].decision is not None
        here.advance(SECOND)
        yield desk


def held(desk: Desk) -> dict[str, Decimal]:
    return dict(desk.here.venue.broker.account().positions)


def alerts(desk: Desk) -> str:
    return "\n".join(text for (text,) in desk.database.query("SELECT text FROM notices"))
