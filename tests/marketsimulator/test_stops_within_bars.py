"""Backtests of one symbol on daily bars by hand: where and when a stop fills, to the cent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from execution.orders.orders import is_protective_id
from foundation.console import print_warning_once
from marketsimulator.backtest import run_backtest
from marketsimulator.results.remarks import protection_remarks
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from tests.marketsimulator.runs import settings_of, trader_of
from tests.support.own_module import own_module
from trainingdata.market import Market
from trainingdata.sessions import exchange_calendar

Row = tuple[float, float, float, float]
RULES = """
import numpy as np
from sizing import StrategyAnswer

def constant(s, weight=0.5):
    return np.full(len(s.symbols), weight)

def stated(s, weight=0.5, stop=90.0):
    return StrategyAnswer(constant(s, weight), np.full(len(s.symbols), stop))
"""
CALM = [(100.0, 100.6, 99.6, 100.2), (100.0, 100.4, 99.6, 100.0)]
LIVELY = [(100.0, 101.0, 99.4, 100.6), (100.0, 101.0, 99.4, 100.0)]
LAST = "2024-03-01"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the strategies of this file."""
    own_module(RULES, tmp_path, monkeypatch)
    return tmp_path


def dates_until(last: str, count: int) -> list[str]:
    dates = exchange_calendar().dates
    end = int(np.searchsorted(dates, np.datetime64(last), side="right"))
    return [str(date) for date in dates[end - count : end]]


def market_of(
    folder: Path, *words: str, rule: str = "constant", calm: Sequence[Row] = CALM, **days: Row
) -> tuple[Any, Market]:
    """Settings and market of STKA, calm around 100 but on the named days (d0215) and after them.

    A day named `after` is every later day.
    """
    after = days.pop("after", None)
    named = {f"2024-{name[1:3]}-{name[3:]}": row for name, row in days.items()}
    lines = ["date,open,high,low,close,volume"]
    for k, date in enumerate(dates_until("2024-03-15", 130)):
        row = named.get(date, calm[(k + 1) % 2])
        if after is not None and named and date > max(named):
            row = after
        lines.append(",".join([date, *map(str, row), "50000000"]))
    (folder / "bars").mkdir(exist_ok=True)
    (folder / "bars" / "STKA.csv").write_text("\n".join(lines) + "\n")
    name = next(folder.glob("own_*.py")).stem
    settings = settings_of(
        *(f"data.dir={folder}/bars", "symbols=[STKA]", "trials=null", "forecaster=none"),
        *(f"sizing._target_={name}.{rule}", "sizing.lookback=2", "sizing.band=0.9"),
        *("start=2024-02-01", f"end={LAST}", "protect.cooldown=60", *words),
    )
    return settings, settings.load_market()


def run_of(settings: Any, market: Market) -> Run:
    trader = trader_of(settings, market).with_beliefs(market)
    return simulate_trading(settings, market, "x", trader)


def stopped_at(run: Run) -> list[tuple[str, float]]:
    """Date and price of the fills of protective orders."""
    return [
        (str(fill.at)[:10], fill.price)
        for fill in run.fills
        if is_protective_id(fill.client_order_id)
    ]


def test_position_bought_at_open_is_protected_at_once(folder: Path) -> None:
    settings, market = market_of(
        folder, "protect.kind=stop", "sizing.band=0", calm=LIVELY, d0215=(100.0, 100.6, 85.0, 99.0)
    )
    run = run_of(settings, market)
    purchases = [fill for fill in run.fills if fill.qty > 0]
    assert len(purchases) > 3, "each purchase replaces the stop"
    [(date, price)] = stopped_at(run)
    assert (date, price) == ("2024-02-15", pytest.approx(95.0, abs=0.05))
    assert run.equity_rows[-1].equity == pytest.approx(97_500, abs=50)
    assert not run.unprotected_sessions
    assert protection_remarks(run) == ["Positions without a protective order: 0 sessions."]


def test_new_stop_fills_within_the_bar_of_purchase(folder: Path) -> None:
    """The stop rests from the open of 02-02 on; the purchase and the low share a bar."""
    settings, market = market_of(folder, "protect.kind=stop", d0202=(100.0, 100.4, 80.0, 99.0))
    assert stopped_at(run_of(settings, market)) == [("2024-02-02", pytest.approx(95.0, abs=0.05))]


def test_sessions_without_a_stop_are_counted(folder: Path) -> None:
    """999 deviations of a calm day leave no price above 0."""
    settings, market = market_of(folder, "protect.kind=stop", "protect.distance=999sd")
    [remark] = protection_remarks(run_of(settings, market))
    assert remark.startswith("Positions without a protective order: 20 sessions (STKA 2024-02-02, ")


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("weight", "day", "exits"),
    [
        (0.5, (100.0, 120.0, 99.8, 110.0), [114.0]),  # hit in both orders of events
        (0.5, (100.0, 120.0, 99.8, 119.0), [114.0]),  # sold at 114 is worse than held at 119
        (0.5, (100.0, 120.0, 94.0, 119.0), [95.57]),  # the low before the high is worse
        (0.5, (100.0, 104.0, 99.8, 104.0), []),  # hit in neither: 98.8
        (-0.5, (100.0, 100.2, 80.0, 90.0), [84.0]),
        (-0.5, (100.0, 100.2, 80.0, 81.0), [84.0]),
        (-0.5, (100.0, 106.0, 80.0, 81.0), [104.58]),
        (-0.5, (100.0, 100.2, 96.0, 96.0), []),
    ],
)
def test_trailing_stop_takes_the_worse_order_of_events(
    folder: Path, weight: float, day: Row, exits: list[float]
) -> None:
    settings, market = market_of(
        folder,
        *("protect.kind=trailing", f"sizing.arguments.weight={weight}", "end=2024-02-15"),
        d0215=day,
    )
    assert stopped_at(run_of(settings, market)) == [
        ("2024-02-15", pytest.approx(price, abs=0.05)) for price in exits
    ]


GAP = {"d0215": (40.0, 42.0, 38.0, 40.0), "d0216": (52.0, 53.0, 51.0, 52.0)}
RISE = {"d0215": (160.0, 162.0, 158.0, 160.0), "d0216": (130.0, 131.0, 129.0, 130.0)}


@pytest.mark.parametrize(("weight", "days", "equity"), [(0.5, GAP, 70_046), (-0.5, RISE, 70_034)])
def test_confirmed_gap_fills_at_its_first_open(
    folder: Path, weight: float, days: dict[str, Row], equity: float
) -> None:
    settings, market = market_of(
        folder,
        *("protect.kind=stop", f"sizing.arguments.weight={weight}"),
        **days,
        after=days["d0216"],
    )
    run = run_of(settings, market)
    [fill] = [each for each in run.fills if is_protective_id(each.client_order_id)]
    assert fill.price == pytest.approx(days["d0215"][0], abs=0.05)
    assert [str(at)[:10] for at in (fill.at, fill.booked_at)] == ["2024-02-15", "2024-02-16"]
    assert run.equity_rows[-1].equity == pytest.approx(equity, abs=1)


def test_gap_changes_no_equity_before_its_confirmation(folder: Path) -> None:
    settings, market = market_of(folder, "protect.kind=stop", **GAP, after=GAP["d0216"])
    known, cut = market_of(folder, "protect.kind=stop", "end=2024-02-15", **GAP)
    early = run_of(known, cut)
    whole = run_of(settings, market)
    assert [row.equity for row in whole.equity_rows[: len(early.equity_rows)]] == [
        row.equity for row in early.equity_rows
    ]
    assert not stopped_at(early)


def test_price_error_fills_no_stop(folder: Path) -> None:
    settings, market = market_of(folder, "protect.kind=stop", d0215=GAP["d0215"])
    assert not stopped_at(run_of(settings, market))


@pytest.mark.parametrize(("action", "exits"), [("close", [("2024-02-20", 80.0)]), ("alert", [])])
def test_unfilled_stop_limit_is_closed_or_left(
    folder: Path, action: str, exits: list[tuple[str, float]]
) -> None:
    """The open of 80 jumps over stop 95 and limit 93.1; the price never returns."""
    fallen = (80.0, 80.4, 79.6, 80.0)
    settings, market = market_of(
        folder,
        *("protect.kind=stop_limit", f"protect.unfilled={action}"),
        d0216=fallen,
        after=fallen,
    )
    found = stopped_at(run_of(settings, market))
    assert [(date, pytest.approx(price, abs=0.05)) for date, price in found] == exits


def test_stated_stop_is_executed_with_protection(folder: Path) -> None:
    settings, market = market_of(
        folder, "protect.kind=stop", rule="stated", d0215=(100.0, 100.6, 85.0, 99.0)
    )
    run = run_of(settings, market)
    assert stopped_at(run) == [("2024-02-15", pytest.approx(90.0, abs=0.05))]
    assert {str(order.reason) for _, order in run.protective_orders} == {
        f"protects {order.qty} STKA: stop 90.00, stated by the strategy"
        for _, order in run.protective_orders
    }


@pytest.mark.parametrize("words", [(), ("fills.remainder=carry",)])
def test_unexecuted_stated_stop_is_announced(
    folder: Path, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    print_warning_once.cache_clear()
    settings, market = market_of(folder, *words, rule="stated", d0215=(100.0, 100.6, 85.0, 99.0))
    run_of(settings, market)
    assert capsys.readouterr().err.count("protect.kind=stop") == 1


def test_baseline_is_bought_once_without_stops(folder: Path) -> None:
    settings, _ = market_of(
        folder,
        *("protect.kind=stop", "protect.cooldown=0", "watch.drawdown=0.03"),
        d0215=(100.0, 100.6, 85.0, 99.0),
    )
    results = run_backtest(settings)
    assert stopped_at(results.main_run)
    [hold] = results.benchmark_runs
    assert [float(fill.qty) > 0 for fill in hold.fills] == [True]
