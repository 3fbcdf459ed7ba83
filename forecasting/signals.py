"""Forecasts from trading signals: a direction with a claimed hit rate and payoff.

A signal claims how often its trades win, and how large a win is relative to a loss. That is a claim
about the mean return. As a forecast, it is calibrated like any other: it is shrunk to the part that
past outcomes confirm, and Kelly sizes positions by that part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from forecasting.baseline import RandomWalk
from forecasting.forecast import HORIZON, ForecastTable, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Array, Instants
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.history import BarsBySymbol, PriceHistory


class Signals(NamedTuple):
    """Signals of S symbols at an instant.

    direction: [S] 1 for a rise, -1 for a fall, 0 for no signal.
    hit_rate: claimed fraction of trades that win, between 0 and 1; one number or [S].
    payoff: claimed average win divided by the average loss, above 0; one number or [S].
    """

    direction: Array
    hit_rate: float | Array
    payoff: float | Array = 1.0


@dataclass(frozen=True)
class SignalForecaster:
    """A forecaster with the mean return that a signal claims, and a random walk's dispersion.

    A trade with hit rate p and payoff b wins b·L or loses L. Its standard deviation equals that of
    the symbol over `holding_bars` bars, σ√holding. Therefore L = σ√holding / ((1 + b)·√(p(1 − p))),
    and the mean log return over these bars is direction·(p·b − (1 − p))·L. The mean grows linearly
    with the step up to `holding_bars`, and is constant after it.

    name: name in reports.
    signals: function that gets the symbols' price history up to an instant, and returns the signals
        of the symbols in the same order.
    lookback: number of bars of each symbol that the function gets.
    holding_bars: number of bars for which a signal is held, 1 … 24.
    random_walk: random walk that gives the dispersion.
    """

    name: str
    signals: Callable[[PriceHistory], Signals]
    lookback: int = 200
    holding_bars: int = HORIZON
    random_walk: RandomWalk = field(default_factory=RandomWalk)

    def __post_init__(self) -> None:
        if not 1 <= self.holding_bars <= HORIZON:
            raise InputError(f"holding_bars: {self.holding_bars} bars is outside 1 … {HORIZON}")
        if self.lookback < self.random_walk.context_length:
            raise InputError(
                f"lookback: {self.lookback} bars is below the {self.random_walk.context_length}"
                " bars that"
                " the volatility estimate needs"
            )

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on.

        The forecast at each symbol's last bar before `since` is included.
        """
        windows = Windows.from_bars(bars, since, self.lookback)
        own = BarsBySymbol(bars)
        rows = np.searchsorted(bars.times, windows.issued_at)
        claim = np.zeros(len(windows))
        for number, row in enumerate(instants := np.unique(rows)):
            progress(self.name, number + 1, len(instants))
            issued = np.flatnonzero(rows == row)
            symbols = windows.symbol_index[issued]
            history = own.history([bars.symbols[s] for s in symbols], self.lookback, int(row))
            claim[issued] = mean_claimed_return(self.signals(history), len(issued))
        share = np.minimum(np.arange(1, HORIZON + 1), self.holding_bars) / self.holding_bars
        around = self.random_walk.quantiles_around(windows)
        deviation = around.scale[:, :1] * np.sqrt(self.holding_bars)
        median = claim[:, None] * deviation * share
        return ForecastTable.from_quantiles(
            self.name, bars, windows, replace(around, median=median)
        )


def mean_claimed_return(signals: Signals, count: int) -> Array:
    """Return the claimed mean return of each symbol, [S].

    It is in units of the standard deviation over the holding period. Raises InputError for values
    of another shape or out of range.

    count: number of symbols, S.
    """
    direction, hit_rate, payoff = (
        np.broadcast_to(np.asarray(each, dtype=np.float64), (count,)) for each in signals
    )
    if not np.isin(direction, (-1.0, 0.0, 1.0)).all():
        raise InputError("signals.direction: all values must be -1, 0 or 1")
    if not ((hit_rate > 0) & (hit_rate < 1)).all():
        raise InputError("signals.hit_rate: all values must be above 0 and below 1")
    if not ((payoff > 0) & np.isfinite(payoff)).all():
        raise InputError("signals.payoff: all values must be above 0 and finite")
    edge = hit_rate * payoff - (1.0 - hit_rate)
    return direction * edge / ((1.0 + payoff) * np.sqrt(hit_rate * (1.0 - hit_rate)))
