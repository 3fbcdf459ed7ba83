from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.errors import DataError
from tests.support.messages import refused
from tests.trainingdata.vendor_files import table, write
from trainingdata.bar_files import read_bars
from trainingdata.bars import CLOSE, Bars
from trainingdata.instruments import AssetClass


def frame() -> pd.DataFrame:
    """Two sessions of hourly stock bars."""
    return table("AAA", "2024-10-01", days=2)


def test_stocks_and_crypto_share_panel_without_forward_filling(tmp_path: Path) -> None:
    write(tmp_path / "AAA.csv", frame())
    write(tmp_path / "XYZUSD.csv", table("XYZUSD", "2024-10-01")[:14])
    bars = read_bars([tmp_path], ["AAA", "XYZ/USD"])
    assert [i.kind for i in bars.instruments] == [AssetClass.STOCK, AssetClass.CRYPTO]
    assert bars.mask.sum(axis=1).tolist() == [14, 14]
    assert np.isnan(bars.values[~bars.mask]).all()
    assert bars.bars_of_symbol(0)[1][:, CLOSE].tolist() == frame()["close"].tolist()


def test_file_name_without_a_symbol_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "notes of today.csv", frame())
    with refused(DataError, "today.csv"):
        read_bars([tmp_path], None)


@pytest.mark.parametrize(
    ("start", "end", "bars"),
    [
        ("2024-10-02T20:00", None, 14),
        ("2024-10-02T20:00", "2024-10-02T20:00", 14),
        (None, "2024-10-01T14:30", 1),
        ("2024-10-01T14:30", "2024-10-01T14:30", 1),
        ("2024-10-02T20:01", None, None),
        (None, "2024-10-01T14:29", None),
        ("2024-10-01T20:30", "2024-10-02T14:00", None),
    ],
)
def test_bars_are_selected_by_end_time(
    tmp_path: Path, start: str | None, end: str | None, bars: int | None
) -> None:
    write(tmp_path / "AAA.csv", frame())
    first, last = (None if at is None else np.datetime64(at, "ns") for at in (start, end))
    if bars is not None:
        assert read_bars([tmp_path], ["AAA"], start=first, end=last).mask.sum() == bars
        return
    with refused(DataError, "AAA"):
        read_bars([tmp_path], ["AAA"], start=first, end=last)


def test_panel_reports_tradability_of_its_instruments(market: Bars) -> None:
    shut = replace(
        market,
        instruments=tuple(
            replace(i, is_tradable=False, is_borrowable=False) for i in market.instruments
        ),
    )
    assert market.tradable.all()
    assert not shut.tradable.any()
    assert shut.long_only.all()
    part = shut.slice_rows(0, 3)
    assert (part.symbols, part.tradable.tolist()) == (market.symbols, [False] * len(market.symbols))
