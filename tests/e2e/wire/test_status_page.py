"""An account's page: what the loop writes of itself, that nothing about it keeps the loop from
trading, and how it looks in a browser.
"""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import stat
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.journal.cycles import NextCycleJournal
from execution.journal.events import AlertJournal
from execution.journal.halts import HALT_RULES
from execution.journal.order_store import OrderIntent, OrderProgress
from execution.live.account_lock import JOURNAL_FILE, KILL_FILE, STATUS_PAGE_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.loop import StopSignal
from execution.live.modes import run_dry_cycle
from execution.live.settings import LiveSettings
from execution.live.status_page import PageSection
from execution.orders.orders import Order
from foundation.clock import TimeSource
from foundation.compose import compose_config
from foundation.database import query_rows
from foundation.errors import BrokerError, InputError
from foundation.formatting import format_multiple, format_usd
from foundation.redaction import NULL_REDACTOR
from foundation.signals import TerminatedBySignal
from tests.e2e.chromium import Page, look_at_all_widths, look_at_charts
from tests.support.pages import text_of, without_scripts
from tests.support.written import END, NOW, Written

SYMBOLS = "symbols=[SYA,SYB,SYC,SYXUSD]"
MINUTE = np.timedelta64(1, "m")
ATTACK = "<script>document.title = 'taken'</script>"


@pytest.fixture(scope="module")
def practised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account with a decision, orders that filled, wait and were denied, a deposit, a halt."""
    day = Written(tmp_path_factory.mktemp("practised") / "account-1")
    words = (SYMBOLS, "forecaster=ewma", "forecaster.calibrated=false", "data.start=2024-01-02")
    settings = LiveSettings.from_config(compose_config("live", [*words, "end=2024-02-21T19:30Z"]))
    cycle = run_dry_cycle(settings, {})
    assert cycle.decision is not None
    first, second, *_ = day.book.intents_for_decision(
        day.journal.write_decision(cycle.decision, cycle.account)
    )
    filled = OrderProgress("filled", "v-1", first.stock_or_crypto_order.qty, Decimal(50))
    day.book.set_state(first.client_order_id, "submitting")
    day.book.record_progress(first.client_order_id, filled)
    day.book.set_state(second.client_order_id, "denied", f"halted: daily_loss since noon: {ATTACK}")
    limit = Order("by-hand-SYB", "SYB", "buy", Decimal(5), "so", type="limit", limit_price=48.5)
    day.book.record_submission(OrderIntent(limit, NOW, "accepted", job=TRADE_JOB))
    for hours, equity, flows in (
        (28, 100_000.0, 0.0),
        (14, 106_000.0, 5_000.0),
        (1, 95_000.0, 0.0),
    ):
        day.mark(NOW - np.timedelta64(hours, "h"), equity, flows, SYA=20_000.0)
    day.halts.raise_halt("daily_loss", f"lost 11 %: {ATTACK}", NOW)
    AlertJournal(day.database, NULL_REDACTOR, TimeSource(now=lambda: NOW)).record(
        "halt daily_loss", "halted: lost 11 %"
    )
    NextCycleJournal(day.database, 240.0, TimeSource(now=lambda: NOW)).record_next_cycle(
        TRADE_JOB, END, NOW
    )
    day.status.refresh()
    return day.folder


@pytest.fixture
def written(tmp_path: Path) -> Written:
    return Written(tmp_path / "account-2")


def test_status_page_shows_halts_profit_and_order_reasons(practised: Path) -> None:
    text = text_of((practised / STATUS_PAGE_FILE).read_text())
    assert "Running, but no positions are opened" in text
    assert HALT_RULES["daily_loss"].remedy in text
    assert "Written 21 Feb 2024 19:42 UTC, 14:42 New York" in text
    assert "After 21 Feb 2024 20:09 UTC, 15:09 New York the loop is down or hangs" in text
    assert "Next cycle: trade at 21 Feb 2024 20:00 UTC, 15:00 New York." in text
    assert "+$5,000.00 net deposits since 20 Feb 2024" in text
    path = practised / JOURNAL_FILE
    equities = query_rows(path, "SELECT equity FROM marks ORDER BY at")
    earned = equities[-1][0] - equities[0][0] - 5_000
    assert f"total profit {format_usd(earned, sign=True)}" in text
    latest = query_rows(path, "SELECT client_order_id, reason, why, state FROM intents")
    assert {state for *_, state in latest} >= {"filled", "denied", "accepted"}
    for name, reason, why, _ in latest:
        assert name in text
        assert " ".join(reason.split()) in text
        assert " ".join(why.split()) in text
    assert "halted: daily_loss since" in text
    assert "limit $" in text
    assert "lost 11 %" in text.partition("Alerts")[2], "what a person was told of"
    (last,) = query_rows(path, "SELECT id, choices FROM decisions ORDER BY rowid DESC LIMIT 1")
    assert f"{last[0]} Enhanced Kelly sizing" in text
    for choice in json.loads(last[1]):
        target = format_multiple(choice["target_weight"], 3, sign=True)
        assert re.search(rf"{choice['symbol']} 21 Feb .*{re.escape(target)}", text)


def test_external_text_is_escaped_on_the_status_page(practised: Path, written: Written) -> None:
    AlertJournal(written.database, NULL_REDACTOR, TimeSource(now=lambda: NOW)).record(
        ATTACK, ATTACK
    )
    written.order("one", reason=ATTACK)
    written.order("two")
    written.book.set_state("two", "denied", ATTACK)
    written.halts.raise_halt("positions", ATTACK, NOW)
    written.made(failure=ATTACK)
    written.mark(NOW, 100.0, **{ATTACK: 50.0})
    written.status = written.status_page(Refused())
    assert written.text().count(ATTACK) == 8
    for page in (written.page(), (practised / STATUS_PAGE_FILE).read_text()):
        rest = without_scripts(page, "execution/status.js")
        assert "<script" not in rest
        assert not re.search(r"""\b(src|href|style|on\w+)=["']|url\(|@import""", rest)


class Refused(PageSection):
    """A section that cannot be shown."""

    title = "Refused"

    def body(self) -> str:
        raise InputError(ATTACK)


def test_status_page_is_rewritten_after_any_change(written: Written) -> None:
    seen = [written.page()]
    for change in (
        written.made,
        lambda: written.order("one"),
        lambda: written.book.set_state("one", "submitting"),
        lambda: written.halts.raise_halt("cash", "gone", NOW),
        lambda: written.halts.clear("cash", "Ada", NOW),
        (written.folder / KILL_FILE).touch,
        (written.folder / KILL_FILE).unlink,
        written.next_cycle.clear,
    ):
        before = written.file.stat().st_mtime_ns, written.file.stat().st_ino
        written.status.refresh()
        assert (written.file.stat().st_mtime_ns, written.file.stat().st_ino) == before
        change()
        seen.append(written.page())
        assert seen[-1] != seen[-2]


def test_status_page_shows_kill_file_and_halt_remedies(written: Written) -> None:
    written.made(idle_reason="nothing to do")
    assert "<title>Running ·" in written.page()
    for kind, rule in HALT_RULES.items():
        written.halts.raise_halt(kind, f"why {kind}", NOW)
        text = written.text()
        assert f"why {kind}" in text
        where = f"--folder {written.folder.parent} --account {written.folder.name}"
        assert f"python -m execution.live {where} clear {kind} --by NAME" in text
        assert rule.remedy in text
    assert "<title>Running, but no orders are sent ·" in written.page()
    for kind in HALT_RULES:
        written.halts.clear(kind, "a person", NOW)
    assert "<title>Running ·" in written.page()
    (written.folder / KILL_FILE).touch()
    assert f"{written.folder / KILL_FILE} exists" in written.text()


def test_status_page_shows_failed_cycle_until_one_succeeds(written: Written) -> None:
    written.made(failure="the venue did not answer")
    assert "The last cycle failed the venue did not answer" in written.text()
    number = written.journal.cycles.begin_cycle(NOW)
    written.order("one")
    assert "The last cycle failed" in written.text()
    written.journal.cycles.end_cycle(number, NOW, idle_reason="nothing to do")
    written.order("two")
    assert "The last cycle failed" not in written.text()
    assert f"Last cycle: {TRADE_JOB} at 21 Feb 2024" in written.text()


def test_status_page_is_private_and_written_atomically(written: Written) -> None:
    before = os.umask(0)
    try:
        written.status.refresh()
    finally:
        os.umask(before)
    assert stat.S_IMODE(written.file.stat().st_mode) == 0o600
    with written.file.open() as reader:
        written.order("one")
        written.status.refresh()
        assert reader.read().endswith("</html>")
    assert "one" in written.file.read_text()
    assert sorted(path.name for path in written.folder.iterdir()) == [
        JOURNAL_FILE,
        STATUS_PAGE_FILE,
    ]


@pytest.mark.parametrize(
    "trouble",
    [
        lambda journal: journal.file.mkdir(),
        lambda journal: journal.spoil("UPDATE intents SET filled = 'some', sent_at = 'soon'"),
        lambda journal: journal.spoil("DROP TABLE notices"),
    ],
)
def test_unwritable_status_page_is_logged_once_without_stopping(
    written: Written, trouble: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trouble(written)
    done = 0
    with caplog.at_level(logging.ERROR), written.status.keep_updated(StopSignal()):
        for number in range(3):
            written.events.append("change", str(number))
            written.status.refresh()
            done += 1
    assert done == 3
    (line,) = caplog.records
    text = line.getMessage()
    assert text.startswith(f"{written.file}: cannot write the status page: ")
    assert text.endswith("; the loop continues")
    assert "\n" not in text
    assert line.exc_info is None, "it is no fault of the program"


def test_status_page_states_what_ended_the_loop(written: Written) -> None:
    stop = StopSignal()
    written.made()
    with written.status.keep_updated(stop):
        stop.request_stop("SIGTERM")
    assert "<title>Stopped: SIGTERM ·" in written.file.read_text()
    assert "No cycle is scheduled" in text_of(written.file.read_text())
    for error, why in (
        (BrokerError("the venue is gone"), "the venue is gone"),
        (TerminatedBySignal(signal.SIGINT), "SIGINT"),
        (KeyError(), "KeyError"),
    ):
        with pytest.raises(type(error)), written.status.keep_updated(StopSignal()):
            raise error
        page = written.file.read_text()
        assert f"<title>Stopped by an error: {why} ·" in page
        assert 'class="verdict bad"' in page


@pytest.mark.parametrize(
    ("told", "headline"),
    [
        ("SIGTERM", "Stopped: SIGTERM"),
        ("the kill file exists", "Stopped: the kill file exists"),
        ("", "Finished: no more cycles are scheduled"),
    ],
)
def test_normal_loop_end_shows_no_error_colour(written: Written, told: str, headline: str) -> None:
    stop = StopSignal()
    written.made()
    with written.status.keep_updated(stop):
        if told:
            (written.folder / KILL_FILE).touch()
            stop.request_stop(told)
    page = written.file.read_text()
    assert f"<title>{headline} ·" in page
    assert 'class="verdict open"' in page
    assert 'class="alert bad"' not in page


@pytest.mark.parametrize(("kind", "level"), [("cash", "bad"), ("drawdown", "warn")])
def test_halt_colour_remains_after_normal_loop_end(written: Written, kind: Any, level: str) -> None:
    written.halts.raise_halt(kind, "why", NOW)
    with written.status.keep_updated(StopSignal()):
        pass
    assert f'class="verdict {level}"' in written.file.read_text()


def test_status_page_fits_phone_and_desktop(browser: Page, practised: Path) -> None:
    file = practised / STATUS_PAGE_FILE
    titles = ("Running, but no positions are opened", "Next cycle", "denied", ATTACK, "out of date")
    look_at_all_widths(browser, file, titles)
    browser.open(file.as_uri(), 390)
    assert browser.value("document.title").startswith("Out of date · Running")
    look_at_charts(browser, 2)


def test_status_page_shows_warning_when_out_of_date(browser: Page, written: Written) -> None:
    later = np.datetime64("2124-01-01", "ns")
    for until, old in ((NOW, True), (later, False), (None, False)):
        written.next_cycle = NextCycleJournal(
            written.database, 0.0, TimeSource(now=lambda at=until: at)
        )
        if until is None:
            written.next_cycle.clear()
        else:
            written.next_cycle.record_next_cycle(TRADE_JOB, until, until)
        written.status.refresh()
        browser.open(written.file.as_uri(), 390)
        shown = browser.value("getComputedStyle(document.querySelector('.late')).display")
        assert (shown == "block") == old
        assert "ago)" in browser.value("document.body.innerText")
    assert browser.complaints == []
