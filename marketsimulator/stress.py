"""Stress-test an account: loss, margin calls and liquidations in historical and assumed scenarios.

    python -m marketsimulator.stress RUN [at=worst] [output=DIR] [key=value …]
    python -m marketsimulator.stress account=venue ['data.dir=[DIR]'] [key=value …]

RUN is the folder of a backtest. Its positions at the end are tested, or those at the highest
leverage (at=worst) or at a given time. account=venue tests the account of the API keys in the
environment (paper unless broker.paper=false); it sends no orders. Scenarios are in
configs/stress.yaml; custom_scenarios=[{…}] adds scenarios or replaces those of the same name. In a
scenario with a `day`, a symbol moves as its bars did on that day, if data.dir or the run's data
include it. Margin and liquidation follow the simulator.

The output contains stress.json and stress.html with every scenario.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.stress")

import os
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

from omegaconf import DictConfig, OmegaConf

from foundation.cli import FlagParser, Result
from foundation.compose import compose_config, is_override
from foundation.errors import InputError, invalid_choice_error
from foundation.files import resolve_output
from foundation.settings import setting, settings_class, settings_from_config
from marketsimulator.results.run_folder import RunFolder
from marketsimulator.results.stress.book import (
    OVERRIDABLE_SETTING_GROUPS,
    StressedBook,
    load_account_book,
    load_run_book,
    load_run_settings,
)
from marketsimulator.results.stress.outcomes import StressResult, run_stress
from marketsimulator.results.stress.report import (
    loss_table,
    render_stress_page,
    scenario_table,
    stress_json,
    stress_verdict,
)
from marketsimulator.results.stress.scenarios import Scenario
from marketsimulator.settings import BacktestSettings
from trainingdata.feed.endpoint import ApiKeys, BrokerSettings
from trainingdata.instruments import instrument

STRESS_FILE = "stress.json"


NAMED_STRESS_TIMES = ("end", "worst")  # instants of a run that a stress test takes by name


@settings_class()
class StressSettings:
    """Settings of a stress test: the account or run to test, and the scenarios."""

    account: Literal["venue"] | None = setting(
        None, "`venue`: stress the account at the venue; null: the run that is given"
    )
    at: str = setting(
        "end",
        "time within a run: `end`, `worst` (highest leverage), a New York date, or a"
        " timestamp with a time zone",
    )
    output: str = setting("outputs/stress", "folder for the results")
    broker: BrokerSettings = setting(BrokerSettings(), "connection to the venue")
    scenarios: tuple[Scenario, ...] = setting((), "predefined scenarios")
    custom_scenarios: tuple[Scenario, ...] = setting((), "custom scenarios")

    def __post_init__(self) -> None:
        if self.at not in NAMED_STRESS_TIMES and not self.at[:1].isdecimal():
            raise invalid_choice_error(
                "at",
                self.at,
                NAMED_STRESS_TIMES,
                other_accepted_values="a New York date or a timestamp with a time zone",
            )

    @property
    def all_scenarios(self) -> tuple[Scenario, ...]:
        """Return all scenarios; a custom one replaces a predefined one of the same name."""
        every = (*self.scenarios, *self.custom_scenarios)
        return tuple({scenario.name: scenario for scenario in every}.values())


def run_stress_with_notes(
    settings: StressSettings, book: StressedBook, terms: BacktestSettings
) -> StressResult:
    """Run the stress test; add a note for each custom move of a symbol that has no position.

    book: account to test.
    terms: backtest settings that determine settlement.
    """
    notes = [
        (
            f"custom_scenarios.{each.name}: {symbol} is not in the portfolio, so its move"
            " has no effect"
        )
        for each in settings.custom_scenarios
        for symbol in each.symbols
        if instrument(symbol).symbol not in book.symbols
    ]
    return run_stress(replace(book, notes=(*book.notes, *notes)), settings.all_scenarios, terms)


STRESS_SETTING_NAMES = tuple(each.name for each in fields(StressSettings))


def parse_stress_command(config: DictConfig, words: Sequence[str]) -> Callable[[], StressResult]:
    """Validate a command line and return a function that runs its stress test.

    config: configuration composed from the command line.
    words: arguments: the folder of a run, if any, and key=value overrides.
    """
    settings = settings_from_config(
        StressSettings, OmegaConf.masked_copy(config, list(STRESS_SETTING_NAMES))
    )
    runs = [word for word in words if not is_override(word)]
    if len(runs) != (settings.account is None):
        named = ", ".join(runs) or "none"
        raise InputError(
            "RUN: expected the folder of one backtest, or account=venue without a"
            f" folder; got {named}"
        )
    if runs:
        run = RunFolder(Path(runs[0]).expanduser())
        terms = load_run_settings(run, _run_overrides(config, words))
        return lambda: run_stress_with_notes(
            settings, load_run_book(run, settings.at, terms), terms
        )
    if settings.at != "end":
        raise InputError(
            f"at: {settings.at} only applies to a run; an account is always stressed at its"
            " current state; remove at"
        )
    names = {each.name for each in fields(BacktestSettings)} - {"output"}
    terms = BacktestSettings.from_config(OmegaConf.masked_copy(config, sorted(names)))
    keys = ApiKeys.from_environment(os.environ)
    return lambda: run_stress_with_notes(
        settings, load_account_book(settings.broker, keys, terms), terms
    )


def _run_overrides(config: DictConfig, words: Sequence[str]) -> DictConfig:
    """Return those settings of the tested run that the command line overrides.

    Raises `InputError` for a setting that cannot be changed.
    """
    changes = OmegaConf.create()
    for word in filter(is_override, words):
        key = word.lstrip("+").partition("=")[0]
        group = key.partition(".")[0]
        if group in OVERRIDABLE_SETTING_GROUPS:
            OmegaConf.update(changes, key, OmegaConf.select(config, key), force_add=True)
        elif group not in (*STRESS_SETTING_NAMES, "overwrite"):
            changeable = ", ".join(OVERRIDABLE_SETTING_GROUPS)
            raise InputError(
                f"{key}: cannot be changed, because the run's own settings apply; only"
                f" {changeable} can be changed"
            )
    return changes


def parse_arguments(words: Sequence[str]) -> tuple[Callable[[], StressResult], Path]:
    """Parse the command line; return a function that runs the stress test, and its output folder.

    The folder has been checked to be writable.
    """
    parser = FlagParser()
    parser.add_argument("words", nargs="*", metavar="RUN, key=value")
    named: list[str] = parser.parse_args(list(words)).words
    config = compose_config("stress", [word for word in named if is_override(word)])
    output = resolve_output(config, STRESS_FILE, ("book", "scenarios"))
    return parse_stress_command(config, named), output


def run(settings: Callable[[], StressResult]) -> Result:
    """Run a stress test; return its verdict, tables, page and `stress.json`.

    settings: function that runs the test.
    """
    found = settings()
    text, page = stress_json(found), render_stress_page(found)
    return Result(
        [*stress_verdict(found), scenario_table(found), loss_table(found)],
        found.book.notes,
        {
            "stress.html": lambda path: path.write_text(page, encoding="utf-8"),
            STRESS_FILE: lambda path: path.write_text(text, encoding="utf-8"),
        },
    )
