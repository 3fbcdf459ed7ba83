r"""A strategy with scikit-learn: a classifier of the next bar, fitted again every month.

    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-04 end=2024-05-31 forecaster=none \
        sizing._target_=examples.classifier.Classifier sizing.lookback=600 \
        output=outputs/example-classifier
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from foundation.arrays import Array
from sizing import SizingInputs

LAGS = 5
PENALTIES = {"logisticregression__C": [0.001, 0.01, 0.1]}


class Classifier:
    """Hold the symbols that the classifier expects to rise.

    bars: number of a symbol's bars before the month to which the model is fitted. `sizing.lookback`
        must also include a month of bars, so that a restart within the month fits the same model.
    margin: excess over a probability of one half from which a symbol is held.
    """

    def __init__(self, bars: int = 300, margin: float = 0.02) -> None:
        self.bars = bars
        self.margin = margin
        self._models: dict[tuple[str, np.datetime64], Pipeline | None] = {}

    def __call__(self, inputs: SizingInputs) -> Array:
        """Return equal weights [S], at most 0.2 each, of the symbols that are expected to rise."""
        assert inputs.decision_time is not None
        month = inputs.decision_time.astype("datetime64[M]")
        rises = np.zeros(len(inputs.symbols), dtype=bool)
        for k in np.flatnonzero(inputs.universe):
            moves = np.diff(np.log(inputs.history.closes[k]))
            known = inputs.history.times[k, 1:]
            key = inputs.symbols[k], month
            if key not in self._models:
                before = moves[(known < month) & np.isfinite(moves)][-self.bars :]
                self._models[key] = fitted(before) if len(before) == self.bars else None
            if (model := self._models[key]) is not None:
                probability = model.predict_proba(moves[None, -LAGS:])[0, -1]
                rises[k] = probability > 0.5 + self.margin
        return np.asarray(rises * min(0.2, 1.0 / max(rises.sum(), 1)))


def fitted(moves: Array) -> Pipeline | None:
    """Return a pipeline fitted to log returns; None if all returns have the same sign.

    The penalty is chosen by walk-forward validation.
    """
    lags = np.lib.stride_tricks.sliding_window_view(moves[:-1], LAGS)
    rises = moves[LAGS:] > 0
    if rises.all() or not rises.any():
        return None
    pipeline = make_pipeline(StandardScaler(), LogisticRegression())
    search = GridSearchCV(pipeline, PENALTIES, cv=TimeSeriesSplit(4), scoring="neg_brier_score")
    return search.fit(lags, rises).best_estimator_
