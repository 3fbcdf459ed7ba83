"""Quantile forecasts, and the moments of forecasts for sizing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foundation import lazy_exports
from foundation.cli import Command

if TYPE_CHECKING:
    from forecasting.baseline import Garch as Garch
    from forecasting.baseline import HistoricalQuantiles as HistoricalQuantiles
    from forecasting.baseline import Oracle as Oracle
    from forecasting.baseline import RandomWalk as RandomWalk
    from forecasting.calibration.forecaster import CalibratedForecaster as CalibratedForecaster
    from forecasting.chronos2.cached_forecaster import CachedForecaster as CachedForecaster
    from forecasting.chronos2.forecaster import Chronos2Forecaster as Chronos2Forecaster
    from forecasting.file_forecaster import FileForecaster as FileForecaster
    from forecasting.forecast import Forecaster as Forecaster
    from forecasting.forecast import ForecastTable as ForecastTable
    from forecasting.settings import ForecasterSettings as ForecasterSettings
    from forecasting.signals import SignalForecaster as SignalForecaster
    from forecasting.signals import Signals as Signals

COMMANDS = {
    "batch": Command(
        "forecasting.batch",
        config="batch",
        interruption_text="forecasts computed so far are in the cache",
        log_name="batch",
        takes_hydra_flags=True,
    ),
    "evaluate": Command(
        "forecasting.evaluate",
        config="evaluate",
        marker_file="evaluation.json",
        marker_keys=("forecaster", "groups"),
        log_name="evaluate",
        takes_hydra_flags=True,
    ),
}
SETTINGS = {
    "batch": "forecasting.settings:BatchSettings",
    "evaluate": "forecasting.settings:EvaluationSettings",
}

__getattr__, __dir__, __all__ = lazy_exports(__name__)
