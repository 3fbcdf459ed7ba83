from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from event_contracts.simulation import recorded
from event_contracts.simulation.recorded import (
    data_folder,
    recorded_markets,
    recorded_sessions,
)
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

Quote = tuple[str, str, int, int]  # time on 2025-12-04, ticker, YES bid and YES ask in cents

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


def write_files(folder: Path, quotes: list[Quote], settled: dict[str, float]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    times, tickers, bids, asks = zip(*quotes, strict=True)
    pd.DataFrame(
        {
            "timestamp": pd.to_datetime(
                [f"2025-12-04T{time}Z" for time in times], format="ISO8601"
            ),
            "ticker": tickers,
            "event": [ticker.split("-")[0] for ticker in tickers],
            "yes_bid": np.array(bids, dtype=np.float32),
            "no_bid": 100 - np.array(asks, dtype=np.float32),
        }
    ).to_parquet(folder / "SERIES_top_of_book.parquet")
    pd.DataFrame(
        {"ticker": list(settled), "settled_yes_inferred": list(settled.values())}
    ).to_parquet(folder / "SERIES_settlement.parquet")
    return folder


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


def test_a_gap_in_the_recording_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    quotes = [*QUOTES[:-1], ("12:32:00", "E1-COLD", 0, 1), ("12:52:00", "E1-WARM", 99, 100)]
    with caplog.at_level(logging.INFO):
        recorded_markets(write_files(tmp_path, quotes, SETTLED))
    assert "no quote" not in caplog.text

    quotes[-1] = ("12:52:01", "E1-WARM", 99, 100)
    with caplog.at_level(logging.INFO):
        _, warm = recorded_markets(write_files(tmp_path, quotes, SETTLED))
    assert "E1: no quote of any market from 2025-12-04T12:32:00" in caplog.text
    inside = (warm.times > np.datetime64("2025-12-04T12:32:00")) & (
        warm.times < np.datetime64("2025-12-04T12:52:01")
    )
    assert inside.sum() == 4
    assert (warm.session[:-1][inside, YES_BID] == 0.25).all()


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


@pytest.mark.parametrize("step", [np.timedelta64(1, "m"), np.timedelta64(90, "s")])
def test_another_step_has_other_rows_of_the_same_quotes(
    tmp_path: Path, step: np.timedelta64
) -> None:
    folder = write_files(tmp_path, QUOTES, SETTLED)
    for market in recorded_markets(folder, step):
        assert (np.diff(market.times) == step).all()
        assert (
            market.times.astype(np.int64) % step.astype("timedelta64[ns]").astype(np.int64) == 0
        ).all()
    with pytest.raises(InputError, match="step: "):
        recorded_markets(folder, np.timedelta64(0, "m"))
    with pytest.raises(InputError, match="no settled market"):
        recorded_markets(folder, np.timedelta64(7, "D"))


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


def test_outcomes_and_bids_of_other_number_types_are_the_same(tmp_path: Path) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    before = recorded_sessions(tmp_path)
    for file, columns, kind in (
        ("settlement", ["settled_yes_inferred"], bool),
        ("top_of_book", ["yes_bid", "no_bid"], "Int64"),
    ):
        path = tmp_path / f"SERIES_{file}.parquet"
        table = pd.read_parquet(path)
        table[columns] = table[columns].astype(kind)
        table.to_parquet(path)
    after = recorded_sessions(tmp_path)
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_market_that_settled_both_ways_is_refused(tmp_path: Path) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    twice = pd.DataFrame({"ticker": ["E1-WARM"] * 2, "settled_yes_inferred": [0.0, 1.0]})
    twice.to_parquet(tmp_path / "SERIES_settlement.parquet")
    with pytest.raises(DataError, match="E1-WARM: settled at 0 and at 1"):
        recorded_markets(tmp_path)


@pytest.mark.parametrize("files", [1, 2])
def test_a_market_that_two_events_list_is_refused(tmp_path: Path, files: int) -> None:
    quotes = pd.read_parquet(write_files(tmp_path, QUOTES, SETTLED) / "SERIES_top_of_book.parquet")
    again = quotes[quotes["ticker"] == "E1-WARM"].assign(event="E2")
    if files == 1:
        quotes = pd.concat([quotes, again])
    else:
        again.to_parquet(tmp_path / "SERIES2_top_of_book.parquet")
        settled = pd.read_parquet(tmp_path / "SERIES_settlement.parquet")
        settled.to_parquet(tmp_path / "SERIES2_settlement.parquet")
    quotes.to_parquet(tmp_path / "SERIES_top_of_book.parquet")
    with pytest.raises(DataError, match=r"E1-WARM: listed in E\d and in E\d"):
        recorded_markets(tmp_path)


def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    write_files(tmp_path, QUOTES, SETTLED)
    (tmp_path / "SERIES_settlement.parquet").unlink()
    with pytest.raises(DataError, match=r"SERIES_settlement\.parquet: cannot be read"):
        recorded_markets(tmp_path)
    (tmp_path / "SERIES_settlement.parquet").write_text("no table")
    with pytest.raises(DataError, match=r"SERIES_settlement\.parquet: cannot be read"):
        recorded_markets(tmp_path)


def test_the_folder_is_the_named_one_else_the_working_one_else_the_one_beside_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "project" / "event_contracts" / "simulation" / "recorded.py"
    monkeypatch.setattr(recorded, "__file__", str(module))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    with pytest.raises(InputError, match="there is no folder data/kalshi") as refused:
        data_folder()
    assert str(tmp_path) not in str(refused.value)

    shared = tmp_path / "shared" / "data" / "kalshi"
    shared.mkdir(parents=True)
    assert data_folder() == shared
    write_files(Path("data", "kalshi"), QUOTES, SETTLED)
    assert data_folder() == Path("data", "kalshi")
    assert len(recorded_sessions()) == 2
    with pytest.raises(InputError, match=r"folder: .* is no folder"):
        recorded_markets(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def real_folder() -> Path:
    try:
        return data_folder()
    except InputError:
        pytest.skip("there are no recorded markets here")


@pytest.fixture(scope="module")
def real_markets(real_folder: Path) -> list[recorded.RecordedMarket]:
    return recorded_markets(real_folder)


def test_real_sessions_are_sessions_that_settle_as_the_file_says(
    real_folder: Path, real_markets: list[recorded.RecordedMarket]
) -> None:
    tables = [pd.read_parquet(path) for path in real_folder.glob("*_settlement.parquet")]
    settled = pd.concat(tables).set_index("ticker")["settled_yes_inferred"]
    assert len(real_markets) == len(settled)
    for market in real_markets:
        np.testing.assert_array_equal(checked_session(market.session), market.session)
        assert outcome_of(market.session) == settled[market.market]
        assert len(market.times) == len(market.session) - 1


def test_real_rows_show_the_quotes_of_the_file(
    real_folder: Path, real_markets: list[recorded.RecordedMarket]
) -> None:
    tables = [pd.read_parquet(path) for path in real_folder.glob("*_top_of_book.parquet")]
    quotes = pd.concat(tables)
    quotes = quotes[quotes["yes_bid"] < quotes["yes_ask"]].sort_values("timestamp", kind="stable")
    for market in real_markets[::11]:
        own = quotes[quotes["ticker"] == market.market]
        rows = pd.DataFrame({"timestamp": pd.DatetimeIndex(market.times, tz="UTC").as_unit("us")})
        shown = pd.merge_asof(rows, own, on="timestamp")
        bids = shown["yes_bid"].to_numpy() / np.float32(100)
        asks = shown["yes_ask"].to_numpy() / np.float32(100)
        np.testing.assert_allclose(market.session[:-1, YES_BID], bids, atol=1e-6)
        np.testing.assert_allclose(market.session[:-1, YES_ASK], asks, atol=1e-6)


def test_later_real_quotes_and_outcomes_change_no_earlier_row(
    real_folder: Path, real_markets: list[recorded.RecordedMarket], tmp_path: Path
) -> None:
    event = real_markets[0].event
    before = [market for market in real_markets if market.event == event]
    row = len(before[0].times) // 2
    instant = pd.Timestamp(before[0].times[row], tz="UTC")
    for path in real_folder.glob("*_top_of_book.parquet"):
        quotes = pd.read_parquet(path)
        quotes = quotes[quotes["event"] == event].copy()
        later = (quotes["timestamp"] > instant).to_numpy()
        quotes.loc[later, "yes_bid"] = 3.0
        quotes.loc[later, "no_bid"] = 5.0
        quotes.to_parquet(tmp_path / path.name)
    for path in real_folder.glob("*_settlement.parquet"):
        settled = pd.read_parquet(path)
        settled["settled_yes_inferred"] = 1 - settled["settled_yes_inferred"]
        settled.to_parquet(tmp_path / path.name)
    after = recorded_markets(tmp_path)
    assert [market.market for market in after] == [market.market for market in before]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(new.session[: row + 1], old.session[: row + 1])
        assert not np.array_equal(new.session[row + 1 : -1], old.session[row + 1 : -1])
        assert outcome_of(new.session) == 1 - outcome_of(old.session)
