"""Symbols of files: share classes, small letters, and files of a day each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.errors import DataError, InputError
from tests.support.messages import refused
from trainingdata import load_bars
from trainingdata.bar_files import find_symbol_folders
from trainingdata.bars import CLOSE
from trainingdata.corporate_actions import read_corporate_events
from trainingdata.instruments import instrument, normalize_data_symbol

DATES = ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]
CLOSES = {"AAA": 185.0, "BBB": 40.0, "TPC": 9.0}


def polygon(dates: list[str], closes: dict[str, float]) -> pd.DataFrame:
    """Rows of a Polygon flat file of days: each symbol on each date."""
    starts = [pd.Timestamp(date, tz="America/New_York").value for date in dates]
    rows = [
        (symbol, 1000, close + day, close + day, close + day, close + day, starts[day], 3)
        for symbol, close in closes.items()
        for day in range(len(dates))
    ]
    columns = ["ticker", "volume", "open", "close", "high", "low", "window_start", "transactions"]
    return pd.DataFrame(rows, columns=columns)


def write_days(folder: Path, frame: pd.DataFrame, dates: list[str] = DATES) -> None:
    """A file for each date."""
    for date in dates:
        start = pd.Timestamp(date, tz="America/New_York").value
        frame[frame["window_start"] == start].to_csv(folder / f"{date}.csv", index=False)


def test_one_file_per_day_equals_one_combined_file(tmp_path: Path) -> None:
    whole, apart = tmp_path / "whole", tmp_path / "apart"
    whole.mkdir()
    apart.mkdir()
    frame = polygon(DATES, CLOSES)
    frame.to_csv(whole / "market.csv", index=False)
    write_days(apart, frame)
    expected = load_bars(whole)
    for symbols in ((), ("AAA",), ("TPC", "BBB")):
        read = load_bars(apart, symbols=symbols)
        kept = expected.select(symbols or tuple(CLOSES))
        assert read.symbols == kept.symbols
        np.testing.assert_array_equal(read.values, kept.values)
    assert [origin.file.rpartition("/")[2] for origin in read.provenances] == [
        "2024-01-02.csv and 3 more files, joined rows of BBB",
        "2024-01-02.csv and 3 more files, joined rows of TPC",
    ]


def test_symbol_missing_from_one_daily_file_is_read(tmp_path: Path) -> None:
    frame = polygon(DATES, CLOSES)
    late = frame["ticker"].eq("BBB") & (frame["window_start"] == frame["window_start"].min())
    write_days(tmp_path, frame[~late])
    assert load_bars(tmp_path, symbols=["AAA", "BBB"]).mask.sum(axis=1).tolist() == [4, 3]


def test_overlapping_or_differing_symbol_files_are_refused(tmp_path: Path) -> None:
    frame = polygon(DATES, CLOSES)
    write_days(tmp_path, frame)
    frame.to_csv(tmp_path / "again.csv", index=False)
    with refused(DataError, "4", "AAA", "row 2"):
        load_bars(tmp_path, symbols=["AAA"])
    own = pd.DataFrame({"date": ["2024-01-08"], "symbol": "AAA"})
    own[["open", "high", "low", "close", "volume"]] = 5.0
    own.to_csv(tmp_path / "again.csv", index=False)
    with refused(DataError):
        load_bars(tmp_path, symbols=["AAA"])


def test_lower_case_ticker_letter_denotes_another_security(tmp_path: Path) -> None:
    polygon(DATES, CLOSES | {"TpC": 20.0}).to_csv(tmp_path / "market.csv", index=False)
    assert load_bars(tmp_path, symbols=["TPC"]).values[0, 0, CLOSE] == CLOSES["TPC"]
    assert load_bars(tmp_path, symbols=["AAA"]).symbols == ("AAA",)
    for symbols in (["TpC"], []):
        with refused(InputError, "TPC"):
            load_bars(tmp_path, symbols=symbols)
    polygon(DATES, {"AAA": 5.0, "TpC": 20.0}).to_csv(tmp_path / "market.csv", index=False)
    with refused(DataError, "TPC"):
        load_bars(tmp_path, symbols=["TPC"])


def test_file_names_of_preferred_shares_are_refused(tmp_path: Path) -> None:
    frame = polygon(DATES, {"TPC": 9.0}).drop(columns="ticker")
    for name in ("TpC", "TpC_1d"):
        path = tmp_path / f"{name}.csv"
        frame.to_csv(path, index=False)
        for place in (path, tmp_path):
            with refused(DataError, "TPC"):
                load_bars(place)
        path.unlink()
    for name in ("Tpc", "tpc_1D", "TPC-daily"):
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
        assert load_bars(tmp_path / f"{name}.csv").symbols == ("TPC",)


def test_corporate_action_files_refuse_preferred_shares(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nTpC,2024-03-04,split,2\n")
    with refused(DataError, "row 1", "'TpC'"):
        read_corporate_events(path)


@pytest.mark.parametrize("name", ["BRK.B", "BRK-B", "BRK/B", "brk-b", " Brk.b "])
def test_share_class_spellings_map_to_one_symbol(name: str) -> None:
    assert instrument(name).symbol == normalize_data_symbol(name) == "BRK.B"


def test_two_files_of_a_share_class_are_refused(tmp_path: Path) -> None:
    frame = polygon(DATES, {"X": 9.0}).drop(columns="ticker")
    frame.to_csv(tmp_path / "BRK-B.csv", index=False)
    assert load_bars(tmp_path, symbols=["BRK.B"]).symbols == ("BRK.B",)
    frame.to_csv(tmp_path / "BRK.B.csv", index=False)
    with refused(DataError, "BRK.B", "BRK-B.csv", "BRK.B.csv"):
        load_bars(tmp_path)


def test_missing_ticker_error_names_row_and_column(tmp_path: Path) -> None:
    frame = polygon(DATES, CLOSES)
    frame.loc[2, "ticker"] = None
    frame.to_csv(tmp_path / "market.csv", index=False)
    for symbols in (["AAA"], []):
        with refused(DataError, "market.csv", "row 3", "ticker"):
            load_bars(tmp_path, symbols=symbols)


@pytest.mark.parametrize(
    "name",
    [
        "BTCUSDT-1h-2023-01",
        "BTCUSD_PERP-1h-2023-01",
        "BTC-USDT-1h-2023-01-05",
        "XBTUSD_60",
        "Bitstamp_BTCUSD_1h",
        "BTCUSD_H1",
        "BTCUSD60",
        "btcusd_1-min_data",
        "BTCUSD_1-min_data_2012-01-01_to_2021-03-31",
        "BTC_USD Bitfinex Historical Data",
        "Gemini_BTCUSD_2019_1min",
        "Binance_BTCUSDT_2020_minute",
        "BTC-USD (1)",
    ],
)
def test_symbol_is_read_from_vendor_file_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.csv"
    hours(2).to_csv(path, index=False)
    assert load_bars(tmp_path, symbols=["BTCUSD"]).symbols == ("BTCUSD",)
    assert load_bars(path).symbols == ("BTCUSD",)


def test_a_file_named_after_an_exchange_is_refused(tmp_path: Path) -> None:
    """Kaggle's bitstampUSD holds Bitcoin; its name does not say so."""
    hours(2).to_csv(tmp_path / "bitstampUSD_1-min_data_2012-01-01_to_2021-03-31.csv", index=False)
    for symbols in (["BTCUSD"], []):
        with refused(DataError):
            load_bars(tmp_path, symbols=symbols)


def test_linked_folders_are_searched_once_despite_cycles(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "disk", tmp_path / "bars"
    (elsewhere / "stocks").mkdir(parents=True)
    (root / "more").mkdir(parents=True)
    hours(2).to_csv(elsewhere / "stocks" / "BTCUSD.csv", index=False)
    (root / "a").symlink_to(elsewhere, target_is_directory=True)
    (root / "b").symlink_to(elsewhere / "stocks", target_is_directory=True)
    (elsewhere / "up").symlink_to(root, target_is_directory=True)
    found = find_symbol_folders(root, ["BTCUSD"])
    assert [folder.resolve() for folder in found] == [elsewhere / "stocks"]
    assert load_bars(*found).symbols == ("BTCUSD",)


def hours(count: int, day: str = "2024-01-31") -> pd.DataFrame:
    """Hours of a coin from midnight UTC of a day."""
    stamps = pd.date_range(day, periods=count, freq="h", tz="UTC").strftime("%Y-%m-%dT%H:%MZ")
    frame = pd.DataFrame({"timestamp": stamps})
    frame[["open", "high", "low", "close", "volume"]] = 5.0
    return frame


def test_monthly_files_of_a_symbol_form_one_series(tmp_path: Path) -> None:
    whole = hours(48)
    whole.to_csv(tmp_path / "BTCUSD.csv", index=False)
    months = tmp_path / "months"
    months.mkdir()
    whole[:24].to_csv(months / "BTCUSDT-1h-2024-01.csv", index=False)
    whole[24:].to_csv(months / "BTCUSDT-1h-2024-02.csv", index=False)
    read, expected = load_bars(months), load_bars(tmp_path / "BTCUSD.csv")
    assert read.times.tolist() == expected.times.tolist()
    np.testing.assert_array_equal(read.values, expected.values)
    for year in ("2023", "2024"):
        begin = 24 * (year == "2024")
        whole[begin : begin + 24].to_csv(months / f"Gemini_ETHUSD_{year}_1h.csv", index=False)
    assert load_bars(months, symbols=["ETHUSD"]).times.tolist() == expected.times.tolist()
    whole[:5].to_csv(months / "BTCUSDT-5m-2024-03.csv", index=False)
    with refused(DataError, "BTCUSD"):
        load_bars(months)
