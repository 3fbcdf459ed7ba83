"""The way of every command, from its first word on the terminal to its exit code.

It imports nothing heavy: a command's module is imported once help and settings are answered.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, get_type_hints

from foundation.ending import ENDING, end_if_told, fail, handled_signals, one_line_errors
from foundation.errors import InputError, not_installed, shown
from foundation.files import check_file, write_whole
from foundation.overrides import is_override as is_override
from foundation.overrides import refuse_repeated, refuse_words
from foundation.private import OTHERS, keep_private
from foundation.registry import Command, command_of

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from rich.console import RenderableType

log = logging.getLogger(__name__)

HELP_FLAGS = ("-h", "--help")
SHOW_FLAGS = ("--cfg", "-c")
LOGS = Path("logs")


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


def start(module: str) -> None:
    """Run a command on the words of this process: answer --help and --cfg job, or do its work.

    Words that cannot be used end it with one line and exit code 2. Until its work has begun a
    signal that ends it is answered with one line, too.

    module: as it is registered.
    """
    command = command_of(module)
    if command.private:
        os.umask(OTHERS)
    with handled_signals(ENDING, _end_while_loading):
        try:
            _answer_or_refuse(command, sys.argv[1:])
        except InputError as error:
            fail(error)
        if sys.stderr is not None and sys.stderr.isatty():
            sys.stderr.write(f"{module}: loading …\n")
            sys.stderr.flush()
        home = importlib.import_module(_home(module))
        if command.hydra and _asks_hydra(sys.argv[1:]):
            _work_by_hydra(command, home)
        else:
            _work(command, home)


def _answer_or_refuse(command: Command, words: list[str]) -> None:
    """Answer --help and --cfg, or refuse what is known to be wrong before anything is loaded."""
    if set(HELP_FLAGS) & set(words):
        _answer(help_text(command))
    if command.config is not None:
        refuse_words(words)
        refuse_repeated(words)
    if any(word.partition("=")[0] in SHOW_FLAGS for word in words):
        _show_settings(command, words)
    for library, extra in command.needs.items():
        if importlib.util.find_spec(library) is None:
            raise not_installed(library, command.module, extra)
    if command.config is not None:
        with _named_by_flags(command, words):
            _refuse_values(command.config, _overrides(command, words))


def _asks_hydra(words: Sequence[str]) -> bool:
    """Whether words ask for what Hydra does beyond composing one run's settings."""
    return any(
        word.startswith("-") or word.lstrip("+~").startswith("hydra") or "${hydra:" in word
        for word in words
    )


def _refuse_values(config: str, words: Sequence[str]) -> None:
    """Refuse settings that do not fit, of one run without flags, before the work is loaded."""
    if any(word.startswith("-") or "${hydra:" in word for word in words):
        return
    overrides = [word for word in words if is_override(word)]
    # What words alone ask for, as `status`, may need no settings, nor the time that they take.
    if words and not overrides:
        return
    from foundation.compose import composed_config
    from foundation.configuration import check_values

    check_values(config, composed_config(config, overrides))


def _work_by_hydra(command: Command, home: ModuleType) -> None:
    """One run, or several with -m, on the settings that Hydra composes."""
    from foundation.compose import hydra_command

    with one_line_errors("nothing had begun"):
        sys.argv[1:] = _overrides(command, sys.argv[1:])
    assert command.config is not None
    hydra_command(command.config, partial(_work, command, home), _settings_class(home).of)


def help_text(command: Command) -> str:
    """What --help prints: the docstring, and where the settings are."""
    lines = [about(command.module), "", "-h, --help   this text"]
    if command.config is not None:
        lines.append(
            "--cfg job    every setting, its value, as key=value words change it, and its meaning"
        )
    return "\n".join(lines) + "\n"


def about(module: str) -> str:
    """The docstring of a command's module."""
    # The source is read and not run: to import every command would load every library they use.
    spec = importlib.util.find_spec(_home(module))
    assert spec is not None
    assert spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""


def _home(module: str) -> str:
    """The module that a command's `run` is in: of a package its `__main__`."""
    spec = importlib.util.find_spec(module)
    is_package = spec is not None and spec.submodule_search_locations is not None
    return f"{module}.__main__" if is_package else module


def _overrides(command: Command, words: Sequence[str]) -> list[str]:
    """The settings that a command's words stand for."""
    if not command.words:
        return list(words)
    module, _, name = command.words.partition(":")
    overrides: list[str] = getattr(importlib.import_module(module), name)(words)
    return overrides


def _settings_class(home: ModuleType) -> Any:
    return get_type_hints(home.run)["settings"]


def _show_settings(command: Command, words: list[str]) -> NoReturn:
    if command.config is None:
        _answer(f"# {command.module} has no settings; its flags are in --help\n{{}}\n")
    from foundation.compose import shown_settings

    _answer(shown_settings(command.config, words, partial(_overrides, command)))


def _work(
    command: Command, home: ModuleType, config: DictConfig | None = None, folder: Path | None = None
) -> None:
    """Read the settings, do the work, write and print what it came to.

    config: composed by Hydra, where that reads the command line.
    folder: of the output, where it is Hydra's own.
    """
    words = sys.argv[1:]
    with one_line_errors(command.interrupted) as folders, _named_by_flags(command, words):
        # Hydra has made its own folder by now; of a run that is refused nothing is left.
        if config is not None and (made := folder or config.get("output")):
            folders.append(Path(str(made)).expanduser())
        settings, output = _read(command, home, words, config, folder)
        if output is not None:
            folders.append(output)
        if command.log:
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


def _named_by_flags(command: Command, words: Sequence[str]) -> Any:
    if not command.flags:
        return nullcontext()
    from foundation.flags import named_by_flags

    return named_by_flags(command.flags, words)


def _read(
    command: Command,
    home: ModuleType,
    words: Sequence[str],
    config: DictConfig | None,
    folder: Path | None,
) -> tuple[Any, Path | None]:
    """The settings, and the folder of the output once it may be written."""
    if hasattr(home, "read"):
        settings, output = home.read(words)
        return settings, output
    from foundation.compose import composed_config
    from foundation.configuration import output_of

    if config is None:
        assert command.config is not None
        config = composed_config(command.config, _overrides(command, words))
    settings = _settings_class(home).of(config)
    if hasattr(home, "output_of"):
        return settings, home.output_of(settings, config)
    if not command.output:
        return settings, None
    output = output_of(config, command.output, folder)
    if Path(command.output).suffix:
        check_file(output / command.output, "output")
    return settings, output


@contextmanager
def _shown(run: Callable[..., Result | None]) -> Iterator[tuple[object, ...]]:
    """What shows how far the work is, where it takes that."""
    if len(inspect.signature(run).parameters) == 1:
        yield ()
        return
    from foundation.progress import progress_shown

    with progress_shown() as progress:
        yield (progress,)


def _print(result: Result, output: Path | None) -> None:
    """Tables, sentences, and the page among the files, or else the first of them."""
    sentences = list(result.sentences)
    if output is not None and result.files:
        pages = [name for name in result.files if name.endswith(".html")]
        file = output / (pages or list(result.files))[0]
        sentences.append(f"{'Page' if pages else 'Written'}: {file}")
    if not (result.tables or sentences):
        return
    from foundation.terminal import show_parts, terminal

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


def log_to_file(name: str, links: Sequence[str] = ()) -> None:
    """Send every log line, and libraries' warnings, to a file of this run in `logs/`.

    None of them goes to the screen. Only the owner may read them.

    links: names in `logs/`, without the suffix, of links to this file, made at its first line. A
        later run redirects them.
    """
    if LOGS.exists() and not LOGS.is_dir():
        raise InputError(f"{LOGS}: it is a file, and the folder of log files is needed there")
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    handler = _RunLog(LOGS / f"{name}-{stamp}-{os.getpid()}.log", delay=True, links=links)
    handler.setFormatter(ShownFormatter("%(asctime)s %(levelname)s %(message)s"))
    root = logging.getLogger()
    for earlier in root.handlers:
        if isinstance(earlier, _RunLog):
            earlier.close()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    if LOGS.is_dir():
        keep_private(LOGS)


@contextmanager
def printing() -> Iterator[None]:
    """What a loop prints within may be lost: a full disk or a closed terminal does not end it."""
    try:
        yield
        # A process that was started without a standard output has none.
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        log.warning("it could not be printed: %s", error.strerror or error)


class ShownFormatter(logging.Formatter):
    """Lines of a log without characters that a terminal would obey."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record))


class _RunLog(logging.FileHandler):
    """A log file that is created with its folder at its first line.

    links: names of links to it, without the suffix.
    """

    def __init__(self, path: Path, *, delay: bool, links: Sequence[str] = ()) -> None:
        super().__init__(path, delay=delay)
        self._links = links
        self._is_closed = False

    def close(self) -> None:
        """Close the file for good: a line of a thread that is still running opens none."""
        self._is_closed = True
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; a disk that takes none stops nothing that the line is about."""
        if self._is_closed:
            return
        try:
            super().emit(record)
        except OSError as error:
            # Nothing is logged about it: that would come here again.
            with suppress(OSError):
                sys.stderr.write(f"{self.baseFilename}: cannot be written: {error.strerror}\n")

    def _open(self) -> TextIOWrapper:
        path = Path(self.baseFilename)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        for name in self._links:
            _link_to(path, path.with_name(f"{name}.log"))
        return open(path, "a", encoding=self.encoding, opener=_owners)


def _link_to(file: Path, link: Path) -> None:
    """Point a relative link at a log file; an existing file of that name is renamed.

    The link is replaced atomically. If it cannot be made, the log is written without it.
    """
    staged = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        if link.exists() and not link.is_symlink():
            with suppress(FileNotFoundError):  # another process has kept it
                link.rename(file.with_name(f"{link.stem}-before-{file.name}"))
        staged.unlink(missing_ok=True)
        staged.symlink_to(file.name)
        staged.replace(link)
    except OSError as error:
        with suppress(OSError):
            staged.unlink(missing_ok=True)
            sys.stderr.write(f"{link}: no link to {file.name}: {error.strerror or error}\n")


def _owners(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
