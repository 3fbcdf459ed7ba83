"""The first moments of a command: a word on the terminal, its help, and its settings.

It imports nothing heavy, so that it can stand in front of a command's own imports.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import NoReturn

from foundation.errors import InputError, shown
from foundation.overrides import refuse_repeated
from foundation.private import write_for_the_owner_alone

HELP_FLAGS = ("-h", "--help")
SHOW_FLAGS = ("--cfg", "-c")
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def open_command(
    name: str,
    about: str,
    *,
    settings: str | None = None,
    hydra: bool = False,
    words_of: Callable[[Sequence[str]], list[str]] = list,
    private: bool = False,
    needs: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Say that the command begins; for --help and --cfg job answer, and exit with code 0.

    A setting that two words give a value is refused. Until the command has begun its work, a signal
    that ends it is answered with one line.

    Parameters
    ----------
    name
        of the command, as `python -m` takes it.
    about
        its docstring, which is its help.
    settings
        name of its file in configs; none where flags are all that it takes.
    hydra
        whether Hydra reads its command line.
    words_of
        the overrides that the command's words stand for.
    private
        whether it writes what an account has: only its owner may read that.
    needs
        libraries that a first backtest does without, and the extra that installs each: where one
        is missing, a run is refused in a line and with code 2.
    """
    if private:
        write_for_the_owner_alone()
    words = sys.argv[1:]
    if set(HELP_FLAGS) & set(words):
        _answer(help_text(about, settings))
    if settings is not None:
        _refuse_repeated(words)
    if any(word.partition("=")[0] in SHOW_FLAGS for word in words):
        _show_settings(name, settings, words, hydra=hydra, words_of=words_of)
    for library, extra in needs.items():
        if importlib.util.find_spec(library) is None:
            _refuse(
                f"{library} is not installed: {name} needs pip install 'kelly-chronos[{extra}]'"
            )
    if sys.stderr is not None and sys.stderr.isatty():
        sys.stderr.write(f"{name}: loading …\n")
        sys.stderr.flush()
    for number in ENDING:
        # What nohup has ignored is ignored on.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end_while_loading)


def help_text(about: str, settings: str | None) -> str:
    """What --help prints: the docstring, and where the settings are."""
    lines = [about.strip(), "", "-h, --help   this text"]
    if settings is not None:
        lines.append("--cfg job    every setting with its value, as key=value words change it")
        lines.append(f"Settings and their meaning: configs/{settings}.yaml")
    return "\n".join(lines) + "\n"


def _show_settings(
    name: str,
    settings: str | None,
    words: list[str],
    *,
    hydra: bool,
    words_of: Callable[[Sequence[str]], list[str]],
) -> NoReturn:
    if settings is None:
        _answer(f"# {name} has no settings; its flags are in --help\n{{}}\n")
    from foundation.compose import hydra_command, shown_settings

    if hydra:
        hydra_command(settings, lambda _: None)
        sys.exit(0)
    _answer(shown_settings(settings, words, words_of))


def _refuse_repeated(words: list[str]) -> None:
    try:
        refuse_repeated(words)
    except InputError as error:
        _refuse(str(error))


def _refuse(reason: str) -> NoReturn:
    sys.stderr.write(f"error: {shown(reason)}\n")
    sys.exit(2)


def _answer(text: str) -> NoReturn:
    """Print a text and end; a reader that has seen enough is no error."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)


def _end_while_loading(number: int, _: FrameType | None) -> NoReturn:
    sys.stderr.write("interrupted: nothing had begun\n")
    sys.exit(128 + number)
