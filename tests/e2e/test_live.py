"""Bars, account, decisions and orders over the wire: what the live entry point composes."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from foundation.clock import TimeSource
from foundation.compose import compose_config
from foundation.errors import BrokerError, DataError
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from practice import alpaca_server
from practice.alpaca import market_data as alpaca_data
from practice.alpaca.stocks import Venue
from tests.e2e.practice import KEYS, OPENING, SPAN, Live, Practice, Start, broker, trading
from tests.marketsimulator.runs import eager, wild
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.feed.bar_feed import BarFeed
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import history_start

pytestmark = pytest.mark.usefixtures("over_http")

SIMPLE = ("forecaster=ewma", "sizing.strategy=equal_weight")


def halved_from(bars: Bars, symbol: str, opens: str, ratio: float) -> Bars:
    """The panel as it would read raw, had the symbol been split then."""
    values = bars.values.copy()
    s = bars.symbols.index(symbol)
    after = bars.times > np.datetime64(opens, "ns")
    values[s, after, :4] /= ratio
    values[s, after, 4] *= ratio
    return replace(bars, values=values)


@pytest.mark.wire
def test_wrong_clock_triggers_no_decision_on_old_bars(here: Practice) -> None:
    live = Live.at(here)
    here.fail(kind="skew", seconds=3000, count=1)
    done = live.cycle(broker(here))
    assert done.decision is None
    assert "the latest bar is 2024-02-20T15:30Z" in done.idle_reason
    assert here.venue.tickets == {}


EVENLY = ("forecaster=ewma", "sizing.strategy=equal_weight", "sizing.band=0.002")
DAYS = ("data.start=2023-06-01", "data.end=2024-07-31")  # of daily bars, enough for a forecast
STOCKS = "symbols=[SYA,SYB,SYC]"
CLOSING = ("timeframe=1d", "fill=close")


@pytest.mark.wire
def test_cycle_too_late_for_closing_auction_sends_nothing(practice: Start) -> None:
    """The venue accepts auction orders until ten minutes before the close, also on half-days."""
    at = "2024-07-03T16:45Z"
    here = practice(*CLOSING, *DAYS, STOCKS, "start=2024-07-01", "end=2024-07-05")
    here.advance(at)
    live = Live.at(here, *CLOSING, *SIMPLE, STOCKS)
    here.fail(kind="skew", seconds=420, count=1)
    done = live.cycle(broker(here))
    assert done.idle_reason.endswith(
        f"the latest bar is {at}; its decision deadline was 2024-07-03T16:49Z"
    )
    assert here.venue.tickets == {}
    here.fail(kind="skew", seconds=239, count=1)
    assert live.cycle(broker(here)).bars.last_instant == np.datetime64(at[:-1])
    assert {ticket.order.tif for ticket in here.venue.tickets.values()} == {"cls"}


def assert_live_reproduces_backtest(practice: Start, *words: str) -> Run:
    """Trade live at every instant, with bars, account and orders through `alpaca-py`.

    Orders, fills, fees and equity equal those of the backtest, which is returned.
    """
    here = practice(*words, "increments=original")
    settings = here.venue.settings
    market = settings.load_market()
    alone = BacktestSettings.from_config(
        compose_config("backtest", [*SPAN, "start=2024-02-20", "end=2024-02-23", *words])
    )
    trader = alone.build_trader(settings.forecaster.build(market.bars.symbols))
    expected = simulate_trading(alone, market, "alone", trader.with_beliefs(market))
    decisions = Live.at(here, *words).through(here)
    orders = [
        [
            [replace(order, reason=str(order.reason)) for order in decision.orders]
            for decision in run
        ]
        for run in (decisions, expected.decisions)
    ]
    assert orders[0] == orders[1]
    traded = [(f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in expected.fills]
    assert [
        (f.client_order_id, f.symbol, f.qty, f.price, f.fee, f.at) for f in here.venue.broker.fills
    ] == traded
    assert here.venue.broker.equity_row().equity == expected.equity_rows[-1].equity
    assert float(trading(here).get_account().equity) == pytest.approx(
        expected.equity_rows[-1].equity, abs=0.005
    )
    return expected


@pytest.mark.parametrize(
    ("timeframe", "holding", "fills", "span"),
    [
        # A day, and a night over which a position is carried.
        (
            *("1h forecaster=ewma prior.stock_sharpe=1.0 prior.crypto_sharpe=1.0", "plan", 6),
            ("start=2024-02-20T15:00Z", "end=2024-02-21T15:30Z"),
        ),
        pytest.param("1h", "plan", 4, ("schedule=[11:30,14:30,09:00]",), marks=pytest.mark.slow),
        # With clocks put forward.
        pytest.param(
            *("1d", "next", 12, (*DAYS, "start=2024-03-07", "end=2024-03-12")),
            marks=pytest.mark.wire,
        ),
        # In the closing auction, over a half-day and beside a coin; and with clocks put forward.
        pytest.param(
            *("1d fill=close", "next", 6, (*DAYS, "start=2024-06-28", "end=2024-07-05")),
            marks=pytest.mark.wire,
        ),
        pytest.param(
            *("1d fill=close", "plan", 5),
            (*DAYS, *EVENLY, "start=2024-03-04", "end=2024-03-15", STOCKS),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("15m", "next", 10, ("start=2024-02-20T19:30Z", "end=2024-02-20T21:00Z")),
            marks=pytest.mark.wire,
        ),
    ],
)
def test_live_run_reproduces_backtest_fills_and_equity(
    practice: Start, timeframe: str, holding: str, fills: int, span: tuple[str, ...]
) -> None:
    expected = assert_live_reproduces_backtest(
        practice,
        *("symbols=[SYA,SYB,SYC,SYXUSD]", *f"timeframe={timeframe}".split()),
        "limits.symbol_cap=0.4",
        *(f"sizing.holding={holding}", *span),
    )
    assert len(expected.fills) > fills
    auctions = {order.tif for d in expected.decisions for order in d.orders} - {"gtc"}
    forces = {"1d": "opg", "1d fill=close": "cls"}
    assert auctions == {forces.get(timeframe, "day")}


@pytest.mark.wire
@pytest.mark.slow
@pytest.mark.parametrize(
    ("timeframe", "span"),
    [
        ("1h", ("start=2024-02-20", "end=2024-02-23")),
        ("15m", ("start=2024-02-20T19:00Z", "end=2024-02-21T21:00Z")),
        ("1d", (*DAYS, "start=2024-02-20", "end=2024-04-30")),
    ],
)
def test_live_price_strategy_reproduces_backtest_to_the_cent(
    practice: Start, timeframe: str, span: tuple[str, ...]
) -> None:
    expected = assert_live_reproduces_backtest(
        practice,
        *("symbols=[SYA,SYB,SYC,SYXUSD]", f"timeframe={timeframe}", "seed=5", "forecaster=ewma"),
        *("sizing._target_=examples.moving_average.moving_average", "sizing.lookback=30"),
        *("sizing.arguments.fast=3", "sizing.arguments.slow=12", *span),
    )
    bought = {fill.symbol for fill in expected.fills if fill.qty > 0}
    sold = {fill.symbol for fill in expected.fills if fill.qty < 0 and fill.price > 0}
    assert len(bought & sold) >= 3
    assert len(expected.fills) > 20


@pytest.mark.parametrize("capital", [100_000.0, pytest.param(2_000_000.0, marks=pytest.mark.slow)])
def test_live_crash_with_margin_call_matches_the_backtest(practice: Start, capital: float) -> None:
    """Stocks fall by a quarter in the last half hour: liquidations and the cost of split crypto
    orders agree.
    """
    words = (
        *(
            "symbols=[SYA,SYB,SYC,SYXUSD]",
            "forecaster=ewma",
            "limits.symbol_cap=1.2",
            "limits.overnight_leverage=3.5",
        ),
        *("costs.stock_impact=1.0", "costs.crypto_impact=1.0"),
    )
    span = ("start=2024-02-20T08:00Z", "end=2024-02-21T18:00Z")
    here = practice(*words, *span, "increments=original", f"capital={capital}", bars=wild)
    market = here.venue.market
    settings = here.venue.settings
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    believed = eager(trader.build_beliefs(market), "2024-02-20T10:00")
    alone = replace(settings, fills=replace(settings.fills, remainder="cancel"))
    expected = simulate_trading(alone, market, "alone", replace(trader, belief_table=believed))
    live = Live.at(here, *words)
    live = replace(live, trader=replace(live.trader, belief_table=believed))
    live.through(here)
    assert (expected.margin_event_counts["margin_calls"] > 0) == (capital >= 100_000.0)
    parted = any(
        "-SYXUSD-1-" in order.client_order_id
        for decision in expected.decisions
        for order in decision.orders
    )
    assert parted == (capital == 2_000_000.0)
    assert (
        here.venue.broker.margin_event_counts()["margin_calls"]
        == expected.margin_event_counts["margin_calls"]
    )
    assert here.venue.broker.fills == expected.fills
    assert here.venue.broker.equity_row().equity == pytest.approx(
        expected.equity_rows[-1].equity, abs=0.005
    )


@pytest.mark.wire
@pytest.mark.slow
def test_live_split_matches_the_backtest(practice: Start, tmp_path: Path) -> None:
    """With raw prices and a 4-for-1 split on the second day, the feed is reloaded and orders use
    the new shares.
    """
    actions = tmp_path / "actions.csv"
    actions.write_text(
        "symbol,date,kind,value\nSYA,2024-02-21,split,4\nSYB,2024-02-22,dividend,0.5\n"
    )
    words = (
        "symbols=[SYA,SYB,SYXUSD]",
        "forecaster=ewma",
        "sizing.strategy=equal_weight",
        "sizing.band=0.002",
    )
    raw = ("data.adjustment=raw", f"data.actions={actions}")
    here = practice(
        *words, *raw, bars=lambda bars: halved_from(bars, "SYA", "2024-02-21T14:30", 4.0)
    )
    market = here.venue.market
    settings = here.venue.settings
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols))
    expected = simulate_trading(settings, market, "alone", trader)
    Live.at(here, *words).through(here)
    assert len(expected.fills) > 20
    assert here.venue.broker.fills == expected.fills
    assert here.venue.broker.equity_row().equity == expected.equity_rows[-1].equity


@pytest.mark.wire
def test_listed_split_missing_from_bars_ends_the_cycle(practice: Start, tmp_path: Path) -> None:
    """Deciding on unadjusted history would buy twice the intended value."""
    here = practice("symbols=[SYA,SYB]")
    here.advance("2024-02-20T16:30:00Z")
    actions = tmp_path / "actions.csv"
    actions.write_text("symbol,date,kind,value\nSYA,2024-02-20,split,2\n")
    raw = ("data.adjustment=raw", f"data.actions={actions}")
    with refused(DataError, "SYA", "2:1", "data.actions"):
        Live.at(here, *SIMPLE, *raw).cycle(broker(here))
    assert here.venue.broker.fills == []


@pytest.mark.wire
def test_late_bar_is_awaited_only_until_timeout(here: Practice) -> None:
    hidden = (here.venue.now - np.timedelta64(1, "h"), None)
    looks = []
    here.venue.halts["SYA"] = [hidden]

    def wait(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            here.venue.halts.clear()

    done = Live.at(here, *SIMPLE, patience=20.0).cycle(broker(here), time=TimeSource(wait=wait))
    assert len(looks) == 3
    assert done.decision is not None
    assert {c.symbol for c in done.decision.choices} == {"SYA", "SYB"}
    here.advance("2024-02-20T16:30:00Z")
    here.venue.halts["SYA"] = [(here.venue.now - np.timedelta64(1, "h"), None)]
    looks = []
    done = Live.at(here, *SIMPLE, patience=4.0).cycle(
        broker(here), time=TimeSource(wait=looks.append)
    )
    assert (sum(looks), [c.symbol for c in done.decision.choices]) == (4.0, ["SYB"])


@pytest.mark.wire
@pytest.mark.parametrize(
    ("words", "at"),
    [((), OPENING), ((*CLOSING, *DAYS, "start=2024-07-01", "end=2024-07-05"), "2024-07-03T16:45Z")],
)
def test_incomplete_bar_counts_as_late_until_timeout(
    practice: Start, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], at: str
) -> None:
    here = practice("symbols=[SYA]", *words)
    here.advance(at)
    whole = alpaca_data.subdivide_bars
    monkeypatch.setattr(alpaca_data, "subdivide_bars", lambda *asked: whole(*asked)[:-1])
    looks: list[float] = []
    live = Live.at(here, *SIMPLE, *words[:2], patience=6.0)
    done = live.cycle(broker(here), time=TimeSource(wait=looks.append))
    assert sum(looks) == 6.0
    assert done.decision is not None, "at the end what is there counts"
    assert live.feed.late_symbols(here.venue.now) == ()


@pytest.mark.wire
def test_feed_adopts_corrected_bars_and_reloads_after_splits(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = practice("symbols=[SYA]")
    here.advance(OPENING)
    feed = Live.at(here, *SIMPLE).feed
    asked = []
    first = feed.bars(here.venue.now)
    real = alpaca_data.bars_response

    def corrected(venue: Venue, *rest: Any) -> dict[str, list[dict[str, Any]]]:
        found = real(venue, *rest)
        asked.append(len(found["SYA"]))
        if scale == 1.0:
            found["SYA"][-2]["c"] = found["SYA"][-2]["l"]
        return {
            s: [{**bar, **{k: bar[k] * scale for k in "ohlc"}} for bar in bars]
            for s, bars in found.items()
        }

    monkeypatch.setattr(alpaca_data, "bars_response", corrected)
    here.advance("2024-02-20T16:30:00Z")
    scale = 1.0
    second = feed.bars(here.venue.now)
    assert second.values[0, -2, 3] == first.values[0, -1, 2]
    assert len(asked) == 1
    here.advance("2024-02-20T17:30:00Z")
    scale = 0.25
    third = feed.bars(here.venue.now)
    np.testing.assert_array_equal(third.values[0, : len(first.times), 0], first.values[0, :, 0] / 4)
    assert len(asked) == 3


@pytest.mark.wire
def test_incrementally_updated_feed_equals_a_fresh_one(practice: Start) -> None:
    here = practice("symbols=[SYA,SYXUSD]")
    settings = BrokerSettings(url_override=here.url)
    data = MarketData(settings, KEYS, "iex")
    running = BarFeed(data, ("SYA", "SYXUSD"), 30)
    here.advance("2024-02-20T15:30Z")
    held = [len(running.bars(here.venue.now).times)]
    for at in ("2024-02-20T23:00Z", "2024-02-21T15:30Z", "2024-02-26T15:00Z"):
        here.advance(at)
        bars = running.bars(here.venue.now)
        anew = BarFeed(data, ("SYA", "SYXUSD"), 30).bars(here.venue.now)
        assert np.array_equal(bars.times, anew.times)
        assert np.array_equal(bars.values, anew.values, equal_nan=True)
        held.append(len(bars.times))
    first = bars.bars_of_symbol(1)[0][0]
    assert first == history_start(here.venue.now, 30) + np.timedelta64(1, "h")
    assert max(held) < held[0] + 24


@pytest.mark.wire
def test_live_orders_respect_account_blocks_and_restrictions(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = practice("symbols=[SYA,SYB,SYC,SYD]")
    told = {}
    here.advance(OPENING)
    real = alpaca_server.account_response
    monkeypatch.setattr(alpaca_server, "account_response", lambda *asked: real(*asked) | told)
    live = Live.at(here)
    mine = broker(here)
    free = live.cycle(mine).decision
    assert free is not None
    assert any(c.target_weight < 0 for c in free.choices)
    assert sum(abs(c.target_weight) for c in free.choices) > 1.01
    here.advance("2024-02-20T16:30:00Z")
    told |= {"multiplier": "1", "shorting_enabled": False}
    less = live.cycle(mine).decision
    assert less is not None
    assert less.stock_ceiling == pytest.approx(1 / 1.03)
    assert all(c.target_weight >= min(c.held_weight, 0) for c in less.choices), (
        "a short may stay, none is opened"
    )
    assert sum(abs(c.target_weight) for c in less.choices) <= 1.0 + 1e-9
    here.advance("2024-02-20T17:30:00Z")
    told |= {"trading_blocked": True}
    blocked = live.cycle(mine)
    assert (blocked.decision, blocked.idle_reason) == (
        None,
        "the venue has blocked this account from trading: it has trading_blocked",
    )


def test_network_faults_never_duplicate_orders_or_corrupt_books(
    practice: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Responses are late, lost, refused or invalid, and orders fill partially or are rejected: a
    cycle ends or raises an error.
    """
    here = practice("symbols=[SYA,SYB,SYC,SYXUSD]")
    rng = random.Random(2)
    here.advance(OPENING)
    live = Live.at(here, "symbols=[SYA,SYB,SYC,SYXUSD]")
    mine = broker(here)
    named = []
    again = []
    take = here.venue.submit

    def counted(asked: dict[str, Any], **more: bool) -> dict[str, Any]:
        again.append(asked["client_order_id"] in here.venue.tickets)
        return take(asked, **more)

    monkeypatch.setattr(here.venue, "submit", counted)
    kinds = (
        *("delay", "drop_before", "drop_after", "malformed", "reject", "reject_later"),
        *("partial", "state", "status"),
    )
    while not here.venue.is_over and here.venue.index < here.venue.market.start_row + 40:
        for _ in range(rng.randrange(4)):
            here.fail(
                kind=rng.choice(kinds),
                path=rng.choice(["/v2/orders", "/v2/orders", "/v2/account", "/v2/stocks", ""]),
                method=rng.choice(["GET", "POST", ""]),
                status=rng.choice([429, 500, 502, 504]),
                state=rng.choice(["pending_new", "pending_cancel", "stopped"]),
                seconds=0.01,
            )
        try:
            live.cycle(mine)
        except BrokerError as error:
            named.append(str(error))
        requests.delete(f"{here.url}/control/faults", timeout=10)
        account = mine.account()
        truth = here.venue.broker.account()
        assert account.positions == truth.positions
        assert account.cash == pytest.approx(truth.cash, abs=1e-6)
        here.advance()
    assert len(here.venue.broker.fills) > 20
    assert not any(again), "what the venue has taken is never sent again"
    assert not any(KEYS.secret in text or KEYS.key in text for text in named)
