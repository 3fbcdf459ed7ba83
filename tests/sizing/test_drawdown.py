"""A bound on drawdowns chooses the fraction of Kelly, and the fraction keeps it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.decision.sizing import SizingSettings
from foundation.compose import compose_config
from foundation.errors import InputError
from marketsimulator.results.remarks import drawdown_remarks
from marketsimulator.settings import BacktestSettings
from sizing.settings import DrawdownLimit
from sizing.strategies import KellyStrategy
from tests.support.messages import refused

shares = st.floats(0.01, 0.99)


@given(shares, shares)
def test_kelly_fraction_inverts_thorps_drawdown_probability(depth: float, chance: float) -> None:
    fraction = DrawdownLimit(depth, chance).kelly_fraction
    assert 0 < fraction <= 1
    falls = (1 - depth) ** (2 / fraction - 1)
    assert falls <= chance * (1 + 1e-9)
    # A bound that full Kelly keeps is kept by full Kelly, never by more.
    assert falls == pytest.approx(chance) or fraction == 1.0


def test_drawdown_limit_sets_fraction_label_and_remark() -> None:
    bound = {"depth": 0.2, "probability": 0.1}
    words = ["sizing.drawdown={depth: 0.2, probability: 0.1}"]
    sizing = BacktestSettings.from_config(compose_config("backtest", words)).sizing
    assert sizing.drawdown == DrawdownLimit(**bound)
    assert sizing.build_strategy() == KellyStrategy(DrawdownLimit(**bound).kelly_fraction)
    assert sizing.strategy_label == "kelly_17.6696"
    (said,) = drawdown_remarks(sizing.drawdown)
    assert said.startswith("Sized at 0.177 of Kelly:")
    assert drawdown_remarks(None) == []
    premium = SizingSettings(strategy="premium_25", drawdown=DrawdownLimit(0.2, 0.1))
    assert premium.strategy_label == "premium_17.6696"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("depth", "words", "facts"),
    [
        ("0.2", ["sizing.fraction=0.3"], ("sizing.drawdown",)),
        ("0.2", ["sizing.strategy=equal_weight"], ("sizing.drawdown", "equal_weight")),
        ("0.2", ["sizing.enhanced=false"], ("sizing.drawdown", "sizing.enhanced=false")),
        ("0", [], ("sizing.drawdown.depth", "0")),
    ],
)
def test_impossible_drawdown_bound_gives_one_line_error(
    depth: str, words: list[str], facts: tuple[str, ...]
) -> None:
    bound = f"sizing.drawdown={{depth: {depth}, probability: 0.1}}"
    with refused(InputError, *facts):
        BacktestSettings.from_config(compose_config("backtest", [bound, *words]))
