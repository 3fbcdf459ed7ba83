"""One account that sells several strategies: what it holds back, what it books, what it reports."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import InputError
from foundation.formatting import format_usd
from option_spreads import COMMANDS
from option_spreads.autoscaler.rules import AutoscalingSettings
from option_spreads.backtest import backtest_account, summarize_backtest
from option_spreads.selling.rules import (
    ExitReason,
    SpreadCosts,
    SpreadRules,
    build_spread,
    find_opposite_leg,
)
from option_spreads.simulation.path import IndexModel, IndexPaths
from option_spreads.simulation.pricing import Smile
from option_spreads.simulation.selling import (
    SpreadTrade,
    list_candidate_trades,
    simulate_spread_account,
)
from option_spreads.simulation.settings import IndexBarsSettings, SpreadSettings
from option_spreads.simulation.spread_page import render_spread_page
from option_spreads.simulation.spread_report import (
    compute_account_figures,
    compute_cost_figures,
    compute_performance_figures,
    render_report,
)
from tests.option_spreads.sold import printed, sold
from tests.support.messages import refused
from trainingdata.sessions import exchange_calendar

PUT = build_spread("PUT", 5000.0, distance=20, width=5)
SIZING = AutoscalingSettings()
BOTH = ("PUT", "IRON_CONDOR")


def path(days: int, seed: int = 0, **model: Any) -> IndexPaths:
    dates = exchange_calendar().dates
    dates = dates[dates >= np.datetime64("2024-01-02")][:days]
    return IndexModel(**model).simulate_paths(dates, seed)


def offer(
    day: int, entry: int, leave: int, result: object, exit: ExitReason = "target", **more: Any
) -> SpreadTrade:
    """A put spread of width 5, sold at 1.00: one contract risks $400 and holds $500."""
    return SpreadTrade(day, entry, leave, PUT, 1.0, Fraction(str(result)), exit, **more)


def exactly(amount: float) -> Fraction:
    """The amount as it is written."""
    return Fraction(str(amount))


def rules_of(*names: str) -> list[SpreadRules]:
    return [SpreadRules(strategy=name) for name in names]


def test_contract_sizing_window_orders_trades_by_closing_time() -> None:
    """With a window of one trade, the last to close decides, not the last to be entered."""
    sizing = replace(SIZING, BOOTSTRAP_TRADES=2, ROLLING_WINDOW=1)
    won_first = [offer(0, 1, 5, "-50"), offer(0, 2, 4, "60"), offer(0, 6, 7, "1")]
    lost_last = simulate_spread_account(won_first, sizing)
    assert [float(trade.profit_per_contract) for trade in lost_last.trades] == [60, -50, 1]
    assert lost_last.trades[2].contracts == 1  # the last to close has lost: negative Kelly
    won_last = [offer(0, 1, 4, "-50"), offer(0, 2, 5, "60"), offer(0, 6, 7, "1")]
    assert simulate_spread_account(won_last, sizing).trades[2].contracts == 3


def test_results_of_open_spreads_do_not_affect_sizing() -> None:
    """Of three simultaneous entries, later ones do not know the result of earlier ones."""
    sizing = replace(SIZING, BOOTSTRAP_TRADES=1)
    at_once = [offer(0, 1, 9, "80"), offer(0, 1, 9, "80"), offer(0, 8, 9, "80")]
    assert [trade.contracts for trade in simulate_spread_account(at_once, sizing).trades] == [
        1,
        1,
        1,
    ]
    later = [offer(0, 1, 2, "80"), offer(0, 2, 9, "80")]  # closed and entered at the same check
    assert [trade.contracts for trade in simulate_spread_account(later, sizing).trades] == [1, 3]


@pytest.mark.parametrize(
    ("capital", "max_position", "sold", "reason"),
    [
        (1_400, 10.0, [1, 1], "not_covered"),  # $1,400 covers two widths of $500
        (2_100, 0.75, [1, 1, 1], "max_position"),  # 4 x 500 > 0.75 x 2,100
        (2_000, 0.75, [1, 1, 1], "max_position"),  # 3 x 500 is exactly the bound
        (20_000, 0.75, [1, 1, 1, 1], None),
    ],
)
def test_collateral_of_open_spreads_reduces_available_balance(
    capital: float, max_position: float, sold: list[int], reason: str | None
) -> None:
    sizing = replace(SIZING, STARTING_CAPITAL=float(capital))
    at_once = [offer(0, 1, 9, "10") for _ in range(4)]
    account = simulate_spread_account(at_once, sizing, max_position)
    assert [trade.contracts for trade in account.trades] == sold
    assert {refusal.reason for refusal in account.refused_trades} == ({reason} if reason else set())
    assert account.max_collateral == 500.0 * len(sold)
    # A closed spread frees its collateral.
    again = simulate_spread_account([*at_once, offer(0, 9, 10, "10")], sizing, max_position)
    assert len(again.trades) == len(sold) + 1


def test_leg_opposite_to_an_open_one_is_refused() -> None:
    """The new spread buys the put that the open one has sold; once that is closed, it is sold."""
    nearer = build_spread("PUT", 5005.0, distance=20, width=5)
    assert str(find_opposite_leg(nearer, [PUT])) == "buy 4980 put"
    assert find_opposite_leg(PUT, [PUT]) is None
    assert find_opposite_leg(build_spread("CALL", 4955.0, distance=20, width=5), [PUT]) is None
    offers = [
        offer(0, 1, 5, "10"),
        replace(offer(0, 2, 9, "10"), spread=nearer),
        replace(offer(0, 6, 9, "10"), spread=nearer),
    ]
    account = simulate_spread_account(offers, SIZING)
    assert [trade.entry_time_index for trade in account.trades] == [1, 6]
    assert [refusal.reason for refusal in account.refused_trades] == ["opposite_leg"]


def test_contract_count_is_cut_to_available_collateral() -> None:
    sizing = replace(SIZING, BOOTSTRAP_MODE="prior", STARTING_CAPITAL=6_200.0, MAX_CONTRACTS=10)
    at_once = [offer(0, 1, 9, "10") for _ in range(5)]
    account = simulate_spread_account(at_once, sizing, 10.0)
    # Half-Kelly of the prior: 20.5 % of 6,200 over 400 at risk is 3; 6,200 cover 12.
    assert [trade.contracts for trade in account.trades] == [3, 3, 3, 3]
    short = simulate_spread_account(at_once, replace(sizing, STARTING_CAPITAL=5_900.0), 10.0)
    assert [trade.contracts for trade in short.trades] == [3, 3, 3, 2]
    assert (account.downsized_trade_count, short.downsized_trade_count) == (0, 1)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from((0.3, 0.75, 10.0)), st.integers(2_000, 30_000))
def test_account_collateral_stays_bounded_and_balance_adds_up(
    seed: int, max_position: float, capital: int
) -> None:
    days = path(8, seed, vix=30.0, jumps_per_year=60.0, jump_deviation=0.03)
    sizing = replace(
        SIZING, STARTING_CAPITAL=float(capital), BOOTSTRAP_MODE="prior", MAX_CONTRACTS=20
    )
    rules = rules_of("CALL", *BOTH, "OTM_SINGLE_SIDED")
    offers = list_candidate_trades(days, rules, SpreadCosts(), Smile())
    account = simulate_spread_account(offers, sizing, max_position)
    assert len(account.trades) + len(account.refused_trades) == len(offers)
    booked = capital + sum((trade.total_profit for trade in account.trades), Fraction(0))
    told = compute_account_figures(account, days)
    assert told["final_balance"] == pytest.approx(float(booked), abs=1e-6)
    bound = Fraction(str(min(max_position, 1.0)))
    for entered in account.trades:
        at = entered.day_index, entered.entry_time_index
        held = [
            t
            for t in account.trades
            if t.day_index == at[0] and t.entry_time_index <= at[1] < t.exit_time_index
        ]
        closed = sum(
            t.total_profit for t in account.trades if (t.day_index, t.exit_time_index) <= at
        )
        collateral = sum(Fraction(t.spread.collateral) * t.contracts for t in held)
        assert collateral <= bound * (capital + closed)


def test_cost_breakdown_explains_difference_to_costless_run() -> None:
    days = path(40, 2)
    sizing = replace(SIZING, AUTOSCALING_ENABLED=False, STARTING_CAPITAL=1e6)
    held: Any = {"stop_usd": None, "stop_multiple": None, "target": None, "trail_start": None}
    rules = [SpreadRules(strategy="PUT", min_credit=0.0, exit_minute=350, **held)]
    costs = SpreadCosts(0.05, 0.4, 0.3)
    paid = sold(days, rules, costs, Smile(), sizing)
    told = compute_cost_figures(paid, costs)
    # Two legs, sold and bought back: 4 x 0.40 and 4 x 0.30 a contract.
    assert told["commission"] == pytest.approx(1.6 * len(paid))
    assert told["fee"] == pytest.approx(1.2 * len(paid))
    assert told["total"] == pytest.approx(told["slippage"] + 2.8 * len(paid))
    # Without costs the same spreads are sold and left at the same points, at whole cents.
    free = sold(days, rules, SpreadCosts(0, 0, 0), Smile(), sizing)
    rest = compute_cost_figures(free, SpreadCosts(0, 0, 0))
    assert 0 < rest["slippage"] <= 4 * len(free)
    assert rest["commission"] == rest["fee"] == 0
    difference = float(sum(t.total_profit for t in free) - sum(t.total_profit for t in paid))
    assert told["total"] - rest["total"] == pytest.approx(difference)


def test_spread_held_to_expiry_pays_costs_only_once() -> None:
    days = path(3, 1, volatility_premium=10.0, jumps_per_year=0.0)
    costs = SpreadCosts(0.05, 0.65, 0.65)
    trades = sold(days, rules_of("PUT"), costs, Smile(), SIZING)
    for trade in trades:
        orders = 1 if trade.exit_reason in ("expired", "settled") else 2
        told = compute_cost_figures([replace(trade, contracts=2)], costs)
        assert told["commission"] == told["fee"] == pytest.approx(2 * 0.65 * 2 * orders)
        assert 0 < told["slippage"] <= 2 * 12 * orders
    assert {trade.exit_reason for trade in trades} >= {"expired"}
    assert set(compute_cost_figures([], costs).values()) == {0.0}


def test_profit_factor_and_losing_days_match_hand_calculation() -> None:
    """Fees of a tenth of a cent are rounded once a trade, as in the account's file."""
    days = path(4)
    trades = [
        offer(0, 1, 2, "30", contracts=2),
        offer(0, 3, 4, "-40", contracts=1),  # day 0: +20
        offer(1, 1, 2, "-25", contracts=2),  # day 1: -50
        offer(2, 1, 2, "10", contracts=1),
        offer(2, 3, 4, "-10", contracts=1),  # day 2: neither won nor lost
    ]
    told = compute_performance_figures(trades, days, 20_000.0)
    assert told["profit_factor"] == pytest.approx(70 / 100)
    assert (told["winning_days"], told["losing_days"], told["days_with_trades"]) == (1, 1, 3)
    assert (told["worst_day"], told["profit"]) == (-50.0, -30.0)
    (trade,) = simulate_spread_account([offer(0, 1, 2, "10.1234")], SIZING).trades
    assert trade.total_profit == Fraction("10.12")
    assert compute_performance_figures([trade], days, 20_000.0)["final_balance"] == 20_010.12


def test_missing_profit_factor_is_explained_in_the_report() -> None:
    run = SpreadSettings(strategies=("PUT",), rules=SpreadRules(min_credit=100.0))
    days = path(20)
    account = backtest_account(run, days)
    summary = summarize_backtest(run, days, account)
    assert "no spread was sold" in render_spread_page(summary, account, days)
    assert summary.keys() >= {*COMMANDS["spread_backtest"].marker_keys}, "its folder is known again"
    told = summary["account"]
    assert (told["profit_factor"], told["worst_day"]) == (None, None)
    assert told["trades"] == told["offers"] == 0
    text = printed(render_report(summary))
    for line in (r"profit factor +│ +—, no trade", r"stopped, gapped +│ +— │"):
        assert re.search(line, text)
    assert "the configured premium" in " ".join(text.split())
    won = compute_performance_figures([offer(0, 1, 2, "30", contracts=1)], days, 20_000.0)
    assert (won["profit_factor"], won["losing_days"]) == (None, 0)
    told |= won | {"final_balance": -1234.4}
    text = printed(render_report(summary))
    for line in (r"profit factor +│ +—, no loss", r"final balance +│ +-\$1,234 │"):
        assert re.search(line, text)
    assert json.dumps(summary, allow_nan=False)


@given(st.integers(1, 499), st.integers(1, 100))
def test_spread_with_credit_equal_to_minimum_is_sold(cents: int, least: int) -> None:
    spread = build_spread("PUT", 5000.0, distance=20, width=5)
    rules = SpreadRules(strategy="PUT", min_credit=least / 100)
    assert rules.accepts_credit(float(Decimal(cents) / 100), spread) == (cents >= least)


def test_entry_after_the_exit_time_is_refused() -> None:
    with refused(InputError, "210"):
        SpreadSettings(rules=SpreadRules(exit_minute=210.0))


def test_options_on_simulated_index_are_priced_without_smile() -> None:
    """The index model has flat volatility: a smile would pay the seller for falls that never
    come.
    """
    steep = Smile(slope=0.1, wing=0.5, vix_multiple=0.7)
    run = SpreadSettings(strategies=BOTH, smile=steep)
    assert run.pricing_smile == Smile(slope=0.0, wing=0.0, vix_multiple=0.7)
    level = replace(run, smile=Smile(vix_multiple=0.7))
    days = path(10)
    assert backtest_account(run, days) == backtest_account(level, days)
    bars = IndexBarsSettings(dir=("bars",), vix="vix.parquet")
    assert replace(run, bars=bars).pricing_smile == steep


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("costs", "halted"), [(SpreadCosts(), True), (SpreadCosts(0.025, 0.6543, 0.0321), False)]
)
def test_strategy_figures_add_up_to_the_account_exactly(costs: SpreadCosts, halted: bool) -> None:
    index = IndexModel(step_minutes=30, volatility_premium=0.0 if halted else 0.3)
    run = SpreadSettings(strategies=("PUT", "CALL"), index=index, costs=costs)
    days = run.load_index_paths()
    account = summarize_backtest(run, days, backtest_account(run, days))["account"]
    parts = account["by_strategy"].values()
    assert sum(part["trades"] for part in parts) == account["trades"] > 0
    assert sum(exactly(part["profit"]) for part in parts) == exactly(account["profit"])
    for kind in ("slippage", "commission", "fee", "total"):
        told = exactly(account["costs"][kind])
        assert sum(exactly(part["costs"][kind]) for part in parts) == told
    *kinds, total = (exactly(cost) for cost in account["costs"].values())
    assert sum(kinds) == total
    assert account["offers"] == account["trades"] + sum(account["unsold"].values())
    assert (account["first_halt"] is not None) == halted


def test_report_first_line_states_when_account_stopped() -> None:
    run = SpreadSettings(
        strategies=("PUT",),
        NEGATIVE_KELLY_CONTRACTS=0,
        index=IndexModel(step_minutes=30, volatility_premium=-0.5),
    )
    days = run.load_index_paths()
    summary = summarize_backtest(run, days, backtest_account(run, days))
    stopped = summary["account"]["stopped"]
    assert stopped["reason"] == "negative_kelly"
    first = " ".join(printed(render_report(summary)).split())
    balance = format_usd(summary["account"]["final_balance"], 0)
    assert first.startswith(
        f"Stopped on {stopped['date']} at a balance of {balance}: a negative Kelly fraction"
    )
    assert f"The last {stopped['sessions_left']} sessions of {len(days.dates)}" in first


def test_account_trading_until_the_end_reports_no_stop() -> None:
    run = SpreadSettings(
        strategies=("PUT",), index=IndexModel(step_minutes=30, volatility_premium=0.3)
    )
    days = run.load_index_paths()
    summary = summarize_backtest(run, days, backtest_account(run, days))
    assert summary["account"]["stopped"] is None
    assert "Stopped on" not in printed(render_report(summary))
