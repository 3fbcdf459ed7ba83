"""Configuration composed by Hydra, and Hydra's refusals as one line.

Only command lines import this: the rooms take settings and know no Hydra.
"""

from __future__ import annotations

import os
import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.command import fail, one_line_errors
from foundation.errors import InputError, nearest_or_all, unknown_setting
from foundation.hydra_seams import checked_files, checked_jobs, one_line_refusals
from foundation.overrides import (
    has_several,
    is_override,
    is_sweep,
    refuse_empty,
    refuse_underscored,
    unreadable_text,
    with_home,
)
from foundation.plugin import is_plugin

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ADVICE = "see `--cfg job` for every setting"  # every command answers it
FILES = {"batch": ("output",), "drift": ("output",)}  # by command: other outputs are folders
PLAIN_NUMBERS = ("autoscaling", "monte_carlo", "sell_spreads", "spreads")  # no 1_000 in them
OWN_FOLDERS = ("backtest",)  # commands of which each run of a multirun has one, of Hydra's
_UNKNOWN_KEY = re.compile(r"Could not override '([^']*)'")
_UNKNOWN_WITHIN = re.compile(r"is not in struct\s+full_key: (\S+\.\S+)")
_NOT_MERGED = re.compile(r"Error merging override [+~]*([^=]*)=(.*)", re.DOTALL)
_THERE = re.compile(r"Could not append to config. An item is already at '([^']*)'")
_UNKNOWN_CHOICE = re.compile(r"Could not find '([^']*)/([^']*)'")


def composed_config(name: str, overrides: list[str]) -> DictConfig:
    """The configuration `configs/<name>.yaml` with overrides applied, which cannot be written to.

    Variables of the environment are read when it is made settings of, not here.

    Raises
    ------
    InputError
        naming the override that does not fit.
    """
    try:
        return _composed(name, tuple(_in_hydras_words(name, overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise _input_error(error, name, overrides) from error


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
        text: str = OmegaConf.to_yaml(composed_config(name, overrides))
        return text


def _without_show_flag(words: Sequence[str]) -> list[str]:
    """The words without --cfg job.

    Raises
    ------
    InputError
        for something else to show.
    """
    text = "\0".join(words).replace("--cfg=", "--cfg\0").replace("-c=", "-c\0")
    others = text.split("\0")
    place = next(number for number, word in enumerate(others) if word in ("--cfg", "-c"))
    if others[place + 1 : place + 2] != ["job"]:
        raise InputError("--cfg: job is all that it shows, `--cfg job`")
    return others[:place] + others[place + 2 :]


@lru_cache(maxsize=256)
def _composed(name: str, overrides: tuple[str, ...]) -> DictConfig:
    """Composed once for the same words: Hydra takes a quarter of a second."""
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
        sys.argv[1:] = _in_hydras_words(name, typed)
    except InputError as error:
        fail(error)
    if note := several_runs_note(name, sys.argv[1:]):
        print(note, file=sys.stderr, flush=True)  # noqa: T201
    outputs = Path("outputs").absolute()
    there = outputs.exists()
    started = False

    def start(config: DictConfig) -> None:
        nonlocal started
        started = True
        own = name in OWN_FOLDERS
        run(config, Path(HydraConfig.get().runtime.output_dir) if own else None)

    try:
        with (
            one_line_errors("what was finished stays"),
            _unchecked_help(),
            one_line_refusals(),
            checked_files(CONFIGS),
            checked_jobs(check),
        ):
            hydra.main(config_path=str(CONFIGS), config_name=name, version_base="1.3")(start)()
    except (HydraException, OmegaConfBaseException) as error:
        fail(_input_error(error, name, typed))
    except ValueError as error:
        # OmegaConf's own, for a name where a list has numbers; of the run's it is a defect.
        if started:
            raise
        fail(_input_error(error, name, typed))
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


def several_runs_note(name: str, words: Sequence[str]) -> str:
    """What is said of words that a multirun takes otherwise than a single run; empty for none.

    Without -m values between commas are one list, and one run, and `output` is its folder.
    """
    notes = []
    for word in words if is_sweep(words) else ():
        key, _, value = word.partition("=")
        if key == "output" and name in OWN_FOLDERS:
            notes.append(
                f"-m: {word} is not used, each run has a folder of its own; hydra.sweep.dir={value}"
                " names the one that holds them"
            )
        if not has_several(value) or (CONFIGS / key).is_dir():
            continue
        if OmegaConf.is_list(_configured(key, name)):
            parts = value.rstrip(",").split(",")
            all_of_them = "both" if len(parts) == 2 else "all"
            notes.append(
                f"-m: {word} runs {', '.join(parts[:-1])} and {parts[-1]} one after the other; for"
                f" {all_of_them} in one run write {key}=[{','.join(parts)}]"
            )
    return "\n".join(notes)


def _in_hydras_words(name: str, words: Sequence[str]) -> list[str]:
    """The words of a command line as Hydra takes them.

    Raises
    ------
    InputError
        for a word with nothing after its equals sign, for 1_000 where the command takes no such
        number, and as `_with_plugins`.
    """
    refuse_empty(words, FILES.get(name, ()))
    if name in PLAIN_NUMBERS:
        refuse_underscored(words)
    return _with_plugins([with_home(word) for word in words])


def _with_plugins(overrides: list[str]) -> list[str]:
    """The overrides in Hydra's words.

    `group=module:name` is two of them: the group's `plugin.yaml`, its kind. Several values without
    brackets are a list, unless a sweep takes them one after the other.

    Raises
    ------
    InputError
        where one of several values is of that form: such a choice has to be made of kinds.
    """
    one_run = not is_sweep(overrides)
    last = {word.partition("=")[0]: number for number, word in enumerate(overrides)}
    words = []
    for number, override in enumerate(overrides):
        group, _, value = override.partition("=")
        if not (CONFIGS / group).is_dir() and one_run and has_several(value):
            words.append(f"{group}=[{value}]")
        elif not (CONFIGS / group / "plugin.yaml").is_file():
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


def _input_error(error: Exception, name: str, words: Sequence[str]) -> InputError:
    """What Hydra says of the words for `configs/<name>.yaml`, in one line."""
    text = str(error).strip()
    if isinstance(error, InputError):
        return error
    if isinstance(error, OverrideParseException):
        return InputError(unreadable_text(error.override))
    if inner := _UNKNOWN_WITHIN.search(f"{text}\n{error.__cause__}"):
        return InputError(f"{_unknown_key(inner[1], name, words)} ({ADVICE})")
    if key := _UNKNOWN_KEY.match(text):
        return InputError(f"{_unknown_key(key[1], name, words)} ({ADVICE})")
    reason = next(iter(text.splitlines()), type(error).__name__)
    if choice := _UNKNOWN_CHOICE.search(reason):
        group, word = choice.groups()
        options = [line.strip() for line in text.splitlines() if line.startswith("\t")]
        known = [option for option in options if "=" not in option]
        hint = nearest_or_all(word, known) if known else ""
        reason = f"{group}: there is no {word!r}{hint}"
    elif there := _THERE.match(reason):
        reason = f"+{there[1]}: the setting is there already; write it without the +"
    elif place := _NOT_MERGED.fullmatch(reason):
        reason = _not_merged_text(place[1], place[2], name)
    elif isinstance(error, ValueError):
        within = [word for word in words if _is_in_list(word, name)]
        if within:
            inner_key, _, value = within[0].lstrip("+").partition("=")
            reason = _not_merged_text(inner_key, value, name)
    return InputError(f"{reason} ({ADVICE})")


def _is_in_list(word: str, name: str) -> bool:
    """Whether a word names a part of what is configured as a list."""
    group = word.lstrip("+").partition("=")[0].rpartition(".")[0]
    return bool(group) and OmegaConf.is_list(_configured(group, name))


def _configured(key: str, name: str) -> object:
    """What the configuration has at a dotted key; None where there is none."""
    try:
        found: object = OmegaConf.select(_composed(name, ()), key)
    except OmegaConfBaseException:
        return None
    return found


def _not_merged_text(place: str, value: str, name: str) -> str:
    """What is said of a value that is of another kind than what is configured in its place."""
    group = place
    while _configured(group, name) is None and "." in group:
        group = group.rpartition(".")[0]
    there = _configured(group, name)
    if isinstance(there, DictConfig):
        keys = [str(key) for key in there]
        example = f", as {group}.{keys[0]}=…" if keys else ""
        return f"{place}: {value} is no group of settings; name one of its keys{example}"
    if OmegaConf.is_list(there):
        example = _list_text(place.removeprefix(group).lstrip("."), value, there)
        return f"{place}: it is a list; write all of it, {group}={example}"
    return f"{place}: {value} does not fit there"


def _list_text(key: str, value: str, there: object) -> str:
    """An example of a list: of groups where the value, or the key within the list, is of one."""
    if value.startswith("{"):
        return f"[{value}]"
    has_groups = any(isinstance(each, DictConfig) for each in cast(ListConfig, there))
    return f"[{{{key}: {value}, …}}]" if has_groups and key.isidentifier() else "[A,B]"


def _unknown_key(place: str, name: str, words: Sequence[str]) -> str:
    """What is said of a key that the configuration of these words does not have."""
    group, _, key = place.rpartition(".")
    is_there = bool(group) and _configured(group, name) is not None
    if is_there and (others := _choices_with(group, key)):
        choice = _choice(group, name, words)
        have = f"{', '.join(others)} {'has' if len(others) == 1 else 'have'}"
        return f"{place}: {group}={choice} has no {key}; {have}"
    # Not resolved: what a setting refers to need not be there for its name to be known.
    settings: Any = OmegaConf.to_container(_composed(name, ()), resolve=False)
    keys = [each for each in dotted_keys(settings) if each != place]
    if group and _configured(group, name) == {}:
        return f"{place}: names are added to {group} with a plus, +{place}=…"
    beside = [each for each in keys if each.rpartition(".")[0] == group]
    elsewhere = {each.rpartition(".")[2]: each for each in reversed(keys)}
    if key in elsewhere:
        return f"{place}: there is no such setting; did you mean {elsewhere[key]}?"
    names = [each.rpartition(".")[2] for each in beside]
    return str(unknown_setting(place, names or [each for each in keys if "." not in each]))


def _choices_with(group: str, key: str) -> list[str]:
    """The shipped choices of a group that have a key, as they are written."""
    files = sorted((CONFIGS / group).glob("*.yaml"))
    # What a choice wants a value for, `???`, is a key of it as well.
    keys: dict[str, Any] = {
        path.stem: OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in files
    }
    names = [name for name in keys if key in keys[name]]
    return [f"{group}={'module:Class' if name == 'plugin' else name}" for name in names]


def _choice(group: str, name: str, words: Sequence[str]) -> str:
    """What the words choose of a group, or else the configuration."""
    typed = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    if typed:
        return typed[-1]
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose(config_name=name, return_hydra_config=True)
    return str(config.hydra.runtime.choices[group])


def dotted_keys(values: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The names of all settings, and of their groups, dotted.

    values: as plain mappings; prefix: of the names, with its point.
    """
    keys = []
    for name, value in values.items():
        keys.append(f"{prefix}{name}")
        if isinstance(value, dict):
            keys += dotted_keys(value, f"{prefix}{name}.")
    return keys
