from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from foundation.compose import composed_config
from foundation.configuration import check_values
from foundation.errors import InputError
from marketsimulator.original_flags import overrides_of
from marketsimulator.results.verdict import verdict
from marketsimulator.settings import BacktestSettings
from tests.commands import run_command

ROOT = Path(__file__).resolve().parent.parent.parent
SCRIPT = str(ROOT / "marketsimulator" / "backtest_kelly_chronos2.py")


def run(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run_command(words, cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1", **environment})


def one_line(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 2, answer.stderr
    lines = answer.stderr.splitlines()
    assert len(lines) == 1, answer.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


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
    words = [
        "--symbols",
        "AAA/USD",
        "--days",
        "3",
        "--capital",
        "5000",
        "--data-dir",
        str(data),
        "--output",
        "out",
        "sizing.fraction=0.25",
    ]
    answer = run(tmp_path, SCRIPT, *words)
    assert answer.returncode == 0, answer.stderr
    assert "total return" in answer.stdout
    assert "report.html" in answer.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["symbols"] == ["AAAUSD"]
    assert verdict(summary).claim in " ".join(answer.stdout.split())
    assert not list((tmp_path / "out").glob("*/summary.json"))
    assert "fraction: 0.25" in (tmp_path / "out" / "config.yaml").read_text()
    assert list((tmp_path / "logs").glob("backtest-*.log"))
    assert list(tmp_path.iterdir()).__len__() == 3, "nothing but data, output and logs"


def test_the_hydra_entry_shows_every_setting_and_runs(tmp_path: Path) -> None:
    shown = run(tmp_path, "-m", "marketsimulator.backtest", "--cfg", "job")
    assert shown.returncode == 0
    for key in ("symbol_cap", "interest_rate", "context_length", "hourly_window", "sec_per_dollar"):
        assert key in shown.stdout
    answer = run(
        tmp_path,
        "-m",
        "marketsimulator.backtest",
        "forecaster=ewma",
        "start=2024-06-20",
        "output=here",
        "symbols=[SYA,SYXUSD]",
    )
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / "here" / "summary.json").exists()


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--symbols", "NVDA"], "NVDA"),
        (["--days", "many"], "--days"),
        (["--frobnicate"], "--frobnicate"),
        (["stray"], "stray"),
        (["limits.symbol_cap=-1"], "limits.symbol_cap: -1"),
        (["forecaster.model=/no/where"], "/no/where"),
        (["forecaster.device=cuda:x"], "cuda:x"),
        (["a b=="], "a b=="),
    ],
)
def test_wrong_input_is_one_line_exit_code_2_and_nothing_written(
    tmp_path: Path, words: list[str], named: str
) -> None:
    assert named in one_line(run(tmp_path, SCRIPT, *words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.first_example
@pytest.mark.parametrize(
    "words",
    [
        ["limits.cap=1"],
        ["-m", "capital=1,2", "bad.key=1"],
        ["--cfg", "job", "bad.key=1"],
        ["--config-name", "nope"],
        ["--config-dir", "/nowhere", "+a=1"],
        ["-m", "capital=1,2", "capital=3"],
        ["-m", "capital=1,2", "output=out"],
        ["-m", "output=a,b"],
        ["hydra/launcher=none_such"],
        ["--cfg"],
        ["capital=5", "--multirun", "trials=null"],
    ],
)
def test_the_hydra_entry_says_wrong_input_the_same_way(tmp_path: Path, words: list[str]) -> None:
    one_line(run(tmp_path, "-m", "marketsimulator.backtest", *words))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "word",
    [
        "limits.symbol_cap=60",
        "limits.symbol_cap=inf",
        "limits.intraday_leverage=1000",
        "limits.overnight_leverage=200",
        "margin.leverage=50",
        "costs.stock_slippage_bps=nan",
        "capital=0",
        "capital=-5",
        "capital=much",
        "capital=true",
        "days=2.5",
        "sizing.fraction=true",
        "sizing.volatility=quantil",
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_by_its_key(word: str) -> None:
    key, _, value = word.partition("=")
    config = composed_config("backtest", [word])
    with pytest.raises(InputError, match=rf"^{re.escape(key)}: '?{re.escape(value)}\b") as refused:
        BacktestSettings.of(config)
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match=f"^{re.escape(str(refused.value))}$"):
        check_values("backtest", config)


def test_a_broken_file_is_one_line_and_nothing_written(tmp_path: Path) -> None:
    data = bars_file(tmp_path / "coins", "AAAUSD.parquet", close=-1.0)
    before = sorted(tmp_path.rglob("*"))
    line = one_line(run(tmp_path, SCRIPT, "--data-dir", str(data)))
    assert "AAAUSD.parquet: row 1: close is -1, a price must be above 0" in line
    assert sorted(tmp_path.rglob("*")) == before


def test_flags_become_overrides_literally() -> None:
    overrides = overrides_of(
        [
            "--symbols",
            "NVDA",
            "BTC/USD",
            "limits.symbol_cap=0.5",
            "--data-dir",
            "/a folder/x,y",
            "it's",
            "--output",
            "o",
        ]
    )
    config = composed_config("backtest", overrides)
    assert list(config.symbols) == ["NVDA", "BTC/USD"]
    assert list(config.data.dir) == ["/a folder/x,y", "it's"]
    assert config.limits.symbol_cap == 0.5
    assert config.output == "o"


@pytest.mark.slow
def test_a_dry_decision_prints_the_orders_and_why_and_only_dry_runs(tmp_path: Path) -> None:
    script = str(ROOT / "trade_stock_e2e.py")
    answer = run(
        tmp_path,
        *(script, "end=2024-06-27T18:30Z", "symbols=[SYA,SYB]", "+positions.SYA=5000"),
        "forecaster.cache=null",
    )
    assert answer.returncode == 0, answer.stderr
    assert "sell" in answer.stdout
    assert "premium" in answer.stdout
    assert "mode: live" in one_line(run(tmp_path, script, "mode=live"))
    for words in (
        ["+positions.SYA=some"],
        ["+positions.SYXUSD=-1"],
        ["+positions.SYA=nan"],
        ["+positions.SYB=3"],
    ):
        assert words[0][1:].split("=")[0] in one_line(
            run(tmp_path, script, "symbols=[SYA]", *words, "forecaster=ewma")
        )
    assert {path.name for path in tmp_path.iterdir()} <= {"logs"}, "what is compiled is logged"


def test_a_sweep_writes_a_folder_a_run(tmp_path: Path) -> None:
    answer = run(
        tmp_path,
        "-m",
        "marketsimulator.backtest",
        "-m",
        "forecaster=ewma",
        "start=2024-06-24",
        "symbols=[SYA]",
        "sizing.fraction=0.25,0.5",
        "hydra.sweep.dir=sweep",
    )
    assert answer.returncode == 0, answer.stderr
    assert {p.parent.name for p in (tmp_path / "sweep").glob("*/summary.json")} == {"0", "1"}
