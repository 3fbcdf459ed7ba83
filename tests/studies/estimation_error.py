"""What sizing loses to the errors of what it is told: growth and falls of every kind of Kelly.

    python -m tests.studies.estimation_error [--decisions 400] [--paths 2000] [--seed 0] [--quick]
        [--unbounded]

First bets on forecasts, in simulated truth: returns of deviation one, correlated 0.4, normal or of
a Student-t(4), none farther than ten deviations. A forecast is exact, or it states the mean with an
error of a tenth of a deviation (as the mean of 100 returns has) and deviations with errors of 30 %.
Its information coefficient is its correlation with the return. The best attainable knows what the
forecast is worth. Every rule keeps to a broker's margin: a book of 8 % deviation a decision, which
nothing ruins. Without it, `--unbounded`, printed are the paths that fall, and those that lose all.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats
from scipy.stats import qmc

from foundation.arrays import Array
from sizing.optimum import DrawdownBound
from sizing.stakes import growth_stakes
from sizing.uncertainty import proven_share, shrinkage
from tests.studies.markdown import markdown

CORRELATION = 0.4
ERROR = 0.1  # of a stated mean, in deviations
VOLATILITY_ERROR = 0.3  # of the logarithm of a stated deviation
FARTHEST = 10.0  # deviations of a book that its return goes at most
TINY = 1e-12
MARGIN = 0.08  # deviation of a book at most
SCENARIOS = 1024  # that sizing looks at
TRUTH = 8192  # returns that growth is measured on
LESSON = 3000  # forecasts that a slope is learned from
ERRORS = 3.0  # standard errors that a slope has to be beyond, as in `forecasting.calibration`
BOUND = DrawdownBound(0.7, 0.1)
LARGEST = 10.0  # size of a bet on a return of deviation one, far beyond any that survives
STEPS = 252  # decisions of a path
COEFFICIENTS = (0.0, 0.05, 0.1, 0.3)


@dataclass(frozen=True, slots=True)
class World:
    """A kind of truth and of forecasts of it.

    symbols: n.
    tails: degrees of freedom of a return, None for a normal one.
    noisy: whether forecasts have errors.
    coefficient: correlation of a forecast with the return.
    """

    symbols: int
    tails: float | None
    noisy: bool
    coefficient: float

    @property
    def error(self) -> float:
        """Deviation of a stated mean's error."""
        return ERROR if self.noisy else 0.0

    @property
    def signal(self) -> float:
        """Deviation of the true mean.

        A forecast s + e of true mean s, deviations a and h, has the coefficient a² / √(a² + h²).
        """
        ic = self.coefficient**2
        return float(np.sqrt((ic + np.sqrt(ic**2 + 4 * ic * self.error**2)) / 2))

    @property
    def slope(self) -> float:
        """What a stated mean is worth: E[true | stated] / stated."""
        total = self.signal**2 + self.error**2
        return self.signal**2 / total if total > 0 else 0.0


def correlated(symbols: int) -> Array:
    """Correlation of returns, of true means and of errors, [n, n]."""
    return (1 - CORRELATION) * np.eye(symbols) + CORRELATION


@cache
def returns_of(symbols: int, tails: float | None, count: int, seed: int) -> Array:
    """[count, n] returns of mean zero and covariance `correlated`, quasi-random and symmetric."""
    columns = symbols + (tails is not None)
    drawn = qmc.Sobol(columns, seed=np.random.default_rng([seed, count])).random(count // 2)
    scores = stats.norm.ppf(np.clip(drawn[:, :symbols], 1e-9, 1 - 1e-9))
    if tails is not None:
        scores = scores * np.sqrt((tails - 2) / stats.chi2.ppf(drawn[:, symbols:], tails))
    radius = np.sqrt((scores**2).sum(axis=1, keepdims=True))
    scores = scores * np.minimum(1, FARTHEST / radius)
    both = np.concatenate([scores, -scores])
    have = np.linalg.cholesky(both.T @ both / count)
    return np.asarray(both @ np.linalg.inv(have).T @ np.linalg.cholesky(correlated(symbols)).T)


def best_bets(
    means: Array, outcomes: Array, fraction: float = 1.0, bound: DrawdownBound | None = None
) -> Array:
    """[D, n] growth-optimal bets on equally likely outcomes [N, n] around means [D, n]."""
    chance = np.full(len(outcomes), 1 / len(outcomes))
    bets = np.zeros(means.shape)
    for d in np.flatnonzero(means.any(axis=1)):
        bets[d] = growth_stakes(
            means[d] + outcomes,
            chance,
            fraction=fraction,
            drawdown=bound,
            lower=-LARGEST,
            upper=LARGEST,
        ).weights
    return bets


@dataclass(frozen=True, eq=False, slots=True)
class Forecasts:
    """D decisions of a world.

    world: whose they are.
    true: [D, n] means of the returns.
    stated: [D, n] means as forecast.
    deviation: [D, n] of returns, as forecast.
    learned: [D] slope that a calibration gives a stated mean, each from a past of its own.
    """

    world: World
    true: Array
    stated: Array
    deviation: Array
    learned: Array

    def bets(
        self,
        slope: Array | float = 1.0,
        fraction: float = 1.0,
        bound: DrawdownBound | None = None,
    ) -> Array:
        """[D, n] weights by whole distributions, of a stated mean times a slope."""
        means = self.stated / self.deviation * np.reshape(slope, (-1, 1))
        outcomes = returns_of(self.world.symbols, self.world.tails, SCENARIOS, 1)
        return best_bets(means, outcomes, fraction, bound) / self.deviation

    def plug_in(self) -> Array:
        """[D, n] full Kelly to second order, Σ⁻¹m."""
        inverse = np.linalg.inv(correlated(self.world.symbols))
        return np.asarray(self.stated / self.deviation @ inverse / self.deviation)

    def shares(self, share: Callable[[Array, Array, Array], float]) -> Array:
        """[D, 1] what is left of the stated means by a rule of `sizing.uncertainty`."""
        correlation = correlated(self.world.symbols)
        error = self.world.error**2 * correlation
        return np.array(
            [
                [share(mean, error, np.outer(deviation, deviation) * correlation)]
                for mean, deviation in zip(self.stated, self.deviation, strict=True)
            ]
        )


def forecasts(world: World, count: int, seed: int) -> Forecasts:
    """Draw the decisions of a world."""
    rng = np.random.default_rng([seed, world.symbols, 7])
    n = world.symbols
    colour = np.linalg.cholesky(correlated(n)).T
    true = world.signal * rng.normal(size=(count, n)) @ colour
    stated = true + world.error * rng.normal(size=(count, n)) @ colour
    shift = VOLATILITY_ERROR * rng.normal(size=(count, n)) - VOLATILITY_ERROR**2 / 2
    deviation = np.exp(shift) if world.noisy else np.ones((count, n))
    # A lesson pools the symbols of an instant, which say as much as so many independent ones.
    independent = LESSON * n**2 / float((correlated(n) ** 2).sum())
    spread = np.hypot(world.signal, world.error)
    error = 1 / (spread * np.sqrt(independent)) if spread > 0 else np.inf
    seen = world.slope + error * rng.normal(size=count) if spread > 0 else np.zeros(count)
    learned = np.clip(seen - ERRORS * error, 0, 1) if spread > 0 else seen
    return Forecasts(world, true, stated, deviation, learned)


def kept_to(weights: Array, margin: float) -> Array:
    """Weights [D, n], those of a book of more deviation than the margin made smaller."""
    variance = np.einsum("di,ij,dj->d", weights, correlated(weights.shape[1]), weights)
    share = margin / np.maximum(np.sqrt(variance), margin) if margin < np.inf else 1 + 0 * variance
    return np.asarray(weights * share[:, None])


def weights_of(f: Forecasts) -> dict[str, Array]:
    """[D, n] weights of every rule before the margin, by name."""
    plug_in = f.plug_in()
    learned = f.learned[:, None]
    return {
        "plug-in, full": plug_in,
        "plug-in, half": plug_in / 2,
        "plug-in, quarter": plug_in / 4,
        "Baker–McHale, full": plug_in * f.shares(shrinkage),
        "Baker–McHale, half": plug_in * f.shares(shrinkage) / 2,
        "proven, full": plug_in * f.shares(proven_share),
        "calibrated, full": plug_in * learned,
        "calibrated, half": plug_in * learned / 2,
        "distribution, full": f.bets(),
        "distribution, half": f.bets(fraction=0.5),
        "distribution, calibrated, half": f.bets(f.learned, 0.5),
        "risk-constrained": f.bets(bound=BOUND),
        "risk-constrained, calibrated": f.bets(f.learned, bound=BOUND),
    }


def best_of(f: Forecasts, margin: float) -> Array:
    """[D, n] weights that grow fastest for who knows the law of returns given the forecast.

    The law looks alike from every side, so they lie along Σ⁻¹m, and one number is left to find.
    """
    w = f.world
    doubt = np.sqrt(1 + w.signal**2 * (1 - w.slope))
    weights = f.stated * w.slope @ np.linalg.inv(correlated(w.symbols))
    sharpe = np.sqrt((weights * f.stated * w.slope).sum(axis=1, keepdims=True))
    one = returns_of(w.symbols, w.tails, TRUTH, 2)[:, :1]
    deviation = np.minimum(best_bets(sharpe / doubt, one) / doubt, margin)
    return np.asarray(weights / np.maximum(sharpe, TINY) * deviation)


def growth(f: Forecasts, weights: Array) -> Array:
    """[D] expected log growth of each decision; -inf where some return ruins."""
    outcomes = returns_of(f.world.symbols, f.world.tails, TRUTH, 2)
    means = (f.true * weights).sum(axis=1)
    levels = np.empty(len(weights))
    for rows in np.array_split(np.arange(len(weights)), max(1, len(weights) // 64)):
        wealth = 1 + means[rows, None] + weights[rows] @ outcomes.T
        ruined = (wealth <= 0).any(axis=1)
        logs = np.log(np.where(wealth > 0, wealth, 1)).mean(axis=1)
        levels[rows] = np.where(ruined, -np.inf, logs)
    return levels


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rule does in a world.

    growth: log growth a decision.
    share: of the best attainable, and its standard error; NaN where there is none.
    error: of the share, or of the growth where there is none.
    falls: share of paths that fall below BOUND.alpha within STEPS decisions.
    ruins: share of paths that lose everything.
    """

    growth: float
    share: float
    error: float
    falls: float
    ruins: float


def figures(f: Forecasts, weights: Array, best: Array, paths: int, seed: int) -> Figures:
    """The figures of one rule; best: [D] growth of the best attainable."""
    levels = growth(f, weights)
    least = lowest(f, weights, paths, seed)
    attainable = float(best.mean())
    share = float(levels.mean()) / attainable if attainable > 0 else np.nan
    error = np.nan
    if np.isfinite(levels).all() and np.isfinite(best).all():
        apart = levels - share * best if attainable > 0 else levels
        error = float(
            apart.std(ddof=1) / np.sqrt(len(levels)) / (attainable if attainable > 0 else 1)
        )
    ruins = float((least <= 0).mean())
    return Figures(float(levels.mean()), share, error, float((least < BOUND.alpha).mean()), ruins)


def lowest(f: Forecasts, weights: Array, paths: int, seed: int) -> Array:
    """[paths] the least wealth on a path of STEPS decisions, 0 where it is lost."""
    rng = np.random.default_rng([seed, 5])
    outcomes = returns_of(f.world.symbols, f.world.tails, TRUTH, 2)
    decisions = rng.integers(0, len(weights), (paths, STEPS))
    drawn = rng.integers(0, len(outcomes), (paths, STEPS))
    means = (f.true * weights).sum(axis=1)[decisions]
    factors = 1 + means + np.einsum("psi,psi->ps", weights[decisions], outcomes[drawn])
    wealth = np.cumprod(np.maximum(factors, 0), axis=1)
    return np.asarray(np.minimum(wealth.min(axis=1), 1.0))


def study(
    worlds: Sequence[World], decisions: int, paths: int, seed: int, margin: float = MARGIN
) -> dict[World, dict[str, Figures]]:
    """Every rule in every world."""
    table = {}
    for world in worlds:
        f = forecasts(world, decisions, seed)
        best = growth(f, best_of(f, margin))
        table[world] = {
            name: figures(f, kept_to(weights, margin), best, paths, seed)
            for name, weights in weights_of(f).items()
        }
    return table


def cell(figure: Figures, margin: float) -> str:
    """A share of growth with its error, or growth in basis points; falls. Without a margin: ruins.

    Growth over days that may ruin is minus infinity for every rule that bets enough.
    """
    falls = f"{figure.falls:.1%}"
    if margin == np.inf:
        return f"{falls}; {figure.ruins:.1%}"
    if np.isnan(figure.share):
        return f"{1e4 * figure.growth:+.1f} ± {1e4 * figure.error:.1f} bp; {falls}"
    return f"{figure.share:.2f} ± {figure.error:.2f}; {falls}"


def main(words: Sequence[str] | None = None) -> None:
    """Draw, size, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--decisions", type=int, default=400)
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--unbounded", action="store_true")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(words)
    if asked.quick:
        asked.decisions, asked.paths = 60, 300
    margin = np.inf if asked.unbounded else MARGIN
    for symbols, tails in itertools.product((1, 8), (None, 4.0)):
        world = World(symbols, tails, noisy=False, coefficient=0.0)
        worlds = [replace(world, coefficient=ic) for ic in COEFFICIENTS[1:]]
        worlds += [replace(world, noisy=True, coefficient=ic) for ic in COEFFICIENTS]
        table = study(worlds, asked.decisions, asked.paths, asked.seed, margin)
        heads = [f"{'noisy' if w.noisy else 'exact'}, {w.coefficient:g}" for w in worlds]
        print(f"\nn = {symbols}, {'normal' if tails is None else f't{tails:g}'}\n")
        rows = [(name, [cell(table[w][name], margin) for w in worlds]) for name in table[worlds[0]]]
        print(markdown(heads, rows))


if __name__ == "__main__":
    main()
