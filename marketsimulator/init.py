"""Write a settings file that every command reads.

    kelly-chronos init [FOLDER] [key=value …]
    python -m marketsimulator.init kelly data.dir=[data/bars] symbols=[NVDA,BTCUSD] forecaster=ewma

FOLDER (default: kelly) receives `kelly.yaml` with these settings, which every command reads as
config=FOLDER/kelly.yaml. They are checked as settings of live trading. Only the owner may read the
file. The last lines name the next commands.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.init")

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from execution.live.settings import LiveSettings
from foundation.cli import FlagParser, Result
from foundation.compose import (
    CONFIG_FOLDER,
    SETTINGS_FILE_KEY,
    check_settings_key,
    compose_config,
    is_override,
    refuse_repeated_keys,
)
from foundation.errors import InputError
from foundation.files import write_atomically, write_files_atomically
from foundation.shell import format_command

SETTINGS_FILE_NAME = "kelly.yaml"


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """Path and content of the settings file to write."""

    path: Path
    content: str


def parse_arguments(words: Sequence[str]) -> tuple[SettingsFile, None]:
    """Return the file for the words of a command line.

    Raises InputError for invalid settings, a second folder, and a file with other content.
    """
    given = FlagParser(settings=True).parse_args(list(words)).overrides
    overrides = [word for word in given if is_override(word)]
    folders = [word for word in given if not is_override(word)] or ["kelly"]
    if len(folders) > 1:
        raise InputError(f"FOLDER: {' and '.join(map(repr, folders))} are given; name one folder")
    folder = Path(folders[0]).expanduser()
    if not folders[0].isprintable() or not folders[0] or folder.is_file():
        raise InputError(f"FOLDER: {folders[0]!r} is not the name of a folder; choose another name")
    refuse_repeated_keys(overrides)
    for word in overrides:
        check_settings_key(word.lstrip("+").partition("=")[0])
    LiveSettings.from_config(compose_config("live", overrides))
    file = SettingsFile(folder / SETTINGS_FILE_NAME, format_settings(overrides))
    if file.path.exists() and file.path.read_text(encoding="utf-8") != file.content:
        raise InputError(
            f"{file.path}: already exists with other content; edit it, move it or choose another"
            " folder"
        )
    return file, None


def format_settings(overrides: Sequence[str]) -> str:
    """Return the YAML text of key=value words, with a line per setting."""
    config, default = compose_config("live", overrides), compose_config("live", ())
    chosen = OmegaConf.create()
    for word in overrides:
        key, _, text = word.lstrip("+").partition("=")
        value: Any = OmegaConf.select(config, key)
        if (CONFIG_FOLDER / key).is_dir():  # a group's file by name
            is_changed = any(each.startswith(f"{key}.") for each in overrides)
            # A YAML key has either the name or settings: write those that differ.
            changes = {name: part for name, part in value.items() if part != default[key][name]}
            value = changes if is_changed else text
        OmegaConf.update(chosen, key, value)
    values: Any = OmegaConf.to_container(chosen)
    lines = (
        # {key: value} without its braces: one line per setting
        yaml.safe_dump({key: value}, default_flow_style=True, width=10_000)[1:-2]
        for key, value in values.items()
    )
    head = (
        f"# Settings for every command: kelly-chronos COMMAND {SETTINGS_FILE_KEY}=FILE\n"
        "# Command-line settings replace them. List all settings: kelly-chronos list settings\n"
    )
    return "\n".join((head, *lines, ""))


def run(settings: SettingsFile) -> Result:
    """Write the file, and return the next commands."""
    content = settings.content.encode()
    writers = {SETTINGS_FILE_NAME: lambda path: write_atomically(path, content, is_private=True)}
    write_files_atomically(writers, settings.path.parent, "FOLDER")
    program = format_command("kelly-chronos")
    file = f"{SETTINGS_FILE_KEY}={settings.path}"
    return Result(
        closing_lines=[
            f"Written: {settings.path}",
            f"Backtest it: {program} backtest {file}",
            f"With an account's keys: {program} doctor {file}",
            f"Preview orders: {program} trade-stock-e2e preview {file}",
        ]
    )
