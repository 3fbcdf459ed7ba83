from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from foundation.compose import composed_config
from marketsimulator.original_flags import overrides_of
from marketsimulator.results.verdict import verdict
from tests.e2e.refused import answer_of, refusal_of

ORIGINAL = "marketsimulator.backtest_kelly_chronos2"


def bars_file(folder: Path, name: str, rows: int = 400, **replaced: object) -> Path:
    stamps = pd.date_range("2024-01-01", periods=rows, freq="1h", tz="UTC")
    close = 100 + 5 * pd.Series(range(rows)).mod(17)
    data = pd.DataFrame(
        {
            "timestamp": stamps,
            "open": close,
            "high": close + 1,
            "low": close - 1,
            "close": close,
            "volume": 1.0,
        }
    )
    for column, value in replaced.items():
        data[column] = value
    folder.mkdir(exist_ok=True)
    data.to_parquet(folder / name)
    return folder


def test_the_original_flags_run_on_files_and_write_into_the_output(tmp_path: Path) -> None:
    data = bars_file(tmp_path / "coins", "AAAUSD.parquet")
    words = ["--symbols", "AAA/USD", "--days", "3", "--capital", "5000", "--data-dir", str(data)]
    words += ["--output", "out", "sizing.fraction=0.25"]
    code, printed, said = answer_of(ORIGINAL, *words, cwd=tmp_path)
    assert code == 0, said
    assert "total return" in printed
    assert "report.html" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["symbols"] == ["AAAUSD"]
    assert verdict(summary).claim in " ".join(printed.split())
    assert "fraction: 0.25" in (tmp_path / "out" / "config.yaml").read_text()
    assert list((tmp_path / "logs").glob("backtest-*.log"))
    assert {path.name for path in tmp_path.iterdir()} == {"coins", "out", "logs"}


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--symbols", "NVDA"], "NVDA"),
        (["--days", "many"], "--days"),
        (["--frobnicate"], "--frobnicate"),
        (["limits.symbol_cap=-1"], "limits.symbol_cap: -1"),
        (["forecaster.model=/no/where"], "/no/where"),
        (["a b=="], "a b=="),
    ],
)
def test_wrong_input_is_one_line_exit_code_2_and_nothing_written(
    tmp_path: Path, words: list[str], named: str
) -> None:
    assert named in refusal_of(ORIGINAL, *words, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["limits.cap=1"],
        ["-m", "capital=1,2", "bad.key=1"],
        ["--cfg", "job", "bad.key=1"],
        ["--config-name", "nope"],
        ["-m", "capital=1,2", "output=out"],
        ["--cfg"],
        ["capital=5", "--multirun", "trials=null"],
    ],
)
def test_the_hydra_entry_says_wrong_input_the_same_way(tmp_path: Path, words: list[str]) -> None:
    line = refusal_of("marketsimulator.backtest", *words, cwd=tmp_path)
    assert line.startswith("error: ")
    assert list(tmp_path.iterdir()) == []


def test_flags_become_overrides_literally() -> None:
    words = ["--symbols", "NVDA", "BTC/USD", "limits.symbol_cap=0.5"]
    overrides = overrides_of([*words, "--data-dir", "/a folder/x,y", "it's", "--output", "o"])
    config = composed_config("backtest", overrides)
    assert list(config.symbols) == ["NVDA", "BTC/USD"]
    assert list(config.data.dir) == ["/a folder/x,y", "it's"]
    assert config.limits.symbol_cap == 0.5
    assert config.output == "o"


def test_a_dry_decision_prints_the_orders_and_why_and_only_dry_runs(tmp_path: Path) -> None:
    words = ("end=2024-06-27T18:30Z", "symbols=[SYA,SYB]", "+positions.SYA=5000")
    plain = ("forecaster=ewma", "forecaster.calibrated=false")
    code, printed, said = answer_of("trade_stock_e2e", *words, *plain, cwd=tmp_path)
    assert code == 0, said
    assert "sell" in printed
    assert "premium" in printed
    for word in ("SYA=some", "SYXUSD=-1", "SYA=nan", "SYB=3"):
        told = ("symbols=[SYA]", f"+positions.{word}", *plain)
        line = refusal_of("trade_stock_e2e", *told, cwd=tmp_path)
        assert f"positions.{word.split('=')[0]}" in line
    assert {path.name for path in tmp_path.iterdir()} <= {"logs"}, "what is compiled is logged"
