from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from event_contracts.simulation.recorded import recorded_markets, recorded_sessions
from event_contracts.simulation.sessions import (
    BID_SIZE,
    BOUGHT,
    ESTIMATE,
    SOLD,
    YES_ASK,
    YES_BID,
    checked_session,
    mids_of,
    outcome_of,
)
from foundation.errors import DataError, InputError
from tests.event_contracts.recordings import Quote, write_files

# Two markets of one event. WARM is quoted until 12:31, COLD until 12:12.
QUOTES: list[Quote] = [
    ("12:00:01", "E1-COLD", 60, 64),
    ("12:00:02", "E1-WARM", 20, 22),
    ("12:04:59", "E1-WARM", 21, 23),
    ("12:05:00", "E1-WARM", 30, 32),
    ("12:05:00.000001", "E1-WARM", 25, 28),
    ("12:09:00", "E1-WARM", 27, 26),
    ("12:12:00", "E1-COLD", 0, 1),
    ("12:31:00", "E1-WARM", 99, 100),
]
SETTLED = {"E1-WARM": 1.0, "E1-COLD": 0.0}


def test_a_row_shows_the_last_quote_at_or_before_its_instant(tmp_path: Path) -> None:
    cold, warm = recorded_markets(write_files(tmp_path, QUOTES, SETTLED))
    assert (warm.event, warm.market, cold.market) == ("E1", "E1-WARM", "E1-COLD")
    clock = ["12:05", "12:10", "12:15", "12:20", "12:25", "12:30"]
    instants = np.array([f"2025-12-04T{time}" for time in clock], dtype="datetime64[ns]")
    for market in (cold, warm):
        np.testing.assert_array_equal(market.times, instants)
    # The quote of 12:05:00 stands at 12:05; the one of 12:09, 27 bid and 26 asked, never.
    expected = [0.30, 0.25, 0.25, 0.25, 0.25, 0.25, 0.99]
    np.testing.assert_array_equal(warm.session[:, YES_BID], expected)
    expected = [0.32, 0.28, 0.28, 0.28, 0.28, 0.28, 1.00]
    np.testing.assert_array_equal(warm.session[:, YES_ASK], expected)


def test_the_markets_of_an_event_end_together_with_their_settlement(tmp_path: Path) -> None:
    cold, warm = recorded_sessions(write_files(tmp_path, QUOTES, SETTLED))
    assert len(cold) == len(warm) == 7
    np.testing.assert_array_equal(cold[-1], [0.0, 0.01, 0, 0, 0, 0, 0.005])
    np.testing.assert_array_equal(warm[-1], [0.99, 1.0, 0, 0, 0, 0, 0.995])
    assert (outcome_of(cold), outcome_of(warm)) == (0, 1)
    np.testing.assert_array_equal(cold[:, ESTIMATE], mids_of(cold))
    for session in (cold, warm):
        np.testing.assert_array_equal(checked_session(session), session)


def test_trades_are_assumed_where_a_quote_has_moved_and_nowhere_else(tmp_path: Path) -> None:
    quotes: list[Quote] = [
        ("12:00:00", "E1-WARM", 30, 33),
        ("12:05:00", "E1-WARM", 28, 32),  # the bid falls by two levels
        ("12:10:00", "E1-WARM", 28, 35),  # the ask rises by three
        ("12:14:00", "E1-WARM", 10, 90),  # nothing of this is left at 12:15
        ("12:15:00", "E1-WARM", 28, 35),
        ("12:20:00", "E1-WARM", 0, 100),
    ]
    folder = write_files(tmp_path, quotes, {"E1-WARM": 0.0})
    (session,) = recorded_sessions(folder)
    np.testing.assert_array_equal(session[:, SOLD], [0, 100, 0, 0, 1400, 0])
    np.testing.assert_array_equal(session[:, BOUGHT], [0, 0, 150, 0, 3250, 0])
    np.testing.assert_array_equal(session[:, BID_SIZE], [100, 100, 100, 100, 0, 0])
    np.testing.assert_array_equal(session[:, BID_SIZE + 1], [100, 100, 100, 100, 0, 0])


def test_events_come_in_the_order_of_their_first_quotes(tmp_path: Path) -> None:
    quotes: list[Quote] = [
        ("14:00:00", "E1-B", 20, 22),
        ("13:00:00", "E2-B", 20, 22),
        ("13:10:00", "E2-A", 20, 22),
        ("13:30:00", "E2-B", 30, 32),
        ("14:30:00", "E1-B", 30, 32),
    ]
    settled = {"E1-B": 1.0, "E2-A": 0.0, "E2-B": 1.0}
    markets = recorded_markets(write_files(tmp_path, quotes, settled))
    assert [market.market for market in markets] == ["E2-A", "E2-B", "E1-B"]
    assert [len(market.session) for market in markets] == [6, 8, 8]


def test_a_market_that_is_not_settled_is_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    markets = recorded_markets(write_files(tmp_path, QUOTES, {"E1-WARM": 1.0, "E1-COLD": np.nan}))
    assert [market.market for market in markets] == ["E1-WARM"]
    assert "E1-COLD: not settled, left out" in caplog.text
    with pytest.raises(InputError, match="no settled market"):
        recorded_markets(write_files(tmp_path, QUOTES, {"OTHER": 1.0}))


def test_later_quotes_and_outcomes_change_no_earlier_row(tmp_path: Path) -> None:
    before = recorded_markets(write_files(tmp_path / "one", QUOTES, SETTLED))
    later: list[Quote] = [("12:12:00", "E1-COLD", 7, 9), ("12:31:00", "E1-WARM", 3, 5)]
    turned = {name: 1 - paid for name, paid in SETTLED.items()}
    after = recorded_markets(write_files(tmp_path / "two", [*QUOTES[:-2], *later], turned))
    for old, new in zip(before, after, strict=True):
        same = int((old.times < np.datetime64("2025-12-04T12:12")).sum())
        np.testing.assert_array_equal(new.session[:same], old.session[:same])
        assert outcome_of(new.session) == 1 - outcome_of(old.session)


@pytest.mark.parametrize(
    ("file", "column", "value", "why"),
    [
        ("top_of_book", "timestamp", "soon", "timestamp 'soon' is no date and time"),
        ("top_of_book", "timestamp", pd.Timestamp("2025-12-04"), "has no zone"),
        ("top_of_book", "yes_bid", "low", "no whole cent"),
        ("top_of_book", "no_bid", np.nan, "no whole cent"),
        ("top_of_book", "ticker", None, "no ticker, or no event"),
        ("settlement", "settled_yes_inferred", "yes", "settled at yes, neither 0 nor 1"),
        ("settlement", "settled_yes_inferred", 0.5, "settled at 0.5, neither 0 nor 1"),
        ("settlement", "ticker", "E1-WARM", "E1-WARM: settled at 0 and at 1"),
    ],
)
def test_a_column_that_says_something_else_is_refused_with_its_file(
    tmp_path: Path, file: str, column: str, value: object, why: str
) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    path = tmp_path / f"SERIES_{file}.parquet"
    table = pd.read_parquet(path)
    table[column] = pd.Series([value] * len(table), index=table.index)
    table.to_parquet(path)
    with pytest.raises(DataError) as refused:
        recorded_markets(tmp_path)
    assert str(refused.value).startswith(f"{path}: ")
    assert why in str(refused.value)


def test_a_market_that_two_events_list_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    for kind in ("top_of_book", "settlement"):
        table = pd.read_parquet(tmp_path / f"SERIES_{kind}.parquet")
        if kind == "top_of_book":
            table = table[table["ticker"] == "E1-WARM"].assign(event="E2")
        table.to_parquet(tmp_path / f"SERIES2_{kind}.parquet")
    with pytest.raises(DataError, match=r"E1-WARM: listed in E\d and in E\d"):
        recorded_markets(tmp_path)
