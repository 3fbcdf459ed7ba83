"""Ticks of live markets: the top of each book, read at equal steps, until the market has settled.

`GET /markets` reports no trades, so that `sold` and `bought` of these ticks are 0. The estimate of
a tick is the user's probability of YES or, without one, the mid quote, as in recorded sessions. The
probabilities are in a file that another program writes and replaces:

    market,probability,until
    KXHIGHNY-26NOV24-B52,0.62,2026-11-24T12:00:00Z

`probability` is that of YES, `until` the instant at which it expires. The file is read again at
every tick. An unreadable file is alerted, and the previous estimates apply until they expire. With
the mid quote as estimate a policy sees no edge.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from event_contracts.trading.endpoint import KalshiConnection
from event_contracts.trading.listings import (
    MarketListing,
    find_unreadable_reasons,
    read_market_listings,
)
from event_contracts.trading.orders import CONTRACT_PAYOUT_USD
from event_contracts.trading.records import (
    PRICE_UNITS_PER_DOLLAR,
    TICK_DTYPE,
    MarketUpdate,
    Record,
    SamplingSchedule,
)
from execution.live.loop import print_warning
from foundation.errors import InputError, to_one_line
from foundation.notifier import Notifier
from trainingdata.feed.fields import parse_timestamp
from trainingdata.instants import format_utc

log = logging.getLogger(__name__)

ESTIMATE_COLUMNS = ("market", "probability", "until")
ESTIMATES_ALERT_KIND = "estimates"  # kind of the alert
_PRICE_UNITS_PER_CENT = PRICE_UNITS_PER_DOLLAR // 100
_SETTLEMENT_QUOTE_BY_RESULT = {
    "yes": (PRICE_UNITS_PER_DOLLAR - _PRICE_UNITS_PER_CENT, PRICE_UNITS_PER_DOLLAR),
    "no": (0, _PRICE_UNITS_PER_CENT),
}  # quotes of a settlement row


class EstimateFile:
    """Reader of a file with the user's probabilities, which it reads again at every call.

    path: path of the file; None: no estimates.
    notices: notifier that raises an alert while the file is unreadable.
    """

    def __init__(self, path: Path | None, notices: Notifier) -> None:
        self._path = path
        self._notices = notices
        self._estimates = {} if path is None else read_estimates(path)

    def estimates_at(self, at: np.datetime64) -> Mapping[str, float]:
        """Read the file; return the probabilities of YES that are unexpired at `at`, by market.

        If the file is unreadable, those of the previous call are used.
        """
        if self._path is not None:
            try:
                self._estimates = read_estimates(self._path)
                self._notices.reset_alert(ESTIMATES_ALERT_KIND)
            except InputError as error:
                self._notices.alert(ESTIMATES_ALERT_KIND, str(error))
        return {market: chance for market, (chance, until) in self._estimates.items() if at < until}


def read_estimates(path: Path) -> dict[str, tuple[float, np.datetime64]]:
    """Read the user's probabilities; return (probability of YES, expiry instant) by market."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InputError(f"estimates: {path} cannot be read: {why}") from None
    lines = csv.reader(text.splitlines())
    header = [name.strip() for name in next(lines, [])]
    if sorted(header) != sorted(ESTIMATE_COLUMNS):
        shown = to_one_line(",".join(header))
        raise InputError(
            f"{path}: the first line must be {','.join(ESTIMATE_COLUMNS)} in any order, got"
            f" {shown!r}"
        )
    found: dict[str, tuple[float, np.datetime64]] = {}
    for line in lines:
        if not line:
            continue
        try:
            if len(line) != len(header):
                raise InputError(f"expected {len(header)} values, got {len(line)}")
            values = dict(zip(header, (value.strip() for value in line), strict=True))
            market = values["market"]
            if not market:
                raise InputError("market is empty")
            if market in found:
                raise InputError(f"market {market!r} is listed twice; remove one of its lines")
            chance = float(values["probability"])
            if not 0.0 <= chance <= 1.0:
                raise InputError(f"probability {chance} is outside 0 … 1")
            found[market] = chance, _parse_expiry(values["until"])
        except ValueError as error:
            shown = to_one_line(",".join(line))
            raise InputError(
                f"{path}, line {lines.line_num}: {to_one_line(str(error))}: {shown!r}"
            ) from None
    return found


def _parse_expiry(text: str) -> np.datetime64:
    """Parse the column `until`. Raises InputError for a text that is not an instant."""
    try:
        return parse_timestamp(text)
    except ValueError as error:
        raise InputError(f"until is {error}; write it as 2026-11-24T12:00Z") from None


def tick_from_listing(listing: MarketListing) -> Record:
    """Return a market's quote as a tick record, or its settlement row if it has settled."""
    tick = np.zeros(1, TICK_DTYPE)[0]
    if listing.is_settled:
        tick["bid"], tick["ask"] = _SETTLEMENT_QUOTE_BY_RESULT[listing.result]
        tick["estimate"] = float(listing.result == "yes")
        return tick
    bid, ask = listing.quote.yes_bid, listing.quote.yes_ask
    tick["bid"] = int(bid * PRICE_UNITS_PER_DOLLAR)
    tick["ask"] = int(ask * PRICE_UNITS_PER_DOLLAR)
    tick["bid_size"] = int(listing.yes_bid_size) if bid else 0
    tick["ask_size"] = int(listing.yes_ask_size) if ask < CONTRACT_PAYOUT_USD else 0
    tick["estimate"] = float((bid + ask) / 2)
    return tick


@dataclass(eq=False, slots=True)
class MarketSampler:
    """Sampler of the quotes of a fixed set of markets, at equal time steps.

    interval: time between ticks, positive.
    estimates_at: function that returns the user's probabilities of YES at an instant, by ticker.
    schedules: schedules of the followed markets.
    unreadable_reasons: reasons why markets could not be read in the last sample, by ticker.
    """

    connection: KalshiConnection
    markets: tuple[str, ...]
    interval: np.timedelta64
    estimates_at: Callable[[np.datetime64], Mapping[str, float]] = lambda _: {}
    schedules: dict[str, SamplingSchedule] = field(default_factory=dict, init=False)
    unreadable_reasons: dict[str, str] = field(default_factory=dict, init=False)

    def next_tick_after(self, now: np.datetime64) -> np.datetime64:
        """Return the first tick after an instant; ticks are whole intervals since the epoch."""
        epoch = np.datetime64(0, "ns")
        instant: np.datetime64 = epoch + ((now - epoch) // self.interval + 1) * self.interval
        return instant

    def start_schedules(
        self,
        listings: Mapping[str, MarketListing],
        recorded_schedules: Mapping[str, SamplingSchedule],
        now: np.datetime64,
    ) -> None:
        """Set the schedule of each market: the recorded one, or a new one that starts now.

        A market whose trading ends before the next tick is logged and not followed. Raises
        `InputError` if no market is followed.

        recorded_schedules: schedules that an earlier process recorded, by ticker.
        """
        for market, listing in listings.items():
            if schedule := recorded_schedules.get(market) or self.build_schedule(listing, now):
                self.schedules[market] = schedule
            else:
                print_warning(
                    f"{market}: not followed, trading ends at {format_utc(listing.close_time)},"
                    " before the next tick"
                )
        if not self.schedules:
            raise InputError(
                "markets: trading ends before the next tick in all of them; choose open markets"
            )

    def build_schedule(self, listing: MarketListing, now: np.datetime64) -> SamplingSchedule | None:
        """Return a new schedule of a market; its last row is the first one after trading ends.

        Returns None if trading ends before the first tick.
        """
        begins = self.next_tick_after(now)
        steps = -int(-(listing.close_time - begins) // self.interval)
        return SamplingSchedule(begins, self.interval, steps + 1) if steps >= 1 else None

    def read_listings(self) -> dict[str, MarketListing]:
        return read_market_listings(self.connection, self.markets)

    def sample_markets(self, at: np.datetime64) -> list[MarketUpdate]:
        """Read the followed markets and return their ticks at an instant.

        A settled market gets its settlement row and is no longer followed. A market that is not
        active has no tick until it becomes active or settles. A market that settles between YES
        and NO is dropped without a tick, because a session settles at YES or NO. A market that
        cannot be read has no tick, and is added to `unreadable_reasons`.
        """
        updates = []
        own = self.estimates_at(at)
        listings = self.read_listings()
        self.unreadable_reasons = find_unreadable_reasons(listings.values())
        for market, listing in listings.items():
            schedule = self.schedules.get(market)
            if schedule is None:
                continue
            last = schedule.start + (schedule.row_count - 1) * schedule.interval
            tick = tick_from_listing(listing)
            if listing.is_settled:
                updates.append(MarketUpdate(market, last, tick))
                del self.schedules[market]
            elif listing.has_ended:
                log.warning(
                    "%s: no longer followed, it ended with result %r, neither yes nor no",
                    market,
                    listing.result,
                )
                del self.schedules[market]
            elif listing.is_trading and at < last:
                tick["estimate"] = own.get(market, tick["estimate"])
                updates.append(MarketUpdate(market, at, tick))
        return updates
