"""A mark is believed that is near the last one, that a trade confirms, or that two readings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.live.belief import OLD, MarkBelief
from execution.orders import Account
from foundation.errors import BrokerError
from trainingdata.feed.market_data import LastTrade

NOW = np.datetime64("2024-02-20T15:30", "ns")
FRESH = np.timedelta64(1, "s")


class Feed:
    """Last trades by symbol, and what was asked of them."""

    def __init__(self, age: np.timedelta64 = FRESH, **prices: float) -> None:
        self.trades = {symbol: LastTrade(price, NOW - age) for symbol, price in prices.items()}
        self.asked: list[Sequence[str]] = []

    def __call__(self, symbols: Sequence[str]) -> Mapping[str, LastTrade]:
        self.asked.append(symbols)
        return {symbol: self.trades[symbol] for symbol in symbols if symbol in self.trades}


def account(**prices: float) -> Account:
    held = {symbol: Decimal(-2 if symbol == "BBB" else 10) for symbol in prices}
    return Account(1_000.0, {**held, "SOLD": Decimal(0)}, {**prices, "SOLD": 1.0}, NOW)


@given(factor=st.floats(0.01, 100.0))
def test_what_a_trade_is_near_to_is_believed_at_once_and_nothing_else(factor: float) -> None:
    feed = Feed(AAA=100.0, BBB=50.0)
    belief = MarkBelief(feed)
    for again in (False, True):
        doubted = belief.doubted(account(AAA=100.0 * factor, BBB=50.0), again=again)
        assert doubted == ({} if abs(100.0 * factor / 100.0 - 1.0) < 0.2 else {"AAA": 100.0})


def test_the_feed_is_asked_of_what_is_new_or_far_from_the_mark_before() -> None:
    feed = Feed(AAA=100.0, BBB=50.0)
    belief = MarkBelief(feed)
    assert belief.doubted(account(AAA=100.0, BBB=50.0), again=False) == {}
    belief.believe(account(AAA=100.0, BBB=50.0))
    assert belief.doubted(account(AAA=119.0, BBB=41.0), again=False) == {}
    assert feed.asked == [["AAA", "BBB"]]
    assert belief.doubted(account(AAA=121.0, BBB=50.0), again=False) == {"AAA": 100.0}
    assert belief.doubted(account(AAA=100.0, BBB=39.0), again=False) == {"BBB": 50.0}
    assert feed.asked[1:] == [["AAA"], ["BBB"]]


@pytest.mark.parametrize("feed", [Feed(), Feed(OLD, AAA=100.0)], ids=["silent", "old"])
def test_without_a_recent_trade_two_readings_in_a_row_have_to_agree(feed: Feed) -> None:
    belief = MarkBelief(feed)
    assert np.isnan(belief.doubted(account(AAA=900.0), again=False)["AAA"])
    assert belief.doubted(account(AAA=100.0), again=True) == {"AAA": 900.0}
    assert np.isnan(belief.doubted(account(AAA=100.0), again=False)["AAA"])
    assert belief.doubted(account(AAA=101.0), again=True) == {}


def test_a_recent_trade_counts_more_than_two_readings() -> None:
    belief = MarkBelief(Feed(OLD - np.timedelta64(1, "s"), AAA=100.0))
    for again in (False, True, True):
        assert belief.doubted(account(AAA=900.0), again=again) == {"AAA": 100.0}


def test_what_is_no_stock_or_coin_here_is_not_asked_for() -> None:
    feed = Feed()
    belief = MarkBelief(feed)
    bond = {"a bond 4.5%": 99.0}
    assert np.isnan(belief.doubted(account(**bond), again=False)["a bond 4.5%"])
    assert belief.doubted(account(**bond), again=True) == {}
    assert feed.asked == []


def test_a_feed_that_does_not_answer_is_a_silent_one() -> None:
    def failing(_: Sequence[str]) -> Mapping[str, LastTrade]:
        raise BrokerError("no answer")

    belief = MarkBelief(failing)
    assert np.isnan(belief.doubted(account(AAA=100.0), again=False)["AAA"])
    assert belief.doubted(account(AAA=100.0), again=True) == {}
