"""One pass of a live job: read the account, read the bars, decide, send."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from execution.broker import Asset, Broker, place
from execution.decision import Decision
from execution.orders import Account, Fill
from execution.settings import TradingSettings
from execution.trader import Trader
from trainingdata.bars import Bars, closes_of
from trainingdata.instruments import Instrument, Kind, instrument
from trainingdata.sessions import holding_end

FRESH = np.timedelta64(30, "m")  # age of the last bar beyond which an instant is not decided any more


class Feed(Protocol):
    """Whatever brings the bars known at an instant."""

    def bars(self, now: np.datetime64) -> Bars:
        """Every bar known at `now`."""
        ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a pass saw and did. decision: none where nothing decides, or the last bar is too old. fills: of its orders."""

    account: Account
    bars: Bars
    decision: Decision | None
    fills: tuple[Fill, ...]


class Rules:
    """What the venue allows with each symbol, read once a day."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._asked: tuple[np.datetime64, tuple[str, ...]] | None = None
        self._assets: Mapping[str, Asset] = {}

    def applied(self, bars: Bars, now: np.datetime64, *, increments: bool) -> Bars:
        """The panel with what its symbols allow: whether they trade and can be short; increments: the venue's, for coins.

        Raises
        ------
        BrokerError
            for a venue that does not answer.
        """
        asked = now.astype("datetime64[D]"), bars.symbols
        if asked != self._asked:
            self._assets, self._asked = self._broker.assets(bars.symbols), asked
        return replace(bars, instruments=tuple(self._allowed(item, increments) for item in bars.instruments))

    def _allowed(self, item: Instrument, increments: bool) -> Instrument:
        asset = self._assets.get(item.symbol)
        return replace(item, tradable=False) if asset is None else allowed(item, asset, increments=increments)


def allowed(item: Instrument, asset: Asset, *, increments: bool) -> Instrument:
    """The instrument with what the venue allows; increments: its steps, for coins."""
    step = asset.increment if increments and item.kind is Kind.CRYPTO else item.increment
    borrowable = asset.shortable and asset.easy_to_borrow
    return replace(item, increment=step, tradable=asset.tradable, borrowable=borrowable)


def run_cycle(
    broker: Broker, feed: Feed, trader: Trader, settings: TradingSettings, *, send: bool, rules: Rules | None = None
) -> Cycle:
    """Decide for the account as it is, on the bars as they are known; send: whether orders go out. rules: the venue's.

    Raises
    ------
    BrokerError, DataError
        for a venue that does not answer, or bars that cannot be trusted.
    """
    account = broker.account()
    bars = settings.seen(settings.counted(feed.bars(account.as_of)))
    if rules is not None:
        bars = rules.applied(bars, account.as_of, increments=settings.increments == "broker")
    account = account.priced(closes_of(bars))
    fresh = account.as_of - bars.now < FRESH
    decision = trader.decide(bars, account) if fresh else None
    fills = place(broker, decision.orders) if send and decision is not None else []
    return Cycle(account, bars, decision, tuple(fills))


def next_instant(now: np.datetime64, symbols: Sequence[str]) -> np.datetime64:
    """The next instant after `now` at which any of these symbols may decide."""
    kinds = {instrument(symbol).kind for symbol in symbols}
    return min(holding_end(kind, now) for kind in kinds)


def wait_until(clock: Callable[[], np.datetime64], instant: np.datetime64) -> None:
    """Sleep until a clock says so; looked at more often the nearer it is, as it may run faster than ours."""
    while (left := (instant - clock()) / np.timedelta64(1, "s")) > 0:
        time.sleep(float(min(max(left / 2, 0.05), 5.0)))
