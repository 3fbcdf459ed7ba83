"""The page of an evaluation: what its verdict claims."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.evaluate import build_gains_chart, format_date_range, judge_scores
from forecasting.scores import gain_over_baseline
from foundation.arrays import Array, Instants
from trainingdata.sessions import last_friday_four_pms


def figures(*beyond: tuple[str, float], **changes: Any) -> dict[str, Any]:
    """Scores on stocks against these forecasters, each gain beyond error or 0."""
    skill = {
        name: {"mean": 0.04 * sign, "error": 0.01, "reach": 0.02, "beyond": sign}
        for name, sign in beyond
    }
    return {
        "forecaster": "garch",
        "baselines": [name for name, _ in beyond],
        "data": "bars of a test",
        "groups": {"stock": {"all": {"skill": skill}}},
        **changes,
    }


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=4))
def test_good_verdict_requires_beating_every_baseline(signs: list[float]) -> None:
    found = judge_scores(figures(*((f"other{k}", sign) for k, sign in enumerate(signs))))
    assert (found.level == "good") == (min(signs) > 0)
    assert (found.level == "bad") == (min(signs) < 0)
    for word, sign in (("lower loss", 1), ("higher loss", -1), ("no significant difference", 0)):
        assert (word in found.claim) == (sign in signs)


def test_fewer_than_four_weeks_give_no_comparison() -> None:
    told = figures(("ewma", 0.0), ("garch", 1.0))
    told["groups"]["stock"]["all"]["skill"]["ewma"]["reach"] = None
    assert judge_scores(told).claim == (
        "On stocks: too few weeks for a comparison with ewma; lower loss than garch."
    )


def fridays(count: int) -> Instants:
    """The first instants of consecutive weeks, an hour apart in summer."""
    return last_friday_four_pms(
        np.datetime64("1980-01-09T15:00", "ns") + np.arange(count) * np.timedelta64(7, "D")
    )


def scored(weekly: Array) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Losses of a forecaster and of one that loses so much more in each week, 5 forecasts each."""
    ours = pd.DataFrame({"week": np.repeat(fridays(len(weekly)), 5), "loss": 1.0})
    return ours, ours.assign(loss=1.0 + np.repeat(weekly, 5))


def test_few_weeks_need_larger_gains_for_significance() -> None:
    """Over four weeks a gain of 2.5 standard errors occurs by chance one time in eleven."""
    apart = np.array([-0.5, 0.5, -0.5, 0.5])
    error = apart.std(ddof=1) / 2
    few = gain_over_baseline(*scored(apart + 2.5 * error))
    assert few["beyond"] == 0
    assert few["reach"] == pytest.approx(3.182 * (few["error"] or 0), rel=1e-3)
    assert gain_over_baseline(*scored(apart + 3.5 * error))["beyond"] == 1
    many = np.tile(apart, 20)
    assert gain_over_baseline(*scored(many + 2.5 * many.std(ddof=1) / np.sqrt(80)))["beyond"] == 1
    three = gain_over_baseline(*scored(np.array([0.1, 0.1001, 0.0999])))
    assert (three["reach"], three["beyond"]) == (None, 0)


def test_evaluation_dates_are_inclusive_new_york_dates() -> None:
    """The last nanosecond of 11 April in New York is 12 April in UTC."""
    span = {"start": "2025-03-03T05:00Z", "end": "2025-04-12T03:59Z"}
    assert format_date_range(span) == "2025-03-03 to 2025-04-11"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "synthetic market (seed 0)"}, "the market is synthetic"),
        ({"forecaster": "oracle (reads the future; not a result)"}, "reads the future"),
    ],
)
def test_evaluation_that_proves_nothing_reports_no_result(
    changes: dict[str, str], says: str
) -> None:
    told = figures(("ewma", 1.0), **changes)
    found = judge_scores(told)
    assert found.level == "bad"
    assert found.claim.startswith("No result: ")
    assert says in found.claim


def test_gain_chart_plots_skill_by_forecast_step() -> None:
    def score(mean: float) -> dict[str, Any]:
        return {"skill": {"ewma": {"mean": mean, "reach": None, "beyond": 0.0}}}

    chart = build_gains_chart({"1": score(0.01), "6": score(-0.02)}, ["ewma"], ["1", "6"])
    assert chart.description == "Gain by step, ewma 1.0%, -2.0%"
    zero, reach, gain_line = chart.series
    assert (zero.colour, gain_line.name, gain_line.colour) == ("quiet", "ewma", "second")
    assert gain_line.values.tolist() == [0.01, -0.02]
    assert reach.lower_values is not None
    assert reach.lower_values.tolist() == reach.values.tolist() == [0.01, -0.02]


def test_verdict_of_calibrated_forecasts_ignores_raw_baselines() -> None:
    told = figures(("ewma", 1.0), ("ewma, calibrated", 0.0), forecaster="mine, calibrated")
    found = judge_scores(told)
    assert found.level == "open"
    assert found.claim == "On stocks: no significant difference from ewma calibrated."
