"""A forecaster, a strategy and a file of one's own are named on the command line, and traded."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tests.commands import run_command
from tests.e2e.refused import answer_of, refusal_of

ROOT = Path(__file__).resolve().parents[2]
BACKTEST = "marketsimulator.backtest"
CODE = """
import numpy as np

from forecasting import Forecaster, ForecastTable, RandomWalk
from forecasting.windows import Windows


class Drift:
    '''The window's mean return goes on.'''

    name = "drift"

    def __init__(self, window=50):
        self.walk = RandomWalk(context_length=window)

    def forecast(self, bars, since, progress=None):
        windows = Windows.of(bars, since, self.walk.context_length)
        closes = windows.contexts(np.arange(len(windows)))
        step = np.log(closes[:, -1] / closes[:, 0]) / (closes.shape[1] - 1)
        path = step[:, None, None] * np.arange(1, 25)[:, None] + self.walk.log_quantiles(closes)
        quantiles = np.float32(closes[:, -1, None, None] * np.exp(path))
        return ForecastTable.of(self.name, bars, windows, quantiles)


def rising(situation):
    '''A fifth of equity in whatever is forecast to rise.'''
    return np.where(situation.mu > 0, 0.2, 0.0)
"""
SPAN = ("start=2024-03-18", "end=2024-03-28", "symbols=[SYA,SYB]", "data.end=2024-03-28")
DRIFT = ("+forecaster._target_=own.Drift", "forecaster.calibrated=false")
RISING = "+sizing._target_=own.rising"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with one's own code in it."""
    (tmp_path / "own.py").write_text(CODE)
    return tmp_path


def command(folder: Path, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """What a command prints, run where the code lies."""
    return run_command(["-m", module, *words], cwd=folder, env={**os.environ, "COLUMNS": "200"})


def test_own_code_is_named_on_the_command_line_and_its_orders_say_so(folder: Path) -> None:
    own = (*DRIFT, "+forecaster.arguments.window=40", RISING)
    run = command(folder, BACKTEST, *own, *SPAN, "trials=null", "output=out")
    assert run.returncode == 0, run.stderr
    orders = pd.read_parquet(folder / "out" / "orders.parquet")
    assert len(orders) > 3
    assert orders.client_order_id.str.startswith("own.rising-").all()
    assert "drift" in run.stdout


NAMED = {
    "forecaster": "kind", "correlation": "kind", "sizing": "_target_", "fees": "_target_",
}  # fmt: skip


def test_no_command_imports_what_a_folder_of_results_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\n\n\nclass Trap: ...\n")
    for run in ("run", "other"):
        shutil.copytree(ROOT / "tests" / "fixtures" / "runs" / "backtest", tmp_path / run)
        written = tmp_path / run / "config.yaml"
        settings = yaml.safe_load(written.read_text())
        for group, key in NAMED.items():
            settings[group][key] = "trap.Trap"
        written.write_text(yaml.safe_dump(settings))
    code, _, said = answer_of("marketsimulator.compare", "run", "other", cwd=tmp_path)
    assert code == 0, said
    line = refusal_of("marketsimulator.stress", "run", cwd=tmp_path)
    assert "trap.Trap is not run unless the words" in line
    assert not (tmp_path / "sprung").exists()
