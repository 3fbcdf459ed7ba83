"""Settings of calibration."""

from __future__ import annotations

from foundation.settings import setting, settings_class


@settings_class("forecaster.calibration")
class CalibrationSettings:
    """Settings of calibration: the history, and the confidence that a median needs."""

    window: int = setting(3000, "own bars of each symbol that are learned from", ge=100)
    confidence: float = setting(3.0, "standard errors above zero that a median's slope needs", ge=0)
