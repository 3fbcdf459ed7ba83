"""Count the synthetic markets in which a forecast earns anything, without an edge and with one.

python -m studies.earned_on_noise

Each market is synthetic, with a different seed: bars of five correlated stocks with heavy tails and
volatility clustering, over two years after half a year of history. The forecaster claims that the
momentum of the last bars continues. The claimed information coefficient is the planted one
(`data.information_coefficient`), or `--claim`. The evidence is read after every bar. For
comparison, a t-test of the same differences at the same level, read after every bar from the 30th
on, shows what repeated reading does to a test for a fixed sample.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from forecasting.baseline import RandomWalk
from forecasting.evidence import ALPHA, growth_evidence
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Instants, Mask
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

PERSISTENCE = 0.6  # of the synthetic market's momentum
MIN_PEEK = 30  # bars before the first t-test
WORDS = (
    *("symbols=[SYA,SYB,SYC,SYD,SYE]", "data.start=2021-07-01", "start=2022-01-03"),
    *("data.end=2023-12-29", "trials=null", "forecaster=ewma", "forecaster.calibrated=false"),
)
FREE = ("costs.stock_half_spread_bps=0", "costs.stock_slippage_bps=0", "costs.stock_impact=0")


@dataclass(frozen=True)
class MomentumForecaster:
    """A random walk whose mean continues the momentum of the last bars.

    claim: claimed information coefficient of the next bar.
    """

    claim: float
    random_walk: RandomWalk = field(default_factory=RandomWalk)
    name: str = "momentum"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on."""
        windows = Windows.from_bars(bars, since, self.random_walk.context_length)
        around = self.random_walk.quantiles_around(windows)
        deviation = around.scale[:, 0]
        moves = np.diff(np.log(windows.contexts(np.arange(len(windows)))), axis=1)
        ages = np.arange(moves.shape[1])[::-1]
        weights = np.sqrt(1 - PERSISTENCE**2) * PERSISTENCE**ages
        mean = self.claim * (moves / deviation[:, None]) @ weights * deviation
        steps = (1 - PERSISTENCE ** np.arange(1, HORIZON + 1)) / (1 - PERSISTENCE)
        quantiles = self.random_walk.quantiles_around(windows, median=mean[:, None] * steps)
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a market; bars count from the first judged one, -1 for never.

    earned_at, half_at: bar at which the forecast first earned anything, and half of its positions.
    peeked_at: bar at which a t-test was first significant.
    """

    earned_at: int
    half_at: int
    peeked_at: int


def first_bar(reached: Mask) -> int:
    """Return the index of the first true value, -1 for none."""
    return int(reached.argmax()) if reached.any() else -1


def judge_market(seed: int, edge: float, claim: float, *words: str) -> Outcome:
    """Judge the momentum forecaster in the market of a seed.

    edge: planted information coefficient.
    """
    given = (f"data.seed={seed}", f"data.information_coefficient={edge}")
    settings = BacktestSettings.from_config(compose_config("backtest", [*WORDS, *given, *words]))
    market = settings.load_market()
    forecaster = MomentumForecaster(claim)
    trader = settings.build_trader(forecaster)
    judgement = trader.judge_forecast(market, trader.build_beliefs(market))
    judged = np.isfinite(judgement.difference)
    difference = judgement.difference[judged]
    count = np.arange(1, len(difference) + 1)
    mean = np.cumsum(difference) / count
    spread = np.sqrt(np.maximum(np.cumsum(difference**2) / count - mean**2, 1e-18))
    with np.errstate(divide="ignore", invalid="ignore"):
        t_values = mean / spread * np.sqrt(count - 1)
        p_values = stats.t.sf(t_values, count - 1)
    earned = judgement.earned[judged]
    assert np.array_equal(
        growth_evidence(difference).e_value, judgement.e_value[judged], equal_nan=True
    )
    return Outcome(
        first_bar(earned > 0),
        first_bar(earned >= 0.5),
        first_bar((count >= MIN_PEEK) & (p_values < ALPHA)),
    )


def main() -> None:
    """Print the share of markets in which the forecast earns, and the median times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first market")
    parser.add_argument("--edge", type=float, default=0.0, help="planted information coefficient")
    parser.add_argument("--claim", type=float, default=0.0, help="claimed one; 0: the planted one")
    parser.add_argument("--timeframe", default="1d")
    parser.add_argument("--free", action="store_true", help="without costs")
    given = parser.parse_args()
    words = (f"timeframe={given.timeframe}", *(FREE if given.free else ()))
    found = [
        judge_market(seed, given.edge, given.claim or given.edge, *words)
        for seed in range(given.seed, given.seed + given.markets)
    ]
    sys.stdout.write(f"{given.markets} markets from seed {given.seed}, edge {given.edge}:\n")
    for name in ("earned_at", "half_at", "peeked_at"):
        at = np.array([getattr(each, name) for each in found])
        share = np.mean(at >= 0)
        # A market without the event counts as later than all others.
        median = np.median(np.where(at >= 0, at, np.inf))
        sys.stdout.write(f"{name:10} {share:6.1%} of markets, median bar {median:g}\n")


if __name__ == "__main__":
    main()
