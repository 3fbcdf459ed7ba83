"""What a price or another bar denies is not read. A mark is believed that is near the last one,
that a trade confirms, or that two readings say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.live.validation import (
    MAX_TRADE_AGE,
    BarValidator,
    MarkValidator,
    missing_history_reasons,
)
from execution.orders.account_snapshot import AccountSnapshot
from trainingdata.bars import CLOSE, Bars, build_panel
from trainingdata.instruments import instrument
from trainingdata.last_trade import LastTrade

SYMBOLS = ("AAAUSD", "BBBUSD", "CCCUSD")
COUNT = 40
START = np.datetime64("2024-01-01T01", "ns")


def market(seed: int) -> Bars:
    rng = np.random.default_rng(seed)
    times = START + np.arange(COUNT) * np.timedelta64(1, "h")
    parts = []
    for symbol in SYMBOLS:
        closes = 50.0 * np.exp(np.cumsum(rng.normal(0, 0.01, COUNT)))
        values = np.stack([closes] * 4 + [np.ones(COUNT)], axis=1)
        parts.append((instrument(symbol), times, values))
    return build_panel(parts, "test")


def spoilt(bars: Bars, s: int, row: int, factor: float) -> Bars:
    values = bars.values.copy()
    values[s, row, : CLOSE + 1] *= factor
    return replace(bars, values=values)


def last_prices(bars: Bars) -> dict[str, float]:
    return dict(zip(bars.symbols, bars.values[:, -1, CLOSE].tolist(), strict=True))


def missing(bars: Bars, s: int, row: int) -> Bars:
    mask = np.zeros(bars.mask.shape, dtype=bool)
    mask[s, row] = True
    return bars.drop_bars(mask)


@given(
    seed=st.integers(0, 50),
    s=st.integers(0, 2),
    factor=st.one_of(st.floats(1e-6, 0.75), st.floats(1.3, 1e6)),
)
def test_bar_contradicted_by_a_price_is_left_out(seed: int, s: int, factor: float) -> None:
    bars = market(seed)
    read, rejected_bars = BarValidator().validate(spoilt(bars, s, -1, factor), last_prices(bars))
    assert list(rejected_bars) == [SYMBOLS[s]]
    assert not read.tradable[s]
    assert read.tradable.sum() == 2
    expected = missing(bars, s, -1)
    assert np.array_equal(read.mask, expected.mask)
    assert np.array_equal(read.values, expected.values, equal_nan=True)


@given(seed=st.integers(0, 50), s=st.integers(0, 2), row=st.integers(0, COUNT - 2))
def test_old_spike_is_dropped_without_blocking_orders(seed: int, s: int, row: int) -> None:
    bars = market(seed)
    read, rejected_bars = BarValidator().validate(spoilt(bars, s, row, 100.0), last_prices(bars))
    assert not rejected_bars
    assert read.tradable.all()
    expected = missing(bars, s, row)
    assert np.array_equal(read.values, expected.values, equal_nan=True)


def test_unconfirmed_jump_waits_for_the_next_bar() -> None:
    bars = market(1)
    halved = bars
    for row in (COUNT - 2, COUNT - 1):
        halved = spoilt(halved, 0, row, 0.5)
    first, rejected_bars = BarValidator().validate(halved.slice_rows(0, COUNT - 1), {})
    assert "not yet confirmed by another bar" in rejected_bars["AAAUSD"]
    assert not first.mask[0, -1]
    read, rejected_bars = BarValidator().validate(halved, {})
    assert not rejected_bars
    assert read.mask[0, -1]
    assert read.tradable.all()


def test_rejected_bar_stays_out_until_corrected_or_confirmed() -> None:
    """This includes a bar so little off that later bars cannot tell it from a true move."""
    bars = market(2)
    known = bars.slice_rows(0, COUNT - 1)
    wrong = spoilt(bars, 0, COUNT - 2, 0.7)
    validator = BarValidator()
    for _ in range(2):
        _, rejected_bars = validator.validate(wrong.slice_rows(0, COUNT - 1), last_prices(known))
        assert list(rejected_bars) == ["AAAUSD"]
    # An hour in which the symbol closes no bar: nothing asks for its price.
    _, rejected_bars = validator.validate(wrong.slice_rows(0, COUNT - 1), {})
    assert "contradicted by an earlier price" in rejected_bars["AAAUSD"]
    read, rejected_bars = validator.validate(wrong, {})
    assert not rejected_bars
    assert not read.mask[0, COUNT - 2]
    assert BarValidator().validate(wrong, {})[0].mask[0, COUNT - 2], "nobody has denied it there"
    assert validator.validate(bars, {})[0].mask.all(), "it was corrected"


def test_rejected_bar_contradicted_by_next_bar_stays_rejected() -> None:
    bars = market(2)
    true = last_prices(bars.slice_rows(0, COUNT - 3))["AAAUSD"]
    later = bars
    for back, close in ((3, 0.7 * true), (2, true), (1, 0.7 * true)):
        now = last_prices(bars.slice_rows(0, COUNT - back + 1))["AAAUSD"]
        later = spoilt(later, 0, COUNT - back, close / now)
    validator = BarValidator()
    _, rejected_bars = validator.validate(later.slice_rows(0, COUNT - 2), {"AAAUSD": true})
    assert list(rejected_bars) == ["AAAUSD"]
    for end in (COUNT - 1, COUNT):
        assert not validator.validate(later.slice_rows(0, end), {})[0].mask[0, COUNT - 3]


def test_bar_confirmed_by_the_next_one_is_accepted() -> None:
    bars = market(3)
    validator = BarValidator()
    wrong = {symbol: price / 4 for symbol, price in last_prices(bars).items()}
    _, rejected_bars = validator.validate(bars.slice_rows(0, COUNT - 1), wrong)
    assert list(rejected_bars) == list(SYMBOLS)
    read, rejected_bars = validator.validate(bars, last_prices(bars))
    assert not rejected_bars
    assert read.mask.all()


def test_dropped_bars_count_toward_required_history_length() -> None:
    left_out = np.zeros((len(SYMBOLS), COUNT), dtype=bool)
    left_out[0, 3:9] = True
    bars = market(4).drop_bars(left_out)
    assert missing_history_reasons(bars, SYMBOLS, COUNT) == {}
    assert list(missing_history_reasons(bars.slice_rows(5, COUNT), SYMBOLS, COUNT - 4)) == list(
        SYMBOLS
    )


NOW = np.datetime64("2024-02-20T15:30", "ns")
FRESH = np.timedelta64(1, "s")


class Feed:
    """Last trades by symbol, and what was asked of them."""

    def __init__(self, age: np.timedelta64 = FRESH, **prices: float) -> None:
        self.trades = {symbol: LastTrade(price, NOW - age) for symbol, price in prices.items()}
        self.asked: list[Sequence[str]] = []

    def last_trades(self, symbols: Sequence[str]) -> Mapping[str, LastTrade]:
        self.asked.append(symbols)
        return {symbol: self.trades[symbol] for symbol in symbols if symbol in self.trades}


def account(**prices: float) -> AccountSnapshot:
    held = {symbol: Decimal(-2 if symbol == "BBB" else 10) for symbol in prices}
    return AccountSnapshot(1_000.0, {**held, "SOLD": Decimal(0)}, {**prices, "SOLD": 1.0}, NOW)


@given(factor=st.floats(0.01, 100.0))
def test_mark_near_a_recent_trade_is_accepted_immediately(factor: float) -> None:
    feed = Feed(AAA=100.0, BBB=50.0)
    validator = MarkValidator(feed)
    for reread in (False, True):
        rejected_bars = validator.find_rejected_marks(
            account(AAA=100.0 * factor, BBB=50.0), reread=reread
        )
        assert rejected_bars == ({} if abs(100.0 * factor / 100.0 - 1.0) < 0.2 else {"AAA": 100.0})


def test_feed_is_queried_for_new_or_moved_marks() -> None:
    feed = Feed(AAA=100.0, BBB=50.0)
    validator = MarkValidator(feed)
    assert validator.find_rejected_marks(account(AAA=100.0, BBB=50.0), reread=False) == {}
    validator.accept_marks(account(AAA=100.0, BBB=50.0))
    assert validator.find_rejected_marks(account(AAA=119.0, BBB=41.0), reread=False) == {}
    assert feed.asked == [["AAA", "BBB"]]
    assert validator.find_rejected_marks(account(AAA=121.0, BBB=50.0), reread=False) == {
        "AAA": 100.0
    }
    assert validator.find_rejected_marks(account(AAA=100.0, BBB=39.0), reread=False) == {
        "BBB": 50.0
    }
    assert feed.asked[1:] == [["AAA"], ["BBB"]]


@pytest.mark.parametrize("feed", [Feed(), Feed(MAX_TRADE_AGE, AAA=100.0)], ids=["silent", "old"])
def test_mark_without_recent_trade_needs_two_agreeing_responses(feed: Feed) -> None:
    validator = MarkValidator(feed)
    assert np.isnan(validator.find_rejected_marks(account(AAA=900.0), reread=False)["AAA"])
    assert validator.find_rejected_marks(account(AAA=100.0), reread=True) == {"AAA": 900.0}
    assert np.isnan(validator.find_rejected_marks(account(AAA=100.0), reread=False)["AAA"])
    assert validator.find_rejected_marks(account(AAA=101.0), reread=True) == {}


def test_mark_contradicting_recent_trade_is_rejected_when_repeated() -> None:
    validator = MarkValidator(Feed(MAX_TRADE_AGE - np.timedelta64(1, "s"), AAA=100.0))
    for reread in (False, True, True):
        assert validator.find_rejected_marks(account(AAA=900.0), reread=reread) == {"AAA": 100.0}
