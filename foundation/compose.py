"""Configuration composed by Hydra, and Hydra's refusals as one line.

Only command lines import this: the rooms take settings and know no Hydra.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException, MissingConfigException
from hydra.plugins.config_source import ConfigResult, ConfigSource
from hydra.plugins.sweeper import Sweeper
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.config_files import check_config_file, plain_yaml
from foundation.configuration import dotted_keys, settings_of
from foundation.declared import CONFIGS, beneath, class_of, declared, defaults_of, keys_in, keys_of
from foundation.ending import end_if_told, fail, one_line_errors
from foundation.errors import (
    InputError,
    did_you_mean,
    invalid_choice,
    not_installed,
    same_last_word,
    unknown_key,
)
from foundation.overrides import (
    has_several,
    is_override,
    is_sweep,
    nearest_flag,
    refuse_empty,
    refuse_underscored,
    with_home,
)
from foundation.plugin import SLOTS, TARGET, allow_named, is_own
from foundation.registry import commands_with

ADVICE = "see `--cfg job` for every setting"  # every command answers it
LAUNCHERS = ("joblib", "ray")  # of sweeps, each installed by the extra of its name
OWN_FOLDERS = ("backtest",)  # commands of which each run of a multirun has one, of Hydra's
_UNKNOWN_KEYS = (
    re.compile(r"is not in struct\s+full_key: (\S+\.\S+)"),
    re.compile(r"Could not override '([^']*)'"),
)


def composed_config(name: str, overrides: list[str]) -> DictConfig:
    """The configuration `configs/<name>.yaml` with overrides applied, which cannot be written to.

    Variables of the environment are read when it is made settings of, not here.
    """
    try:
        config = _composed(name, tuple(_in_hydras_words(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _input_error(error, overrides, name) from error
    allow_named(OmegaConf.to_container(config, resolve=False))
    return config


def shown_settings(
    name: str, words: Sequence[str], words_of: Callable[[Sequence[str]], list[str]]
) -> str:
    """What `--cfg job` prints: the configuration that the words of a command line ask for, YAML.

    Words that are neither flags nor key=value say nothing about settings.
    words_of: the overrides that the words stand for.
    """
    with one_line_errors("nothing was written"):
        others = _without_show_flag(words)
        flags = [word for word in others if word.startswith("-")]
        if flags:
            raise InputError(f"{flags[0]}: --cfg job shows what key=value words ask for; leave it")
        overrides = [word for word in words_of(others) if is_override(word)]
        values: Any = OmegaConf.to_container(composed_config(name, overrides), resolve=False)
        return "".join(_with_meanings(values, keys_of(name)))


def _with_meanings(
    values: Mapping[str, Any], keys: Mapping[str, Any], indent: str = ""
) -> Iterator[str]:
    """Lines of YAML, each with what its setting means, where a class declares it."""
    for name, value in values.items():
        schema = keys.get(name, {})
        meaning = f"  # {schema['description']}" if schema else ""
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:{meaning}\n"
            inner = keys_in(schema["$ref"]) if "$ref" in schema else {}
            yield from _with_meanings(value, inner, f"{indent}  ")
        else:
            first, *others = OmegaConf.to_yaml({name: value}).splitlines()
            is_whole = not others or isinstance(value, list)
            yield f"{indent}{first}{meaning if is_whole else ''}\n"
            yield from (f"{indent}{line}\n" for line in others)


def _without_show_flag(words: Sequence[str]) -> list[str]:
    """The words without --cfg job."""
    if not {"job", "--cfg=job", "-c=job"} & {*words}:
        raise InputError("--cfg: job is all that it shows, `--cfg job`")
    return [word for word in words if not re.fullmatch(r"((--cfg|-c)(=job)?)|job", word)]


@cache
def _lay_defaults(*names: str) -> None:
    """Have Hydra find the defaults of classes, which files list as `classes/NAME`."""
    for name in names:
        ConfigStore.instance().store(name, defaults_of(name), group="classes", package="_global_")


@lru_cache(maxsize=256)
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Composed once for the same words: Hydra takes a quarter of a second."""
    _lay_defaults(*beneath(name))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(config_name=name, overrides=list(overrides))
    OmegaConf.set_readonly(config, True)
    return config


def hydra_command(
    name: str,
    run: Callable[[DictConfig, Path | None], None],
    check: Callable[[DictConfig], object] = lambda _: None,
) -> None:
    """Run on the configuration `configs/<name>.yaml` and the command line.

    What Hydra refuses is one line and exit code 2, and leaves no folder.

    run: on a configuration, and the folder of its output where that is Hydra's.
    check: refuses a configuration with an InputError, as `run` does when it begins; all of a
        multirun are checked before the first of them runs.
    """
    # Hydra then raises, instead of printing several lines and exiting with code 1.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    typed = sys.argv[1:]
    try:
        sys.argv[1:] = _in_hydras_words(typed)
    except InputError as error:
        fail(error)
    _lay_defaults(*declared()["configurations"])  # a file of the user's own may list any
    outputs = Path("outputs").absolute()
    there = outputs.exists()
    started = False

    def start(config: DictConfig) -> None:
        nonlocal started
        end_if_told()
        started = True
        own = name in OWN_FOLDERS
        allow_named(OmegaConf.to_container(config, resolve=False))
        run(config, Path(HydraConfig.get().runtime.output_dir) if own else None)

    def checked(config: DictConfig) -> None:
        allow_named(OmegaConf.to_container(config, resolve=False))
        check(config)

    try:
        with (
            one_line_errors("what was finished stays"),
            unchecked_help(),
            one_line_refusals(),
            checked_files(CONFIGS),
            checked_jobs(checked),
        ):
            hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")(start)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_input_error(error, typed, name))
    except ValueError as error:
        # OmegaConf's own, for a name where a list has numbers; of the run's it is a defect.
        if started:
            raise
        fail(_input_error(error, typed, name))
    except OSError as error:
        # Before the run begins, Hydra makes the output folder: only that is the user's to mend.
        if started:
            raise
        is_file = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "is a file; name a folder" if is_file else f"cannot be written: {error.strerror}"
        fail(InputError(f"output: {error.filename} {reason}"))
    finally:
        if not there:
            # Of a run that was refused nothing is left: a folder that holds something stays.
            with suppress(OSError):
                outputs.rmdir()


def _in_hydras_words(words: Sequence[str]) -> list[str]:
    """The words of a command line as Hydra takes them.

    Several values without brackets are a list, unless a multirun takes them one after the other.
    """
    refuse_empty(words)
    refuse_underscored(words)
    return [_with_brackets(with_home(word), several=is_sweep(words)) for word in words]


def _with_brackets(word: str, *, several: bool) -> str:
    key, _, value = word.partition("=")
    is_list = has_several(value) and not several and not (CONFIGS / key).is_dir()
    return f"{key}=[{value}]" if is_list else word


def _input_error(error: Exception, words: Sequence[str], name: str) -> InputError:
    """Convert Hydra's error about `configs/<name>.yaml` to an error of one line."""
    if isinstance(error, InputError):
        return error
    for pattern in _UNKNOWN_KEYS:
        if key := pattern.search(f"{error}\n{error.__cause__!s}"):
            return _unknown_setting(key[1], words, name)
    if isinstance(error, MissingConfigException) and "/" in (error.missing_cfg_file or ""):
        return _unknown_file(error, name)
    if isinstance(error, HydraException) and (word := _no_override(error, words)):
        return InputError(f"{word}: not a setting of the form key=value ({ADVICE})")
    causes = (str(each or "").strip().split("\n")[0] for each in (error, error.__cause__))
    reason = ": ".join(dict.fromkeys(filter(None, causes))) or type(error).__name__
    if isinstance(error, ValueError) or not any(word in reason for word in words):
        reason = f"{' '.join(words)}: {reason}"
    return InputError(f"{reason} ({ADVICE})")


def _no_override(error: HydraException, words: Sequence[str]) -> str | None:
    """Return the word without an equals sign that Hydra could not parse as a setting."""
    if not str(error).startswith("Error parsing override"):
        return None
    return next((word for word in words if "=" not in word and word[:1] not in "-~"), None)


def _unknown_file(error: MissingConfigException, name: str) -> InputError:
    """Return the refusal of a group's file that does not exist."""
    group, _, choice = str(error.missing_cfg_file).rpartition("/")
    if group == "hydra/launcher" and choice in LAUNCHERS:
        return not_installed(f"hydra-{choice}-launcher", f"{group}={choice}", choice)
    if group.startswith("hydra/"):
        return invalid_choice(group, choice, error.options or ())
    also = f"+{group}.{TARGET}=module.name" if group in SLOTS else ""
    return invalid_choice(group, choice, group_choices(group, name), also=also)


def group_choices(group: str, name: str) -> list[str]:
    """List the files of a group in `configs` that fit a configuration's keys."""
    schema = keys_of(name).get(group, {})
    keys = {"defaults", *(keys_in(schema["$ref"]) if "$ref" in schema else ())}
    files = sorted((CONFIGS / group).glob("[!_]*.yaml"))  # an underscore: part of other files
    return [path.stem for path in files if plain_yaml(path).keys() <= keys]


def _unknown_setting(key: str, words: Sequence[str], name: str) -> InputError:
    """Return the refusal of a key; the hint includes a value that another group's key accepts."""
    values: Any = OmegaConf.to_container(_composed(name, ()), resolve=False)
    keys = [each for each in dotted_keys(values) if each.partition(".")[0] != "hydra"]
    typed = [word.partition("=")[2] for word in words if word.lstrip("+").startswith(f"{key}=")]
    moved = same_last_word(key, keys)
    others = [] if moved else commands_with(key)
    if others:
        also = "; a sweep takes -m hydra/launcher=ray or joblib" if key == "launcher" else ""
        known = " and ".join(others)
        return InputError(f"{key}: there is no such setting here; it is one of {known}{also}")
    if typed and key in {f"{group}.{TARGET}" for group in SLOTS}:
        hint = did_you_mean([f"+{key}={typed[0]}"])
        return InputError(f"{key}: a class of your own is added with a plus{hint} ({ADVICE})")
    if len(moved) != 1 or not typed:
        return unknown_key(key, keys, advice=ADVICE)
    group, _, last = moved[0].rpartition(".")
    value = typed[0]
    own = is_own(value) and SLOTS.get(group) == last
    word = f"+{group}.{TARGET}={value}" if own else f"{moved[0]}={value}"
    swept = value.split(",") if is_sweep(words) and has_several(value) else [value]
    refusals = [] if own else [_group_refusal(name, f"{moved[0]}={each}", group) for each in swept]
    if not any(refusals):
        return InputError(f"{key}: there is no such setting{did_you_mean([word])} ({ADVICE})")
    reason = next(filter(None, refusals))
    return InputError(f"{key}: there is no such setting{did_you_mean(moved)} {reason}")


def _group_refusal(name: str, word: str, group: str) -> str:
    """Return why a word makes a group of settings invalid, or an empty string."""
    try:
        config = _composed(name, tuple(_in_hydras_words([word])))
        schema = keys_of(name).get(group, {})
        if "$ref" in schema:
            settings_of(class_of(schema["$ref"]), config[group], group)
    except (InputError, HydraException, OmegaConfBaseException, ValueError) as error:
        return str(error).splitlines()[0]
    return ""


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
        hint = nearest_flag(parser, message)
        fail(InputError(f"{message}{advice}{hint} (see --help)"))

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
