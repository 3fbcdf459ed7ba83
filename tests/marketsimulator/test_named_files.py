"""A file that is named in settings is looked at before bars are read, and called by its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecasting import evaluate
from forecasting.batch import BatchSettings, run_batch
from forecasting.evaluate import EvaluationSettings
from forecasting.settings import ForecasterSettings
from foundation.errors import InputError
from marketsimulator.settings import BacktestSettings
from trainingdata.source import DataSettings
from trainingdata.stored_correlation import CorrelationSettings

FILE = ForecasterSettings(kind="file", path="/no/where.parquet")
MODEL = ForecasterSettings(model="/no/where")


@pytest.fixture(autouse=True)
def _no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, **__: object) -> None:
        raise AssertionError("bars were read first")

    monkeypatch.setattr(DataSettings, "bars", read)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (BacktestSettings(data=DataSettings(actions="/no/a.csv")), "data.actions: /no/a.csv: "),
        (BacktestSettings(forecaster=FILE), "forecaster.path: /no/where.parquet: there is no such"),
        (BacktestSettings(forecaster=MODEL), "forecaster.model: /no/where is no folder"),
        (BacktestSettings(correlation=CorrelationSettings(file="/no/m")), "correlation.file: "),
    ],
)
def test_a_backtest_refuses_a_file_before_it_reads_bars(
    settings: BacktestSettings, says: str
) -> None:
    with pytest.raises(InputError) as refused:
        settings.market()
    assert str(refused.value).startswith(says)


def test_corporate_actions_that_cannot_be_read_are_said_with_key_and_row(tmp_path: Path) -> None:
    path = tmp_path / "actions.csv"
    path.write_text("symbol,date,kind,value\nSYA,2024-02-01,gift,4\n")
    with pytest.raises(InputError, match=r"^data\.actions: .*actions\.csv: row 1: kind is 'gift'"):
        BacktestSettings(data=DataSettings(actions=str(path))).market()


def test_forecasts_and_evaluations_refuse_it_as_early() -> None:
    with pytest.raises(InputError, match=r"^forecaster\.path: "):
        run_batch(BatchSettings(forecaster=FILE))
    with pytest.raises(InputError, match=r"^forecaster\.path: "):
        evaluate.evaluate(EvaluationSettings(forecaster=FILE))


@pytest.mark.parametrize("kind", ["ewma", "mix"])
def test_a_random_walk_is_called_by_the_word_that_asks_for_it(kind: str) -> None:
    settings = ForecasterSettings(kind=kind)
    assert settings.build(()).name == f"{kind}, calibrated"
