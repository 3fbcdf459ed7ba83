"""What a year of such trades may bring: resampled results with the autoscaler inside every run.

    python -m marketsimulator.monte_carlo trades=FILE.csv runs=10000 days=252 seed=0 output=DIR
    [key=value …]

Every run begins with STARTING_CAPITAL and an empty history. Trades are drawn one by one and in
blocks, per contract, each with its own risk, and sized by the rules of `sizing.autoscaler.rules` as
they come. Resampling cannot show a loss that the file does not hold: a third set of runs lets
trades lose all they can, with a chance that the file does not rule out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from foundation.arrays import Array
from foundation.command import log_to_file, one_line
from foundation.compose import hydra_command
from foundation.configuration import settings_beside
from foundation.errors import DataError, InputError
from foundation.files import check_output, write_whole
from marketsimulator.options.resampling import (
    UNIT,
    AccountPaths,
    ResamplingRules,
    Units,
    draws_of,
    paths,
    worst_of,
)
from sizing.autoscaler.rules import AutoscalingSettings, max_risk
from sizing.autoscaler.trades import Row, is_trade, rows_of, size_of, total_of

PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
WARNING = (
    "Resampling repeats what happened: it cannot show a loss that the file does not hold."
    " The worst of these trades lost {worst} of what it could; {unseen}"
)


@dataclass(frozen=True, slots=True)
class MonteCarloSettings:
    """trades: a file of closed trades. days: trading days of a run. block: trades that stay
    together in the block bootstrap.

    trades_per_day: none takes the file's mean, rounded. uncertainty: whether each run first draws a
    history of its own. stress: chance of a maximum loss; none takes the most that n trades without
    one leave possible at 95 %, 1 − 0.05^(1/n).
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
        """The checked settings of a composed configuration; the autoscaler's stand beside them
        under its usual names.

        Raises
        ------
        InputError
            naming the key, the value and what was expected.
        """
        return settings_beside(cls, "rules", AutoscalingSettings, config)


@dataclass(frozen=True, eq=False, slots=True)
class TradeSample:
    """N closed trades per contract, ten-thousandths of a dollar: results and what each could
    lose. a_day: mean a day.
    """

    results: Units
    risks: Units
    a_day: float

    @property
    def maximal(self) -> int:
        """Trades that lost all they could, or more."""
        return int((self.results <= -self.risks).sum())


def read_sample(path: Path) -> TradeSample:
    """The closed trades of a file: results in total over position sizes, risks from strategy,
    strikes and credit.

    Raises
    ------
    DataError
        naming the file, the row and what is wrong with it.
    """
    try:
        _, rows = rows_of(path.read_bytes())
        closed = [row for row in rows if is_trade(row)]
        results = [Fraction(total_of(row)) / size_of(row) for row in closed]
        risks = [_risk_of(row, number) for number, row in enumerate(closed, 1)]
    except OSError as error:
        raise DataError(f"trades: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DataError(f"trades: {path}: {error}") from None
    if not closed:
        raise DataError(f"trades: {path}: no closed trade in it")
    days = {
        row.get("Timestamp_ET", "").strip()[:10] or str(number) for number, row in enumerate(closed)
    }
    return TradeSample(_units(results), _units(risks), len(closed) / len(days))


def _units(values: Sequence[Fraction]) -> Units:
    return np.array([round(value * UNIT) for value in values], dtype=np.int64)


def _risk_of(row: Row, number: int) -> Fraction:
    """USD that one contract of a trade could lose: its width, from the strikes where they are
    there, less its credit.
    """
    strategy = row.get("Strategy", "")
    credit = row.get("Entry_Credit", "").strip()
    try:
        strikes = [
            float(word)
            for word in row.get("Strikes", "").replace("-", "/").split("/")
            if word.strip()
        ]
        sides = [abs(b - a) for a, b in zip(strikes[::2], strikes[1::2], strict=False)]
        return Fraction(str(max_risk(strategy, float(credit), max(sides) if sides else None)))
    except ValueError as error:
        raise ValueError(f"trade {number}: {error or 'Entry_Credit is missing'}") from None


def simulate_accounts(sample: TradeSample, settings: MonteCarloSettings) -> dict[str, AccountPaths]:
    """Runs by name: `iid`, `block`, and `stress` (iid with maximum losses)."""
    n = len(sample.results)
    a_day = settings.trades_per_day or max(1, round(sample.a_day))
    rules = ResamplingRules.of(settings.rules)
    fee = round(settings.rules.FEE_PER_CONTRACT * UNIT)
    results = np.concatenate([sample.results, -sample.risks]) - fee
    risks = np.concatenate([sample.risks, sample.risks])
    shape = n, settings.runs, settings.days, a_day, settings.seed
    one_by_one = draws_of(*shape, uncertainty=settings.uncertainty)
    blocks = draws_of(*shape, block=settings.block, uncertainty=settings.uncertainty)
    worse = worst_of(one_by_one, n, chance_of(sample, settings), settings.seed)
    sets = {"iid": one_by_one, "block": blocks, "stress": worse}
    return {name: paths(results, risks, draws, rules) for name, draws in sets.items()}


def chance_of(sample: TradeSample, settings: MonteCarloSettings) -> float:
    """The chance of a maximum loss in the stress runs."""
    n = len(sample.results)
    if settings.stress is not None:
        return settings.stress
    return sample.maximal / n if sample.maximal else 1.0 - 0.05 ** (1.0 / n)


def summary(runs: AccountPaths) -> dict[str, Any]:
    """Figures of a set of runs; shares of one, USD, days."""
    final = runs.balances[:, -1]
    start = runs.start
    daily = np.diff(
        np.concatenate([np.full((len(final), 1), start), runs.balances], axis=1), axis=1
    )
    before = np.concatenate([np.full((len(final), 1), start), runs.balances[:, :-1]], axis=1)
    returns = np.divide(daily, before, out=np.zeros_like(daily), where=before > 0)
    downside = np.sqrt((np.minimum(returns, 0.0) ** 2).mean(axis=1))
    sortino = np.divide(
        returns.mean(axis=1), downside, out=np.full(len(final), np.nan), where=downside > 0
    ) * np.sqrt(252)
    return {
        "final_balance": {"mean": float(final.mean()), **_percentiles(final)},
        "p_loss": float((final < start).mean()),
        "p_at_least_2x": float((final >= 2 * start).mean()),
        "p_at_least_3x": float((final >= 3 * start).mean()),
        "p_halt": float(runs.halted.mean()),
        "max_drawdown": {"mean": float(runs.fall.mean()), **_percentiles(runs.fall)},
        "sortino": _percentiles(sortino[np.isfinite(sortino)])
        if np.isfinite(sortino).any()
        else None,
        "longest_days_under_water": _percentiles(runs.under.astype(float)),
        "p_recovered": float(runs.recovered.mean()),
        "mean_contracts": float(runs.contracts.mean()),
    }


def _percentiles(values: Array) -> dict[str, float]:
    return {
        f"p{q}": float(value)
        for q, value in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
    }


def plain_words(sample: TradeSample, settings: MonteCarloSettings) -> str:
    """What these runs cannot show, and what the stress does about it."""
    share = max(float((-sample.results / sample.risks).max()), 0.0)
    chance = chance_of(sample, settings)
    if sample.maximal:
        unseen = f"{sample.maximal} of {len(sample.results)} lost all."
    else:
        unseen = f"none lost all. The stress runs let a trade do so with a chance of {chance:.2%}."
    beyond = int((sample.results < -sample.risks).sum())
    odd = (
        f" {beyond} lost more than width less credit allows: check P/L_$, Position_Size and"
        " Strikes."
        if beyond
        else ""
    )
    return WARNING.format(worst=f"{share:.0%}", unseen=unseen) + odd


def write_results(
    sample: TradeSample,
    settings: MonteCarloSettings,
    sets: Mapping[str, AccountPaths],
    output: Path,
) -> dict[str, Any]:
    """monte_carlo.json and monte_carlo.png, each whole; what the JSON says."""
    told = {
        "trades": {
            "file": settings.trades,
            "n": len(sample.results),
            "mean_per_contract": float(sample.results.mean() / UNIT),
            "worst_per_contract": float(sample.results.min() / UNIT),
            "maximum_losses": sample.maximal,
            "a_day": settings.trades_per_day or max(1, round(sample.a_day)),
        },
        "runs": settings.runs,
        "days": settings.days,
        "seed": settings.seed,
        "block": settings.block,
        "uncertainty": settings.uncertainty,
        "stress_chance": chance_of(sample, settings),
        "starting_capital": settings.rules.STARTING_CAPITAL,
        "limits_of_resampling": plain_words(sample, settings),
        **{name: summary(runs) for name, runs in sets.items()},
    }
    text = json.dumps(told, indent=1, allow_nan=False) + "\n"
    writers: dict[str, Callable[[Path], object]] = {
        "monte_carlo.json": lambda path: path.write_text(text),
        "monte_carlo.png": lambda path: _draw(sets, path),
    }
    write_whole(writers, output)
    return told


def _draw(sets: Mapping[str, AccountPaths], path: Path) -> None:
    """Distribution of the final balance and fan of balances, a row for each set of runs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.4 * len(sets)), layout="constrained")
    axes = figure.subplots(len(sets), 2, squeeze=False)
    for (name, runs), (left, right) in zip(sets.items(), axes, strict=True):
        left.hist(runs.balances[:, -1], bins=80, color="#3b6ea5")
        left.axvline(runs.start, color="black", linewidth=0.8)
        left.set(title=f"{name}: final balance, USD", ylabel="runs")
        days = np.arange(1, runs.balances.shape[1] + 1)
        bands = np.percentile(runs.balances, (5, 25, 50, 75, 95), axis=0)
        right.fill_between(days, bands[0], bands[4], color="#3b6ea5", alpha=0.2, label="5 to 95 %")
        right.fill_between(days, bands[1], bands[3], color="#3b6ea5", alpha=0.4, label="25 to 75 %")
        right.plot(days, bands[2], color="#1d3f63", label="median")
        right.axhline(runs.start, color="black", linewidth=0.8)
        right.set(title=f"{name}: balance by day, USD", xlabel="trading days")
        right.legend(loc="upper left", frameon=False)
    figure.savefig(path, format="png", dpi=110)


def show(told: Mapping[str, Any], output: Path) -> None:
    """Print the figures people look for."""
    rows: dict[str, Callable[[Any], str]] = {
        "final balance, median": lambda s: f"${s['final_balance']['p50']:,.0f}",
        "5 to 95 %": lambda s: (
            f"${s['final_balance']['p5']:,.0f} to ${s['final_balance']['p95']:,.0f}"
        ),
        "P(loss)": lambda s: f"{s['p_loss']:.1%}",
        "P(at least 2x), P(at least 3x)": lambda s: (
            f"{s['p_at_least_2x']:.1%}, {s['p_at_least_3x']:.1%}"
        ),
        "P(halt)": lambda s: f"{s['p_halt']:.1%}",
        "drawdown, median and 95 %": lambda s: (
            f"{s['max_drawdown']['p50']:.1%}, {s['max_drawdown']['p95']:.1%}"
        ),
        "Sortino, median": lambda s: (
            "n/a" if s["sortino"] is None else f"{s['sortino']['p50']:.2f}"
        ),
        "days under water, median": lambda s: f"{s['longest_days_under_water']['p50']:.0f}",
    }
    sets = ("iid", "block", "stress")
    drawn = (
        f"{told['runs']:,} runs of {told['days']} days, {told['trades']['n']} trades, seed"
        f" {told['seed']}"
    )
    table = Table("", *sets, title=drawn)
    for name, cell in rows.items():
        table.add_row(name, *(cell(told[each]) for each in sets))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(told["limits_of_resampling"], highlight=False)
    console.print(
        f"{output / 'monte_carlo.json'}, {output / 'monte_carlo.png'}",
        soft_wrap=True,
        highlight=False,
    )


def _run_composed(config: DictConfig) -> None:
    with one_line("nothing was written") as made:
        output = Path(str(config.output))
        made.append(output)
        settings = MonteCarloSettings.of(config)
        if settings.trades is None:
            raise InputError(
                "trades: name a file of closed trades, trades=data/autoscaling/paper/trades.csv"
            )
        sample = read_sample(Path(settings.trades).expanduser())
        check_output(output)
        log_to_file("monte_carlo")
        told = write_results(sample, settings, simulate_accounts(sample, settings), output)
    show(told, output)


def main() -> None:
    """Hydra entry."""
    hydra_command("monte_carlo", _run_composed)


if __name__ == "__main__":
    main()
