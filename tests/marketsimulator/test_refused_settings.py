"""What is refused of settings, in a line that begins with its key, and before any bar is read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from forecasting import evaluate
from forecasting.batch import run_batch
from forecasting.settings import BatchSettings, EvaluationSettings, ForecasterSettings
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings
from tests.marketsimulator.runs import settings_of
from tests.support.messages import refused
from trainingdata.source import DataSettings
from trainingdata.stored_correlation import CorrelationSettings


@pytest.mark.first_example
@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (["+fees.comission_bps=1"], ("fees.comission_bps",)),
        (["capital=20,000"], ("capital", "20,000", "20000")),
        (["symbols=[ACME,ZINC,ACME]"], ("symbols", "ACME")),
        (["symbols=[BTCUSD,BTC/USD]"], ("symbols", "BTCUSD")),
        (["symbols=[NVDA]"], ("symbols", "NVDA")),
        (["symbols=[a b]"], ("symbols", "'a b'")),
        (["start=2024-03-09", "end=2024-03-01"], ("start", "2024-03-09", "2024-03-01")),
        (["start=2030-01-01", "end=2030-02-01"], ("start", "end")),
        (["start=2024-03-04", "days=5"], ("days",)),
        (["data.dir=/nowhere"], ("data.dir", "/nowhere")),
        (["forecaster.per_symbol=nowhere"], ("forecaster.per_symbol",)),
        (["margin.interest_rates=[{since: x, rate: 0}]"], ("margin.interest_rates.0", "'x'")),
        (["margin.requirements=[{symbol: a b, rate: 1}]"], ("margin.requirements.0", "'a b'")),
        (["seed=${nosuch}"], ("data.seed", "'nosuch'")),
        (["sizing.arguments=5"], ("sizing.arguments", "5", "{NAME: value}")),
        (["sizing.arguments=[1]"], ("sizing.arguments", "[1]", "sizing.arguments.NAME=value")),
    ],
)
def test_invalid_setting_gives_one_line_starting_with_key(
    words: list[str], facts: tuple[str, ...]
) -> None:
    with refused(InputError, *facts) as caught:
        settings_of(*words).load_bars()
    assert "\n" not in str(caught.value)


FILE = ForecasterSettings(kind="file", path="/no/where.parquet")
MODEL = ForecasterSettings(model="/no/where")
NO_MATRIX = CorrelationSettings(file="/no/m")


@pytest.fixture
def no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("bars were read first")

    monkeypatch.setattr(DataSettings, "load_panel", read)


@pytest.mark.parametrize(
    ("asked", "key"),
    [
        (
            lambda: BacktestSettings(data=DataSettings(actions="/no/a.csv")).load_market(),
            "data.actions",
        ),
        (lambda: BacktestSettings(forecaster=FILE).load_market(), "forecaster.path"),
        (lambda: BacktestSettings(forecaster=MODEL).load_market(), "forecaster.model"),
        (lambda: BacktestSettings(correlation=NO_MATRIX).load_market(), "correlation.file"),
        (lambda: run_batch(BatchSettings(forecaster=FILE)), "forecaster.path"),
        (lambda: evaluate.evaluate(EvaluationSettings(forecaster=FILE)), "forecaster.path"),
    ],
)
@pytest.mark.usefixtures("no_bars")
def test_invalid_file_is_refused_before_reading_bars(asked: Callable[[], object], key: str) -> None:
    with refused(InputError, key):
        asked()
