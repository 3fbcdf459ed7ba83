"""Commands in messages, as the user can run them."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def format_command(command: str) -> str:
    """Return a command with the folder of the running interpreter before its program.

    The folder is relative to the working folder if it is below it: `.venv/bin/pip install …`. It
    is omitted if the shell finds the same program without it.

    command: command whose program is installed beside the interpreter: `python`, `pip` or
        `kelly-chronos`.
    """
    program, _, arguments = command.partition(" ")
    folder = Path(sys.executable).parent
    if folder.is_relative_to(Path.cwd()):
        path = folder.relative_to(Path.cwd()) / program
        program = shlex.quote(str(path if path.parent.parts else Path.cwd() / program))
    elif shutil.which(program) != str(folder / program):
        program = shlex.quote(str(folder / program))
    return f"{program} {arguments}".rstrip()
