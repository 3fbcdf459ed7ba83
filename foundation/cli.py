"""A command, from the first word on the terminal to its exit code.

A `Command` names its module, its configuration below `configs`, and what its run leaves. Help needs
the module's docstring alone. Every other line is composed by Hydra from the classes' defaults, the
YAML files and the words key=value, and is checked before the command's own libraries are loaded; of
a multirun, -m, every job is. What is refused is one line, and the exit code is 2.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache, partial
from itertools import chain, pairwise, product
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

from foundation.entry_points import find, product_tables
from foundation.errors import (
    InputError,
    did_you_mean,
    invalid_choice,
    nearest,
    not_installed,
    unknown_key,
)
from foundation.files import OTHERS, check_file, output_of, write_whole
from foundation.redaction import redacted
from foundation.signals import ENDING, end_if_told, fail, handled_signals, one_line_errors

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import RenderableType

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
ADVICE = "see `--cfg job` for every setting"  # every command answers it
LAUNCHERS = ("joblib", "ray")  # of multiruns, each installed by the extra of its name
OWN_FOLDERS = ("backtest",)  # configurations of which each run of a multirun has Hydra's folder

_HELP_FLAGS = ("-h", "--help")
_SHOW_FLAGS = ("--cfg", "-c")
_OVERRIDE = re.compile(r"\+{0,2}[A-Za-z_][\w.@/]*=")
_REMOVAL = re.compile(r"~(hydra/)?[\w.@]+(=|$)")
_PLUGIN = re.compile(r"\+{0,2}hydra[\w.@/]*\._target_=")
_USERS = re.compile(r"""(?:^|(?<=[=\[,'"]))~\w[^/,'"\]]*""")
_SEVERAL = re.compile(r"[^,'\"()\[\]{}]+(,[^,'\"()\[\]{}]+)+,?")
_HOME = re.compile(r"(?<=[=\[,])~(?=[/,\]]|$)")
_UNDERSCORED = re.compile(r"[+-]?\d[\d_]*_[\d_]*(\.[\d_]*)?(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
_EMPTY = ("", "''", '""')
_UNKNOWN_KEYS = (
    re.compile(r"is not in struct\s+full_key: (\S+\.\S+)"),
    re.compile(r"Could not override '([^']*)'"),
)
_UNKNOWN_FLAG = re.compile(r"unrecognized arguments: (\S+)")
_WRONG_CHOICE = re.compile(r"argument (\S+): invalid choice: (.*) \(choose from (.*)\)")


@dataclass(frozen=True, slots=True)
class Command:
    """What is known of a command before its module is imported.

    The module's docstring is its help. Its `run(settings)` or `run(settings, progress)` does the
    work and returns a `Result`; the class in the annotation of `settings` reads a configuration
    with its `of`. A module whose words are more than settings has `read(words)`, which returns the
    settings and the folder of the output, or None; one whose output is no folder of its own checks
    it in `output_of(settings, config)`.

    module: as `python -m` takes it.
    config: name of its file in configs; none where flags are all that it takes.
    output: file that each run leaves in the folder `output`, by which that folder is known as one
        of an earlier run; empty where the module checks it, or nothing is written.
    interrupted: what is true once it was interrupted.
    log: name of its file in `logs/`; empty: none.
    log_links: names in `logs/` of links to the newest of these files, without the suffix.
    words: `module:function` that makes settings of other words; empty: there are no others.
    flags: by setting, flags that stand for it.
    hydra: whether it takes -m, --config-dir and --config-name.
    private: whether it writes what an account has: only its owner may read that.
    needs: libraries that a first backtest does without, and the extra that installs each.
    listed: whether `kelly-chronos` names it.
    """

    module: str
    config: str | None = None
    output: str = ""
    interrupted: str = "nothing was written"
    log: str = ""
    log_links: tuple[str, ...] = ()
    words: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    hydra: bool = False
    private: bool = False
    needs: Mapping[str, str] = field(default_factory=dict)
    listed: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """What a command has come to; `start` writes its files and prints the rest.

    tables: of rich, or lines between them.
    sentences: printed below them.
    files: what writes each, by its name in the output; all are put in place, or none.
    code: the exit code.
    """

    tables: Sequence[RenderableType] = ()
    sentences: Sequence[str] = ()
    files: Mapping[str, Callable[[Path], object]] = field(default_factory=dict)
    code: int = 0


@dataclass(frozen=True, slots=True)
class _Line:
    """A command line as it is composed.

    config: the command's file in `configs`.
    overrides: words key=value.
    own: the user's own file in place of it.
    folder: of the user's own files, searched after the project's.
    several: whether every combination of values between commas is a run.
    """

    config: str
    overrides: Sequence[str]
    own: str = ""
    folder: Path | None = None
    several: bool = False

    @property
    def name(self) -> str:
        """The file that is composed."""
        return self.own or self.config


def command_of(module: str) -> Command:
    """Return the command that a product registers for a module, most often its own package."""
    package = module.partition(".")[0]
    own = [importlib.import_module(package).COMMANDS] if package != module else []
    tables = chain(own, product_tables("COMMANDS"))
    found: Command = next(
        each for table in tables for each in table.values() if each.module == module
    )
    return found


def start(module: str) -> None:
    """Run a command on the words of this process: answer --help and --cfg job, or do its work.

    Until its work has begun a signal that ends it is answered with one line, too.

    module: as it is registered.
    """
    command = command_of(module)
    words = sys.argv[1:]
    if command.private:
        os.umask(OTHERS)
    with handled_signals(ENDING, _end_while_loading):
        try:
            with named_by_flags(command.flags, words):
                line = _answer_or_refuse(command, words)
        except InputError as error:
            fail(error)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"{module}: loading …\n")
            sys.stderr.flush()
        home = importlib.import_module(_home(module))
        if line is not None and line.several:
            _work_several(command, home, line)
        else:
            _work(command, home, line)


def _answer_or_refuse(command: Command, words: list[str]) -> _Line | None:
    """Answer --help and --cfg, or refuse what is wrong before the command is loaded.

    Returns the line where the command has settings that words key=value alone describe.
    """
    if set(_HELP_FLAGS) & set(words):
        _answer(help_text(command))
    if command.config is not None:
        refuse_words(words)
        refuse_repeated(words)
    if any(word.partition("=")[0] in _SHOW_FLAGS for word in words):
        _show_settings(command, words)
    for library, extra in command.needs.items():
        if importlib.util.find_spec(library) is None:
            raise not_installed(library, command.module, extra)
    if command.config is None:
        return None
    line = _parsed(command, words)
    # What words alone ask for, as `status`, may need no settings, nor the time that they take.
    if line.overrides or not words:
        for config in _jobs(line) if line.several else [_line_config(line)]:
            refuse_values(command.config, config)
    return line if command.hydra else None


def _parsed(command: Command, words: Sequence[str]) -> _Line:
    """Tell flags of a command line from settings; a command without `hydra` reads its own flags."""
    assert command.config is not None
    if not command.hydra:
        flagged = any(word.startswith("-") for word in words) and not command.words
        overrides = [] if flagged else filter(is_override, _overrides(command, words))
        return _Line(command.config, list(overrides))
    parser = Parser(settings=True, allow_abbrev=False)
    parser.add_argument("-m", "--multirun", action="store_true")
    parser.add_argument("-cn", "--config-name", default="")
    parser.add_argument("-cd", "--config-dir", type=Path)
    typed = parser.parse_intermixed_args(list(words))
    if typed.config_dir is not None and not typed.config_dir.is_dir():
        raise InputError(f"--config-dir: {typed.config_dir} is no folder")
    overrides = _overrides(command, typed.overrides)
    for word in overrides:
        key = word.lstrip("+").partition("=")[0]
        if not is_override(word):
            raise InputError(f"{word}: not a setting of the form key=value ({ADVICE})")
        if key == "hydra.searchpath":
            raise InputError(f"{word}: a folder of your own files is --config-dir FOLDER")
        if re.match(r"hydra[./]", key) and not typed.multirun:
            raise InputError(
                f"{word}: it is a multirun's, -m; a single run writes to output=FOLDER"
            )
    own, folder = typed.config_name, typed.config_dir
    line = _Line(command.config, overrides, own, folder, several=typed.multirun)
    _check_own_files(line)
    return line


def _check_own_files(line: _Line) -> None:
    """Check each YAML file of the user's folder and of its groups."""
    if line.folder is None:
        return
    from foundation.settings import check_config_file

    for path in sorted((*line.folder.glob("*.yaml"), *line.folder.glob("*/*.yaml"))):
        group = path.parent.relative_to(line.folder)
        check_config_file(path, "" if group == Path() else str(group))


def help_text(command: Command) -> str:
    """Return what --help prints: the docstring, and where the settings are."""
    lines = [about(command.module), "", "-h, --help   this text"]
    if command.config is not None:
        lines.append(
            "--cfg job    every setting, its value, as key=value words change it, and its meaning"
        )
    return "\n".join(lines) + "\n"


def about(module: str) -> str:
    """Return the docstring of a command's module."""
    # The source is read and not run: to import every command would load every library they use.
    spec = importlib.util.find_spec(_home(module))
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _home(module: str) -> str:
    """Return the module that a command's `run` is in: of a package its `__main__`."""
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return f"{module}.__main__" if is_package else module


def _overrides(command: Command, words: Sequence[str]) -> list[str]:
    """Return the settings that a command's words stand for."""
    if not command.words:
        return list(words)
    module, _, name = command.words.partition(":")
    overrides: list[str] = getattr(importlib.import_module(module), name)(words)
    return overrides


def _show_settings(command: Command, words: Sequence[str]) -> NoReturn:
    """Print the settings that a command line asks for, as YAML, each with its meaning."""
    if command.config is None:
        _answer(f"# {command.module} has no settings; its flags are in --help\n{{}}\n")
    from omegaconf import OmegaConf

    if not {"job", "--cfg=job", "-c=job"} & {*words}:
        raise InputError("--cfg: job is all that it shows, `--cfg job`")
    others = [word for word in words if not re.fullmatch(r"((--cfg|-c)(=job)?)|job", word)]
    flags = [word for word in others if word.startswith("-")]
    if flags:
        raise InputError(f"{flags[0]}: --cfg job shows what key=value words ask for; leave it")
    # Words that are neither flags nor key=value say nothing about settings.
    overrides = [word for word in _overrides(command, others) if is_override(word)]
    config = composed_config(command.config, overrides)
    values: Any = OmegaConf.to_container(config, resolve=False)
    _answer("".join(_with_meanings(values, classes_of(command.config))))


def _with_meanings(
    values: Mapping[str, Any], kinds: Sequence[Any], indent: str = ""
) -> Iterator[str]:
    """Yield lines of YAML, each with what its setting means, where a class declares it."""
    from omegaconf import OmegaConf

    from foundation.plugin import TARGET
    from foundation.settings import keys_in, settings_in

    keys = {name: about for kind in reversed(kinds) for name, about in keys_in(kind).items()}
    for name, value in values.items():
        about = keys.get(name)
        said = "module.Name of your own" if name == TARGET else about and about.description
        meaning = f"  # {said}" if said else ""
        if isinstance(value, dict) and value:
            yield f"{indent}{name}:{meaning}\n"
            inner = settings_in(about.annotation) if about else None
            yield from _with_meanings(value, [inner] if inner else [], f"{indent}  ")
        else:
            first, *others = OmegaConf.to_yaml({name: value}).splitlines()
            is_whole = not others or isinstance(value, list)
            yield f"{indent}{first}{meaning if is_whole else ''}\n"
            yield from (f"{indent}{line}\n" for line in others)


def _work(
    command: Command,
    home: ModuleType,
    line: _Line | None = None,
    config: DictConfig | None = None,
    folder: Path | None = None,
) -> None:
    """Read the settings, do the work, write and print the result.

    line: of settings alone; none where the command reads its words itself.
    config, folder: of a multirun's job, and the folder of its output where that is Hydra's.
    """
    with (
        one_line_errors(command.interrupted) as folders,
        named_by_flags(command.flags, sys.argv[1:]),
    ):
        # Hydra has made its own folder by now; of a run that is refused nothing is left.
        if config is not None and (made := folder or config.get("output")):
            folders.append(Path(str(made)).expanduser())
        settings, output = _read(command, home, line, config, folder)
        if output is not None:
            folders.append(output)
        if command.log:
            from foundation.logs import log_to_file

            log_to_file(command.log, command.log_links)
        end_if_told()
        with _shown(home.run) as progress:
            result = home.run(settings, *progress) or Result()
        if output is not None and result.files:
            write_whole(result.files, output)
    with one_line_errors("the work is done"):
        _print(result, output)
    if result.code:
        sys.exit(result.code)


def _read(
    command: Command,
    home: ModuleType,
    line: _Line | None,
    config: DictConfig | None,
    folder: Path | None,
) -> tuple[Any, Path | None]:
    """Return the settings, and the folder of the output once it may be written."""
    words = sys.argv[1:]
    if hasattr(home, "read"):
        settings, output = home.read(words)
        return settings, output
    assert command.config is not None
    if config is None:
        config = _line_config(line or _Line(command.config, _overrides(command, words)))
    settings = get_type_hints(home.run)["settings"].of(config)
    if hasattr(home, "output_of"):
        return settings, home.output_of(settings, config)
    if not command.output:
        return settings, None
    output = output_of(config, command.output, folder)
    if Path(command.output).suffix:
        check_file(output / command.output, "output")
    return settings, output


def _work_several(command: Command, home: ModuleType, line: _Line) -> None:
    """Do the work of every job of a multirun, by the launcher that it names."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    run = partial(_work_job, command, home)
    try:
        with (
            one_line_errors("what was finished stays"),
            initialize_config_dir(str(CONFIGS), version_base="1.3", job_name=line.name),
        ):
            # What `hydra.main` does with -m, whose parser of words would be a second one; that of
            # Hydra 1.3 does not start on Python 3.14.
            begun: Any = GlobalHydra.instance().hydra
            begun.multirun(line.name, run, _hydras_words(line), with_log_configuration=False)
    except FileExistsError as error:
        fail(InputError(f"hydra.sweep.dir: {error.filename} is a file; name a folder"))
    except _composing_errors() as error:
        fail(_hydras_refusal(error, line))


def _work_job(command: Command, home: ModuleType, config: DictConfig) -> None:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from foundation.plugin import allow_named

    end_if_told()
    allow_named(OmegaConf.to_container(config, resolve=False))
    own = command.config in OWN_FOLDERS
    folder = Path(HydraConfig.get().runtime.output_dir) if own else None
    _work(command, home, config=config, folder=folder)


@contextmanager
def _shown(run: Callable[..., Result | None]) -> Iterator[tuple[object, ...]]:
    """Yield what shows how far the work is, where `run` takes that."""
    if run.__code__.co_argcount == 1:
        yield ()
        return
    from foundation.console import progress_shown

    with progress_shown() as progress:
        yield (progress,)


def _print(result: Result, output: Path | None) -> None:
    """Print tables, sentences, and the page among the files, or else the first of them."""
    sentences = list(result.sentences)
    if output is not None and result.files:
        pages = [name for name in result.files if name.endswith(".html")]
        file = output / (pages or list(result.files))[0]
        sentences.append(f"{'Page' if pages else 'Written'}: {file}")
    if not (result.tables or sentences):
        return
    from foundation.console import show_parts, terminal

    show_parts(terminal(), (*result.tables, *sentences))


def _answer(text: str) -> NoReturn:
    """Print a text and end; a reader that has seen enough is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _end_while_loading(number: int, _: object) -> NoReturn:
    # An exception would be lost in a finaliser that runs just then, or be taken by a library for a
    # fault of its own, and the work would begin all the same. Nothing is held yet.
    with suppress(OSError):  # nobody reads it
        os.write(2, b"interrupted: nothing had begun\n")
    os._exit(128 + number)


def composed_config(name: str, overrides: Sequence[str]) -> DictConfig:
    """Return the configuration `configs/<name>.yaml` with overrides applied, read-only.

    Variables of the environment are read when it is made settings of, not here.
    """
    return _line_config(_Line(name, overrides))


def _line_config(line: _Line) -> DictConfig:
    from omegaconf import OmegaConf

    from foundation.plugin import allow_named

    try:
        config = _composed(line, tuple(_hydras_words(line)))
    except _composing_errors() as error:
        raise _hydras_refusal(error, line) from error
    allow_named(OmegaConf.to_container(config, resolve=False))
    return config


@cache
def _composing_errors() -> tuple[type[Exception], ...]:
    """Return what Hydra and OmegaConf raise where a line cannot be composed."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return HydraException, OmegaConfBaseException, ValueError


def _composed(line: _Line, words: tuple[str, ...] = ()) -> DictConfig:
    return _compose(line.config, line.name, words, _search_words(line))


@lru_cache(maxsize=256)
def _compose(
    config: str, name: str, words: tuple[str, ...], others: tuple[str, ...] = ()
) -> DictConfig:
    """Compose once for the same words: Hydra takes a quarter of a second."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    _lay_defaults(config)
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        composed = compose(name, [*words, *others])
    OmegaConf.set_readonly(composed, True)
    return composed


def _search_words(line: _Line) -> tuple[str, ...]:
    """Return the word by which Hydra searches the user's folder, too."""
    return (f"hydra.searchpath=['file://{line.folder.absolute()}']",) if line.folder else ()


def _jobs(line: _Line) -> Iterator[DictConfig]:
    """Yield the configuration of every run of a multirun: each combination of several values."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
            choices = [
                [f"{each.get_key_element()}={value}" for value in each.sweep_string_iterator()]
                if each.is_discrete_sweep()
                else [str(each.input_line)]
                for each in parser.parse_overrides(_hydras_words(line))
            ]
        for words in product(*choices):
            yield _composed(line, words)
    except _composing_errors() as error:
        raise _hydras_refusal(error, line) from error


@cache
def _chain(config: str) -> tuple[str, ...]:
    """Return a configuration and those that its file begins with, which have classes."""
    from foundation.settings import plain_yaml

    listed = plain_yaml(CONFIGS / f"{config}.yaml")["defaults"]
    bases = [each for each in listed if (CONFIGS / f"{each}.yaml").is_file()]
    return (config, *(each for base in bases for each in _chain(base)))


@cache
def _class_of(config: str) -> Any:
    module, _, name = find("SETTINGS", config).partition(":")
    return getattr(importlib.import_module(module), name)


def classes_of(config: str) -> list[Any]:
    """Return the settings classes of a configuration; of two with the same key the first counts."""
    return [_class_of(each) for each in _chain(config)]


@cache
def _lay_defaults(config: str) -> None:
    """Have Hydra find the defaults of classes, which files list as `classes/NAME`."""
    from hydra.core.config_store import ConfigStore

    from foundation.settings import defaults_in, keys_in

    others = {path.name for path in CONFIGS.iterdir() if path.is_dir()}  # what groups of files lay
    for name in reversed(_chain(config)):
        kind = _class_of(name)
        values = {key: each for key, each in defaults_in(kind).items() if key not in others}
        ConfigStore.instance().store(name, values, group="classes", package="_global_")
        others |= keys_in(kind).keys()


def refuse_values(name: str, config: DictConfig) -> None:
    """Refuse what the classes of a configuration refuse."""
    from omegaconf import OmegaConf

    from foundation.settings import settings_of

    seen: set[str] = set()
    for kind in classes_of(name):
        keys = {each.name for each in fields(kind)} - seen
        settings_of(kind, OmegaConf.masked_copy(config, [key for key in config if key in keys]))
        seen |= keys


def _hydras_words(line: _Line) -> list[str]:
    """Return the words of a line as Hydra takes them.

    Several values without brackets are a list, unless a multirun takes them one after the other. A
    mapping that is empty takes any key, which Hydra's grammar marks by `++`.
    """
    refuse_empty(line.overrides)
    refuse_underscored(line.overrides)
    words = []
    for word in map(with_home, line.overrides):
        key, _, value = word.partition("=")
        is_list = _SEVERAL.fullmatch(value) and not line.several and not (CONFIGS / key).is_dir()
        words.append(f"{key}=[{value}]" if is_list else word)
    return [f"++{word}" if _fills(line, word) else word for word in words]


def _fills(line: _Line, word: str) -> bool:
    """Return whether a word is of a mapping that is empty until words fill it."""
    from omegaconf import DictConfig, OmegaConf

    key, _, value = word.partition("=")
    known = key in _known(line.config) and not value.startswith("{")
    if "." not in key or key[0] == "+" or key.startswith("hydra.") or known:
        return False
    group = key
    while group and (held := OmegaConf.select(_composed(line), group)) is None:
        group = group.rpartition(".")[0]
    return bool(group) and isinstance(held, DictConfig) and not held


@cache
def _known(config: str) -> frozenset[str]:
    """Return the dotted keys of a configuration's classes."""
    return frozenset(name for kind in classes_of(config) for name in _dotted(kind))


def _dotted(kind: Any, group: str = "") -> Iterator[str]:
    from foundation.settings import keys_in, settings_in

    for name, about in keys_in(kind).items():
        yield f"{group}{name}"
        if (inner := settings_in(about.annotation)) is not None:
            yield from _dotted(inner, f"{group}{name}.")


def _hydras_refusal(error: Exception, line: _Line) -> InputError:
    """Convert what Hydra or OmegaConf raises about a line to an error of one line."""
    from omegaconf import OmegaConf

    from foundation.settings import dotted_keys

    if isinstance(error, InputError):
        return error
    said = f"{error}\n{error.__cause__!s}"
    for pattern in _UNKNOWN_KEYS:
        if key := pattern.search(said):
            if others := _commands_with(key[1]):
                return _setting_of_others(key[1], others)
            values: Any = OmegaConf.to_container(_composed(line), resolve=False)
            return unknown_key(key[1], dotted_keys(values), advice=ADVICE)
    if there := re.search(r"already at '([^']*)'", said):
        words = [word.lstrip("+") for word in line.overrides if word.startswith(f"+{there[1]}=")]
        return InputError(f"{there[1]}: it is a setting{did_you_mean(words)} ({ADVICE})")
    if missing := getattr(error, "missing_cfg_file", None):
        return _unknown_file(str(missing), error, line)
    causes = (str(each or "").strip().split("\n")[0] for each in (error, error.__cause__))
    reason = ": ".join(dict.fromkeys(filter(None, causes))) or type(error).__name__
    if isinstance(error, ValueError) or not any(word in reason for word in line.overrides):
        reason = f"{' '.join(line.overrides)}: {reason}"
    return InputError(f"{reason} ({ADVICE})")


def _commands_with(key: str) -> list[str]:
    """List the modules of commands whose own settings class has this key."""
    commands = (each for table in product_tables("COMMANDS") for each in table.values())
    return sorted(
        {
            command.module
            for command in commands
            if command.config and key in _known_of(_class_of(command.config))
        }
    )


def _setting_of_others(key: str, modules: Sequence[str]) -> InputError:
    """Return the refusal of a setting that only other commands have."""
    also = "; a sweep takes -m hydra/launcher=ray or joblib" if key == "launcher" else ""
    return InputError(
        f"{key}: there is no such setting here; it is one of {' and '.join(modules)}{also}"
    )


def _known_of(kind: Any) -> frozenset[str]:
    from foundation.settings import keys_in

    return frozenset(keys_in(kind))


def _unknown_file(missing: str, error: Any, line: _Line) -> InputError:
    """Return the refusal of a file of a group, or of a configuration, that does not exist."""
    from foundation.plugin import SLOTS, TARGET

    group, _, choice = missing.rpartition("/")
    if group == "hydra/launcher" and choice in LAUNCHERS:
        return not_installed(f"hydra-{choice}-launcher", f"{group}={choice}", choice)
    if group.startswith("hydra/"):
        return invalid_choice(group, choice, error.options or ())
    if not group:
        names = [path.stem for path in sorted((line.folder or CONFIGS).glob("*.yaml"))]
        return invalid_choice("--config-name", choice, names)
    also = f"{group}.{TARGET}=module.name" if group in SLOTS else ""
    return invalid_choice(group, choice, group_choices(group, line.config), also=also)


def group_choices(group: str, config: str) -> list[str]:
    """List the files of a group in `configs` that fit a configuration's keys."""
    from foundation.plugin import TARGET
    from foundation.settings import keys_in, plain_yaml, settings_in

    keys = {"defaults", TARGET}
    for kind in classes_of(config):
        if (about := keys_in(kind).get(group)) is not None:
            keys |= keys_in(settings_in(about.annotation)).keys()
            break
    files = sorted((CONFIGS / group).glob("[!_]*.yaml"))  # an underscore: part of other files
    return [path.stem for path in files if plain_yaml(path).keys() <= keys]


def is_override(word: str) -> bool:
    """Return whether a word is a setting, key=value."""
    return bool(_OVERRIDE.match(word))


def refuse_repeated(words: Iterable[str]) -> None:
    """Refuse a key that two words give a value: Hydra would take the last one and say nothing.

    A group in braces gives a value to each of its keys.
    """
    values: dict[str, str] = {}
    for word in words:
        if not is_override(word):
            continue
        key, _, value = word.lstrip("+").partition("=")
        if key in values:
            both = redacted(f"{values[key]} and {value}", {})
            raise InputError(f"{key} was given twice: {both}; leave one of them")
        values[key] = value
    for group, value in values.items():
        inner = [key for key in values if key.startswith(f"{group}.")]
        if inner and value.lstrip().startswith("{"):
            both = redacted(f"{group}={value} and {inner[0]}={values[inner[0]]}", {})
            raise InputError(f"{group} was given twice: {both}; leave one of them")


def refuse_words(words: Iterable[str]) -> None:
    """Refuse `~key`, by which Hydra takes a setting away, the folder of a user who is none, and
    code named in Hydra's own groups.

    What is usual stands in a configuration: where it is taken away, a class's default may differ.
    """
    for before, word in pairwise(["", *words]):
        if _REMOVAL.match(word):
            raise InputError(f"{word}: ~ takes nothing away; leave the word out for what is usual")
        if _PLUGIN.match(word):
            raise InputError(f"{word}: Hydra's own groups name no code here; leave it out")
        if before.startswith("--"):  # what the flag's own command says better
            continue
        for home in _USERS.findall(word):
            if os.path.expanduser(home) == home:
                raise InputError(f"{word}: there is no user {home[1:]}, whose folder {home} is")


def refuse_empty(words: Iterable[str]) -> None:
    """Refuse words with nothing before or after their equals sign: no setting means that."""
    for word in words:
        if word.startswith("="):
            raise InputError(f"{word!r}: a setting's name is missing before the =")
        key, _, value = word.lstrip("+").partition("=")
        if is_override(word) and value.strip() in _EMPTY and not key.startswith("hydra"):
            raise InputError(f"{key}: it is empty; name a value, or leave it out for the usual one")


def refuse_underscored(words: Iterable[str]) -> None:
    """Refuse words whose value is a number of the form 1_000, which Hydra reads as 1000."""
    for word in words:
        key, _, value = word.partition("=")
        if is_override(word) and _UNDERSCORED.fullmatch(value):
            raise InputError(
                f"{word}: it would be read as {key}={value.replace('_', '')}; write that, or where"
                f" a word is meant '{key}=\"{value}\"'"
            )


def with_home(word: str) -> str:
    """Return the word with the user's folder where a value, or one of several, begins with `~`.

    A shell puts it there only at the beginning of a word, and Hydra cannot read it.
    """
    return _HOME.sub(lambda _: str(Path.home()), word) if is_override(word) else word


def quoted_value(value: str) -> str:
    """Return the value in quotes, in which Hydra's grammar does not count."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


class Parser(argparse.ArgumentParser):
    """Flags whose refusals are one line and exit code 2; `start` answers --help.

    settings: whether words key=value stand beside the flags, as `overrides`.
    """

    def __init__(self, *, settings: bool = False, **options: Any) -> None:
        super().__init__(add_help=False, **options)
        self._flags: list[str] = []
        if settings:
            self.add_argument("overrides", nargs="*", metavar="key=value")

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        """Add a flag as argparse does, and remember its name for hints."""
        self._flags += [name for name in names if name.startswith("--")]
        return super().add_argument(*names, **options)

    def error(self, message: str) -> NoReturn:
        """Refuse in one line, with the nearest flag or choice."""
        if unknown := _UNKNOWN_FLAG.search(message):
            message += did_you_mean(nearest(unknown[1].partition("=")[0], self._flags))
        if wrong := _WRONG_CHOICE.fullmatch(message):
            known = [each.strip("' ") for each in wrong[3].split(",")]
            message = str(invalid_choice(wrong[1], wrong[2].strip("'"), known))
        fail(InputError(f"{message} (see --help)"))

    def refuse_others(self, words: Iterable[str]) -> None:
        """Refuse the first word that is no key=value."""
        for word in words:
            if not is_override(word):
                self.error(f"{word!r} is no flag and no key=value")


def overrides_of_flags(flags: Mapping[str, Any]) -> list[str]:
    """Return words key=value for values by key; None and empty lists have none."""
    overrides = []
    for key, value in flags.items():
        if value is None or value == []:
            continue
        if isinstance(value, list):
            # Commas, brackets and colons are Hydra's grammar: a folder's name may have any of them.
            text = f"[{','.join(map(quoted_value, value))}]"
        else:
            text = quoted_value(str(value))
        overrides.append(f"{key}={text}")
    return overrides


def typed_flags(flags: Mapping[str, str], words: Sequence[str]) -> dict[str, str]:
    """Return the flags that the words of a command line have, by the setting they stand for.

    flags: by setting. A flag may be cut short, and its value may follow an equals sign.
    """
    heads = [word.partition("=")[0] for word in words if word.startswith("--")]
    return {
        key: flag
        for key, flag in flags.items()
        if any(flag.startswith(head) and len(head) > 2 for head in heads)
    }


def refuse_both(flags: Mapping[str, str], words: Sequence[str]) -> None:
    """Refuse a setting that a flag and a word key=value both give a value.

    flags: of the command, by setting; words: of its command line.
    """
    typed = typed_flags(flags, words)
    for word in words:
        key = word.partition("=")[0]
        if key in typed:
            raise InputError(f"{typed[key]} and {word} give the same setting; leave one of them")


@contextmanager
def named_by_flags(flags: Mapping[str, str], words: Sequence[str]) -> Iterator[None]:
    """Name flags in errors about settings that flags of the command line stand for.

    flags: of the command, by setting; words: of its command line.
    """
    try:
        yield
    except InputError as error:
        if not flags:
            raise
        typed = typed_flags(flags, words)
        place, colon, rest = str(error).partition(": ")
        names = place.split(", ")
        if not typed.keys().isdisjoint(names):
            place = ", ".join(flags.get(name, name) for name in names)
        for key, flag in flags.items():
            rest = re.sub(rf"(?<![\w.]){re.escape(key)}=", f"{flag} ", rest)
        raise InputError(f"{place}{colon}{rest}") from error
