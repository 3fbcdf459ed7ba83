"""What Hydra calls once all runs of a multirun have ended: the page that compares them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from foundation.errors import InputError

log = logging.getLogger(__name__)


class ComparePage(Callback):
    """Writes `comparison.html` beside the folders of a multirun's backtests."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Compare the runs that have ended; other commands leave none, and have no page."""
        folder = Path(str(config.hydra.sweep.dir)).expanduser()
        if len(list(folder.glob("*/summary.json"))) < 2:
            return
        # Every command that takes a backtest's settings names this class: it starts without the
        # libraries that only the page needs.
        from marketsimulator.results.run_comparison import (
            compare_runs,
            write_comparison_of_runs,
        )
        from marketsimulator.results.run_folders import read_run, run_paths

        try:
            runs = [read_run(path) for path in run_paths([folder])]
            write_comparison_of_runs(compare_runs(runs), folder)
        except InputError as error:
            # The runs are done and stay: what cannot be compared costs them nothing.
            log.warning("no comparison: %s", error)
            print(f"No comparison of these runs: {error}")  # noqa: T201
            return
        print(f"All of them side by side: {folder / 'comparison.html'}")  # noqa: T201
