"""Ticks of live markets: the top of each book, read at equal steps, until the market has settled.

`GET /markets` says no trades: `sold` and `bought` of these ticks are 0. The estimate is one's own
where there is one, and else the middle of the quote, as in recorded sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from event_contracts.trading.connection import Answer, KalshiConnection
from event_contracts.trading.fees import NOTHING
from event_contracts.trading.fields import MarketEntry, a_count
from event_contracts.trading.listings import TRADED, read_markets
from event_contracts.trading.orders import PAYOUT
from event_contracts.trading.records import TICK, WHOLE, Record
from event_contracts.trading.updates import MarketSpan, MarketUpdate
from foundation.errors import InputError
from trainingdata.feed.fields import Needed, Optional, an_instant, words

_CENT = WHOLE // 100
_OUTCOMES = {"yes": (WHOLE - _CENT, WHOLE), "no": (0, _CENT)}  # quotes of a settlement row


class SampledEntry:
    """What is read of a market beside `MarketEntry`."""

    closes = Needed("close_time", an_instant)
    bid_size = Optional("yes_bid_size_fp", a_count, NOTHING)
    ask_size = Optional("yes_ask_size_fp", a_count, NOTHING)
    result = Optional("result", words, "")


@dataclass(frozen=True, eq=False, slots=True)
class Sample:
    """A market as it is listed now.

    trades: whether it takes orders.
    closes: UTC, the end of trading.
    tick: a row of TICK; the settlement row once it is known what came true.
    settled: whether that is known.
    """

    trades: bool
    closes: np.datetime64
    tick: Record
    settled: bool

    @classmethod
    def of(cls, entry: Answer) -> Sample:
        """The market of an entry.

        Raises
        ------
        SenselessAnswer
            naming the field that is missing or makes no sense.
        """
        result = SampledEntry.result.of(entry)
        settled = result in _OUTCOMES
        tick = np.zeros(1, TICK)[0]
        if settled:
            tick["bid"], tick["ask"] = _OUTCOMES[result]
            tick["estimate"] = float(result == "yes")
        else:
            bid = MarketEntry.bid.of(entry)
            # Where nobody offers the venue writes 0 or 1, by the page that one reads.
            ask = MarketEntry.ask.of(entry) or PAYOUT
            tick["bid"] = int(bid * WHOLE)
            tick["ask"] = int(ask * WHOLE)
            tick["bid_size"] = int(SampledEntry.bid_size.of(entry)) if bid else 0
            tick["ask_size"] = int(SampledEntry.ask_size.of(entry)) if ask < PAYOUT else 0
            tick["estimate"] = float((bid + ask) / 2)
        trades = MarketEntry.status.of(entry) == TRADED and not settled
        return cls(trades, SampledEntry.closes.of(entry), tick, settled)


class Sampler:
    """Reads the same markets at equal steps.

    connection: to the venue.
    markets: tickers.
    interval: between ticks, above 0.
    estimates: probabilities of YES that one has of markets at an instant, by ticker.
    spans: the steps in which each market is shown, once `follow` has said them.
    """

    def __init__(
        self,
        connection: KalshiConnection,
        markets: Iterable[str],
        interval: np.timedelta64,
        estimates: Callable[[np.datetime64], Mapping[str, float]] = lambda _: {},
    ) -> None:
        self.spans: dict[str, MarketSpan] = {}
        self._connection = connection
        self._markets = tuple(markets)
        self.interval = interval
        self._estimates = estimates

    def tick_after(self, now: np.datetime64) -> np.datetime64:
        """The first instant after another at which markets are shown: whole steps since 1970."""
        epoch = np.datetime64(0, "ns")
        instant: np.datetime64 = epoch + ((now - epoch) // self.interval + 1) * self.interval
        return instant

    def span(self, market: str, sample: Sample, now: np.datetime64) -> MarketSpan:
        """The steps of a market that is first seen now: the last one settles, after trading ends.

        Raises
        ------
        InputError
            for a market in which trading has ended.
        """
        begins = self.tick_after(now)
        steps = -int(-(sample.closes - begins) // self.interval)
        if steps < 1:
            raise InputError(f"{market}: trading ends at {sample.closes}, before a first tick")
        return MarketSpan(begins, self.interval, steps + 1)

    def read(self) -> dict[str, Sample]:
        """Every market as it is listed now.

        Raises
        ------
        BrokerError
            for a venue that does not answer; `UnknownMarket` where it does not list one of them.
        """
        return read_markets(self._connection, self._markets, Sample.of)

    def sample(self, at: np.datetime64) -> list[MarketUpdate]:
        """What markets that are followed show at an instant; one that has settled, once.

        A market that is not active shows nothing until it is, or settles.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        updates = []
        own = self._estimates(at)
        for market, sample in self.read().items():
            span = self.spans.get(market)
            if span is None:
                continue
            last = span.begins + (span.rows - 1) * span.interval
            if sample.settled:
                updates.append(MarketUpdate(market, last, sample.tick))
                del self.spans[market]
            elif sample.trades and at < last:
                sample.tick["estimate"] = own.get(market, sample.tick["estimate"])
                updates.append(MarketUpdate(market, at, sample.tick))
        return updates
