"""The named strategies: what each would hold, put under the same limits by the same program.

A strategy turns a `Situation` into an `Allocation`. Kelly weighs return, risk and the cost of
moving; the others name a weight per symbol and get the closest one the limits allow. Those that
hold a pattern leave a weight alone while it is within `band` of its place, a quarter by default
(the relative half of the 5/25 rule of rebalancing), as nobody trades for a drift.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.errors import InputError
from sizing.allocation import Allocation, Situation, allocate, nearest
from sizing.limits import Limits
from sizing.solver.multi_period import Later
from trainingdata.instruments import Kind
from trainingdata.sessions import BARS_A_DAY, BARS_A_YEAR, Holding

KELLY = re.compile(r"(kelly|premium)_(\d{1,3}(?:\.\d+)?)(_x4|pct)?", re.IGNORECASE)
NAMES = (
    "kelly_10",
    "kelly_25",
    "kelly_50",
    "kelly_100",
    "kelly_50_x4",
    "premium_50",
    "equal_weight",
    "fixed_fraction",
    "vol_target",
    "risk_parity",
    "buy_and_hold",
    "legacy",
)
ROUNDS = 500  # of risk parity's descent at most
CLOSE = 1e-10  # relative: where it ends


class Strategy(Protocol):
    """How much of everything.

    holding: the interval it has to look at; none means the one that is configured. forecast,
    premium: what it rests on.
    """

    @property
    def forecast(self) -> bool:
        """Whether what is forecast counts for expected returns."""

    @property
    def premium(self) -> bool:
        """Whether the premium of its class counts for a symbol's."""

    @property
    def holding(self) -> Holding | None:
        """`session` for what compares the risk of symbols over a whole day."""

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """Target weights of the symbols that decide; all others stay."""

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """The line operators grep for."""


@dataclass(frozen=True, slots=True)
class Kelly:
    """A fraction of the growth-optimal weights; `multiplier` times that in stocks, as the earlier
    system had it with 4.

    The multiplier stretches the weights within the program: m·v, v optimal for returns mu / m,
    costs / m and covariance Σ / (m m'). With 4, half-Kelly becomes twice full Kelly, where expected
    log growth is nil. forecast: whether forecasts count beside the premium.
    """

    fraction: float = 0.5
    multiplier: float = 1.0
    forecast: bool = True
    holding: Holding | None = None
    premium: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1:
            raise InputError(f"sizing.fraction: {self.fraction} is outside 0 … 1")

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """Kelly under the limits, net of the cost of moving."""
        if self.multiplier == 1.0:
            return allocate(situation, limits, self.fraction)
        times = np.where(situation.crypto, 1.0, self.multiplier)
        later = situation.blocks
        both = np.outer(times, times)
        stretched = replace(
            situation,
            mu=situation.mu / times,
            covariance=situation.covariance / both,
            cost=situation.cost / times,
            toll=situation.toll / self.multiplier,
            later=Later(
                later.mu / times,
                later.covariance / both,
                later.toll / self.multiplier,
                later.cost / times,
            ),
        )
        allocation = allocate(stretched, limits, self.fraction)
        unpriced = tuple(
            dict.fromkeys(bound, np.nan) for bound in allocation.binding
        )  # prices are of v, not of m·v
        return replace(allocation, binding=unpriced)

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """What operators grep for."""
        if kind is Kind.CRYPTO:
            return "Enhanced Kelly sizing with no leverage (crypto)"
        return f"Enhanced Kelly sizing with {stock_ceiling:.1f}x leverage"


@dataclass(frozen=True, slots=True)
class WeightPattern:
    """Weights by a rule: situation → wanted weights [S]. forecast: whether the rule reads
    expected returns.
    """

    name: str
    rule: Callable[[Situation], Array]
    band: float = 0.0
    holding: Holding | None = "session"
    forecast: bool = False
    premium: ClassVar[bool] = False

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """The closest weights under the limits; what is within `band` of its place, relative to
        it, stays.
        """
        wanted = self.rule(situation)
        near = np.abs(wanted - situation.held) <= self.band * np.abs(wanted)
        return nearest(situation, limits, np.where(near, situation.held, wanted))

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """Its name."""
        return f"{self.name} sizing"


@dataclass(frozen=True, slots=True)
class Legacy:
    """The legacy rule: a coin 50 % of equity, a stock 50 % of the buying power left × multiplier,
    towards the forecast.

    Symbols take their turn by name; each is cut to what the limits leave beside everything else.
    """

    risk_multiplier: float = 1.0
    holding: Holding | None = None
    forecast: ClassVar[bool] = True
    premium: ClassVar[bool] = False

    def allocate(self, situation: Situation, limits: Limits) -> Allocation:
        """Each deciding symbol in turn, the book as the ones before it left it."""
        held = situation.held.copy()
        wanted = np.full(len(held), np.nan)
        for k in np.flatnonzero(situation.deciding).tolist():
            now = replace(situation, held=held, deciding=np.arange(len(held)) == k)
            wanted[k] = self._wish(now, k)
            held = nearest(now, limits, np.where(now.deciding, wanted, held)).target
        settled = nearest(situation, limits, held)
        return replace(settled, wanted=wanted)

    def _wish(self, s: Situation, k: int) -> float:
        if s.crypto[k]:
            return 0.5
        others = float(np.abs(s.held[~s.crypto]).sum() - abs(s.held[k]))
        return (
            0.5
            * max(s.stock_ceiling - others, 0.0)
            * self.risk_multiplier
            * (-1.0 if s.mu[k] < 0 else 1.0)
        )

    def phrase(self, kind: Kind, stock_ceiling: float) -> str:
        """What operators grep for."""
        return "Legacy sizing"


def equal_weight(s: Situation) -> Array:
    """The same for every symbol with a forecast, 1 in all."""
    return np.where(s.universe, 1.0 / max(int(s.universe.sum()), 1), s.held)


def buy_and_hold(s: Situation) -> Array:
    """The same for every symbol, bought when it can be and then left alone."""
    return np.where(s.held == 0, equal_weight(s), s.held)


def fixed_fraction(s: Situation, size: float) -> Array:
    """`size` of equity towards the forecast where that pays for coming and going; gone when the
    forecast turns.
    """
    pays = np.abs(s.mu) > 2 * s.cost
    turned = np.sign(s.mu) * np.sign(s.held) < 0
    stay = np.where(turned, 0.0, s.held)
    return np.asarray(np.where(pays, np.sign(s.mu) * size, stay))


def vol_target(s: Situation, deviation: float) -> Array:
    """Weights in proportion to 1/σ, scaled so that the book's deviation is that many a year."""
    known = whole_days(s)
    if known is None:
        return s.held
    covariance = _a_year(s, known)
    shape = np.zeros(len(s.mu))
    inverse = 1.0 / np.sqrt(np.diag(covariance))
    shape[known] = inverse * deviation / np.sqrt(inverse @ covariance @ inverse)
    return shape


def risk_parity(s: Situation) -> Array:
    """Long weights, 1 in all, to each of which belongs the same part of the book's variance."""
    known = whole_days(s)
    if known is None:
        return s.held
    weights = np.zeros(len(s.mu))
    weights[known] = equal_risk(_a_year(s, known))
    return weights


def equal_risk(covariance: Array) -> Array:
    """Weights [S] ≥ 0, 1 in all, with equal wᵢ(Σw)ᵢ, by cyclical coordinate descent
    (Griveau-Billion et al. 2013).

    Each step solves σᵢ²wᵢ² + (Σw − σᵢ²wᵢ)ᵢwᵢ = 1/S for wᵢ, the gradient of ½w'Σw − Σ ln(wᵢ)/S
    (Spinu 2013).

    Raises
    ------
    InputError
        where a variance is not above zero.
    """
    variance = np.diag(covariance)
    if not (variance > 0).all():
        raise InputError(f"risk_parity: variance {variance.min():g} is not above 0")
    n = len(variance)
    weights = 1.0 / np.sqrt(variance * n)
    for _ in range(ROUNDS):
        before = weights.copy()
        for i in range(n):
            rest = float(covariance[i] @ weights - variance[i] * weights[i])
            weights[i] = (np.sqrt(rest * rest + 4 * variance[i] / n) - rest) / (2 * variance[i])
        if np.abs(weights - before).max() <= CLOSE * weights.max():
            break
    return np.asarray(weights / weights.sum())


def whole_days(s: Situation) -> npt.NDArray[np.int64] | None:
    """The symbols with a forecast; none where the interval holds less than a day of one's own, so
    that risks do not compare.

    Before a weekend a coin's next day holds only part of a session, and no night: stocks would seem
    calm.
    """
    known = np.flatnonzero(s.universe)
    day = np.where(s.crypto, *(BARS_A_DAY[k] / BARS_A_YEAR[k] for k in (Kind.CRYPTO, Kind.STOCK)))
    compare = (s.years[known] >= day[known] * (1 - CLOSE)) & (np.diag(s.covariance)[known] > 0)
    return known if len(known) and compare.all() else None


def _a_year(s: Situation, known: npt.NDArray[np.int64]) -> Array:
    """Covariance of the known symbols, each over a year of its own open time."""
    root = np.sqrt(s.years[known])
    return np.asarray(s.covariance[np.ix_(known, known)] / np.outer(root, root))


def named(
    name: str,
    *,
    fraction: float | None = None,
    size: float = 0.1,
    deviation: float = 0.15,
    band: float = 0.25,
    risk_multiplier: float = 1.0,
) -> Strategy:
    """The strategy of a name: `kelly_50` or `Kelly_50pct` is half-Kelly, any percentage may stand
    there.

    `premium_50` is half-Kelly on the premium alone, without a forecast.

    fraction: of full Kelly, instead of the name's. size: of a position of `fixed_fraction`.
    deviation: a year, of `vol_target`. band: within which patterns leave a weight, relative to
    where it belongs. risk_multiplier: of `legacy`.

    Raises
    ------
    InputError
        for a name that is none, or a fraction for what is no Kelly.
    """
    if found := KELLY.fullmatch(name):
        times = 4.0 if (found[3] or "").lower() == "_x4" else 1.0
        return Kelly(
            float(found[2]) / 100 if fraction is None else fraction,
            times,
            found[1].lower() == "kelly",
        )
    patterns: dict[str, Strategy] = {
        "equal_weight": WeightPattern("equal_weight", equal_weight, band),
        "fixed_fraction": WeightPattern(
            "fixed_fraction", lambda s: fixed_fraction(s, size), band, holding=None, forecast=True
        ),
        "vol_target": WeightPattern("vol_target", lambda s: vol_target(s, deviation), band),
        "risk_parity": WeightPattern("risk_parity", risk_parity, band),
        "buy_and_hold": WeightPattern("buy_and_hold", buy_and_hold),
        "legacy": Legacy(risk_multiplier),
    }
    if name not in patterns:
        raise InputError(
            f"sizing.strategy: {name!r} is none of {', '.join(NAMES)} (or kelly_ or premium_ and a"
            " percentage)"
        )
    if fraction is not None:
        raise InputError(f"sizing.fraction: {name} has none, only kelly_… and premium_… have")
    return patterns[name]
