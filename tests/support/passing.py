"""Time in tests, which passes where something waits for it, and never else."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from foundation.clock import TimeSource, utc_now

AT_ONCE = TimeSource(wait=lambda seconds: None)
HURRIED = TimeSource(wait=lambda seconds: time.sleep(min(seconds, 0.02)))


@dataclass
class Passing:
    """Seconds that pass by being waited.

    began: the instant at which it stands before; waited: seconds of each wait.
    """

    began: np.datetime64 = field(default_factory=utc_now)
    waited: list[float] = field(default_factory=list)
    on_wait: Callable[[float], None] = lambda seconds: None

    def wait(self, seconds: float) -> None:
        self.waited.append(seconds)
        self.on_wait(seconds)

    def elapsed(self) -> float:
        return float(sum(self.waited))

    def now(self) -> np.datetime64:
        return self.began + np.timedelta64(round(self.elapsed() * 1e9), "ns")

    @property
    def time(self) -> TimeSource:
        return TimeSource(self.now, self.elapsed, self.wait)
