"""Hydra callback of a multirun: checks the output folder, and compares the runs at the end."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from foundation.errors import InputError
from foundation.files import may_overwrite, write_files_atomically
from foundation.signals import exit_on_errors

log = logging.getLogger(__name__)

MULTIRUN_FILE = "multirun.yaml"  # written by Hydra into the folder of each multirun
SUMMARY_FILE = "summary.json"  # written by a backtest into its own folder


class MultirunComparison(Callback):
    """Hydra callback that writes `comparison.html` into the folder of a multirun."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the output folder before any run.

        The process exits with code 2 if `output` is set or if the folder has other contents.
        """
        # Hydra turns an exception of a callback into a warning: only an exit ends the command.
        with exit_on_errors("nothing was written"):
            _refuse_output(config)
            if not may_overwrite(config):
                _refuse_other_results(_sweep_folder(config))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Write the comparison of the finished backtests if at least two have finished."""
        folder = _sweep_folder(config)
        within = sorted(path.parent for path in folder.glob(f"*/{SUMMARY_FILE}"))
        if len(within) < 2:
            return
        # Every command that takes a backtest's settings names this class: it starts without the
        # libraries that only the page needs.
        from marketsimulator.results.comparison import compare_records
        from marketsimulator.results.run_record import find_run_folders, read_run_record

        try:
            runs = [read_run_record(path) for path in find_run_folders(within)]
            comparison = compare_records(runs)
            write_files_atomically(comparison.file_writers(), folder)
        except InputError as error:
            # The finished runs stay, even if they cannot be compared.
            log.warning("runs cannot be compared: %s", error)
            print(f"These runs cannot be compared: {error}")  # noqa: T201
            return
        print(f"Comparison of all runs: {folder / 'comparison.html'}")  # noqa: T201


def _sweep_folder(config: DictConfig) -> Path:
    return Path(str(config.hydra.sweep.dir)).expanduser()


def _refuse_output(config: DictConfig) -> None:
    """Refuse the setting `output`, because Hydra gives each run of a multirun its own folder."""
    words = [word.lstrip("+") for word in OmegaConf.select(config, "hydra.overrides.task") or ()]
    named = any(word.startswith("output=") for word in words)
    if named and config.hydra.run.dir == config.output:
        raise InputError(
            "output: only applies to a single run; set the folder of a multirun with"
            " hydra.sweep.dir=FOLDER"
        )


def _refuse_other_results(folder: Path) -> None:
    """Refuse a folder with files other than those of an earlier multirun."""
    held = sorted(p.name for p in folder.glob("*") if not p.name.startswith("."))
    if held and MULTIRUN_FILE not in held:
        raise InputError(
            f"hydra.sweep.dir: {folder} contains other files ({held[0]}); choose another folder"
            " or set overwrite=true"
        )
