"""An account's page shows what markets paid, and the sizes of orders."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from event_contracts.trade import trade_markets
from event_contracts.trading.listings import MarketSettlement
from event_contracts.trading.manager import PaidPosition
from event_contracts.trading.orders import EventContractOrder
from event_contracts.trading.status_sections import build_status_sections
from execution.journal.order_store import OrderIntent, OrderProgress
from execution.live.account_lock import STATUS_PAGE_FILE
from execution.live.loop import StopSignal
from tests.e2e.kalshi_desk import flat, trading_settings
from tests.event_contracts.practice import KEYS, kalshi_practice
from tests.event_contracts.trading import journal
from tests.support.pages import charts_of, text_of

D = Decimal
NOW = np.datetime64("2026-11-22T15:00", "ns")
MINUTE = np.timedelta64(1, "m")


class Journal:
    """A journal that is written by hand."""

    def __init__(self) -> None:
        self.log, self.book = journal()

    def paid(
        self, market: str, yes: str, held: int, profit: str | None, result: str = "", at: int = 0
    ) -> None:
        settled = MarketSettlement(
            market, D(yes), NOW + at * MINUTE, result, profit=None if profit is None else D(profit)
        )
        payout = settled.payout(D(held))
        self.log.record_settlements([PaidPosition(settled, D(held), payout)])

    def bought(self, market: str, price: str, count: int, at: int = 0) -> None:
        name = f"{market}-{at}"
        order = EventContractOrder(name, market, "BUY", "YES", D(price), D(count))
        progress = OrderProgress("filled", f"v-{name}", D(count), D(price))
        sent = NOW + at * MINUTE
        self.book.record_submission(
            OrderIntent(order, sent, "filled", job="kalshi", progress=progress)
        )

    def html(self) -> list[str]:
        return [section.html() for section in build_status_sections(self.book, self.log)]


def test_settled_markets_are_listed_newest_first() -> None:
    journal = Journal()
    journal.paid("RAIN", "1", 10, "4.82", "yes")
    journal.paid("SNOW", "0.25", -10, "-1.20", "scalar", at=1)
    journal.paid("WIND", "0", 0, None, "no", at=2)
    # A settlement that is listed again is one.
    journal.paid("RAIN", "1", 10, "4.82", "yes")
    settled, sizes = map(text_of, journal.html())
    assert sizes == ""
    assert "2 settled markets earned +$3.62 after fees" in settled
    rows = [
        "WIND 2026-11-22T15:02Z NO none $0.00 —",
        "SNOW 2026-11-22T15:01Z scalar: $0.2500 a YES 10 NO $7.50 -$1.20",
        "RAIN 2026-11-22T15:00Z YES 10 YES $10.00 +$4.82",
    ]
    places = [settled.index(row) for row in rows]
    assert places == sorted(places)


def test_chart_shows_the_profit_of_each_size() -> None:
    journal = Journal()
    journal.bought("RAIN", "0.40", 20)
    journal.bought("SNOW", "0.50", 50, at=3)
    journal.paid("RAIN", "1", 20, None, "yes", at=5)
    (against,) = charts_of(journal.html()[1])
    # 20 · 0.60 less a fee of 0.07 · 20 · 0.4 · 0.6; SNOW has not paid.
    assert against["series"][0]["y"] == pytest.approx([12 - 0.336])


def test_scalar_settlement_profit_uses_the_stated_payout() -> None:
    journal = Journal()
    journal.bought("RAIN", "0.40", 20)
    journal.paid("RAIN", "0.25", 20, None, "scalar", at=5)
    (against,) = charts_of(journal.html()[1])
    assert against["series"][0]["y"] == pytest.approx([-3 - 0.336])


def test_live_status_page_shows_settled_markets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RAIN pays YES while the process runs; its profit agrees with the venue's cash."""
    monkeypatch.chdir(tmp_path)
    with kalshi_practice(sessions={"RAIN": flat(8, depth=500.0)}, interval=1) as practice:
        settings = trading_settings(practice, policy="random", seed=3, steps=12)
        trade_markets(settings, KEYS, StopSignal(), lambda entry: practice.advance() and None)
        practice.advance(8)
        trade_markets(settings, KEYS, StopSignal(), lambda entry: None)
        assert practice.exchange.is_over
        earned = practice.exchange.cash - 1000
    [page] = Path("journals").glob(f"*/{STATUS_PAGE_FILE}")
    text = text_of(page.read_text())
    assert practice.exchange.fills
    sign = "+" if earned > 0 else "-"
    assert f"1 settled market earned {sign}${abs(earned):.2f} after fees" in text
    assert "Accepted orders in the latest markets (1)" in text
