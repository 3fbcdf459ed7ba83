"""Run `forecasting.batch` with a network that responds at once, to measure the overhead.

    python -m studies.benchmarks.instant_network key=value …

The key=value words are those of the command. The last line of the output is JSON: seconds of the
whole command, of its processors and of the network, and its maximum memory, GiB.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm

from forecasting.chronos2 import forecaster as chronos2
from forecasting.forecast import HORIZON, LEVELS
from forecasting.windows import Windows
from foundation.arrays import Array32, Index
from foundation.cli import run_command

STEPS = np.sqrt(np.arange(1, HORIZON + 1))
CURVE = np.exp(0.004 * STEPS[:, None] * norm.ppf(LEVELS)).astype(np.float32)


@dataclass
class InstantEngine:
    """Engine that returns the same quantiles around the price of every window."""

    weights: str
    execution_mode: str = "network"
    computation: str = "at once"
    seconds: float = field(default=0.0)

    def quantiles(
        self,
        windows: Windows,
        portions: Sequence[Index],
        augmentation: str,
        group: int = 1,
        *,
        progress: Any,
    ) -> Iterator[Array32]:
        """Yield quantiles [n, H, Q] in USD of each portion."""
        total = sum(map(len, portions))
        done = 0
        for rows in portions:
            done += len(rows)
            yield self._of(windows, rows)
            progress("forecasts", done, total)

    def _of(self, windows: Windows, rows: Index) -> Array32:
        began = time.perf_counter()
        symbol, last = windows.symbol_index[rows], windows.last_bar_index[rows]
        price = np.empty(len(rows), dtype=np.float32)
        for s in np.unique(symbol):
            chosen = symbol == s
            price[chosen] = windows.closes[s][last[chosen]]
        out = price[:, None, None] * CURVE
        self.seconds += time.perf_counter() - began
        return out


def main() -> None:
    """Run the command and print its time and memory."""
    engines: list[InstantEngine] = []

    def engine(
        self: chronos2.Chronos2Forecaster, profile: chronos2.InferenceProfile
    ) -> InstantEngine:
        engines.append(InstantEngine(chronos2._checkpoint(profile).digest))
        return engines[-1]

    chronos2.Chronos2Forecaster.load_engine = engine  # type: ignore[assignment, method-assign]
    began = time.perf_counter()
    run_command("forecasting.batch")
    taken = {
        "seconds": time.perf_counter() - began,
        "processors": time.process_time(),
        "network": sum(each.seconds for each in engines),
        "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }
    sys.stdout.write(f"{json.dumps(taken)}\n")


if __name__ == "__main__":
    main()
