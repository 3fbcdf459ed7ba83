"""A row of a comparison is named after the fraction of Kelly that it used."""

from __future__ import annotations

import pytest

from foundation.compose import composed_config
from foundation.errors import InputError
from marketsimulator.compare import compare
from marketsimulator.settings import BacktestSettings
from sizing.strategies import with_fraction

SPAN = [
    *("start=2024-03-04", "end=2024-03-06", "data.start=2024-02-01", "data.end=2024-03-06"),
    *("forecaster=ewma", "forecaster.calibrated=false", "symbols=[SYA]", "trials=null"),
]


@pytest.mark.parametrize(
    ("name", "fraction", "label"),
    [
        ("kelly_50", None, "kelly_50"),
        ("kelly_50", 0.5, "kelly_50"),
        ("kelly_50", 0.3, "kelly_30"),
        ("Kelly_50pct", 0.125, "kelly_12.5pct"),
        ("kelly_50_x4", 0.25, "kelly_25_x4"),
        ("premium_50", 0.2, "premium_20"),
        ("equal_weight", None, "equal_weight"),
        ("own.rule", None, "own.rule"),
    ],
)
def test_a_strategy_is_labelled_with_the_fraction_that_is_used(
    name: str, fraction: float | None, label: str
) -> None:
    assert with_fraction(name, fraction) == label


def test_rows_are_named_after_the_fraction_and_two_of_one_name_are_refused() -> None:
    settings = BacktestSettings.of(composed_config("backtest", [*SPAN, "sizing.fraction=0.3"]))
    with pytest.raises(InputError, match="kelly_10 and kelly_50 are both kelly_30; leave it out"):
        compare(settings, ["kelly_10", "kelly_50"])
    varied = {"sizing.fraction": [0.1, 0.3]}
    assert compare(settings, ["kelly_50"], varied).names == ("kelly_10", "kelly_30")
