"""Set up a folder: settings, API keys, a check of the account, and a first backtest.

    kelly-chronos init [FOLDER] --bars synthetic [key=value …]
    python -m marketsimulator.init FOLDER --bars data/bars [--symbols NVDA BTCUSD] [--timeframe 1h]
        [--keys none|environment] [--start DATE] [key=value …]

FOLDER (default: kelly) receives `kelly.yaml`, which every command reads as
config=FOLDER/kelly.yaml, and the results of the backtest in `first`.

--bars          folder of CSV or Parquet files, `download` (from Alpaca) or `synthetic` (no files)
--symbols       symbols to trade; default: all symbols of the bars
--timeframe     1d, 1h, 30m, 15m or 5m; default: 1d where a file has daily bars, else 1h
--keys          `environment` reads a paper account's APCA_API_KEY_ID and APCA_API_SECRET_KEY
--start         first day of a download; default: two years ago

Settings key=value are checked and written to `kelly.yaml`.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.init")

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import yaml
from omegaconf import OmegaConf

from execution.alpaca.connection import require_alpaca
from execution.doctor import CHECKS_WITHOUT_ACCOUNT, DoctorContext, run_checks
from execution.live.settings import LiveSettings
from forecasting.forecast import Progress
from foundation.cli import FlagParser, Result
from foundation.clock import utc_now
from foundation.compose import (
    CONFIG_FOLDER,
    SETTINGS_FILE_KEY,
    check_settings_key,
    compose_config,
    flags_to_overrides,
    is_override,
    refuse_repeated_keys,
)
from foundation.errors import InputError, invalid_choice_error
from foundation.files import check_output_folder, write_atomically, write_files_atomically
from foundation.formatting import format_count
from foundation.shell import format_command
from foundation.signals import exit_on_errors
from marketsimulator import backtest
from marketsimulator.results.benchmark import read_benchmark
from marketsimulator.results.trials import check_ledger
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_bar_files
from trainingdata.download import download
from trainingdata.feed.endpoint import KEY_VARIABLE, ApiKeys
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import DAY, parse_instant
from trainingdata.instruments import instrument, is_crypto, parse_symbols
from trainingdata.synthetic import SYNTHETIC_SYMBOLS
from trainingdata.timeframe import TimeframeName

DOWNLOAD, SYNTHETIC, NONE, ENVIRONMENT = "download", "synthetic", "none", "environment"
SETTINGS_FILE_NAME = "kelly.yaml"
FIRST_BACKTEST_FOLDER = "first"  # subfolder of the first backtest's results
FIRST_BACKTEST_DAYS = 365  # calendar days of the first backtest
DOWNLOAD_PERIOD = 730 * DAY


@dataclass(frozen=True)
class Setup:
    """Validated flags of a setup.

    folder: folder to set up.
    bars_source: folder or file of bars, `download` or `synthetic`.
    symbols: symbols to trade; empty: all symbols of the synthetic market.
    timeframe: timeframe of bars and decisions; None: decided by the bars.
    keys: keys of a paper account; None without an account.
    start: first instant of a download.
    overrides: further settings as key=value words.
    first_run: settings of the first backtest; None: not composed yet.
    """

    folder: Path
    bars_source: str = SYNTHETIC
    symbols: tuple[str, ...] = ()
    timeframe: str | None = None
    keys: ApiKeys | None = None
    start: np.datetime64 | None = None
    overrides: tuple[str, ...] = ()
    first_run: BacktestSettings | None = None

    @property
    def settings_file(self) -> Path:
        """Path of the settings file."""
        return self.folder / SETTINGS_FILE_NAME

    @property
    def bars_folder(self) -> Path | None:
        """Folder of the bars; None for the synthetic market."""
        if self.bars_source == SYNTHETIC:
            return None
        return (
            self.folder / "bars" if self.bars_source == DOWNLOAD else Path(self.bars_source)
        ).absolute()

    def override_words(self) -> list[str]:
        """Return all settings as key=value words; `overrides` take precedence over flags."""
        folder = self.bars_folder
        flags = {
            "symbols": list(self.symbols),
            "timeframe": self.timeframe,
            "data.dir": None if folder is None else [str(folder)],
        }
        keys = {word.partition("=")[0] for word in self.overrides}
        given = {key: value for key, value in flags.items() if key not in keys}
        return [*flags_to_overrides(given), *self.overrides]

    def first_run_words(self) -> list[str]:
        """Return the words that the first backtest adds to the settings: its days and its output.

        The number of days is left out if the overrides set the period.
        """
        keys = {word.partition("=")[0] for word in self.overrides}
        days = [] if {"start", "end", "days"} & keys else [f"days={FIRST_BACKTEST_DAYS}"]
        return [*days, *flags_to_overrides({"output": self.folder / FIRST_BACKTEST_FOLDER})]

    def format_settings(self) -> str:
        """Return the content of the settings file."""
        words = self.override_words()
        config, default = compose_config("live", words), compose_config("live", ())
        chosen = OmegaConf.create()
        for word in words:
            key, _, text = word.lstrip("+").partition("=")
            value: Any = OmegaConf.select(config, key)
            if (CONFIG_FOLDER / key).is_dir():  # a group's file by name
                is_changed = any(each.startswith(f"{key}.") for each in words)
                # A YAML key has either the name or settings: write those that differ.
                changes = {name: part for name, part in value.items() if part != default[key][name]}
                value = changes if is_changed else text
            OmegaConf.update(chosen, key, value)
        values: Any = OmegaConf.to_container(chosen)
        body = "".join(
            # {key: value} without its braces: one line per setting
            f"{yaml.safe_dump({key: value}, default_flow_style=True, width=10_000)[1:-2]}\n"
            for key, value in values.items()
        )
        return (
            f"# yaml-language-server: $schema={CONFIG_FOLDER / 'schema' / 'live.json'}\n"
            "# Settings for every command: kelly-chronos COMMAND"
            f" {SETTINGS_FILE_KEY}={self.settings_file}\n"
            "# Command-line settings replace them. List all settings: kelly-chronos list settings\n"
            f"\n{body}"
        )


def parse_bars_source(text: str) -> str:
    """Return the source of the bars. Raises InputError for a folder without bar files."""
    if text in ("", DOWNLOAD, SYNTHETIC):
        return text or SYNTHETIC
    path = Path(text).expanduser()
    if not path.exists():
        raise InputError(
            f"--bars: {text} does not exist; name a folder of bar files, {DOWNLOAD} or {SYNTHETIC}"
        )
    find_bar_files([path], None)
    return str(path.absolute())


def parse_setup_symbols(text: str, bars_source: str) -> tuple[str, ...]:
    """Return symbols separated by commas or spaces; empty text means all symbols of the bars.

    Raises InputError for a symbol without bars.
    """
    names = parse_symbols(text.replace(",", " ").split())
    if bars_source == DOWNLOAD:
        if not names:
            raise InputError("--symbols: a download requires symbols, such as NVDA BTCUSD")
        return tuple(instrument(name).symbol for name in names)
    if bars_source == SYNTHETIC:
        for name in names:
            if name not in SYNTHETIC_SYMBOLS:
                raise invalid_choice_error("--symbols", name, SYNTHETIC_SYMBOLS)
        return tuple(names)
    return tuple(find_bar_files([Path(bars_source)], names or None))


def parse_timeframe(text: str, setup: Setup) -> str | None:
    """Return the timeframe of the bars. Raises InputError for invalid bars."""
    if text and text not in get_args(TimeframeName):
        raise invalid_choice_error("--timeframe", text, get_args(TimeframeName))
    setup = replace(setup, timeframe=text or None)
    live = LiveSettings.from_config(compose_config("live", setup.override_words()))
    return setup.timeframe if setup.bars_source == DOWNLOAD else live.load_bars().timeframe.name


def require_paper_keys(keys: ApiKeys | None, setup: Setup) -> ApiKeys | None:
    """Return the API keys. Raises InputError unless they belong to a paper account.

    Returns None without keys. Raises InputError if a download of stock bars requires them.
    """
    if keys is None:
        stocks = [symbol for symbol in setup.symbols if not is_crypto(symbol)]
        if setup.bars_source == DOWNLOAD and stocks:
            raise InputError(
                f"--keys: a download of {stocks[0]} requires keys of a paper account; crypto does"
                " not"
            )
    elif keys.are_live:
        raise InputError(
            f"{KEY_VARIABLE}: this is the key of a live account; use the keys of a paper account"
        )
    return keys


def parse_arguments(words: Sequence[str]) -> tuple[Setup, Path]:
    """Return the setup of the flags, and the folder of the first backtest."""
    parser = FlagParser(settings=True)
    parser.add_argument("--bars")
    parser.add_argument("--symbols", nargs="+")
    parser.add_argument("--timeframe")
    parser.add_argument("--keys", choices=[NONE, ENVIRONMENT])
    parser.add_argument("--start")
    flags = parser.parse_intermixed_args(list(words))
    # --symbols also consumes the settings that follow it.
    plain = [*flags.overrides, *(word for word in flags.symbols or () if is_override(word))]
    overrides = tuple(word for word in plain if is_override(word))
    folders = [word for word in plain if not is_override(word)]
    if len(folders) > 1:
        raise InputError(
            f"FOLDER: {len(folders)} folders are given, {' and '.join(map(repr, folders))}; give"
            " one"
        )
    refuse_repeated_keys(overrides)
    for word in overrides:
        check_settings_key(word.partition("=")[0])
    compose_config("live", overrides)
    name = folders[0] if folders else "kelly"
    if not name:
        raise InputError("FOLDER: the name is empty; name a folder")
    if not name.isprintable():
        raise InputError(f"FOLDER: {name!r} contains a control character; choose another name")
    setup = Setup(Path(name).expanduser(), overrides=overrides)
    if setup.folder.is_file():
        raise InputError(f"{setup.folder}: this is a file; name a folder")
    if flags.bars is None:
        raise InputError(
            f"--bars: missing; name a folder of bar files, {DOWNLOAD} or {SYNTHETIC} (see --help)"
        )
    if flags.symbols is not None:
        flags.symbols = " ".join(word for word in flags.symbols if not is_override(word))
    setup = _read_flags(setup, flags)
    start = (
        parse_instant(flags.start, name="--start") if flags.start else utc_now() - DOWNLOAD_PERIOD
    )
    if start >= utc_now():
        raise InputError(f"--start: {flags.start} is in the future; name a day in the past")
    setup = replace(setup, start=start)
    _refuse_other_content(setup.settings_file, setup.format_settings())
    output = setup.folder / FIRST_BACKTEST_FOLDER
    check_output_folder(output, "summary.json", ("total_return", "comparisons"))
    return replace(setup, first_run=_compose_first_run(setup)), output


def _read_flags(setup: Setup, flags: Namespace) -> Setup:
    """Return the setup with the values of the flags."""
    setup = replace(setup, bars_source=parse_bars_source(flags.bars))
    symbols = parse_setup_symbols(flags.symbols or "", setup.bars_source)
    setup = replace(setup, symbols=symbols)
    setup = replace(setup, timeframe=parse_timeframe(flags.timeframe or "", setup))
    keys = ApiKeys.from_environment(os.environ) if flags.keys == ENVIRONMENT else None
    return replace(setup, keys=require_paper_keys(keys, setup))


def _compose_first_run(setup: Setup) -> BacktestSettings:
    """Return the settings of the first backtest.

    Raises InputError for settings with which the doctor or the backtest would fail.
    """
    words = setup.override_words()
    require_alpaca(LiveSettings.from_config(compose_config("live", words)).broker)
    known = {each.name for each in fields(BacktestSettings)} - {"output"}
    words = [word for word in words if re.split(r"[.=]", word.lstrip("+"))[0] in known]
    config = compose_config("backtest", [*words, *setup.first_run_words()])
    settings = BacktestSettings.from_config(config)
    check_ledger(settings.trials)
    if settings.benchmark is not None and setup.bars_source != DOWNLOAD:
        read_benchmark(settings, settings.load_market())
    return settings


def _refuse_other_content(path: Path, text: str) -> None:
    """Raise `InputError` for an existing file with other content."""
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{path}: already exists with other content; edit it, move it or choose another folder"
        )


def run(settings: Setup, progress: Progress) -> Result:
    """Write the files, download bars, run the doctor; return the first backtest's result."""
    write_setup(settings)
    sys.stdout.write(f"Written: {settings.settings_file}\n")
    with exit_on_errors(
        f"{settings.settings_file} is written; run the same command again to continue"
    ):
        live = LiveSettings.from_config(compose_config("live", settings.override_words()))
        if settings.bars_source == DOWNLOAD:
            _download(settings, live, progress)
        context = DoctorContext(live, settings.keys or InputError("no keys"))
        run_checks(context, () if settings.keys else CHECKS_WITHOUT_ACCOUNT)
        file = f"{SETTINGS_FILE_KEY}={settings.settings_file}"
        *days, _ = settings.first_run_words()
        assert settings.first_run is not None
        result = backtest.run(settings.first_run, progress)
    return replace(
        result, closing_lines=[*result.closing_lines, *_next_steps(settings, [file, *days])]
    )


def write_setup(setup: Setup) -> None:
    """Write the settings to a file that only its owner may read."""
    content = setup.format_settings().encode()
    writers = {SETTINGS_FILE_NAME: lambda path: write_atomically(path, content, is_private=True)}
    write_files_atomically(writers, setup.folder, "FOLDER")


def _download(setup: Setup, live: LiveSettings, progress: Progress) -> None:
    assert setup.start is not None
    assert setup.bars_folder is not None
    feed = live.data.feed, live.data.adjustment, live.timeframe_or_hourly
    data = MarketData(live.broker, setup.keys, *feed)
    counts = download(data, setup.symbols, setup.start, utc_now(), setup.bars_folder, progress)
    sys.stdout.write(f"{setup.bars_folder}: {format_count(sum(counts.values()), 'bar')}\n")


def _next_steps(setup: Setup, words: Sequence[str]) -> list[str]:
    """Return the commands to run next."""
    steps = [f"Run it again: {format_command('kelly-chronos backtest')} {' '.join(words)}"]
    if setup.keys is not None:
        steps += [
            "Preview orders, with the keys in the environment:"
            f" {format_command('kelly-chronos trade-stock-e2e')}"
            f" preview {SETTINGS_FILE_KEY}={setup.settings_file}",
            "Trade on paper under systemd: run the commands at the head of"
            " deploy/kelly-chronos.service",
        ]
    return steps
