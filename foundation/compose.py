"""Configuration composed by Hydra, and Hydra's refusals as one line.

Only command lines import this: the rooms take settings and know no Hydra.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.command import fail, is_override
from foundation.errors import InputError
from foundation.plugin import is_plugin

CONFIGS = Path(__file__).resolve().parent.parent / "configs"


def composed_config(name: str, overrides: list[str]) -> DictConfig:
    """The configuration `configs/<name>.yaml` with overrides applied, which cannot be written to.

    Variables of the environment are read when it is made settings of, not here.

    Raises
    ------
    InputError
        naming the override that does not fit.
    """
    try:
        return _composed(name, tuple(_with_plugins(overrides)))
    except (HydraException, OmegaConfBaseException) as error:
        raise _input_error(error) from error


@lru_cache(maxsize=256)
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Composed once for the same words: Hydra takes a quarter of a second."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(config_name=name, overrides=list(overrides))
    OmegaConf.set_readonly(config, True)
    return config


def hydra_command(name: str, run: Callable[[DictConfig], None]) -> None:
    """Run on the configuration `configs/<name>.yaml` and the command line.

    What Hydra refuses is one line and exit code 2, and leaves no folder.
    """
    # Hydra then raises, instead of printing several lines and exiting with code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        sys.argv[1:] = _with_plugins(sys.argv[1:])
    except InputError as error:
        fail(error)
    outputs = Path("outputs").absolute()
    there = outputs.exists()
    started = False

    def start(config: DictConfig) -> None:
        nonlocal started
        started = True
        run(config)

    try:
        with _unchecked_help(), _one_line_refusals():
            hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")(start)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_input_error(error))
    except OSError as error:
        # Before the run begins, Hydra makes the output folder: only that is the user's to mend.
        if started:
            raise
        fail(InputError(f"output: {error.filename} cannot be written: {error.strerror}"))
    finally:
        if not there:
            # Of a run that was refused nothing is left: a folder that holds something stays.
            with suppress(OSError):
                outputs.rmdir()


def _with_plugins(overrides: list[str]) -> list[str]:
    """The overrides with `group=module:name` in two words: the group's `plugin.yaml`, its kind.

    Raises
    ------
    InputError
        where one of several values is of that form: such a choice has to be made of kinds.
    """
    last = {word.partition("=")[0]: number for number, word in enumerate(overrides)}
    words = []
    for number, override in enumerate(overrides):
        group, _, value = override.partition("=")
        if not (CONFIGS / group / "plugin.yaml").is_file():
            words.append(override)
        elif is_plugin(value):
            # Of a group named twice the last word counts, and takes the first one's kind along.
            if number == last[group]:
                words += [f"{group}=plugin", f"{group}.kind={value}"]
        elif any(is_plugin(part) for part in value.split(",")):
            raise InputError(
                f"{group}: own code among several values is named by its kind: {group}.kind={value}"
            )
        else:
            words.append(override)
    return words


@contextmanager
def _one_line_refusals() -> Iterator[None]:
    """Have argparse, through which Hydra reads flags, refuse in one line instead of its usage."""

    def refuse(parser: ArgumentParser, message: str) -> NoReturn:
        # Hydra's parser takes the words of one stretch for overrides, and no others.
        apart = any(is_override(word) for word in message.split())
        advice = "; key=value words stand together, before or after all flags" if apart else ""
        fail(InputError(f"{message}{advice} (see --help)"))

    usual = ArgumentParser.error
    ArgumentParser.error = refuse  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        ArgumentParser.error = usual  # type: ignore[method-assign]


@contextmanager
def _unchecked_help() -> Iterator[None]:
    """Keep argparse from checking help texts when a flag is added.

    argparse of Python 3.14 does, and one of Hydra's is no text until it is shown.
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


def _input_error(error: Exception) -> InputError:
    """The first line of what Hydra says."""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return InputError(f"{reason} (see `--cfg job` for every setting)")
