"""Settings of calibration."""

from __future__ import annotations

from foundation.settings import setting, settings_class


@settings_class("forecaster.calibration")
class CalibrationSettings:
    """Settings of calibration: the history, and the confidence that a median needs."""

    window: int = setting(
        3000, "number of each symbol's latest bars used to fit the calibration", ge=100
    )
    confidence: float = setting(
        3.0,
        "t statistic above which a median forecast is used: its slope in standard errors "
        "above zero",
        ge=0,
    )
