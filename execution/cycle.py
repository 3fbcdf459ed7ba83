"""One pass of a live job: read the account, read the bars, decide, send."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from execution.broker import Broker, place
from execution.decision import Decision
from execution.orders import Account, Fill
from execution.settings import TradingSettings
from execution.trader import Trader
from trainingdata.bars import Bars, closes_of

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
