"""Settings of the calibration of forecasts."""

from __future__ import annotations

from foundation.settings import setting, settings_class


@settings_class("forecaster.calibration")
class CalibrationSettings:
    """Settings of calibration: length of the history, and confidence needed to use medians."""

    window: int = setting(3000, "number of a symbol's bars used for calibration", ge=100)
    confidence: float = setting(
        3.0, "standard errors by which the slope of median forecasts must exceed zero", ge=0
    )
