"""The backtest: walk the bars, decide, record, submit.

    python -m marketsimulator.backtest [key=value …]    --cfg job prints every setting

The decision is `Trader.decide`, the one live trading makes; the simulated broker stands where the
real one would.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from execution.records import Run
from execution.trader import Decider
from forecasting.baseline import RandomWalk
from forecasting.forecast import Progress, silent
from foundation.command import ProgressBar, log_to_file, one_line
from foundation.compose import hydra_command
from foundation.errors import InputError
from foundation.files import check_output
from marketsimulator.results.summary import Results, print_results, write_results
from marketsimulator.results.trials import Trials, record
from marketsimulator.runs.buy_and_hold import BuyAndHold
from marketsimulator.runs.simulate import run_decider
from marketsimulator.settings import BacktestSettings
from trainingdata.sessions import utc_text

log = logging.getLogger("marketsimulator")


def run_backtest(settings: BacktestSettings, progress: Progress = silent) -> Results:
    """Run the settings' trader, the same trader on a random walk, and buy-and-hold over the same
    bars.

    Raises
    ------
    InputError
        for settings or data that cannot be used; nothing has been written then.
    """
    began = time.monotonic()
    bars, begin = settings.panel()
    first, last = settings.span(bars)
    forecaster = settings.forecaster.build(bars.symbols)
    walk = RandomWalk(context_length=settings.forecaster.context_length)
    if bars.mask.sum(axis=1).max() < settings.forecaster.context_length:
        raise InputError(
            f"nothing can be decided between {utc_text(first)} and {utc_text(last)}: no symbol has"
            f" {settings.forecaster.context_length} bars of its own by then"
        )
    deciders: list[tuple[str, Decider]] = [
        (forecaster.name, settings.prepared(settings.trader(forecaster), bars, begin, progress)),
        ("random_walk", settings.prepared(settings.trader(walk), bars, begin)),
        ("buy_and_hold", BuyAndHold(settings.orders)),
    ]
    main, *others = [
        run_decider(
            settings,
            bars,
            begin,
            name,
            decider,
            progress,
            logging.INFO if k == 0 else logging.DEBUG,
        )
        for k, (name, decider) in enumerate(deciders)
    ]
    placebo = _placebo(settings.without_edge(), progress) if settings.placebo else None
    return Results(settings, bars, begin, main, tuple(others), time.monotonic() - began, placebo)


def _placebo(settings: BacktestSettings, progress: Progress) -> Run:
    """The settings' trader alone, on their bars."""
    bars, begin = settings.panel()
    forecaster = settings.forecaster.build(bars.symbols)
    trader = settings.prepared(settings.trader(forecaster), bars, begin, progress)
    return run_decider(settings, bars, begin, forecaster.name, trader, progress)


def run_command(compose: Callable[[], DictConfig], output: Path | None = None) -> None:
    """Compose, run, write and print: what both command lines do. Wrong input ends with exit code 2.

    output: the folder, where it is not the one that the settings name.
    """
    with one_line("nothing was written") as made:
        made += [output] if output is not None else []
        settings = BacktestSettings.of(compose())
        output = output or Path(settings.output)
        check_output(output)
        log_to_file("backtest")
        with ProgressBar() as progress:
            results = run_backtest(settings, progress)
        summary = results.summary(_recorded(results))
        write_results(results, summary, output)
    print_results(summary, results.seconds, output)


def _recorded(results: Results) -> Trials | None:
    """The trials on this run's data, with this one; none where the settings name no ledger, or
    it cannot be used.
    """
    path = results.settings.trials
    if path is None:
        return None
    try:
        return record(Path(path).expanduser(), results.trial())
    except InputError as error:
        log.warning("%s", error)
        return None


def _run_composed(config: DictConfig) -> None:
    run_command(lambda: config, Path(HydraConfig.get().runtime.output_dir))


def main() -> None:
    """Hydra entry."""
    hydra_command("backtest", _run_composed)


if __name__ == "__main__":
    main()
