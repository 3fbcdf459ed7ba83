"""Files of one's own, as they come, given to the backtest in one flag."""

from __future__ import annotations

from pathlib import Path

import pytest

from foundation.compose import compose_config
from foundation.errors import InputError
from marketsimulator import BacktestSettings
from tests.e2e.refused import answer_of, refusal_of
from tests.support.messages import check_message, refused
from tests.support.original_command import ORIGINAL
from tests.trainingdata.vendor_files import table, write
from trainingdata.file_formats import FILE_FORMATS

FLAGS = ("--start", "2024-03-12", "--end", "2024-03-20", "forecaster=ewma", "trials=null")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A stock in half hours that say no zone, and a coin as Binance's archive has it."""
    stock = table("AAA", "2024-03-01", 30, days=14)
    local = stock["start"].dt.tz_convert("America/New_York").dt.tz_localize(None)
    write(tmp_path / "aaa_30m.csv", stock.assign(start=local))
    spot = next(head for head in FILE_FORMATS if head.is_headerless)
    write(tmp_path / "bbb-usdt.csv", table("BBBUSD", "2024-03-01", days=14), spot)
    return tmp_path


@pytest.mark.slow
def test_backtest_on_custom_csv_reports_bar_interpretation(folder: Path) -> None:
    words = ("--data-dir", "aaa_30m.csv", "bbb-usdt.csv", "--symbols", "AAA,BBB-USD", *FLAGS)
    told = (*words, "data.zone=America/New_York", "--output", "out")
    code, printed, said = answer_of(ORIGINAL, *told, cwd=folder)
    assert code == 0, said
    read, _, result = printed.partition("Total return")
    assert result
    for part in (
        "Bars read",
        "America/New_York, begin",
        "UTC, epoch ms, begin",
        "AAA: 30-minute bars are aggregated to hours",
        "BBBUSD: prices are in USDT",
        "BBBUSD: end: 2024-03-20 is requested, but bars end at 2024-03-15T03:00Z",
    ):
        assert part in read


def test_bar_file_without_time_zone_is_refused(folder: Path) -> None:
    check_message(
        refusal_of(ORIGINAL, "--data-dir", "aaa_30m.csv", *FLAGS, cwd=folder),
        "aaa_30m.csv",
        "row 1",
        "timestamp '2024-03-01 09:30:00'",
        "data.zone=America/New_York",
    )
    assert sorted(path.name for path in folder.iterdir()) == ["aaa_30m.csv", "bbb-usdt.csv"]


@pytest.mark.first_example
@pytest.mark.parametrize("word", ["TRUE", "NAN", "[AAA,NaN]", "[true]", "INF"])
def test_symbols_that_yaml_parses_as_values_need_quotes(word: str) -> None:
    with refused(InputError):
        BacktestSettings.from_config(compose_config("backtest", [f"symbols={word}"]))
