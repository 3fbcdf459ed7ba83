"""Connection to one venue: the SDK's client, request errors, and the venue's clock."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np

from execution.alpaca.fields import AccountEntry, ClockEntry, parse_cash
from execution.brokers import CLOCK_TOLERANCE
from foundation.clock import SYSTEM_TIME, TimeSource
from foundation.errors import BrokerError, InvalidResponse, invalid_choice_error
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings, translate_venue_errors
from trainingdata.feed.fields import OptionalField, RequiredField, as_mapping

log = logging.getLogger(__name__)

JsonObject = Mapping[str, Any]
FieldValue = TypeVar("FieldValue")

ALPACA_BROKER_NAME = "alpaca"  # registered name of the broker
NOT_FOUND_STATUS = 404
ZERO_DURATION = np.timedelta64(0, "ns")
MAX_IN_SYNC_CLOCK_LAG = np.timedelta64(1, "s")  # a clock with a smaller lag keeps pace with ours
# A lagging venue clock is accepted again once it has kept pace with our clock for this long.
CLOCK_RECOVERY_SECONDS = 60.0
# Largest lag of the venue's clock, by our clock, since it was last on time.
MAX_CLOCK_LAG = np.timedelta64(300, "s")


def require_alpaca(settings: BrokerSettings) -> None:
    """Check that the settings name Alpaca, the only broker that the caller supports.

    Raises
    ------
    InputError
        for another broker.
    """
    if settings.name != ALPACA_BROKER_NAME:
        raise invalid_choice_error("broker.name", settings.name, (ALPACA_BROKER_NAME,))


class VenueConnection:
    """HTTP connection to a venue, which also tracks the venue's clock.

    client: the SDK's client, on a transport that retries only reads.
    unreadable_activities: descriptions of activities that the last query could not read.
    time: local clock that measures waits and extrapolates the venue's time.
    """

    def __init__(
        self, settings: BrokerSettings, keys: ApiKeys, time: TimeSource = SYSTEM_TIME
    ) -> None:
        from alpaca.trading.client import TradingClient

        require_alpaca(settings)
        self._settings = settings
        self._keys = keys
        self.time = time
        self.unreadable_activities: tuple[str, ...] = ()
        self._read_clock: tuple[np.datetime64, float] | None = None
        self._on_time: tuple[np.datetime64, float] | None = None
        self._slow: tuple[np.datetime64, float] | None = None
        raw = TradingClient(
            keys.key,
            keys.secret,
            paper=settings.paper,
            raw_data=True,
            url_override=settings.address,
        )
        self.client = settings.install_transport(raw)

    def translate_errors(self, subject: str) -> AbstractContextManager[None]:
        """Return a context manager that turns a failed request into a one-line error."""
        return translate_venue_errors(subject, self._settings, self._keys)

    def now(self) -> np.datetime64:
        with self.translate_errors("the clock"):
            return self.record_clock(self.client.get_clock())

    def record_clock(self, clock: JsonObject) -> np.datetime64:
        """Return the time in a response to /clock, and base later estimates of the time on it.

        If the time is ahead of our estimate, or earlier than the time last read, the clock is read
        a second time. The second time is accepted if it confirms the first, or agrees with our
        estimate.

        Raises
        ------
        InvalidResponse
            if the second reading neither confirms the first nor agrees with our estimate, or if the
            clock lags too far.
        """
        at = ClockEntry.timestamp.read(as_mapping(clock))
        if self._is_clock_jump(at):
            first, at = at, ClockEntry.timestamp.read(as_mapping(self.client.get_clock()))
            # The clock of a practice server may run faster.
            agree = at >= first - CLOCK_TOLERANCE and (
                at <= first + CLOCK_TOLERANCE or at > self.estimated_now()
            )
            if not agree and self._is_clock_jump(at):
                raise InvalidResponse(f"two successive readings disagree: {first}, then {at}")
            if agree:
                log.info("the venue's clock was set to %s", at)
            self._on_time = None
        self._refuse_slow_clock(at)
        self._read_clock = (at, self.time.monotonic())
        return at

    def _refuse_slow_clock(self, at: np.datetime64) -> None:
        """Reject a venue clock that has fallen too far behind since it was last on time.

        The lag is measured by this machine's clock. A lagging clock is accepted again once it has
        kept pace with this machine's clock for a minute.
        """
        seconds = self.time.monotonic()
        if (
            self._on_time is None
            or (behind := _extrapolate_clock(self._on_time, seconds) - at) <= ZERO_DURATION
        ):
            self._on_time, self._slow = (at, seconds), None
        elif behind > MAX_CLOCK_LAG and not self._settings.is_loopback:
            # If our own clock has jumped, the venue's keeps pace with it from then on.
            if self._has_kept_pace(at, seconds):
                self._on_time, self._slow = (at, seconds), None
                return
            seconds_behind = behind.astype("timedelta64[s]").astype(int)
            raise InvalidResponse(
                f"the clock shows {at} and lags this machine's clock by {seconds_behind} s since it"
                " was last on time"
            )

    def _has_kept_pace(self, at: np.datetime64, seconds: float) -> bool:
        """Return whether a lagging venue clock has kept pace with our clock for a minute."""
        since = self._slow
        if since is not None and seconds - since[1] < CLOCK_RECOVERY_SECONDS:
            return False
        self._slow = (at, seconds)
        return since is not None and bool(
            _extrapolate_clock(since, seconds) - at < MAX_IN_SYNC_CLOCK_LAG
        )

    def _is_clock_jump(self, at: np.datetime64) -> bool:
        """Return whether a clock reading is ahead of our estimate, or before the last reading."""
        if self._read_clock is None:
            return False
        return bool(
            at > self.estimated_now() + CLOCK_TOLERANCE
            or at < self._read_clock[0] - CLOCK_TOLERANCE
        )

    def estimated_now(self) -> np.datetime64:
        """Return an estimate of the venue's time; only the first call reads the venue's clock."""
        if self._read_clock is None:
            return self.now()
        return _extrapolate_clock(self._read_clock, self.time.monotonic())

    def now_or_estimate(self) -> np.datetime64:
        """Return the venue's time, or an estimate of it if the venue does not respond."""
        try:
            return self.now()
        except BrokerError as error:
            log.warning("%s", error)
        return self.estimated_now()

    def get_or_none(
        self, subject: str, path: str, query: dict[str, str] | None = None
    ) -> JsonObject | None:
        """Send a GET request for a path, and return the response; None for status 404."""
        from alpaca.common.exceptions import APIError

        with self.translate_errors(subject):
            try:
                answer = self.client.get(path, query)
            except APIError as error:
                if error.status_code != NOT_FOUND_STATUS:
                    raise
                return None
            return as_mapping(answer)

    def read_account_field(
        self, field: RequiredField[FieldValue] | OptionalField[FieldValue]
    ) -> FieldValue:
        with self.translate_errors("the account"):
            return field.read(as_mapping(self.client.get_account()))

    def account_id(self) -> str:
        return self.read_account_field(AccountEntry.id)

    def cash(self) -> Decimal:
        """Return the account's cash, USD; below 0 for borrowed cash."""
        with self.translate_errors("the account"):
            return parse_cash(as_mapping(self.client.get_account()))

    def next_close(self) -> np.datetime64 | None:
        """Return the stock market's next close as the venue reports it; None if it reports none."""
        with self.translate_errors("the clock"):
            clock = as_mapping(self.client.get_clock())
            self.record_clock(clock)
            return ClockEntry.next_close.read(clock)


def _extrapolate_clock(reading: tuple[np.datetime64, float], seconds: float) -> np.datetime64:
    """Return an estimate of the venue's time: an earlier reading plus the local time since then.

    reading: venue time that was read, and the local time in seconds at which it was read.
    seconds: present local time.
    """
    at, read = reading
    return at + np.timedelta64(round((seconds - read) * 1e9), "ns")
