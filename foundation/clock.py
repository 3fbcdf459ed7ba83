"""Clocks of a process: current instant, monotonic seconds, and waits."""

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

Response = TypeVar("Response")


def utc_now() -> np.datetime64:
    """Return the UTC time of this machine."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")


def monotonic_seconds() -> float:
    """Return the seconds of a monotonic clock, including sleep if the system supports it."""
    source = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(source)


class InstantSource(Protocol):
    """Protocol of objects that return the current instant, such as a `TimeSource` or a venue."""

    def now(self) -> np.datetime64: ...


@dataclass(frozen=True, slots=True)
class TimeSource:
    """A clock: the current instant, monotonic seconds, and waits.

    now: function that returns the current instant, UTC.
    monotonic: function that returns monotonic seconds.
    wait: function that waits for a number of seconds.
    """

    now: Callable[[], np.datetime64] = utc_now
    monotonic: Callable[[], float] = monotonic_seconds
    wait: Callable[[float], None] = time.sleep

    def delayed_attempts(self, delays: Sequence[float]) -> Iterator[None]:
        """Wait for each delay in turn, and yield after each wait.

        Use this only to repeat idempotent requests: a read, a poll or a cancellation, never an
        order.

        delays: seconds.
        """
        for seconds in delays:
            if seconds:
                self.wait(seconds)
            yield

    def retry(
        self,
        delays: Sequence[float],
        request: Callable[[], Response],
        retry_on: type[BrokerError] = BrokerError,
    ) -> Response:
        """Send a request at most once per delay until it succeeds; return its result.

        If all attempts fail, raise the last error. `AccessDenied` and `TradingPaused` are raised at
        once, because a retry would fail, too.

        delays: seconds before each attempt.
        request: the request.
        retry_on: errors after which the request is repeated.
        """
        *earlier, last = delays
        for _ in self.delayed_attempts(earlier):
            try:
                return request()
            except (AccessDenied, TradingPaused):
                raise
            except retry_on as error:
                log.warning("request failed, retrying: %s", error)
        self.wait(last)
        return request()


SYSTEM_TIME = TimeSource()
