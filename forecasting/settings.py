"""Settings of forecasters: the keys of `configs/forecaster/*.yaml`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from omegaconf import DictConfig

from forecasting.baseline import Garch, HistoricalQuantiles, Oracle, RandomWalk
from forecasting.calibration.settings import CalibrationSettings
from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import InferenceProfile, RaySettings, read_symbol_settings
from forecasting.file_forecaster import FORECAST_FILE_SUFFIX, FileForecaster
from forecasting.forecast import (
    HORIZON,
    NO_FORECAST,
    WINDOWS_PER_CHUNK,
    Forecaster,
    ForecastTable,
    Progress,
    no_progress,
)
from forecasting.forecast_cache import CALIBRATION_FITS_FOLDER, DEFAULT_CACHE_FOLDER
from foundation.arrays import Instants
from foundation.errors import InputError, format_choices, invalid_choice_error, to_one_line
from foundation.plugin import (
    HYDRA_TARGET_KEY,
    create_plugin,
    format_plugin_call,
    is_plugin,
    load_plugin,
    translate_plugin_errors,
)
from foundation.settings import setting, settings_class, settings_from_config
from trainingdata.bars import Bars
from trainingdata.instruments import normalize_data_symbol
from trainingdata.source import DataSettings
from trainingdata.timeframe import HOURLY, FillTime, Timeframe, TimeframeName

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from forecasting.chronos2.cached_forecaster import Predictor

Baseline = Literal["ewma", "mix", "garch", "historical"]

FORECASTER_GROUP = "forecaster"  # the settings group of a forecaster
FORECASTER_TARGET_KEY = f"{FORECASTER_GROUP}.{HYDRA_TARGET_KEY}"
RANDOM_WALK_KIND = "ewma"  # forecaster of the no-forecast baseline
DEFAULT_SYMBOL_SETTINGS_FOLDER = (
    Path(__file__).resolve().parent.parent / "configs" / "preaugstrategies" / "chronos2" / "hourly"
)


@settings_class("forecaster")
class ForecasterSettings(InferenceProfile):
    """Settings of a forecaster: its kind and the arguments with which it is built."""

    kind: str = setting(
        "chronos2",
        "forecaster, set by forecaster=NAME, or a custom class by _target_; ewma: random walk "
        "with EWMA variance; mix: the same, averaged with the sample variance; none: no forecast, "
        "for strategies on prices",
    )
    arguments: Mapping[str, Any] = setting({}, "arguments of the custom class, by name")
    path: str | None = setting(
        None,
        "file or folder of forecasts, Parquet or CSV, for forecaster=file"
        " (`forecasting.file_forecaster`)",
    )
    batch_size: int | None = setting(
        None,
        "maximum number of windows per forward pass; null: 64 on a CPU, 64 … 16,384 on CUDA by "
        "model, context and free memory",
    )
    cache: str | None = setting(
        str(DEFAULT_CACHE_FOLDER), "folder of cached Chronos-2 forecasts; null: no cache"
    )
    per_symbol: str | None = setting(
        None, "folder of per-symbol settings; null: those of the project"
    )
    calibrated: bool = setting(
        True,
        "true: correct forecasts by past outcomes, and use per-symbol settings; false: the raw "
        "model on `context_length` closes",
    )
    calibration: CalibrationSettings = setting(CalibrationSettings(), "settings of calibration")

    def __post_init__(self) -> None:
        if self.kind not in FORECASTERS and not is_plugin(self.kind):
            raise invalid_choice_error("forecaster.kind", self.kind, FORECASTERS)
        InferenceProfile.__post_init__(self)
        if self.arguments and not is_plugin(self.kind):
            raise InputError(
                f"forecaster.arguments: {self.kind} accepts none; remove them, or name custom code"
                f" with {FORECASTER_TARGET_KEY}"
            )

    @property
    def context_bars(self) -> int:
        """Number of the symbol's bars that a forecast reads; 0 for a file or a custom class."""
        return 0 if self.kind == "file" or is_plugin(self.kind) else self.context_length

    @property
    def symbol_settings_folder(self) -> Path:
        """Folder of per-symbol settings."""
        return (
            DEFAULT_SYMBOL_SETTINGS_FOLDER
            if self.per_symbol is None
            else Path(self.per_symbol).expanduser()
        )

    @property
    def is_cached(self) -> bool:
        """Whether the forecasts are cached on disk."""
        return self.kind == "chronos2" and self.cache is not None

    def build(
        self,
        symbols: Sequence[str],
        predictor: Predictor | None = None,
        fits_folder: Path | None = None,
    ) -> Forecaster:
        """Build the configured forecaster for these symbols.

        predictor: function that computes forecasts missing from the cache; None computes them in
            this process.
        fits_folder: folder that caches the calibration fits of a forecaster whose forecasts are
            not cached; None: no cache.

        Raises InputError for a model, a file or a class that cannot be used.
        """
        from forecasting.calibration.fit_store import FitStore
        from forecasting.calibration.forecaster import CalibratedForecaster
        from forecasting.chronos2.cached_forecaster import CachedForecaster

        raw = self._build_uncalibrated(symbols)
        if isinstance(raw, CachedForecaster) and predictor is not None:
            raw = replace(raw, predictor=predictor)
        if not self.calibrated or self.kind == NO_FORECAST:
            return raw
        folder = raw.calibration_fits_folder if isinstance(raw, CachedForecaster) else fits_folder
        kept = None if folder is None else FitStore(folder)
        return CalibratedForecaster(raw, self.calibration, kept)

    def build_random_walk(self, *, is_calibrated: bool) -> Forecaster:
        """Build `forecaster=ewma` with the context and the calibration of these settings.

        is_calibrated: true to calibrate it; its fits are cached if forecasts are.
        """
        walk = replace(
            self, kind=RANDOM_WALK_KIND, arguments={}, path=None, calibrated=is_calibrated
        )
        folder = Path(self.cache or "").expanduser() / CALIBRATION_FITS_FOLDER
        return walk.build((), fits_folder=folder if self.is_cached else None)

    def check(self) -> None:
        """Check that the configured file, folder, model or custom class can be used.

        A custom class is imported, but only `build` creates an instance of it.

        Raises InputError, which names the setting and its value.
        """
        if is_plugin(self.kind):
            own = load_plugin(FORECASTER_GROUP, self.kind)
            if isinstance(own, type):  # a function's result is checked when it is made
                _require_forecast_method(self.kind, own)
            return
        if self.per_symbol is not None and not self.symbol_settings_folder.is_dir():
            raise InputError(
                f"forecaster.per_symbol: {self.symbol_settings_folder} is not a folder; name an"
                " existing folder"
            )
        self._build_uncalibrated(())

    def _build_uncalibrated(self, symbols: Sequence[str]) -> Forecaster:
        if is_plugin(self.kind):
            make = load_plugin(FORECASTER_GROUP, self.kind)
            made = create_plugin(FORECASTER_GROUP, self.kind, make, self.arguments)
            _require_forecast_method(self.kind, made)
            if not hasattr(made, "name"):
                raise InputError(
                    f"{FORECASTER_TARGET_KEY}: {self.kind} has no name; add an attribute `name`"
                )
            plugin = PluginForecaster(made, format_plugin_call(self.kind, self.arguments))
            if plugin.name == NO_FORECAST:
                raise InputError(
                    f"{FORECASTER_TARGET_KEY}: {self.kind} has the name {NO_FORECAST!r}, which is"
                    " reserved for runs without forecasts; give it another name"
                )
            return plugin
        return FORECASTERS[self.kind](self, symbols)


def _require_forecast_method(name: str, made: object) -> None:
    """Reject a custom class, or the object that a custom function returned, without `forecast`.

    name: name of the class or function, used in the message.
    made: the class or object.
    """
    if not callable(getattr(made, "forecast", None)):
        raise InputError(
            f"{FORECASTER_TARGET_KEY}: {name} is not a forecaster; add a method forecast(bars,"
            " since,"
            " progress) (see `forecasting.forecast.Forecaster`)"
        )


def _build_file_forecaster(settings: ForecasterSettings, symbols: Sequence[str]) -> Forecaster:
    if settings.path is None:
        raise InputError("forecaster.path: not set; set it to a file or folder of forecasts")
    return FileForecaster(Path(settings.path).expanduser())


def _build_chronos2(settings: ForecasterSettings, symbols: Sequence[str]) -> Forecaster:
    per_symbol = {}
    if settings.calibrated:
        per_symbol = read_symbol_settings(settings.symbol_settings_folder, symbols)
    profile = InferenceProfile(
        **{each.name: getattr(settings, each.name) for each in fields(InferenceProfile)}
    )
    forecaster = Chronos2Forecaster(profile, settings.batch_size, per_symbol)
    if settings.cache is None:
        return forecaster
    from forecasting.chronos2.cached_forecaster import CachedForecaster

    return CachedForecaster(forecaster, Path(settings.cache).expanduser())


FORECASTERS: Mapping[str, Callable[[ForecasterSettings, Sequence[str]], Forecaster]] = {
    "chronos2": _build_chronos2,
    "ewma": lambda own, _: RandomWalk(context_length=own.context_length, label="ewma"),
    "mix": lambda own, _: RandomWalk(
        context_length=own.context_length, sample_variance_share=0.5, label="mix"
    ),
    "historical": lambda own, _: HistoricalQuantiles(context_length=own.context_length),
    "garch": lambda own, _: Garch(),
    NO_FORECAST: lambda own, _: RandomWalk(context_length=own.context_length, label=NO_FORECAST),
    "oracle": lambda own, _: Oracle(RandomWalk(context_length=own.context_length)),
    "file": _build_file_forecaster,
}


def format_computation_device(forecaster: Forecaster) -> str:
    """Describe the device that computed forecasts; empty for forecasters without a model.

    forecaster: a forecaster from `ForecasterSettings.build`.
    """
    from forecasting.calibration.forecaster import CalibratedForecaster
    from forecasting.chronos2.cached_forecaster import CachedForecaster

    raw = forecaster.base if isinstance(forecaster, CalibratedForecaster) else forecaster
    model = raw.forecaster if isinstance(raw, CachedForecaster) else raw
    if not isinstance(model, Chronos2Forecaster):
        return ""
    if not model.used_devices:
        return "from the cache"
    return f"on {' and '.join(sorted(model.used_devices))}"


def _refuse_duplicates(words: Sequence[str]) -> None:
    """Reject `symbols` if a symbol occurs twice, in the same or in different spellings."""
    seen: set[str] = set()
    for part in ",".join(words).split(","):
        if not part.strip():
            continue
        symbol = normalize_data_symbol(part)
        if symbol in seen:
            raise InputError(f"symbols: {symbol} is listed twice; remove one of them")
        seen.add(symbol)


@settings_class()
class PanelSettings:
    """Settings of a panel: symbols, date range and forecaster."""

    symbols: tuple[str, ...] = setting((), "symbols; empty: all with bars")
    start: str | None = setting(None, "first New York date, inclusive, or a time with a time zone")
    end: str | None = setting(None, "last New York date, inclusive, or a time with a time zone")
    timeframe: TimeframeName | None = setting(
        None,
        "timeframe of bars and decisions, aggregated from shorter bars; null: daily if the files "
        "are daily, else hourly",
    )
    fill: FillTime = setting(
        "open",
        "fill time of daily stock decisions: the next `open`, or the same session's `close` "
        "auction (decided 15 minutes before, needs intraday bars)",
    )
    data: DataSettings = setting(DataSettings(), "source of bars")
    forecaster: ForecasterSettings = setting(ForecasterSettings(), "forecaster")

    fills_orders = False

    def __post_init__(self) -> None:
        _refuse_duplicates(self.symbols)
        if self.data.execution_bars and not self.fills_orders:
            raise InputError(
                "data.execution_bars: not used by this command, which fills no orders on bars;"
                " remove it"
            )
        if self.timeframe_or_hourly.fills_at_close and self.data.execution_bars:
            raise InputError(
                "data.execution_bars: cannot be combined with fill=close, because finer bars do not"
                " contain the auction price; remove it, or set fill=open"
            )
        if self.timeframe_or_hourly.fills_at_close and self.data.adjustment == "raw":
            raise InputError(
                "fill: close cannot be combined with data.adjustment=raw, because a close-to-close"
                " bar would mix prices before and after a split; set data.adjustment=split or"
                " fill=open"
            )

    @property
    def configured_timeframe(self) -> Timeframe | None:
        """Timeframe of the bar files, from the settings; None if the files determine it."""
        # A fill at the close is for daily bars only: `Timeframe` rejects it for hourly bars.
        named = self.timeframe or (None if self.fill == "open" else HOURLY.name)
        return Timeframe(named, self.fill) if named else None

    @property
    def timeframe_or_hourly(self) -> Timeframe:
        """Timeframe from the settings; hourly if the settings leave it to the bar files."""
        return self.configured_timeframe or HOURLY

    def load_bars(self) -> Bars:
        """Return the panel of bars up to `end`, from files or from the synthetic market."""
        return self.data.load_panel(self.symbols, self.start, self.end, self.configured_timeframe)


def _refuse_no_forecast(forecaster: ForecasterSettings) -> None:
    """Raise `InputError` for forecaster=none in a command whose result is forecasts."""
    if forecaster.kind == NO_FORECAST:
        raise InputError(
            f"forecaster: {NO_FORECAST} makes no forecasts, but this command needs them; name"
            " another forecaster"
        )


@settings_class()
class BatchSettings(PanelSettings):
    """Settings of a batch of forecasts: bars, forecaster and output file."""

    output: str | None = setting(None, "Parquet file of forecasts; null: only the cache is filled")
    launcher: Literal["local", "ray"] = setting(
        "local", "where to compute: `local` in this process, `ray` on a Ray cluster"
    )
    ray: RaySettings = setting(RaySettings(), "Ray cluster and resources per task")

    def __post_init__(self) -> None:
        PanelSettings.__post_init__(self)
        _refuse_no_forecast(self.forecaster)
        if self.output is not None and not self.output.endswith(FORECAST_FILE_SUFFIX):
            raise InputError(
                f"output: {self.output} must end in {FORECAST_FILE_SUFFIX}; change the file name"
            )
        if self.launcher == "ray" and self.forecaster.device.startswith("cuda:"):
            raise InputError(
                f"forecaster.device: {self.forecaster.device} cannot be combined with launcher=ray,"
                " which assigns a GPU to each task; set it to cuda or auto"
            )
        if self.launcher == "ray" and not self.forecaster.is_cached:
            raise InputError(
                "launcher: ray requires cached forecasts, but forecasts of"
                f" {self.forecaster.kind} are not cached; set launcher=local"
            )

    @classmethod
    def from_config(cls, config: DictConfig) -> BatchSettings:
        return settings_from_config(cls, config)


@settings_class()
class EvaluationSettings(PanelSettings):
    """Settings of an evaluation: bars, scored steps and baselines."""

    steps: tuple[int, ...] = setting((1, 2, 3, 6, 12, 24), "forecast steps to score")
    baselines: tuple[Baseline, ...] = setting(
        ("ewma", "mix", "garch", "historical"),
        "baselines to compare with; calibrated if the forecaster is",
    )
    output: str = setting("outputs/evaluation", "output folder of figures and page")

    def __post_init__(self) -> None:
        PanelSettings.__post_init__(self)
        _refuse_no_forecast(self.forecaster)
        wrong = [step for step in self.steps if not 1 <= step <= HORIZON]
        if wrong or not self.steps:
            problem = f"{wrong[0]} is outside 1 … {HORIZON}" if wrong else "the list is empty"
            raise InputError(f"steps: {problem}; choose steps from 1 to {HORIZON}")

    @classmethod
    def from_config(cls, config: DictConfig) -> EvaluationSettings:
        return settings_from_config(cls, config)


@dataclass(frozen=True, slots=True)
class PluginForecaster:
    """A wrapper of a custom forecaster that reports invalid results as one-line errors.

    custom_forecaster: the custom forecaster.
    constructor_call: text of the call that created the forecaster, used in messages.
    """

    custom_forecaster: Forecaster
    constructor_call: str

    @property
    def name(self) -> str:
        with translate_plugin_errors(FORECASTER_GROUP, self.constructor_call):
            return str(self.custom_forecaster.name)

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Return the custom forecaster's table after validating it.

        The table must have the panel's symbols and clock, and every forecast must have a value at
        the first step. The forecaster gets read-only bars, so that it cannot change them. Raises
        InputError for an invalid result.
        """
        with translate_plugin_errors(FORECASTER_GROUP, self.constructor_call):
            table = self.custom_forecaster.forecast(_read_only(bars), since, progress)
        if fault := _find_table_fault(table, bars):
            raise InputError(f"{FORECASTER_TARGET_KEY}: {self.constructor_call} returned {fault}")
        with translate_plugin_errors(FORECASTER_GROUP, self.constructor_call):
            table.check_quantiles(0.0)
        for first in range(0, len(table.windows), WINDOWS_PER_CHUNK):
            if np.isnan(table.quantiles[first : first + WINDOWS_PER_CHUNK][:, 0]).any():
                raise InputError(
                    f"{FORECASTER_TARGET_KEY}: {self.constructor_call} returned a forecast without"
                    " its first step; fill"
                    " in step 1 of every forecast"
                )
        return table


def _find_table_fault(table: object, bars: Bars) -> str:
    """Describe how a custom forecaster's result does not fit the panel; empty if it fits."""
    if not isinstance(table, ForecastTable):
        return f"{to_one_line(repr(table), 80)}; return a ForecastTable"
    if not len(table.windows):
        return "a ForecastTable without forecasts; return at least one forecast"
    if table.symbols != bars.symbols:
        return (
            f"a ForecastTable of {format_choices(table.symbols)}; return one with the panel's"
            f" symbols in their order, {format_choices(bars.symbols)}"
        )
    if not np.array_equal(table.panel_times, bars.times):
        return "a ForecastTable with other instants than the panel's; set panel_times to bars.times"
    return ""


def _read_only(bars: Bars) -> Bars:
    """Return the bars as a panel whose arrays cannot be written."""
    view = bars.slice_rows(0, len(bars.times))
    for array in (view.times, view.values, view.mask):
        array.setflags(write=False)
    return view
