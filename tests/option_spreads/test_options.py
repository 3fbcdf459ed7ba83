"""Option spreads sold along a path: what they earn, what they lose, and when they are left."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.make_bars import random_bars, starts_of_stock_bars
from execution.orders.option_orders import SHARES_PER_OPTION
from foundation.errors import DataError, InputError
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.autoscaler.trades import parse_trade_rows
from option_spreads.selling.rules import SpreadCosts, SpreadRules, build_spread
from option_spreads.simulation.path import IndexModel, IndexPaths, build_index_paths
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import SpreadTrade, simulate_spread_trade
from option_spreads.simulation.settings import IndexBarsSettings, SpreadSettings
from option_spreads.simulation.spread_report import compute_performance_figures, format_trades_csv
from option_spreads.simulation.trade_sample import read_sample
from tests.e2e.refused import answer_of, refusal_of
from tests.option_spreads.sold import sold
from tests.support.messages import refused
from trainingdata.bars import build_panel
from trainingdata.instruments import instrument
from trainingdata.sessions import exchange_calendar
from trainingdata.timeframe import HOURLY
from trainingdata.volatility_index import read_volatility_index

FREE = SpreadCosts(0, 0, 0)
FLAT = Smile(vix_multiple=1.0, slope=0, wing=0)
HELD: dict[str, Any] = dict.fromkeys(("stop_multiple", "stop_usd", "target", "trail_start"))
HELD["min_credit"] = 0.0
SIZING = AutoscalingSettings()
STRATEGIES = ("CALL", "PUT", "IRON_CONDOR", "OTM_SINGLE_SIDED")


def path(*points: float, vix: float = 20.0) -> IndexPaths:
    minutes, spot = np.linspace(0, 390, len(points)), np.array([points], dtype=float)
    return IndexPaths(sessions(1), minutes, spot, np.full_like(spot, vix), "by hand")


def sessions(count: int) -> Any:
    dates = exchange_calendar().dates
    return dates[dates >= np.datetime64("2024-01-02")][:count]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_flat_market_without_costs_earns_the_full_credit(strategy: str) -> None:
    """Realised volatility 0, implied above 0, short strikes out of the money, held to the close."""
    days = IndexModel().simulate_paths(sessions(40), 1)
    days = replace(days, spot=np.full_like(days.spot, 5000.0))
    rules = SpreadRules(strategy=strategy, entry_minutes=(30,), **HELD)
    trades = sold(days, [rules], FREE, Smile(), SIZING)
    assert len(trades) == 40
    for trade in trades:
        assert trade.exit_reason == "expired"
        assert float(trade.profit_per_contract) == round(trade.credit * SHARES_PER_OPTION, 2)


def once(days: IndexPaths, rules: SpreadRules, costs: SpreadCosts = FREE) -> SpreadTrade:
    """What is sold at the first point of a path."""
    trade = simulate_spread_trade(days, 0, 0, rules, costs, FLAT)
    assert trade is not None
    return trade


def test_spread_in_a_crash_loses_its_maximum() -> None:
    """A simulation must be able to lose as much as the contract."""
    days = path(5000, 5000, 4990, 4700)
    put = SpreadRules(strategy="PUT", entry_minutes=(0,), **HELD)
    lost, dear = once(days, put), once(days, put, SpreadCosts(0.05, 0.65, 0.65))
    assert lost.exit_reason == "settled"
    assert float(lost.profit_per_contract) == pytest.approx(-lost.max_loss, abs=0.01)
    assert dear.credit == pytest.approx(lost.credit - 0.1)
    assert float(dear.profit_per_contract) == pytest.approx(-dear.max_loss - 2 * 1.30, abs=0.01)


def test_stop_exit_loses_more_when_the_price_gaps() -> None:
    rules = SpreadRules(strategy="PUT", entry_minutes=(0,), **{**HELD, "stop_usd": 100.0})
    slow = once(path(*np.linspace(5000, 4940, 40)), rules)
    fast = once(path(5000, 5000, 4900, 4900, 5000), rules)
    assert (slow.exit_reason, fast.exit_reason) == ("stop", "gap")
    assert -150 < float(slow.profit_per_contract) <= -100
    assert float(fast.profit_per_contract) < -250


def test_profitable_spreads_exit_by_target_trailing_or_expiry() -> None:
    calm = [5000 + 3 * k for k in range(40)]
    base = SpreadRules(
        strategy="PUT", entry_minutes=(0,), target=0.5, trail_start=None, hold_to_close=()
    )
    taken, held = (
        once(path(*calm), base),
        once(path(*calm), replace(base, hold_to_close=((0, 0.2),))),
    )
    assert taken.exit_reason == "target"
    assert float(taken.profit_per_contract) >= 50 * taken.credit
    assert (held.exit_reason, float(held.profit_per_contract)) == (
        "expired",
        round(held.credit * SHARES_PER_OPTION, 2),
    )
    there_and_back = path(*calm[:12], *calm[11:3:-1], *[5000.0] * 19)
    assert (
        once(there_and_back, replace(base, target=None, trail_start=0.3)).exit_reason == "trailing"
    )


def test_entries_respect_time_volatility_and_credit_rules() -> None:
    for vix, bound in ((40, {"max_vix": 35}), (10, {"min_vix": 12}), (1, {"min_credit": 2.0})):
        flat = path(5000, 5000, vix=vix)
        assert simulate_spread_trade(flat, 0, 0, SpreadRules(**bound), FREE, FLAT) is None
    days = IndexModel().simulate_paths(sessions(5), 1)
    trades = sold(days, [SpreadRules(entry_minutes=(62, 300))], FREE, FLAT, SIZING)
    assert {float(days.minutes_since_open[trade.entry_time_index]) for trade in trades} == {
        65.0,
        300.0,
    }


@settings(max_examples=12)
@given(st.integers(0, 10_000), st.sampled_from(STRATEGIES))
def test_no_trade_exceeds_its_maximum_loss(seed: int, strategy: str) -> None:
    days = IndexModel(vix=35.0, jumps_per_year=60.0, jump_deviation=0.04).simulate_paths(
        sessions(15), seed
    )
    costs = SpreadCosts()
    trades = sold(days, [SpreadRules(strategy=strategy, max_vix=200.0)], costs, Smile(), SIZING)
    for trade in trades:
        legs = len(trade.spread.legs)
        out = legs * (
            2 * (costs.commission + costs.fee) + (costs.slippage + 0.01) * SHARES_PER_OPTION
        )
        assert (
            -trade.max_loss - out
            <= float(trade.profit_per_contract)
            <= trade.credit * SHARES_PER_OPTION
        )
        assert 1 <= trade.contracts <= 3
    told = compute_performance_figures(trades, days, 20_000.0)
    earned = sum(float(t.profit_per_contract) * t.contracts for t in trades)
    assert told["final_balance"] == pytest.approx(20_000 + earned)


def test_standard_error_clusters_trades_by_day() -> None:
    days = IndexModel().simulate_paths(sessions(2), 0)
    spread = build_spread("PUT", 5000.0, distance=20, width=5)
    trades = [
        SpreadTrade(day, 0, 1, spread, 1.0, Fraction(result), "target", 1)
        for day, result in ((0, 1), (0, 1), (1, -1), (1, -1))
    ]
    told = compute_performance_figures(trades, days, 20_000.0)
    # Four trades on two days of +-2; counted as four independent trades it would be 0.58.
    assert (told["mean"], told["mean_error"]) == (0.0, 1.0)
    assert compute_performance_figures(trades[:2], days, 20_000.0)["mean_error"] is None


def test_simulated_index_path_depends_on_seed_not_length() -> None:
    """A longer simulation starts with the same days."""
    short, long = (IndexModel().simulate_paths(sessions(n), 3) for n in (50, 120))
    np.testing.assert_array_equal(short.spot, long.spot[:50])
    assert (IndexModel().simulate_paths(sessions(50), 4).spot != short.spot).any()


def spy(*sessions_of_bars: list[list[float]]) -> Any:
    """Bars of SPY from 2024-06-28 on; a session is as many as it has."""
    grid = HOURLY.stock_clock
    first = int(np.searchsorted(grid.ends, np.datetime64("2024-06-28")))
    values = np.array([bar for session in sessions_of_bars for bar in session])
    return build_panel(
        [(instrument("SPY"), grid.ends[first : first + len(values)], values)], "by hand"
    )


FLAT_HOUR = [500.0, 501.0, 499.0, 500.0, 1e6]
VIX = pd.Series(
    [11.0, 12.0, 13.0, 14.0],
    index=pd.to_datetime(["2024-06-27", "2024-06-28", "2024-07-01", "2024-07-02"]),
)


def test_index_paths_cover_full_sessions_with_previous_vix() -> None:
    bars = spy(*[[FLAT_HOUR] * 7] * 3, [FLAT_HOUR] * 4)  # the last is the half-day of 3 July
    days = build_index_paths(bars, "SPY", VIX, 10.0)
    assert days.dates.astype(str).tolist() == [
        "2024-07-01",
        "2024-07-02",
    ]  # the first has no close before it
    assert days.vix[:, 0].tolist() == [12.0, 13.0]
    assert (days.spot.min(), days.spot.max()) == (4990.0, 5010.0)
    np.testing.assert_array_equal(days.spot[0, ::12], 5000.0)


def test_intraday_vix_opposes_the_index_without_look_ahead() -> None:
    falls = [[500.0 - k, 500.0 - k, 499.0 - k, 499.0 - k, 1e6] for k in range(7)]
    days = build_index_paths(spy([FLAT_HOUR] * 7, falls), "SPY", VIX, volatility_response=5.0)
    np.testing.assert_allclose(days.vix[0], 12.0 * (days.spot[0] / 500.0) ** -5)
    other = build_index_paths(
        spy([FLAT_HOUR] * 7, [*falls[:3], *[FLAT_HOUR] * 4]), "SPY", VIX, volatility_response=5.0
    )
    np.testing.assert_array_equal(other.spot[0, :36], days.spot[0, :36])
    assert (other.spot[0, 37:] != days.spot[0, 37:]).all()


def test_stop_inside_an_hourly_bar_is_triggered() -> None:
    """A bar that closes where it opened has still traded at its low."""
    dip = [500.0, 500.5, 492.0, 500.0, 1e6]
    days = build_index_paths(
        spy([FLAT_HOUR] * 7, [FLAT_HOUR, dip, *[FLAT_HOUR] * 5]), "SPY", VIX, 10.0
    )
    rules = SpreadRules(strategy="PUT", target=None, trail_start=None, hold_to_close=())
    lost = simulate_spread_trade(days, 0, 6, rules, FREE, FLAT)
    assert lost is not None
    assert lost.exit_reason in ("stop", "gap")
    assert 60 < days.minutes_since_open[lost.exit_time_index] < 120


def test_trade_ids_are_unique_with_day_and_minute(tmp_path: Path) -> None:
    """Entries at minutes 61 and 62 fall on the same path point, 65. The Monte Carlo command reads
    the file.
    """
    days = IndexModel().simulate_paths(sessions(6), 2)
    rules = [
        SpreadRules(strategy="PUT", entry_minutes=(61, 62, 300)),
        SpreadRules(strategy="IRON_CONDOR", entry_minutes=(210,)),
    ]
    trades = sold(days, rules, SpreadCosts(), Smile(), SIZING)
    table = format_trades_csv(trades, days)
    names = [row["Trade_ID"] for row in parse_trade_rows(table.encode())[1]]
    day = str(days.dates[0]).replace("-", "")
    assert {f"PUT-{day}-065", f"PUT-{day}-065-2", f"PUT-{day}-300"} <= set(names)
    assert len(set(names)) == len(trades)
    (tmp_path / "trades.csv").write_text(table)
    sample = read_sample(tmp_path / "trades.csv", np.datetime64("2030-01-01", "ns"))
    for told, expected in (
        (sample.profit_units, [float(t.profit_per_contract) for t in trades]),
        (sample.max_loss_units, [t.max_loss for t in trades]),
    ):
        np.testing.assert_allclose(told / 10_000, expected, atol=0.01)


@pytest.mark.parametrize(
    "wrong",
    [
        {"entry_minutes": ()},
        {"entry_minutes": (400,)},
        {"entry_minutes": (30, 30)},
        {"min_vix": 36.0},
        {"hold_to_close": ((300, 0.5), (240, 0.6))},
        {"hold_to_close": ((240, 2.0),)},
    ],
)
def test_invalid_spread_rules_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        SpreadRules(**wrong)


def closes(*rows: tuple[str | None, float]) -> pd.DataFrame:
    days, points = zip(*rows, strict=True) if rows else ((), ())
    return pd.DataFrame({"timestamp": pd.DatetimeIndex(days), "close": np.array(points, float)})


@pytest.mark.parametrize(
    ("name", "content", "facts"),
    [
        ("nope.parquet", None, ()),
        ("vix.csv", b"timestamp,close\n2024-01-02,13\n", ()),
        ("vix.parquet", pd.DataFrame({"close": [13.0]}), ()),
        ("vix.parquet", closes(), ()),
        ("vix.parquet", closes(("2024-01-02", 13), (None, 14)), ()),
        ("vix.parquet", closes(("2024-01-02", 13), ("2024-01-02", 14)), ("2024-01-02",)),
        ("vix.parquet", closes(("2024-01-02", 0.13)), ("0.13",)),
        ("vix.parquet", closes(("2024-01-02", 4700)), ("4700",)),
        ("vix.parquet", closes(("2024-01-02", np.inf)), ("0",)),
        (
            "vix.parquet",
            pd.DataFrame({"timestamp": ["2/10/2024"], "close": [13.0]}),
            ("2/10/2024",),
        ),
    ],
)
def test_invalid_vix_file_is_explained(
    tmp_path: Path, name: str, content: Any, facts: tuple[str, ...]
) -> None:
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        content.to_parquet(tmp_path / name)
    with refused(DataError, "vix", *facts, varies=r"(?<=: )\w+(Error|Invalid): .*"):
        read_volatility_index(str(tmp_path / name), "vix")


def days_of(folder: Path, bars: pd.DataFrame, vix: pd.DataFrame) -> IndexPaths:
    """The sessions of files of bars and of a volatility index."""
    folder.mkdir()
    bars.to_csv(folder / "SPY.csv", index=False)
    vix.to_parquet(folder / "vix.parquet")
    files = IndexBarsSettings(dir=(str(folder),), vix=str(folder / "vix.parquet"))
    return SpreadSettings(bars=files).load_index_paths()


@pytest.mark.parametrize(
    ("spoilt", "factor", "left_out", "says"),
    [
        *(("hour 3", factor, [19], "SPY, ") for factor in (100.0, 0.01)),
        # The session after a bad close has no previous close and is not traded either.
        *(("hour 6", factor, [19, 20], "SPY, ") for factor in (100.0, 0.5)),
        *(("index", factor, [20], "bars.vix: 1 close skipped") for factor in (10.0, 0.1)),
    ],
)
def test_sessions_with_bad_bar_or_vix_are_dropped(
    tmp_path: Path,
    spoilt: str,
    factor: float,
    left_out: list[int],
    says: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts = starts_of_stock_bars()
    bars = random_bars(starts, 500.0, 3)
    dates = starts.normalize().unique().tz_convert("UTC")
    vix = pd.DataFrame({"timestamp": dates, "close": 15.0 + np.arange(len(dates)) % 3})
    whole = days_of(tmp_path / "whole", bars, vix)
    if spoilt == "index":
        vix.loc[20, "close"] *= factor
    else:
        bars.loc[20 * 7 + int(spoilt[-1]), ["open", "high", "low", "close"]] *= factor
    rest = days_of(tmp_path / "spoilt", bars, vix)
    kept = np.isin(whole.dates, rest.dates)
    assert np.flatnonzero(~kept).tolist() == left_out
    np.testing.assert_array_equal(whole.spot[kept], rest.spot)
    np.testing.assert_array_equal(whole.vix[kept], rest.vix)
    (said,) = caplog.messages
    assert said.startswith(says)
    if spoilt == "index":
        assert f"the first is of {dates[20].date()}" in said
        live = read_volatility_index(str(tmp_path / "spoilt" / "vix.parquet"), "vix").index.date
        assert live.tolist() == [day.date() for day in dates if day != dates[20]]
    else:
        assert "the bar is skipped" in said


@pytest.mark.slow
def test_spread_backtest_reports_every_strategy_and_refuses_errors(tmp_path: Path) -> None:
    words = ("output=out", "seed=5", "rules.entry_minutes=[60]")
    code, printed, said = answer_of("option_spreads.backtest", *words, cwd=tmp_path)
    assert code == 0, said
    assert "model prices" in printed
    told = json.loads((tmp_path / "out" / "spreads.json").read_text())
    assert set(told["account"]["by_strategy"]) == set(STRATEGIES)
    made = {"spreads.json", "spreads.html", "trades.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == made
    rows = (tmp_path / "out" / "trades.csv").read_text().splitlines()
    assert len(rows) == 1 + told["account"]["trades"]
    for wrong in ("strategies=[STRADDLE]", "bars.dir=[x]", "rules.hold_to_close=[[300,2]]"):
        assert refusal_of("option_spreads.backtest", wrong, "output=no", cwd=tmp_path)
    assert not (tmp_path / "no").exists()
