"""Forecasts computed by tasks on a Ray cluster, a portion of the windows each."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from forecasting.chronos2.cached_forecaster import Prediction
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile, RaySettings
from forecasting.forecast import HORIZON, LEVELS, Progress, empty_array
from forecasting.windows import Windows
from foundation.arrays import Index
from foundation.errors import InputError
from foundation.plugin import load_entry_point


def predict_on_ray(
    settings: RaySettings,
    forecaster: Chronos2Forecaster,
    windows: Windows,
    portions: Sequence[Index],
    profile: InferenceProfile,
    progress: Progress,
) -> Generator[Prediction, None, None]:
    """Compute portions of windows on the cluster; yield each prediction when it is completed.

    All windows use the same model profile. The first prediction has no forecasts and only carries
    the specification. With its first argument bound this is a predictor for `CachedForecaster`.
    """
    total, done = sum(map(len, portions)), 0
    task = partial(_predict, forecaster, profile.for_window_count(total), settings.cores)
    # The first portion is empty: it tells the specification of the others.
    rows = [np.empty(0, dtype=np.int64), *portions]
    answers = load_entry_point("launchers", "ray")(
        settings, task, windows, rows, uses_gpus=profile.device != "cpu"
    )
    first: Mapping[str, Any] = {}
    with closing(answers):
        for _, worker, prediction in answers:
            its = prediction.specification
            first = first or its
            if other := [name for name, value in first.items() if its.get(name) != value]:
                raise InputError(
                    f"ray: machines differ in {', '.join(other)}: {other[0]} is"
                    f" {its.get(other[0])} on {worker}, but {first[other[0]]} on the first machine;"
                    " install the same model and libraries on all, or set forecaster.batch_size"
                    " and forecaster.compile"
                )
            if done := done + len(prediction.window_indices):
                progress("forecasts", done, total)
            yield prediction


def _predict(
    forecaster: Chronos2Forecaster,
    profile: InferenceProfile,
    cores: int,
    windows: Windows,
    rows: Index,
) -> Prediction:
    """Compute the forecasts of windows in a process of the cluster.

    cores: number of CPU cores that the task may use.
    rows: indices of the windows.
    """
    import torch

    # The last bits of sums depend on the number of threads.
    torch.set_num_threads(cores)
    engine = forecaster.load_engine(profile)
    values = empty_array(0, HORIZON, len(LEVELS))
    if len(rows):
        values = forecaster.predict(windows, rows, profile, engine=engine)
    return Prediction(rows, values, forecaster.build_specification(profile, engine))
