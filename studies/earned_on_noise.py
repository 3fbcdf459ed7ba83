"""Count the synthetic markets in which a forecast earns anything, without an edge and with one.

python -m studies.earned_on_noise

Each market is synthetic, with a different seed: bars of five correlated stocks with heavy tails and
volatility clustering, over two years after half a year of history. The forecaster claims that the
momentum of the last bars continues. The claimed information coefficient is the planted one
(`data.information_coefficient`), or `--claim`. The evidence is read after every bar. For
comparison, a t-test of the same differences at the same level, read after every bar from the 30th
on, shows what repeated reading does to a test for a fixed sample.

With `--jump 1 --odds 0.001` a symbol doubles overnight before one of 1,000 bars, and falls a little
before all others: the mean of these moves is 0. The forecaster then claims a fall at every bar,
with the information coefficient of `--claim`. With a negative jump it claims a rise.

With `--late 30` each forecast is sealed 30 s after its issue, by a forecaster that knows the whole
bar that begins at the issue and claims its direction. Use bars of an hour or less.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from forecasting.baseline import RandomWalk
from forecasting.evidence import ALPHA, growth_evidence
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Array, Instants, Mask
from foundation.compose import compose_config
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.market import Market

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
    direction: 1 or -1 for a forecaster that always claims a rise or a fall; 0 for momentum.
    is_late: true for a forecaster that knows the bar that begins at the issue.
    """

    claim: float
    direction: float = 0.0
    is_late: bool = False
    random_walk: RandomWalk = field(default_factory=RandomWalk)
    name: str = "momentum"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on."""
        windows = Windows.from_bars(bars, since, self.random_walk.context_length)
        around = self.random_walk.quantiles_around(windows)
        deviation = around.scale[:, 0]
        ahead = np.arange(1, HORIZON + 1)
        if self.direction or self.is_late:
            direction = begun_bar_direction(windows, bars) if self.is_late else self.direction
            median = np.outer(direction * self.claim * deviation, ahead)
        else:
            moves = np.diff(np.log(windows.contexts(np.arange(len(windows)))), axis=1)
            ages = np.arange(moves.shape[1])[::-1]
            weights = np.sqrt(1 - PERSISTENCE**2) * PERSISTENCE**ages
            mean = self.claim * (moves / deviation[:, None]) @ weights * deviation
            median = np.outer(mean, (1 - PERSISTENCE**ahead) / (1 - PERSISTENCE))
        quantiles = self.random_walk.quantiles_around(windows, median=median)
        return ForecastTable.from_quantiles(self.name, bars, windows, quantiles)


def begun_bar_direction(windows: Windows, bars: Bars) -> Array:
    """Return the sign of the move of the bar that begins at each issue, [N]; 0 without a bar."""
    directions = []
    for symbol, part in enumerate(windows.slices_by_symbol()):
        closes, last = windows.closes[symbol], windows.last_bar_index[part]
        ends = bars.times[bars.mask[symbol]]
        following = np.minimum(last + 1, len(closes) - 1)
        begins = ends[following] - ends[last] <= bars.timeframe.length
        directions.append(np.sign(closes[following] - closes[last]) * begins)
    return np.concatenate(directions)


@dataclass(frozen=True)
class Outcome:
    """Outcome of a market; bars count from the first judged one, -1 for never.

    earned_at, half_at: bar at which the forecast first earned anything, and half of its positions.
    peeked_at: bar at which a t-test was first significant.
    breached_at: first bar that lost more than the stated moves allow.
    """

    earned_at: int
    half_at: int
    peeked_at: int
    breached_at: int


def with_jumps(market: Market, seed: int, size: float, odds: float) -> Market:
    """Return a market whose symbols jump before a bar's open, at a mean return of 0.

    size: simple return of a jump.
    odds: probability of a jump before a bar.
    """
    bars = market.bars
    jumps = np.random.default_rng([seed, 1]).random(bars.mask.shape) < odds
    move = np.where(jumps, 1 + size, 1 - size * odds / (1 - odds))
    level = np.cumprod(np.where(bars.mask, move, 1.0), axis=1)
    values = bars.values.copy()
    values[:, :, :4] *= level[:, :, None]
    return replace(market, bars=replace(bars, values=values))


def first_bar(reached: Mask) -> int:
    """Return the index of the first true value, -1 for none."""
    return int(reached.argmax()) if reached.any() else -1


def judge_market(
    settings: BacktestSettings, seed: int, claim: float, jump: float, odds: float, late: int
) -> Outcome:
    """Judge a forecaster in the market of a seed.

    jump, odds: size and probability of jumps; a jump of 0 plants none.
    late: seconds from issue to seal of a forecaster that knows the begun bar; 0 for one that does
        not.
    """
    settings = replace(settings, data=replace(settings.data, seed=seed))
    market = settings.load_market()
    if jump:
        market = with_jumps(market, seed, jump, odds)
    forecaster = MomentumForecaster(claim, -np.sign(jump), bool(late))
    trader = settings.build_trader(forecaster)
    known_at = {at: at + np.timedelta64(late, "s") for at in market.bars.times} if late else {}
    judgement = trader.judge_forecast(market, trader.build_beliefs(market), known_at)
    judged = np.isfinite(judgement.difference)
    difference = judgement.difference[judged]
    count = np.arange(1, len(difference) + 1)
    mean = np.cumsum(difference) / count
    spread = np.sqrt(np.maximum(np.cumsum(difference**2) / count - mean**2, 1e-18))
    with np.errstate(divide="ignore", invalid="ignore"):
        t_values = mean / spread * np.sqrt(count - 1)
        p_values = stats.t.sf(t_values, count - 1)
    earned = judgement.earned[judged]
    series = growth_evidence(difference, ALPHA, judgement.largest_loss[judged])
    assert np.array_equal(series.e_value, judgement.e_value[judged], equal_nan=True)
    return Outcome(
        first_bar(earned > 0),
        first_bar(earned >= 0.5),
        first_bar((count >= MIN_PEEK) & (p_values < ALPHA)),
        first_bar(difference < -judgement.largest_loss[judged]),
    )


def main() -> None:
    """Print the share of markets in which the forecast earns, and the median times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first market")
    parser.add_argument("--edge", type=float, default=0.0, help="planted information coefficient")
    parser.add_argument("--claim", type=float, default=0.0, help="claimed one; 0: the planted one")
    parser.add_argument("--jump", type=float, default=0.0, help="size of rare jumps, such as 1")
    parser.add_argument("--odds", type=float, default=0.001, help="of a jump before a bar")
    parser.add_argument("--late", type=int, default=0, help="seconds from issue to seal")
    parser.add_argument("--timeframe", default="1d")
    parser.add_argument("--free", action="store_true", help="without costs")
    given = parser.parse_args()
    words = (f"timeframe={given.timeframe}", f"data.information_coefficient={given.edge}")
    costs = FREE if given.free else ()
    settings = BacktestSettings.from_config(compose_config("backtest", [*WORDS, *words, *costs]))
    claim = given.claim or given.edge
    found = [
        judge_market(settings, seed, claim, given.jump, given.odds, given.late)
        for seed in range(given.seed, given.seed + given.markets)
    ]
    sys.stdout.write(f"{given.markets} markets from seed {given.seed}, edge {given.edge}:\n")
    first = {
        name: np.array([getattr(each, name) for each in found]) for name in Outcome.__annotations__
    }
    for name in ("earned_at", "half_at", "peeked_at"):
        # A market without the event counts as later than all others.
        median = np.median(np.where(first[name] >= 0, first[name], np.inf))
        share = np.mean(first[name] >= 0)
        sys.stdout.write(f"{name:10} {share:6.1%} of markets, median bar {median:g}\n")
    earned, breached = first["earned_at"], first["breached_at"]
    before = (earned >= 0) & ((breached < 0) | (earned < breached))
    sys.stdout.write(
        f"larger losses than stated in {np.mean(breached >= 0):.1%} of markets; earned before the"
        f" first of them, or without one: {np.mean(before):.1%}\n"
    )


if __name__ == "__main__":
    main()
