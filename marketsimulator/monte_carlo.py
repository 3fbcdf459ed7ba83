"""What a year of such trades may bring: resampled results with the autoscaler inside every run.

    python -m marketsimulator.monte_carlo trades=FILE.csv [runs=10000] [days=252] [seed=0] \
        [output=DIR] [key=value …]

Every run begins with STARTING_CAPITAL and an empty history. Trades are drawn one by one and in
blocks, per contract, each with its own risk, and sized by the rules of `sizing.autoscaler.rules` as
they come. Resampling cannot show a loss that the file does not hold: a third set of runs lets
trades lose all they can, with a chance that the file does not rule out.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.monte_carlo", __doc__, settings="monte_carlo", hydra=True)

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from execution.spreads.rules import TRADING_DAYS
from foundation.arrays import Array
from foundation.command import log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import output_of, settings_with_inner
from foundation.counts import counted
from foundation.errors import InputError
from foundation.files import write_whole
from foundation.progress import ProgressBar
from marketsimulator.options.account_picture import Picture, draw
from marketsimulator.options.resampling import (
    UNIT,
    AccountPaths,
    ResamplingRules,
    account_paths,
    draw_trades,
    with_full_losses,
)
from marketsimulator.options.trade_sample import TradeSample, read_sample
from sizing.autoscaler.rules import AutoscalingSettings
from trainingdata.instants import system_clock

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
WARNING = (
    "Resampling repeats what happened: it cannot show a loss that the file does not hold."
    " The worst of these trades lost {worst} of what it could; {unseen}"
)


@dataclass(frozen=True, slots=True)
class MonteCarloSettings:
    """Settings of configs/monte_carlo.yaml.

    trades: a file of closed trades.
    runs: number of them, 1 … 1,000,000.
    days: trading days of a run, 1 … 100,000.
    seed: of the draws, 0 … 2^63.
    trades_per_day: 1 … 1000; none takes the file's mean, rounded.
    block: trades that stay together in the block bootstrap, 1 … 100,000.
    uncertainty: whether each run first draws a history of its own.
    stress: chance of a maximum loss, 0 … 1; none takes the most that n trades without one leave
        possible at 95 %, 1 - 0.05^(1/n).
    output: folder for the results.
    rules: the autoscaler's, which stand beside the others under their usual names.
    """

    trades: str | None = None
    runs: int = 10_000
    days: int = 252
    seed: int = 0
    trades_per_day: int | None = None
    block: int = 15
    uncertainty: bool = False
    stress: float | None = None
    output: str = "outputs/monte-carlo"
    rules: AutoscalingSettings = field(default_factory=AutoscalingSettings)

    def __post_init__(self) -> None:
        for name, most in (("runs", 1_000_000), ("days", 100_000), ("block", 100_000)):
            if not 1 <= getattr(self, name) <= most:
                raise InputError(f"{name}: {getattr(self, name)} is outside 1 … {most:,}")
        if not 0 <= self.seed < 2**63:
            raise InputError(f"seed: {self.seed} is outside 0 … 2^63")
        if self.trades_per_day is not None and not 1 <= self.trades_per_day <= 1000:
            raise InputError(f"trades_per_day: {self.trades_per_day} is outside 1 … 1000")
        if self.stress is not None and not 0 <= self.stress <= 1:
            raise InputError(f"stress: {self.stress} is outside 0 … 1")

    @classmethod
    def of(cls, config: DictConfig) -> MonteCarloSettings:
        """The checked settings of a composed configuration.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_with_inner(cls, "rules", AutoscalingSettings, config)


def simulate_accounts(sample: TradeSample, settings: MonteCarloSettings) -> dict[str, AccountPaths]:
    """Runs by name: `iid`, `block`, and `stress` (iid with maximum losses)."""
    n = len(sample.results)
    rules = ResamplingRules.of(settings.rules)
    fee = round(settings.rules.FEE_PER_CONTRACT * UNIT)
    # Trade n + k is trade k with the largest loss it can have: what a stress draws.
    results = np.concatenate([sample.results, -sample.risks]) - fee
    risks = np.concatenate([sample.risks, sample.risks])
    shape = n, settings.runs, settings.days, _trades_per_day(sample, settings), settings.seed
    # Blocks keep trades in their order: losses that came one after another do so again.
    single = draw_trades(*shape, uncertainty=settings.uncertainty)
    blocks = draw_trades(*shape, block=settings.block, uncertainty=settings.uncertainty)
    worse = with_full_losses(single, n, stress_chance(sample, settings), settings.seed)
    sets = {"iid": single, "block": blocks, "stress": worse}
    return {name: account_paths(results, risks, draws, rules) for name, draws in sets.items()}


def _trades_per_day(sample: TradeSample, settings: MonteCarloSettings) -> int:
    return settings.trades_per_day or max(1, round(sample.trades_per_day))


def stress_chance(sample: TradeSample, settings: MonteCarloSettings) -> float:
    """The chance of a maximum loss in the stress runs.

    Without one in n trades, a chance of 1 - 0.05^(1/n) passes unseen one time in twenty.
    """
    n = len(sample.results)
    if settings.stress is not None:
        return settings.stress
    return sample.maximal / n if sample.maximal else 1.0 - 0.05 ** (1.0 / n)


def summary(runs: AccountPaths) -> dict[str, Any]:
    """Figures of a set of runs; shares of one, USD, days."""
    final = runs.balances[:, -1]
    start = runs.start
    sortino = _sortino(runs)
    defined = sortino[np.isfinite(sortino)]
    return {
        "final_balance": {"mean": float(final.mean()), **_percentiles(final)},
        "p_loss": float((final < start).mean()),
        "p_at_least_2x": float((final >= 2 * start).mean()),
        "p_at_least_3x": float((final >= 3 * start).mean()),
        "p_halt": float(runs.halted.mean()),
        "max_drawdown": {"mean": float(runs.drawdown.mean()), **_percentiles(runs.drawdown)},
        "sortino": _percentiles(defined) if len(defined) else None,
        "longest_days_under_water": _percentiles(runs.days_under_water.astype(float)),
        "p_recovered": float(runs.recovered.mean()),
        "mean_contracts": float(runs.contracts.mean()),
    }


def _sortino(runs: AccountPaths) -> Array:
    """Yearly Sortino ratio of each run [R]; NaN for one without a loss."""
    count = len(runs.balances)
    balances = np.concatenate([np.full((count, 1), runs.start), runs.balances], axis=1)
    daily = np.diff(balances, axis=1)
    before = balances[:, :-1]
    # A day that begins with nothing has no return; 0 leaves it out of gains and losses.
    returns = np.divide(daily, before, out=np.zeros_like(daily), where=before > 0)
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=1))
    undefined = np.full(count, np.nan)
    ratio = np.divide(returns.mean(axis=1), downside, out=undefined, where=downside > 0)
    return np.asarray(ratio * np.sqrt(TRADING_DAYS))


def _percentiles(values: Array) -> dict[str, float]:
    quantiles = np.percentile(values, PERCENTILES)
    return {f"p{q}": float(value) for q, value in zip(PERCENTILES, quantiles, strict=True)}


def limits_text(sample: TradeSample, settings: MonteCarloSettings) -> str:
    """What these runs cannot show, and what the stress does about it."""
    share = max(float((-sample.results / sample.risks).max()), 0.0)
    chance = stress_chance(sample, settings)
    if sample.maximal:
        unseen = f"{sample.maximal} of {len(sample.results)} lost all."
    else:
        unseen = f"none lost all. The stress runs let a trade do so with a chance of {chance:.2%}."
    text = WARNING.format(worst=f"{share:.0%}", unseen=unseen)
    beyond = int((sample.results < -sample.risks).sum())
    if beyond:
        text += (
            f" {beyond} lost more than width less credit allows: check P/L_$, Position_Size and"
            " Strikes."
        )
    return text


def write_results(
    sample: TradeSample,
    settings: MonteCarloSettings,
    sets: Mapping[str, AccountPaths],
    output: Path,
) -> dict[str, Any]:
    """Write monte_carlo.json and monte_carlo.png, each whole; the content of the JSON.

    Raises
    ------
    InputError
        if the folder cannot be written.
    """
    content = {
        "trades": {
            "file": settings.trades,
            "n": len(sample.results),
            "mean_per_contract": float(sample.results.mean() / UNIT),
            "worst_per_contract": float(sample.results.min() / UNIT),
            "maximum_losses": sample.maximal,
            "a_day": _trades_per_day(sample, settings),
        },
        "runs": settings.runs,
        "days": settings.days,
        "seed": settings.seed,
        "block": settings.block,
        "uncertainty": settings.uncertainty,
        "stress_chance": stress_chance(sample, settings),
        "starting_capital": settings.rules.STARTING_CAPITAL,
        "limits_of_resampling": limits_text(sample, settings),
        **{name: summary(runs) for name, runs in sets.items()},
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    picture = Picture(
        heading=_heading(content),
        sets=sets,
        floor=settings.rules.floor,
        halt=settings.rules.DRAWDOWN_HALT_PCT,
    )
    writers: dict[str, Callable[[Path], object]] = {
        "monte_carlo.json": lambda path: path.write_text(text),
        "monte_carlo.png": lambda path: draw(picture, path),
    }
    write_whole(writers, output)
    return content


def _heading(content: Mapping[str, Any]) -> str:
    """The picture's title: file, trades, runs, days and seed."""
    name = Path(content["trades"]["file"]).name if content["trades"]["file"] else "trades"
    return (
        f"{name}: {counted(content['trades']['n'], 'trade')}, {counted(content['runs'], 'run')} of"
        f" {counted(content['days'], 'day')}, seed {content['seed']}"
    )


def _print_figures(content: Mapping[str, Any], output: Path) -> None:
    sets = ("iid", "block", "stress")
    title = (
        f"{counted(content['runs'], 'run')} of {counted(content['days'], 'day')},"
        f" {counted(content['trades']['n'], 'trade')},"
        f" seed {content['seed']}"
    )
    columns = [_figure_texts(content[name]) for name in sets]
    table = Table("", *sets, title=title)
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(content["limits_of_resampling"], highlight=False)
    files = f"{output / 'monte_carlo.json'}, {output / 'monte_carlo.png'}"
    console.print(files, soft_wrap=True, highlight=False)


def _figure_texts(figures: Mapping[str, Any]) -> dict[str, str]:
    """The figures of a set that people look for, by label."""
    final = figures["final_balance"]
    drawdown = figures["max_drawdown"]
    sortino = figures["sortino"]
    multiples = f"{figures['p_at_least_2x']:.1%}, {figures['p_at_least_3x']:.1%}"
    return {
        "final balance, median": f"${final['p50']:,.0f}",
        "5 to 95 %": f"${final['p5']:,.0f} to ${final['p95']:,.0f}",
        "P(loss)": f"{figures['p_loss']:.1%}",
        "P(at least 2x), P(at least 3x)": multiples,
        "P(halt)": f"{figures['p_halt']:.1%}",
        "drawdown, median and 95 %": f"{drawdown['p50']:.1%}, {drawdown['p95']:.1%}",
        "Sortino, median": "n/a" if sortino is None else f"{sortino['p50']:.2f}",
        "days under water, median": f"{figures['longest_days_under_water']['p50']:.0f}",
    }


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        output = Path(str(config.output)).expanduser()
        folders.append(output)
        settings = MonteCarloSettings.of(config)
        if settings.trades is None:
            raise InputError(
                "trades: name a file of closed trades, trades=data/autoscaling/paper/trades.csv"
            )
        sample = read_sample(Path(settings.trades).expanduser(), system_clock())
        output_of(config, "monte_carlo.json")
        log_to_file("monte_carlo")
        with ProgressBar():
            paths = simulate_accounts(sample, settings)
            content = write_results(sample, settings, paths, output)
    _print_figures(content, output)


def main() -> None:
    """Hydra entry."""
    hydra_command("monte_carlo", _run_composed, MonteCarloSettings.of)


if __name__ == "__main__":
    main()
