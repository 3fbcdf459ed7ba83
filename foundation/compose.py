"""Configuration composed by Hydra: where it lies, and its refusals as one line.

Only command lines import this.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hydra
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from foundation.command import fail
from foundation.errors import InputError

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


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


def hydra_command(name: str, run: Callable[[DictConfig], None]) -> None:
    """Run on `configs/<name>.yaml` and the command line; what Hydra refuses is one line and
    exit code 2.
    """
    os.environ["HYDRA_FULL_ERROR"] = (
        "1"  # Hydra then raises instead of printing several lines and exiting with code 1
    )
    begun = False

    def begin(config: DictConfig) -> None:
        nonlocal begun
        begun = True
        run(config)

    try:
        with _unchecked_help():
            hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")(begin)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_refused(error))
    except OSError as error:
        if begun:
            raise
        fail(InputError(f"output: {error.filename} cannot be written: {error.strerror}"))


@contextmanager
def _unchecked_help() -> Iterator[None]:
    """Hydra writes one of its help texts only when it is asked for; argparse of Python 3.14
    wants to see each at once.
    """
    check = getattr(ArgumentParser, "_check_help", None)
    if check is None:
        yield
        return
    ArgumentParser._check_help = lambda *_: None  # type: ignore[attr-defined]
    try:
        yield
    finally:
        ArgumentParser._check_help = check  # type: ignore[attr-defined]


def _refused(error: Exception) -> InputError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(f"{reason} (see `--cfg job` for every setting)")
