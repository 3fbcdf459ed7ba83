"""Expected return and volatility over the holding interval, read from a quantile forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from forecasting.forecast import HORIZON, LEVELS, MEDIAN, QuantileForecast

Array = npt.NDArray[np.float64]
Volatility = Literal["original", "normal", "quantile"]

_Q = np.array(LEVELS)
_Q10, _Q90 = LEVELS.index(0.1), LEVELS.index(0.9)
NORMAL_SPREAD = 1.2815515655446004  # the standard normal's 90 % quantile


@dataclass(frozen=True, eq=False, slots=True)
class Moments:
    """Simple return over the holding interval start → end, per symbol.

    mu [S] float64: expected, signed. sigma [S] float64: standard deviation; 0 where the symbol's market stays shut.
    NaN in both where there is no forecast.
    """

    symbols: tuple[str, ...]
    mu: Array
    sigma: Array
    start: np.datetime64
    end: np.datetime64

    def __post_init__(self) -> None:
        for name in ("mu", "sigma"):
            shape = getattr(self, name).shape
            if shape != (len(self.symbols),):
                raise ValueError(f"{name} must have shape [S] = ({len(self.symbols)},), got {shape}")
        if (self.sigma < 0).any():
            raise ValueError(f"sigma must not be negative, got {np.nanmin(self.sigma)}")
        if not self.start < self.end:
            raise ValueError(f"the interval must have a length, got {self.start} to {self.end}")


def forecast_moments(
    forecast: QuantileForecast, begin: Array, finish: Array, start: np.datetime64, end: np.datetime64, rule: Volatility
) -> Moments:
    """Moments between two places of each symbol's own bars.

    begin, finish [S]: own bars from the forecast's issue to the interval's start and end, fractional inside a bar; a
    symbol that decides now has begin 0 and a whole finish. Median return and variance run linearly between steps;
    beyond the last step they continue in proportion. Expected return = (median - price) / price.
    """
    mu_start, var_start = _at(forecast, begin, rule)
    mu_end, var_end = _at(forecast, finish, rule)
    sigma = np.sqrt(np.maximum(var_end - var_start, 0.0))
    return Moments(forecast.symbols, mu_end - mu_start, sigma, start, end)


def volatility(values: npt.ArrayLike, price: npt.ArrayLike, rule: Volatility) -> Array:
    """Standard deviation of the return a quantile function [..., Q] stands for, by a named rule.

    original  |q90 - q10| / (2·price): a normal's deviation times 1.28.
    normal    |q90 - q10| / (2·1.2816·price): too small for heavy tails.
    quantile  the deviation of the whole quantile function: linear between levels, beyond the outermost two an
              exponential tail through them.
    """
    returns = np.asarray(values, dtype=np.float64) / np.asarray(price, dtype=np.float64)[..., None]
    if rule == "quantile":
        return _whole_deviation(returns - returns[..., MEDIAN, None])
    spread = np.abs(returns[..., _Q90] - returns[..., _Q10]) / 2
    return np.asarray(spread if rule == "original" else spread / NORMAL_SPREAD)


def _at(forecast: QuantileForecast, place: Array, rule: Volatility) -> tuple[Array, Array]:
    """Median return and variance from the forecast's issue to `place` own bars later, [S] each."""
    inside = np.minimum(place, HORIZON)
    low = np.floor(inside).astype(int)
    high = np.minimum(low + 1, HORIZON)
    share = inside - low
    mu, variance = np.zeros(len(place)), np.zeros(len(place))
    rows = np.arange(len(place))
    prices = forecast.price.astype(np.float32).astype(np.float64)  # as exact as the values: no edge is 0, not 1e-8
    for step, weight in ((low, 1 - share), (high, share)):
        used = (step > 0) & (weight > 0)
        values = forecast.values[rows[used], step[used] - 1]
        price = prices[used]
        mu[used] += weight[used] * (values[:, MEDIAN] / price - 1)
        variance[used] += weight[used] * volatility(values, price, rule) ** 2
    beyond = np.where(place > HORIZON, place / HORIZON, 1.0)
    missing = np.isnan(forecast.price)
    return np.where(missing, np.nan, mu * beyond), np.where(missing, np.nan, variance * beyond)


def _whole_deviation(q: Array) -> Array:
    """Standard deviation of the distribution with quantiles q [..., Q] at LEVELS."""
    mean = q @ _FIRST
    return np.asarray(np.sqrt(np.maximum(((q @ _SECOND) * q).sum(axis=-1) - mean**2, 0.0)))


def _moment_forms() -> tuple[Array, Array]:
    """(a [Q], b [Q, Q]): the mean of the distribution with quantiles q is a·q, its second moment q·b·q.

    Linear between levels; beyond the outermost two an exponential tail through them.
    """
    first, second = np.zeros(len(_Q)), np.zeros((len(_Q), len(_Q)))
    for k, width in enumerate(np.diff(_Q)):
        first[k : k + 2] += width / 2
        second[k : k + 2, k : k + 2] += width / 3 * np.array([[1, 0.5], [0.5, 1]])
    for edge, inner, mass in ((0, 1, _Q[0]), (-1, -2, 1 - _Q[-1])):
        inner_mass = _Q[inner] if edge == 0 else 1 - _Q[inner]
        tail = np.zeros(len(_Q))  # scale of the exponential, signed outward
        tail[edge], tail[inner] = np.array([1, -1]) / np.log(inner_mass / mass)
        reach = tail.copy()
        reach[edge] += 1
        first += mass * reach
        second += mass * (np.outer(reach, reach) + np.outer(tail, tail))
    return first, second


_FIRST, _SECOND = _moment_forms()
