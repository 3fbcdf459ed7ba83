"""Files of recorded markets, as `event_contracts.simulation.recorded` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

# Instant, or time on 2025-12-04; a ticker EVENT-MARKET; YES bid and YES ask in cents.
Quote = tuple[str, str, int, int]


def write_files(folder: Path, quotes: Sequence[Quote], settled: Mapping[str, float]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    times, tickers, bids, asks = zip(*quotes, strict=True)
    instants = [f"{time if 'T' in time else f'2025-12-04T{time}'}Z" for time in times]
    pd.DataFrame(
        {
            "timestamp": pd.to_datetime(instants, format="ISO8601"),
            "ticker": tickers,
            "event": [ticker.rpartition("-")[0] for ticker in tickers],
            "yes_bid": np.array(bids, dtype=np.float32),
            "no_bid": 100 - np.array(asks, dtype=np.float32),
        }
    ).to_parquet(folder / "SERIES_top_of_book.parquet")
    outcomes = {"ticker": list(settled), "settled_yes_inferred": list(settled.values())}
    pd.DataFrame(outcomes).to_parquet(folder / "SERIES_settlement.parquet")
    return folder
