"""Write a strategy with its test from a template: NAME.py and test_NAME.py, in this folder.

    kelly-chronos new-strategy NAME
    python -m marketsimulator.new_strategy my_rule

NAME becomes a module and a function: lower-case letters, digits and `_`. Existing files are never
replaced.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.new_strategy")

import importlib.util
import keyword
import re
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from jinja2 import Template

from foundation.cli import FlagParser, Result
from foundation.errors import InputError, format_suggestion
from foundation.files import write_files_atomically
from foundation.shell import format_command

TEMPLATE_FOLDER = Path(__file__).resolve().parent / "templates"
_STRATEGY_NAME_PATTERN = re.compile(r"[a-z][a-z0-9_]{0,63}")


def check_strategy_name(name: str) -> None:
    """Raise `InputError` for a name that is invalid or already a module of another package."""
    if not _STRATEGY_NAME_PATTERN.fullmatch(name) or keyword.iskeyword(name):
        near = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
        is_valid = _STRATEGY_NAME_PATTERN.fullmatch(near) and not keyword.iskeyword(near)
        raise InputError(
            f"NAME: {name!r} is not a lower-case Python name of at most 64 characters, such as"
            f" my_rule{format_suggestion([near] if is_valid else [])}"
        )
    if importlib.util.find_spec(name) is not None and not Path(f"{name}.py").exists():
        raise InputError(f"NAME: a Python module {name} is already installed; choose another name")


def render_strategy_files(name: str) -> dict[str, str]:
    """Return the source code of a strategy and of its test, by file name."""
    files = {f"{name}.py": "strategy.py.j2", f"test_{name}.py": "test_strategy.py.j2"}
    class_name = name.title().replace("_", "")
    return {
        file: Template(
            (TEMPLATE_FOLDER / template).read_text(encoding="utf-8"), keep_trailing_newline=True
        ).render(name=name, class_name=class_name, command=format_command)
        for file, template in files.items()
    }


def parse_arguments(words: Sequence[str]) -> tuple[Namespace, None]:
    parser = FlagParser()
    parser.add_argument("name", metavar="NAME")
    arguments = parser.parse_args(list(words))
    check_strategy_name(arguments.name)
    for file in render_strategy_files(arguments.name):
        if Path(file).exists():
            raise InputError(f"{file}: already exists and is never replaced; choose another name")
    return arguments, None


def run(settings: Namespace) -> Result:
    """Write a strategy and its test; return the commands that test and backtest it."""
    name = settings.name
    texts = render_strategy_files(name)
    writers = {
        file: partial(Path.write_text, data=text, encoding="utf-8") for file, text in texts.items()
    }
    write_files_atomically(writers, Path.cwd(), "folder")
    return Result(
        closing_lines=[
            f"Written: {', '.join(texts)}",
            f"Test: {format_command(f'python -m unittest test_{name}')}",
            f"Backtest: {format_command('kelly-chronos backtest')} sizing._target_={name}.{name}"
            f" forecaster=none start=2024-03-04 output=outputs/{name}",
            "With your bars and settings: replace start=… by config=FILE (see"
            f" {format_command('kelly-chronos init')})",
        ]
    )
