"""The backtest: walk the bars, decide, record, submit.

    python -m marketsimulator.backtest [key=value …]      every setting of configs/backtest.yaml; --cfg job prints them

The decision is `Trader.decide`, the one live trading makes; the simulated broker stands where the real one would.
"""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from execution.broker import place
from execution.decision import Decision
from execution.trader import Decider
from forecasting.baseline import RandomWalk
from forecasting.forecast import Progress, silent
from marketsimulator.baseline import BuyAndHold
from marketsimulator.broker import Row
from marketsimulator.results import Results, print_results, write_results
from marketsimulator.run import Run
from marketsimulator.settings import BacktestSettings
from marketsimulator.trials import Trials, record
from trainingdata.bars import Bars
from trainingdata.command import Bar, check_output, log_to_file, one_line
from trainingdata.composition import hydra_command
from trainingdata.errors import InputError
from trainingdata.sessions import utc_text

log = logging.getLogger("marketsimulator")

_NEVER = 2**31 - 1  # collections of the middle generation before a full one


def run_backtest(settings: BacktestSettings, progress: Progress = silent) -> Results:
    """Run the settings' trader, the same trader on a random walk, and buy-and-hold over the same bars.

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
        simulate(settings, bars, begin, name, decider, progress, logging.INFO if k == 0 else logging.DEBUG)
        for k, (name, decider) in enumerate(deciders)
    ]
    placebo = _placebo(settings.without_edge(), progress) if settings.placebo else None
    return Results(settings, bars, begin, main, tuple(others), time.monotonic() - began, placebo)


def _placebo(settings: BacktestSettings, progress: Progress) -> Run:
    """The settings' trader alone, on their bars."""
    bars, begin = settings.panel()
    forecaster = settings.forecaster.build(bars.symbols)
    trader = settings.prepared(settings.trader(forecaster), bars, begin, progress)
    return simulate(settings, bars, begin, forecaster.name, trader, progress)


@contextmanager
def _only_young_garbage() -> Iterator[None]:
    """Python collects what has just been left behind, but does not walk through everything there is.

    A run keeps every decision, and nothing that it keeps refers back: a full collection, a fifth of its time, finds nothing.
    """
    before = gc.get_threshold()
    gc.set_threshold(*before[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def simulate(
    settings: BacktestSettings,
    bars: Bars,
    first: int,
    name: str,
    decider: Decider,
    progress: Progress = silent,
    level: int = logging.DEBUG,
) -> Run:
    """One decider over the panel's instants from number `first` on, with an account of its own; logged at `level`."""
    broker = settings.broker(bars, first)
    decisions: list[Decision] = []
    rows: list[Row] = []
    total = len(bars.times)
    instants = ((index, seen) for begin, end, seen in settings.views(bars, first) for index in range(begin, end))
    with _only_young_garbage():
        for index, seen in instants:
            if index > first:
                broker.advance(index)
            decision = decider.decide(seen.between(0, index + 1), broker.account())
            if decision is not None:
                decisions.append(decision)
                place(broker, decision.orders, decision.cancels)
            rows.append(broker.row())
            if decision is not None:
                _log(level, name, decision, rows[-1], settings.capital)
            if index % 64 == 0 or index == total - 1:
                progress(f"bars, {name}", index + 1 - first, total - first)
    return Run(name, decisions, broker.fills, rows, broker.margin_events())


def _log(level: int, name: str, decision: Decision, row: Row, capital: float) -> None:
    """The lines operators grep for, once a decision."""
    if not log.isEnabledFor(level):
        return
    stamp = f"{utc_text(decision.at)} {name}:"
    if decision.failure:
        log.warning("%s Enhanced sizing failed: %s", stamp, decision.failure)
    for line in decision.sized:
        log.log(level, "%s %s", stamp, line)
    for order in decision.orders:
        log.log(level, "%s %s %s %s: %s", stamp, order.side, order.qty, order.symbol, order.reason)
    equity = row.equity if row.equity > 0 else float("nan")
    stocks = f"stocks {row.gross_stock / equity:.2f}x of {decision.stock_ceiling:.1f}x"
    crypto = f"crypto {row.gross_crypto / equity:.2f}x"
    log.log(level, "%s exposure: %s, %s PnL: %+.2f", stamp, stocks, crypto, row.equity - capital)


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
        with Bar() as progress:
            results = run_backtest(settings, progress)
        summary = results.summary(_recorded(results))
        write_results(results, summary, output)
    print_results(summary, results.seconds, output)


def _recorded(results: Results) -> Trials | None:
    """The trials on this run's data, with this one; none where the settings name no ledger, or it cannot be used."""
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
