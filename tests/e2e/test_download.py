"""History from a venue into files: resumed where it stopped, loaded anew where the venue has
changed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from foundation.errors import BrokerError, DataError
from tests.support.messages import refused
from trainingdata import download as module
from trainingdata.bar_files import read_bars
from trainingdata.bars import Bars
from trainingdata.download import download
from trainingdata.feed.market_data import SymbolBars
from trainingdata.timeframe import HOURLY, Timeframe

START, END = (np.datetime64(day, "ns") for day in ("2024-01-03", "2024-03-08T21:00"))


EARLY = np.datetime64("2024-03-01T21:00", "ns")


@dataclass
class Known:
    """Market data from a panel. fails: after so many questions."""

    bars: Bars
    fails: int = 10**9
    asked: list[np.datetime64] = field(default_factory=list)
    timeframe: ClassVar[Timeframe] = HOURLY

    def bars_by_symbol(
        self, symbols: list[str], since: np.datetime64, now: np.datetime64
    ) -> list[SymbolBars]:
        if len(self.asked) >= self.fails:
            raise BrokerError("the venue does not answer")
        self.asked.append(since)
        found = []
        for s, item in enumerate(self.bars.instruments):
            times, values = self.bars.bars_of_symbol(s)
            part = (HOURLY.clock(item.kind).starts_by_end(times) >= since) & (times <= now)
            if item.symbol in symbols and part.any():
                found.append((item, times[part], values[part]))
        return found


@pytest.fixture
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SPAN", np.timedelta64(10, "D"))


def bring(data: Any, folder: Path, *symbols: str, end: np.datetime64 = END) -> None:
    download(data, symbols, START, end, folder, lambda *_: None)


def same(folder: Path, market: Bars, *symbols: str) -> None:
    read = read_bars([folder], list(symbols))
    for s, symbol in enumerate(read.symbols):
        times, values = market.bars_of_symbol(market.symbols.index(symbol))
        part = (times > START) & (times <= END)
        np.testing.assert_array_equal(read.bars_of_symbol(s)[0], times[part])
        np.testing.assert_array_equal(read.bars_of_symbol(s)[1], values[part])


@pytest.mark.parametrize("fails", [1, 6, 13])
def test_interrupted_download_resumes_where_it_stopped(
    market: Bars, tmp_path: Path, short_chunks: None, fails: int
) -> None:
    with pytest.raises(BrokerError):
        bring(Known(market, fails=fails), tmp_path, "SYA", "SYXUSD")
    again = Known(market)
    bring(again, tmp_path, "SYA", "SYXUSD")
    same(tmp_path, market, "SYA", "SYXUSD")
    assert len(again.asked) <= 14 - fails + 4


def test_repeated_download_appends_bars_or_reloads_after_split(
    market: Bars, tmp_path: Path, short_chunks: None
) -> None:
    bring(Known(market), tmp_path, "SYA", end=EARLY)
    later = Known(market)
    bring(later, tmp_path, "SYA")
    assert len(later.asked) == 2
    assert later.asked[1] >= EARLY - np.timedelta64(1, "D")
    same(tmp_path, market, "SYA")
    split = replace(market, values=market.values / [4, 4, 4, 4, 1])
    bring(Known(split), tmp_path, "SYA")
    same(tmp_path, split, "SYA")


def test_download_error_names_unknown_symbol_or_unreadable_file(
    market: Bars, tmp_path: Path
) -> None:
    with refused(DataError, "ZZZ"):
        bring(Known(market), tmp_path, "ZZZ")
    (tmp_path / "SYA.parquet").write_bytes(b"nothing of the kind")
    with refused(DataError, "SYA.parquet", varies="read: .*;"):
        bring(Known(market), tmp_path, "SYA")
