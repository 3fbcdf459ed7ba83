"""Command-line program that runs every command of the project.

kelly-chronos                     the commands, one per line
kelly-chronos backtest …          the same as python -m marketsimulator.backtest …
kelly-chronos --version           the version
kelly-chronos --completion bash   a script for shell completion; also zsh and fish
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from foundation import VERSION
from foundation.cli import read_module_docstring, run_command, write_to_stdout
from foundation.completion import (
    COMPLETION_SCRIPT_FLAG,
    LIST_CANDIDATES_FLAG,
    completion_script,
    list_candidates,
)
from foundation.errors import InputError, invalid_choice_error
from foundation.plugin import merge_product_tables
from foundation.signals import exit_with_error

COMMANDS: dict[str, str] = {
    word: command.module
    for word, command in merge_product_tables("COMMANDS").items()
    if command.is_listed
}


def main() -> None:
    """Run the command that the first argument names; without arguments, list the commands."""
    if len(sys.argv) > 1 and sys.argv[1] in (COMPLETION_SCRIPT_FLAG, LIST_CANDIDATES_FLAG):
        _print_completion(sys.argv[1], sys.argv[2:])
        return
    command = sys.argv[1].replace("-", "_") if len(sys.argv) > 1 else ""
    if command in COMMANDS:
        # argparse and Hydra print the first word as the program's name.
        sys.argv = [f"{sys.argv[0]} {sys.argv[1]}", *sys.argv[2:]]
        run_command(COMMANDS[command])
        return
    if command in ("__version", "_V"):
        sys.stdout.write(f"kelly-chronos {VERSION}\n")
        return
    if command not in ("", "__help", "_h"):  # the hyphens of a flag were replaced by underscores
        exit_with_error(invalid_choice_error("command", sys.argv[1], COMMANDS))
    width = max(map(len, COMMANDS))
    lines = [
        f"  {name:{width}}  {read_module_docstring(module).splitlines()[0]}\n"
        for name, module in COMMANDS.items()
    ]
    write_to_stdout("".join(lines))


def _print_completion(flag: str, words: Sequence[str]) -> None:
    """Print the completion script of a shell, or the candidates of the last word."""
    if flag == LIST_CANDIDATES_FLAG:
        table = {
            name: each for name, each in merge_product_tables("COMMANDS").items() if each.is_listed
        }
        write_to_stdout("".join(f"{each}\n" for each in list_candidates(words, table)))
        return
    try:
        write_to_stdout(completion_script(words[0] if words else ""))
    except InputError as error:
        exit_with_error(error)


if __name__ == "__main__":
    main()
