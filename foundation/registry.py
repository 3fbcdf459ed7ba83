"""What rooms register: tables of words, in a room's own `__init__`.

A room that offers a place for what comes from others asks here who has registered for it:

COMMANDS   words of `kelly-chronos`, and the `Command` of each
JOBS       words of `jobs=[…]` of the live loop; the module has `open_job`, the context of
           a `ProductJob` (`execution/live/runner.py`), which brings its section of the page
BROKERS    words of `broker.name=…`; the module has `ACCOUNT`, which settings and keys make a
           `BrokerAccount` of (`execution/brokers.py`)
DESKS      what the practice Alpaca trades beside stocks and coins; the module has
           `PracticeSettings` and `OptionDesk`

Nothing that is registered is imported before somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any

from foundation.declared import declared
from foundation.executed import ROOMS


@dataclass(frozen=True, slots=True)
class Command:
    """What is known of a command before its module is imported.

    The module's docstring is its help. Its `run(settings)` or `run(settings, progress)` does the
    work and returns a `Result`; the class in the annotation of `settings` reads a configuration
    with its `of`. A module whose words are more than settings has `read(words)`, which returns the
    settings and the folder of the output, or None; one whose output is no
    folder of its own checks it in `output_of(settings, config)`.

    module: as `python -m` takes it.
    config: name of its file in configs; none where flags are all that it takes.
    output: file that each run leaves in the folder `output`, by which that folder is known as one
        of an earlier run; empty where the module checks it, or nothing is written.
    interrupted: what is true once it was interrupted.
    log: name of its file in `logs/`; empty: none.
    log_links: names in `logs/` of links to the newest of these files, without the suffix.
    words: `module:function` that makes settings of other words; empty: there are no others.
    flags: by setting, flags that stand for it.
    hydra: whether Hydra reads the command line: several runs with -m, files of one's own.
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


def registered(kind: str) -> dict[str, Any]:
    """What rooms register as one kind, by its words: names of modules, or commands."""
    tables = [getattr(import_module(room), kind, {}) for room in ROOMS]
    return {word: module for table in tables for word, module in table.items()}


def registered_module(kind: str, word: str) -> ModuleType:
    return import_module(registered(kind)[word])


def commands_with(key: str) -> list[str]:
    """Return the modules of the commands that have a setting of their own by a name."""
    configurations = declared()["configurations"]
    commands: list[Command] = list(registered("COMMANDS").values())
    return sorted(
        {
            each.module
            for each in commands
            if each.config and key in configurations[each.config]["own"]
        }
    )


def command_of(module: str) -> Command:
    found: list[Command] = list(registered("COMMANDS").values())
    return next(command for command in found if command.module == module)
