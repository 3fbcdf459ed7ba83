"""The daily summary: sent once after each session's close, with what happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from execution.journal.order_store import OrderIntent, OrderProgress
from execution.live import summary as module
from execution.live.activity import fill_drift_usd
from execution.live.open_account import OpenAccount
from execution.live.summary import DailySummary, last_ended_session
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.notices import NoticeSettings
from foundation.notifier import Notifier
from foundation.redaction import NULL_REDACTOR
from tests.e2e.practice import Practice
from tests.support.paper_runs import paper
from tests.support.receiver import SECRET, receiving
from tests.support.written import Written

BEFORE = "2024-02-21T21:14"  # a minute before the summary of that Wednesday is due
DUE = "2024-02-21T21:15"
WITH_SUMMARY = NoticeSettings(summary=True)


class Outbox(Notifier):
    """Notices that keep what they would send."""

    def __init__(self, settings: NoticeSettings) -> None:
        super().__init__(None, None, settings=settings)
        self.sent: list[tuple[str, str]] = []

    def send_unrecorded(self, kind: str, text: str) -> None:
        self.sent.append((kind, text))


@dataclass
class Day:
    """An account whose clock stands where a test puts it, and its summaries."""

    written: Written
    settings: NoticeSettings = WITH_SUMMARY
    at: str = BEFORE
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Start a process, as after a kill."""
        self.outbox = Outbox(self.settings)
        clock = TimeSource(now=lambda: np.datetime64(self.at, "ns"))
        folder = self.written.folder
        told = self.outbox, NULL_REDACTOR, clock
        self.account = OpenAccount(folder.name, self.written.database, folder, *told)
        self.summary = DailySummary(self.account)

    def texts_at(self, at: str) -> list[str]:
        """Texts of the summaries sent by this process, up to an instant."""
        self.at = at
        self.summary.send_if_due()
        return [text for _, text in self.outbox.sent]


@pytest.fixture
def day(tmp_path: Path) -> Day:
    made = Day(Written(tmp_path / "account-1"))
    made.written.mark(np.datetime64("2024-02-20T15:30", "ns"), 100_000.0)
    made.written.mark(np.datetime64("2024-02-21T20:59", "ns"), 108_000.0, 5_000.0, SYA=54_000.0)
    return made


def test_summary_is_sent_once_after_each_close(day: Day) -> None:
    def dates(at: str) -> list[str]:
        return [text.split(":")[0] for text in day.texts_at(at)]

    # The account begins on the 20th, whose summary the first process sends late.
    assert dates(BEFORE) == ["Session 2024-02-20"]
    wednesday = ["Session 2024-02-20", "Session 2024-02-21"]
    assert dates(DUE) == wednesday
    assert dates("2024-02-22T03:00") == wednesday
    assert dates("2024-02-22T21:15") == [*wednesday, "Session 2024-02-22"]


def test_restarts_repeat_no_summary(day: Day) -> None:
    assert len(day.texts_at(DUE)) == 1
    for at in (DUE, "2024-02-21T23:00", "2024-02-22T21:14"):
        day.start()
        assert day.texts_at(at) == []
    day.start()
    assert len(day.texts_at("2024-02-22T21:15")) == 1


def test_summaries_are_off_by_default(day: Day) -> None:
    day.settings = NoticeSettings()
    day.start()
    assert day.texts_at(DUE) == []


def test_account_without_a_mark_has_no_summary(tmp_path: Path) -> None:
    assert Day(Written(tmp_path / "account-1")).texts_at(DUE) == []


def test_weekends_and_holidays_have_no_session() -> None:
    friday = np.datetime64("2024-02-16")
    for at in ("2024-02-16T21:15", "2024-02-18T12:00", "2024-02-20T21:14"):  # Monday: a holiday
        assert last_ended_session(np.datetime64(at, "ns"))[0] == friday
    half_day = last_ended_session(np.datetime64("2024-11-29T18:15", "ns"))
    assert half_day[0] == np.datetime64("2024-11-29")


def test_summary_states_profit_orders_halts_and_page(day: Day) -> None:
    day.written.halts.raise_halt("drawdown", "lost 21 %", np.datetime64("2024-02-21T18:00", "ns"))
    [text] = day.texts_at(DUE)
    assert text.splitlines() == [
        "Session 2024-02-21: equity $108,000.00, profit +$3,000.00 (+3.00%) since"
        " 2024-02-20T15:30Z, net deposits +$5,000.00, drawdown 0.00%",
        "exposure: stocks 0.500x of 4x, coins 0.000x; SYA +0.500",
        "orders: 0 orders sent, 0 orders filled",
        "halts and refused orders: drawdown since 2024-02-21T18:00Z: lost 21 %",
        f"details: file://{day.written.folder}/status.html",
    ]


def test_drift_is_what_fills_cost_beyond_decisions(tmp_path: Path) -> None:
    """Bought 40 at 51 and sold 10 at 99; the decision had 50 and 100: 40 + 10 = 50 USD."""
    written = Written(tmp_path / "account-1")
    for name, side, quantity, price in (("b", "buy", 40, 51), ("s", "sell", 10, 99)):
        order = Order(name, f"SY{name}".upper(), side, Decimal(quantity), "because")  # type: ignore[arg-type]
        at = np.datetime64(DUE, "ns")
        intent = OrderIntent(order, at, "submitting", job="trade", decision_id="trade-1")
        written.book.record_submission(intent)
        filled = OrderProgress("filled", name, Decimal(quantity), Decimal(price))
        written.book.record_progress(name, filled)
    prices = {"SYB": 50.0, "SYS": 100.0}
    with pytest.MonkeyPatch.context() as patch:
        row = type("Row", (), {"prices": prices})
        patch.setattr("execution.live.activity.DECISIONS_TABLE.first_row", lambda *_: row)
        assert fill_drift_usd(written.database, written.book, 0) == pytest.approx(50.0)


def test_failing_summary_is_logged_and_not_raised(
    day: Day, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr(module, "summarize", fail)
    for _ in range(3):
        assert day.texts_at(DUE) == []
    assert caplog.text.count("cannot send the daily summary") == 1


def test_restarted_loop_sends_the_missed_summary(
    here: Practice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("apprise")
    with receiving() as server:
        monkeypatch.setenv("NOTICE_URLS", server.url())
        paper(here, tmp_path, "notices.summary=true")
        assert server.received == []
        here.advance("2024-02-21T15:30:00Z")
        for _ in range(2):
            done = paper(here, tmp_path, "notices.summary=true")
            assert done.returncode == 0, done.stderr
    [(_, body)] = server.received
    assert body["title"] == "DAILY SUMMARY"
    assert "Session 2024-02-20: equity $" in body["message"]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(SECRET.encode() in path.read_bytes() for path in files)
