"""Hydra callback of a multirun: checks the output folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from foundation.errors import InputError
from foundation.files import may_overwrite
from foundation.signals import exit_on_errors

MULTIRUN_FILE = "multirun.yaml"  # written by Hydra into the folder of each multirun


class MultirunFolderCheck(Callback):
    """Hydra callback that refuses a folder in which results would be lost."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Check the output folder before any run.

        The process exits with code 2 if `output` is set or if the folder has other contents.
        """
        # Hydra turns an exception of a callback into a warning: only an exit ends the command.
        with exit_on_errors("nothing was written"):
            _refuse_output(config)
            if not may_overwrite(config):
                _refuse_other_results(Path(str(config.hydra.sweep.dir)).expanduser())


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
