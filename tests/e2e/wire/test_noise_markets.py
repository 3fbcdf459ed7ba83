"""A forecast that is worth nothing must look like it: in markets without an edge positions rest
on the stated premium alone.
"""

from __future__ import annotations

import pytest

from foundation.compose import compose_config
from marketsimulator.run_result import premium_share
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings

FIRST = range(1)  # the market of the slow set; the others are in the long one
OTHERS = [range(first, first + 11) for first in range(1, 100, 11)]


def prior_of(seed: int) -> float | None:
    """Share of the position that rests on the prior: three months of the default on a synthetic
    market without an edge.
    """
    words = [
        "start=2024-04-01",
        f"data.seed={seed}",
        "data.information_coefficient=0",
        "forecaster.cache=null",
    ]
    settings = BacktestSettings.from_config(compose_config("backtest", words))
    market = settings.load_market()
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols)).with_beliefs(
        market
    )
    run = simulate_trading(settings, market, "noise", trader)
    assert run.fills, "the prior is traded"
    return premium_share(run)


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(FIRST, marks=pytest.mark.slow),
        *(pytest.param(seeds, marks=pytest.mark.long) for seeds in OTHERS),
    ],
)
def test_calibration_ignores_forecasts_in_random_markets(seeds: range) -> None:
    """A slope three standard errors above zero counts as skill: by chance one market in fifty has
    one, and it adds almost nothing.
    """
    shares = {seed: prior_of(seed) for seed in seeds}
    others = {seed: share for seed, share in shares.items() if share != 1.0}
    assert len(others) <= 2, others
    assert all(share is not None and share > 0.98 for share in others.values()), others
