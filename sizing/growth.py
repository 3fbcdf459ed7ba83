"""Kelly over whole distributions: targets that maximise log growth over scenarios, under limits.

The scenarios have the situation's moments and its forecasts' shapes (`scenarios`), the program its
limits, costs and plan (`solver.growth`). In first order it is the quadratic program of
`allocation`, from which it differs by skew, tails and how symbols fall together.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from foundation.arrays import Array, Index, Mask
from foundation.errors import InputError
from sizing.allocation import Allocation, check_fraction
from sizing.binding import binding_limits, with_drawdown
from sizing.kelly import unconstrained_kelly
from sizing.limits import Limits, spendable_ceilings
from sizing.optimum import DrawdownBound, GrowthOptimum, aversion_of, bounded_optimum, optimum_of
from sizing.scenarios import Copula, block_returns, check_copula, check_scenarios
from sizing.situation import Situation
from sizing.solver.growth import GrowthProgram, expansion, point_at
from sizing.spans import spanned_kelly
from trainingdata.instruments import Kind
from trainingdata.sessions import Holding

NOTHING = 1e-12  # a return, or a weight, below this is rounding
NEWTON_STEPS = 40  # of the weights without limits
HALVINGS = 40
STILL = 1e-6  # relative: a last step of them, whose square is what it leaves
LEAST_KEPT = 0.1  # of wealth: what a later block's fixed weights may leave at least


@dataclass(frozen=True, slots=True)
class GrowthSettings:
    """How scenarios are drawn, and what no book may risk in them.

    copula: how symbols move together, `normal` or `t`, in which they fall together. The few
        scenarios in which all of them do decide much: weights of a t copula of 5 degrees depend on
        the draws by 5 to 10 % at 1,024 scenarios, by 2 to 5 % at 8,192; normal ones by 1 %.
    degrees: of freedom of the t copula, above 2, 1,000 at most.
    scenarios: number of them, 64 to 65,536, rounded up to a power of two; more where there are many
        symbols.
    floor: share of equity that is left if every symbol does at once what it does in its own worst
        scenario of the first block, either way; 0 to 1.
    alpha: share of equity that `risk_constrained` is not to fall below, above 0 and below 1.
    beta: with what probability at most, above 0 and below 1.
    """

    copula: Copula = "normal"
    degrees: float = 5.0
    scenarios: int = 1024
    floor: float = 0.1
    alpha: float = 0.7
    beta: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.floor < 1:
            raise InputError(f"sizing.growth.floor: {self.floor:g} is not at least 0 and below 1")
        try:
            check_copula(self.copula, self.degrees)
            check_scenarios(self.scenarios)
            _ = self.drawdown
        except InputError as error:
            raise InputError(f"sizing.growth.{error}") from None

    @property
    def drawdown(self) -> DrawdownBound:
        """The bound of `risk_constrained`."""
        return DrawdownBound(self.alpha, self.beta)


@dataclass(frozen=True, slots=True)
class GrowthKelly:
    """A fraction of growth-optimal weights over scenarios, or all of them under a drawdown bound.

    fraction: of full Kelly, above 0, 1 at most; what is maximised is the power utility of risk
        aversion 1 / fraction, whose expansion is fractional Kelly.
    bounded: full growth under the drawdown bound instead.
    settings: of the scenarios.
    holding: as in `Strategy`.

    Over a plan the drawdown bound is E (wealth at the plan's end)^-λ ≤ 1, net of all costs, if the
    plan is carried out: then wealth ends below alpha with probability beta at most. Each decision
    plans anew from what is there, so that the probability of ever falling below alpha is bounded as
    far as each plan keeps what the one before promised. Where leaving what is held costs more than
    any plan earns, no plan meets the bound, and the one that comes nearest to it is taken.
    """

    fraction: float = 0.5
    bounded: bool = False
    settings: GrowthSettings = field(default_factory=GrowthSettings)
    holding: Holding | None = None
    uses_forecast: ClassVar[bool] = True
    uses_premium: ClassVar[bool] = True
    uses_shape: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_fraction(self.fraction)

    @property
    def aversion(self) -> float:
        """λ of the power term: 1 / fraction - 1, or that of the bound."""
        if self.bounded:
            return self.settings.drawdown.aversion
        return aversion_of(self.fraction)

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """Growth-optimal weights under the limits, net of the cost of moving.

        Raises
        ------
        SolverFailed
            where there is no answer, or none that is proven to be near the best.
        """
        if not situation.deciding.any():
            nothing = np.full(len(situation.held), np.nan)
            return Allocation(nothing, situation.held.copy(), ({},) * len(nothing))
        # What neither decides nor is held has no part in any book: it needs no scenarios.
        rows = np.flatnonzero(situation.deciding | (situation.held != 0))
        program = growth_program(situation, limits, rows, self.settings, self.aversion)
        if self.bounded:
            found = bounded_optimum(program)
        else:
            program = program._replace(share=float(self.aversion > 0))
            found = optimum_of(program)
        return _named(situation, limits, rows, program, found, bounded=self.bounded)

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """What operators grep for."""
        over = f"over {self.settings.scenarios:,} scenarios"
        if self.bounded:
            settings = self.settings
            how = f"Risk-constrained Kelly sizing {over}, {settings.alpha:g} at {settings.beta:g}"
        else:
            how = f"Log-growth Kelly sizing {over}"
        if kind is Kind.CRYPTO:
            return f"{how} with no leverage (crypto)"
        return f"{how} with {stock_ceiling:.1f}x leverage"


def growth_program(
    s: Situation, limits: Limits, rows: Index, settings: GrowthSettings, aversion: float
) -> GrowthProgram:
    """The plan of a situation over scenarios of the symbols `rows`, for full growth.

    Its ceilings are those of every strategy, then the no-ruin row: Σ dᵢ·|wᵢ| ≤ 1 - floor, dᵢ the
    largest move of symbol i within the scenarios of the first block.
    """
    later = s.later_blocks
    square = np.ix_(rows, rows)
    mu = np.ascontiguousarray(np.stack([s.mu, *later.mu])[:, rows])
    covariance = np.stack([matrix[square] for matrix in (s.covariance, *later.covariance)])
    shape = s.shape and s.shape._replace(values=s.shape.values[:, rows])
    returns = block_returns(
        mu,
        covariance,
        shape,
        scenarios=settings.scenarios,
        copula=settings.copula,
        degrees=settings.degrees,
    )
    lower, upper = limits.bounds(
        long_only=s.long_only, deciding=s.deciding, held=s.held, equity=s.equity
    )
    lower = lower[rows]
    upper = upper[rows]
    coefficients, rooms = spendable_ceilings(
        s.held, s.cost, s.crypto, s.stock_ceiling, s.unborrowed, limits.caps
    )
    worst = np.abs(returns[0]).max(axis=1)
    _keep_later_blocks_alive(returns, np.where(upper == lower, lower, 0.0))
    count = returns.shape[2]
    return GrowthProgram(
        returns=returns,
        chance=np.full(count, 1.0 / count),
        share=0.0,
        aversion=aversion,
        held=s.held[rows],
        cost=np.ascontiguousarray(np.stack([s.cost, *later.cost])[:, rows]),
        lower=lower,
        upper=upper,
        coefficients=np.ascontiguousarray(np.vstack([coefficients[:, rows], worst])),
        limits=np.append(rooms, 1.0 - settings.floor),
        toll=np.array([s.toll, *later.toll]),
    )


def _keep_later_blocks_alive(returns: Array, fixed: Array) -> None:
    """Shrink what fixed weights [S] do in later blocks to what leaves LEAST_KEPT, in place.

    A plan holds what cannot be traded now through all its blocks, and over a month a book of twice
    its equity may lose all of it in a scenario. Nobody would hold it that long.
    """
    held = np.flatnonzero(fixed)
    for k in range(1, len(returns)):
        worst = float((fixed[held] @ returns[k, held]).min()) if len(held) else 0.0
        if worst < LEAST_KEPT - 1.0:
            returns[k, held] *= (1.0 - LEAST_KEPT) / -worst


def _named(
    s: Situation,
    limits: Limits,
    rows: Index,
    program: GrowthProgram,
    found: GrowthOptimum,
    *,
    bounded: bool,
) -> Allocation:
    """The allocation with unlimited weights, the spans that explain targets, and what binds."""
    count = len(s.held)
    target = s.held.copy()
    target[rows] = found.weights[0]
    gradient = np.zeros(count)
    gradient[rows] = found.slopes.sum(axis=0)
    coefficients = np.zeros((len(program.limits), count))
    coefficients[:, rows] = program.coefficients
    deciding = s.deciding[rows]

    # The weights before any limit are those of the growth alone: the drawdown bound is a limit.
    unlimited = np.full(count, np.nan)
    unlimited[rows] = _unlimited(program, deciding)
    binding = binding_limits(
        s.held,
        s.cost,
        s.long_only,
        s.deciding,
        s.equity,
        limits.caps,
        coefficients,
        program.limits,
        unlimited,
        target,
        gradient,
        found.prices,
    )
    if bounded and found.share > 0:
        held_back = np.zeros(count, dtype=bool)
        held_back[rows] = deciding & _grows_beyond(program, found.weights)
        price = found.share / (1.0 - found.share) if found.share < 1 else np.nan
        binding = with_drawdown(binding, held_back, price)
    # Which span of blocks explains a target its moments tell: it is a matter of signs.
    fraction = 1.0 if bounded else 1.0 / (1.0 + program.aversion)
    return spanned_kelly(s, Allocation(unlimited, target, binding), fraction)


def _grows_beyond(program: GrowthProgram, weights: Array) -> Mask:
    """[S] whether moving each first weight on outwards would add to growth net of its trade."""
    slope = point_at(program, weights).slopes.sum(axis=0)
    first = weights[0]
    outward = np.where((first < 0) | ((first == 0) & (slope < 0)), -1.0, 1.0)
    returns_to_held = (program.held - first) * outward > 0
    saved = np.where(returns_to_held, program.cost[0], -program.cost[0])
    return np.asarray(outward * slope + saved > NOTHING)


def _unlimited(program: GrowthProgram, deciding: Mask) -> Array:
    """Growth-optimal weights [S] held through all blocks, without limits or costs.

    Of what decides, together and alone; NaN for the rest. By Newton's method.
    """
    chosen = np.flatnonzero(deciding)
    span = len(program.returns)
    part = program._replace(returns=np.ascontiguousarray(program.returns[:, chosen]))
    weights = np.zeros(len(chosen))
    point = point_at(part, np.zeros((span, len(chosen))))
    for _ in range(NEWTON_STEPS):
        risk = expansion(part, np.broadcast_to(weights, point.slopes.shape).copy(), point)[1]
        step = unconstrained_kelly(point.slopes.sum(axis=0), risk.sum(axis=0), 1.0)
        value = point.value
        length = 1.0
        for _ in range(HALVINGS):
            tried = weights + length * step
            point = point_at(part, np.broadcast_to(tried, point.slopes.shape).copy())
            if point.value >= value - 1e-15:
                break
            length *= 0.5
        weights = tried
        if length == 1.0 and np.abs(step).max() <= STILL * max(np.abs(weights).max(), 1.0):
            break
    out = np.full(len(deciding), np.nan)
    # Where nothing is expected the mean over scenarios is a rounding error, and so is its weight.
    out[chosen] = np.where(np.abs(weights) > NOTHING, weights, 0.0)
    return out
