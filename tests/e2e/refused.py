"""A command that refuses its words, in this process: what it says costs no interpreter."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout

import pytest


def refusal_of(main: Callable[[], None], *words: str) -> str:
    """The one line that a command ends with, its exit code being 2."""
    said, printed = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(printed):
        patch.setattr(sys, "argv", ["command", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    assert printed.getvalue() == ""
    [line] = said.getvalue().splitlines()
    return line
