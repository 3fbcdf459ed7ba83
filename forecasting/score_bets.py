"""Score differences of forecasts as bets: one an instant, over all symbols that have a forecast.

The score is the mean pinball loss over the levels of the log return from the close at issue to the
symbol's own bar `horizon` bars later, in deviations of the baseline's forecast. The instants are
those of the panel, at which any symbol has a bar. A bet is known once the last of its symbols has
its outcome: symbols with missing bars, and stocks with crypto, delay it. Meanwhile it occupies a
stream (`forecasting.evidence`), whatever the outcomes of its other symbols.

An outcome that is later than `outcome_deadline` is the return to the symbol's last bar until then.
A symbol that stops trading can therefore not keep a bet open.

Dimensions: M forecasters, T instants of the panel, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from forecasting.evidence import (
    ALPHA,
    MAX_SCORE_DIFFERENCE,
    EvidenceSeries,
    model_confidence_set,
    score_evidence,
)
from forecasting.forecast import ForecastTable
from forecasting.moments import volatility_from_quantiles
from forecasting.scores import pinball_loss, select_common_forecasts
from foundation.arrays import Array, Index, Instants, Mask
from trainingdata.bars import CLOSE, Bars

DEADLINE_DAYS = 10  # calendar days to an outcome, in addition to those of each bar of the horizon
DEADLINE_DAYS_PER_BAR = 2


class ScoreBets(NamedTuple):
    """Scores of the baseline and of M - 1 forecasters at each instant, as bets.

    scores: [M, T] mean score over the symbols for which all issued a forecast, the baseline's
        first; lower is better. NaN for an instant without forecasts, and 0 without an outcome yet.
    known_at: [T] row of the instant at which the scores are known, above the own row; T if they are
        not known yet.
    stream_count: number of streams: the horizon times the number of asset classes of the panel, so
        that it never changes.
    forecast_count: number of forecasts in the scores.
    """

    scores: Array
    known_at: Index
    stream_count: int
    forecast_count: int

    def evidence(
        self, forecaster: int = 1, share: float = ALPHA, gap_rows: Index | None = None
    ) -> EvidenceSeries:
        """Return the evidence that a forecaster has a lower score than the baseline.

        forecaster: row of the scores.
        share: error probability of the bound.
        gap_rows: rows of instants whose forecasts were withheld: the largest loss.
        """
        difference = self.scores[0] - self.scores[forecaster]
        known_at = self.known_at.copy()
        if gap_rows is not None:
            difference[gap_rows] = -MAX_SCORE_DIFFERENCE
            known_at[gap_rows] = gap_rows + 1
        return score_evidence(difference, self.stream_count, share, known_at)

    def confidence_set(self) -> Mask:
        """Return which forecasters, without the baseline, may be the best, [M - 1]."""
        return model_confidence_set(self.scores[1:], self.stream_count, self.known_at)


def outcome_deadline(issued_at: Instants, horizon: int) -> Instants:
    """Return the last instant at which the outcome of each forecast counts, [n]."""
    days = DEADLINE_DAYS + DEADLINE_DAYS_PER_BAR * horizon
    return np.asarray(issued_at + np.timedelta64(days, "D"))


def place_score_bets(
    bars: Bars, baseline: ForecastTable, tables: Sequence[ForecastTable], horizon: int
) -> ScoreBets:
    """Score the forecasts that the baseline and all forecasters issued.

    horizon: number of the symbol's bars from a forecast to its outcome, 1 … 24.
    """
    compared = [baseline, *tables]
    rows = select_common_forecasts(compared, bars.times[0], bars.times[-1])
    quantiles = [
        table.quantiles[own, horizon - 1].astype(np.float64)
        for table, own in zip(compared, rows, strict=True)
    ]
    # The price is rounded as the quantiles are.
    price = baseline.price[rows[0]].astype(np.float32).astype(np.float64)
    deviation = volatility_from_quantiles(quantiles[0], price, "quantile")
    # What is left out here is known at issue.
    kept = np.flatnonzero((deviation > 0) & (np.min(quantiles, axis=0)[:, 0] > 0))
    issued_at = baseline.windows.issued_at[rows[0][kept]]
    symbol = baseline.windows.symbol_index[rows[0][kept]]
    realised, outcome_row = _find_outcomes(bars, symbol, issued_at, horizon)
    at = np.searchsorted(bars.times, issued_at)
    count = np.bincount(at, minlength=len(bars.times))
    known_at = np.zeros(len(bars.times), dtype=np.int64)
    np.maximum.at(known_at, at, outcome_row)
    scores = np.full((len(compared), len(bars.times)), np.nan)
    for values, score in zip(quantiles, scores, strict=True):
        logs = np.log(values[kept] / price[kept, None])
        loss = pinball_loss(logs, realised).mean(axis=1) / deviation[kept]
        total = np.bincount(at, loss, minlength=len(bars.times))
        score[count > 0] = total[count > 0] / count[count > 0]
    scores[:, (count > 0) & (known_at >= len(bars.times))] = 0.0
    return ScoreBets(scores, known_at, horizon * len(np.unique(bars.crypto)), len(kept))


def _find_outcomes(
    bars: Bars, symbol: Index, issued_at: Instants, horizon: int
) -> tuple[Array, Index]:
    """Return the log return [n] of each forecast's outcome, and the row [n] at which it is known.

    The row is T for an outcome that is not known yet.
    """
    realised = np.zeros(len(symbol))
    known_row = np.full(len(symbol), len(bars.times))
    deadline = outcome_deadline(issued_at, horizon)
    for s in np.unique(symbol):
        own = np.flatnonzero(symbol == s)
        times, values = bars.bars_of_symbol(int(s))
        logs = np.log(values[:, CLOSE])
        issued = np.searchsorted(times, issued_at[own])
        until = np.searchsorted(times, deadline[own], side="right") - 1
        target = np.minimum(issued + horizon, until)
        realised[own] = logs[target] - logs[issued]
        known = np.where(target == issued + horizon, times[target], deadline[own])
        known_row[own] = np.searchsorted(bars.times, known)
    return realised, known_row
