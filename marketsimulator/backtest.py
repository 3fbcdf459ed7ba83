"""Run a backtest: step through the bars, decide, record, submit.

    python -m marketsimulator.backtest [key=value …]    --cfg job prints every setting

Decisions come from `Trader.decide`, as in live trading; the simulated broker takes the place of the
real one.
"""

from __future__ import annotations

from foundation.cli import run_command

if __name__ == "__main__":
    run_command("marketsimulator.backtest")

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import yaml

from forecasting.forecast import NO_FORECAST, Progress, mark_as_look_ahead, no_progress
from forecasting.settings import format_computation_device
from foundation.cli import Result
from foundation.compiled import compile_in_background
from foundation.console import open_terminal, print_renderables
from foundation.errors import InputError
from foundation.files import OVERWRITE_ARGUMENT
from marketsimulator.results.benchmark import read_benchmark
from marketsimulator.results.forecast_outcomes import forecasts_contain_future
from marketsimulator.results.remarks import data_warning_remarks
from marketsimulator.results.report import format_settings, result_file_writers, terminal_parts
from marketsimulator.results.run_folder import CONFIG_FILE, SUMMARY_FILE, RunFolder
from marketsimulator.results.run_record import flatten_settings, format_setting_value
from marketsimulator.results.summary import BacktestResults, run_baselines
from marketsimulator.results.trials import NO_LEDGER_NOTE, check_ledger, record_trials
from marketsimulator.runs.simulate import simulate_trading
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.correlation import CachedCorrelations
from trainingdata.coverage import coverage_report
from trainingdata.instants import format_utc
from trainingdata.market import Market

log = logging.getLogger("marketsimulator")

MAX_CHANGES_NAMED = 3  # settings that a message names


def _ignore_market(_: Market) -> None:
    """Ignore the market; the default of `show`."""


def run_backtest(
    settings: BacktestSettings,
    progress: Progress = no_progress,
    show_market: Callable[[Market], object] = _ignore_market,
) -> BacktestResults:
    """Run the configured trader, the same trader without forecasts, and buy and hold.

    The lead over the no-forecast baseline measures the value of the forecast; the lead over buy and
    hold measures the value of trading. The run is recorded in the trial ledger, if the settings
    name one.

    show_market: function called with the market once its bars are loaded, for example to print
        them.

    Raises
    ------
    InputError
        for unusable settings or data, before anything is written.
    """
    check_ledger(settings.trials)
    began = time.monotonic()
    market = settings.load_market()
    show_market(market)
    _check_context(settings, market.bars)
    benchmark = read_benchmark(settings, market)
    # Operators grep the log for one trader: only the main run's decisions go there.
    forecaster = settings.forecaster.build(market.bars.symbols)
    correlations = CachedCorrelations(settings.correlation.build_source())
    trader = replace(settings.build_trader(forecaster), correlations=correlations)
    decider = trader.with_beliefs(market, progress)
    name = forecaster.name
    if decider.belief_table is not None and forecasts_contain_future(
        decider.belief_table, market.bars
    ):
        name = mark_as_look_ahead(name)
    main = simulate_trading(settings, market, name, decider, progress, logging.INFO)
    judgement = None
    is_judged = settings.sizing.earned is not False and settings.forecaster.kind != NO_FORECAST
    if is_judged and decider.belief_table is not None:
        judgement = decider.judge_forecast(market, decider.belief_table)
    coarse_run = None
    if market.finer_bars is not None:
        coarse_market = replace(market, finer_bars=None)
        coarse_run = simulate_trading(settings, coarse_market, name, decider, progress)
    comparisons = run_baselines(settings, decider, market, progress)
    seconds = time.monotonic() - began
    results = BacktestResults(
        settings,
        market,
        main,
        comparisons,
        seconds,
        decision_bar_run=coarse_run,
        benchmark=benchmark,
        judgement=judgement,
    )
    return _record_trial(
        replace(results, hardware_description=format_computation_device(forecaster))
    )


def _check_context(settings: BacktestSettings, bars: Bars) -> None:
    """Raise `InputError` if no symbol has enough bars for a single forecast."""
    context = settings.forecaster.context_length
    if bars.mask.sum(axis=1).max() < context:
        first, last = settings.run_period(bars)
        raise InputError(
            f"no decision is possible between {format_utc(first)} and {format_utc(last)}: no symbol"
            f" has the {context} bars that forecaster.context_length requires; load earlier"
            " bars or reduce it"
        )


def check_earlier_run(settings: BacktestSettings, output: Path) -> None:
    """Raise `InputError` if the folder holds a run with other settings; a repetition is allowed."""
    if not (output / SUMMARY_FILE).is_file():
        return
    try:
        earlier = RunFolder(output).read_settings()
    except InputError:
        raise InputError(
            f"output: {output} holds a run whose {CONFIG_FILE} was modified or cannot be read;"
            f" choose another folder, or set {OVERWRITE_ARGUMENT} to replace it"
        ) from None
    if not earlier:
        return
    before, now = (
        flatten_settings(each, left_out=("output", "trials"))
        for each in (earlier, yaml.safe_load(format_settings(settings)))
    )
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if changed:
        values = [
            f"{key}: {format_setting_value(before.get(key))}, now"
            f" {format_setting_value(now.get(key))}"
            for key in changed[:MAX_CHANGES_NAMED]
        ]
        more = len(changed) - MAX_CHANGES_NAMED
        raise InputError(
            f"output: {output} holds a run with other settings ({'; '.join(values)}"
            f"{f'; and {more} more' if more > 0 else ''}); choose another folder, or set"
            f" {OVERWRITE_ARGUMENT} to replace it"
        )


def run(settings: BacktestSettings, progress: Progress) -> Result:
    """Run a backtest; return its terminal output and the files of its report."""
    console = open_terminal()

    def print_coverage(market: Market) -> None:
        bars, doubts = market.bars, market.data_warnings
        print_renderables(console, coverage_report(bars, settings.start, settings.end, doubts))

    with compile_in_background(
        "marketsimulator.rehearsal", cached_module="marketsimulator.runs.compiled_instants"
    ):
        results = run_backtest(settings, progress, print_coverage)
    summary = results.summary()
    parts, sentences = terminal_parts(summary, results.elapsed_seconds)
    # The first lines have printed these warnings; the page and `summary.json` repeat them.
    shown = data_warning_remarks(results.market.data_warnings)
    sentences = [sentence for sentence in sentences if sentence not in shown]
    return Result(parts, sentences, result_file_writers(results, summary))


def _record_trial(results: BacktestResults) -> BacktestResults:
    """Record the run in the trial ledger; return the results with the statistics of all trials.

    If the ledger cannot be written, the run is kept, and a remark replaces the statistics.
    """
    try:
        return replace(
            results, trial_count=record_trials(results.settings.trials, [results.to_trial()])
        )
    except InputError as error:
        log.warning("%s", error)
        return replace(results, no_ledger_note=NO_LEDGER_NOTE.format(error))
