"""Which forecaster a run uses, from configuration: the keys of `configs/forecaster/*.yaml`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from forecasting.baseline import Historical, Oracle, RandomWalk
from forecasting.calibration.forecaster import CalibratedForecaster, CalibrationSettings
from forecasting.chronos2.augmentation import Augmentation
from forecasting.chronos2.cached import CachedForecaster
from forecasting.chronos2.forecaster import Chronos2Forecaster, Group
from forecasting.chronos2.profile import Compile, Device, Dtype, Profile, read_symbol_settings
from forecasting.forecast import Forecaster
from forecasting.store import DEFAULT

PER_SYMBOL = (
    Path(__file__).resolve().parent.parent / "configs" / "preaugstrategies" / "chronos2" / "hourly"
)


@dataclass(frozen=True, slots=True)
class ForecasterSettings:
    """kind: which forecaster; the rest are its arguments, where it has them. ewma and mix are
    random walks with EWMA variance, half of it plain in a mix.

    calibrated: corrected by what came true, per-symbol settings read; without it the raw model on
    the last `context_length` closes. cache: folder its forecasts are kept in, none to keep nothing.
    per_symbol: folder of per-symbol settings, none for the project's own.
    """

    kind: Literal["chronos2", "ewma", "mix", "historical", "garch", "oracle"] = "chronos2"
    model: str | None = None
    context_length: int = 100
    augmentation: Augmentation = "none"
    batch_size: int | None = None
    device: Device = "auto"
    dtype: Dtype = "fp32"
    compile: Compile = "auto"
    group: Group = "none"
    cache: str | None = str(DEFAULT)
    per_symbol: str | None = None
    calibrated: bool = True
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)

    def build(self, symbols: Sequence[str]) -> Forecaster:
        """The forecaster itself, for these symbols."""
        raw = self._raw(symbols)
        return CalibratedForecaster(raw, self.calibration) if self.calibrated else raw

    def _raw(self, symbols: Sequence[str]) -> Forecaster:
        if self.kind == "ewma":
            return RandomWalk(context_length=self.context_length)
        if self.kind == "mix":
            return RandomWalk(context_length=self.context_length, plain=0.5)
        if self.kind == "historical":
            return Historical(context_length=self.context_length)
        if self.kind == "garch":
            from forecasting.garch import Garch

            return Garch()
        if self.kind == "oracle":
            return Oracle(RandomWalk(context_length=self.context_length))
        own = {}
        if self.calibrated:
            folder = PER_SYMBOL if self.per_symbol is None else Path(self.per_symbol).expanduser()
            own = read_symbol_settings(folder, symbols)
        profile = Profile(
            self.model,
            self.context_length,
            self.augmentation,
            self.device,
            self.dtype,
            self.compile,
        )
        forecaster = Chronos2Forecaster(profile, self.batch_size, self.group, own)
        return (
            forecaster
            if self.cache is None
            else CachedForecaster(forecaster, Path(self.cache).expanduser())
        )
