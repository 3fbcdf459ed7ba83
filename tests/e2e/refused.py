"""A command in this process: what it says costs no interpreter."""

from __future__ import annotations

import io
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

import pytest

from foundation.command import start


def started(module: str, *words: str) -> int:
    """Run a command in this process; its exit code. What it prints stays this process's."""
    mask = os.umask(0)
    os.umask(mask)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *words])
        try:
            start(module)
        except SystemExit as end:
            return int(end.code or 0)
        finally:
            os.umask(mask)
    return 0


def refusal_of(module: str, *words: str) -> str:
    """The one line that a command ends with, its exit code being 2."""
    said, printed = io.StringIO(), io.StringIO()
    with redirect_stderr(said), redirect_stdout(printed):
        assert started(module, *words) == 2
    assert printed.getvalue() == ""
    [line] = said.getvalue().splitlines()
    return line
