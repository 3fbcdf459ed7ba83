"""Questions a backtest has to answer before its figures mean anything, for any configuration.

    python -m marketsimulator.audit look_ahead …  does the future reach a decision?
    python -m marketsimulator.audit lag …        what is left where every forecast is a bar older?
    python -m marketsimulator.audit costs …      what is left at 0, 1, 2 and 4 times the costs?
    python -m marketsimulator.audit forecast …   what does a random walk, a shuffle, an oracle earn?

Settings are those of configs/backtest.yaml. `look_ahead` ends with exit code 1 where a decision
moved.
"""

from __future__ import annotations

from foundation.command import start

if __name__ == "__main__":
    start("marketsimulator.audit")

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from rich.table import Table

from execution.beliefs import BeliefTable
from execution.decision import Choice, Decision
from execution.records import Run
from forecasting.baseline import Oracle, RandomWalk
from forecasting.forecast import HORIZON, Forecaster, Progress, silent
from foundation.command import Result
from foundation.compose import composed_config
from foundation.counts import counted
from foundation.errors import InputError, nearest_or_all
from marketsimulator.results.counterfactuals import (
    lagged_beliefs,
    scrambled_bars,
    shuffled_beliefs,
    truncated_bars,
    with_scaled_costs,
)
from marketsimulator.results.variant_table import (
    figure_heading,
    figure_text,
    figures_table,
    table_rows,
)
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.correlation import KeptCorrelations
from trainingdata.instants import utc_text

CUTS = 8  # instants at which the future is changed
BEFORE = np.timedelta64(20, "D")  # of decisions compared
AFTER = np.timedelta64(5, "D")  # of future that is changed
ENOUGH = 0.5  # of a symbol's decisions that the oracle has to forecast
SCALES = (0.0, 1.0, 2.0, 4.0)  # multiples of the costs
COLUMNS = (
    *("total_return", "annual_return", "volatility", "sharpe", "max_drawdown"),
    *("turnover", "costs", "trades"),
)

Cases = Sequence[tuple[str, BacktestSettings, BeliefTable]]  # name of a run, and what it runs on
Rows = list[dict[str, Any]]  # figures of a run by name, and a note on it, a row a run


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at what a changed future does.

    cut: instant from which on the future is changed.
    future: how it is changed.
    compared: number of decisions by then.
    moved: the first decision or fill that is another one, in words; empty if none.
    """

    cut: np.datetime64
    future: str
    compared: int
    moved: str


@dataclass(frozen=True, eq=False, slots=True)
class Setup:
    """A configuration with its panel.

    settings: of a backtest.
    bars: up to the end of the run.
    first: number of the instant that the run begins at.
    correlations: of these bars, estimated once for all that is forecast.
    """

    settings: BacktestSettings
    bars: Bars
    first: int
    correlations: KeptCorrelations

    @classmethod
    def of(cls, settings: BacktestSettings) -> Setup:
        """The panel the settings ask for.

        Raises
        ------
        InputError
            for settings or data that cannot be used.
        """
        bars, begin = settings.panel()
        if len(bars.times) - begin < 2:
            raise InputError(f"start, end: only one bar becomes known, at {utc_text(bars.now)}")
        return cls(settings, bars, begin, KeptCorrelations(settings.correlation.source()))

    def belief_table(self, forecaster: Forecaster, progress: Progress = silent) -> BeliefTable:
        """What a trader with this forecaster believes over the run."""
        trader = replace(self.settings.trader(forecaster), correlations=self.correlations)
        return self.settings.belief_table(trader, self.bars, self.first, progress)

    def configured_forecaster(self) -> Forecaster:
        """The forecaster of the settings."""
        return self.settings.forecaster.build(self.bars.symbols)


def look_ahead(setup: Setup, progress: Progress = silent) -> list[Probe]:
    """Decide up to several instants with the true future, with none, with another one; compare.

    Each comparison starts an account some days before the instant. Whatever differs in a decision
    by then, or in a fill before it, has read the future.
    """
    times = setup.bars.times
    # Cuts at even distances, none at the ends: both sides of each hold bars.
    cuts = np.unique(np.linspace(setup.first, len(times) - 2, CUTS + 2).astype(int)[1:-1])
    probes: list[Probe] = []
    for done, row in enumerate(cuts, 1):
        cut = np.datetime64(times[row])
        edges = np.array([cut - BEFORE, cut + AFTER], dtype="datetime64[ns]")
        begin, end = np.searchsorted(times, edges, side="right").tolist()
        begin = max(setup.first, begin)
        window = setup.bars.between(0, end)
        scrambled = scrambled_bars(window, cut, setup.settings.seed)
        futures = {"none": truncated_bars(scrambled, cut), "scrambled": scrambled}
        truth = _run_window(setup, window, begin)
        for name, bars in futures.items():
            compared, moved = _first_difference(truth, _run_window(setup, bars, begin), cut)
            probes.append(Probe(cut, name, compared, moved))
        progress("instants", done, len(cuts))
    return probes


def lag(setup: Setup, progress: Progress = silent) -> Rows:
    """The run as it is, and with every forecast one of its symbol's decisions older."""
    beliefs = setup.belief_table(setup.configured_forecaster(), progress)
    settings = setup.settings
    cases = [
        ("as it is", settings, beliefs),
        ("one bar later", settings, lagged_beliefs(beliefs)),
    ]
    return _figures_rows(setup, cases)


def costs(setup: Setup, progress: Progress = silent) -> Rows:
    """The run at several multiples of every cost.

    Costs are spread, slippage, impact, fees, commissions, interest and borrow.
    """
    beliefs = setup.belief_table(setup.configured_forecaster(), progress)
    cases = [
        (f"{scale:g} x costs", with_scaled_costs(setup.settings, scale), beliefs)
        for scale in SCALES
    ]
    return _figures_rows(setup, cases)


def forecast(setup: Setup, progress: Progress = silent) -> Rows:
    """The run, and the same on a shuffled forecast, on a random walk, and on an oracle."""
    settings = setup.settings
    forecaster = setup.configured_forecaster()
    beliefs = setup.belief_table(forecaster, progress)
    walk = RandomWalk(context_length=settings.forecaster.context_length)
    on_walk, on_oracle = setup.belief_table(walk), setup.belief_table(Oracle(walk))
    cases = [
        (forecaster.name, settings, beliefs),
        ("shuffled in time", settings, shuffled_beliefs(beliefs, settings.seed)),
        ("random walk", settings, on_walk),
        ("oracle: reads the future, no result", settings, on_oracle),
    ]
    rows = _figures_rows(setup, cases)
    rows[-1]["note"] = oracle_note(on_walk, on_oracle)
    return rows


def oracle_note(walk: BeliefTable, oracle: BeliefTable) -> str:
    """How many of the decisions the oracle forecasts, and whether that is enough to judge by.

    walk: beliefs on a random walk, which forecasts every decision of the same run.
    """
    possible, known = walk.deciding.sum(axis=0), oracle.deciding.sum(axis=0)
    text = (
        f"The oracle forecasts {known.sum():,} of {counted(int(possible.sum()), 'decision')}"
        f" ({known.sum() / max(possible.sum(), 1):.0%}): none at the last {HORIZON} bars of each"
        " symbol, whose future lies beyond the data."
    )
    few = [name for name, bad in zip(walk.symbols, known < ENOUGH * possible, strict=True) if bad]
    if few:
        text += (
            f" Too short to judge by: it forecasts less than {ENOUGH:.0%} of those of"
            f" {', '.join(few)}; name an earlier start."
        )
    return text


def _figures_rows(setup: Setup, cases: Cases) -> Rows:
    rows = []
    for name, settings, beliefs in cases:
        results = outcomes([settings], setup.bars, beliefs, setup.first)
        table = figures_table([({"run": name}, settings)], results, setup.bars, setup.first)
        rows += [{**row, "note": ""} for row in table_rows(table)]
    return rows


def _run_window(setup: Setup, bars: Bars, first: int) -> Run:
    """The configured trader over a panel, with an account that begins at instant number `first`."""
    trader = setup.settings.trader(setup.settings.forecaster.build(bars.symbols))
    prepared = setup.settings.trader_with_beliefs(trader, bars, first)
    return simulate_trading(setup.settings, bars, first, "audit", prepared, level=logging.NOTSET)


def _first_difference(truth: Run, other: Run, cut: np.datetime64) -> tuple[int, str]:
    """Number of decisions by the cut, and the first of them, or fill before it, that moved."""
    true_decisions = [decision for decision in truth.decisions if decision.at <= cut]
    decisions = [decision for decision in other.decisions if decision.at <= cut]
    compared = len(true_decisions)
    for before, after in zip(true_decisions, decisions, strict=False):
        if before != after:
            return compared, _decision_difference(before, after)
    if len(decisions) != compared:
        return compared, f"{compared} decisions became {len(decisions)}"
    # An order decided at the cut fills at the open of a bar that starts then: only the fills before
    # it have happened.
    true_fills = [fill for fill in truth.fills if fill.booked_at < cut]
    fills = [fill for fill in other.fills if fill.booked_at < cut]
    for true_fill, fill in zip(true_fills, fills, strict=False):
        if true_fill != fill:
            return compared, f"the fill of {true_fill.client_order_id}"
    return compared, "a fill" if len(true_fills) != len(fills) else ""


def _decision_difference(before: Decision, after: Decision) -> str:
    """Which choice moved first, and what about it."""
    for true_choice, choice in zip(before.choices, after.choices, strict=False):
        if true_choice == choice:
            continue
        for name in Choice._fields:
            true_value = getattr(true_choice, name)
            value = getattr(choice, name)
            if true_value != value:
                at = utc_text(before.at)
                return f"{at} {true_choice.symbol}: {name} {true_value} became {value}"
    return f"{utc_text(min(before.at, after.at))}: who decides, or the account"


def _probes_result(probes: Sequence[Probe]) -> Result:
    """The probes and what they say; exit code 1 where anything moved."""
    headings = ("future changed after", "to", "decisions compared", "first that moved")
    table = Table(*headings, title="look_ahead")
    for probe in probes:
        table.add_row(utc_text(probe.cut), probe.future, str(probe.compared), probe.moved or "none")
    moved = any(probe.moved for probe in probes)
    verdict = "The future reaches decisions." if moved else "No decision and no fill moved."
    return Result([table], [verdict], code=1 if moved else 0)


def _rows_result(name: str, rows: Rows) -> Result:
    table = Table("run", *map(figure_heading, COLUMNS), title=name)
    for row in rows:
        table.add_row(row["run"], *(figure_text(row, column) for column in COLUMNS))
    return Result([table], [row["note"] for row in rows if row["note"]])


AUDITS: dict[str, Callable[[Setup, Progress], Rows]] = {
    "lag": lag,
    "costs": costs,
    "forecast": forecast,
}


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Which question is asked of which configuration."""

    name: str
    backtest: BacktestSettings


def read(words: Sequence[str]) -> tuple[AuditSettings, None]:
    """The question comes first, then settings; an audit leaves no files."""
    name = words[0] if words else ""
    if name not in ("look_ahead", *AUDITS):
        names = ("look_ahead", *AUDITS)
        hint = nearest_or_all(name, names) if name else f"; name one: {', '.join(names)}"
        raise InputError(
            f"audit: {name!r} is none{hint}; its name comes first, then key=value settings"
        )
    # An audit is no trial: it leaves nothing in the ledger.
    config = composed_config("backtest", ["output=none", "trials=null", *words[1:]])
    return AuditSettings(name, BacktestSettings.of(config)), None


def run(settings: AuditSettings, progress: Progress) -> Result:
    """The answer to one question."""
    setup = Setup.of(settings.backtest)
    if settings.name == "look_ahead":
        result = _probes_result(look_ahead(setup, progress))
    else:
        result = _rows_result(settings.name, AUDITS[settings.name](setup, progress))
    source = f"{setup.bars.source}; {', '.join(setup.bars.symbols)}"
    return replace(result, sentences=[*result.sentences, source])
