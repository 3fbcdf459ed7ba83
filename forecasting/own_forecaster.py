"""A forecaster of one's own, of whose answers one thing is asked."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from forecasting.forecast import HORIZON, LEVELS, Forecaster, ForecastTable, Progress, silent
from foundation.arrays import Array32, Index, Instants
from foundation.errors import InputError, in_one_line
from foundation.plugin import TARGET, own_code
from trainingdata.bars import Bars
from trainingdata.instants import utc_text

SLOT = "forecaster"  # the group that names one
KEY = f"{SLOT}.{TARGET}"


@dataclass(frozen=True, slots=True)
class OwnForecaster:
    """Answers quantiles as `inner` does, or ends the run with one line.

    inner: the forecaster.
    origin: what named it, for the message.
    """

    inner: Forecaster
    origin: str

    @property
    def name(self) -> str:
        """What reports call it."""
        with own_code(SLOT, self.origin):
            return str(self.inner.name)

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The inner forecaster's table, whose values are checked when they are asked for.

        Raises
        ------
        InputError
            naming the forecaster and what its table or its values lack.
        """
        with own_code(SLOT, self.origin):
            table = self.inner.forecast(_read_only(bars), since, progress)
        if not _is_of(table, bars):
            said = in_one_line(repr(table), 80)
            raise InputError(
                f"{KEY}: {self.origin}: a ForecastTable of the panel is needed, one value a window;"
                f" it answered {said}"
            )

        def answer(rows: Index) -> Array32:
            with own_code(SLOT, self.origin):
                values = np.asarray(table.answer(rows))
            return _quantiles(self.origin, values, table, rows)

        # Moments kept beside the quantiles would not be those that are checked.
        return replace(table, answer=answer, log_moments=None)


def _read_only(bars: Bars) -> Bars:
    """The same bars, in which nothing can be written."""
    view = bars.between(0, len(bars.times))
    for array in (view.times, view.values, view.mask):
        array.setflags(write=False)
    return view


def _is_of(table: object, bars: Bars) -> bool:
    """Whether an answer is a table of these symbols and instants, with whole columns."""
    if not isinstance(table, ForecastTable):
        return False
    count = len(table.windows)
    columns = (table.price, table.persistence, table.worth, table.skill)
    return (
        count > 0
        and table.symbols == bars.symbols
        and np.array_equal(table.clock, bars.times)
        and table.latest.shape == bars.mask.shape
        and all(np.shape(column) == (count,) for column in columns)
        and bool(np.isfinite([table.price, table.persistence, table.skill]).all())
    )


def _quantiles(origin: str, values: np.ndarray, table: ForecastTable, rows: Index) -> Array32:
    """The quantiles [n, H, Q] of windows number `rows` [n], finite prices that do not fall.

    NaN stands for a step without a forecast, at all its levels; the first step has one.
    """
    needed = (
        f"{KEY}: {origin}: quantiles [n, {HORIZON}, {len(LEVELS)}] of closes in USD are needed,"
        " finite, above zero and not falling along the levels"
    )
    if values.shape != (len(rows), HORIZON, len(LEVELS)) or values.dtype.kind not in "biuf":
        raise InputError(f"{needed}; it answered {values.dtype} {list(values.shape)}")
    values = values.astype(np.float32)
    absent = np.isnan(values).all(axis=2)
    absent[:, 0] = False
    with np.errstate(invalid="ignore"):
        sound = np.isfinite(values).all(axis=2) & (values > 0).all(axis=2)
        sound &= (np.diff(values, axis=2) >= 0).all(axis=2)
    if not (sound | absent).all():
        row, step = np.argwhere(~(sound | absent))[0]
        windows = table.windows
        symbol = table.symbols[windows.symbol[rows[row]]]
        at = utc_text(windows.issued_at[rows[row]])
        said = " ".join(f"{value:g}" for value in values[row, step])
        raise InputError(f"{needed}; it answered {said} for {symbol} at {at}, step {step + 1}")
    return values
