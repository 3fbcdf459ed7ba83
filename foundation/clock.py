"""Time as a process lives it: instants, seconds that only increase, and waiting by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import numpy as np

from foundation.errors import AccessRefused, BrokerError, TradingPaused

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def system_clock() -> np.datetime64:
    """This machine's clock, UTC."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")


def elapsed_seconds() -> float:
    """Seconds that only increase, those while the machine slept included where it can tell."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(source)


class Clock(Protocol):
    """What tells an instant: `Time`, or a venue."""

    def now(self) -> np.datetime64: ...


@dataclass(frozen=True, slots=True)
class Time:
    """What tells the time, and waits.

    now: the instant, UTC.
    elapsed: seconds that only increase.
    wait: returns after so many seconds.
    """

    now: Callable[[], np.datetime64] = system_clock
    elapsed: Callable[[], float] = elapsed_seconds
    wait: Callable[[float], None] = time.sleep

    def tries(self, delays: Sequence[float]) -> Iterator[None]:
        """A try after each of these delays, seconds.

        What changes nothing when it is done again is tried so, a read, a poll or a cancellation; an
        order never is.
        """
        for seconds in delays:
            if seconds:
                self.wait(seconds)
            yield

    def tried(
        self,
        delays: Sequence[float],
        ask: Callable[[], Answer],
        passing: type[BrokerError] = BrokerError,
    ) -> Answer:
        """What the first of these tries returns that does not fail; the last one may.

        passing: failures after which it is tried again.
        """
        *earlier, last = delays
        for _ in self.tries(earlier):
            try:
                return ask()
            except (AccessRefused, TradingPaused):
                raise
            except passing as error:
                log.warning("asked again: %s", error)
        self.wait(last)
        return ask()


OURS = Time()
