"""Where Hydra leaves a user's mistake without a word of its own: what is put in its place."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf

from foundation.command import fail
from foundation.config_files import check_config_file
from foundation.errors import InputError
from foundation.overrides import is_override


@contextmanager
def _replaced(owner: Any, name: str, value: object) -> Iterator[None]:
    usual = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, usual)


def one_line_refusals() -> AbstractContextManager[None]:
    """Have argparse, through which Hydra reads flags, refuse in one line instead of its usage."""

    def refuse(parser: ArgumentParser, message: str) -> NoReturn:
        # Hydra's parser takes the words of one stretch for overrides, and no others.
        apart = any(is_override(word) for word in message.split())
        advice = "; key=value words stand together, before or after all flags" if apart else ""
        fail(InputError(f"{message}{advice} (see --help)"))

    return _replaced(ArgumentParser, "error", refuse)


def unchecked_help() -> AbstractContextManager[None]:
    """Keep argparse from checking help texts when a flag is added.

    argparse of Python 3.14 does, and one of Hydra's is no text until it is shown.
    """
    if not hasattr(ArgumentParser, "_check_help"):
        return nullcontext()
    return _replaced(ArgumentParser, "_check_help", lambda *_: None)


def checked_files(shipped: Path) -> AbstractContextManager[None]:
    """Have each YAML file of a user's own checked before Hydra reads it (`check_config_file`).

    shipped: the folder of files that are the project's.
    """
    # Hydra loads its plug-ins itself: the class that an import gives is another one.
    sources: list[Any] = list(Plugins.instance().discover(ConfigSource))
    files = next(source for source in sources if source.scheme() == "file")
    usual = files.load_config

    def load(source: Any, config_path: str) -> ConfigResult:
        path = Path(source.path, source._normalize_file_name(config_path))
        if path.is_file() and not path.is_relative_to(shipped):
            group = Path(config_path).parent
            check_config_file(path, "" if group == Path() else str(group))
        result: ConfigResult = usual(source, config_path)
        return result

    return _replaced(files, "load_config", load)


def checked_jobs(check: Callable[[DictConfig], object]) -> AbstractContextManager[None]:
    """Have the configurations of all runs of a multirun checked before the first one begins.

    check: refuses a configuration with an InputError.
    """

    def validate(sweeper: Any, batch: Sequence[Sequence[str]]) -> None:
        loader = sweeper.hydra_context.config_loader
        try:
            for words in batch:
                config = loader.load_sweep_config(sweeper.config, list(words))
                check(OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
        except Exception:
            _remove_begun(Path(str(sweeper.config.hydra.sweep.dir)))
            raise

    return _replaced(Sweeper, "validate_batch_is_legal", validate)


def _remove_begun(folder: Path) -> None:
    """Remove what Hydra writes before the first run; a folder that holds more stays."""
    notes = folder / "multirun.yaml"
    if list(folder.iterdir()) != [notes]:
        return
    notes.unlink()
    parents = () if folder.is_absolute() else folder.parents
    with suppress(OSError):
        for each in (folder, *parents):
            each.rmdir()
