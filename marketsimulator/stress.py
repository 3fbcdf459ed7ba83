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

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from execution.run_folder import RunFolder
from foundation.command import Result, is_override
from foundation.compose import composed_config
from foundation.configuration import may_overwrite, settings_of
from foundation.errors import InputError, nearest_or_all
from foundation.files import check_file, check_output, is_of_an_earlier_run
from foundation.flags import Parser
from foundation.settings import setting, settings_class
from marketsimulator.results.stress_book import CHANGEABLE, account_book, run_book, run_settings
from marketsimulator.results.stress_outcomes import Stress, stress
from marketsimulator.results.stress_report import stress_json, stress_page, stress_parts
from marketsimulator.results.stress_scenarios import Scenario
from marketsimulator.settings import BacktestSettings
from trainingdata.feed.endpoint import BrokerSettings, Keys

JSON, PAGE = "stress.json", "stress.html"


@settings_class()
class StressSettings:
    """What is put under stress."""

    account: Literal["venue"] | None = setting(
        None, "`venue`: the account there; none: the run that is named"
    )
    at: str = setting(
        "end", "of a run: `end`, `worst` (most leverage), a New York date or an instant with a zone"
    )
    only: tuple[str, ...] = setting((), "names of scenarios; none means all")
    output: str | None = setting(
        None, "folder; none: the run's, or outputs/stress-TIME of an account"
    )
    broker: BrokerSettings = setting(BrokerSettings(), "how the venue is reached")
    scenarios: tuple[Scenario, ...] = setting((), "what may happen")
    own: tuple[Scenario, ...] = setting((), "scenarios of the user's")

    @classmethod
    def of(cls, config: DictConfig) -> StressSettings:
        """The checked settings of a composed configuration."""
        names = [each.name for each in fields(cls)]
        return settings_of(cls, OmegaConf.masked_copy(config, names))

    @property
    def chosen(self) -> tuple[Scenario, ...]:
        """The scenarios that are wanted, in the order in which they are defined."""
        every = (*self.scenarios, *self.own)
        names = [scenario.name for scenario in every]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"own: {name} is the name of two scenarios; give yours another")
        for name in self.only:
            if name not in names:
                hint = nearest_or_all(name, names)
                raise InputError(f"only: there is no scenario {name!r}{hint}")
        if not every:
            raise InputError("scenarios: there is none")
        for scenario in every:
            if scenario.moves_nothing:
                raise InputError(
                    f"own: {scenario.name} moves nothing; give stocks, shorts, coins, symbols, day,"
                    " halted, or correlation and deviations"
                )
        return tuple(each for each in every if not self.only or each.name in self.only)


@dataclass(frozen=True, slots=True)
class StressRequest:
    """What is put under stress, by which scenarios, and the terms that it is settled by.

    run: whose book it is; none is the account at the venue.
    """

    settings: StressSettings
    scenarios: tuple[Scenario, ...]
    run: RunFolder | None
    terms: BacktestSettings

    @classmethod
    def of(cls, config: DictConfig, words: Sequence[str]) -> StressRequest:
        """What the words of a command line ask for; config: composed of those that are settings."""
        settings = StressSettings.of(config)
        runs = [word for word in words if not is_override(word)]
        if settings.account is None:
            if len(runs) != 1:
                found = f"{len(runs)} are named" if runs else "none is named"
                raise InputError(
                    f"RUN: {found}; name the folder of a backtest, or say account=venue"
                )
            run = RunFolder(Path(runs[0]).expanduser())
            terms = run_settings(run, _changes(config, words))
            return cls(settings, settings.chosen, run, terms)
        if runs:
            raise InputError(f"RUN: {runs[0]} is named beside account=venue; leave one of them")
        if settings.at != "end":
            raise InputError(f"at: {settings.at} is of a run; an account is read as it is now")
        names = {each.name for each in fields(BacktestSettings)} - {"output"}
        terms = BacktestSettings.of(OmegaConf.masked_copy(config, sorted(names)))
        return cls(settings, settings.chosen, None, terms)

    def result(self) -> Stress:
        """The book under the scenarios."""
        if self.run is None:
            book = account_book(self.settings.broker, Keys.of(os.environ), self.terms)
        else:
            book = run_book(self.run, self.settings.at, self.terms)
        return stress(book, self.scenarios, self.terms)


def _changes(config: DictConfig, words: Sequence[str]) -> DictConfig:
    """What the words of a command line change of a run's own settings."""
    changes = OmegaConf.create()
    for word in filter(is_override, words):
        key = word.lstrip("+").partition("=")[0]
        group = key.partition(".")[0]
        if group in CHANGEABLE:
            OmegaConf.update(changes, key, OmegaConf.select(config, key), force_add=True)
        elif group not in {each.name for each in fields(StressSettings)} | {"overwrite"}:
            changeable = ", ".join(CHANGEABLE)
            raise InputError(f"{key}: a run has its own; of {changeable} it may be changed here")
    return changes


def read(words: Sequence[str]) -> tuple[StressRequest, Path]:
    """What is put under stress, and the folder of the files once they may be written there."""
    parser = Parser()
    parser.add_argument("words", nargs="*", metavar="RUN, key=value")
    named: list[str] = parser.parse_args(list(words)).words
    config = composed_config("stress", [word for word in named if is_override(word)])
    overwrite = may_overwrite(config)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    output = Path(str(config.output or f"outputs/stress-{stamp}")).expanduser()
    if config.output is not None:
        check_output(output, JSON, overwrite=overwrite)
    request = StressRequest.of(config, named)
    if config.output is None and request.run is None:
        check_output(output, JSON, overwrite=overwrite)
    elif config.output is None and request.run is not None:
        output = request.run.path
        check_file(output / PAGE, "output")
        ours = partial(is_of_an_earlier_run, mark=JSON)
        check_file(output / JSON, "output", ours, overwrite=overwrite)
    return request, output


def run(settings: StressRequest) -> Result:
    """What the book would lose, its page and its figures."""
    found = settings.result()
    text = stress_json(found)
    page = stress_page(found)
    return Result(
        tables=list(stress_parts(found)),
        files={
            JSON: lambda path: path.write_text(text, encoding="utf-8"),
            PAGE: lambda path: path.write_text(page, encoding="utf-8"),
        },
    )
