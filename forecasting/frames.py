"""Forecasts of a data frame: closes and covariates in, quantiles out, without a file.

The answers are those of the library's `Chronos2Pipeline.predict_df` for the same rows, sorted along
the levels. They are the model's own: calibration needs a history of forecasts, which a frame is
not. N symbols, H steps, K levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from forecasting.chronos2.checkpoint import SHIPPED, checkpoint
from forecasting.chronos2.profile import Device, Dtype, Profile, whole_number
from forecasting.forecast import HORIZON, LEVELS, Progress, at_levels, silent
from forecasting.frame_clock import Clock
from forecasting.frame_series import CALENDAR, FrameReading, FrameSeries
from foundation.arrays import Array32
from foundation.errors import InputError, none_of
from trainingdata.instants import Unzoned

if TYPE_CHECKING:
    import pandas as pd

Shape = Literal["long", "wide"]
MOST_STEPS = 10_000  # a year of hours: whoever asks for more means something else


def predict_df(
    df: pd.DataFrame,
    *,
    future_df: pd.DataFrame | None = None,
    covariates: Sequence[str] = (),
    calendar: Sequence[str] = (),
    prediction_length: int = HORIZON,
    quantile_levels: Sequence[float] = LEVELS,
    context_length: int | None = None,
    model: str | Path | None = None,
    zone: str | None = None,
    clock: Clock = "auto",
    skip_gaps: bool = False,
    shape: Shape = "long",
    device: Device = "auto",
    dtype: Dtype = "fp32",
    progress: Progress = silent,
) -> pd.DataFrame:
    """Forecast every symbol of a data frame, from its last row on.

    With another number of steps step 1 answers otherwise: Chronos-2's attention over
    the future runs both ways. Here, as in the library, `prediction_length` steps are computed;
    `Forecaster` always computes 24.

    Parameters
    ----------
    df
        rows with the columns symbol, timestamp and close, in any order; other columns are not read
        unless they are named. A close may be any number, 0 and below too: no logarithm is taken,
        and a spread or a temperature is forecast like a price. Timestamps of a symbol keep a
        clock: regular (minutes, hours, days, weeks), or the exchange's (bars of its sessions, or a
        bar a session). They have a zone, or `zone` says which. A bar may be stamped with its start
        or its end; the answer is likewise.
    future_df
        symbol, timestamp and columns of `df` whose values are known at the steps ahead, a row for
        each. Rows of other times are not read.
    covariates
        further columns of `df`, known up to its last row.
    calendar
        covariates made of the timestamps: hour, weekday (Monday is 0), day of the month, month; on
        the clock of `zone`, else of the column's zone, else UTC.
    prediction_length
        H, 1 … 10,000. More than the model answers at once is the library's work, which feeds
        quantiles back: slow, and worse with every round.
    quantile_levels
        within 0.01 … 0.99; linear between the model's 21.
    context_length
        rows of a symbol that are read, at most; none for as many as the model takes.
    model
        a folder (`config.json` and safetensors) or a hub id; none is the shipped small one. That
        has learned from prices alone: it computes with covariates, and they are worth nothing to
        it. `amazon/chronos-2` has learned from them.
    zone
        of timestamps without one, as America/New_York, and of days.
    clock
        `regular` or `exchange` says which; `auto` takes the one without gaps, and the regular one
        where both fit (bars of a single session).
    skip_gaps
        whether rows that a clock has and the frame has not are passed over, which is refused
        otherwise.
    shape
        `long`: a row a level, in columns level and value. `wide`: a column a level.
    device
        auto, cpu, cuda or cuda:N.
    dtype
        fp32, tf32 (CUDA) or bf16; where the library computes it is fp32.
    progress
        is told of every pass.

    Returns
    -------
    pd.DataFrame
        symbol, issued_at (the last timestamp), step, target_at and the levels, by symbol as they
        appear in `df`, step and level.

    Raises
    ------
    InputError
        naming the setting, or the frame, the symbol, the row and what is wrong with it.
    """
    profile = Profile(None if model is None else str(model), device=device, dtype=dtype)
    model_at = checkpoint(str(profile.model or SHIPPED))
    context = model_at.context if context_length is None else context_length
    context = whole_number("context_length", context, 3, model_at.context)
    steps = whole_number("prediction_length", prediction_length, 1, MOST_STEPS)
    levels = _levels(quantile_levels)
    _refuse_other("clock", clock, get_args(Clock))
    _refuse_other("shape", shape, get_args(Shape))
    for name in _names(calendar):
        _refuse_other("calendar", name, tuple(CALENDAR))
    reading = FrameReading(
        covariates=_names(covariates),
        calendar=_names(calendar),
        steps=steps,
        context=context,
        unzoned=Unzoned(zone, "zone"),
        clock=clock,
        skip_gaps=skip_gaps,
    )
    series = reading.series(df, future_df)

    from forecasting.chronos2.covariates import group_quantiles
    from forecasting.chronos2.engine import engine

    # Frames have few rows of any number of shapes: a graph of each would take longer than they do,
    # and a pass is as large as what is asked for.
    contexts = [one.values for one in series]
    longest = max(context.shape[1] for context in contexts)
    eager = replace(profile, context_length=longest, compile=False)
    by = engine(model_at, eager, None, steps)
    values = group_quantiles(by, contexts, [one.future for one in series], progress)
    return _table(series, at_levels(values, levels), levels, shape)


def _levels(quantile_levels: Sequence[float]) -> tuple[float, ...]:
    try:
        levels = tuple(round(float(level), 6) for level in quantile_levels)
    except (TypeError, ValueError):
        raise InputError(f"quantile_levels: {quantile_levels!r} are no numbers") from None
    if not levels or len(set(levels)) < len(levels):
        raise InputError(f"quantile_levels: {list(levels)} are none, or one is there twice")
    for level in levels:
        if not LEVELS[0] <= level <= LEVELS[-1]:
            raise InputError(
                f"quantile_levels: {level} is outside the model's levels {LEVELS[0]} … {LEVELS[-1]}"
            )
    return levels


def _names(words: Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) else tuple(words)


def _refuse_other(name: str, value: str, words: Sequence[str]) -> None:
    if value not in words:
        raise none_of(name, value, words)


def _table(
    series: Sequence[FrameSeries], values: Array32, levels: Sequence[float], shape: Shape
) -> pd.DataFrame:
    """Rows of quantiles [N, H, K]."""
    import pandas as pd

    count, steps, width = values.shape
    each = width if shape == "long" else 1
    issued = pd.DatetimeIndex([one.issued_at for one in series], tz="UTC")
    target = pd.DatetimeIndex(np.concatenate([one.target_at for one in series]), tz="UTC")
    columns: dict[str, Any] = {
        "symbol": np.repeat([one.symbol for one in series], steps * each),
        "issued_at": issued.repeat(steps * each),
        "step": np.tile(np.repeat(np.arange(1, steps + 1), each), count),
        "target_at": target.repeat(each),
    }
    if shape == "long":
        columns["level"] = np.tile(levels, count * steps)
        columns["value"] = values.reshape(-1)
    else:
        by_level = values.reshape(-1, width).T
        columns |= {str(level): column for level, column in zip(levels, by_level, strict=True)}
    return pd.DataFrame(columns)
