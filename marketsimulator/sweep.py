"""Every combination of some settings over the same forecasts, in one process.

    python -m marketsimulator.sweep 'vary={sizing.fraction: [0.1, 0.5], limits.symbol_cap: [0.3, 0.6]}' [key=value …]

Settings that change what is believed (the forecaster, holding, correlation, symbols, period) are swept as backtests:
`python -m marketsimulator.backtest -m forecaster.context_length=50,100`.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from forecasting.forecast import Progress, silent
from marketsimulator.metrics import annual_turnover, performance
from marketsimulator.settings import BacktestSettings
from marketsimulator.significance import deflated_sharpe
from marketsimulator.trials import Trial, Trials, check_ledger, config_hash, data_hash, record
from marketsimulator.variants import COSTS, Outcome, outcomes
from trainingdata.bars import Bars
from trainingdata.command import Bar, check_output, log_to_file, one_line, write_whole
from trainingdata.composition import hydra_command
from trainingdata.configuration import changed
from trainingdata.errors import InputError
from trainingdata.sessions import utc_text

KEYS = ("capital", "sizing.fraction", "prior.stock_sharpe", "prior.crypto_sharpe")
GROUPS = ("limits", "costs", "fees", "margin", "fills")  # settings that leave the beliefs as they are
SHOWN = 20  # rows on the screen; the file has all
COLUMNS = ("total_return", "annual_return", "sharpe", "deflated_sharpe", "max_drawdown", "turnover", "costs", "trades")

Chosen = dict[str, Any]


def variants_of(settings: BacktestSettings, vary: Mapping[str, Sequence[Any]]) -> list[tuple[Chosen, BacktestSettings]]:
    """Every combination of the values named by setting, with the settings it stands for.

    Raises
    ------
    InputError
        for a name that is no such setting, or whose change would change what is believed.
    """
    for name in vary:
        group = name.partition(".")[0]
        if name not in KEYS and group not in GROUPS:
            raise InputError(f"vary.{name}: an in-process sweep varies {', '.join((*KEYS, *GROUPS))}; use -m")
    return combinations(settings, vary)


def combinations(settings: BacktestSettings, vary: Mapping[str, Sequence[Any]]) -> list[tuple[Chosen, BacktestSettings]]:
    """Every combination of the values named by setting, with the settings it stands for.

    Raises
    ------
    InputError
        for a name that is no setting, values that are no list, or a value that cannot be.
    """
    if settings.placebo:
        raise InputError("placebo: a backtest has one; variants over the same bars do without")
    for name, values in vary.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise InputError(f"vary.{name}: {values!r} is no list of values")
    found = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())]
    return [(chosen, changed(settings, chosen)) for chosen in found]


def table_of(
    variants: Sequence[tuple[Mapping[str, Any], BacktestSettings]], found: Sequence[Outcome], bars: Bars, first: int
) -> pd.DataFrame:
    """A row a variant: what was varied, return, risk, turnover, costs in USD, trades."""
    at, coins = bars.times[first:], bool(bars.crypto.any())
    rows = []
    for (chosen, settings), outcome in zip(variants, found, strict=True):
        known = performance(at, outcome.equity, capital=settings.capital, coins=coins)
        t = outcome.totals
        costs = sum(t[name] for name in COSTS)
        rows.append(
            {
                **chosen,
                **known.as_dict(),
                "turnover": annual_turnover(t["notional"], at, outcome.equity),
                "costs": costs,
                "trades": int(t["trades"]),
                "failures": int(t["failures"]),
            }
        )
    return pd.DataFrame(rows)


def run_sweep(
    settings: BacktestSettings, vary: Mapping[str, Sequence[Any]], progress: Progress = silent
) -> tuple[pd.DataFrame, Bars, int]:
    """The table of every combination, the panel, and the number of its first instant.

    Raises
    ------
    InputError
        for settings, data or variations that cannot be used.
    """
    variants = variants_of(settings, vary)
    check_trials(settings)
    bars, begin = settings.panel()
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    beliefs = settings.beliefs(trader, bars, begin, progress)
    found = outcomes([variant for _, variant in variants], bars, beliefs, begin, progress=progress)
    table = table_of(variants, found, bars, begin)
    judged = deflated(table, recorded(settings, variants, table, bars, begin))
    return judged.sort_values("sharpe", ascending=False, na_position="last", ignore_index=True), bars, begin


def check_trials(settings: BacktestSettings) -> None:
    """Refuse a trial ledger that cannot be used, before any work.

    Raises
    ------
    InputError
        naming the file.
    """
    if settings.trials is not None:
        check_ledger(Path(settings.trials).expanduser())


def recorded(
    settings: BacktestSettings, variants: Sequence[tuple[Chosen, BacktestSettings]], table: pd.DataFrame, bars: Bars, first: int
) -> Trials:
    """All trials on these data, these, a row of the table each, included.

    Raises
    ------
    InputError
        for a trial ledger that cannot be used.
    """
    ratio = table["sharpe"].astype(float) / np.sqrt(table["periods_per_year"])
    if settings.trials is None:
        return Trials(len(table), float(ratio.var(ddof=1)) if ratio.notna().sum() > 1 else 0.0)
    digest = data_hash(bars, first)
    trials = [
        Trial(
            config_hash=config_hash(asdict(variant)),
            data_hash=digest,
            source=bars.source,
            symbols=bars.symbols,
            first=utc_text(bars.times[first]),
            last=utc_text(bars.now),
            days=row["days"],
            daily_sharpe=None if np.isnan(daily) else float(daily),
            total_return=row["total_return"],
            forecaster=settings.forecaster.kind,
        )
        for (_, variant), row, daily in zip(variants, rows_of(table), ratio, strict=True)
    ]
    return record(Path(settings.trials).expanduser(), *trials)


def deflated(table: pd.DataFrame, trials: Trials) -> pd.DataFrame:
    """The table with the deflated Sharpe ratio of each row, and how many trials it is deflated by."""
    values = [
        None
        if row["sharpe"] is None or np.isnan(row["sharpe"])
        else deflated_sharpe(
            row["sharpe"] / np.sqrt(row["periods_per_year"]),
            row["days"],
            trials=trials.count,
            variance=trials.variance,
            skewness=row["skewness"],
            kurtosis=row["kurtosis"],
        )
        for row in rows_of(table)
    ]
    place = list(table.columns).index("sharpe") + 1
    table.insert(place, "deflated_sharpe", pd.Series(values, dtype="float64"))
    table["trials"] = trials.count
    return table


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A mapping a row."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _show(table: pd.DataFrame, varied: Sequence[str], output: Path) -> None:
    shown = Table(*varied, *COLUMNS, title=f"{len(table)} variants, {int(table['trials'].iloc[0])} tried on these data")
    for row in rows_of(table.head(SHOWN)):
        cells = [str(row[name]) for name in varied]
        shown.add_row(*cells, *("n/a" if row[c] is None or row[c] != row[c] else f"{row[c]:,.4g}" for c in COLUMNS))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    console.print(f"All of them: {output / 'sweep.parquet'}", soft_wrap=True, highlight=False)


def _write(table: pd.DataFrame, bars: Bars, output: Path) -> None:
    """Both files, each put in place whole."""
    summary = {"data": bars.source, "symbols": list(bars.symbols), "variants": json.loads(table.to_json(orient="records"))}
    writers: dict[str, Callable[[Path], object]] = {
        "sweep.parquet": lambda path: table.to_parquet(path, index=False),
        "sweep.json": lambda path: path.write_text(json.dumps(summary, indent=1) + "\n"),
    }
    write_whole(writers, output)


def _run_composed(config: DictConfig) -> None:
    with one_line("nothing was written") as made:
        plain: Any = OmegaConf.to_container(config.vary, resolve=True) if config.get("vary") else None
        if not isinstance(plain, dict) or not plain:
            raise InputError("vary: name settings and their values, vary={sizing.fraction: [0.25, 0.5]}")
        settings = BacktestSettings.of(OmegaConf.masked_copy(config, [str(key) for key in config if key != "vary"]))
        output = Path(settings.output)
        made.append(output)
        check_output(output)
        log_to_file("sweep")
        with Bar() as progress:
            table, bars, _ = run_sweep(settings, plain, progress)
        _write(table, bars, output)
    _show(table, list(plain), output)


def main() -> None:
    """Hydra entry."""
    hydra_command("sweep", _run_composed)


if __name__ == "__main__":
    main()
