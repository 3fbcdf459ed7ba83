"""Command-line runner of all commands: parse arguments, run the command, exit with a code.

A `Command` names its module, its configuration below `configs`, and its output files. To print
--help, only the module's docstring is read. For every other command line, Hydra composes the
settings from the defaults of the settings classes, the YAML files and key=value words. The
settings, in a multirun (-m) those of every job, are validated before the command's own libraries
are loaded. An error is printed as one line, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import ast
import gc
import importlib
import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

from foundation.errors import (
    InputError,
    closest_choices,
    format_suggestion,
    invalid_choice_error,
    not_installed_error,
)
from foundation.files import (
    NON_OWNER_PERMISSIONS,
    check_output_file,
    may_overwrite,
    resolve_output,
    write_files_atomically,
)
from foundation.plugin import iterate_product_tables
from foundation.shell import format_command
from foundation.signals import (
    TERMINATION_SIGNALS,
    exit_on_errors,
    exit_with_error,
    handle_signals,
    raise_if_signalled,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import RenderableType

    from foundation.compose import CommandLine

HYDRA_OUTPUT_CONFIGS = ("backtest",)  # configurations whose multirun jobs write to Hydra's folder

JSON_FLAG = "--json"
_HELP_FLAGS = ("-h", "--help")
_USAGE_PROGRAM = re.compile(r"^ {4}(python|kelly-chronos)(?= )", re.MULTILINE)
_SHOW_CONFIG_FLAGS = ("--cfg", "-c")
_UNKNOWN_FLAG = re.compile(r"unrecognized arguments: (\S+)")
_WRONG_CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)")


@dataclass(frozen=True, slots=True)
class Command:
    """Registration of a command, readable without importing the command's module.

    The module's docstring is its help. Its `run(settings)` or `run(settings, progress)` does the
    work and returns a `Result`. The annotation of `settings` is a class with a method
    `from_config`, which reads the configuration. A module that parses its own flags has
    `parse_arguments(words)`, which returns the settings, and the output folder or None. A module
    whose output folder needs other checks has `resolve_output(settings, config)`, which returns
    the checked folder. A module with `check_earlier_run(settings, output)` refuses to replace an
    earlier run there, unless overwrite=true.

    module: dotted name, as for `python -m`.
    config: name of the command's file in `configs`; None if the command takes only flags.
    marker_file: file that each run writes to the output folder, and that marks the folder as
        output of an earlier run; empty if the module checks the folder itself, or writes nothing.
    marker_keys: keys that this JSON file has after every run.
    interruption_text: state of the output files, printed after an interruption.
    log_name: name of the log file in `logs/`; empty: none.
    log_links: names of links in `logs/` to the newest log file, without the suffix.
    override_parser_path: `module:function` that converts the command's arguments to key=value
        words; empty: none.
    flag_by_setting: command-line flag of each setting that has one.
    takes_hydra_flags: whether the command takes -m, --config-dir and --config-name.
    is_private: whether only the owner may read the output files, such as those of an account.
    extra_by_library: optional libraries that the command needs, each with the extra of this project
        that installs it.
    json_argument: arguments of which --json requires one, separated by spaces, such as `status`;
        empty: none; None: the command does not support --json.
    is_listed: whether `kelly-chronos` lists the command.
    """

    module: str
    config: str | None = None
    marker_file: str = ""
    marker_keys: tuple[str, ...] = ()
    interruption_text: str = "nothing was written"
    log_name: str = ""
    log_links: tuple[str, ...] = ()
    override_parser_path: str = ""
    flag_by_setting: Mapping[str, str] = field(default_factory=dict)
    takes_hydra_flags: bool = False
    is_private: bool = False
    extra_by_library: Mapping[str, str] = field(default_factory=dict)
    json_argument: str | None = None
    is_listed: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """Result of a command; `run_command` writes its files and prints the tables and sentences.

    tables: rich tables and text lines, in print order.
    closing_lines: text lines printed below the tables.
    file_writers: function that writes each output file, by file name; all files are written, or
        none.
    exit_code: exit code of the process.
    json_document: values that --json prints; NaN and infinite numbers become null.
    """

    tables: Sequence[RenderableType] = ()
    closing_lines: Sequence[str] = ()
    file_writers: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    exit_code: int = 0
    json_document: Mapping[str, Any] | None = None


def find_command(module: str) -> Command:
    """Return the registered command of a module.

    The module's own package is searched first, then the packages of all products.
    """
    package = module.partition(".")[0]
    own = [importlib.import_module(package).COMMANDS] if package != module else []
    tables = chain(own, iterate_product_tables("COMMANDS"))
    found: Command = next(
        each for table in tables for each in table.values() if each.module == module
    )
    return found


def run_command(module: str) -> None:
    """Run a command with the process's arguments; --help and --cfg job only print a text.

    A signal that arrives before the command begins its work ends the process with one line, too.

    module: module of the command, as registered.
    """
    command = find_command(module)
    if command.is_private:
        os.umask(NON_OWNER_PERMISSIONS)
    with handle_signals(TERMINATION_SIGNALS, _exit_on_signal_while_loading):
        with _pause_gc():
            try:
                as_json = _remove_json_flag(command)
                words = sys.argv[1:]
                with name_flags_in_errors(command.flag_by_setting, words):
                    line = _print_help_or_refuse(command, words)
            except InputError as error:
                exit_with_error(error)
            if sys.stderr is not None and sys.stderr.isatty():
                sys.stderr.write(f"{module}: loading …\n")
                sys.stderr.flush()
            home = importlib.import_module(_run_module_name(module))
        if line is not None and line.multirun:
            from foundation.compose import run_jobs

            with exit_on_errors("results of finished jobs are kept"):
                run_jobs(line, partial(_execute_command, command, home, None))
        else:
            _execute_command(command, home, line, as_json=as_json)


def _remove_json_flag(command: Command) -> bool:
    """Remove --json from the process's arguments; return whether it was there.

    Raises InputError for arguments that do not support it.
    """
    words = sys.argv[1:]
    if command.json_argument is None or JSON_FLAG not in words or {*_HELP_FLAGS} & {*words}:
        return False
    sys.argv = [sys.argv[0], *(word for word in words if word != JSON_FLAG)]
    required = command.json_argument.split()
    if required and not {*required} & {*words}:
        raise InputError(
            f"{JSON_FLAG}: {command.module} supports it with {', '.join(required)} only; remove it"
        )
    if command.takes_hydra_flags and {"-m", "--multirun"} & {*words}:
        raise InputError(f"{JSON_FLAG}: not supported with --multirun; remove it")
    return True


@contextmanager
def _pause_gc() -> Iterator[None]:
    """Pause garbage collection in the block, and exempt all objects that exist at its end from it.

    Libraries stay loaded until the process ends. Scanning them takes a tenth of the loading time,
    and a twentieth of a backtest.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _print_help_or_refuse(command: Command, words: list[str]) -> CommandLine | None:
    """Print the text of --help or --cfg and exit, or validate the arguments.

    The command's own module is not loaded yet. Returns the parsed command line if the command takes
    Hydra's flags. Returns None for all other commands, whose arguments `_read_request` parses
    later.

    Raises InputError for invalid arguments, and for an optional library that is not installed.
    """
    if set(_HELP_FLAGS) & set(words):
        _answer(format_help_text(command))
    shows = any(word.partition("=")[0] in _SHOW_CONFIG_FLAGS for word in words)
    if command.config is None and shows:
        _answer(f"# {command.module} has no settings; see --help for its flags\n{{}}\n")
    if command.config is not None:
        # This module imports Hydra, which help does not need.
        from foundation.compose import refuse_repeated_keys, refuse_unsupported_syntax

        refuse_unsupported_syntax(words)
        refuse_repeated_keys(words)
        if shows:
            _show_settings(command, words)
    for library, extra in command.extra_by_library.items():
        if importlib.util.find_spec(library) is None:
            raise not_installed_error(library, command.module, extra)
    if command.config is None:
        return None
    from foundation.compose import validate_command_line

    line = _parse_command_line(command, words)
    # Plain words, such as `status`, may need no settings, nor the time to compose them.
    if line.overrides or not words:
        validate_command_line(line)
    return line if command.takes_hydra_flags else None


def _parse_command_line(command: Command, words: Sequence[str]) -> CommandLine:
    """Return a command line with its key=value words, and Hydra's flags if the command takes them.

    A command that takes no Hydra flags parses its own flags later. Without a
    `override_parser_path`, such flags also prevent the validation of its key=value words: the
    result then has none.
    """
    from foundation.compose import CommandLine, is_override, refuse_hydra_settings

    assert command.config is not None
    if not command.takes_hydra_flags:
        flagged = any(word.startswith("-") for word in words) and not command.override_parser_path
        overrides = [] if flagged else filter(is_override, _parse_overrides(command, words))
        return CommandLine(command.config, list(overrides))
    parser = FlagParser(settings=True, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cn", "--config-name", default="")
    parser.add_argument("-cd", "--config-dir", type=Path)
    typed = parser.parse_intermixed_args(list(words))
    line = CommandLine(
        command.config,
        _parse_overrides(command, typed.overrides),
        typed.config_name,
        typed.config_dir,
        multirun=typed.multirun,
    )
    refuse_hydra_settings(line)
    if line.config_dir is not None:
        _check_config_dir_files(line.config_dir)
    return line


def _check_config_dir_files(folder: Path) -> None:
    """Validate the YAML files in a user's `--config-dir` folder and in its group folders."""
    from foundation.settings import check_config_file

    if not folder.is_dir():
        raise InputError(f"--config-dir: {folder} is not a folder; name an existing folder")
    for path in sorted((*folder.glob("*.yaml"), *folder.glob("*/*.yaml"))):
        group = path.parent.relative_to(folder)
        check_config_file(path, "" if group == Path() else str(group))


def format_help_text(command: Command) -> str:
    """Return the text of --help: the module's docstring, and the flag that lists the settings.

    Its usage lines start with the program as the user can run it.
    """
    about = _USAGE_PROGRAM.sub(
        lambda usage: f"    {format_command(usage[1])}", read_module_docstring(command.module)
    )
    lines = [about, "", "-h, --help   show this text"]
    if command.config is not None:
        lines.append(
            "--cfg job    show every setting with its value, after key=value changes, and meaning"
        )
        lines.append("config=FILE  read settings from a YAML file; key=value words replace them")
    if command.json_argument is not None:
        lines.append(
            "--json       print one JSON document; progress and tables go to standard error"
        )
    return "\n".join(lines) + "\n"


def read_module_docstring(module: str) -> str:
    """Return the docstring of a command's module without importing the module."""
    # The source is only parsed: importing every command would load all of their libraries.
    spec = importlib.util.find_spec(_run_module_name(module))
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _run_module_name(module: str) -> str:
    """Return the name of the module that has a command's `run`: for a package, its `__main__`."""
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return f"{module}.__main__" if is_package else module


def _parse_overrides(command: Command, words: Sequence[str]) -> list[str]:
    """Return a command's arguments as key=value words, converted by its `override_parser_path`."""
    if not command.override_parser_path:
        return list(words)
    module, _, name = command.override_parser_path.partition(":")
    overrides: list[str] = getattr(importlib.import_module(module), name)(words)
    return overrides


def _show_settings(command: Command, words: Sequence[str]) -> NoReturn:
    """Print the settings of a command line as YAML, each with its description, and exit."""
    from omegaconf import OmegaConf

    from foundation.compose import compose_config, is_override, settings_classes
    from foundation.settings import format_annotated_yaml

    assert command.config is not None
    if not {"job", "--cfg=job", "-c=job"} & {*words}:
        raise InputError("--cfg: only job is supported; write `--cfg job`")
    others = [word for word in words if not re.fullmatch(r"((--cfg|-c)(=job)?)|job", word)]
    flags = [word for word in others if word.startswith("-")]
    if flags:
        raise InputError(f"{flags[0]}: cannot be combined with --cfg job; remove it")
    # Words that are neither flags nor key=value say nothing about settings.
    overrides = [word for word in _parse_overrides(command, others) if is_override(word)]
    config = compose_config(command.config, overrides)
    values: Any = OmegaConf.to_container(config, resolve=False)
    _answer("".join(format_annotated_yaml(values, settings_classes(command.config))))


def _execute_command(
    command: Command,
    home: ModuleType,
    line: CommandLine | None = None,
    config: DictConfig | None = None,
    folder: Path | None = None,
    *,
    as_json: bool = False,
) -> None:
    """Read the settings, run the command, write its output files, and print its result.

    line: command line; None if the module parses its own arguments, or `config` is given.
    config, folder: configuration of a multirun's job, and Hydra's folder for the job.
    as_json: print the document as JSON; other output of the command goes to standard error.
    """
    folder = folder if command.config in HYDRA_OUTPUT_CONFIGS else None
    with (
        exit_on_errors(command.interruption_text) as folders,
        name_flags_in_errors(command.flag_by_setting, sys.argv[1:]),
    ):
        # Hydra has created its folder already; after an error it is removed.
        if config is not None and (made := folder or config.get("output")):
            folders.append(Path(str(made)).expanduser())
        settings, output = _read(command, home, line, config, folder)
        if output is not None:
            folders.append(output)
        if command.log_name:
            from foundation.console import log_to_file

            log_to_file(command.log_name, command.log_links)
        raise_if_signalled()
        lines = redirect_stdout(sys.stderr) if as_json else nullcontext()
        with _progress_arguments(home.run) as progress, lines:
            result = home.run(settings, *progress) or Result()
        if output is not None and result.file_writers:
            write_files_atomically(result.file_writers, output)
    with exit_on_errors("the command has finished; only its printed output is incomplete"):
        if as_json:
            _print_json(result)
        else:
            _print_result(result, output)
    if result.exit_code:
        sys.exit(result.exit_code)


def _read(
    command: Command,
    home: ModuleType,
    line: CommandLine | None,
    config: DictConfig | None,
    folder: Path | None,
) -> tuple[Any, Path | None]:
    """Return a command's settings, and its output folder (checked and locked), or None."""
    words = sys.argv[1:]
    if hasattr(home, "parse_arguments"):
        settings, output = home.parse_arguments(words)
        return settings, output
    assert command.config is not None
    if config is None:
        from foundation.compose import CommandLine, compose_command_line

        config = compose_command_line(
            line or CommandLine(command.config, _parse_overrides(command, words))
        )
    settings = get_type_hints(home.run)["settings"].from_config(config)
    if hasattr(home, "resolve_output"):
        return settings, home.resolve_output(settings, config)
    if not command.marker_file:
        return settings, None
    output = resolve_output(config, command.marker_file, command.marker_keys, folder)
    if Path(command.marker_file).suffix:
        check_output_file(output / command.marker_file, "output")
    if hasattr(home, "check_earlier_run") and folder is None and not may_overwrite(config):
        home.check_earlier_run(settings, output)
    return settings, output


@contextmanager
def _progress_arguments(run: Callable[..., Result | None]) -> Iterator[tuple[object, ...]]:
    """Yield the arguments of `run` after the settings: the progress callback, if it accepts one."""
    if run.__code__.co_argcount == 1:
        yield ()
        return
    from foundation.console import show_progress

    # A command that calls no compiled code has not loaded the compiler, and need not load it here.
    compiled = sys.modules.get("foundation.compiled")
    count = compiled.report_compilation_progress if compiled else nullcontext
    with show_progress() as progress, count(progress):
        yield (progress,)


def _print_result(result: Result, output: Path | None) -> None:
    """Print a result's tables and sentences, and the path of its page or first output file."""
    sentences = list(result.closing_lines)
    if output is not None and result.file_writers:
        pages = [name for name in result.file_writers if name.endswith(".html")]
        file = output / (pages or list(result.file_writers))[0]
        sentences.append(f"{'Page' if pages else 'Written'}: {file}")
    if not (result.tables or sentences):
        return
    from foundation.console import open_terminal, print_renderables

    print_renderables(open_terminal(), (*result.tables, *sentences))


def _print_json(result: Result) -> None:
    """Print the result's document as JSON."""
    from foundation.tables import format_json

    write_to_stdout(format_json(replace_non_finite(result.json_document)))


def replace_non_finite(value: Any) -> Any:
    """Return values with None in place of NaN and infinite numbers."""
    if isinstance(value, Mapping):
        return {str(key): replace_non_finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [replace_non_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_to_stdout(text: str) -> None:
    """Write a text to standard output; a closed pipe is not an error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Without this, Python reports the closed pipe again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _answer(text: str) -> NoReturn:
    """Print a text and exit."""
    write_to_stdout(text)
    sys.exit(0)


def _exit_on_signal_while_loading(number: int, _: object) -> NoReturn:
    # An exception could be lost in a finaliser, or be taken by a library for its own error, and the
    # work would begin. No resource is held yet.
    with suppress(OSError):  # the reader is gone
        os.write(2, b"interrupted: nothing was started\n")
    os._exit(128 + number)


class FlagParser(argparse.ArgumentParser):
    """An argparse parser that exits with a one-line error and code 2.

    It has no --help, which `run_command` handles.

    settings: whether key=value words may follow the flags; they are parsed as `overrides`.
    """

    def __init__(self, *, settings: bool = False, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        self._flags: list[str] = []
        if settings:
            self.add_argument("overrides", nargs="*", metavar="key=value")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add a flag, and record its name for suggestions in error messages."""
        self._flags += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Exit with a one-line error that suggests the nearest flag or choice."""
        if unknown := _UNKNOWN_FLAG.search(message):
            message += format_suggestion(closest_choices(unknown[1].partition("=")[0], self._flags))
        if wrong := _WRONG_CHOICE.fullmatch(message):
            known = [each.strip("' ") for each in wrong[3].split(",")]
            message = str(invalid_choice_error(wrong[1], wrong[2].strip("'"), known))
        exit_with_error(InputError(f"{message} (see --help)"))

    def refuse_non_overrides(self, words: Iterable[str]) -> None:
        """Exit with an error at the first word that is not key=value."""
        from foundation.compose import is_override

        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is neither a flag nor a key=value setting")


def find_used_flags(flag_by_setting: Mapping[str, str], words: Sequence[str]) -> dict[str, str]:
    """Return the flags that a command line contains, keyed by the setting that each flag sets.

    flag_by_setting: the command's flags by setting. A flag may be abbreviated, and its value may
        follow an equals sign.
    words: the command line.
    """
    heads = [word.partition("=")[0] for word in words if word.startswith("--")]
    return {
        key: flag
        for key, flag in flag_by_setting.items()
        if any(flag.startswith(head) and len(head) > 2 for head in heads)
    }


def refuse_flag_conflicts(flag_by_setting: Mapping[str, str], words: Sequence[str]) -> None:
    """Raise `InputError` for a setting that is set both by a flag and by a key=value word.

    flag_by_setting: the command's flags by setting.
    words: the command line.
    """
    typed = find_used_flags(flag_by_setting, words)
    for word in words:
        key = word.partition("=")[0]
        if key in typed:
            raise InputError(f"{typed[key]} and {word} set the same setting; remove one of them")


@contextmanager
def name_flags_in_errors(
    flag_by_setting: Mapping[str, str], words: Sequence[str]
) -> Iterator[None]:
    """Replace setting names by their command-line flags in errors raised within the block.

    flag_by_setting: the command's flags by setting.
    words: the command line.
    """
    try:
        yield
    except InputError as error:
        if not flag_by_setting:
            raise
        typed = find_used_flags(flag_by_setting, words)
        place, colon, rest = str(error).partition(": ")
        names = place.split(", ")
        if not typed.keys().isdisjoint(names):
            place = ", ".join(flag_by_setting.get(name, name) for name in names)
        for key, flag in flag_by_setting.items():
            rest = re.sub(rf"(?<![\w.]){re.escape(key)}=", f"{flag} ", rest)
        raise InputError(f"{place}{colon}{rest}") from error
