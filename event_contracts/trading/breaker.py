"""Whether a market may be decided on: not too soon after the last time, nor while it fails."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foundation.errors import refuse_outside


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """How often a market is decided on, and when it is left alone.

    throttle: seconds between two decisions on a market, 0 … 86,400.
    failures: in a row, after which a market is left alone, 1 … 1000.
    rest: seconds for which it is, 1 … 86,400.
    """

    throttle: float = 0.0
    failures: int = 3
    rest: float = 300.0

    def __post_init__(self) -> None:
        refuse_outside(self, "breaker", throttle=(0, 86_400), failures=(1, 1000), rest=(1, 86_400))


@dataclass(slots=True)
class Breaker:
    """One market's; every instant is that of an update.

    settings: its bounds.
    failed: failures in a row.
    """

    settings: BreakerSettings
    failed: int = 0
    _decided_at: np.datetime64 | None = None
    _rests_until: np.datetime64 | None = None

    def refusal(self, at: np.datetime64) -> str:
        """Why a market is not decided on at an instant; empty where it may be."""
        if self._rests_until is not None and at < self._rests_until:
            return f"it rests until {self._rests_until}, after {self.failed} failures"
        if self._decided_at is not None:
            again_at = self._decided_at + _seconds(self.settings.throttle)
            if at < again_at:
                return f"it is decided on again at {again_at}"
        return ""

    def decide(self, at: np.datetime64) -> None:
        """Note that the market is decided on at an instant."""
        self._decided_at = at

    def succeed(self) -> None:
        """Note that a decision was carried out."""
        self.failed = 0
        self._rests_until = None

    def fail(self, at: np.datetime64) -> bool:
        """Note that one was not; whether the market is left alone from now on.

        After its rest the market is tried once, and left alone again where that fails.
        """
        self.failed += 1
        if self.failed < self.settings.failures:
            return False
        self._rests_until = at + _seconds(self.settings.rest)
        return True


def _seconds(amount: float) -> np.timedelta64:
    return np.timedelta64(round(amount * 1e9), "ns")
