"""Policies play fairly; an answer is yes or no only where the sessions decide it."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts.compare import (
    build_result,
    list_policy_pairs,
    load_held_out_sessions,
    run_comparison,
)
from event_contracts.settings import ComparisonSettings
from event_contracts.simulation.comparison import (
    Comparison,
    PolicyResult,
    ResampledReturns,
    SessionResults,
    simulate_sessions,
)
from event_contracts.simulation.settings import EpisodeSettings, SyntheticSessionModel
from event_contracts.simulation.synthetic import synthetic_sessions
from event_contracts.trading.actions import POSITION_SIZES
from event_contracts.trading.policies import BinaryKellyPolicy, Policy, RandomPolicy
from foundation.arrays import Array
from foundation.errors import InputError
from tests.e2e.refused import refusal_of, started
from tests.event_contracts.checkpoints import checkpoint
from tests.event_contracts.recordings import Quote, write_files
from tests.support.commands import overridden
from tests.support.messages import check_message, refused
from tests.support.pages import without_scripts

QUIET = SyntheticSessionModel(steps=40)
SETTINGS = EpisodeSettings(market=QUIET)


def sessions_of(count: int, market: SyntheticSessionModel = QUIET, seed: int = 5) -> list[Array]:
    return list(synthetic_sessions(seed, count, market))


def standard_error(played: SessionResults) -> float:
    return float(played.profits_usd.std(ddof=1) / np.sqrt(len(played.profits_usd)))


NOISY = replace(QUIET, estimate_noise=0.1)


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("policy", "fixed"),
    [
        (RandomPolicy(0), None),
        (RandomPolicy(0), 10),
        (BinaryKellyPolicy(), None),
        (BinaryKellyPolicy(), 10),
    ],
)
def test_trading_without_an_edge_loses_on_average(policy: Policy, fixed: int | None) -> None:
    """Losses on average exceed three standard errors."""
    settings = replace(SETTINGS, fixed_size=fixed)
    played = simulate_sessions(policy, sessions_of(200, NOISY), settings)
    assert sum(len(episode.fills) for episode in played.episodes) > 200
    assert (played.profits_usd > 0).any()
    assert played.profits_usd.mean() < -3 * standard_error(played)
    paid = sum(fill.fee for episode in played.episodes for fill in episode.fills)
    assert paid > 0


def test_kelly_earns_with_an_edge_and_fair_price() -> None:
    market = replace(QUIET, mispricing=0.2, mispricing_persistence=0.99)
    played = simulate_sessions(BinaryKellyPolicy(), sessions_of(150, market), SETTINGS)
    assert played.profits_usd.mean() > 3 * standard_error(played)


seeds = st.integers(0, 2**31)


def drawn(
    seed: int, count: int, runs: int = 1, mean: float = 0.0, deviation: float = 0.05
) -> Array:
    return np.random.default_rng(seed).normal(mean, deviation, (runs, count)).clip(-0.9, None)


def trials(groups: int | None = None, /, **returns: Array) -> ResampledReturns:
    count = next(iter(returns.values())).shape[1]
    numbers = np.arange(count) if groups is None else np.arange(count) % groups
    return ResampledReturns(returns, numbers)


def test_performance_estimates_match_a_hand_computed_example() -> None:
    returns = np.array([[0.1, -0.1, 0.3]])
    growth, profit, sharpe = trials(one=returns).estimate_performance("one")
    assert profit.value == pytest.approx(0.1)
    assert sharpe.value == pytest.approx(0.1 / np.sqrt(0.08 / 3))
    assert growth.value == pytest.approx(np.log(1.1 * 0.9 * 1.3) / 3)
    assert profit.interval is None


@given(seeds, st.integers(1, 3))
@settings(max_examples=8)
def test_higher_profit_in_every_session_gives_verdict_yes(seed: int, runs: int) -> None:
    fixed = drawn(seed, 60, runs, mean=0.02)
    both = trials(one=fixed + 0.05, other=fixed)
    assert both.compare_pair("one", "other").verdict == "yes"
    assert both.compare_pair("other", "one").verdict == "no"


@given(seeds)
@settings(max_examples=8)
def test_higher_profit_at_lower_sharpe_gives_verdict_no(seed: int) -> None:
    fixed = drawn(seed, 60, mean=0.05, deviation=0.02)
    wild = 2 * fixed + 0.4 * np.where(np.arange(60) % 2, 1.0, -1.0)
    answer = trials(one=wild, other=fixed).compare_pair("one", "other")
    assert answer.excess_usd.value is not None
    assert answer.excess_usd.value > 0
    assert answer.verdict == "no"


def test_verdict_yes_requires_ten_percent_more_profit() -> None:
    fixed = drawn(8, 200, mean=0.05, deviation=0.01)
    calm = fixed.mean() + (fixed - fixed.mean()) / 2
    for more, verdict in ((1.05, "no"), (1.099, "no power"), (1.2, "yes")):
        answer = trials(one=more * calm, other=fixed).compare_pair("one", "other")
        assert answer.excess_usd.value == pytest.approx((more - 1.1) * fixed.mean())
        assert answer.verdict == verdict


def test_verdict_yes_requires_positive_profit() -> None:
    losing = drawn(1, 100, mean=-0.1, deviation=0.01)
    less = drawn(2, 100, mean=-0.02, deviation=0.01)
    answer = trials(one=less, other=losing).compare_pair("one", "other")
    assert answer.excess_usd.value == pytest.approx(less.mean())
    assert answer.sharpe_difference.interval is not None
    assert answer.sharpe_difference.interval[0] > 0
    assert answer.verdict == "no"


def test_policy_without_trades_has_no_sharpe_ratio() -> None:
    out = np.zeros((1, 50))
    pair = trials(one=out, other=drawn(3, 50, mean=0.05))
    assert pair.estimate_performance("one")[2].value is None
    assert pair.compare_pair("one", "other").verdict == "no"
    assert pair.compare_pair("other", "one").verdict == "no power"
    assert trials(one=out, other=out).compare_pair("one", "other").verdict == "no power"


@given(seeds, st.integers(2, 5))
@settings(max_examples=8)
def test_sessions_of_one_event_count_as_one_observation(seed: int, copies: int) -> None:
    returns = drawn(seed, 30)
    once = trials(one=returns).estimate_performance("one")
    again = trials(30, one=np.tile(returns, copies)).estimate_performance("one")
    for before, after in zip(once[1:], again[1:], strict=True):
        assert before.interval is not None
        assert after.interval == pytest.approx(before.interval)
    alone = trials(one=np.tile(returns, copies)).estimate_performance("one")
    assert alone[1].interval is not None
    assert np.diff(alone[1].interval) < np.diff(once[1].interval)  # type: ignore[arg-type]


def test_identical_runs_do_not_widen_the_confidence_interval() -> None:
    returns = drawn(7, 40)
    once = trials(one=returns).estimate_performance("one")[1].interval
    same = trials(one=np.repeat(returns, 3, axis=0)).estimate_performance("one")[1].interval
    apart = (
        trials(one=returns + np.array([[-0.1], [0.0], [0.1]]))
        .estimate_performance("one")[1]
        .interval
    )
    assert once is not None
    assert same == pytest.approx(once)
    assert apart is not None
    assert apart[1] - apart[0] > 2 * (once[1] - once[0])


EDGE = SyntheticSessionModel(steps=20, mispricing=0.2, mispricing_persistence=0.99)
SMALL = ComparisonSettings(episode=EpisodeSettings(market=EDGE), sessions=25)


def sizes_of(standing: PolicyResult) -> set[int]:
    return {order.size for episode in standing.episodes for order in episode.orders}


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """With two checkpoints of each kind."""
    folder = tmp_path_factory.mktemp("checkpoints")
    free = tuple(checkpoint(folder / f"free{k}", k) for k in range(2))
    fixed = tuple(checkpoint(folder / f"fixed{k}", k, fixed_size=10) for k in range(2))
    return run_comparison(replace(SMALL, variable_checkpoints=free, fixed_checkpoints=fixed))


def test_comparison_runs_every_policy_and_compares_pairs(comparison: Comparison) -> None:
    names = [each.name for each in comparison.policy_results]
    assert names == ["variable", "fixed 10", "kelly", "kelly fixed 10", "random"]
    assert [each.run_count for each in comparison.policy_results] == [2, 2, 1, 1, 3]
    assert set(comparison.pair_comparisons) == {
        ("variable", "fixed 10"),
        ("kelly", "kelly fixed 10"),
    }
    by_name = {each.name: each for each in comparison.policy_results}
    for name in ("fixed 10", "kelly fixed 10"):
        assert sizes_of(by_name[name]) == {10}
    assert len(sizes_of(by_name["variable"])) > 1


def test_comparison_writes_all_figures_to_json_and_page(
    comparison: Comparison, tmp_path: Path
) -> None:
    result = build_result(comparison)
    for name, write in result.file_writers.items():
        write(tmp_path / name)
    content = json.loads((tmp_path / "comparison.json").read_text())
    assert [answer["verdict"] in ("yes", "no", "no power") for answer in content["answers"]]
    random = next(run for run in content["runs"] if run["run"] == "random")
    low, high = random["profit_usd"]["interval"]
    assert low < random["profit_usd"]["value"] < high
    assert set(random["sizes"]["position_size_distribution"]) <= {str(s) for s in POSITION_SIZES}
    page = (tmp_path / "comparison.html").read_text()
    assert all(f"<h2>Sizes: {each.name}</h2>" in page for each in comparison.policy_results)
    assert page.count("Size against profit") == 5
    for sentence in result.closing_lines[:2]:
        assert re.search(r"\? (Yes|No|No power): profit above", sentence)
        assert html.escape(sentence).replace("&#x27;", "&#39;") in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)", without_scripts(page, RUNS))


RUNS = "marketsimulator/runs.js"
QUICK = ("sessions=2", "episode.market.steps=10", "output=out")


def recorded(folder: Path) -> Path:
    """Files of events with two markets each, an hour long."""
    quotes: list[Quote] = [
        (f"2026-11-{event + 1:02}T12:{minute:02}", f"RAIN-{event}-{market}", bid, bid + 2)
        for event in range(6)
        for market in range(2)
        for minute in range(0, 60, 5)
        for bid in [40 + (minute + event) % 7]
    ]
    settled = {name: int(name[5]) + int(name[7]) & 1 for _, name, *_ in quotes}
    return write_files(folder, quotes, settled)


def test_held_out_sessions_are_those_of_latest_events(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path))
    settings = replace(SMALL, folder=folder, holdout_events=4)
    held_out = load_held_out_sessions(settings)
    assert held_out.group_indices.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert held_out.source == "recorded markets of RAIN-2, RAIN-3, RAIN-4, RAIN-5"
    assert run_comparison(settings).held_out_sessions.group_count == 4
    with refused(InputError, "holdout_events", "6"):
        load_held_out_sessions(replace(settings, holdout_events=6))


def test_checkpoint_trained_on_holdout_events_is_refused(tmp_path: Path) -> None:
    folder = str(recorded(tmp_path))
    settings = replace(SMALL, folder=folder, holdout_events=4)
    taught = [
        checkpoint(tmp_path / f"after{k}", settings={"folder": ".", "train_events": k})
        for k in (2, 3)
    ]
    assert (
        run_comparison(replace(settings, variable_checkpoints=(taught[0],))).policy_results[0].name
        == "variable"
    )
    with refused(InputError, "after3", "3"):
        run_comparison(replace(settings, variable_checkpoints=(taught[1],)))
    vague = checkpoint(tmp_path / "vague", settings={"folder": ".", "train_events": "many"})
    with refused(InputError, "vague"):
        run_comparison(replace(settings, variable_checkpoints=(vague,)))
    synthetic = replace(SMALL, sessions=2, variable_checkpoints=(taught[1],))
    assert run_comparison(synthetic).policy_results[0].name == "variable"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["output=there"], ("comparison.json",)),
        (["folder=nowhere"], ()),
        (["variable_checkpoints=[there]"], ("variable_checkpoints", "there")),
        (["variable_checkpoints=[cut]"], ("variable",)),
        (["fixed_checkpoints=[cut]"], ("10",)),
    ],
)
def test_invalid_comparison_gives_one_line_error_without_output(
    words: list[str], facts: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "comparison.json").mkdir(parents=True)
    checkpoint(tmp_path / "cut", fixed_size=20)  # a policy that sends different orders
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    line = refusal_of("event_contracts.compare", *overridden(QUICK, words))
    check_message(line, *facts, varies="(?<=not a readable checkpoint: ).*(?=; give)")
    assert sorted(tmp_path.rglob("*")) == before


def test_compare_command_prints_verdict_and_writes_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert started("event_contracts.compare", *QUICK) == 0
    assert "Does kelly earn over 10% more than kelly fixed 10" in capsys.readouterr().out
    assert {path.name for path in Path("out").iterdir()} == {"comparison.html", "comparison.json"}


@pytest.mark.parametrize(
    ("passed", "first"),
    [
        ({}, ("kelly", "kelly fixed 10")),
        ({"variable_checkpoints": ("a",)}, ("variable", "kelly")),
        ({"fixed_checkpoints": ("b",)}, ("fixed 10", "kelly fixed 10")),
        ({"variable_checkpoints": ("a",), "fixed_checkpoints": ("b",)}, ("variable", "fixed 10")),
    ],
)
def test_first_compared_pair_includes_the_given_checkpoint(
    passed: dict[str, Any], first: tuple[str, str]
) -> None:
    """Regression: with a checkpoint of one kind the verdict was that of Kelly."""
    questions = list_policy_pairs(ComparisonSettings(**passed))
    assert questions[0] == first
    assert questions[-1] == ("kelly", "kelly fixed 10")
    assert len(set(questions)) == len(questions)
