"""A command in this process: what it says costs no interpreter."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from foundation.cli import run_command


@contextmanager
def restored_logging() -> Iterator[None]:
    """Restore what a command changes of its process: log files, warnings, the umask."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    mask = os.umask(0)
    os.umask(mask)
    try:
        yield
    finally:
        for made in {*root.handlers} - {*handlers}:
            made.close()
        root.handlers, root.level = handlers, level
        logging.captureWarnings(False)
        os.umask(mask)


def started(module: str, *words: str, run: Callable[[str], object] = run_command) -> int:
    """Run a command in this process; its exit code. What it prints stays this process's."""
    with pytest.MonkeyPatch.context() as patch, restored_logging():
        patch.setattr(sys, "argv", [module, *words])
        try:
            run(module)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def answer_of(
    module: str, *words: str, cwd: Path | None = None, run: Callable[[str], object] = run_command
) -> tuple[int, str, str]:
    """A command's exit code, output and errors, run in a folder."""
    printed, said = io.StringIO(), io.StringIO()
    with chdir(cwd or Path.cwd()), redirect_stdout(printed), redirect_stderr(said):
        code = started(module, *words, run=run)
    return code, printed.getvalue(), said.getvalue()


def refusal_of(module: str, *words: str, cwd: Path | None = None) -> str:
    """The one line that a command ends with, its exit code being 2."""
    code, printed, said = answer_of(module, *words, cwd=cwd)
    assert (code, printed) == (2, "")
    [line] = said.splitlines()
    return line
