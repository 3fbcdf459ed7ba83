"""What a book would lose on bad days, whether the broker would call, and what it would close.

    python -m marketsimulator.stress RUN [at=worst] [only=[gap,coin]] [output=DIR] [key=value …]
    python -m marketsimulator.stress account=venue ['data.dir=[DIR]'] [key=value …]

RUN is the folder of a backtest: its book at the end, at=worst that with the most leverage, or at an
instant. The account is the one that the keys in the environment open, paper unless
broker.paper=false; it is read, and nothing is sent. Scenarios are in configs/stress.yaml; own=[{…}]
adds some. On a day that has a name a symbol's own bars decide, where data.dir or the run's data
hold it. Margin and liquidation are the simulator's settlement.

stress.html and stress.json are left in RUN, of an account in outputs/stress-TIME.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("marketsimulator.stress")

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from forecasting.forecast import Progress, silent
from foundation.command import Result, is_override
from foundation.compose import composed_config
from foundation.configuration import may_overwrite, settings_of
from foundation.earlier_runs import is_of_an_earlier_run
from foundation.errors import InputError
from foundation.files import check_file, check_output
from foundation.flags import Parser
from foundation.settings import setting, settings_class
from marketsimulator.results.stress_account import account_book
from marketsimulator.results.stress_book import CHANGEABLE, run_book
from marketsimulator.results.stress_outcomes import Stress, stress
from marketsimulator.results.stress_report import stress_page, stress_parts
from marketsimulator.results.stress_scenarios import Scenario, chosen_scenarios
from marketsimulator.results.stress_settlement import SettlementTerms
from marketsimulator.results.stress_words import stress_json
from marketsimulator.settings import BacktestSettings
from trainingdata.feed.endpoint import BrokerSettings, Keys

JSON, PAGE = "stress.json", "stress.html"


@settings_class()
class StressSettings:
    """What is put under stress."""

    account: Literal["venue"] | None = setting(
        None, "`venue` for the account at the venue; none for the run that is named"
    )
    at: str = setting(
        "end",
        "of a run: `end`, `worst` for the most leverage, a New York date or an instant with a zone",
    )
    only: tuple[str, ...] = setting((), "names of scenarios; none means all")
    output: str | None = setting(
        None, "folder; none means that of the run, or outputs/stress-TIME of an account"
    )
    broker: BrokerSettings = setting(BrokerSettings(), "how the venue is reached")
    scenarios: tuple[Scenario, ...] = setting((), "what may happen")
    own: tuple[Scenario, ...] = setting((), "scenarios of the user's")

    @classmethod
    def of(cls, config: DictConfig) -> StressSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        names = [each.name for each in fields(cls)]
        return settings_of(cls, OmegaConf.masked_copy(config, names))

    @property
    def chosen(self) -> tuple[Scenario, ...]:
        """The scenarios that are wanted.

        Raises
        ------
        InputError
            for a name that none has, or two have.
        """
        return chosen_scenarios((*self.scenarios, *self.own), self.only)


def run_changes(config: DictConfig, words: Sequence[str]) -> DictConfig:
    """What the words of a command line change of a run's own settings.

    Raises
    ------
    InputError
        for a word that changes what has happened in the run already.
    """
    changes = OmegaConf.create()
    for word in words:
        key = word.lstrip("+").partition("=")[0]
        group = key.partition(".")[0]
        if group in {each.name for each in fields(StressSettings)} | {"overwrite"}:
            continue
        if group not in CHANGEABLE:
            raise InputError(
                f"{key}: a run has its own; of {', '.join(CHANGEABLE)} it may be changed here"
            )
        OmegaConf.update(changes, key, OmegaConf.select(config, key), force_add=True)
    return changes


def stressed(
    config: DictConfig,
    settings: StressSettings,
    run: Path | None,
    words: Sequence[str],
    progress: Progress = silent,
) -> Stress:
    """The book of a run, or of the account where none is named, under the chosen scenarios.

    Raises
    ------
    InputError
        for what cannot be used; the message names it.
    """
    chosen = settings.chosen
    if run is None:
        keys = Keys.of(os.environ)
        names = {each.name for each in fields(BacktestSettings)} - {"output"}
        simulation = BacktestSettings.of(OmegaConf.masked_copy(config, sorted(names)))
        book = account_book(settings.broker, keys, simulation)
    else:
        book, simulation = run_book(run, settings.at, run_changes(config, words))
    window = simulation.correlation.session_window
    return stress(book, chosen, SettlementTerms.of(simulation), window, progress)


def named_run(words: Sequence[str], settings: StressSettings) -> Path | None:
    """The run that the words name; none where it is the account.

    Raises
    ------
    InputError
        unless it is one of the two.
    """
    runs = [word for word in words if not is_override(word)]
    if settings.account is None and len(runs) == 1:
        return Path(runs[0]).expanduser()
    if settings.account is None:
        said = f"RUN: {len(runs)} are named" if runs else "RUN: none is named"
        raise InputError(f"{said}; name the folder of a backtest, or say account=venue")
    if runs:
        raise InputError(f"RUN: {runs[0]} is named beside account=venue; leave one of them")
    if settings.at != "end":
        raise InputError(f"at: {settings.at} is of a run; an account is read as it is now")
    return None


def _output(config: DictConfig, settings: StressSettings, run: Path | None) -> Path:
    """The folder of the files, once they may be written there."""
    if run is not None and settings.output is None:
        check_file(run / PAGE, "output")
        check_file(
            run / JSON,
            "output",
            lambda path: is_of_an_earlier_run(path, JSON),
            overwrite=may_overwrite(config),
        )
        return run
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    output = Path(settings.output or f"outputs/stress-{stamp}").expanduser()
    check_output(output, JSON, overwrite=may_overwrite(config))
    return output


@dataclass(frozen=True, slots=True)
class StressRequest:
    """What is put under stress, of which run, none being the account, and as which words say."""

    config: DictConfig
    settings: StressSettings
    run: Path | None
    words: Sequence[str]


def read(words: Sequence[str]) -> tuple[StressRequest, Path]:
    """The run's folder among the words, and settings."""
    parser = Parser()
    parser.add_argument("words", nargs="*", metavar="RUN, key=value")
    named: list[str] = parser.parse_args(list(words)).words
    overrides = [word for word in named if is_override(word)]
    config = composed_config("stress", overrides)
    settings = StressSettings.of(config)
    run = named_run(named, settings)
    request = StressRequest(config, settings, run, overrides)
    return request, _output(config, settings, run)


def run(settings: StressRequest, progress: Progress) -> Result:
    """What the book would lose, its page and its figures."""
    found = stressed(settings.config, settings.settings, settings.run, settings.words, progress)
    text = json.dumps(stress_json(found), indent=1, allow_nan=False) + "\n"
    page = stress_page(found)
    return Result(
        tables=list(stress_parts(found)),
        files={
            JSON: lambda path: path.write_text(text, encoding="utf-8"),
            PAGE: lambda path: path.write_text(page, encoding="utf-8"),
        },
    )
