"""Set up a folder: settings, keys for a supervisor, a check of the account, a first backtest.

    kelly-chronos init [FOLDER] [key=value …]
    python -m marketsimulator.init FOLDER --bars data/bars [--symbols NVDA BTCUSD] [--timeframe 1h]
        [--keys none|environment] [--alerts URL|none] [--start DATE] [key=value …]

It asks for what no flag gives; without a terminal --bars is needed, and Enter's answer is taken for
the rest. FOLDER (default: kelly) receives `kelly.yaml`, which every command reads as
config=FOLDER/kelly.yaml, and the results in `first`. With keys or an alert address it also receives
`keys.env` (mode 600, ignored by git), an EnvironmentFile for systemd, which no command reads.

--bars          folder of CSV or Parquet files, `download` for Alpaca's, or `synthetic` for none
--symbols       symbols to trade; default: all of the folder
--timeframe     1d, 1h, 30m, 15m or 5m; default: days where a file has them, else hours
--keys          `environment` takes a paper account's APCA_API_KEY_ID and APCA_API_SECRET_KEY
--alerts        http or https address that alerts are posted to
--start         first day of a download; default: two years ago

Words key=value are checked and written to `kelly.yaml`.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.init")

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from getpass import getpass
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import yaml
from omegaconf import OmegaConf

from execution.alpaca.connection import require_alpaca
from execution.doctor import LOCAL_CHECKS, DoctorContext, run_checks
from execution.live.settings import LiveSettings
from forecasting.forecast import Progress
from foundation.cli import FlagParser, Result
from foundation.clock import utc_now
from foundation.compose import (
    CONFIGS,
    SETTINGS_FILE,
    compose_config,
    flags_to_overrides,
    is_override,
    refuse_repeated,
    unfit_reason,
    validate_config,
)
from foundation.errors import InputError, escape_controls, invalid_choice
from foundation.files import check_output, write_files_atomically
from foundation.formatting import count_text
from foundation.notifier import check_url
from foundation.signals import one_line_errors
from marketsimulator import backtest
from marketsimulator.settings import BacktestSettings
from trainingdata.bar_files import find_files
from trainingdata.download import download
from trainingdata.feed.endpoint import KEY_VARIABLE, SECRET_VARIABLE, ApiKeys
from trainingdata.feed.market_data import MarketData
from trainingdata.instants import DAY, parse_instant
from trainingdata.instruments import instrument, is_crypto, parse_symbols
from trainingdata.synthetic import SYNTHETIC_SYMBOLS
from trainingdata.timeframe import TimeframeName

Answer = TypeVar("Answer")

DOWNLOAD, SYNTHETIC, NONE, ENVIRONMENT = "download", "synthetic", "none", "environment"
SETTINGS_NAME = "kelly.yaml"
KEYS_NAME = "keys.env"
INSTALLED = Path("/etc/kelly-chronos")  # where deploy/kelly-chronos.service reads both files
FIRST_RUN = "first"  # folder of the first backtest, in the folder that is set up
FIRST_DAYS = 365  # calendar days of the first backtest
DOWNLOAD_SPAN = 730 * DAY
# systemd and shells read such a value literally between single quotes.
_PLAIN_VALUE = re.compile(r"[!-&(-\[\]-~]+")


@dataclass(frozen=True)
class Setup:
    """Checked answers.

    folder: folder to set up.
    bars: folder or file of bars, `download` or `synthetic`.
    symbols: symbols to trade; empty: all of the synthetic market.
    timeframe: timeframe of bars and decisions.
    keys: keys of a paper account; None without an account.
    alert_url: address that alerts are posted to; None for none.
    start: first instant of a download.
    words: further settings, key=value.
    """

    folder: Path
    bars: str = SYNTHETIC
    symbols: tuple[str, ...] = ()
    timeframe: str | None = None
    keys: ApiKeys | None = None
    alert_url: str | None = None
    start: np.datetime64 | None = None
    words: tuple[str, ...] = ()

    @property
    def bars_folder(self) -> Path | None:
        """Folder of the bars; None for the synthetic market."""
        if self.bars == SYNTHETIC:
            return None
        return (self.folder / "bars" if self.bars == DOWNLOAD else Path(self.bars)).absolute()

    def overrides(self) -> list[str]:
        """Return the settings as key=value words."""
        folder = self.bars_folder
        values = {
            "symbols": list(self.symbols),
            "timeframe": self.timeframe,
            "data.dir": None if folder is None else [str(folder)],
        }
        keys = {word.partition("=")[0] for word in self.words}
        return [
            *flags_to_overrides({key: each for key, each in values.items() if key not in keys}),
            *self.words,
        ]

    def settings_text(self) -> str:
        """Return the content of `kelly.yaml`."""
        config = compose_config("live", self.overrides())
        values: dict[str, Any] = {}
        for word in self.overrides():
            key, _, text = word.partition("=")
            *groups, name = key.split(".")
            part = values
            for group in groups:
                part = part.setdefault(group, {})
            if (CONFIGS / key).is_dir():
                part[name] = text
            else:
                chosen = OmegaConf.select(config, key)
                part[name] = OmegaConf.to_object(chosen) if OmegaConf.is_config(chosen) else chosen
        body = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=100)
        return (
            f"# yaml-language-server: $schema={CONFIGS / 'schema' / 'live.json'}\n"
            f"# Every command reads this file: kelly-chronos COMMAND {SETTINGS_FILE}="
            f"{self.folder / SETTINGS_NAME}\n"
            "# Words on the command line replace its values. All settings: kelly-chronos list"
            f" settings\n\n{body}"
        )

    def keys_text(self) -> str:
        """Return the content of `keys.env`; empty without keys and without an alert address."""
        values: dict[str, str] = {}
        if self.keys is not None:
            values |= {KEY_VARIABLE: self.keys.key, SECRET_VARIABLE: self.keys.secret}
        if self.alert_url is not None:
            values["ALERT_URL"] = self.alert_url
        if not values:
            return ""
        values["LOOP_WORDS"] = f"{SETTINGS_FILE}={INSTALLED / SETTINGS_NAME}"
        lines = (f"{name}='{value}'\n" for name, value in values.items())
        return f"# EnvironmentFile of deploy/kelly-chronos.service.\n{''.join(lines)}"


def check_bars(text: str) -> str:
    """Return the source of the bars. Raises InputError for a folder without usable files."""
    if text in ("", DOWNLOAD, SYNTHETIC):
        return text or SYNTHETIC
    path = Path(text).expanduser()
    if not path.exists():
        raise InputError(f"--bars: {text} is not a folder; name one, or {DOWNLOAD} or {SYNTHETIC}")
    find_files([path], None)
    return str(path.absolute())


def check_symbols(text: str, bars: str) -> tuple[str, ...]:
    """Return the symbols, separated by commas or spaces; empty text means all.

    Raises InputError for a symbol without bars.
    """
    names = parse_symbols(text.replace(",", " ").split())
    if bars == DOWNLOAD:
        if not names:
            raise InputError("--symbols: a download needs some, as NVDA BTCUSD")
        return tuple(instrument(name).symbol for name in names)
    if bars == SYNTHETIC:
        for name in names:
            if name not in SYNTHETIC_SYMBOLS:
                raise invalid_choice("--symbols", name, SYNTHETIC_SYMBOLS)
        return tuple(names)
    return tuple(find_files([Path(bars)], names or None))


def check_timeframe(text: str, setup: Setup) -> str | None:
    """Return the timeframe; None leaves it to the files. Raises InputError for unusable bars."""
    if text and text not in get_args(TimeframeName):
        raise invalid_choice("--timeframe", text, get_args(TimeframeName))
    named = replace(setup, timeframe=text or None)
    config = compose_config("live", named.overrides())
    validate_config("live", config)
    settings = LiveSettings.from_config(config)
    return named.timeframe if setup.bars == DOWNLOAD else settings.load_bars().timeframe.name


def check_keys(keys: ApiKeys) -> ApiKeys:
    """Return the keys. Raises InputError unless they are a paper account's."""
    if keys.are_live:
        raise InputError(f"{KEY_VARIABLE}: it is a live account's; a set-up takes a paper one's")
    if not all(map(_PLAIN_VALUE.fullmatch, (keys.key, keys.secret))):
        raise InputError(f"{KEY_VARIABLE}: a key has no quote and no backslash; copy it again")
    return keys


def check_alerts(text: str) -> str | None:
    """Return the address of alerts. Raises InputError for a text that is none."""
    if text in ("", NONE):
        return None
    check_url("--alerts", text)
    if not _PLAIN_VALUE.fullmatch(text):
        raise InputError("--alerts: write spaces, quotes and backslashes of the address as %XX")
    return text


def read(words: Sequence[str]) -> tuple[Setup, Path]:
    """Parse the flags, ask for the rest; return the answers and the folder of the first run."""
    parser = FlagParser(settings=True)
    parser.add_argument("--bars")
    parser.add_argument("--symbols", nargs="+")
    parser.add_argument("--timeframe")
    parser.add_argument("--keys", choices=[NONE, ENVIRONMENT])
    parser.add_argument("--alerts")
    parser.add_argument("--start")
    flags = parser.parse_intermixed_args(list(words))
    given = [*flags.overrides, *(word for word in flags.symbols or () if is_override(word))]
    settings = tuple(word for word in given if is_override(word))
    folders = [word for word in given if not is_override(word)]
    if len(folders) > 1:
        raise InputError(f"{folders[1]}: one folder is set up at a time, {folders[0]}")
    refuse_repeated(settings)
    for word in settings:
        key = word.partition("=")[0]
        if reason := unfit_reason(key):
            raise InputError(f"{key}: {reason}")
    compose_config("live", settings)
    setup = Setup(Path(folders[0] if folders else "kelly").expanduser(), words=settings)
    if setup.folder.is_file():
        raise InputError(f"{setup.folder}: it is a file; name a folder")
    asks = sys.stdin is not None and sys.stdin.isatty()
    if not asks and flags.bars is None:
        raise InputError(
            f"--bars: needed without a terminal: a folder, {DOWNLOAD} or {SYNTHETIC} (see --help)"
        )
    if flags.symbols is not None:
        flags.symbols = " ".join(word for word in flags.symbols if not is_override(word))
    setup = _with_answers(setup, flags, asks=asks)
    begin = parse_instant(flags.start, name="--start") if flags.start else utc_now() - DOWNLOAD_SPAN
    if begin >= utc_now():
        raise InputError(f"--start: {flags.start} is not in the past")
    setup = replace(setup, start=begin)
    for name, text in ((SETTINGS_NAME, setup.settings_text()), (KEYS_NAME, setup.keys_text())):
        _refuse_other(setup.folder / name, text)
    output = setup.folder / FIRST_RUN
    check_output(output, "summary.json", ("total_return", "comparisons"))
    return setup, output


def _with_answers(setup: Setup, flags: Any, *, asks: bool) -> Setup:
    """Return the setup with the answers of flags, or else of the terminal, each checked at once."""
    bars = _answer(
        flags.bars, f"Bars: a folder, {DOWNLOAD} or {SYNTHETIC} [{SYNTHETIC}]: ", check_bars, asks
    )
    setup = replace(setup, bars=bars)
    which = "those to trade" if bars == DOWNLOAD else "Enter for all"
    symbols = _answer(
        flags.symbols, f"Symbols, {which}: ", lambda text: check_symbols(text, bars), asks
    )
    setup = replace(setup, symbols=symbols)
    timeframe = _answer(
        flags.timeframe,
        "Timeframe, 1d, 1h, 30m, 15m or 5m [days where a file has them, else hours]: ",
        lambda text: check_timeframe(text, setup),
        asks,
    )
    setup = replace(setup, timeframe=timeframe)
    if flags.keys == ENVIRONMENT:
        setup = replace(setup, keys=check_keys(ApiKeys.from_environment(os.environ)))
    else:
        keys = _answer(
            "" if flags.keys == NONE else None,
            "API key id of a paper account [none]: ",
            lambda text: _typed_keys(text, setup),
            asks,
        )
        setup = replace(setup, keys=keys)
    alerts = _answer(flags.alerts, "Address for alerts, http… [none]: ", check_alerts, asks)
    return replace(setup, alert_url=alerts)


def _answer(given: str | None, question: str, check: Callable[[str], Answer], asks: bool) -> Answer:
    """Return the checked value of a flag, or of the terminal, which asks until it is valid."""
    if given is not None or not asks:
        return check(given or "")
    while True:
        try:
            return check(input(question).strip())
        except EOFError:
            raise InputError("the answers ended; nothing was written") from None
        except InputError as error:
            sys.stdout.write(f"  {escape_controls(str(error))}\n")


def _typed_keys(text: str, setup: Setup) -> ApiKeys | None:
    if text in ("", NONE):
        stocks = [symbol for symbol in setup.symbols if not is_crypto(symbol)]
        if setup.bars == DOWNLOAD and stocks:
            raise InputError(f"--keys: a download of {stocks[0]} needs keys; crypto needs none")
        return None
    secret = getpass("Secret key (not shown): ")
    typed = {KEY_VARIABLE: text, SECRET_VARIABLE: secret}
    return check_keys(ApiKeys.from_environment(typed))


def _refuse_other(path: Path, text: str) -> None:
    """Raise `InputError` for an existing file with other content."""
    if path.exists() and text and path.read_text(encoding="utf-8") != text:
        raise InputError(f"{path}: it is there with other content; name another folder, or move it")


def run(settings: Setup, progress: Progress) -> Result:
    """Write the files, download, check the account; return the result of the first backtest."""
    file = settings.folder / SETTINGS_NAME
    write_setup(settings)
    sys.stdout.write(f"written: {file}\n")
    with one_line_errors(f"{file} is written; the same line goes on"):
        if settings.bars == DOWNLOAD:
            _download(settings, progress)
        for line in _doctor_lines(settings):
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
        named = f"{SETTINGS_FILE}={file}"
        spans = {"start", "end", "days"} & {word.partition("=")[0] for word in settings.words}
        words = [named, *([] if spans else [f"days={FIRST_DAYS}"])]
        output = settings.folder / FIRST_RUN
        config = compose_config("backtest", [*words, f"output='{output}'"])
        result = backtest.run(BacktestSettings.from_config(config), progress)
    return replace(result, sentences=[*result.sentences, *_next_steps(settings, words)])


def write_setup(setup: Setup) -> None:
    """Write the settings, the keys and git's list of ignored files, all or none."""
    texts = {SETTINGS_NAME: setup.settings_text()}
    if keys := setup.keys_text():
        ignored = setup.folder / ".gitignore"
        lines = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        texts |= {KEYS_NAME: keys}
        texts |= {} if KEYS_NAME in lines else {".gitignore": "\n".join([*lines, KEYS_NAME, ""])}

    def write(path: Path, text: str) -> None:
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")

    writers = {name: lambda path, text=text: write(path, text) for name, text in texts.items()}
    write_files_atomically(writers, setup.folder, "FOLDER")


def _download(setup: Setup, progress: Progress) -> None:
    live = LiveSettings.from_config(compose_config("live", setup.overrides()))
    feed = live.data.feed, live.data.adjustment, live.timeframe_or_hourly
    data = MarketData(live.broker, setup.keys, *feed)
    assert setup.start is not None
    assert setup.bars_folder is not None
    counts = download(data, setup.symbols, setup.start, utc_now(), setup.bars_folder, progress)
    sys.stdout.write(f"{setup.bars_folder}: {count_text(sum(counts.values()), 'bar')}\n")


def _doctor_lines(setup: Setup) -> Iterator[str]:
    """Yield the doctor's findings; without keys, only those that need no account."""
    live = LiveSettings.from_config(compose_config("live", setup.overrides()))
    require_alpaca(live.broker)
    if setup.keys is None:
        yield from map(str, run_checks(DoctorContext(live, InputError("no keys")), LOCAL_CHECKS))
        return
    for finding in run_checks(DoctorContext(live, setup.keys)):
        yield setup.keys.redact(str(finding))


def _next_steps(setup: Setup, words: Sequence[str]) -> list[str]:
    """Return the commands to type next."""
    file = setup.folder / SETTINGS_NAME
    steps = [f"The same backtest: kelly-chronos backtest {' '.join(words)}"]
    if setup.keys is not None:
        steps += [
            f"Preview, with the keys in the environment: kelly-chronos trade-stock-e2e preview"
            f" {SETTINGS_FILE}={file}",
            f"Paper trading under systemd: sudo install -D -m 644 {file}"
            f" {INSTALLED / SETTINGS_NAME} && sudo install -m 600 {setup.folder / KEYS_NAME}"
            f" {INSTALLED / KEYS_NAME}, then deploy/kelly-chronos.service",
        ]
    return steps
