"""Seconds until a process that has compiled nothing yet has its first forecasts.

    python -m studies.benchmarks.warm_start MODEL DTYPE

TORCHINDUCTOR_CACHE_DIR may hold code compiled by an earlier process. The time includes loading the
model, but not importing the libraries.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module

import numpy as np
import torch

from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile
from studies.benchmarks.forecast_speed import walks

LIBRARIES = ("chronos", "torch._inductor.compile_fx", "forecasting.chronos2.engine")


def main() -> None:
    """Load the model, forecast once, and print the seconds."""
    model, dtype = sys.argv[1:]
    for name in LIBRARIES:
        import_module(name)
    profile = InferenceProfile(model=model, dtype=dtype, compile=True)  # type: ignore[arg-type]
    forecaster = Chronos2Forecaster(profile)
    windows = walks(8, 60)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began = time.perf_counter()
    forecaster.predict(windows, np.arange(len(windows)), profile)
    sys.stdout.write(f"{time.perf_counter() - began}\n")


if __name__ == "__main__":
    main()
