"""One pass of a live job: read the account, read the bars, decide, send."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from execution.broker import Broker, place
from execution.decision import Decision
from execution.orders import Account, Fill
from execution.settings import LiveSettings
from execution.trader import Trader
from execution.venue_rules import BLOCKED, VenueRules
from trainingdata.bars import Bars, closes_of
from trainingdata.instruments import instrument
from trainingdata.sessions import holding_end, utc_text

log = logging.getLogger(__name__)

FRESH = np.timedelta64(
    30, "m"
)  # age of the last bar beyond which an instant is not decided any more
LOOK = 2.0  # seconds between looks for a bar that is late
# a bar that has just closed and the venue's latest price differ less, or one of them knows of a
# split
UNITS = 0.2
NOTHING_CLOSED = "nothing decides at this instant (no bar closed for a market that is open to fill)"


class Feed(Protocol):
    """Whatever brings the bars known at an instant."""

    def bars(self, now: np.datetime64) -> Bars:
        """Every bar known at `now`, adjusted for splits."""
        ...

    def late(self, now: np.datetime64) -> tuple[str, ...]:
        """Symbols whose last bar has closed at `now` and was not there when asked."""
        ...

    def prices(self, symbols: Sequence[str]) -> Mapping[str, float]:
        """What each trades at now, USD, not adjusted for anything."""
        ...


@dataclass(frozen=True, slots=True)
class Cycle:
    """What a pass saw and did. decision: none where there is a reason to be idle. fills: of its
    orders.
    """

    account: Account
    bars: Bars
    decision: Decision | None
    fills: tuple[Fill, ...]
    idle: str = ""


def run_cycle(
    broker: Broker,
    feed: Feed,
    trader: Trader,
    settings: LiveSettings,
    *,
    send: bool,
    rules: VenueRules | None = None,
    pause: Callable[[float], None] = time.sleep,
) -> Cycle:
    """Decide for the account as it is, on the bars as they are known; send: whether orders go out.
    rules: the venue's.

    Orders are sized at the venue's latest prices. What the bars say of a symbol in other units is
    not traded.

    Raises
    ------
    BrokerError, DataError
        for a venue that does not answer, or bars that cannot be trusted.
    """
    account = broker.account()
    known, waited = _awaited(feed, account.as_of, settings.bar_patience, pause)
    bars = settings.seen(settings.counted(known))
    account = broker.account() if waited else account
    if rules is not None:
        bars = rules.applied(bars, account.as_of, increments=settings.increments == "broker")
    if idle := _idle(account, bars):
        return Cycle(account.priced(closes_of(bars)), bars, None, (), idle)
    closed = [bars.symbols[s] for s in np.flatnonzero(bars.mask[:, -1])]
    prices = feed.prices(closed)
    bars = _in_units(bars, prices)
    account = account.priced({**closes_of(bars), **prices})
    decision = trader.decide(bars, account)
    fills = (
        place(broker, decision.orders, decision.cancels) if send and decision is not None else []
    )
    return Cycle(account, bars, decision, tuple(fills), "" if decision else NOTHING_CLOSED)


def _awaited(
    feed: Feed, now: np.datetime64, patience: float, pause: Callable[[float], None]
) -> tuple[Bars, bool]:
    """The bars once all that closed lately are there, or patience has ended; whether that took
    any waiting.
    """
    bars = feed.bars(now)
    at = now
    while at - now < np.timedelta64(round(patience * 1000), "ms") and (late := feed.late(at)):
        log.info("%s: waiting for the bars of %s", utc_text(now), " ".join(late))
        pause(LOOK)
        at = at + np.timedelta64(round(LOOK * 1000), "ms")
        bars = feed.bars(at)
    return bars, bool(at > now)


def _idle(account: Account, bars: Bars) -> str:
    """Why nothing may be decided; empty where it may."""
    if account.blocked:
        return BLOCKED
    if account.as_of - bars.now >= FRESH:
        return f"{NOTHING_CLOSED}; the last bar is of {utc_text(bars.now)}"
    return ""


def _in_units(bars: Bars, prices: Mapping[str, float]) -> Bars:
    """The panel, without orders in symbols whose bars are not in the units that the venue
    trades in.
    """
    closes = closes_of(bars)
    items = []
    for item in bars.instruments:
        price = prices.get(item.symbol)
        close = closes.get(item.symbol)
        if price is not None and close is not None and not abs(price / close - 1.0) < UNITS:
            log.warning(
                "%s is not traded: its bars end at %g, the venue says %g", item.symbol, close, price
            )
            item = replace(item, tradable=False)
        items.append(item)
    return replace(bars, instruments=tuple(items))


def next_instant(now: np.datetime64, symbols: Sequence[str]) -> np.datetime64:
    """The next instant after `now` at which any of these symbols may decide."""
    kinds = {instrument(symbol).kind for symbol in symbols}
    return min(holding_end(kind, now) for kind in kinds)


def wait_until(clock: Callable[[], np.datetime64], instant: np.datetime64) -> None:
    """Sleep until a clock says so; looked at more often the nearer it is, as it may run faster
    than ours.
    """
    while (left := (instant - clock()) / np.timedelta64(1, "s")) > 0:
        time.sleep(float(min(max(left / 2, 0.05), 5.0)))
