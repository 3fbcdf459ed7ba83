"""Sealed folders of forecasts with a planted edge, and what the command says of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from forecasting.sealing import seal_folder
from foundation.arrays import Array
from foundation.cli import Result
from foundation.compose import compose_config
from marketsimulator import prove
from marketsimulator.results.proof import ProofSettings
from marketsimulator.run_arguments import overrides_from_forecasts
from trainingdata.bars import CLOSE, Bars
from trainingdata.source import DataSettings

WORDS = (
    "symbols=[SYA]",
    "data.start=2024-01-02",
    "data.end=2024-06-14",
    "trials=null",
    "limits.symbol_cap=4",
)
INSTANTS = 703
CERTAINTY = 0.9  # share of the next return that the planted forecast states


def panel() -> Bars:
    return DataSettings(start="2024-01-02", end="2024-06-14").load_panel(("SYA",), None, None)


def planted(bars: Bars, share: float) -> pd.DataFrame:
    """Forecasts at the last instants, of which a part of the next return is known."""
    closes: Array = bars.values[0, :, CLOSE]
    returns = np.diff(closes) / closes[:-1]
    rows = np.arange(len(returns) - INSTANTS, len(returns))
    return pd.DataFrame(
        {
            "symbol": "SYA",
            "issued_at": [f"{np.datetime_as_string(at, unit='s')}Z" for at in bars.times[rows]],
            "horizon": 1,
            "mean": share * returns[rows],
            "deviation": returns.std(),
        }
    )


def sealed(
    forecasts: pd.DataFrame, folder: Path, witness: Path | None, late: int = 0, alone: int = 10
) -> None:
    """Seal the first forecasts one by one and the rest as one batch, at issue or seconds later."""
    folder.mkdir()
    for number in range(min(alone + 1, len(forecasts))):
        batch = forecasts.iloc[number : number + 1 if number < alone else None]
        file = folder / f"{number:06}.csv"
        batch.to_csv(file, index=False)
        issued = np.datetime64(str(batch["issued_at"].iloc[0]).removesuffix("Z"), "ns")
        seal_folder(folder, witness, issued + np.timedelta64(late, "s"), [file])


def proved(*words: str) -> Result:
    overrides = overrides_from_forecasts([*words[:1], *WORDS, *words[1:]])
    settings = ProofSettings.from_config(compose_config("prove", overrides))
    return prove.run(settings, lambda *_: None)


def document(result: Result) -> dict[str, Any]:
    assert result.json_document is not None
    return dict(result.json_document)
