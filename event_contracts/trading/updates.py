"""Ticks of markets on their way to who decides: one waits for each market, the newest."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from event_contracts.trading.observation import ROOT_MEAN
from event_contracts.trading.records import Record
from foundation.errors import InputError

HISTORY = ROOT_MEAN + 1  # ticks of a market that features look back on


@dataclass(frozen=True, slots=True)
class MarketSpan:
    """The equal steps in which a market is shown.

    begins: UTC, of row 0.
    interval: between rows, above 0.
    rows: from the first one to settlement's, both included, at least 2.
    """

    begins: np.datetime64
    interval: np.timedelta64
    rows: int

    def __post_init__(self) -> None:
        if not self.interval > np.timedelta64(0, "ns"):
            raise InputError(f"span: an interval of {self.interval} is not above 0")
        if self.rows < 2:
            raise InputError(f"span: {self.rows} rows, a tick and a settlement at least")

    def row(self, at: np.datetime64) -> int:
        """The row that is shown at an instant; below 0 before the first."""
        return int((at - self.begins) // self.interval)


@dataclass(frozen=True, eq=False, slots=True)
class MarketUpdate:
    """A market as it is shown at an instant.

    market: its ticker.
    at: UTC, a whole number of intervals after its span began.
    tick: a row of TICK.
    """

    market: str
    at: np.datetime64
    tick: Record = field(repr=False)


class UpdateQueue:
    """Updates of at most so many markets, taken market by market, who waits longest first.

    A newer tick of a market takes the place of one that waits: the older one is still shown, as a
    feature's past, and no longer decided on. Safe from any thread.

    capacity: markets that wait at most, at least 1; one more drops what has waited longest.
    dropped: updates that were never handed out to be decided on.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise InputError(f"capacity: {capacity} is below 1")
        self.dropped = 0
        self._capacity = capacity
        self._waiting: dict[str, deque[MarketUpdate]] = {}
        self._ended = False
        self._changed = threading.Condition()

    def put(self, update: MarketUpdate) -> None:
        """Let an update wait; never blocks."""
        with self._changed:
            ticks = self._waiting.get(update.market)
            if ticks is not None:
                self.dropped += 1
                ticks.append(update)
            else:
                if len(self._waiting) == self._capacity:
                    oldest = next(iter(self._waiting))
                    self._waiting.pop(oldest)
                    self.dropped += 1
                self._waiting[update.market] = deque([update], maxlen=HISTORY)
            self._changed.notify()

    def take(self, seconds: float | None = 0.0) -> tuple[MarketUpdate, ...]:
        """The ticks of the market that has waited longest, oldest first; the last is decided on.

        seconds: to wait where none does; none waits until one comes. Empty where none came, and
            once the queue has ended and nothing waits.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._ended, timeout=seconds)
            if not self._waiting:
                return ()
            return tuple(self._waiting.pop(next(iter(self._waiting))))

    @property
    def has_ended(self) -> bool:
        """Whether `end` was called and everything was taken."""
        with self._changed:
            return self._ended and not self._waiting

    def end(self) -> None:
        """Let nobody wait for further updates."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
