"""What is doubtful of the bars is said where figures are read: report, summary and first lines."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from marketsimulator.results.remarks import prices_text
from tests.e2e.refused import answer_of
from trainingdata.bars import Bars
from trainingdata.source import DataSettings
from trainingdata.synthetic import SyntheticMarket
from trainingdata.timeframe import HOURLY

PRICES = ["open", "high", "low", "close"]
SPLIT, WRONG = 280, 320  # rows of SYA and of SYB
START, END = "2024-01-02", "2024-04-12"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of two stocks: one falls by 45 % overnight, one has a row a thousandfold."""
    place = tmp_path_factory.mktemp("bars")
    market = SyntheticMarket(symbols=("SYA", "SYB"), start=START, end=END).bars()
    for s, item in enumerate(market.instruments):
        times, values = market.real_bars(s)
        frame = pd.DataFrame(values, columns=[*PRICES, "volume"])
        frame.insert(
            0, "timestamp", pd.DatetimeIndex(HOURLY.clock(item.kind).started_at(times), tz="UTC")
        )
        if item.symbol == "SYA":
            frame.loc[SPLIT, PRICES] = frame["close"][SPLIT - 1]
            frame.loc[SPLIT:, PRICES] *= 0.55
        else:
            frame.loc[WRONG, PRICES] *= 1000
        frame.to_csv(place / f"{item.symbol}.csv", index=False)
    return place


@pytest.mark.slow
def test_report_summary_and_first_lines_carry_the_same_doubts(folder: Path, tmp_path: Path) -> None:
    words = [f"data.dir=[{folder}]", "start=2024-02-20", "forecaster=ewma", "trials=null"]
    words += ["forecaster.calibrated=false", "data.accept_jumps=true", f"output={tmp_path}"]
    code, printed, errors = answer_of("marketsimulator.backtest", *words)
    assert code == 0, errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    doubts = summary["doubts"]
    assert [each["symbol"] for each in doubts] == ["SYA", "SYB"]
    assert doubts[0]["what"].startswith("looks like a split of 2:1")
    assert "in the bar, which waits for the next" in doubts[0]["effect"]
    assert "books -45%" in doubts[0]["effect"]
    assert doubts[1]["what"].startswith("1 bar left out")
    said = [line for line in printed.splitlines() if line.startswith("In doubt: ")]
    told, *lines = printed.splitlines()
    assert told == "Bars are hours: timeframe=1h."
    first = lines[: len(doubts)]
    assert first == said[: len(doubts)]
    page = html.unescape((tmp_path / "report.html").read_text())
    figures = page.index("<h2>Figures</h2>")
    for doubt, line in zip(doubts, first, strict=True):
        for text in doubt.values():
            assert text in line
        assert page.index(line) < figures
    assert summary["prices"] == "not adjusted for every split"
    assert "Prices adjusted" not in printed


def test_adjusted_is_said_only_where_it_was_checked(folder: Path, market: Bars) -> None:
    sound = DataSettings(dir=(str(folder / "SYB.csv"),)).bars([], None, None)
    assert prices_text("split", sound) == "adjusted for splits: no jump is like one"
    assert prices_text("raw", sound) == "raw"
    assert prices_text("split", market) == "synthetic, without splits"
    jumped = DataSettings(dir=(str(folder),), accept_jumps=True).bars([], None, None)
    assert "not adjusted" in prices_text("all", jumped)
    assert np.array_equal(jumped.crypto, [False, False])
