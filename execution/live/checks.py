"""What the facts about an account, its venue and its prices say of whether it can be traded.

Facts come in, findings come out: nothing is read here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, get_args

import numpy as np

from execution.alpaca.account import ACTIVE
from execution.alpaca.fields import AccountFacts
from execution.live.accounts import SIMULATED_OFFSET
from foundation.counts import time_text
from foundation.errors import InputError
from sizing.limits import Limits
from trainingdata.feed.endpoint import BrokerSettings
from trainingdata.instants import utc_text
from trainingdata.instruments import Kind, instrument, is_coin
from trainingdata.sessions import last_known
from trainingdata.source import Feed

Level = Literal["ok", "warning", "failure"]
Facts = Mapping[str, Any]

HISTORY = np.timedelta64(10, "D")  # in which a symbol that is traded has a bar
SPREADS = 3  # the option level from which on the venue takes spreads
NOTABLE_OFFSET = 5.0  # seconds
LARGEST_OFFSET = 60.0
NO_TIME = np.timedelta64(0, "ns")
SECOND = np.timedelta64(1, "s")


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check has found.

    level: `ok`, `warning` for what the loop can do without, `failure` for what it cannot.
    name: of the check.
    found: what, and what to do where it is not ok.
    """

    level: Level
    name: str
    found: str

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"level {self.level!r} is none of {', '.join(get_args(Level))}")
        if not self.name.strip() or not self.found.strip():
            raise ValueError(f"a finding has a name and says something: {self}")

    def __str__(self) -> str:
        return f"{self.level:7} {self.name}: {' '.join(self.found.split())}"


def finding_of(name: str, check: Callable[[], Finding]) -> Finding:
    """What a check finds, or the failure that kept it from finding anything.

    name: of the check.
    """
    try:
        return check()
    except InputError as error:
        return Finding("failure", name, str(error))


def not_checked(name: str, earlier: str) -> Finding:
    """A check that needs what an earlier one has not found.

    earlier: the name of the earlier check.
    """
    return Finding("warning", name, f"not checked, because of {earlier}; mend that first")


def venue_finding(broker: BrokerSettings) -> Finding:
    """Whether orders are real."""
    where = broker.address
    if where is not None and broker.on_this_machine:
        return Finding("ok", "venue", f"{where}, a server on this machine in Alpaca's place")
    if where is not None:
        return Finding(
            "warning",
            "venue",
            f"{where} in Alpaca's place; its keys and orders are this server's, take"
            " broker.url_override away where that is not meant",
        )
    if broker.paper:
        return Finding("ok", "venue", "Alpaca's paper account; no order is real")
    return Finding(
        "warning", "venue", "Alpaca's account with real money; set broker.paper=true to practise"
    )


def account_finding(facts: Facts) -> Finding:
    """Whether the venue takes orders of the account."""
    account = AccountFacts.id.of(facts)
    status = AccountFacts.status.of(facts)
    blocks = [block.name for block in AccountFacts.blocks if block.of(facts)]
    if status == ACTIVE and not blocks:
        return Finding("ok", "account", f"{account} is {ACTIVE}, with no block")
    said = [f"is {status}"] if status != ACTIVE else []
    said += [f"has {block}" for block in blocks]
    return Finding(
        "failure",
        "account",
        f"{account} {' and '.join(said)}; no order is taken until the venue lifts that",
    )


def margin_finding(facts: Facts, limits: Limits) -> Finding:
    """Whether the venue lends as much as the limits would use."""
    multiplier = AccountFacts.multiplier.of(facts)
    found = f"the venue lends up to {multiplier:f} times equity"
    if multiplier >= Decimal(repr(limits.intraday_leverage)):
        return Finding("ok", "margin", found)
    return Finding(
        "warning",
        "margin",
        f"{found}, less than limits.intraday_leverage={limits.intraday_leverage:g}; the smaller"
        " counts, have margin enabled at the venue to use the larger",
    )


def shorting_finding(facts: Facts) -> Finding:
    """Whether stocks may be sold short."""
    if AccountFacts.shorting.of(facts):
        return Finding("ok", "shorting", "enabled")
    return Finding(
        "warning", "shorting", "not enabled, nothing is sold short; have it enabled at the venue"
    )


def crypto_finding(facts: Facts, symbols: Sequence[str]) -> Finding:
    """Whether coins may be bought; symbols: that are to be traded."""
    status = AccountFacts.crypto_status.of(facts)
    if status == ACTIVE:
        return Finding("ok", "crypto", ACTIVE)
    coins = [symbol for symbol in symbols if is_coin(instrument(symbol).symbol)]
    if not coins:
        return Finding(
            "warning", "crypto", f"{status}; have it enabled at the venue before coins are traded"
        )
    return Finding(
        "failure",
        "crypto",
        f"{status}, and {', '.join(coins)} cannot be traded; have it enabled at the venue, or take"
        " coins out of symbols",
    )


def options_finding(facts: Facts) -> Finding:
    """Whether spreads of options may be sold."""
    level = AccountFacts.options_trading_level.of(facts)
    if level is None:
        level = AccountFacts.options_approved_level.of(facts)
    if level is None:
        return Finding(
            "warning",
            "options",
            "the venue does not say which level the account has; look there before spreads are"
            " sold",
        )
    if level >= SPREADS:
        return Finding("ok", "options", f"level {level:f}, spreads may be sold")
    return Finding(
        "warning",
        "options",
        f"level {level:f}, and spreads need {SPREADS}; apply for it at the venue before they are"
        " sold",
    )


def clock_offset(shown: np.datetime64, asked: np.datetime64, heard: np.datetime64) -> float:
    """Seconds by which a clock is ahead of ours at least, below 0 where it is behind.

    It showed its time at some instant between two of ours: what lies between them is no offset.
    """
    ahead = max(shown - heard, NO_TIME) + min(shown - asked, NO_TIME)
    return float(ahead / SECOND)


def clock_finding(offset: float, *, on_this_machine: bool) -> Finding:
    """Whether the venue's clock and ours agree.

    offset: seconds by which the venue's is ahead.
    on_this_machine: whether the venue is, and may be a practice server with a time of its own.
    """
    side = "ahead of" if offset > 0 else "behind"
    found = f"the venue's is {time_text(abs(offset))} {side} this machine's"
    if on_this_machine and abs(offset) >= SIMULATED_OFFSET:
        return Finding("ok", "clock", f"{found}; a practice server has a time of its own")
    if abs(offset) > LARGEST_OFFSET:
        return Finding("failure", "clock", f"{found}; set this machine's clock, as by NTP")
    if abs(offset) > NOTABLE_OFFSET:
        return Finding("warning", "clock", f"{found}; set this machine's clock, as by NTP")
    return Finding("ok", "clock", f"{abs(offset):.1f} s between the venue's and this machine's")


def feed_finding(
    feed: Feed,
    symbols: Sequence[str],
    latest: Mapping[str, np.datetime64],
    now: np.datetime64,
    patience: float,
) -> Finding:
    """Whether bars can be read, and whether they are the latest there can be.

    Parameters
    ----------
    feed:
        Of stocks.
    symbols:
        To be traded, at least one.
    latest:
        When the last bar of each symbol that has one within `HISTORY` closed.
    now:
        By the venue's clock.
    patience:
        Seconds after its close in which a bar may still come.
    """
    kinds = {symbol: instrument(symbol).kind for symbol in symbols}
    source = f"{feed}, " if Kind.STOCK in kinds.values() else ""
    missing = [symbol for symbol in symbols if symbol not in latest]
    if len(missing) == len(symbols):
        return Finding(
            "failure",
            "feed",
            f"{source}no bar of {', '.join(missing)} in the last"
            f" {HISTORY / np.timedelta64(1, 'D'):g} days; check symbols and data.feed",
        )
    newest = max(latest, key=lambda symbol: latest[symbol])
    minutes = (now - latest[newest]) / np.timedelta64(1, "m")
    found = (
        f"{source}the latest bar, of {newest}, closed at {utc_text(latest[newest])},"
        f" {minutes:,.0f} min ago"
    )
    due = {symbol: last_known(kinds[symbol], now) for symbol in latest}
    late = np.timedelta64(round(patience * 1e9), "ns")
    behind = [s for s in latest if latest[s] < due[s] and now - due[s] >= late]
    if len(behind) == len(latest):
        return Finding(
            "failure",
            "feed",
            f"{found}; the one that closed at {utc_text(due[newest])} is not there, nothing is"
            " decided without it: wait, and look at the venue's status page",
        )
    troubles = []
    if missing:
        troubles.append(f"no bar of {', '.join(missing)}: take what is not traded out of symbols")
    if behind:
        troubles.append(f"the last bar of {', '.join(behind)} is not there: wait")
    if troubles:
        return Finding("warning", "feed", f"{found}; {'; '.join(troubles)}")
    return Finding("ok", "feed", found)
