"""What an index option and a spread of them are worth: Black–Scholes on an implied volatility with skew.

Everything is per share of the index; a contract is a hundred. European exercise, settled in cash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from sizing.autoscaling import strategy_of
from trainingdata.errors import InputError, refuse_outside

Array = npt.NDArray[np.float64]
Numbers = npt.ArrayLike


@dataclass(frozen=True, slots=True)
class Smile:
    """Implied volatility by strike: at the money `level` times the volatility index, falling with the strike.

    With x = ln(K / S) / (σ √T), the strike's distance in deviations of σ = level · index / 100: σ · (1 − slope · x +
    wing · (√(1 + x²) − 1)), no less than `least` of σ: round at the money, straight far out. session: share of a day's
    variance that falls between open and close, which is all that a same-day option is exposed to (SPY, 2023-04 to 2025-06:
    0.64). The defaults are what `smile_calibration` finds in 185 prints of same-day S&P 500 options on 20 days of spring
    2025; the level alone moves by a fifth from day to day (docs/STUDIES.md).
    """

    level: float = 0.76
    slope: float = 0.025
    wing: float = 0.22
    least: float = 0.5
    session: float = 0.65

    def __post_init__(self) -> None:
        refuse_outside(self, "smile", level=(0, 10), slope=(-1, 1), wing=(0, 2), least=(0, 1), session=(0, 1))

    def volatility(self, index: Numbers, spot: Numbers, strike: Numbers, years: Numbers) -> Array:
        """Yearly implied volatility. index: the volatility index, in points; the rest as in `black_scholes`."""
        base = self.level * np.asarray(index, dtype=float) / 100.0
        spread = base * np.sqrt(np.asarray(years, dtype=float))
        logs = np.log(np.asarray(strike, dtype=float) / np.asarray(spot, dtype=float))
        x = np.divide(logs, spread, out=np.zeros(np.broadcast(logs, spread).shape), where=spread > 0)
        return np.asarray(base * np.maximum(1.0 - self.slope * x + self.wing * (np.hypot(1.0, x) - 1.0), self.least))


def black_scholes(
    spot: Numbers,
    strike: Numbers,
    years: Numbers,
    volatility: Numbers,
    *,
    call: npt.ArrayLike,
    rate: float = 0.0,
    dividend: float = 0.0,
) -> Array:
    """Value of European options (Black and Scholes 1973, Merton 1973), arrays of one shape or numbers.

    years: to expiry, 0 for what is settled: then, and where the volatility is 0, the discounted intrinsic value of the
    forward. call: false for puts. rate, dividend: continuous, a year.
    """
    s, k, t, v = (np.asarray(each, dtype=float) for each in (spot, strike, years, volatility))
    side = np.where(np.asarray(call, dtype=bool), 1.0, -1.0)
    forward, discount = s * np.exp((rate - dividend) * t), np.exp(-rate * t)
    spread = v * np.sqrt(t)
    logs = np.log(forward / k)
    alive = np.broadcast_to(spread > 0, np.broadcast(logs, spread).shape)
    upper = np.divide(logs, spread, out=np.full(alive.shape, np.inf), where=alive) + spread / 2
    value = side * (forward * ndtr(side * upper) - k * ndtr(side * (upper - spread)))
    return np.asarray(discount * np.where(alive, value, np.maximum(side * (forward - k), 0.0)))


@dataclass(frozen=True, slots=True)
class Leg:
    """An option of a spread. sold: whether it was."""

    strike: float
    call: bool
    sold: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """Options sold at one credit: two legs a side; an iron condor has both sides."""

    strategy: str
    legs: tuple[Leg, ...]

    def __post_init__(self) -> None:
        if len(self.legs) not in (2, 4) or sum(leg.sold for leg in self.legs) * 2 != len(self.legs):
            raise InputError(f"{self.strategy}: a spread sells one option a side and buys one beyond it")
        for short, long in zip(self.legs[::2], self.legs[1::2], strict=True):
            beyond = (long.strike > short.strike) if short.call else (long.strike < short.strike)
            if not (short.sold and not long.sold and short.call == long.call and beyond):
                raise InputError(f"{self.strategy}: {long.strike:g} does not protect {short.strike:g}")

    @property
    def width(self) -> float:
        """Points between the strikes, of the wider side."""
        return max(abs(long.strike - short.strike) for short, long in zip(self.legs[::2], self.legs[1::2], strict=True))

    def cost(self, spot: Numbers, years: Numbers, index: Numbers, smile: Smile) -> Array:
        """What it costs to buy back, above 0, before spreads and fees; at `years` 0 what it settles at."""
        total = np.zeros(np.broadcast(np.asarray(spot), np.asarray(years), np.asarray(index)).shape)
        for leg in self.legs:
            volatility = smile.volatility(index, spot, leg.strike, years)
            value = black_scholes(spot, leg.strike, years, volatility, call=leg.call)
            total = total + (value if leg.sold else -value)
        return np.asarray(total)


def spread_of(strategy: str, spot: float, *, distance: float, width: float, step: float = 5.0) -> Spread:
    """The spread of a strategy with its short strikes `distance` points from the index, rounded away from it to the step.

    CALL sells above the index, PUT below it, IRON_CONDOR both; OTM_SINGLE_SIDED is the put side, further out and wider as its
    distance and width say.

    Raises
    ------
    InputError
        for a strategy that is none, and strikes that cannot be.
    """
    name = strategy_of(strategy)
    if not (distance >= 0 and width > 0 and step > 0 and spot > distance + width):
        raise InputError(f"{name}: distance {distance}, width {width} and step {step} fit no index at {spot}")
    above, below = np.ceil((spot + distance) / step) * step, np.floor((spot - distance) / step) * step
    calls = (Leg(float(above), True, True), Leg(float(above + width), True, False))
    puts = (Leg(float(below), False, True), Leg(float(below - width), False, False))
    sides = {"CALL": calls, "PUT": puts, "OTM_SINGLE_SIDED": puts, "IRON_CONDOR": (*calls, *puts)}
    return Spread(name, sides[name])
