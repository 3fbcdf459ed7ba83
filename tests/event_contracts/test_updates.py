"""Steps of a market, and names of intentions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_contracts.trading.action_log import order_name
from event_contracts.trading.records import MarketSpan

T0 = np.datetime64("2026-11-22T10:00:00", "ns")
MINUTE = np.timedelta64(1, "m")


def test_a_span_says_which_row_an_instant_shows() -> None:
    span = MarketSpan(T0, MINUTE, 5)
    minutes = (-1, 0, 1, 4)
    assert [span.row(T0 + k * MINUTE) for k in minutes] == list(minutes)
    assert span.row(T0 + np.timedelta64(119, "s")) == 1
    for interval, rows in ((np.timedelta64(0, "s"), 5), (MINUTE, 1)):
        with pytest.raises(ValueError, match="span: "):
            MarketSpan(T0, interval, rows)


names = st.tuples(
    st.sampled_from(["one", "two"]),
    st.sampled_from(["RAIN", "SNOW"]),
    st.integers(0, 3).map(lambda minute: T0 + minute * MINUTE),
    st.integers(0, 24),
)


@given(names, names)
def test_an_intention_has_one_name_and_no_other_has_it(
    one: tuple[str, str, np.datetime64, int], other: tuple[str, str, np.datetime64, int]
) -> None:
    assert (order_name(*one) == order_name(*other)) == (one == other)
