"""A journal that a test writes by hand, and its status page."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from execution.journal.cycles import NextCycleJournal
from execution.journal.decisions import DecisionJournal
from execution.journal.events import EventLog
from execution.journal.halts import HaltJournal
from execution.journal.marks import EquityMark, EquityMarkJournal, ReturnIndexPoint
from execution.journal.order_store import OrderIntent, OrderStore
from execution.live.account_lock import JOURNAL_FILE, STATUS_PAGE_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.open_account import OpenAccount
from execution.live.settings import LiveSettings
from execution.live.status_page import PageSection, StatusPage, StatusPageLimits
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.compose import compose_config
from foundation.notifier import Notifier
from foundation.redaction import NULL_REDACTOR
from tests.support.connections import open_for_test
from tests.support.pages import text_of

END = np.datetime64("2024-02-21T20:00", "ns")
NOW = np.datetime64("2024-02-21T19:42", "ns")
SETTINGS = LiveSettings.from_config(compose_config("live", []))
BOUNDS = StatusPageLimits(
    SETTINGS.limits.symbol_cap, SETTINGS.guards, SETTINGS.limits.crypto_leverage
)


class Written:
    """A journal that is written by hand, with the classes that the loop writes it with."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.file = folder / STATUS_PAGE_FILE
        self.database = open_for_test(folder / JOURNAL_FILE)
        self.events = EventLog(self.database, clock=TimeSource(now=lambda: NOW))
        self.book = OrderStore(self.database, self.events)
        self.halts = HaltJournal(self.database, self.events)
        self.journal = DecisionJournal(self.database, self.events, self.book, TRADE_JOB)
        self.marks = EquityMarkJournal(self.database)
        self.next_cycle = NextCycleJournal(self.database, 0.0, TimeSource(now=lambda: NOW))
        self.seconds = 0.0
        self.status = self.status_page()

    def status_page(self, *sections: PageSection) -> StatusPage:
        time = TimeSource(now=lambda: NOW, monotonic=lambda: self.seconds)
        told = Notifier(None, None), NULL_REDACTOR, TimeSource(now=lambda: NOW)
        account = OpenAccount(self.folder.name, self.database, self.folder, *told)
        return StatusPage(account, BOUNDS, sections, time)

    def mark(self, at: np.datetime64, equity: float, flows: float = 0.0, **held: float) -> None:
        gross = sum(abs(value) for value in held.values())
        mark = EquityMark(at, equity, equity - gross, gross, 0.0, 4.0, flows, held)
        before = self.marks.index_point_before(at)
        point = (
            before.next_point(at, equity, flows)
            if before
            else ReturnIndexPoint.first_point(at, equity)
        )
        self.marks.record_mark(mark, point)
        self.events.append("marked", "")

    def order(self, name: str, reason: str = "because") -> None:
        order = Order(name, "NVDA", "buy", Decimal(1), reason)
        self.book.record_plan(OrderIntent(order, NOW, job=TRADE_JOB, state="planned"))

    def spoil(self, statement: str) -> None:
        self.order("spoilt")
        self.database.execute(statement)

    def made(self, **came_to: Any) -> None:
        """A cycle that is over, and the next one expected."""
        self.journal.cycles.end_cycle(self.journal.cycles.begin_cycle(NOW), NOW, **came_to)
        self.next_cycle.record_next_cycle(TRADE_JOB, END, NOW)

    def page(self) -> str:
        self.status.refresh()
        return self.file.read_text()

    def text(self) -> str:
        return text_of(self.page())
