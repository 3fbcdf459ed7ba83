"""Synthetic sessions of event-contract markets, with fair prices by construction.

The log-odds x of the event follow an Ornstein-Uhlenbeck process. YES wins with probability
L(x) at the last row's x. L is a mixture of normal distribution functions that equals the logistic
function to within 5e-6 (Monahan and Stefanski, 1992). The fair price of a row is the expectation of
that probability given the row's x, a martingale. Because L is a mixture, this expectation has an
exact closed form. If x at the end has mean m and standard deviation s,

    E[L(x)] = Σ w_j Φ(σ_j m / √(1 + σ_j² s²)).

- The quote is one tick wide plus a Poisson number of ticks, drawn independently at every row. The
  market's price is inside it.
- Depth at the top is geometric, drawn independently at every row.
- Market sellers arrive as a Poisson number of orders, which rises with the fall of the price below
  the bid of the previous row: they sell at that bid and know the new price. Buyers are the mirror
  image.
  Uninformed orders (`noise_order_rate`) pay an edge to resting orders, so there are none by
  default.
- With `mispricing`, the market's price is the fair price plus a mispricing that fades. The estimate
  is the fair price itself.

The same seed and market give the same session, independent of earlier draws and of the number of
markets drawn at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from event_contracts.simulation.sessions import (
    ASK_SIZE,
    BID_SIZE,
    BOUGHT,
    ESTIMATE,
    SESSION_COLUMNS,
    SOLD,
    YES_ASK,
    YES_BID,
    ticks_per_dollar,
)
from event_contracts.simulation.settings import SyntheticSessionModel
from foundation.arrays import Array
from foundation.compiled import compiled, jit_inline
from foundation.errors import InputError

Seed = int | Sequence[int]

SESSION_COLUMN_COUNT = len(SESSION_COLUMNS)
SESSION_SEED_COUNT = 2**62  # number of sessions from which an episode draws one
# Weights w_j and scales σ_j of L, fitted for the smallest maximum error, 4.9e-6.
LOGISTIC_MIXTURE_WEIGHTS = np.array(
    [0.060712796664669, 0.37311937571408765, 0.45883133361415573, 0.10733649400708759]
)
LOGISTIC_MIXTURE_SCALES = np.array(
    [0.32093903660569, 0.4747536685674188, 0.6980309039041006, 1.0220711569970546]
)
MIN_BOUND_DISTANCE_TICKS = 0.25  # minimum distance of the market's price from 0 and 1, ticks
MAX_EXPECTED_ORDERS_PER_STEP = (
    50.0  # maximum of the expected orders in a step, however far the price moves
)
LATENT, MISPRICING, ESTIMATION = range(3)  # purposes of the normal draws
WIDTH, BID_DEPTH, ASK_DEPTH, SELLERS, BUYERS = range(5)  # purposes of the uniform draws
OUTCOME_DRAW_INDEX = WIDTH  # draw of the last row, which needs no width


@dataclass(frozen=True, eq=False, slots=True)
class RandomDraws:
    """The random numbers of C markets with T rows.

    normal_draws: normal draws [C, 3, T] for the log-odds, the mispricing and the estimate.
    uniform_draws: uniform draws [C, T, 5] for the spread's width, two depths, sellers and buyers.
        The first draw of the last row decides the outcome.
    """

    normal_draws: Array
    uniform_draws: Array


def synthetic_session(
    seed: Seed, settings: SyntheticSessionModel | None = None, market_index: int = 0
) -> Array:
    """Generate one session [steps + 1, F].

    seed: a non-negative integer, or a sequence of them.
    market_index: index of the market under the seed, from 0.
    """
    return np.asarray(synthetic_sessions(seed, 1, settings, first_market=market_index)[0])


def synthetic_sessions(
    seed: Seed, count: int, settings: SyntheticSessionModel | None = None, first_market: int = 0
) -> Array:
    """Generate sessions of markets first … first + count - 1 under a seed, [C, steps + 1, F].

    Raises `InputError` for a negative seed or market number.
    """
    settings = settings or SyntheticSessionModel()
    return build_sessions(draw_from_seed(seed, count, settings, first_market), settings)


def draw_from_seed(
    seed: Seed, count: int, settings: SyntheticSessionModel, first_market: int = 0
) -> RandomDraws:
    """Draw the random numbers of markets first … first + count - 1 under a seed."""
    if first_market < 0:
        raise InputError(f"market: {first_market} is negative; the first market is 0")
    return draw_from_generators(
        [build_market_generator(seed, first_market + k) for k in range(count)], settings
    )


def spawn_session_generator(rng: np.random.Generator) -> np.random.Generator:
    """Return a new random generator for a market's next session, seeded from `rng`.

    rng: the market's generator.
    """
    return build_market_generator(int(rng.integers(SESSION_SEED_COUNT)))


def draw_from_generators(
    generators: Sequence[np.random.Generator], settings: SyntheticSessionModel
) -> RandomDraws:
    """Draw the random numbers of several markets, each from its own generator."""
    count = len(generators)
    rows = settings.steps + 1
    normals = np.zeros((count, 3, rows))
    uniforms = np.empty((count, rows, 5))
    has_estimate_draws = settings.mispricing > 0 or settings.estimate_noise > 0
    for k, rng in enumerate(generators):
        # The draws that every market needs come first, so that an edge leaves the event unchanged.
        rng.standard_normal(out=normals[k, LATENT])
        rng.random(out=uniforms[k])
        if has_estimate_draws:
            rng.standard_normal(out=normals[k, MISPRICING:])
    return RandomDraws(normals, uniforms)


def build_sessions(draws: RandomDraws, settings: SyntheticSessionModel) -> Array:
    """Build sessions [C, T, F] from random draws.

    Row k uses only the draws of rows 0 … k, so that no row looks ahead.
    """
    sessions = np.empty((*draws.uniform_draws.shape[:2], SESSION_COLUMN_COUNT))
    decay, slopes = _fair_price_constants(settings)
    _write_sessions(
        sessions,
        draws.normal_draws,
        draws.uniform_draws,
        decay,
        slopes,
        LOGISTIC_MIXTURE_WEIGHTS,
        _build_parameters(settings),
    )
    return sessions


class _CompiledParameters(NamedTuple):
    """Parameters of synthetic sessions for compiled code.

    mean_log_odds: log-odds to which the process reverts.
    start_deviation: standard deviation of the first log-odds around `mean_log_odds`.
    retained_share: share of the distance to `mean_log_odds` that remains after a step.
    step_deviation: standard deviation of a step's increment of the log-odds.
    tick_count: ticks per dollar.
    mean_extra_ticks: mean number of ticks by which the spread exceeds one tick.
    log_depth_ratio: logarithm of the common ratio of the geometric distribution of depth.
    lot: contracts of a market order.
    informed_order_rate: expected informed orders per step for each tick that the price passes the
        quote.
    noise_order_rate: expected uninformed orders per step on each side.
    mispricing: standard deviation of the mispricing, USD.
    mispricing_persistence: autocorrelation of the mispricing from step to step.
    estimate_noise: standard deviation of the estimate around the fair price.
    """

    mean_log_odds: float
    start_deviation: float
    retained_share: float
    step_deviation: float
    tick_count: int
    mean_extra_ticks: float
    log_depth_ratio: float
    lot: int
    informed_order_rate: float
    noise_order_rate: float
    mispricing: float
    mispricing_persistence: float
    estimate_noise: float


def _build_parameters(settings: SyntheticSessionModel) -> _CompiledParameters:
    keep, shock = _step_share_and_deviation(settings)
    deeper = 1 - 1 / settings.depth
    as_they_are = (
        "start_deviation",
        "informed_order_rate",
        "noise_order_rate",
        "mispricing",
        "mispricing_persistence",
        "estimate_noise",
    )
    return _CompiledParameters(
        mean_log_odds=math.log(settings.mean_probability / (1 - settings.mean_probability)),
        retained_share=keep,
        step_deviation=shock,
        tick_count=ticks_per_dollar(settings.tick),
        mean_extra_ticks=float(settings.width - 1),
        log_depth_ratio=math.log(deeper) if deeper > 0 else -math.inf,
        lot=int(settings.lot),
        **{name: float(getattr(settings, name)) for name in as_they_are},
    )


def _step_share_and_deviation(settings: SyntheticSessionModel) -> tuple[float, float]:
    """Return `retained_share` and `step_deviation`, as `_CompiledParameters` describes them."""
    pull = settings.reversion / settings.steps
    variance = settings.volatility**2 / settings.steps
    if pull > 0:
        variance *= -math.expm1(-2 * pull) / (2 * pull)
    return math.exp(-pull), math.sqrt(variance)


def _fair_price_constants(settings: SyntheticSessionModel) -> tuple[Array, Array]:
    """Return two arrays of constants from which the fair price of each row is computed.

    The first is the share of the row's distance to the mean log-odds that is expected to remain at
    the end, [T]. The second is σ_j / √(1 + σ_j² s²) / √2, [T, J], with σ_j and s as in the module's
    formula.
    """
    keep, shock = _step_share_and_deviation(settings)
    left = np.arange(settings.steps, -1, -1)
    squares = keep ** (2.0 * np.arange(settings.steps))
    variance = shock**2 * np.concatenate([[0.0], np.cumsum(squares)])[left]
    slopes = LOGISTIC_MIXTURE_SCALES / np.sqrt(
        2 * (1 + LOGISTIC_MIXTURE_SCALES**2 * variance[:, None])
    )
    return keep ** left.astype(float), slopes


def build_market_generator(seed: Seed, market_index: int = 0) -> np.random.Generator:
    """Return the random generator of market number `market_index` under a seed."""
    try:
        spawned = np.random.SeedSequence(seed, spawn_key=(market_index,))
    except (TypeError, ValueError):
        raise InputError(
            f"seed: expected one or more integers of 0 or above, got {seed!r}"
        ) from None
    return np.random.Generator(np.random.PCG64(spawned))


@jit_inline
def _normal_mixture(middle: float, slopes: Array, weights: Array) -> float:
    """Return the normal mixture Σ w_j Φ(√2 · slope_j · middle)."""
    total = 0.5
    for j in range(len(weights)):
        total += 0.5 * weights[j] * math.erf(slopes[j] * middle)
    return total


@jit_inline
def _poisson_quantile(uniform: float, mean: float) -> int:
    share = math.exp(-mean)
    below = share
    number = 0
    while uniform > below and share > 0.0:
        number += 1
        share *= mean / number
        below += share
    return number


@jit_inline
def _geometric_quantile(uniform: float, fade: float) -> float:
    """Convert a uniform draw to a depth, a geometrically distributed number of contracts from 1.

    fade: logarithm of the common ratio of the distribution.
    """
    return 1.0 + math.floor(math.log(1.0 - uniform) / fade)


@jit_inline
def _market_order_contracts(uniform: float, beyond: float, terms: _CompiledParameters) -> float:
    """Return the contracts that market orders trade on one side in a step.

    uniform: uniform draw that determines the number of orders.
    beyond: ticks by which the price moved past the quote on this side.
    """
    mean = terms.noise_order_rate + terms.informed_order_rate * max(beyond, 0.0)
    if mean == 0.0:
        return 0.0
    return float(terms.lot * _poisson_quantile(uniform, min(mean, MAX_EXPECTED_ORDERS_PER_STEP)))


@jit_inline
def _write_settlement(row: Array, is_yes: bool, ticks: int) -> None:
    row[YES_BID] = (ticks - 1) / ticks if is_yes else 0.0
    row[YES_ASK] = 1.0 if is_yes else 1.0 / ticks
    row[BID_SIZE] = 0.0
    row[ASK_SIZE] = 0.0
    row[SOLD] = 0.0
    row[BOUGHT] = 0.0
    row[ESTIMATE] = 1.0 if is_yes else 0.0


@compiled
def _write_sessions(
    sessions: Array,
    normals: Array,
    uniforms: Array,
    decay: Array,
    slopes: Array,
    weights: Array,
    terms: _CompiledParameters,
) -> None:
    ticks = terms.tick_count
    fresh = math.sqrt(1.0 - terms.mispricing_persistence**2)
    last = sessions.shape[1] - 1
    for c in range(len(sessions)):
        distance = terms.start_deviation * normals[c, LATENT, 0]
        mispricing = normals[c, MISPRICING, 0]
        bid = 0
        ask = ticks
        for k in range(last):
            if k > 0:
                distance = (
                    terms.retained_share * distance + terms.step_deviation * normals[c, LATENT, k]
                )
                mispricing = (
                    terms.mispricing_persistence * mispricing + fresh * normals[c, MISPRICING, k]
                )
            fair = _normal_mixture(terms.mean_log_odds + decay[k] * distance, slopes[k], weights)
            price = (fair + terms.mispricing * mispricing) * ticks
            price = min(max(price, MIN_BOUND_DISTANCE_TICKS), ticks - MIN_BOUND_DISTANCE_TICKS)
            draw = uniforms[c, k]
            row = sessions[c, k]
            sellers = (
                _market_order_contracts(draw[SELLERS], bid - price, terms)
                if k > 0 and bid > 0
                else 0.0
            )
            buyers = (
                _market_order_contracts(draw[BUYERS], price - ask, terms)
                if k > 0 and ask < ticks
                else 0.0
            )
            width = 1 + _poisson_quantile(draw[WIDTH], terms.mean_extra_ticks)
            low = math.floor(price - (width - 1) / 2)
            bid = max(low, 0)
            ask = min(low + width, ticks)
            row[YES_BID] = bid / ticks
            row[YES_ASK] = ask / ticks
            row[BID_SIZE] = (
                _geometric_quantile(draw[BID_DEPTH], terms.log_depth_ratio) if bid > 0 else 0.0
            )
            row[ASK_SIZE] = (
                _geometric_quantile(draw[ASK_DEPTH], terms.log_depth_ratio) if ask < ticks else 0.0
            )
            row[SOLD] = sellers
            row[BOUGHT] = buyers
            estimate = fair + terms.estimate_noise * normals[c, ESTIMATION, k]
            row[ESTIMATE] = min(max(estimate, 0.0), 1.0)
        distance = terms.retained_share * distance + terms.step_deviation * normals[c, LATENT, last]
        chance = _normal_mixture(terms.mean_log_odds + distance, slopes[last], weights)
        is_yes = uniforms[c, last, OUTCOME_DRAW_INDEX] < chance
        _write_settlement(sessions[c, last], is_yes, ticks)
