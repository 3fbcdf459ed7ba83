"""How often a bound on drawdowns holds in markets whose parameters are estimated.

    python -m tests.studies.drawdown_markets [--markets 1000] [--paths 1000] [--steps 2520]
        [--seed 0] [--quick]

Simulated truth. Each market has means and a covariance of its own; sizing knows the shape of its
returns, normal or Student-t(4) that stops at ten deviations, and sees 250 of them. It then holds
its weights for 2,520 decisions. For each market the probability, over paths of that market, that
wealth ever falls below alpha = 0.7 of its start is beta = 0.1 at most, or it is not. Printed for
every rule: in how many of 1,000 markets it is, the probability over all markets and paths, and the
mean growth as a share of what the best weights for the known parameters grow by.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from foundation.arrays import Array
from foundation.compiled import compiled
from sizing.optimum import DrawdownBound
from sizing.uncertainty import proven_share, shrinkage
from tests.studies.estimation_error import BOUND, FARTHEST, best_bets, returns_of
from tests.studies.markdown import markdown

PAST = 250  # returns that parameters are estimated from
LAW = 4096  # points of the shape that sizing knows
DEVIATION = 0.01  # of a return
HOLDS = 0.95  # of markets
TAILS = (None, 4.0)  # degrees of freedom
PRIORS = (0.0, 0.02, 0.05, 0.1)  # deviation of a true mean, in deviations of a return


@dataclass(frozen=True, eq=False, slots=True)
class Market:
    """One market, and what is known of it.

    mean, covariance: [n], [n, n] true ones.
    past: [PAST, n] returns seen.
    prior: deviation of true means over that of returns.
    tails: degrees of freedom of its returns.
    """

    mean: Array
    covariance: Array
    past: Array
    prior: float
    tails: float | None

    @property
    def stated(self) -> tuple[Array, Array]:
        """Mean and covariance as the past has them, the inverse of the latter without bias."""
        count, n = self.past.shape
        wider = (count - 1) / (count - n - 2)
        return self.past.mean(axis=0), wider * np.atleast_2d(np.cov(self.past.T))


def shocks(rng: np.random.Generator, count: int, symbols: int, tails: float | None) -> Array:
    """[count, n] uncorrelated returns of deviation one, none farther than FARTHEST."""
    drawn = rng.normal(size=(count, symbols))
    if tails is not None:
        drawn *= np.sqrt((tails - 2) / rng.chisquare(tails, (count, 1)))
    radius = np.sqrt((drawn**2).sum(axis=1, keepdims=True))
    return np.asarray(drawn * np.minimum(1, FARTHEST / np.maximum(radius, 1)))


def market(rng: np.random.Generator, symbols: int, tails: float | None, prior: float) -> Market:
    """Draw a market: correlations of one factor, deviations within a factor of two."""
    loading = rng.uniform(0.3, 0.9, symbols)
    correlation = np.outer(loading, loading)
    np.fill_diagonal(correlation, 1.0)
    deviation = DEVIATION * 2 ** rng.uniform(-0.5, 0.5, symbols)
    covariance = np.outer(deviation, deviation) * correlation
    colour = np.linalg.cholesky(covariance)
    mean = prior * colour @ rng.normal(size=symbols)
    past = mean + shocks(rng, PAST, symbols, tails) @ colour.T
    return Market(mean, covariance, past, prior, tails)


@cache
def sizes(tails: float | None, bound: DrawdownBound | None) -> tuple[Array, Array]:
    """[E], [E]: edges of one return of deviation one, and the best size of a bet on each."""
    edges = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 200)])
    law = returns_of(1, tails, LAW, 3)
    return edges, best_bets(edges[:, None], law, bound=bound)[:, 0]


def along(
    mean: Array, covariance: Array, tails: float | None, share: float, bound: DrawdownBound | None
) -> Array:
    """[n] the best weights for a share of a mean, under a drawdown bound if there is one.

    Returns look alike from every side, so the weights lie along Σ⁻¹m and are a bet on one return.
    """
    weights = np.linalg.solve(covariance, mean)
    sharpe = float(np.sqrt(mean @ weights))
    if share * sharpe == 0:
        return 0.0 * mean
    return np.asarray(weights / sharpe * np.interp(share * sharpe, *sizes(tails, bound)))


def plug_in(m: Market, fraction: float) -> Array:
    """A fraction of full Kelly on the estimates."""
    return fraction * np.linalg.solve(*m.stated[::-1])


def risk_constrained(m: Market, share: float = 1.0) -> Array:
    """Risk-constrained Kelly on the estimates, with a share of their mean."""
    return along(*m.stated, m.tails, share, BOUND)


def proven(m: Market, errors: float = 1.645) -> float:
    """The proven share of the estimated mean."""
    mean, covariance = m.stated
    return proven_share(mean, covariance / PAST, covariance, errors)


def predictive(m: Market) -> Array:
    """Risk-constrained, the mean's error counted as more variance of every return."""
    mean, covariance = m.stated
    return along(mean, covariance * (1 + 1 / PAST), m.tails, 1.0, BOUND)


def shrunk(m: Market) -> float:
    """Baker and McHale's factor."""
    mean, covariance = m.stated
    return shrinkage(mean, covariance / PAST, covariance)


def worth(m: Market) -> float:
    """Posterior over estimated mean for who knows the prior."""
    return m.prior**2 / (m.prior**2 + 1 / PAST)


def certain(m: Market) -> float:
    """The same less 1.645 of the posterior's own errors."""
    mean, covariance = m.stated
    sharpe = np.sqrt(mean @ np.linalg.solve(covariance, mean))
    return float(max(worth(m) - 1.645 * np.sqrt(worth(m) / PAST) / sharpe, 0.0))


RULES: dict[str, Callable[[Market], Array]] = {
    "plug-in, full": lambda m: plug_in(m, 1.0),
    "plug-in, half": lambda m: plug_in(m, 0.5),
    "Baker–McHale, half": lambda m: shrunk(m) * plug_in(m, 0.5),
    "proven mean (1.645 errors), half": lambda m: proven(m) * plug_in(m, 0.5),
    "proven mean (3 errors), half": lambda m: proven(m, 3.0) * plug_in(m, 0.5),
    "risk-constrained, parameters known": lambda m: along(
        m.mean, m.covariance, m.tails, 1.0, BOUND
    ),
    "risk-constrained": risk_constrained,
    "… the mean's error as variance": predictive,
    "… Baker–McHale": lambda m: risk_constrained(m, shrunk(m)),
    "… posterior mean, prior known": lambda m: risk_constrained(m, worth(m)),
    "… posterior mean less 1.645 errors": lambda m: risk_constrained(m, certain(m)),
    "… proven mean (1.645 errors)": lambda m: risk_constrained(m, proven(m)),
    "… proven mean (3 errors)": lambda m: risk_constrained(m, proven(m, 3.0)),
}


@compiled
def chances(drift: Array, deviation: Array, paths: Array, alpha: float) -> Array:
    """[M] share of paths on which wealth falls below alpha of its start, one for each book.

    drift, deviation: [M] mean and deviation of a book's return. paths: [P, steps] its shocks.
    """
    found = np.zeros(len(drift))
    for m in range(len(drift)):
        if deviation[m] == 0.0:
            continue
        for path in range(len(paths)):
            wealth = 1.0
            for step in range(paths.shape[1]):
                wealth *= 1.0 + drift[m] + deviation[m] * paths[path, step]
                if wealth < alpha:
                    found[m] += 1.0
                    break
    return found / len(paths)


def grown(weights: Sequence[Array], markets: Sequence[Market]) -> tuple[Array, Array, Array]:
    """[M] mean, deviation and log growth a decision of each market's book."""
    pairs = list(zip(markets, weights, strict=True))
    drift = np.array([m.mean @ w for m, w in pairs])
    deviation = np.sqrt([w @ m.covariance @ w for m, w in pairs])
    wealth = 1 + drift + deviation * returns_of(1, markets[0].tails, LAW, 3)
    logs = np.log(np.where(wealth > 0, wealth, 1)).mean(axis=0)
    return drift, deviation, np.where((wealth <= 0).any(axis=0), -np.inf, logs)


def share_of(growth: Array, best: Array) -> tuple[float, float]:
    """Mean growth [M] over the mean of the best, and its error; NaN where nothing can be earned."""
    if not best.any():
        return np.nan, np.nan
    if not np.isfinite(growth).all():
        return -np.inf, np.nan
    share = growth.mean() / best.mean()
    apart = growth - share * best
    return float(share), float(apart.std(ddof=1) / np.sqrt(len(best)) / best.mean())


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rule does in all markets of a kind.

    holds: share of markets in which the bound holds.
    falls: probability of a fall below BOUND.alpha over markets and paths.
    share: mean growth over that of the best weights for the known parameters; -inf where some
        market ruins, NaN where nothing can be earned.
    error: of the share.
    """

    holds: float
    falls: float
    share: float
    error: float


def study(
    symbols: int, tails: float | None, prior: float, markets: int, paths: Array, seed: int
) -> dict[str, Figures]:
    """Every rule in `markets` markets; paths: [P, steps] shocks of a book."""
    rng = np.random.default_rng([seed, symbols, int(1000 * prior), int(tails or 0)])
    drawn = [market(rng, symbols, tails, prior) for _ in range(markets)]
    best = grown([along(m.mean, m.covariance, m.tails, 1.0, None) for m in drawn], drawn)[2]
    table = {}
    for name, rule in RULES.items():
        drift, deviation, growth = grown([rule(m) for m in drawn], drawn)
        chance = chances(drift, deviation, paths, BOUND.alpha)
        share, error = share_of(growth, best)
        holds = float((chance <= BOUND.beta).mean())
        table[name] = Figures(holds, float(chance.mean()), share, error)
    return table


def cell(f: Figures) -> str:
    """In how many markets the bound holds, the probability of a fall, the share of growth."""
    text = f"{f.holds:.1%}; {f.falls:.1%}"
    if np.isnan(f.share):
        return text
    return f"{text}; {f.share:.2f} ± {f.error:.2f}" if np.isfinite(f.share) else f"{text}; ruin"


def table(
    symbols: int, tails: float | None, markets: int, count: int, steps: int, seed: int
) -> str:
    """Markdown: a line a rule, a column a prior."""
    rng = np.random.default_rng([seed, 11])
    paths = shocks(rng, count * steps, 1, tails).reshape(count, -1)
    columns = [study(symbols, tails, prior, markets, paths, seed) for prior in PRIORS]
    heading = f"\nn = {symbols}, {'normal' if tails is None else f't{tails:g}'}\n\n"
    rows = [(name, [cell(column[name]) for column in columns]) for name in RULES]
    return heading + markdown([f"{prior:g}" for prior in PRIORS], rows)


def main(words: Sequence[str] | None = None) -> None:
    """Draw markets, size, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--markets", type=int, default=1000)
    parser.add_argument("--paths", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2520)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(words)
    if asked.quick:
        asked.markets, asked.paths = 100, 200
    for symbols, tails in itertools.product((1, 8), TAILS):
        print(table(symbols, tails, asked.markets, asked.paths, asked.steps, asked.seed))


if __name__ == "__main__":
    main()
