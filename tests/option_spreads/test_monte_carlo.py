"""Resampled trades with the autoscaler inside: the rules of `option_spreads.autoscaler.rules`, run
by run.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foundation.errors import DataError, InputError
from option_spreads.autoscaler.rules import AutoscalingSettings, TradeStatistics, count_contracts
from option_spreads.monte_carlo import plot_final_balances
from option_spreads.simulation.resampled_accounts import (
    find_sample_warnings,
    simulate_accounts,
    stress_loss_probability,
    summarize_paths,
)
from option_spreads.simulation.resampling import (
    UNITS_PER_DOLLAR,
    AccountPaths,
    IntArray,
    ScaledSizingRules,
    draw_trades,
    insert_random_max_losses,
    simulate_account_paths,
)
from option_spreads.simulation.settings import MonteCarloSettings
from option_spreads.simulation.trade_sample import TradeSample, read_sample
from tests.e2e.refused import answer_of, refusal_of
from tests.option_spreads.sold import file_of
from tests.support.messages import refused

NOW = np.datetime64("2024-12-02T15:00", "ns")


def alone(
    results: IntArray, risks: IntArray, gains: IntArray, trades_per_day: float
) -> TradeSample:
    """Trades each of which had closed before the next was entered."""
    return TradeSample(results, risks, gains, trades_per_day, np.zeros_like(results))


RISKS = np.full(50, 250 * UNITS_PER_DOLLAR)
# Fifty trades that never lost more than 67 of 250.
FIFTY = alone(np.array([30] * 40 + [-67] * 10) * UNITS_PER_DOLLAR, RISKS, RISKS, 2.0)


def exactly(
    results: IntArray,
    risks: IntArray,
    overlaps: IntArray,
    draws: Iterable[Iterable[int]],
    rules: AutoscalingSettings,
) -> tuple[list[Fraction], bool, int]:
    """One run [D, P] in exact fractions, by the function that sizes real orders: balances by
    day, halted, contracts.
    """
    history: list[Fraction] = []
    path = [Fraction(str(rules.STARTING_CAPITAL))]
    days = []
    halted = False
    total = 0

    def book(size: int, result: Fraction) -> None:
        history.append(result)
        path.append(path[-1] + size * result)

    for day in draws:
        waiting: list[tuple[int, Fraction]] = []
        for k in day:
            while len(waiting) > overlaps[k]:
                book(*waiting.pop(0))
            window = TradeStatistics.from_profits(history[-rules.ROLLING_WINDOW :])
            sized = count_contracts(
                path[-1], window, len(history), Fraction(int(risks[k]), UNITS_PER_DOLLAR), rules
            )
            halted |= "halt" in sized.reason
            if sized.contracts == 0:
                break
            waiting.append((sized.contracts, Fraction(int(results[k]), UNITS_PER_DOLLAR)))
            total += sized.contracts
        for each in waiting:
            book(*each)
        days.append(path[-1])
    last = count_contracts(path[-1], TradeStatistics.from_profits([]), 0, Fraction(1), rules)
    return days, halted or last.is_halted, total


RULES = st.builds(
    AutoscalingSettings,
    STARTING_CAPITAL=st.sampled_from([1_000.0, 5_000.0, 20_000.0]),
    MAX_CONTRACTS=st.sampled_from([1, 3, 40]),
    BOOTSTRAP_TRADES=st.sampled_from([0, 3, 10]),
    BOOTSTRAP_MODE=st.sampled_from(["one_contract", "prior"]),
    ROLLING_WINDOW=st.sampled_from([1, 5, 20]),
    SAFETY_HALT_PCT=st.sampled_from([0.0, 0.5, 0.56, 0.9]),
    KELLY_FRACTION=st.sampled_from([0.5, 0.5, 1.0, 0.3]),
    AUTOSCALING_ENABLED=st.sampled_from([True, True, False]),
    NEGATIVE_KELLY_CONTRACTS=st.sampled_from([0, 1]),
)


@settings(max_examples=50)
@given(
    RULES,
    st.lists(st.integers(-400, 300), min_size=1, max_size=12),
    st.integers(0, 10_000),
    st.sampled_from([1, 1.5, 3, 5]),
    st.sampled_from([0, 1, 9]),
)
def test_simulated_account_paths_match_sequential_exact_calculation(
    rules: AutoscalingSettings, dollars: list[int], seed: int, a_day: float, most_open: int
) -> None:
    """Some days may have one trade less."""
    results = np.array(dollars, dtype=np.int64) * UNITS_PER_DOLLAR
    overlaps = np.random.default_rng(seed).integers(most_open + 1, size=len(results))
    risks = np.full(len(results), 400 * UNITS_PER_DOLLAR, dtype=np.int64)
    draws = draw_trades(len(results), 4, 12, a_day, seed)
    found = simulate_account_paths(
        results, risks, draws, ScaledSizingRules.from_settings(rules), overlaps
    )
    for r in range(4):
        by_day = [[k for k in day if k >= 0] for day in draws[r]]
        days, halted, total = exactly(results, risks, overlaps, by_day, rules)
        assert found.balances[r].tolist() == [float(balance) for balance in days]
        assert (bool(found.has_halted[r]), int(found.contract_counts[r])) == (halted, total)


def test_monte_carlo_stress_adds_maximum_losses_never_observed() -> None:
    """The probability of a maximum loss is above 0."""
    told = MonteCarloSettings(runs=2_000, days=100, STARTING_CAPITAL=5_000)
    assert stress_loss_probability(FIFTY) == pytest.approx(1 - 0.05 ** (1 / 50))
    figures = {name: summarize_paths(runs) for name, runs in simulate_accounts(FIFTY, told).items()}
    assert figures["stress"]["p_loss"] > figures["iid"]["p_loss"] + 0.2
    assert figures["stress"]["max_drawdown"]["p95"] > 2 * figures["iid"]["max_drawdown"]["p95"]
    assert figures["stress"]["p_halt"] > figures["iid"]["p_halt"]
    seen = alone(
        results=np.append(FIFTY.profit_units, -250 * UNITS_PER_DOLLAR),
        risks=np.append(FIFTY.max_loss_units, 250 * UNITS_PER_DOLLAR),
        gains=np.append(FIFTY.max_gain_units, 250 * UNITS_PER_DOLLAR),
        trades_per_day=2.0,
    )
    assert stress_loss_probability(seen) == pytest.approx(1 / 51)


def test_summary_statistics_match_the_simulated_runs() -> None:
    pair = np.array([400, 400]) * UNITS_PER_DOLLAR
    sample = alone(np.array([100, -50]) * UNITS_PER_DOLLAR, pair, pair, 1.0)
    runs = simulate_accounts(sample, MonteCarloSettings(runs=500, days=30))["iid"]
    told = summarize_paths(runs)
    final = runs.balances[:, -1]
    ends = told["final_balance"]
    assert ends["standard_deviation"] == np.std(final)
    assert (ends["least"], ends["most"]) == (final.min(), final.max())
    assert ends["p50"] == np.median(final)
    assert told["p_loss"] == np.mean(final < 20_000)
    r = 3
    curve = np.concatenate([[20_000.0], runs.balances[r]])
    top = np.maximum.accumulate(curve)
    assert runs.max_drawdown_share[r] == pytest.approx((1 - curve / top).max())
    assert runs.max_drawdown_usd[r] == (top - curve).max()
    assert told["max_drawdown_usd"]["most"] == runs.max_drawdown_usd.max()
    assert told["max_drawdown"]["most"] == runs.max_drawdown_share.max()
    below = (curve < top).astype(int)
    longest = max(len(stretch) for stretch in "".join(map(str, below)).split("0"))
    assert runs.longest_days_under_water[r] == longest


def test_trade_file_yields_profit_and_risk_per_contract(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        "2024-10-01 10:00,a,PUT,5700/5695,2.50,3,15:00,300,TP",
        "2024-10-01 11:00,b,IRON_CONDOR,5600/5595/5800/5810,2.70,2,15:00,-146,SL",
        "2024-10-02 10:00,c,OTM-SS,,1.00,,15:00,-900,SL",
        "2024-10-02 10:00,d,DEPOSIT,,,,15:00,5000,",
        "2024-10-03 10:00,e,PUT,5700/5695,2.50,1,,,",
    )
    sample = read_sample(path, NOW)
    assert (sample.profit_units / UNITS_PER_DOLLAR).tolist() == [100, -73, -900]
    assert (sample.max_loss_units / UNITS_PER_DOLLAR).tolist() == [250, 730, 900]
    assert (sample.trades_per_day, sample.max_loss_count) == (1.5, 1)


def test_trade_file_row_order_does_not_matter(tmp_path: Path) -> None:
    """Blocks and overlaps follow the closing order of trades."""
    rows = [
        f"2024-10-0{1 + k // 3} 10:0{k},{k},PUT,5700/5695,2.50,1,1{k}:30,{10 * k},TP"
        for k in range(5)
    ]
    whole = read_sample(file_of(tmp_path, *rows), NOW)
    assert (whole.profit_units / UNITS_PER_DOLLAR).tolist() == [0, 10, 20, 30, 40]
    for order in itertools.islice(itertools.permutations(rows), 0, None, 9):
        shuffled = read_sample(file_of(tmp_path, *order), NOW)
        for name in (
            "profit_units",
            "max_loss_units",
            "max_gain_units",
            "overlapping_trade_counts",
        ):
            np.testing.assert_array_equal(getattr(shuffled, name), getattr(whole, name))


PUT = "PUT,5700/5695,2.5,1"
LATER = "in the future (now 2024-12-02T15"


@pytest.mark.parametrize(
    ("row", "facts"),
    [
        ("2024,a,PUT,5700/5695,,1,15:00,30,TP", ("row 2", "Entry_Credit")),
        ("2024,a,PUT,5700/5695,2_5,1,15:00,30,TP", ("row 2", "'2_5'")),
        ("2024,a,STRADDLE,,2.5,1,15:00,30,TP", ("row 2", "STRADDLE")),
        ("2024,a,PUT,5700/5695,9,1,15:00,30,TP", ("row 2", "entry_credit")),
        (f"2024,a,{PUT},15:00,nan,TP", ("row 2",)),
        (f"2024-10-01,a,{PUT},15:00,9e14,TP", ("row 2", "P/L_", "9e14")),
        (f"2024-10-01,a,{PUT},2099-01-01 15:00,30,TP", ("Exit_Time", "'2099-01-01 15:00'", LATER)),
        *(
            (f"{word},a,{PUT},15:00,30,TP", ("row 2", "Timestamp_ET", f"'{word}'"))
            for word in ("yesterday", "1/2/2024", "2024-10-01 25:00")
        ),
        *(
            (f"{word},a,{PUT},15:00,30,TP", ("row 2", "Timestamp_ET", f"'{word}'", LATER))
            for word in ("2099-01-01", "2024-12-02T15:01Z")
        ),
        *(
            (f"{entered},a,{PUT},{left},30,TP", ("row 2", "Exit_Time", left))
            for entered, left in (
                ("2024-10-01 10:00", "09:59"),
                ("2024-10-01 10:00", "2024-10-01 09:59"),
                ("2024-10-01T14:00Z", "2024-10-01T13:59Z"),
            )
        ),
    ],
)
def test_invalid_trade_row_is_named_with_its_file(
    tmp_path: Path, row: str, facts: tuple[str, ...]
) -> None:
    path = file_of(tmp_path, f"2024-10-01 10:00,b,{PUT},10:00,30,TP", row)
    with refused(DataError, "trades", path, *facts):
        read_sample(path, NOW)


def test_trade_timestamps_map_to_new_york_dates(tmp_path: Path) -> None:
    """Four trades fall on two New York days: 02:00 UTC is the evening before."""
    entered = ("2024-11-26", "2024-11-26 10:00", "2024-11-26T09:59:59", "2024-11-26T02:00Z")
    rows = [f"{at},{k},PUT,5700/5695,2.5,1,15:00,30,TP" for k, at in enumerate(entered)]
    assert read_sample(file_of(tmp_path, *rows), NOW).trades_per_day == 2.0


def test_trade_rate_counts_sessions_from_first_to_last(tmp_path: Path) -> None:
    """One trade on each Wednesday of ten weeks: 10 in 46 sessions, including sessions without a
    trade.
    """
    wednesdays = np.arange(10) * 7 + np.datetime64("2024-07-10")
    rows = [f"{day} 10:00,t{k},PUT,,2.5,1,15:00,30,TP" for k, day in enumerate(wednesdays)]
    sample = read_sample(file_of(tmp_path, *rows), NOW)
    closed = 1  # Labor Day, 2 September
    assert sample.trades_per_day == 10 / (9 * 5 + 1 - closed)
    runs = simulate_accounts(sample, MonteCarloSettings(runs=400, days=252))["iid"]
    assert runs.trade_counts.mean() == pytest.approx(252 * sample.trades_per_day, rel=0.03)
    untimed = [f",u{k},PUT,,2.5,1,15:00,30,TP" for k in range(3)]
    assert read_sample(file_of(tmp_path, *untimed), NOW).trades_per_day == 1.0


@pytest.mark.parametrize("rate", [2.4, 0.2, 3.0])
def test_fractional_trade_rate_draws_are_reproducible_by_seed(rate: float) -> None:
    """Blocks keep their order, also over days with one trade less."""
    draws = draw_trades(7, 1_200, 50, rate, seed=4, block_length=5)
    assert draws.shape == (1_200, 50, int(np.ceil(rate)))
    counts = (draws >= 0).sum(axis=2)
    assert set(np.unique(counts)) <= {int(np.floor(rate)), int(np.ceil(rate))}
    assert counts.mean() == pytest.approx(rate, rel=0.02)
    np.testing.assert_array_equal(draws, draw_trades(7, 1_200, 50, rate, seed=4, block_length=5))
    np.testing.assert_array_equal(
        draws[:600], draw_trades(7, 600, 50, rate, seed=4, block_length=5)
    )
    assert (draws != draw_trades(7, 1_200, 50, rate, seed=5, block_length=5)).any()
    single = draw_trades(7, 1_200, 50, rate, seed=4)
    drawn = single[single >= 0]
    assert np.bincount(drawn, minlength=7) == pytest.approx(len(drawn) / 7, rel=0.06)
    flat = draws[3].ravel()
    steps = np.diff(flat[flat >= 0]) % 7
    assert set(np.delete(steps, np.arange(4, len(steps), 5))) == {1}


def test_monte_carlo_stress_adds_no_trades() -> None:
    draws = draw_trades(7, 600, 50, 0.3, seed=1)
    worse = insert_random_max_losses(draws, 7, 0.25, seed=1)
    np.testing.assert_array_equal(worse < 0, draws < 0)
    there = draws >= 0
    hit = worse[there] != draws[there]
    assert hit.mean() == pytest.approx(0.25, abs=0.03)
    assert (worse[there][hit] == draws[there][hit] + 7).all()
    np.testing.assert_array_equal(
        worse[:200], insert_random_max_losses(draws[:200], 7, 0.25, seed=1)
    )


def one_run(dollars: list[int], rules: AutoscalingSettings) -> AccountPaths:
    """The run that takes each of these results once, a day each, at a risk of 400."""
    results = np.array(dollars, dtype=np.int64) * UNITS_PER_DOLLAR
    risks = np.full(len(results), 400 * UNITS_PER_DOLLAR, dtype=np.int64)
    draws = np.arange(len(results), dtype=np.int32).reshape(1, -1, 1)
    return simulate_account_paths(results, risks, draws, ScaledSizingRules.from_settings(rules))


def test_safety_halt_threshold_is_exact_to_the_dollar() -> None:
    """In floats 1,000 x 0.56 is 560.0000000000001; a balance of 560 would halt."""
    rules = AutoscalingSettings(STARTING_CAPITAL=1_000.0, SAFETY_HALT_PCT=0.56)
    assert one_run([-440, 10], rules).balances[0].tolist() == [560, 570]
    assert one_run([-441, 10], rules).balances[0].tolist() == [559, 559]
    assert one_run([100, -541], rules).has_halted.tolist() == [True]
    assert one_run([100, -540], rules).has_halted.tolist() == [False]


def test_monte_carlo_exceeding_memory_is_refused_before_drawing() -> None:
    with refused(InputError, "runs", "1,000,000", "100,000", varies=r"has \d+"):
        simulate_accounts(FIFTY, MonteCarloSettings(runs=1_000_000, days=100_000))


USUAL = [30] * 40 + [-67] * 10


@pytest.mark.parametrize(
    ("results", "says"),
    [
        (USUAL, []),
        (USUAL[21:], ["The file has 29 trades; with fewer than 30"]),
        ([266, *USUAL[1:]], ["1 of 50 trades won more than the credit or lost"]),
        ([30] * 40 + [-251] * 10, ["10 of 50 trades won more than the credit or lost"]),
    ],
)
def test_doubtful_trade_samples_give_warnings(results: list[int], says: list[str]) -> None:
    credits = np.full(len(results), 250 * UNITS_PER_DOLLAR)
    found = list(
        find_sample_warnings(alone(np.array(results) * UNITS_PER_DOLLAR, credits, credits, 2.0))
    )
    assert [text[: len(each)] for text, each in zip(found, says, strict=True)] == says


@pytest.mark.slow
def test_monte_carlo_command_is_reproducible_by_seed(tmp_path: Path) -> None:
    path = file_of(
        tmp_path,
        *(f"2024-10-{1 + k // 3:02d},t{k},PUT,,2.50,1,x,{90 - 50 * (k % 4)},TP" for k in range(30)),
    )
    command = "option_spreads.monte_carlo", f"trades={path}", "output=out"
    told = []
    for _ in range(2):
        words = ("runs=200", "days=50", "seed=3", "MAX_CONTRACTS=5")
        code, printed, said = answer_of(*command, *words, cwd=tmp_path)
        assert code == 0, said
        assert "P(loss)" in printed
        told.append((tmp_path / "out" / "monte_carlo.json").read_bytes())
    assert told[0] == told[1]
    content = json.loads(told[0])
    assert {"iid", "block", "stress", "seed", "runs", "block_length"} <= set(content)
    assert content["block"]["final_balance"] != content["iid"]["final_balance"]
    assert "cannot show a loss that the file does not contain" in content["limits_of_resampling"]
    assert (tmp_path / "out" / "monte_carlo.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    file_of(path, *(f"2024-10-{k:02d},t{k},PUT,,2.50,1,x,-250,SL" for k in (1, 2)))
    ruined = answer_of(*command, "runs=9", "days=2", "STARTING_CAPITAL=100", cwd=tmp_path)
    assert "-$150 to -$150" in ruined[1], "balances below zero have their sign in front"
    assert refusal_of(*command, "trades=nothing.csv", cwd=tmp_path)


def test_share_of_runs_above_given_balances_is_reported() -> None:
    few = MonteCarloSettings(
        trades="t", runs=400, days=20, balance_thresholds=(19_500.0, 20_000.5, 1e9)
    )
    paths = simulate_accounts(FIFTY, few)["iid"]
    found = summarize_paths(paths, few.balance_thresholds)["p_final_above"]
    final = paths.balances[:, -1]
    assert found == {
        "19500": (final > 19_500).mean(),
        "20000.5": (final > 20_000.5).mean(),
        "1000000000": 0.0,
    }
    assert 0 < found["20000.5"] < found["19500"]


def test_histogram_note_counts_runs_beyond_its_axis() -> None:
    pytest.importorskip("matplotlib")
    final = np.append(np.linspace(10_000, 30_000, 999), 900_000.0)
    paths = simulate_accounts(FIFTY, MonteCarloSettings(trades="t", runs=1000, days=2))["iid"]
    balances = paths.balances.copy()
    balances[:, -1] = final
    figure = plot_final_balances("heading", {"iid": paths._replace(balances=balances)}, 9_000.0)
    (panel,) = figure.axes
    drawn = sum(bar.get_height() for bar in panel.patches)
    (note,) = [text.get_text() for text in panel.texts]
    assert drawn == 995, "the axis ends at the 99.5 % quantile"
    assert note == "not drawn: 5 runs above $29,920, up to $900,000 →"
