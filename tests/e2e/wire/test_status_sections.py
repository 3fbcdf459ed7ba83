"""Sections of the status page: the day's profit by symbol, prices, stops, commands, shadow."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from execution.journal.commands import Command, CommandJournal
from execution.journal.events import EventLog
from execution.journal.marks import EquityMark
from execution.journal.order_store import OrderIntent
from execution.journal.positions import PositionChange
from execution.live.account_lock import STATUS_PAGE_FILE
from execution.live.accounts import TRADE_JOB
from execution.live.journal_sections import (
    OTHER_PROFIT,
    CommandSection,
    DayProfitSection,
    PriceSection,
    attribute_profit,
)
from execution.live.status_page import StatusPage, StatusPageLimits, format_stop
from execution.orders.orders import Order
from marketsimulator.shadow import open_shadow_job
from tests.e2e.chromium import Page, look_at_all_widths, look_at_charts
from tests.e2e.practice import KEYS, OPENING, Live, practising
from tests.support.connections import open_for_test
from tests.support.desks import Desk
from tests.support.pages import text_of
from trainingdata.feed.bar_feed import BarFeed

WORDS = ("symbols=[SYA,SYB]", "forecaster=historical", "sizing.strategy=kelly_100")
MORE = ("prior.stock_sharpe=0", "shadow=true")
AT = np.datetime64("2024-02-20T20:00", "ns")
STOP = Order(
    "kelly_100-20240220T200000Z-SYA-stop-0", "SYA", "sell", Decimal(10), "protects 10 SYA", True,
    type="stop", tif="gtc", stop_price=95.0,
)  # fmt: skip


def record_command(commands: CommandJournal) -> None:
    at = np.datetime64("2024-02-20T19:00", "ns")
    commands.receive(Command("c-1", "reduce", "0.5", "Ada", at, at))
    commands.answer("c-1", "done", "sold 12", at)


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of an account after seven cycles, with a stop, a command and a shadow account."""
    folder = tmp_path_factory.mktemp("live") / "account-1"
    folder.mkdir()
    with practising() as practice:
        here = practice(WORDS[0])
        here.advance(OPENING)
        desk = Desk.at(here, folder, *WORDS, *MORE)
        for number in range(7):
            if number:
                here.advance()
            desk.job.run_cycle()
        account, live = desk.live.account, desk.live
        account.book.record_submission(
            OrderIntent(STOP, AT, "accepted", job=TRADE_JOB, role="protection")
        )
        record_command(account.commands)
        assert isinstance(live.feed, BarFeed)
        settings = Live.at(here, *desk.words).settings
        with open_shadow_job(settings, KEYS, live) as job:
            job.step()
            job.join()
            sections = [
                *(DayProfitSection(account), PriceSection(account, live.feed)),
                *(job.section, CommandSection(account.commands)),
            ]
            bounds = StatusPageLimits(
                settings.limits.symbol_cap, settings.guards, settings.limits.crypto_leverage
            )
            StatusPage(account, bounds, sections).refresh()
    return folder / STATUS_PAGE_FILE


def test_page_shows_stops_prices_commands_and_the_shadow(traded: Path) -> None:
    text = text_of(traded.read_text())
    for words in (
        *("protective order", "sell 10, stop $95.00 (accepted)", "Profit of the day", OTHER_PROFIT),
        *("Prices, fills and stops", "SYA: from $", "reduce 0.5", "Ada", "sold 12"),
        *("Shadow account", "live profit", "none"),
    ):
        assert words in text, words
    assert "buy " in traded.read_text(), "notes of fills"


def test_page_with_all_sections_fits_phone_and_desktop(browser: Page, traded: Path) -> None:
    titles = ("Profit of the day", "Prices, fills and stops", "Commands", "Shadow account")
    look_at_all_widths(browser, traded, titles)
    for width in (390, 1280):
        browser.open(traded.as_uri(), width)
        look_at_charts(browser, 3)


def test_profit_by_symbol_adds_up_to_the_cent() -> None:
    """10 A rise by 1 and 5 are sold at 12; B is bought for 300 and is worth 290; 7.50 are fees."""
    first = EquityMark(AT, 1_000.0, 900.0, 100.0, 0.0, 4.0, 0.0, {"A": 100.0})
    later = AT + np.timedelta64(1, "h")
    last = EquityMark(later, 1_502.5, 1_157.5, 345.0, 0.0, 4.0, 500.0, {"A": 55.0, "B": 290.0})
    changes = [
        PositionChange(later, "A", Fraction(-5), Fraction(60)),
        PositionChange(later, "B", Fraction(3), Fraction(-300)),
    ]
    profits = attribute_profit(first, last, 500.0, changes)
    assert profits == {"A": Decimal(15), "B": Decimal(-10), OTHER_PROFIT: Decimal("-2.50")}
    assert sum(profits.values()) == Decimal("2.50")


def test_sections_of_an_empty_journal_are_hidden() -> None:
    with practising() as practice:
        here = practice(WORDS[0])
        live = Live.at(here, *WORDS)
    database = open_for_test()
    assert CommandSection(CommandJournal(database, EventLog(database))).body() == ""
    times, closes = live.feed.known_closes("SYA", AT)
    assert (len(times), len(closes)) == (0, 0)
    assert len(live.feed.known_closes("SPXW240402P04980000", AT)[0]) == 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "sell 10, stop $95.00 (unknown)"),
        ({"type": "stop_limit", "limit_price": 94.0}, "sell 10, stop $95.00 (unknown)"),
        (
            {"type": "trailing_stop", "stop_price": None, "trail_percent": 5.0},
            "sell 10, trailing 5.00% (unknown)",
        ),
        (
            {"type": "trailing_stop", "stop_price": None, "trail_price": 2.5},
            "sell 10, trailing $2.50 (unknown)",
        ),
    ],
)
def test_protective_orders_are_described_by_their_level(
    changes: dict[str, object], text: str
) -> None:
    order = replace(STOP, **changes)  # type: ignore[arg-type]
    assert format_stop(OrderIntent(order, AT, "unknown", role="protection")) == text
