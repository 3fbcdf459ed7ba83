"""All commands of the project under one name.

kelly-chronos                     the commands, one per line
kelly-chronos backtest …          the same as python -m marketsimulator.backtest …
kelly-chronos --version           the version
"""

from __future__ import annotations

import os
import sys

from foundation import VERSION
from foundation.cli import module_docstring, run_command
from foundation.errors import invalid_choice
from foundation.plugin import merged_table
from foundation.signals import exit_with_error

COMMANDS: dict[str, str] = {
    word: command.module for word, command in merged_table("COMMANDS").items() if command.is_listed
}


def main() -> None:
    """Run the command that the first argument names; without arguments, list the commands."""
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
        exit_with_error(invalid_choice("command", sys.argv[1], COMMANDS))
    width = max(map(len, COMMANDS))
    lines = [
        f"  {name:{width}}  {module_docstring(module).splitlines()[0]}\n"
        for name, module in COMMANDS.items()
    ]
    try:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader closed the pipe (`kelly-chronos | head`); Python would report it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
