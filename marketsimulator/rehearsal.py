"""What a first backtest calls, compiled by a second process while the first reads and forecasts.

Machine code is kept on disk, and what one process compiles the other one reads. This one begins
with the solver and the account, the first one with the decision.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Thread
from typing import IO

import numpy as np

from foundation.compiled import PROJECT, compilations_told, is_compiled, tell_compilation
from foundation.compose import composed_config
from marketsimulator.settings import BacktestSettings

WORDS = (
    *("forecaster=ewma", "trials=null", "capital=100000", "data.start=2023-01-02"),
    *("start=2023-09-06", "end=2023-09-08"),
)
STRATEGIES = ("equal_weight", "kelly_50")  # the account first, then decision and explanation


@contextmanager
def rehearsed() -> Iterator[None]:
    """Compile beside this process where an installation has compiled nothing yet."""
    if is_compiled("marketsimulator.runs.instants"):
        yield
        return
    paths = (str(PROJECT), os.environ.get("PYTHONPATH"))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "marketsimulator.rehearsal"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    reader = Thread(target=_tell, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield
    finally:
        process.terminate()
        process.wait()
        reader.join()
        process.stdout.close()


def _tell(names: IO[str]) -> None:
    for name in names:
        tell_compilation(name.strip())


def rehearse() -> None:
    """Call what a first backtest calls, on few synthetic bars; nothing is written."""
    from marketsimulator.backtest import run_backtest
    from marketsimulator.results.report import result_files
    from sizing.kelly import kelly_weights

    variances = np.array([0.0004, 0.0001])
    kelly_weights(np.array([0.001, 0.0]), np.diag(variances), lower=-np.ones(2), upper=np.ones(2))
    for strategy in STRATEGIES:
        config = composed_config("backtest", (*WORDS, f"sizing.strategy={strategy}"))
        settings = BacktestSettings.of(config)
        results = run_backtest(settings, lambda *_: None, lambda _: None)
        result_files(results, results.summary())


if __name__ == "__main__":
    # Whoever started this may be gone by now, and nobody reads the names.
    with suppress(BrokenPipeError), compilations_told(partial(print, flush=True)):
        rehearse()
