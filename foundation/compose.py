"""Composition of settings by Hydra: defaults of settings classes, YAML files, key=value words.

An error that Hydra reports becomes an `InputError` of one line. --help does not load this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, lru_cache, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from foundation.errors import (
    InputError,
    closest_keys,
    find_keys_by_last_part,
    format_suggestion,
    invalid_choice_error,
    not_installed_error,
    unknown_key_error,
)
from foundation.formatting import format_enumeration
from foundation.plugin import (
    HYDRA_TARGET_KEY,
    PLUGIN_KEYS,
    allow_configured_plugins,
    is_plugin,
    iterate_product_tables,
    load_product_object,
)
from foundation.redaction import redact_secrets
from foundation.settings import (
    check_config_file,
    dotted_keys,
    extended_groups,
    has_setting,
    read_plain_yaml,
    register_env_resolver,
    setting_defaults,
    setting_fields,
    settings_class_in_annotation,
    settings_from_config,
)

register_env_resolver()

CONFIG_FOLDER = Path(__file__).resolve().parent.parent / "configs"
LIST_SETTINGS_ADVICE = "see `--cfg job` for every setting"  # every command supports it
SETTINGS_FILE_KEY = "config"  # config=FILE reads a YAML file of the user's settings
COMPOSING_ERRORS = (HydraException, OmegaConfBaseException, ValueError)  # errors in a command line

_LIST_PATTERN = re.compile(r"[^,'\"()\[\]{}]+(,[^,'\"()\[\]{}]+)+,?")
_UNKNOWN_KEYS = (
    re.compile(r"is not in struct\s+full_key: (\S+\.\S+)"),
    re.compile(r"Could not override '([^']*)'"),
)
_OVERRIDE = re.compile(r"\+{0,2}[A-Za-z_][\w.@/]*=")
_REMOVAL = re.compile(r"~(hydra/)?[\w.@]+(=|$)")
_PLUGIN = re.compile(r"\+{0,2}hydra[\w.@/]*\._target_=")
_USER_HOME_PATTERN = re.compile(r"""(?:^|(?<=[=\[,'"]))~\w[^/,'"\]]*""")
_HOME_PATTERN = re.compile(r"(?<=[=\[,])~(?=[/,\]]|$)")
_UNDERSCORED = re.compile(r"[+-]?\d[\d_]*_[\d_]*(\.[\d_]*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_BACKSLASHES_BEFORE_QUOTE = re.compile(r"(\\*)('|\Z)")
_EMPTY_VALUES = ("", "''", '""')
# Keys that a user's settings file may not have, each with the way out.
_NOT_IN_FILES = {
    "defaults": "use --config-dir for files with a list of defaults",
    "hydra": "write Hydra's settings on the command line",
    "confirm_live": "write confirm_live=true on the command line of a live run",
    SETTINGS_FILE_KEY: "write all settings in one file",
}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The configuration file and the overrides of a command line.

    base_config: name of the command's file in `configs`.
    overrides: key=value words.
    config_name: name of the user's file that replaces the command's; empty: none.
    config_dir: folder of the user's configuration files, searched after the project's.
    multirun: whether every combination of comma-separated values is a run.
    """

    base_config: str
    overrides: Sequence[str]
    config_name: str = ""
    config_dir: Path | None = None
    multirun: bool = False

    @property
    def main_config(self) -> str:
        """Name of the configuration file to compose, the user's or the command's."""
        return self.config_name or self.base_config


def compose_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration `configs/<name>.yaml` with overrides applied, read-only.

    Environment variables are resolved later, when settings are created from the configuration.
    """
    return compose_command_line(CommandLine(name, overrides))


def compose_command_line(line: CommandLine) -> DictConfig:
    """Return the read-only configuration of a command line.

    Raises InputError for an error that Hydra or OmegaConf reports.
    """
    try:
        config = _compose_line(line, tuple(_hydra_words(line)))
    except COMPOSING_ERRORS as error:
        raise _name_settings_file(_translate_hydra_error(error, line), line) from error
    allow_configured_plugins(OmegaConf.to_container(config, resolve=False))
    return config


def _compose_line(line: CommandLine, words: tuple[str, ...] = ()) -> DictConfig:
    return _compose_cached(line.base_config, line.main_config, words, _search_path_words(line))


@lru_cache(maxsize=256)
def _compose_cached(
    config: str, name: str, words: tuple[str, ...], others: tuple[str, ...] = ()
) -> DictConfig:
    """Compose a configuration; cached, because Hydra takes a quarter of a second."""
    _store_class_defaults(config)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        composed = compose(name, [*words, *others])
    OmegaConf.set_readonly(composed, True)
    return composed


def _search_path_words(line: CommandLine) -> tuple[str, ...]:
    """Return the word that adds the user's `--config-dir`, if any, to Hydra's search path."""
    return (f"hydra.searchpath=['file://{line.config_dir.absolute()}']",) if line.config_dir else ()


def iterate_job_configs(line: CommandLine) -> Iterator[DictConfig]:
    """Yield the configuration of each job of a multirun: one for each combination of listed values.

    Raises InputError for an error that Hydra or OmegaConf reports.
    """
    try:
        words = _hydra_words(line)
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            choices = [
                [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
                if each.is_discrete_sweep()
                else [str(each.input_line)]
                for each in parser.parse_overrides(words)
            ]
        for job in product(*choices):
            yield _compose_line(line, job)
    except COMPOSING_ERRORS as error:
        raise _name_settings_file(_translate_hydra_error(error, line), line) from error


@cache
def _included_configs(config: str) -> tuple[str, ...]:
    """Return the name of a configuration, and the names of all files in `configs` that it includes.

    Files that an included file includes follow it.
    """
    listed = read_plain_yaml(CONFIG_FOLDER / f"{config}.yaml")["defaults"]
    bases = [each for each in listed if (CONFIG_FOLDER / f"{each}.yaml").is_file()]
    return (config, *(each for base in bases for each in _included_configs(base)))


def _read_included_configs(config: str) -> list[Any]:
    return [read_plain_yaml(CONFIG_FOLDER / f"{each}.yaml") for each in _included_configs(config)]


@cache
def _load_settings_class(config: str) -> Any:
    return load_product_object("SETTINGS", config)


def settings_classes(config: str) -> list[Any]:
    """Return the settings classes of a configuration, and those of the configurations it includes.

    Its own class comes first. If several classes have a key, the first class determines it.
    """
    return [_load_settings_class(each) for each in _included_configs(config)]


@cache
def _store_class_defaults(config: str) -> None:
    """Register the defaults of settings classes with Hydra, under `classes/NAME`.

    A configuration file includes them by that name. Keys that a folder in `configs` sets are left
    out, and keys of an included configuration's class, but for groups that the class extends.
    """
    others = {path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir()}  # set by groups
    for name in reversed(_included_configs(config)):
        kind = _load_settings_class(name)
        left_out = others - extended_groups(kind)
        values = {key: each for key, each in setting_defaults(kind).items() if key not in left_out}
        ConfigStore.instance().store(name, values, group="classes", package="_global_")
        others |= setting_fields(kind).keys()


def validate_config(name: str, config: DictConfig) -> None:
    """Validate a configuration against its settings classes.

    name: name of the configuration's file in `configs`.
    config: the composed configuration.

    Raises InputError for the first invalid value.
    """
    seen: set[str] = set()
    for kind in settings_classes(name):
        keys = {each.name for each in fields(kind)} - seen
        settings_from_config(
            kind, OmegaConf.masked_copy(config, [key for key in config if key in keys])
        )
        seen |= keys


def validate_command_line(line: CommandLine) -> None:
    """Validate the settings of every run of a command line. Raises InputError for invalid ones."""
    try:
        for config in iterate_job_configs(line) if line.multirun else [compose_command_line(line)]:
            validate_config(line.base_config, config)
    except InputError as error:
        raise _name_settings_file(error, line) from None


def _hydra_words(line: CommandLine) -> list[str]:
    """Return the words of a command line in Hydra's grammar.

    Comma-separated values without brackets become a list, except in a multirun, which runs them one
    by one. A word for a key of a mapping that is empty by default gets the prefix `++`, with which
    Hydra accepts any key. Settings on the command line replace those of the user's settings file.
    """
    refuse_empty_overrides(line.overrides)
    refuse_underscored_numbers(line.overrides)
    typed = [word for word in line.overrides if not word.startswith(f"{SETTINGS_FILE_KEY}=")]
    keys = {word.lstrip("+").partition("=")[0] for word in typed}
    # A group chosen on the command line replaces all settings of the group in the file.
    replaced = tuple(f"{key}." for key in keys if (CONFIG_FOLDER / key).is_dir())
    words = [
        f"{key}={value}"
        for key, value in _file_values(line).items()
        if key not in keys and not key.startswith(replaced)
    ]
    for word in map(expand_home, typed):
        key, _, value = word.partition("=")
        is_list = (
            _LIST_PATTERN.fullmatch(value)
            and not line.multirun
            and not (CONFIG_FOLDER / key).is_dir()
        )
        words.append(f"{key}=[{value}]" if is_list else word)
    open_prefixes = _free_key_prefixes(line.base_config)
    fills = [f"{word.partition('=')[0]}.".startswith(open_prefixes) for word in words]
    return [f"++{word}" if fill else word for word, fill in zip(words, fills, strict=True)]


def check_settings_key(key: str) -> None:
    """Raise `InputError` for a key that a settings file may not have."""
    if remedy := _NOT_IN_FILES.get(key.partition(".")[0]):
        raise InputError(f"{key}: not allowed in a settings file; {remedy}")


def _settings_file(line: CommandLine) -> Path | None:
    """Return the file of config=FILE; None if the command line has no such word."""
    for word in line.overrides:
        key, _, value = word.partition("=")
        if key == SETTINGS_FILE_KEY:
            return Path(value.strip("'\"")).expanduser()
    return None


def _file_values(line: CommandLine) -> dict[str, str]:
    """Return the settings of the user's file by dotted key, as values of Hydra's grammar.

    One file serves all commands: keys that only other commands have are skipped.

    Raises InputError for an invalid file, and for a key that no command has.
    """
    path = _settings_file(line)
    if path is None:
        return {}
    check_config_file(path, "", "docs/SETTINGS.md lists all settings")
    values: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    known = _top_keys(line.base_config)
    try:
        for key in map(str, values):
            check_settings_key(key)
            group, dot, name = key.partition(".")
            if dot and group in known:
                raise InputError(
                    f"{key}: names with a dot are not allowed in a settings file; write"
                    f" {group}: {{{name}: …}}"
                )
            if key not in known and not _is_known_anywhere(key):
                raise unknown_key_error(key, known, advice="docs/SETTINGS.md lists all settings")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    here = {key: value for key, value in values.items() if key in known}
    flat = _flat_values(here, _free_key_prefixes(line.base_config))
    return {key: value for key, value in flat if not _belongs_elsewhere(key, line.base_config)}


def _flat_values(
    values: Mapping[str, Any], open_prefixes: tuple[str, ...], group: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield dotted keys and values of Hydra's grammar.

    A mapping below an open prefix, such as `positions.`, is one value.
    """
    for name, value in values.items():
        key = f"{group}{name}"
        if isinstance(value, Mapping) and value and not f"{key}.".startswith(open_prefixes):
            yield from _flat_values(value, open_prefixes, f"{key}.")
        else:
            yield key, _to_grammar_value(value)


def _to_grammar_value(value: Any) -> str:
    """Return a value of a YAML file in Hydra's grammar."""
    if isinstance(value, Mapping):
        parts = (f"{name}: {_to_grammar_value(part)}" for name, part in value.items())
        return f"{{{', '.join(parts)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_to_grammar_value, value))}]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return repr(value) if isinstance(value, int | float) else quote_value(str(value))


def _is_known_anywhere(key: str) -> bool:
    """Return True if some command has a key; products are imported until one is found."""
    names = (name for table in iterate_product_tables("SETTINGS") for name in table)
    return any(key in _top_keys(name) or has_setting(settings_classes(name), key) for name in names)


def _belongs_elsewhere(key: str, config: str) -> bool:
    return "." in key and not has_setting(settings_classes(config), key) and _is_known_anywhere(key)


@cache
def _top_keys(config: str) -> frozenset[str]:
    """Return the keys and groups of a configuration, of its classes and of its files."""
    in_files = _read_included_configs(config)
    in_classes = map(setting_fields, settings_classes(config))
    return (
        frozenset(key for each in (*in_files, *in_classes) for key in each) - _NOT_IN_FILES.keys()
    )


def _name_settings_file(error: InputError, line: CommandLine) -> InputError:
    """Prefix the error with the user's file if its key is in the file and no word sets it."""
    path = _settings_file(line)
    key = str(error).partition(":")[0]
    typed = any(word.lstrip("+").startswith(f"{key}=") for word in line.overrides)
    if path is None or typed or key not in _file_values(line):
        return error
    return InputError(f"{path}: {error}")


@cache
def _free_key_prefixes(config: str) -> tuple[str, ...]:
    """Return the key prefixes of mappings that are empty by default, each ending in a dot.

    The default may be in a settings class or only in a file, such as `positions` of
    `configs/live.yaml`.
    """
    in_files = _read_included_configs(config)
    defaults = [*map(setting_defaults, settings_classes(config)), *in_files]
    return tuple(prefix for values in defaults for prefix in _empty_prefixes(values))


def _empty_prefixes(values: Mapping[str, Any], group: str = "") -> Iterator[str]:
    for name, value in values.items():
        if value == {}:
            yield f"{group}{name}."
        elif isinstance(value, dict):
            yield from _empty_prefixes(value, f"{group}{name}.")


def _translate_hydra_error(error: Exception, line: CommandLine) -> InputError:
    """Convert an error of Hydra or OmegaConf about a command line to a one-line `InputError`."""
    if isinstance(error, InputError):
        return error
    message = f"{error}\n{error.__cause__!s}"
    for pattern in _UNKNOWN_KEYS:
        if key := pattern.search(message):
            return _unknown_setting_error(key[1], line)
    if isinstance(error, OverrideParseException):
        return _unreadable_word_error(error.override.lstrip("+"))
    if there := re.search(r"already at '([^']*)'", message):
        words = [word.lstrip("+") for word in line.overrides if word.startswith(f"+{there[1]}=")]
        return InputError(
            f"{there[1]}: this setting already exists; write it without +{format_suggestion(words)}"
            f" ({LIST_SETTINGS_ADVICE})"
        )
    into_list = r"merging override \+*([^=\s]+)=(.*)\nCannot merge .+ ListConfig"
    if there := re.search(into_list, message):
        return InputError(
            f"{there[1]}: {there[2]} is a list, but named values are required; write"
            f" {there[1]}.NAME=value"
        )
    if missing := getattr(error, "missing_cfg_file", None):
        return _unknown_file_error(str(missing), error, line)
    causes = (str(each or "").strip().split("\n")[0] for each in (error, error.__cause__))
    reason = ": ".join(dict.fromkeys(filter(None, causes))) or type(error).__name__
    if isinstance(error, ValueError) or not any(word in reason for word in line.overrides):
        reason = f"{' '.join(line.overrides)}: {reason}"
    return InputError(f"{reason} ({LIST_SETTINGS_ADVICE})")


def _unreadable_word_error(word: str) -> InputError:
    """Return the InputError for a word that Hydra's grammar rejects."""
    key = word.partition("=")[0]
    return InputError(
        f"{word}: the value cannot be read; put text in two pairs of quotes,"
        f" \"{key}='text'\" or \"{key}=['text']\", and close each bracket ({LIST_SETTINGS_ADVICE})"
    )


def _unknown_setting_error(key: str, line: CommandLine) -> InputError:
    """Return the InputError for an unknown key, with a suggestion of similar keys."""
    values: Any = OmegaConf.to_container(_compose_line(line), resolve=False)
    keys = list(dotted_keys(values))
    typed = [
        word.partition("=")[2] for word in line.overrides if word.lstrip("+").startswith(f"{key}=")
    ]
    if "." not in key and not closest_keys(key, keys) and (others := _list_commands_with_key(key)):
        return _other_commands_setting_error(key, others)
    moved = find_keys_by_last_part(key, keys)
    if len(moved) != 1 or not typed:
        return unknown_key_error(key, keys, advice=LIST_SETTINGS_ADVICE)
    group, _, last = moved[0].rpartition(".")
    is_code = is_plugin(typed[0]) and PLUGIN_KEYS.get(group) == last
    word = f"{f'{group}.{HYDRA_TARGET_KEY}' if is_code else moved[0]}={typed[0]}"
    return InputError(f"{key}: unknown setting{format_suggestion([word])} ({LIST_SETTINGS_ADVICE})")


def _list_commands_with_key(key: str) -> list[str]:
    """List the modules of commands whose own settings class has this key."""
    commands = (each for table in iterate_product_tables("COMMANDS") for each in table.values())
    configured = (each for each in commands if each.config)
    return sorted(
        {
            each.module
            for each in configured
            if key in setting_fields(_load_settings_class(each.config))
        }
    )


def _other_commands_setting_error(key: str, modules: Sequence[str]) -> InputError:
    """Return the InputError for a setting that this command lacks, but other commands have.

    modules: modules of the commands that have the setting.
    """
    also = "; for a sweep, use -m hydra/launcher=joblib" if key == "launcher" else ""
    return InputError(
        f"{key}: unknown setting for this command; it belongs to"
        f" {format_enumeration(modules)}{also}"
    )


def _unknown_file_error(missing: str, error: Any, line: CommandLine) -> InputError:
    """Return the InputError for a group's choice, or a configuration, that has no file."""
    group, _, choice = missing.rpartition("/")
    if missing == "hydra/launcher/joblib":
        return not_installed_error("hydra-joblib-launcher", f"{group}={choice}", choice)
    if group.startswith("hydra/"):
        return invalid_choice_error(group, choice, error.options or ())
    if not group:
        names = [path.stem for path in sorted((line.config_dir or CONFIG_FOLDER).glob("*.yaml"))]
        return invalid_choice_error("--config-name", choice, names)
    also = f"{group}.{HYDRA_TARGET_KEY}=module.name" if group in PLUGIN_KEYS else ""
    return invalid_choice_error(
        group,
        choice,
        list_group_choices(group, line.base_config, line.config_dir),
        other_accepted_values=also,
    )


def list_group_choices(group: str, config: str, folder: Path | None = None) -> list[str]:
    """List the choices of a settings group: its files whose keys the configuration's class has.

    group: folder of the files in `configs`.
    config: name of the configuration.
    folder: folder of the user's configuration files, which are listed, too.
    """
    keys = {"defaults", HYDRA_TARGET_KEY}
    for kind in settings_classes(config):
        if (about := setting_fields(kind).get(group)) is not None:
            keys |= setting_fields(settings_class_in_annotation(about.annotation)).keys()
            break
    files = sorted((CONFIG_FOLDER / group).glob("[!_]*.yaml"))  # an underscore: part of other files
    fitting = [path.stem for path in files if read_plain_yaml(path).keys() <= keys]
    own = [] if folder is None else [path.stem for path in (folder / group).glob("*.yaml")]
    return sorted({*fitting, *own})


def run_jobs(line: CommandLine, run: Callable[[DictConfig, Path], None]) -> None:
    """Run every job of a multirun with the configured launcher.

    run: function of a job's configuration and of the output folder that Hydra created for the job.

    Raises InputError for Hydra's errors, and for a folder that cannot be created.
    """
    try:
        words = [*_hydra_words(line), *_search_path_words(line)]
        with initialize_config_dir(
            str(CONFIG_FOLDER), version_base="1.3", job_name=line.main_config
        ):
            # `hydra.main` calls this for -m, after a parser that fails on Python 3.14 up to Hydra
            # 1.3.8: its help text is not a string (facebookresearch/hydra#3121).
            begun: Any = GlobalHydra.instance().hydra
            begun.multirun(
                line.main_config, partial(_run_job, run), words, with_log_configuration=False
            )
    except FileExistsError as error:
        raise InputError(f"hydra.sweep.dir: {error.filename} is a file; name a folder") from error
    except (HydraException, OmegaConfBaseException) as error:
        raise _translate_hydra_error(error, line) from error


def _run_job(run: Callable[[DictConfig, Path], None], config: DictConfig) -> None:
    allow_configured_plugins(OmegaConf.to_container(config, resolve=False))
    run(config, Path(HydraConfig.get().runtime.output_dir))


def is_override(word: str) -> bool:
    """Return whether a word sets a setting, in the form key=value."""
    return bool(_OVERRIDE.match(word))


def refuse_repeated_keys(words: Iterable[str]) -> None:
    """Raise `InputError` for a key that two words set, since Hydra would silently use the last one.

    A word that sets a group to a value in braces also sets every key of the group.
    """
    values: dict[str, str] = {}
    for word in filter(is_override, words):
        key, _, value = word.lstrip("+").partition("=")
        if key in values:
            both = redact_secrets(f"{values[key]} and {value}", {})
            raise InputError(f"{key} is set twice, to {both}; remove one of them")
        values[key] = value
    for group, value in values.items():
        inner = [key for key in values if key.startswith(f"{group}.")]
        if inner and value.lstrip().startswith("{"):
            both = redact_secrets(f"{group}={value} and {inner[0]}={values[inner[0]]}", {})
            raise InputError(f"{group} is set in whole and in part: {both}; merge them into one")


def refuse_unsupported_syntax(words: Iterable[str]) -> None:
    """Raise `InputError` for the word `~key`, an unknown `~user`, and code in Hydra's groups.

    `~key` would remove a setting from the configuration, so that the default of its class applies.
    """
    for before, word in pairwise(["", *words]):
        if _REMOVAL.match(word):
            raise InputError(f"{word}: ~ is not supported; omit the setting to use its default")
        if _PLUGIN.match(word):
            raise InputError(f"{word}: custom code is not allowed in Hydra's own groups; remove it")
        if before.startswith("--"):  # the command of the flag reports it
            continue
        for home in _USER_HOME_PATTERN.findall(word):
            if os.path.expanduser(home) == home:
                raise InputError(
                    f"{word}: unknown user {home[1:]}, so {home} is not a folder; write its path"
                )


def quote_value(value: str) -> str:
    """Return the value in quotes, so that Hydra's grammar reads it literally."""
    # The grammar reads a backslash as an escape only before a quote.
    escaped = _BACKSLASHES_BEFORE_QUOTE.sub(
        lambda found: found[1] * 2 + found[2].replace("'", "\\'"), value
    )
    return f"'{escaped}'"


def flags_to_overrides(flags: Mapping[str, Any]) -> list[str]:
    """Convert the values of flags, by key, to key=value words; None and empty lists are skipped."""
    overrides = []
    for key, value in flags.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):
            # A folder's name may contain commas, brackets and colons of Hydra's grammar.
            overrides.append(f"{key}=[{','.join(map(quote_value, value))}]")
        else:
            overrides.append(f"{key}={quote_value(str(value))}")
    return overrides


def refuse_hydra_settings(line: CommandLine) -> None:
    """Raise `InputError` for words that are not key=value, or that set Hydra's own settings.

    A multirun may set Hydra's settings other than `hydra.searchpath`.
    """
    for word in line.overrides:
        key = word.lstrip("+").partition("=")[0]
        if not is_override(word):
            raise InputError(f"{word}: not a setting; write key=value ({LIST_SETTINGS_ADVICE})")
        if key == "hydra.searchpath":
            raise InputError(f"{word}: not supported; use --config-dir FOLDER for your own files")
        if re.match(r"hydra[./]", key) and not line.multirun:
            raise InputError(
                f"{word}: applies only to multiruns (-m); for a single run, set output=FOLDER"
            )


def refuse_empty_overrides(words: Iterable[str]) -> None:
    """Raise `InputError` for words without a key or without a value."""
    for word in words:
        if word.startswith("="):
            raise InputError(f"{word!r}: the setting's name is missing; write key=value")
        key, _, value = word.lstrip("+").partition("=")
        if is_override(word) and value.strip() in _EMPTY_VALUES and not key.startswith("hydra"):
            raise InputError(f"{key}: the value is empty; set one, or omit {key}= for the default")


def refuse_underscored_numbers(words: Iterable[str]) -> None:
    """Raise `InputError` for numbers with underscores: Hydra would read 1_000 as 1000."""
    for word in words:
        key, _, value = word.partition("=")
        if is_override(word) and _UNDERSCORED.fullmatch(value):
            raise InputError(
                f"{word}: numbers with underscores are not supported; write"
                f" {key}={value.replace('_', '')}, or for text '{key}=\"{value}\"'"
            )


def expand_home(word: str) -> str:
    """Return the word with the home folder in place of a leading `~` of each value.

    Shells expand `~` only at the beginning of a word, and Hydra cannot read it.
    """
    return _HOME_PATTERN.sub(lambda _: str(Path.home()), word) if is_override(word) else word
