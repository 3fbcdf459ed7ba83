"""A strategy's price history: own bars up to the decision, as copies that lead nowhere."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainingdata.bars import CLOSE, OPEN, VOLUME, Bars
from trainingdata.history import NO_HISTORY, BarsBySymbol, PriceHistory

LENGTHS = st.integers(1, 400)
NAMES = ("SYC", "", "SYXUSD", "ABSENT", "SYA")


def arrays(history: PriceHistory) -> dict[str, np.ndarray]:
    return {field.name: getattr(history, field.name) for field in fields(history)}


@given(row=st.integers(0, 1_000), length=LENGTHS)
def test_strategy_history_ends_with_bars_known_at_decision(
    market: Bars, row: int, length: int
) -> None:
    row = min(row, len(market.times) - 1)
    history = BarsBySymbol(market).history(NAMES, length, row)
    known = market.slice_rows(0, row + 1)
    for k, symbol in enumerate(NAMES):
        if symbol not in market.symbols:
            assert np.isnan(history.closes[k]).all()
            assert np.isnat(history.times[k]).all()
            continue
        times, values = known.bars_of_symbol(market.symbols.index(symbol))
        count = min(len(times), length)
        np.testing.assert_array_equal(history.times[k, length - count :], times[-count:])
        np.testing.assert_array_equal(history.opens[k, length - count :], values[-count:, OPEN])
        np.testing.assert_array_equal(history.closes[k, length - count :], values[-count:, CLOSE])
        np.testing.assert_array_equal(history.volumes[k, length - count :], values[-count:, VOLUME])
        assert np.isnan(history.closes[k, : length - count]).all()


@given(row=st.integers(0, 1_000), length=LENGTHS)
def test_strategy_history_needs_only_the_last_bars(market: Bars, row: int, length: int) -> None:
    row = min(row, len(market.times) - 1)
    until = BarsBySymbol(market.slice_rows(0, row + 1), keep=length)
    first, second = until.history(NAMES, length), BarsBySymbol(market).history(NAMES, length, row)
    for name, array in arrays(first).items():
        np.testing.assert_array_equal(array, arrays(second)[name])


@given(row=st.integers(0, 1_000), length=LENGTHS)
def test_order_of_symbols_changes_no_history(market: Bars, row: int, length: int) -> None:
    """Symbols in the panel's order are copied by slices, in any other order bar by bar."""
    stocks = market.select(("SYA", "SYB", "SYC"))
    own = BarsBySymbol(stocks)
    row = min(row, len(stocks.times) - 1)
    reverse = arrays(own.history(stocks.symbols[::-1], length, row))
    for name, array in arrays(own.history(stocks.symbols, length, row)).items():
        np.testing.assert_array_equal(array, reverse[name][::-1])
        assert array.base is None
        assert array.flags.c_contiguous


def test_history_arrays_are_read_only_copies(market: Bars) -> None:
    for array in arrays(BarsBySymbol(market).history(market.symbols, 5, 40)).values():
        assert array.base is None
        with pytest.raises(ValueError, match="read-only"):
            array[...] = array


def test_strategy_without_lookback_gets_no_history(market: Bars) -> None:
    assert BarsBySymbol(market).history(market.symbols, 0) is NO_HISTORY
