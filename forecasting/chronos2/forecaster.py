"""Chronos-2 forecasts: of the closes in a panel, and jointly of open, high, low and close.

Each close series is its own attention group, so that its forecast does not depend on the other
series in the batch. All 24 steps are always computed.

Dimensions: S symbols, N windows, H steps, Q quantile levels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from forecasting.chronos2.checkpoint import BUNDLED_CHECKPOINT, Checkpoint, find_checkpoint
from forecasting.chronos2.profile import InferenceProfile, SymbolSettings, check_whole_number
from forecasting.forecast import (
    HORIZON,
    LEVELS,
    ForecastTable,
    Progress,
    empty_array,
    interpolate_quantiles,
    no_progress,
)
from forecasting.windows import Windows
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError
from foundation.formatting import format_count
from trainingdata.bars import Bars, check_bars
from trainingdata.instruments import instrument

if TYPE_CHECKING:
    import pandas as pd

    from forecasting.chronos2.engine import Engine

# Version of the computation, incremented when forecasts change by more than rounding: cached
# forecasts of earlier versions are not used.
IMPLEMENTATION_VERSION = 2
OHLC_COLUMNS = ("open", "high", "low", "close")
TIMESTAMP_COLUMNS = (
    "timestamp",
    "datetime",
    "date",
    "time",
)  # names of timestamp columns in users' frames


@dataclass(frozen=True, eq=False, slots=True)
class OhlcForecast:
    """Joint quantile forecast of a symbol's open, high, low and close at each step.

    In a coherent forecast, at every level, low is the smallest of the four values and high the
    largest.

    symbol: symbol as the caller spelled it.
    quantiles: [H, 4, Q] float32 price quantiles in USD.
    """

    symbol: str
    quantiles: Array32

    def quantile(self, q: float) -> pd.DataFrame:
        """Return open, high, low and close at quantile level `q`, one row per step from 1 on.

        Quantiles are interpolated linearly between the model's levels.

        Raises InputError for a level outside the model's range.
        """
        import pandas as pd

        if not LEVELS[0] <= q <= LEVELS[-1]:
            raise InputError(
                f"q: {q} is outside the model's quantile levels {LEVELS[0]} … {LEVELS[-1]}"
            )
        at_level = interpolate_quantiles(self.quantiles, [q])[..., 0]
        steps = pd.RangeIndex(1, len(at_level) + 1, name="step")
        return pd.DataFrame(at_level, columns=list(OHLC_COLUMNS), index=steps)


@dataclass(frozen=True, eq=False, slots=True)
class Chronos2Forecaster:
    """A forecaster that runs a Chronos-2 checkpoint.

    profile: model, context length, pre-augmentation, device, dtype, compilation.
    batch_size: maximum number of windows in a forward pass; None selects 64 on a CPU, and 64 …
        16,384 on CUDA, depending on model, context length and free memory.
    symbol_settings: per-symbol settings that override the profile, by symbol.
    used_devices: devices that have computed forecasts in this process, `cpu` or `cuda:N`.
    """

    profile: InferenceProfile = field(default_factory=InferenceProfile)
    batch_size: int | None = None
    symbol_settings: Mapping[str, SymbolSettings] = field(default_factory=dict)
    used_devices: set[str] = field(default_factory=set, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InputError(f"forecaster.batch_size: {self.batch_size} is below the minimum of 1")
        profiles = {
            self.profile,
            *(self.profile_for_symbol(symbol) for symbol in self.symbol_settings),
        }
        for profile in profiles:
            limit = _checkpoint(profile).max_context
            if profile.context_length > limit:
                length = profile.context_length
                raise InputError(
                    f"forecaster.context_length: {length} exceeds the model's maximum of {limit}"
                )
            if profile.device.startswith("cuda"):
                from forecasting.chronos2.devices import resolve_device

                resolve_device(profile.device)

    @property
    def name(self) -> str:
        return f"chronos2 ({_checkpoint(self.profile).name})"

    def profile_for_symbol(self, symbol: str) -> InferenceProfile:
        """Return the profile of a symbol: the default with the symbol's own settings applied."""
        settings = self.symbol_settings.get(symbol)
        return self.profile if settings is None else settings.apply_to(self.profile)

    def build_specification(
        self, profile: InferenceProfile, engine: Engine | None = None
    ) -> dict[str, str | int | list[float]]:
        """Return all inputs of a profile's forecasts other than bars; they select the cache folder.

        engine: engine that computes the forecasts, whose weights and computation are included;
            None uses the current weights and the planned computation.
        """
        model = _checkpoint(profile)
        specification: dict[str, str | int | list[float]] = {
            "weights": model.digest if engine is None else engine.weights_digest,
            "implementation": f"{IMPLEMENTATION_VERSION}",
            "context_length": profile.context_length,
            "steps": HORIZON,
            "levels": list(LEVELS),
            "dtype": profile.dtype,
            "augmentation": profile.augmentation,
            "group": "none",
        }
        # Forecasts in fp32 differ by rounding alone between machines; shorter formats differ more.
        if profile.dtype != "fp32":
            planned = (
                self._describe_computation(profile)
                if engine is None
                else engine.computation_description
            )
            specification["computed"] = planned
        return specification

    def build_windows(self, bars: Bars, since: np.datetime64 | Instants) -> Windows:
        """Return the input windows of a panel; each symbol's profile gives the context length."""
        lengths = [self.profile_for_symbol(symbol).context_length for symbol in bars.symbols]
        return Windows.from_bars(bars, since, np.array(lengths))

    def load_engine(self, profile: InferenceProfile) -> Engine:
        """Load the engine of a profile, with the checkpoint's current weights."""
        from forecasting.chronos2.engine import load_engine

        found = load_engine(_checkpoint(profile), profile, self.batch_size)
        self.used_devices.add(str(found.device))
        return found

    def predict(
        self,
        windows: Windows,
        rows: Index,
        profile: InferenceProfile,
        progress: Progress = no_progress,
        engine: Engine | None = None,
    ) -> Array32:
        """Return the price quantiles [n, H, Q] in USD of windows that share a profile.

        rows: indices [n] of the windows.
        engine: engine that computes the forecasts; None loads the profile's engine.
        """
        engine = engine or self.load_engine(profile.for_window_count(len(rows)))
        (values,) = engine.forecast_quantiles(
            windows, [rows], profile.augmentation, progress=progress
        )
        return values

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = no_progress
    ) -> ForecastTable:
        """Forecast every symbol at each of its bars from `since` on.

        The forecast at each symbol's last bar before `since` is included.

        since: one instant for all symbols, or one per symbol, [S].
        """
        windows = self.build_windows(bars, since)
        values = empty_array(len(windows), HORIZON, len(LEVELS))
        specifications = []
        for profile, rows in self.group_by_profile(bars.symbols, windows):
            engine = self.load_engine(profile.for_window_count(len(rows)))
            values[rows] = self.predict(windows, rows, profile, progress, engine)
            specifications.append(self.build_specification(profile, engine))
        source = digest_specifications(specifications)
        return ForecastTable.from_quantiles(self.name, bars, windows, values, source_digest=source)

    def group_by_profile(
        self, symbols: tuple[str, ...], windows: Windows
    ) -> list[tuple[InferenceProfile, Index]]:
        """Group windows by profile; return each profile with the indices of its windows."""
        profiles = [self.profile_for_symbol(symbol) for symbol in symbols]
        parts = []
        for profile in dict.fromkeys(profiles):
            members = np.array([item == profile for item in profiles])
            parts.append((profile, np.flatnonzero(members[windows.symbol_index])))
        return parts

    def predict_ohlc(
        self,
        context_df: pd.DataFrame,
        symbol: str,
        prediction_length: int | None = None,
        context_length: int | None = None,
        *,
        coherent: bool = True,
    ) -> OhlcForecast:
        """Forecast open, high, low and close jointly, as one attention group.

        context_df: bars of one symbol in time order, with columns open, high, low and close. The
            last `context_length` rows are the context. Prices must be above 0 and within the range
            of their bar.
        symbol: name of the symbol, in any spelling.
        prediction_length: number of steps, 1 … 24; None uses the symbol's settings, else 1.
        context_length: number of rows in the context, at least 3; None uses the symbol's profile.
        coherent: true replaces, at every level, low by the smallest of the four values and high by
            the largest; false returns the model's raw quantiles.

        Raises InputError for invalid lengths or bars, and if timestamps in the index or a column
        show that the newest row comes first.
        """
        settings = self.symbol_settings.get(instrument(symbol).symbol)
        profile = self.profile_for_symbol(instrument(symbol).symbol)
        steps = prediction_length
        if steps is None:
            steps = (settings and settings.prediction_length) or 1
        steps = check_whole_number("prediction_length", steps, 1, HORIZON)
        length = profile.context_length if context_length is None else context_length
        length = check_whole_number("context_length", length, 3, _checkpoint(profile).max_context)
        closes = tuple(extract_ohlc_context(context_df, symbol, length))
        four = np.arange(len(OHLC_COLUMNS))
        windows = Windows(
            closes=closes,
            window_lengths=np.full(4, length),
            symbol_index=four,
            last_bar_index=np.full(4, length - 1),
            issued_at=np.full(4, np.datetime64("NaT", "ns")),
        )
        # All 24 steps are computed: another number would change step 1. The forecast is not cached,
        # so it needs no specification.
        engine = self._load_small_batch_engine(profile)
        kind = profile.augmentation
        (joint,) = engine.forecast_quantiles(
            windows, [four], kind, group=len(four), progress=no_progress
        )
        if coherent:
            # The levels of four series need not be coherent: at each, low becomes the smallest of
            # the four and high the largest. Open and close are unchanged. joint is [4, H, Q].
            low = joint.min(axis=0)
            high = joint.max(axis=0)
            joint[OHLC_COLUMNS.index("low")] = low
            joint[OHLC_COLUMNS.index("high")] = high
        return OhlcForecast(symbol, joint.transpose(1, 0, 2)[:steps])

    def _load_small_batch_engine(self, profile: InferenceProfile) -> Engine:
        from forecasting.chronos2.engine import SMALL_CALL_BATCH_SIZES, load_engine

        if profile.compile == "auto":
            profile = replace(profile, compile=False)
        return load_engine(
            _checkpoint(profile),
            profile,
            min(self.batch_size or SMALL_CALL_BATCH_SIZES[0], SMALL_CALL_BATCH_SIZES[0]),
        )

    def _describe_computation(self, profile: InferenceProfile) -> str:
        from forecasting.chronos2.engine import format_planned_computation

        return format_planned_computation(_checkpoint(profile), profile, self.batch_size)


def digest_specifications(specifications: Iterable[Mapping[str, Any]]) -> str:
    """Return a digest of the specifications of a table's forecasts.

    specifications: one specification for each profile.
    """
    return hashlib.sha256(json.dumps(list(specifications), sort_keys=True).encode()).hexdigest()


def _checkpoint(profile: InferenceProfile) -> Checkpoint:
    return find_checkpoint(str(profile.model or BUNDLED_CHECKPOINT))


def extract_ohlc_context(
    context_df: pd.DataFrame, symbol: str, length: int
) -> list[npt.NDArray[np.float64]]:
    """Return open, high, low and close of the last `length` rows, one array [length] each.

    Raises InputError if the frame lacks columns or rows, or has invalid prices.
    """
    import pandas as pd

    place = f"context_df of {symbol}"
    if not isinstance(context_df, pd.DataFrame):
        raise InputError(f"{place}: expected a pandas DataFrame, got {type(context_df).__name__}")
    frame = context_df.rename(columns=lambda name: str(name).lower())
    names = list(frame.columns)
    for name in OHLC_COLUMNS:
        if name not in names:
            raise InputError(f"{place}: column {name!r} is missing")
        if names.count(name) > 1:
            raise InputError(f"{place}: column {name!r} appears twice; keep one")
    if len(frame) < length:
        raise InputError(
            f"{place}: has {format_count(len(frame), 'bar')}, but {length} are required"
        )
    _refuse_newest_first(frame, place)
    try:
        context = frame[list(OHLC_COLUMNS)].to_numpy(dtype=np.float64)[-length:]
    except (TypeError, ValueError) as error:
        raise InputError(f"{place}: every price must be a number") from error
    if not np.isfinite(context).all():
        row, column = np.argwhere(~np.isfinite(context))[0]
        last = f"last {format_count(length, 'bar')}: row {row + 1}"
        fault = f"price {OHLC_COLUMNS[column]} is {context[row, column]:g}, not a finite number"
        raise InputError(f"{place}: {last}: {fault}")
    order = np.arange(length).astype("datetime64[ns]")
    bars = np.column_stack([context, np.zeros(length)])
    check_bars(order, bars, f"{place}: last {format_count(length, 'bar')}")
    return list(np.ascontiguousarray(context.T))


def _refuse_newest_first(frame: pd.DataFrame, place: str) -> None:
    """Reject a frame whose rows are in reverse time order.

    The order is judged by timestamps in the index or in a column.
    """
    import pandas as pd

    known = [frame[name] for name in TIMESTAMP_COLUMNS if list(frame.columns).count(name) == 1]
    if isinstance(frame.index, pd.DatetimeIndex):
        known.insert(0, frame.index.to_series())
    # Stamps without a zone repeat an hour when clocks go back: only the ends are compared.
    for stamps in known[:1]:
        style = None if stamps.dtype.kind in "iuf" else "ISO8601"
        ends = pd.to_datetime(stamps.iloc[[0, -1]], utc=True, errors="coerce", format=style)
        if ends.iloc[1] < ends.iloc[0]:
            raise InputError(f"{place}: rows are newest first; sort them by time")
