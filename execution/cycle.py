"""One pass of a live job: read the account, read the bars, decide, send."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from execution.broker import Broker, place
from execution.decision import Decision
from execution.orders import Account, Fill
from execution.settings import TradingSettings
from execution.trader import Trader
from trainingdata.bars import Bars, closes_of
from trainingdata.instruments import instrument
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


def run_cycle(broker: Broker, feed: Feed, trader: Trader, settings: TradingSettings, *, send: bool) -> Cycle:
    """Decide for the account as it is, on the bars as they are known; send: whether orders go out.

    Raises
    ------
    BrokerError, DataError
        for a venue that does not answer, or bars that cannot be trusted.
    """
    account = broker.account()
    bars = settings.seen(settings.counted(feed.bars(account.as_of)))
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


def system_clock() -> np.datetime64:
    """This machine's clock, UTC."""
    return np.datetime64(datetime.now(UTC).replace(tzinfo=None), "ns")
