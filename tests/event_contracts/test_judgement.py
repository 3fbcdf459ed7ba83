"""An answer is yes or no only where the sessions decide it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from event_contracts.simulation.comparison import Trials
from foundation.arrays import Array

seeds = st.integers(0, 2**31)


def drawn(
    seed: int, count: int, runs: int = 1, mean: float = 0.0, deviation: float = 0.05
) -> Array:
    return np.random.default_rng(seed).normal(mean, deviation, (runs, count)).clip(-0.9, None)


def trials(groups: int | None = None, /, **returns: Array) -> Trials:
    count = next(iter(returns.values())).shape[1]
    numbers = np.arange(count) if groups is None else np.arange(count) % groups
    return Trials(returns, numbers)


def test_figures_to_check_by_hand() -> None:
    judged = trials(one=np.array([[0.1, -0.1, 0.3]])).judge("one")
    assert judged.profit_usd.value == pytest.approx(0.1)
    assert judged.sharpe.value == pytest.approx(0.1 / np.sqrt(0.08 / 3))
    assert judged.growth.value == pytest.approx(np.log(1.1 * 0.9 * 1.3) / 3)
    assert judged.profit_usd.interval is None


@given(seeds, st.integers(1, 3))
@settings(max_examples=20)
def test_more_in_every_session_is_yes_and_less_is_no(seed: int, runs: int) -> None:
    fixed = drawn(seed, 60, runs, mean=0.02)
    both = trials(one=fixed + 0.05, other=fixed)
    assert both.answer("one", "other").verdict == "yes"
    assert both.answer("other", "one").verdict == "no"


@given(seeds)
@settings(max_examples=20)
def test_more_money_at_a_worse_ratio_is_no(seed: int) -> None:
    fixed = drawn(seed, 60, mean=0.05, deviation=0.02)
    wild = 2 * fixed + 0.4 * np.where(np.arange(60) % 2, 1.0, -1.0)
    answer = trials(one=wild, other=fixed).answer("one", "other")
    assert answer.excess_usd.value is not None
    assert answer.excess_usd.value > 0
    assert answer.verdict == "no"


def test_a_tenth_more_is_the_bar() -> None:
    fixed = drawn(8, 200, mean=0.05, deviation=0.01)
    calm = fixed.mean() + (fixed - fixed.mean()) / 2
    for more, verdict in ((1.05, "no"), (1.099, "no power"), (1.2, "yes")):
        answer = trials(one=more * calm, other=fixed).answer("one", "other")
        assert answer.excess_usd.value == pytest.approx((more - 1.1) * fixed.mean())
        assert answer.verdict == verdict


def test_where_the_other_loses_something_has_to_be_earned() -> None:
    losing = drawn(1, 100, mean=-0.1, deviation=0.01)
    less = drawn(2, 100, mean=-0.02, deviation=0.01)
    answer = trials(one=less, other=losing).answer("one", "other")
    assert answer.excess_usd.value == pytest.approx(less.mean())
    assert answer.sharpe_difference.interval is not None
    assert answer.sharpe_difference.interval[0] > 0
    assert answer.verdict == "no"


def test_whoever_stays_out_has_no_ratio_and_earns_no_more() -> None:
    out = np.zeros((1, 50))
    pair = trials(one=out, other=drawn(3, 50, mean=0.05))
    assert pair.judge("one").sharpe.value is None
    assert pair.answer("one", "other").verdict == "no"
    assert pair.answer("other", "one").verdict == "no power"
    assert trials(one=out, other=out).answer("one", "other").verdict == "no power"


@given(seeds, st.integers(2, 5))
@settings(max_examples=20)
def test_sessions_that_hang_together_count_once(seed: int, copies: int) -> None:
    returns = drawn(seed, 30)
    once = trials(one=returns).judge("one")
    again = trials(30, one=np.tile(returns, copies)).judge("one")
    for before, after in ((once.profit_usd, again.profit_usd), (once.sharpe, again.sharpe)):
        assert before.interval is not None
        assert after.interval == pytest.approx(before.interval)
    alone = trials(one=np.tile(returns, copies)).judge("one")
    assert alone.profit_usd.interval is not None
    assert np.diff(alone.profit_usd.interval) < np.diff(once.profit_usd.interval)  # type: ignore[arg-type]


def test_runs_that_differ_widen_an_interval_and_runs_that_do_not_leave_it() -> None:
    returns = drawn(7, 40)
    once = trials(one=returns).judge("one").profit_usd.interval
    same = trials(one=np.repeat(returns, 3, axis=0)).judge("one").profit_usd.interval
    apart = trials(one=returns + np.array([[-0.1], [0.0], [0.1]])).judge("one").profit_usd.interval
    assert once is not None
    assert same == pytest.approx(once)
    assert apart is not None
    assert apart[1] - apart[0] > 2 * (once[1] - once[0])
