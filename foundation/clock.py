"""Time as a process lives it: instants, seconds that only increase, and waiting by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, TypeVar

import numpy as np

from foundation.errors import AccessDenied, BrokerError, TradingPaused

log = logging.getLogger(__name__)

Answer = TypeVar("Answer")


def utc_now() -> np.datetime64:
    """This machine's clock, UTC."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")


def monotonic_seconds() -> float:
    """Seconds that only increase, those while the machine slept included where it can tell."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(source)


class InstantSource(Protocol):
    """What tells an instant: `TimeSource`, or a venue."""

    def now(self) -> np.datetime64: ...


@dataclass(frozen=True, slots=True)
class TimeSource:
    """What tells the time, and waits.

    now: the instant, UTC.
    elapsed: seconds that only increase.
    wait: returns after so many seconds.
    """

    now: Callable[[], np.datetime64] = utc_now
    elapsed: Callable[[], float] = monotonic_seconds
    wait: Callable[[float], None] = time.sleep

    def attempts(self, delays: Sequence[float]) -> Iterator[None]:
        """A try after each of these delays, seconds.

        What changes nothing when it is done again is tried so, a read, a poll or a cancellation; an
        order never is.
        """
        for seconds in delays:
            if seconds:
                self.wait(seconds)
            yield

    def retry(
        self,
        delays: Sequence[float],
        ask: Callable[[], Answer],
        retry_on: type[BrokerError] = BrokerError,
    ) -> Answer:
        """What the first of these tries returns that does not fail; the last one may.

        retry_on: failures after which it is tried again.
        """
        *earlier, last = delays
        for _ in self.attempts(earlier):
            try:
                return ask()
            except (AccessDenied, TradingPaused):
                raise
            except retry_on as error:
                log.warning("asked again: %s", error)
        self.wait(last)
        return ask()


SYSTEM_TIME = TimeSource()
