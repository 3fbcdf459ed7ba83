"""Audit a backtest for look-ahead bias, or for dependence on the start of the data.

    python -m marketsimulator.audit look_ahead …  do future bars change a decision?
    python -m marketsimulator.audit begin …       does an earlier start of the bars change one?

Settings are those of configs/backtest.yaml. `look_ahead` exits with code 1 if a decision or fill
changed.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.audit")

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from execution.decision.decision import Decision
from forecasting.forecast import Progress, no_progress
from foundation.cli import Result
from foundation.compose import compose_config
from foundation.errors import InputError, invalid_choice_error
from foundation.tables import Table
from marketsimulator.results.altered_bars import (
    delist_random_symbols,
    drop_later_bars,
    scramble_later_bars,
)
from marketsimulator.run_result import Run
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import format_utc
from trainingdata.market import Market

AUDIT_NAMES = ("look_ahead", "begin")
AUDIT_CUTOFF_COUNT = 8  # instants up to which decisions are compared
COMPARED_HISTORY_LENGTH = np.timedelta64(20, "D")  # length of the compared history
CHANGED_FUTURE_LENGTH = np.timedelta64(5, "D")  # length of the changed future


@dataclass(frozen=True, slots=True)
class AuditCheck:
    """Comparison of the decisions up to a cutoff, on the original and on changed bars.

    cutoff: decisions up to this instant are compared.
    bar_change: kind of change of the bars.
    compared_decision_count: number of compared decisions.
    first_difference: description of the first decision or fill that changed; empty if none.
    """

    cutoff: np.datetime64
    bar_change: str
    compared_decision_count: int
    first_difference: str


def audit_windows(market: Market) -> Iterator[tuple[np.datetime64, Market]]:
    """Yield evenly spaced cutoffs, each with the part of the market that is simulated around it.

    The part starts some days before the cutoff and ends some days after it.
    """
    bars, first = market.bars, market.start_row
    last = len(bars.times) - 1
    if first == last:
        raise InputError(
            "start, end: the audit needs at least two bars in the window, but the only"
            f" one closes at {format_utc(bars.last_instant)}; choose an earlier start or"
            " a later end"
        )
    for row in np.unique(np.linspace(first, last - 1, AUDIT_CUTOFF_COUNT + 2).astype(int)[1:-1]):
        cut = np.datetime64(bars.times[row])
        edges = np.array(
            [cut - COMPARED_HISTORY_LENGTH, cut + CHANGED_FUTURE_LENGTH], dtype="datetime64[ns]"
        )
        begin, end = np.searchsorted(bars.times, edges, side="right").tolist()
        yield cut, replace(market, bars=bars.slice_rows(0, end), start_row=max(first, begin))


def check_look_ahead(
    settings: BacktestSettings, market: Market, progress: Progress = no_progress
) -> list[AuditCheck]:
    """Check for look-ahead bias: see whether changes of future bars change earlier decisions.

    For each of several cutoffs the later bars are removed, scrambled, or ended by delistings. Two
    accounts, one on the original and one on the changed bars, start some days before the cutoff. A
    decision or fill before the cutoff that differs between them depends on future bars.
    """
    probes: list[AuditCheck] = []
    for done, (cut, window) in enumerate(audit_windows(market), 1):
        scrambled = scramble_later_bars(window.bars, cut, settings.seed)
        futures = {
            "no future": window.with_bars(drop_later_bars(scrambled, cut)),
            "another future": window.with_bars(scrambled),
            "ended symbols": delist_random_symbols(window, cut, settings.seed),
        }
        truth = _run_window(settings, window)
        for name, market_then in futures.items():
            other = _run_window(settings, market_then)
            probes.append(AuditCheck(cut, name, *_first_difference(truth, other, cut)))
        progress("instants", done, AUDIT_CUTOFF_COUNT)
    return probes


def check_history_start(
    settings: BacktestSettings, market: Market, progress: Progress = no_progress
) -> list[AuditCheck]:
    """Check whether decisions depend on where the bars start.

    Two accounts start at the same instant; the second has no bars in the first half of the history.
    Their decisions differ only if the forecaster learns from its whole past, or if the history that
    it reads is longer than the remaining half.
    """
    probes: list[AuditCheck] = []
    for done, (cut, window) in enumerate(audit_windows(market), 1):
        later = window.bars.slice_rows(window.start_row // 2, len(window.bars.times))
        truth, other = (_run_window(settings, each) for each in (window, window.with_bars(later)))
        since = f"bars from {format_utc(later.times[0])}"
        probes.append(AuditCheck(cut, since, *_first_difference(truth, other, cut)))
        progress("instants", done, AUDIT_CUTOFF_COUNT)
    return probes


def _run_window(settings: BacktestSettings, market: Market) -> Run:
    trader = settings.build_trader(settings.forecaster.build(market.bars.symbols)).with_beliefs(
        market
    )
    return simulate_trading(settings, market, "audit", trader, log_level=logging.NOTSET)


def _first_difference(truth: Run, other: Run, cut: np.datetime64) -> tuple[int, str]:
    """Return the number of decisions up to `cut`, and a text on the first one that changed.

    If no decision changed, the text describes the first changed fill; it is empty if none changed.
    """
    true_decisions = [decision for decision in truth.decisions if decision.at <= cut]
    decisions = [decision for decision in other.decisions if decision.at <= cut]
    compared = len(true_decisions)
    for before, after in zip(true_decisions, decisions, strict=False):
        if repr(before) != repr(after):  # in which NaN equals NaN
            return compared, _decision_difference(before, after)
    if len(decisions) != compared:
        return compared, f"{compared} decisions became {len(decisions)}"
    # An order decided at the cut fills at the open of a bar that starts then: only the fills before
    # it have happened.
    true_fills = [fill for fill in truth.fills if fill.booked_at < cut]
    fills = [fill for fill in other.fills if fill.booked_at < cut]
    for true_fill, fill in zip(true_fills, fills, strict=False):
        if true_fill != fill:
            return compared, f"the fill of order {true_fill.client_order_id} changed"
    return compared, "the number of fills changed" if len(true_fills) != len(fills) else ""


def _decision_difference(before: Decision, after: Decision) -> str:
    """Describe the first symbol and field in which two decisions differ."""
    for true_choice, choice in zip(before.choices, after.choices, strict=False):
        if repr(true_choice) == repr(choice):
            continue
        parts = [each._asdict() | each.rationale._asdict() for each in (true_choice, choice)]
        for name, true_value in parts[0].items():
            value = parts[1][name]
            if name != "rationale" and repr(true_value) != repr(value):
                at = format_utc(before.at)
                return f"{at} {true_choice.symbol}: {name} {true_value} became {value}"
    return f"{format_utc(min(before.at, after.at))}: the deciding symbols or the account changed"


def _audit_result(question: str, probes: Sequence[AuditCheck]) -> Result:
    """Return the verdict and the table of checks; exit code 1 if future bars changed a decision.

    question: name of the audit.
    """
    headings = ("decisions until", "changed bars", "decisions", "first change")
    rows = [
        (
            format_utc(probe.cutoff),
            probe.bar_change,
            str(probe.compared_decision_count),
            probe.first_difference or "none",
        )
        for probe in probes
    ]
    table = Table(question, headings, rows, left_aligned_columns=(1, 3))
    if not any(probe.first_difference for probe in probes):
        return Result([f"{question}: no decision or fill changed.", table])
    if question == "look_ahead":
        return Result(["Look-ahead bias: future bars change decisions.", table], exit_code=1)
    return Result(["Decisions depend on the first bar of the data.", table])


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """Settings of an audit: its name (one of `AUDIT_NAMES`) and the settings of the backtest."""

    audit_name: str
    backtest_settings: BacktestSettings


def parse_arguments(words: Sequence[str]) -> tuple[AuditSettings, None]:
    """Parse the command line, an audit name followed by settings; return the settings and None.

    The second element is the output folder of other commands; an audit writes none.
    """
    name = words[0] if words else ""
    if name not in AUDIT_NAMES:
        raise invalid_choice_error("audit", name, AUDIT_NAMES)
    # An audit is not a trial: it leaves nothing in the ledger.
    config = compose_config("backtest", ["output=none", "trials=null", *words[1:]])
    settings = BacktestSettings.from_config(config)
    if settings.data.execution_bars:
        raise InputError(
            "data.execution_bars: not supported by audits, which change decision bars only;"
            " remove data.execution_bars"
        )
    if name == "look_ahead" and settings.forecaster.kind == "file":
        raise InputError(
            "forecaster: look_ahead cannot audit forecaster=file, because the file's forecasts do"
            " not change when it changes later bars; check in the program that writes the file that"
            " a forecast reads no bar after its issued_at, or run that program as"
            " forecaster._target_=module.Class"
        )
    return AuditSettings(name, settings), None


def run(settings: AuditSettings, progress: Progress) -> Result:
    """Run the audit and return its result."""
    market = settings.backtest_settings.load_market()
    ask = check_look_ahead if settings.audit_name == "look_ahead" else check_history_start
    result = _audit_result(settings.audit_name, ask(settings.backtest_settings, market, progress))
    source = f"{market.bars.source}; {', '.join(market.bars.symbols)}"
    return replace(result, closing_lines=[*result.closing_lines, source])
