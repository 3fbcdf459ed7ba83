"""What is doubtful of the bars is said where figures are read: report, summary and first lines."""

from __future__ import annotations

import html
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foundation.compose import compose_config
from marketsimulator.results.remarks import data_warning_remarks, describe_price_adjustment
from marketsimulator.settings import BacktestSettings
from tests.e2e.refused import answer_of
from trainingdata.bars import Bars, DataWarning, merge_warnings
from trainingdata.corporate_actions import CorporateAction
from trainingdata.market import Market
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
    market = SyntheticMarket(symbols=("SYA", "SYB"), start=START, end=END).generate_bars()
    for s, item in enumerate(market.instruments):
        times, values = market.bars_of_symbol(s)
        frame = pd.DataFrame(values, columns=[*PRICES, "volume"])
        frame.insert(
            0, "timestamp", pd.DatetimeIndex(HOURLY.clock(item.kind).starts_by_end(times), tz="UTC")
        )
        if item.symbol == "SYA":
            frame.loc[SPLIT, PRICES] = frame["close"][SPLIT - 1]
            frame.loc[SPLIT:, PRICES] *= 0.55
        else:
            frame.loc[WRONG, PRICES] *= 1000
        frame.to_csv(place / f"{item.symbol}.csv", index=False)
    return place


@pytest.mark.slow
def test_report_summary_and_output_show_the_same_warnings(folder: Path, tmp_path: Path) -> None:
    words = [f"data.dir=[{folder}]", "start=2024-02-20", "forecaster=ewma", "trials=null"]
    words += ["forecaster.calibrated=false", "data.accept_jumps=true", f"output={tmp_path}"]
    code, printed, errors = answer_of("marketsimulator.backtest", *words)
    assert code == 0, errors
    summary = json.loads((tmp_path / "summary.json").read_text())
    doubts = summary["doubts"]
    assert [each["symbol"] for each in doubts] == ["SYA", "SYB"]
    assert doubts[0]["what"].startswith("the close jumps like an unadjusted 2:1 split")
    assert doubts[0]["effect"].startswith("the bar is not used")
    assert "books a false -45%" in doubts[0]["effect"]
    assert doubts[1]["what"].startswith("the bar is skipped")
    told, *lines = printed.splitlines()
    assert told == "Bars are hours: timeframe=1h."
    first = lines[: len(doubts)]
    assert [line for line in lines if line.startswith("In doubt: ")] == first, "each once"
    page = html.unescape((tmp_path / "report.html").read_text())
    figures = page.index("<h2>Figures</h2>")
    for doubt, line in zip(doubts, first, strict=True):
        for text in doubt.values():
            assert text in line
        assert "real" in line
        assert figures < page.index(line)
    assert summary["prices"] == "not adjusted for every split"
    assert "Prices adjusted" not in printed


def run_over(folder: Path, *words: str) -> Market:
    config = compose_config(
        "backtest", [f"data.dir=[{folder}]", "data.accept_jumps=true", "trials=null", *words]
    )
    return BacktestSettings.from_config(config).load_market()


def test_data_warnings_outside_the_run_are_not_reported(folder: Path) -> None:
    """Rows 280 and 320 become known on 2024-02-29 and on 2024-03-07."""

    def told(*words: str) -> list[tuple[str, str]]:
        return [(one.symbol, one.kind) for one in run_over(folder, *words).data_warnings]

    assert told("start=2024-02-20") == [("SYA", "split"), ("SYB", "left_out")]
    assert told("start=2024-03-04") == [("SYB", "left_out")]
    assert told("start=2024-02-20", "end=2024-03-05") == [("SYA", "split")]
    assert told("start=2024-03-11") == []
    assert told("days=5") == []


def test_price_jump_warnings_merge_into_one_per_symbol() -> None:
    """The largest jump is named; a split is never merged with another one."""
    at = [np.datetime64(f"2024-03-0{day}", "ns") for day in (1, 2, 3)]
    sizes = (9.0, 40.0, 20.0)
    moves = [
        DataWarning("AAA", day, f"opens {size:g} times", "it books", "cure", "move", size)
        for day, size in zip(at, sizes, strict=True)
    ]
    ratios = [DataWarning("AAA", day, "like 3:2", "it books", "cure", "ratio") for day in at[:2]]
    lines = data_warning_remarks(merge_warnings([*moves, *ratios]))
    assert len(lines) == 3
    span = "2024-03-01T00:00Z to 2024-03-03T00:00Z"
    what = f"opens 40 times (the largest of 3 such bars, {span})"
    assert f"In doubt: AAA, 2024-03-02T00:00Z: {what}; it books; cure." in lines


def test_prices_are_described_as_adjusted_only_if_checked(folder: Path, market: Bars) -> None:
    sound = DataSettings(dir=(str(folder / "SYB.csv"),)).load_panel([], None, None)
    unchecked = "configured as split-adjusted (not checked: data.actions lists no split)"
    assert describe_price_adjustment("split", sound, (), ()) == unchecked
    listed = [
        CorporateAction("SYB", np.datetime64(sound.times[100]), split_ratio=ratio)
        for ratio in (1.5, 3)
    ]
    text = describe_price_adjustment("split", sound, (), listed)
    assert text == "adjusted for 2 splits that data.actions lists"
    small = [CorporateAction("SYB", np.datetime64(sound.times[100]), split_ratio=1.05)]
    assert describe_price_adjustment("split", sound, (), small) == unchecked
    assert describe_price_adjustment("raw", sound, (), listed) == "raw"
    assert describe_price_adjustment("split", market, (), ()) == "synthetic, without splits"
    jumped = DataSettings(dir=(str(folder),), accept_jumps=True).load_panel([], None, None)
    assert "not adjusted" in describe_price_adjustment("all", jumped, jumped.data_warnings, ())
    assert "dividend-adjusted (not checked)" in describe_price_adjustment(
        "all", jumped, jumped.data_warnings, ()
    )
