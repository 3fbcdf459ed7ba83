"""Who computes missing forecasts: this process, or what stands in for it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from forecasting.chronos2.forecaster import Chronos2Forecaster
from forecasting.chronos2.profile import Profile
from forecasting.forecast import HORIZON, LEVELS, Progress
from forecasting.windows import Windows
from foundation.arrays import Array32, Index


@dataclass(frozen=True, eq=False, slots=True)
class Answer:
    """The forecasts of one portion of windows, and what made them.

    rows: [n] numbers of the windows.
    values: [n, H, Q] float32, USD.
    specification: of what has computed them (`Chronos2Forecaster.specification`).
    """

    rows: Index
    values: Array32
    specification: Mapping[str, Any]

    @classmethod
    def empty(cls, specification: Mapping[str, Any]) -> Answer:
        """No forecast: it says what is about to compute the others."""
        values = np.empty((0, HORIZON, len(LEVELS)), dtype=np.float32)
        return cls(np.empty(0, dtype=np.int64), values, specification)


# The first answer is empty. It comes before anything is computed, so that whoever asks can look
# whether what made it has computed these forecasts before. The others come in any order, one a
# portion; whoever stops asking ends the work.
Answers = Callable[
    [Chronos2Forecaster, Windows, Sequence[Index], Profile, Progress],
    Generator[Answer, None, None],
]


def answers_here(
    forecaster: Chronos2Forecaster,
    windows: Windows,
    portions: Sequence[Index],
    profile: Profile,
    progress: Progress,
) -> Generator[Answer, None, None]:
    """Compute portions of windows that share a profile, one after the other, in this process.

    progress: is told how many of all have been computed.
    """
    total = sum(map(len, portions))
    engine = forecaster.engine(profile.for_job(total))
    yield Answer.empty(forecaster.specification(profile, engine))
    values = forecaster.answers(windows, portions, profile, progress, engine)
    for rows, part in zip(portions, values, strict=True):
        yield Answer(rows, part, forecaster.specification(profile, engine))
