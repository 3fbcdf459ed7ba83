from __future__ import annotations

import numpy as np
import pytest

from event_contracts.simulation.sessions import (
    COLUMNS,
    YES_ASK,
    YES_BID,
    checked_session,
    outcome_of,
)
from foundation.arrays import Array
from foundation.errors import InputError


def plain_session() -> Array:
    return np.array(
        [
            [0.40, 0.42, 100, 80, 0, 0, 0.41],
            [0.00, 0.02, 0, 80, 10, 0, 0.30],
            [0.99, 1.00, 50, 0, 0, 20, 0.50],
            [0.00, 0.01, 0, 0, 0, 0, 0.00],
        ]
    )


def test_a_session_is_taken_as_it_is_and_its_tail_in_reverse_too() -> None:
    session = plain_session()
    session.flags.writeable = False
    own = checked_session(session)
    np.testing.assert_array_equal(own, session)
    own[0, 0] = 0.1  # is its own
    for k in range(4):
        turned = np.concatenate([session[:k], session[k:][::-1]])
        np.testing.assert_array_equal(checked_session(turned), turned)


@pytest.mark.parametrize(
    ("row", "column", "value", "why"),
    [
        (1, "yes_bid", np.nan, "is no finite number"),
        (0, "yes_bid", -0.01, "is outside 0 … 1"),
        (2, "estimate", 1.2, "is outside 0 … 1"),
        (1, "bid_size", -1.0, "is negative"),
        (1, "ask_size", 1e19, "is more than 1e+09 contracts"),
        (2, "bought", -20.0, "is negative"),
        (0, "yes_bid", 0.405, "is no multiple of a tick, $0.01"),
        (0, "yes_ask", 0.40, "is not above the row's yes_bid"),
    ],
)
def test_what_no_session_has_is_refused_by_row_and_column(
    row: int, column: str, value: float, why: str
) -> None:
    session = plain_session()
    session[row, COLUMNS.index(column)] = value
    with pytest.raises(InputError) as refused:
        checked_session(session)
    assert f"row {row}, {column}: {value:g} {why}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_prices_as_32_bit_floats_are_put_back_on_their_ticks() -> None:
    cents = np.arange(99)
    session = np.zeros((99, 7))
    session[:, YES_BID] = cents / 100
    session[:, YES_ASK] = (cents + 1) / 100
    back = checked_session(session.astype(np.float32))
    np.testing.assert_array_equal(back[:, [YES_BID, YES_ASK]], session[:, [YES_BID, YES_ASK]])


def test_a_market_may_have_another_tick() -> None:
    session = plain_session()
    session[0, YES_BID] = 0.405
    assert checked_session(session, tick=0.001)[0, YES_BID] == 0.405
    for tick in (0.0, -0.01, 0.03, 1.0, np.nan, 1e-6):
        with pytest.raises(InputError, match="tick: "):
            checked_session(session, tick=tick)


def test_yes_came_true_where_the_last_middle_is_at_or_above_a_half() -> None:
    session = plain_session()
    for bid in range(100):
        for ask in range(bid + 1, 101):
            session[-1, [YES_BID, YES_ASK]] = bid / 100, ask / 100
            assert outcome_of(session) == (bid + ask >= 100), (bid, ask)
