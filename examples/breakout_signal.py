r"""A trading signal as a forecaster for Kelly sizing: a breakout that claims 55 % winning trades.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster._target_=examples.breakout_signal.breakout \
        forecaster.arguments.hit_rate=0.55 output=outputs/example-breakout

The claimed hit rate is used to the extent that the signal's past confirms it.
`forecaster.calibrated=false` uses the claim unchanged.
"""

from __future__ import annotations

from functools import partial

from forecasting import SignalForecaster, Signals
from trainingdata.history import PriceHistory


def breakout(window: int = 60, hit_rate: float = 0.55, payoff: float = 1.0) -> SignalForecaster:
    """Return a forecaster for the signal; each signal applies for 12 bars.

    window: number of bars whose high or low the close must break.
    hit_rate: claimed share of trades that win.
    payoff: claimed average gain divided by the average loss.
    """
    signal = partial(signals, window=window, hit_rate=hit_rate, payoff=payoff)
    return SignalForecaster(f"breakout of {window} bars", signal, lookback=120, holding_bars=12)


def signals(history: PriceHistory, window: int, hit_rate: float, payoff: float) -> Signals:
    """Return 1 for a close above the highs of the window, -1 below its lows, else 0; [S]."""
    last = history.closes[:, -1]
    above = last > history.highs[:, -1 - window : -1].max(axis=1)
    below = last < history.lows[:, -1 - window : -1].min(axis=1)
    return Signals(above.astype(float) - below.astype(float), hit_rate, payoff)
