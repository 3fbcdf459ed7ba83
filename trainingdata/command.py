"""What the command lines share: where configuration lies, one-line errors, the log file, progress."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from trainingdata.errors import InputError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def fail(error: Exception) -> NoReturn:
    """Print one line and exit with code 2."""
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def composed(name: str, overrides: list[str]) -> DictConfig:
    """The configuration `configs/<name>.yaml` with overrides applied.

    Raises
    ------
    InputError
        naming the override that does not fit.
    """
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose(config_name=name, overrides=overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise _refused(error) from error


def hydra_command(task: Callable[[], None]) -> None:
    """Run a Hydra entry; what Hydra refuses (overrides, flags, configurations) is one line and exit code 2."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises instead of printing several lines and exiting with code 1
    try:
        task()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_refused(error))


def _refused(error: Exception) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(f"{reason} (see `--cfg job` for every setting)")


def check_output(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, before any work is done for it.

    Raises
    ------
    InputError
        naming what is in the way.
    """
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise InputError(f"output: {folder} cannot be written: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(f"output: {folder} cannot be written: no permission in {there}")


def log_to_file(name: str) -> None:
    """Send every log line to a file of this run in `logs/`; libraries' warnings too, not to the screen."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLog(Path("logs") / f"{name}-{stamp}-{os.getpid()}.log", delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)


class _RunLog(logging.FileHandler):
    """A log file that exists, folder and all, from its first line on."""

    def _open(self) -> TextIOWrapper:
        Path(self.baseFilename).parent.mkdir(parents=True, exist_ok=True)
        return super()._open()


class Bar:
    """Progress on the terminal, a line a kind of work; called with what, done and total."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskID] = {}
        self._display = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._tasks:
            self._display.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        """Show that `done` of `total` are finished."""
        if what not in self._tasks:
            self._display.start()
            self._tasks[what] = self._display.add_task(what, total=total)
        self._display.update(self._tasks[what], completed=done)
