"""History from a venue into files: resumed where it stopped, loaded anew where the venue has
changed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest

from foundation.errors import BrokerError, DataError
from trainingdata import download as module
from trainingdata.bar_files import read_bars
from trainingdata.bars import CLOSE, Bars
from trainingdata.download import download
from trainingdata.feed.market_data import Table
from trainingdata.timeframe import HOURLY, Timeframe

START, END = (np.datetime64(day, "ns") for day in ("2024-01-03", "2024-03-08T21:00"))


@dataclass
class Known:
    """Market data from a panel. fails: after so many questions."""

    bars: Bars
    fails: int = 10**9
    asked: list[tuple[str, np.datetime64, np.datetime64]] = field(default_factory=list)
    timeframe: ClassVar[Timeframe] = HOURLY

    def tables(self, symbols: list[str], since: np.datetime64, now: np.datetime64) -> list[Table]:
        if len(self.asked) >= self.fails:
            raise BrokerError("the venue does not answer")
        self.asked.append((symbols[0], since, now))
        found = []
        for symbol in symbols:
            if symbol in self.bars.symbols:
                s = self.bars.symbols.index(symbol)
                times, values = self.bars.real_bars(s)
                begins = HOURLY.clock(self.bars.instruments[s].kind).started_at(times)
                part = (begins >= since) & (times <= now)
                found.append((self.bars.instruments[s], times[part], values[part]))
        return [table for table in found if len(table[1])]


def silent(*_: object) -> None:
    pass


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", np.timedelta64(10, "D"))


def expected(market: Bars, symbol: str) -> tuple[np.ndarray, np.ndarray]:
    times, values = market.real_bars(market.symbols.index(symbol))
    part = (times > START) & (times <= END)
    return times[part], values[part]


def same(folder: Path, market: Bars, *symbols: str) -> None:
    read = read_bars([folder], list(symbols))
    for s, symbol in enumerate(read.symbols):
        times, values = expected(market, symbol)
        np.testing.assert_array_equal(read.real_bars(s)[0], times)
        np.testing.assert_array_equal(read.real_bars(s)[1], values)


@pytest.mark.parametrize("fails", [1, 6, 13])
def test_a_run_that_was_stopped_goes_on_where_it_was(
    market: Bars, tmp_path: Path, short_chunks: None, fails: int
) -> None:
    broken = Known(market, fails=fails)
    with pytest.raises(BrokerError):
        download(broken, ["SYA", "SYXUSD"], START, END, tmp_path, silent)  # type: ignore[arg-type]
    again = Known(market)
    download(again, ["SYA", "SYXUSD"], START, END, tmp_path, silent)  # type: ignore[arg-type]
    same(tmp_path, market, "SYA", "SYXUSD")
    assert len(again.asked) <= 14 - fails + 4


def test_a_later_run_adds_what_is_new_and_asks_for_little(
    market: Bars, tmp_path: Path, short_chunks: None
) -> None:
    early = np.datetime64("2024-03-01T21:00", "ns")
    download(Known(market), ["SYA"], START, early, tmp_path, silent)  # type: ignore[arg-type]
    later = Known(market)
    download(later, ["SYA"], START, END, tmp_path, silent)  # type: ignore[arg-type]
    assert len(later.asked) == 2
    assert later.asked[1][1] >= early - np.timedelta64(1, "D")
    same(tmp_path, market, "SYA")


def test_after_a_split_the_file_is_loaded_anew(
    market: Bars, tmp_path: Path, short_chunks: None
) -> None:
    download(
        Known(market), ["SYA"], START, np.datetime64("2024-03-01T21:00", "ns"), tmp_path, silent
    )  # type: ignore[arg-type]
    values = market.values.copy()
    values[:, :, :4] /= 4
    split = replace(market, values=values)
    download(Known(split), ["SYA"], START, END, tmp_path, silent)  # type: ignore[arg-type]
    same(tmp_path, split, "SYA")
    assert (
        pd.read_parquet(tmp_path / "SYA.parquet")["close"].iloc[0]
        == values[0, market.times > START, CLOSE][
            ~np.isnan(values[0, market.times > START, CLOSE])
        ][0]
    )


def test_a_symbol_without_bars_and_a_file_that_is_none_are_named(
    market: Bars, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="ZZZ: the venue has no bar between"):
        download(Known(market), ["ZZZ"], START, END, tmp_path, silent)  # type: ignore[arg-type]
    (tmp_path / "SYA.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"SYA\.parquet: cannot be read"):
        download(Known(market), ["SYA"], START, END, tmp_path, silent)  # type: ignore[arg-type]
