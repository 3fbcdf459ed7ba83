r"""Another foundation model as forecaster: Google's TimesFM, by the transformers library.

    .venv/bin/python examples/timesfm_forecaster.py outputs/example-timesfm
    .venv/bin/python -m marketsimulator.backtest 'data.dir=[outputs/example-bars]' \
        start=2024-03-18 end=2024-03-22 forecaster._target_=examples.timesfm_forecaster.TimesFm \
        forecaster.arguments.model=outputs/example-timesfm output=outputs/example-timesfm-run

The first command writes an untrained model; google/timesfm-2.0-500m-pytorch is a trained one.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri
from transformers import TimesFmConfig, TimesFmModelForPrediction

from forecasting import ForecastTable
from forecasting.forecast import HORIZON, LEVELS, Progress, no_progress
from forecasting.windows import Windows
from foundation.arrays import Instants
from trainingdata.bars import Bars


@dataclass(frozen=True)
class TimesFm:
    """Forecaster with quantiles of TimesFM; `model` is a folder or a name on Hugging Face."""

    model: str = "google/timesfm-2.0-500m-pytorch"
    window: int = 128
    name = "timesfm"

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on."""
        model = TimesFmModelForPrediction.from_pretrained(self.model)
        windows = Windows.from_bars(bars, since, self.window)
        parts = [np.empty((0, HORIZON, len(LEVELS)), np.float32)]
        # The model has deciles. Beyond them quantiles are normal: ndtri(0.01) / ndtri(0.1) is 1.8.
        places = ndtri([0.01, *model.config.quantiles, 0.99])
        share = np.array([np.interp(ndtri(LEVELS), places, unit) for unit in np.eye(len(places))])
        for rows in np.array_split(np.arange(len(windows)), len(windows) // 256 + 1):
            closes = list(torch.tensor(windows.contexts(rows), dtype=torch.float32))  # USD
            with torch.inference_mode():
                found = model(past_values=closes, freq=[0] * len(rows)).full_predictions
            deciles = np.sort(found[:, :HORIZON, 1:].numpy(), axis=-1)  # [n, H, 9], USD
            ends = 1.8 * deciles[..., [0, 8]] - 0.8 * deciles[..., [4]]
            known = np.insert(deciles, [0, 9], ends, axis=-1)
            parts.append(np.maximum(known @ share, 0.01).astype(np.float32))
            progress(self.name, sum(map(len, parts)), len(windows))
        return ForecastTable.from_quantiles(self.name, bars, windows, np.concatenate(parts))


if __name__ == "__main__":
    small = TimesFmConfig(num_hidden_layers=1, hidden_size=32, intermediate_size=32, head_dim=8)
    TimesFmModelForPrediction(small).save_pretrained(sys.argv[1])
