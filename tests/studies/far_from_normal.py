"""Growth-optimal and drawdown-bounded stakes where payoffs are far from normal.

    python -m tests.studies.far_from_normal [--seeds 40] [--rounds 400] [--paths 2000] [--quick]

Everything is simulated. First option spreads: results per contract of the simulator's own offers,
one a day, over what the contract can lose, so that a stake is the share of the balance at risk. The
last 50 trades size the next one, as `sizing.autoscaler` does, but in shares of a balance, without a
cap or a least contract, no more than half of it at risk. Then binary contracts: a market's price
misses the true probability by 5 cents, a trade costs a cent beyond it, and the estimate has an
error of its own. Printed are stakes, growth and how often wealth falls below 0.7 of its start
within 252 trades or rounds.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from execution.spreads.rules import SpreadCosts, SpreadRules
from foundation.arrays import Array
from marketsimulator.options.path import IndexModel
from marketsimulator.options.pricing import Smile
from marketsimulator.options.selling import offered_spreads
from sizing.autoscaler.rules import Statistics
from sizing.kelly import binary_kelly
from sizing.optimum import DrawdownBound
from sizing.stakes import growth_stakes
from sizing.uncertainty import binary_shrinkage, proven_share
from tests.studies.markdown import markdown
from trainingdata.sessions import stock_grid

BOUND = DrawdownBound(0.7, 0.1)
STEPS = 252  # trades or rounds of a path
WINDOW = 50  # trades, ROLLING_WINDOW of the autoscaler
SESSIONS = 756  # of a simulated index
LAW = 5040  # sessions of another index, that the law of results is known from
LAW_SEED = 1_000_000
MOST = 0.5  # of the balance at risk
CONFIDENCE = 0.95
ERRORS = 1.645  # standard errors that a proven mean or probability stays below its estimate
FREE = SpreadCosts(slippage=0.0, commission=0.0, fee=0.0)
MISPRICED = 0.05  # deviation of true probabilities from prices
COST = 0.01  # USD beyond the price
ERROR_SIZES = (0.0, 0.05, 0.1)  # of an estimated probability
LOST = 1e-12  # share of wealth that counts as nothing
COUNTS = (1, 5)  # contracts at the same time


@dataclass(frozen=True, slots=True)
class SpreadMarket:
    """A strategy and its terms.

    name: heading of its column.
    strategy: as in `sizing.autoscaler.rules.WIDTHS`.
    costs: of its trades.
    held: whether spreads are held to the close, without stop, target or trail.
    """

    name: str
    strategy: str
    costs: SpreadCosts
    held: bool

    def trades(self, sessions: int, seed: int) -> tuple[list[Fraction], Array]:
        """Results in USD a contract, and [N] over what the contract can lose before costs."""
        rules = SpreadRules(strategy=self.strategy, entries=(120,))
        if self.held:
            rules = replace(rules, stop_multiple=None, stop_usd=None, target=None, trail_from=None)
        smile = Smile()
        calendar = stock_grid().dates
        dates = calendar[calendar >= np.datetime64("2001-01-02")][:sessions]
        days = IndexModel().days(dates, seed, smile)
        offers = offered_spreads(days, [rules], self.costs, smile)
        results = [offer.result for offer in offers]
        return results, np.array([float(o.result) / o.max_loss for o in offers])


MARKETS = (
    SpreadMarket("IRON_CONDOR, as configured", "IRON_CONDOR", SpreadCosts(), held=False),
    SpreadMarket("IRON_CONDOR, without costs", "IRON_CONDOR", FREE, held=False),
    SpreadMarket("OTM_SINGLE_SIDED, held, without costs", "OTM_SINGLE_SIDED", FREE, held=True),
)


def sample_stake(
    returns: Array, fraction: float = 1.0, bound: DrawdownBound | None = None
) -> float:
    """Stake that is best if the next return is one of these [N], all equally likely."""
    chance = np.full(len(returns), 1 / len(returns))
    stakes = growth_stakes(returns[:, None], chance, fraction=fraction, drawdown=bound, upper=MOST)
    return float(stakes.weights[0])


def proven_returns(returns: Array) -> Array:
    """The returns [N] less what is not proven of their mean."""
    mean, variance = returns.mean(), returns.var(ddof=1)
    share = proven_share([mean], [[variance / len(returns)]], [[variance]], ERRORS)
    return np.asarray(returns - (1 - share) * mean)


SpreadRule = Callable[[list[Fraction], Array], float]


def autoscaled(results: list[Fraction], confidence: float | None = None) -> float:
    """Half of the autoscaler's Kelly, or of its lower bound; 0 where trades have lost."""
    statistics = Statistics.of(results)
    kelly = statistics.kelly if confidence is None else statistics.lower_kelly(confidence)
    return max(float(kelly) / 2, 0.0) if kelly is not None else 0.0


SPREAD_RULES: dict[str, SpreadRule] = {
    "autoscaler, half": lambda results, returns: autoscaled(results),
    "autoscaler, half of the 95 % bound": lambda results, returns: autoscaled(results, CONFIDENCE),
    "growth-optimal, half": lambda results, returns: sample_stake(returns, 0.5),
    "drawdown-bounded": lambda results, returns: sample_stake(returns, bound=BOUND),
    "drawdown-bounded, proven mean": lambda results, returns: sample_stake(
        proven_returns(returns), bound=BOUND
    ),
}


@dataclass(frozen=True, slots=True)
class Figures:
    """What a rule does.

    stake: mean share of wealth at risk.
    growth: log growth a trade or round; -inf where one may lose everything.
    error: its standard error, NaN without one.
    falls: share of paths on which wealth falls below BOUND.alpha of its start.
    falls_error: its standard error.
    """

    stake: float
    growth: float
    error: float
    falls: float
    falls_error: float

    def cell(self) -> str:
        """All of them, in the units of docs/STUDIES.md."""
        growth = f"{1e4 * self.growth:+.1f} ± {1e4 * self.error:.1f} bp"
        growth = growth if np.isfinite(self.growth) else "ruin"
        falls = f"{self.falls:.1%} ± {self.falls_error:.1%}"
        return f"{self.stake:.1%}; {growth}; {falls}"


def path_falls(logs: Array) -> Array:
    """[B] whether wealth falls below BOUND.alpha in each whole stretch of STEPS trades."""
    whole = len(logs) // STEPS * STEPS
    levels = np.cumsum(logs[:whole].reshape(-1, STEPS), axis=1)
    return np.asarray(levels.min(axis=1) < np.log(BOUND.alpha))


def spread_study(market: SpreadMarket, seeds: Iterable[int], law: int) -> dict[str, Figures]:
    """Every rule walk-forward over the trades of each seed; errors are over seeds."""
    known = market.trades(law, LAW_SEED)[1]
    stakes_known = {
        "growth-optimal, half, law known": sample_stake(known, 0.5),
        "drawdown-bounded, law known": sample_stake(known, bound=BOUND),
    }
    logs: dict[str, list[Array]] = {name: [] for name in (*SPREAD_RULES, *stakes_known)}
    sizes: dict[str, list[float]] = {name: [] for name in logs}
    for seed in seeds:
        results, returns = market.trades(SESSIONS, seed)
        ahead = returns[WINDOW:]
        for name in logs:
            stakes = np.full(len(ahead), stakes_known.get(name, 0.0))
            if name in SPREAD_RULES:
                rule = SPREAD_RULES[name]
                windows = (slice(k, k + WINDOW) for k in range(len(ahead)))
                stakes = np.array([rule(results[w], returns[w]) for w in windows])
            logs[name].append(np.log1p(stakes * ahead))
            sizes[name].append(float(stakes.mean()))
    return {name: _over_seeds(sizes[name], logs[name]) for name in logs}


def _over_seeds(sizes: Sequence[float], logs: Sequence[Array]) -> Figures:
    growth = np.array([each.mean() for each in logs])
    falls = np.array([path_falls(each).mean() for each in logs])
    count = np.sqrt(len(logs))
    return Figures(
        float(np.mean(sizes)),
        float(growth.mean()),
        float(growth.std(ddof=1) / count),
        float(falls.mean()),
        float(falls.std(ddof=1) / count),
    )


@dataclass(frozen=True, eq=False, slots=True)
class Contracts:
    """D rounds of n independent contracts, each on the side that its estimate favours.

    chance: [D, n] that it pays.
    estimate: [D, n] of that.
    price: [D, n] USD, with the cost of the trade.
    error: standard error of an estimate.
    """

    chance: Array
    estimate: Array
    price: Array
    error: float


def contracts(count: int, error: float, rounds: int, seed: int) -> Contracts:
    """Draw rounds: fair prices of 0.2 to 0.8 that miss the truth by MISPRICED."""
    rng = np.random.default_rng([seed, count])
    shape = rounds, count
    price = rng.uniform(0.2, 0.8, shape)
    chance = np.clip(price + MISPRICED * rng.normal(size=shape), 0.01, 0.99)
    estimate = np.clip(chance + error * rng.normal(size=shape), 0.01, 0.99)
    yes = estimate > price
    return Contracts(
        np.where(yes, chance, 1 - chance),
        np.where(yes, estimate, 1 - estimate),
        np.where(yes, price, 1 - price) + COST,
        error,
    )


def outcomes(count: int) -> Array:
    """[2^n, n] which contracts pay."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=count)))


def probabilities(chance: Array) -> Array:
    """[D, 2^n] of the outcomes of independent contracts that pay with chances [D, n]."""
    paid = outcomes(chance.shape[1])
    each = np.where(paid == 1, chance[:, None], 1 - chance[:, None])
    return np.asarray(each.prod(axis=2))


def jointly(
    c: Contracts,
    estimate: Array,
    fraction: float = 1.0,
    bound: DrawdownBound | None = None,
) -> Array:
    """[D, n] growth-optimal stakes of all contracts of a round together."""
    paid = outcomes(estimate.shape[1])
    stakes = np.zeros(estimate.shape)
    together = [(np.ones(estimate.shape[1]), 1.0)]
    for d, chance in enumerate(probabilities(estimate)):
        if (estimate[d] > c.price[d]).any():
            stakes[d] = growth_stakes(
                paid / c.price[d] - 1, chance, fraction=fraction, drawdown=bound, groups=together
            ).weights
    return stakes


def one_by_one(c: Contracts, fraction: float) -> Array:
    """[D, n] `binary_kelly` of each contract alone, all made smaller where cash does not do."""
    stakes = binary_kelly(c.estimate, c.price, fraction)
    return np.asarray(stakes / np.maximum(stakes.sum(axis=1, keepdims=True), 1))


def shrunk(c: Contracts) -> Array:
    """[D, n] Baker and McHale's factor."""
    return binary_shrinkage(c.estimate, c.price, c.error)


CONTRACT_RULES: dict[str, Callable[[Contracts], Array]] = {
    "binary Kelly, full, one by one": lambda c: one_by_one(c, 1.0),
    "growth-optimal, full": lambda c: jointly(c, c.estimate),
    "binary Kelly, half, one by one": lambda c: one_by_one(c, 0.5),
    "… Baker–McHale": lambda c: one_by_one(c, 0.5) * shrunk(c),
    "growth-optimal, half": lambda c: jointly(c, c.estimate, 0.5),
    "drawdown-bounded": lambda c: jointly(c, c.estimate, bound=BOUND),
    "… Baker–McHale's share of the edge": lambda c: jointly(
        c, c.price + shrunk(c) * (c.estimate - c.price), bound=BOUND
    ),
    "… estimate less 1.645 errors": lambda c: jointly(
        c, np.maximum(c.estimate - ERRORS * c.error, 0.0), bound=BOUND
    ),
}


def contract_figures(c: Contracts, stakes: Array, paths: int, seed: int) -> Figures:
    """Exact growth of every round, and falls on paths of rounds drawn from all of them."""
    paid = outcomes(stakes.shape[1])
    chance = probabilities(c.chance)
    wealth = 1 + ((paid / c.price[:, None] - 1) * stakes[:, None]).sum(axis=2)
    lost = wealth < LOST
    logs = np.where(lost, -np.inf, np.log(np.where(lost, 1.0, wealth)))
    growth = np.where(lost.any(axis=1), -np.inf, (chance * np.where(lost, 0.0, logs)).sum(axis=1))
    rng = np.random.default_rng([seed, 5])
    rounds = rng.integers(0, len(stakes), (paths, STEPS))
    reached = np.cumsum(chance, axis=1)[rounds] < rng.random((paths, STEPS, 1))
    drawn = np.minimum(reached.sum(axis=2), len(paid) - 1)
    least = np.cumsum(logs[rounds, drawn], axis=1).min(axis=1)
    falls = float((least < np.log(BOUND.alpha)).mean())
    survives = bool(np.isfinite(growth).all())
    return Figures(
        float(stakes.sum(axis=1).mean()),
        float(growth.mean()),
        float(growth.std(ddof=1) / np.sqrt(len(growth))) if survives else np.nan,
        falls,
        float(np.sqrt(falls * (1 - falls) / paths)),
    )


def contract_study(
    count: int, error: float, rounds: int, paths: int, seed: int
) -> dict[str, Figures]:
    """Every rule in the same rounds."""
    c = contracts(count, error, rounds, seed)
    return {
        name: contract_figures(c, rule(c), paths, seed) for name, rule in CONTRACT_RULES.items()
    }


def table(columns: Mapping[str, Mapping[str, Figures]]) -> str:
    """Markdown: a line a rule, a column a market."""
    names = next(iter(columns.values()))
    rows = [(name, [column[name].cell() for column in columns.values()]) for name in names]
    return markdown(list(columns), rows)


def main(words: Sequence[str] | None = None) -> None:
    """Draw, size, and print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--paths", type=int, default=2000)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args(words)
    if asked.quick:
        asked.seeds, asked.rounds, asked.paths = 4, 60, 300
    spreads = {m.name: spread_study(m, range(asked.seeds), LAW) for m in MARKETS}
    print(table(spreads), flush=True)
    for count in COUNTS:
        rows = {
            f"n = {count}, error {error:g}": contract_study(
                count, error, asked.rounds, asked.paths, 0
            )
            for error in ERROR_SIZES
        }
        print("\n" + table(rows), flush=True)


if __name__ == "__main__":
    main()
