"""Prices of index options and spreads by Black–Scholes, with an implied volatility smile.

All prices are per share of the index; a contract is for a hundred shares. Options have European
exercise and settle in cash.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array
from foundation.settings import setting, settings_class
from option_spreads.selling.rules import ImpliedVolatility, Spread

Numbers = npt.ArrayLike

# Fraction of a cent. A value that is a whole cent on paper may miss it by the last bits of a float;
# it would then be rounded by a cent against the trader.
CENT_ROUNDING_TOL = 1e-7


@settings_class("smile")
class Smile(ImpliedVolatility):
    """Implied volatility by strike: lowest near the money, higher on both sides of it.

    At the money it is σ = vix_multiple · volatility index / 100. At a strike it is
    σ · (1 − slope · x + wing · (√(1 + x²) − 1)), but at least `min_volatility_share` · σ.
    x = ln(K / S) / (σ √T) is the distance of strike K from spot S in standard deviations over T
    years. The curve is round at the money and straight far away from it.

    The defaults are estimates from 185 prints of same-day S&P 500 options on 20 days of spring 2025
    (docs/STUDIES.md), with standard errors by jackknife over days: vix_multiple 0.804 ± 0.075,
    slope 0.025 ± 0.011 and wing 0.221 ± 0.018. `vix_multiple` alone moves by a fifth from day to
    day.
    """

    slope: float = setting(
        0.025,
        "relative increase of implied volatility for low strikes, per standard"
        " deviation of distance",
        ge=-1,
        le=1,
    )
    wing: float = setting(
        0.22,
        "relative increase of implied volatility for distant strikes on both sides,"
        " per standard deviation of distance",
        ge=0,
        le=2,
    )
    min_volatility_share: float = setting(
        0.5, "minimum volatility of a strike, as a share of at-the-money volatility σ", ge=0, le=1
    )

    @property
    def flat_smile(self) -> Smile:
        """Return the smile without slope and wings: every strike has at-the-money volatility."""
        return replace(self, slope=0.0, wing=0.0)

    def implied_volatility(
        self, vix: Numbers, spot: Numbers, strike: Numbers, years: Numbers
    ) -> Array:
        """Return annualised implied volatility, as an array of the arguments' broadcast shape.

        vix: volatility index, points.
        spot, strike: points.
        years: years to expiry.
        """
        base = self.annual_standard_deviation(np.asarray(vix, dtype=float))
        deviation = base * np.sqrt(np.asarray(years, dtype=float))
        logs = np.log(np.asarray(strike, dtype=float) / np.asarray(spot, dtype=float))
        # At expiry the distance in deviations is undefined; the option has its intrinsic value at
        # any volatility.
        at_the_money = np.zeros(np.broadcast(logs, deviation).shape)
        x = np.divide(logs, deviation, out=at_the_money, where=deviation > 0)
        return np.asarray(base * self._relative_volatility(x))

    def _relative_volatility(self, x: Array) -> Array:
        """Return the ratio of a strike's implied volatility to that at the money.

        x: distance of the strike from spot, standard deviations.
        """
        curve = 1.0 - self.slope * x + self.wing * (np.hypot(1.0, x) - 1.0)
        return np.asarray(np.maximum(curve, self.min_volatility_share))


def black_scholes(
    spot: Numbers, strike: Numbers, years: Numbers, volatility: Numbers, *, call: npt.ArrayLike
) -> Array:
    """Return the values of European options without interest and dividends, points.

    Black and Scholes (1973). With spot s, strike k, years t and volatility v, let u = ln(s / k) /
    (v√t) + v√t / 2. A call is worth s · N(u) − k · N(u − v√t). For a put the signs of both terms
    and of both arguments of N are reversed.

    spot, strike: points; these and the next two are numbers, or arrays of one shape.
    years: years to expiry; at 0, or with a volatility of 0, the value is the intrinsic value.
    volatility: volatility per year.
    call: true for calls, false for puts.
    """
    from scipy.special import ndtr

    s, k, t, v = (np.asarray(each, dtype=float) for each in (spot, strike, years, volatility))
    side = np.where(np.asarray(call, dtype=bool), 1.0, -1.0)
    deviation = v * np.sqrt(t)
    logs = np.log(s / k)
    alive = np.broadcast_to(deviation > 0, np.broadcast(logs, deviation).shape)
    unbounded = np.full(alive.shape, np.inf)
    upper = np.divide(logs, deviation, out=unbounded, where=alive) + deviation / 2
    value = side * (s * ndtr(side * upper) - k * ndtr(side * (upper - deviation)))
    return np.asarray(np.where(alive, value, np.maximum(side * (s - k), 0.0)))


def option_value(
    strike: float, spot: Numbers, years: Numbers, vix: Numbers, smile: Smile, *, call: bool
) -> Array:
    """Return the Black–Scholes value of an option at the smile's implied volatility, points.

    strike, spot: points.
    years: years to expiry; at 0 the value is the intrinsic value.
    vix: volatility index, points.
    call: true for a call, false for a put.
    """
    volatility = smile.implied_volatility(vix, spot, strike, years)
    return black_scholes(spot, strike, years, volatility, call=call)


def compute_bid_and_ask(value: Array, slippage: float = 0.0) -> tuple[Array, Array]:
    """Return (bid, ask) of an option, points: its value less and plus `slippage`.

    Both are rounded to the cent, the bid down and the ask up; a bid is at least 0.
    """
    bid = np.floor((value - slippage) * 100 + CENT_ROUNDING_TOL) / 100
    return np.maximum(bid, 0.0), np.ceil((value + slippage) * 100 - CENT_ROUNDING_TOL) / 100


def compute_spread_prices(
    spread: Spread, spot: Numbers, years: Numbers, vix: Numbers, smile: Smile, slippage: float = 0.0
) -> tuple[Array, Array, Array]:
    """Return (value, credit of a sale, cost of buying back) of a spread, points.

    The cost may exceed the spread's width by the slippage of closing.

    spot: level of the index, points.
    years: years to expiry.
    vix: volatility index, points.
    slippage: half-spread of each leg, points.
    """
    worth, credit, cost = np.zeros(
        (3, *np.broadcast(np.asarray(spot), np.asarray(years), np.asarray(vix)).shape)
    )
    for leg in spread.legs:
        value = option_value(leg.strike, spot, years, vix, smile, call=leg.is_call)
        bid, ask = compute_bid_and_ask(value, slippage)
        if leg.is_short:
            worth, credit, cost = worth + value, credit + bid, cost + ask
        else:
            worth, credit, cost = worth - value, credit - ask, cost - bid
    return np.asarray(worth), np.asarray(np.round(credit, 2)), np.asarray(np.round(cost, 2))
