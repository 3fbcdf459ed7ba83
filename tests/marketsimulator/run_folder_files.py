"""Folders of backtests as they lie on a disk, for tests of what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from foundation.arrays import Array
from marketsimulator.results.metrics import measure_performance
from trainingdata.instants import new_york_four_pm
from trainingdata.sessions import sessions_between


def write_run(
    folder: Path,
    *,
    start: str = "2024-01-02",
    returns: Array | None = None,
    settings: dict[str, Any] | None = None,
    tail: float | None = None,
    hours: int = 3,
    **changes: Any,
) -> Path:
    """A run over stocks with these daily returns from `start` on.

    Parameters
    ----------
    tail: its return after the last 16:00; none for a run that ends then.
    hours: how long it goes on then.
    changes: of its summary.
    """
    returns = np.zeros(80) if returns is None else returns
    first = np.datetime64(start)
    sessions = sessions_between(first, first + np.timedelta64(2 * len(returns) + 20, "D"))
    closes = new_york_four_pm(sessions[: len(returns)])
    at = np.concatenate([closes[:1] - np.timedelta64(3, "h"), closes])
    equity = 1000.0 * np.cumprod(np.concatenate([[1.0], 1.0 + returns]))
    if tail is not None:
        at = np.append(at, at[-1] + np.timedelta64(hours, "h"))
        equity = np.append(equity, equity[-1] * (1.0 + tail))
    figures = measure_performance(at, equity, capital=1000.0, has_crypto=False)
    summary = {
        **figures.as_dict(),
        "costs": 10.0,
        "trades": 40,
        "max_leverage": 1.5,
        "trials": 1,
        "forecaster": "ewma",
        "data": "bars of a test",
        "symbols": ["NVDA"],
        "intervals": {"sharpe": [-1.0, 2.0]},
        **changes,
    }
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps(summary))
    curve = pd.DataFrame({"at": pd.DatetimeIndex(at).tz_localize("UTC"), "equity": equity})
    curve.to_parquet(folder / "equity.parquet", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(settings or {"sizing": {"fraction": 0.5}}))
    return folder
