"""What an index option and a spread of them are worth: Black–Scholes on an implied volatility with
skew.

Everything is per share of the index; a contract is a hundred. European exercise, settled in cash.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from execution.spreads.rules import Leg, Spread
from foundation.arrays import Array
from foundation.errors import refuse_outside

Numbers = npt.ArrayLike

ROUNDING = 1e-7  # of a cent: what is a cent on paper is one here


@dataclass(frozen=True, slots=True)
class Smile:
    """Implied volatility by strike: at the money `level` times the volatility index, higher on both
    sides of it.

    With x = ln(K / S) / (σ √T), the strike's distance in deviations of σ = level · index / 100: σ ·
    (1 − slope · x + wing · (√(1 + x²) − 1)), no less than `least` of σ: round at the money,
    straight far out. session: share of a day's variance that falls between open and close, which is
    all that a same-day option is exposed to (SPY, 2023-04 to 2025-06: 0.64). The defaults are what
    `smile_calibration` finds in 185 prints of same-day S&P 500 options on 20 days of spring 2025;
    the level alone moves by a fifth from day to day (docs/STUDIES.md).
    """

    level: float = 0.76
    slope: float = 0.025
    wing: float = 0.22
    least: float = 0.5
    session: float = 0.65

    def __post_init__(self) -> None:
        refuse_outside(
            self, "smile", level=(0, 10), slope=(-1, 1), wing=(0, 2), least=(0, 1), session=(0, 1)
        )

    def volatility(self, index: Numbers, spot: Numbers, strike: Numbers, years: Numbers) -> Array:
        """Yearly implied volatility. index: the volatility index, in points; the rest as in
        `black_scholes`.
        """
        base = self.level * np.asarray(index, dtype=float) / 100.0
        spread = base * np.sqrt(np.asarray(years, dtype=float))
        logs = np.log(np.asarray(strike, dtype=float) / np.asarray(spot, dtype=float))
        x = np.divide(
            logs, spread, out=np.zeros(np.broadcast(logs, spread).shape), where=spread > 0
        )
        return np.asarray(
            base
            * np.maximum(1.0 - self.slope * x + self.wing * (np.hypot(1.0, x) - 1.0), self.least)
        )


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
    """Value of European options (Black and Scholes 1973, Merton 1973), arrays of one shape or
    numbers.

    years: to expiry, 0 for what is settled: then, and where the volatility is 0, the discounted
    intrinsic value of the forward. call: false for puts. rate, dividend: continuous, a year.
    """
    s, k, t, v = (np.asarray(each, dtype=float) for each in (spot, strike, years, volatility))
    side = np.where(np.asarray(call, dtype=bool), 1.0, -1.0)
    forward = s * np.exp((rate - dividend) * t)
    discount = np.exp(-rate * t)
    spread = v * np.sqrt(t)
    logs = np.log(forward / k)
    alive = np.broadcast_to(spread > 0, np.broadcast(logs, spread).shape)
    upper = np.divide(logs, spread, out=np.full(alive.shape, np.inf), where=alive) + spread / 2
    value = side * (forward * ndtr(side * upper) - k * ndtr(side * (upper - spread)))
    return np.asarray(discount * np.where(alive, value, np.maximum(side * (forward - k), 0.0)))


def quotes(
    leg: Leg, spot: Numbers, years: Numbers, index: Numbers, smile: Smile, slippage: float = 0.0
) -> tuple[Array, Array]:
    """What an option sells and buys at: its value less and plus `slippage`, to the cent against
    the trader, no bid below 0.
    """
    value = black_scholes(
        spot, leg.strike, years, smile.volatility(index, spot, leg.strike, years), call=leg.call
    )
    bid = np.floor((value - slippage) * 100 + ROUNDING) / 100
    return np.maximum(bid, 0.0), np.ceil((value + slippage) * 100 - ROUNDING) / 100


def net(
    spread: Spread,
    spot: Numbers,
    years: Numbers,
    index: Numbers,
    smile: Smile,
    slippage: float = 0.0,
) -> tuple[Array, Array]:
    """Points that selling a spread earns, and that buying it back costs: up to its width and
    what getting out costs.
    """
    shape = np.broadcast(np.asarray(spot), np.asarray(years), np.asarray(index)).shape
    credit = np.zeros(shape)
    asked = np.zeros(shape)
    for leg in spread.legs:
        bid, ask = quotes(leg, spot, years, index, smile, slippage)
        credit, asked = (credit + bid, asked + ask) if leg.sold else (credit - ask, asked - bid)
    return np.asarray(np.round(credit, 2)), np.asarray(np.round(asked, 2))
