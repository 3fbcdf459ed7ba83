r"""A strategy based on prices: buy symbols that fell fast, with a stop that sets the position size.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=none sizing.band=0 \
        sizing._target_=examples.rsi_reversal.RsiReversal sizing.arguments.stop=0.03 \
        output=outputs/example-rsi
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.arrays import Array
from sizing import SizingInputs, StrategyAnswer


@dataclass(frozen=True)
class RsiReversal:
    """Buy at an RSI below `low`; sell at an RSI above `high`, or at the stop.

    period: bars of the relative strength index (Wilder 1978, with plain averages).
    stop: loss from the entry price at which a position is sold, as a fraction.
    risk: share of equity that a position loses at its stop.
    """

    period: int = 14
    low: float = 30.0
    high: float = 55.0
    stop: float = 0.03
    risk: float = 0.005

    def __call__(self, inputs: SizingInputs) -> StrategyAnswer:
        """Return weights [S], risk / stop in each symbol with an open trade, stops and reasons."""
        closes = inputs.history.closes
        entries = np.array([self._entry(own[np.isfinite(own)]) for own in closes])
        holds = np.isfinite(entries) & inputs.universe
        stops = np.where(holds, entries * (1.0 - self.stop), np.nan)
        reasons = [f"RSI fell below {self.low:g}" if each else "" for each in holds]
        return StrategyAnswer(np.where(holds, self.risk / self.stop, 0.0), stops, reasons)

    def _entry(self, closes: Array) -> float:
        """Return the close at which the open trade was entered; NaN without an open trade.

        All closes are replayed, so that nothing has to be stored between decisions.
        """
        if len(closes) <= self.period:
            return np.nan
        moves = np.diff(closes)
        kernel = np.full(self.period, 1.0 / self.period)
        gain = np.convolve(np.maximum(moves, 0.0), kernel, "valid")
        loss = np.convolve(np.maximum(-moves, 0.0), kernel, "valid")
        rsi = 100.0 * gain / np.maximum(gain + loss, 1e-12)
        entry = None
        for close, strength in zip(closes[self.period :], rsi, strict=True):
            if entry is None:
                entry = close if strength < self.low else None
            elif strength > self.high or close < entry * (1.0 - self.stop):
                entry = None
        return np.nan if entry is None else float(entry)
