"""The live loop seals the forecasts of its decisions."""

from __future__ import annotations

import stat
from pathlib import Path

import pandas as pd
import pytest

from execution.live import issued_forecasts
from execution.live.issued_forecasts import FORECASTS_FOLDER
from forecasting.sealing import default_witness, read_record, read_seals
from tests.e2e.practice import OPENING, Practice
from tests.support.desks import PLAIN, SECOND, THIRD, Desk, alerts
from trainingdata.timeframe import HOURLY


@pytest.fixture
def desk(here: Practice, tmp_path: Path) -> Desk:
    return Desk.at(here, tmp_path, *PLAIN)


def sealed_means(desk: Desk, folder: Path) -> dict[tuple[str, str], float]:
    """Median return of the next bar in the sealed record, by symbol and instant."""
    bars = desk.cycles[-1].bars
    table = read_record(folder, HOURLY.length).forecasts("sealed", bars, bars.times[0])
    windows = table.windows
    returns = table.all_quantiles[:, 0, 10] / table.price - 1
    return {
        (bars.symbols[s], str(at)): float(mean)
        for s, at, mean in zip(windows.symbol_index, windows.issued_at, returns, strict=True)
    }


def test_live_decisions_are_sealed_as_decided(here: Practice, tmp_path: Path) -> None:
    desk = Desk.at(here, tmp_path, "forecaster=oracle", "sizing.holding=next")
    for at in (OPENING, SECOND, THIRD):
        desk.step_at(at)
    folder = tmp_path / FORECASTS_FOLDER
    expected = {
        (symbol, str(cycle.decision.at)): float(cycle.decision.columns.mu[i])
        for cycle in desk.cycles
        if cycle.decision is not None
        for i, symbol in enumerate(cycle.decision.symbols)
    }
    assert len(expected) == 6
    assert all(expected.values())
    assert sealed_means(desk, folder) == pytest.approx(expected, abs=1e-6)
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    first = pd.read_csv(min(folder.glob("*.csv")))
    assert set(first.horizon) == {1}


def test_next_decision_seals_what_a_killed_process_left(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process ends after it has written the file; the file is sealed late, once."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(issued_forecasts, "seal_folder", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.step_at(OPENING)
    folder = tmp_path / FORECASTS_FOLDER
    assert [path.suffix for path in folder.iterdir()] == [".csv"]
    resumed = desk.again()
    resumed.step_at(SECOND)
    seals = read_seals(default_witness(folder))
    assert [seal.file for seal in seals] == ["20240220T153000Z.csv", "20240220T163000Z.csv"]
    assert [len(seal.open_instants) for seal in seals] == [0, 1]
    assert {at for _, at in sealed_means(resumed, folder)} == {"2024-02-20T16:30:00.000000000"}


def test_orders_are_sent_without_a_witness(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / FORECASTS_FOLDER
    witness = default_witness(folder)
    witness.mkdir(parents=True)
    cycle = desk.step_at(OPENING)
    assert cycle.fills
    assert "forecasts were not sealed" in alerts(desk)
    witness.rmdir()
    desk.step_at(SECOND)
    assert len(read_seals(witness)) == 2
