"""An answer that lacks a field stops no account: one market is quarantined, the others trade."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from execution.live.account_lock import JOURNAL_FILE
from foundation.database import query_rows
from foundation.errors import BrokerError
from tests.e2e.kalshi_desk import flat
from tests.e2e.kalshi_desk import traded as traded_with
from tests.event_contracts.changed_rows import REMOVED, Change, changed_rows, with_fields
from tests.event_contracts.practice import KalshiPractice, kalshi_practice
from tests.support.messages import refused

traded = partial(traded_with, seed=3)


@pytest.fixture
def practice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KalshiPractice]:
    monkeypatch.chdir(tmp_path)
    sessions = {"RAIN": flat(60, depth=500.0), "SNOW": flat(60, depth=500.0)}
    with kalshi_practice(sessions=sessions, interval=1) as venue:
        yield venue


def alerts() -> list[tuple[str, str]]:
    [path] = Path("journals").glob(f"*/{JOURNAL_FILE}")
    return [(kind, text) for kind, text in query_rows(path, "SELECT kind, text FROM notices")]


def test_fill_without_timestamp_does_not_stop_trading(practice: KalshiPractice) -> None:
    change = with_fields(created_time=REMOVED, ts=REMOVED)
    with changed_rows("/portfolio/fills", change):
        shown = traded(practice, steps=6)
    assert len(shown) == 12
    assert practice.exchange.fills
    assert not alerts()


@pytest.mark.parametrize(
    ("path", "change", "says"),
    [
        ("/portfolio/fills", with_fields(count_fp=None), "count_fp is missing"),
        ("/portfolio/positions", with_fields(position_fp="many"), "position_fp is not a number"),
        ("/markets", with_fields(close_time=None), "close_time is missing"),
    ],
)
def test_one_unreadable_row_leaves_the_other_market_trading(
    practice: KalshiPractice, path: str, change: Change, says: str
) -> None:
    traded(practice, steps=3)
    assert {fill.market for fill in practice.exchange.fills} == {"RAIN", "SNOW"}
    before = len(practice.posts())
    with changed_rows(path, change, market="RAIN"):
        shown = traded(practice, steps=6)
    assert [entry.market for entry in shown] == ["SNOW"] * 6
    assert {body["ticker"] for body in practice.posts()[before:]} == {"SNOW"}
    [(kind, text)] = alerts()
    assert kind == "kalshi RAIN"
    assert "RAIN is quarantined" in text
    assert says in text
    # A market that is readable again is traded again.
    assert {entry.market for entry in traded(practice, steps=1)} == {"RAIN", "SNOW"}


def test_market_with_unreadable_fees_is_not_traded(practice: KalshiPractice) -> None:
    with changed_rows("/series", with_fields(fee_multiplier="much"), market="RAIN"):
        shown = traded(practice, steps=2)
    assert [entry.market for entry in shown] == ["SNOW"] * 2
    [(kind, text)] = alerts()
    assert kind == "kalshi RAIN"
    assert "fee_multiplier is not a number" in text


def test_an_unreadable_order_leaves_the_other_market_trading(practice: KalshiPractice) -> None:
    with changed_rows("/portfolio/orders", with_fields(status="paused"), market="RAIN"):
        shown = traded(practice, steps=6, price_style="passive")
    sent = [body["ticker"] for body in practice.posts()]
    assert sent.count("RAIN") == 1, "no further order in a quarantined market"
    assert sent.count("SNOW") > 1
    assert [entry.market for entry in shown].count("SNOW") == 6
    [(kind, text)] = alerts()
    assert kind == "kalshi RAIN"
    assert "status is not one of resting" in text


@pytest.fixture
def ending(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KalshiPractice]:
    """RAIN is held, and ends while nobody looks."""
    monkeypatch.chdir(tmp_path)
    sessions = {"RAIN": flat(5, depth=500.0), "SNOW": flat(60, depth=500.0)}
    with kalshi_practice(sessions=sessions, interval=1) as venue:
        traded(venue, steps=1)
        assert "RAIN" in {fill.market for fill in venue.exchange.fills}
        venue.advance(5)
        assert venue.exchange.paid_settlements
        yield venue


def test_settlement_with_contradictory_payout_is_alerted_once(ending: KalshiPractice) -> None:
    """RAIN pays YES and states a value of 30 cents: the revenue is booked."""
    with changed_rows("/portfolio/settlements", with_fields(value=30)):
        traded(ending, steps=4)
    worth = float(ending.exchange.cash + ending.exchange.position_value)
    [(kind, text)] = alerts()
    assert kind == "kalshi books"
    assert "settlement of RAIN: revenue $" in text
    [path] = Path("journals").glob(f"*/{JOURNAL_FILE}")
    marks = query_rows(path, "SELECT equity, flows FROM marks ORDER BY at")
    assert marks[-1][0] == pytest.approx(worth)
    assert not any(flows for _, flows in marks)


def test_tied_market_is_paid_and_trading_continues(ending: KalshiPractice) -> None:
    """RAIN ends with half a dollar for each side, and no value is stated."""
    tie = with_fields(market_result="scalar", value=None)
    ended = with_fields(result="scalar", settlement_value_dollars=None)
    with (
        changed_rows("/portfolio/settlements", tie),
        changed_rows("/markets", ended, market="RAIN"),
    ):
        shown = traded(ending, steps=4)
    assert {entry.market for entry in shown} == {"SNOW"}
    assert not alerts()


def settled() -> list[str]:
    [path] = Path("journals").glob(f"*/{JOURNAL_FILE}")
    return [str(market) for (market,) in query_rows(path, "SELECT market FROM kalshi_settlements")]


def test_unreadable_settlement_raises_an_error(ending: KalshiPractice) -> None:
    unreadable = with_fields(revenue="much")
    with (
        changed_rows("/portfolio/settlements", unreadable),
        refused(BrokerError, "RAIN", "revenue"),
    ):
        traded(ending, markets=("RAIN",), steps=3)
    assert not settled()


def test_trading_loop_waits_until_the_settlement_is_readable(ending: KalshiPractice) -> None:
    [path] = Path("journals").glob(f"*/{JOURNAL_FILE}")

    def change(row: dict[str, Any]) -> dict[str, Any]:
        [(ended,)] = query_rows(path, "SELECT count(*) FROM cycles WHERE ended_at IS NOT NULL")
        return with_fields(revenue="much")(row) if int(str(ended)) < 4 else row

    with changed_rows("/portfolio/settlements", change):
        traded(ending, markets=("RAIN",), steps=None)
    assert settled() == ["RAIN"]
    [(held,)] = query_rows(path, "SELECT held FROM kalshi_settlements")
    assert float(str(held)), "the position that was paid"


def test_settlement_without_timestamp_is_booked_once(ending: KalshiPractice) -> None:
    with changed_rows("/portfolio/settlements", with_fields(settled_time=REMOVED)):
        for _ in range(2):
            traded(ending, markets=("RAIN",), steps=2)
    assert settled() == ["RAIN"]
    assert not alerts()
