"""The page of an evaluation: what its verdict claims, and what its fan shows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecasting.baseline import Historical
from forecasting.evaluate import fans_of
from forecasting.evaluation_page import (
    Fan,
    fan_chart,
    gains_chart,
    judgement,
    level_chart,
    ranks_chart,
    span_text,
)
from forecasting.forecast import HORIZON, LEVELS
from forecasting.scores import gain
from foundation.arrays import Array
from trainingdata.bars import Bars

ISSUED = np.datetime64("2024-05-28T17:30", "ns")


def figures(*beyond: tuple[str, float], **changes: Any) -> dict[str, Any]:
    """Scores on stocks against these forecasters, each gain beyond error or 0."""
    skill = {
        name: {"mean": 0.04 * sign, "error": 0.01, "reach": 0.02, "beyond": sign}
        for name, sign in beyond
    }
    scores = {"inside80": 0.79, "inside80_reach": 0.02, "forecasts": 1234, "weeks": 60}
    return {
        "forecaster": "garch",
        "against": [name for name, _ in beyond],
        "data": "bars of a test",
        "groups": {"stock": {"all": {"garch": scores, "skill": skill}}},
        **changes,
    }


@given(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=1, max_size=4))
def test_the_verdict_is_good_only_where_every_other_forecaster_loses_more(
    signs: list[float],
) -> None:
    found = judgement(figures(*((f"other{k}", sign) for k, sign in enumerate(signs))))
    assert (found.level == "good") == (min(signs) > 0)
    assert (found.level == "bad") == (min(signs) < 0)
    for word, sign in (("loses less than", 1), ("loses more than", -1), ("told apart", 0)):
        assert (word in found.claim) == (sign in signs)


def test_the_verdict_says_on_what_and_how_much_it_rests() -> None:
    found = judgement(figures(("ewma", 1.0), ("random_walk, 50% plain variance", 0.0)))
    assert found.claim == (
        "On stocks: loses less than ewma; cannot be told apart from"
        " random_walk (50% plain variance)."
    )
    assert found.rest == (
        "The 80 % interval held 79.0% ± 2.0% of 1,234 outcomes of stocks in 60 weeks."
    )


def test_below_four_weeks_nothing_is_claimed() -> None:
    told = figures(("ewma", 0.0), ("garch", 1.0))
    told["groups"]["stock"]["all"]["skill"]["ewma"]["reach"] = None
    assert judgement(told).claim == (
        "On stocks: loses less than garch; rests on too few weeks to be told from ewma."
    )


def scored(weekly: Array) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Losses of a forecaster and of one that loses so much more in each week, 5 forecasts each."""
    week = np.repeat(np.arange(len(weekly)), 5)
    ours = pd.DataFrame({"week": week, "loss": 1.0})
    return ours, ours.assign(loss=1.0 + np.repeat(weekly, 5))


def test_few_weeks_have_to_be_further_apart_to_be_told_apart() -> None:
    """Over four weeks a gain of 2.5 errors is one that chance shows one time in eleven."""
    apart = np.array([-0.5, 0.5, -0.5, 0.5])
    error = apart.std(ddof=1) / 2
    few = gain(*scored(apart + 2.5 * error))
    assert few["beyond"] == 0
    assert few["reach"] == pytest.approx(3.182 * (few["error"] or 0), rel=1e-3)
    assert gain(*scored(apart + 3.5 * error))["beyond"] == 1
    many = np.tile(apart, 20)
    assert gain(*scored(many + 2.5 * many.std(ddof=1) / np.sqrt(80)))["beyond"] == 1
    three = gain(*scored(np.array([0.1, 0.1001, 0.0999])))
    assert (three["reach"], three["beyond"]) == (None, 0)


def test_dates_of_an_evaluation_are_new_yorks_and_inclusive() -> None:
    """The last nanosecond of 11 April in New York is 12 April in UTC."""
    span = {"start": "2025-03-03T05:00Z", "end": "2025-04-12T03:59Z"}
    assert span_text(span) == "2025-03-03 to 2025-04-11"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"data": "synthetic market (seed 0)"}, "the market is synthetic"),
        ({"forecaster": "oracle (reads the future; not a result)"}, "reads the future"),
    ],
)
def test_what_can_be_no_result_is_called_none(changes: dict[str, str], says: str) -> None:
    told = figures(("ewma", 1.0), **changes)
    told["groups"]["stock"]["all"][told["forecaster"]] = told["groups"]["stock"]["all"]["garch"]
    found = judgement(told)
    assert found.level == "bad"
    assert found.claim.startswith("No result: ")
    assert says in found.claim


def fan(outcome: float) -> Fan:
    """Quantiles from 90 to 110 USD at every step."""
    quantiles = np.tile(100 + 20 * (np.array(LEVELS) - 0.5), (HORIZON, 1))
    return Fan("NVDA", ISSUED, np.linspace(95, 100, 25), quantiles, np.full(HORIZON, outcome))


def test_a_fan_counts_what_its_interval_held_and_stands_on_the_instant_of_issue() -> None:
    assert fan(100.0).inside() == HORIZON
    assert fan(109.0).inside() == 0
    chart = fan_chart(fan(100.0))
    assert chart.text.startswith("NVDA, forecast of 28 May 2024 17:30Z: 24 of 24 outcomes inside")
    assert (chart.labels[0], chart.labels[24], chart.labels[-1]) == ("-24", "issued", "+24")
    series = {each.name: each for each in chart.series}
    assert list(series) == ["80 %", "50 %", "median", "seen", "what happened"]
    assert series["what happened"].x[0] == 24
    assert series["seen"].values.tolist() == fan(100.0).closes.tolist()
    for name, low, high in (("80 %", 92.0, 108.0), ("50 %", 95.0, 105.0)):
        band = series[name]
        assert band.base is not None
        assert (band.base[0], band.values[0]) == (100.0, 100.0)
        np.testing.assert_allclose((band.base[1:], band.values[1:]), ([low] * 24, [high] * 24))


def test_fans_show_the_last_forecast_whose_outcomes_are_all_known(market: Bars) -> None:
    table = Historical().forecast(market, market.times[0])
    rows = np.lexsort((table.windows.symbol, table.windows.issued_at))
    found = fans_of(table, rows)
    assert found
    for each in found:
        s = market.symbols.index(each.symbol)
        closes = table.windows.closes[s]
        np.testing.assert_array_equal(each.outcome, closes[-HORIZON:])
        np.testing.assert_array_equal(each.closes, closes[-HORIZON - len(each.closes) : -HORIZON])
        assert (np.diff(each.quantiles, axis=1) >= 0).all()
    assert fans_of(table, rows[:0]) == ()


def test_gains_and_ranks_are_drawn_by_step_and_ranks_need_two() -> None:
    def score(mean: float) -> dict[str, Any]:
        return {"skill": {"ewma": {"mean": mean, "reach": None, "beyond": 0.0}}}

    chart = gains_chart({"1": score(0.01), "6": score(-0.02)}, ["ewma"], ["1", "6"])
    assert chart.text == "Gain by step, ewma 1.0%, -2.0%"
    zero, reach, gain_line = chart.series
    assert (zero.colour, gain_line.name, gain_line.colour) == ("quiet", "ewma", "second")
    assert gain_line.values.tolist() == [0.01, -0.02]
    assert reach.base is not None
    assert reach.base.tolist() == reach.values.tolist() == [0.01, -0.02]
    none = {"information": None, "information_reach": None}
    some = {"information": 0.1, "information_reach": 0.02}
    assert ranks_chart([none, some], ["1", "6"]) is None
    drawn = ranks_chart([some, none, some], ["1", "3", "6"])
    assert drawn is not None
    np.testing.assert_array_equal(drawn.series[-1].values, [0.1, np.nan, 0.1])


def test_a_level_is_drawn_where_it_is_even_far_from_what_is_meant() -> None:
    chart = level_chart("Held", ["10:30", "11:30"], [0.1, 0.99], "inside80")
    assert [each.values.tolist() for each in chart.series] == [
        *([0.75, 0.75], [0.8 + 0.05] * 2, [0.8, 0.8], [0.1, 0.99])
    ]
    assert (chart.unit, chart.labels) == ("percent", ("10:30", "11:30"))
