from __future__ import annotations

import json
from pathlib import Path

import pytest

from foundation.compose import compose_config
from marketsimulator.original_flags import overrides_from_flags
from marketsimulator.results.verdict import backtest_verdict
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message
from tests.support.original_command import ORIGINAL, bars_file


@pytest.mark.wire
def test_legacy_flags_select_bars_and_the_output_folder(tmp_path: Path) -> None:
    data = bars_file(tmp_path / "coins", "AAAUSD.parquet")
    words = ["--symbols", "AAA/USD", "--days", "3", "--capital", "5000", "--data-dir", str(data)]
    words += ["--output", "out", "sizing.fraction=0.25"]
    code, printed, said = answer_of(ORIGINAL, *words, cwd=tmp_path)
    assert code == 0, said
    assert "Total return" in printed
    assert "report.html" in printed
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["symbols"] == ["AAAUSD"]
    assert backtest_verdict(summary).claim in " ".join(printed.split())
    assert "fraction: 0.25" in (tmp_path / "out" / "config.yaml").read_text()
    assert list((tmp_path / "logs").glob("backtest-*.log"))
    assert {path.name for path in tmp_path.iterdir()} == {"coins", "out", "logs"}


BACKTEST = "marketsimulator.backtest"


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("module", "words", "facts"),
    [
        (ORIGINAL, ["--symbols", "NVDA"], ("NVDA",)),
        (ORIGINAL, ["--days", "many"], ("--days",)),
        (ORIGINAL, ["--frobnicate"], ("--frobnicate",)),
        (ORIGINAL, ["limits.symbol_cap=-1"], ("limits.symbol_cap", "-1")),
        (ORIGINAL, ["forecaster.model=/no/where"], ("/no/where",)),
        (ORIGINAL, ["a b=="], ("b==",)),
        (BACKTEST, ["limits.cap=1"], ("limits.cap",)),
        (BACKTEST, ["-m", "capital=1,2", "bad.key=1"], ("bad",)),
        (BACKTEST, ["--config-name", "nope"], ("nope",)),
        (BACKTEST, ["-m", "capital=1,2", "output=out"], ("output",)),
        (BACKTEST, ["--cfg"], ("--cfg",)),
    ],
)
def test_invalid_arguments_give_one_line_error_without_output(
    tmp_path: Path, module: str, words: list[str], facts: tuple[str, ...]
) -> None:
    check_message(refusal_of(module, *words, cwd=tmp_path), *facts)
    assert list(tmp_path.iterdir()) == []


def test_legacy_flag_values_become_config_overrides_unchanged() -> None:
    words = ["--symbols", "NVDA", "BTC/USD", "limits.symbol_cap=0.5"]
    overrides = overrides_from_flags(
        [*words, "--data-dir", "/a folder/x,y", "it's", "--output", "o"]
    )
    config = compose_config("backtest", overrides)
    assert list(config.symbols) == ["NVDA", "BTC/USD"]
    assert list(config.data.dir) == ["/a folder/x,y", "it's"]
    assert config.limits.symbol_cap == 0.5
    assert config.output == "o"


DRY = ("symbols=[SYA,SYB]", "forecaster=ewma", "forecaster.calibrated=false")


def test_dry_run_prints_orders_with_reasons(tmp_path: Path) -> None:
    words = (*DRY, "data.start=2024-05-01", "end=2024-06-27T18:30Z", "+positions.SYA=5000")
    code, printed, said = answer_of("trade_stock_e2e", *words, cwd=tmp_path)
    assert code == 0, said
    assert "sell" in printed
    assert "premium" in printed
    check_message(
        refusal_of("trade_stock_e2e", *DRY, "+positions.SYC=3", cwd=tmp_path), "positions.SYC"
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"logs"}, "what is compiled is logged"


@pytest.mark.first_example
@pytest.mark.parametrize("word", ["SYA=some", "SYXUSD=-1", "SYA=nan"])
def test_invalid_position_quantity_is_refused_naming_its_key(tmp_path: Path, word: str) -> None:
    line = refusal_of("trade_stock_e2e", *DRY, f"+positions.{word}", cwd=tmp_path)
    check_message(line, f"positions.{word.partition('=')[0]}")


@pytest.mark.wire
def test_legacy_flags_find_bars_in_trainingdata_by_default(tmp_path: Path) -> None:
    folder = tmp_path / "trainingdata" / "hourly" / "crypto"
    folder.parent.mkdir(parents=True)
    bars_file(folder, "AAA-USD.parquet")
    words = ["--symbols", "AAAUSD", "--days", "3", "--output", "out"]
    code, _, said = answer_of(ORIGINAL, *words, cwd=tmp_path)
    assert code == 0, said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["symbols"] == ["AAAUSD"]
    assert "trainingdata/hourly/crypto" in summary["data"]


def test_missing_bars_error_names_trainingdata_and_the_flag(tmp_path: Path) -> None:
    code, _, said = answer_of(ORIGINAL, "--symbols", "NVDA", cwd=tmp_path)
    assert (code, said.count("\n")) == (2, 1)
    assert "no bars of NVDA were found below trainingdata/" in said
    assert "--data-dir FOLDER" in said
    assert not list(tmp_path.iterdir())


def test_stated_bar_folder_takes_precedence_over_trainingdata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bars_file(tmp_path / "other", "AAAUSD.parquet")
    (tmp_path / "trainingdata").mkdir()
    bars_file(tmp_path / "trainingdata" / "crypto", "AAAUSD.parquet")
    monkeypatch.chdir(tmp_path)
    for words in (["--data-dir", "other"], ["data.dir=[other]"]):
        config = compose_config("backtest", overrides_from_flags(["--symbols", "AAAUSD", *words]))
        assert list(config.data.dir) == ["other"]
