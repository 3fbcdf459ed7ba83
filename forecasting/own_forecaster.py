"""A forecaster of one's own: what its table lacks ends the run with one line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecasting.forecast import CHUNK, Forecaster, ForecastTable, Progress, silent
from foundation.arrays import Instants
from foundation.errors import InputError, in_one_line
from foundation.plugin import TARGET, user_code
from trainingdata.bars import Bars

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
        with user_code(SLOT, self.origin):
            return str(self.inner.name)

    def forecast(
        self, bars: Bars, since: np.datetime64 | Instants, progress: Progress = silent
    ) -> ForecastTable:
        """The inner forecaster's table: of these bars, with a first step in every forecast."""
        with user_code(SLOT, self.origin):
            table = self.inner.forecast(_read_only(bars), since, progress)
        sound = isinstance(table, ForecastTable) and len(table.windows) > 0
        if (
            not sound
            or table.symbols != bars.symbols
            or not np.array_equal(table.clock, bars.times)
        ):
            said = in_one_line(repr(table), 80)
            raise InputError(
                f"{KEY}: {self.origin}: a ForecastTable of the panel is needed, with a forecast; it"
                f" answered {said}"
            )
        with user_code(SLOT, self.origin):
            table.refuse_unsound(0.0)
        for first in range(0, len(table.windows), CHUNK):
            if np.isnan(table.quantiles[first : first + CHUNK][:, 0]).any():
                raise InputError(f"{KEY}: {self.origin}: a forecast has no first step")
        return table


def _read_only(bars: Bars) -> Bars:
    """The same bars, in which nothing can be written."""
    view = bars.between(0, len(bars.times))
    for array in (view.times, view.values, view.mask):
        array.setflags(write=False)
    return view
