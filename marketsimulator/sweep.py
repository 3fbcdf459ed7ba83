"""Every combination of some settings over the same forecasts, in one process.

    python -m marketsimulator.sweep \
        'vary={sizing.fraction: [0.1, 0.5], limits.symbol_cap: [0.3, 0.6]}' [key=value …]

Settings that change what is believed (the forecaster, holding, correlation, symbols, period) are
swept as backtests: `python -m marketsimulator.backtest -m forecaster.context_length=50,100`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from forecasting.forecast import Progress, silent
from foundation.command import ProgressBar, log_to_file, one_line_errors
from foundation.compose import hydra_command
from foundation.errors import InputError
from foundation.files import check_output, write_whole
from marketsimulator.results.variant_table import (
    Variation,
    add_deflated_sharpe,
    check_trials,
    combinations,
    figure_text,
    figures_table,
    record_variants,
    table_rows,
)
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars

# Settings that leave the beliefs as they are: these keys, and every key of these groups.
KEYS = ("capital", "sizing.fraction", "prior.stock_sharpe", "prior.crypto_sharpe")
GROUPS = ("limits", "costs", "fees", "margin", "fills")
SHOWN = 20  # rows on the screen; the file has all
COLUMNS = (
    *("total_return", "annual_return", "sharpe", "deflated_sharpe", "max_drawdown"),
    *("turnover", "costs", "trades"),
)


def variants_of(
    settings: BacktestSettings, vary: Mapping[str, Sequence[Any]]
) -> list[tuple[Variation, BacktestSettings]]:
    """Every combination of the values named by setting, with the settings it stands for.

    Raises
    ------
    InputError
        for a name that is no such setting, or whose change would change what is believed.
    """
    for name in vary:
        group = name.partition(".")[0]
        if name not in KEYS and group not in GROUPS:
            raise InputError(
                f"vary.{name}: an in-process sweep varies {', '.join((*KEYS, *GROUPS))}; use -m"
            )
    return combinations(settings, vary)


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
    beliefs = settings.belief_table(trader, bars, begin, progress)
    varied = [variant for _, variant in variants]
    results = outcomes(varied, bars, beliefs, begin, progress=progress)
    table = figures_table(variants, results, bars, begin)
    table = add_deflated_sharpe(table, record_variants(settings, variants, table, bars, begin))
    ranked = table.sort_values("sharpe", ascending=False, na_position="last", ignore_index=True)
    return ranked, bars, begin


def _print_table(table: pd.DataFrame, varied: Sequence[str], output: Path) -> None:
    title = f"{len(table)} variants, {int(table['trials'].iloc[0])} tried on these data"
    shown = Table(*varied, *COLUMNS, title=title)
    for row in table_rows(table.head(SHOWN)):
        values = [str(row[name]) for name in varied]
        shown.add_row(*values, *(figure_text(row[column]) for column in COLUMNS))
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(shown)
    console.print(f"All of them: {output / 'sweep.parquet'}", soft_wrap=True, highlight=False)


def _write(table: pd.DataFrame, bars: Bars, output: Path) -> None:
    """Both files, each put in place whole."""
    summary = {
        "data": bars.source,
        "symbols": list(bars.symbols),
        "variants": json.loads(table.to_json(orient="records")),
    }
    writers: dict[str, Callable[[Path], object]] = {
        "sweep.parquet": lambda path: table.to_parquet(path, index=False),
        "sweep.json": lambda path: path.write_text(json.dumps(summary, indent=1) + "\n"),
    }
    write_whole(writers, output)


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        vary: Any = None
        if config.get("vary"):
            vary = OmegaConf.to_container(config.vary, resolve=True)
        if not isinstance(vary, dict) or not vary:
            raise InputError(
                "vary: name settings and their values, vary={sizing.fraction: [0.25, 0.5]}"
            )
        keys = [str(key) for key in config if key != "vary"]
        settings = BacktestSettings.of(OmegaConf.masked_copy(config, keys))
        output = Path(settings.output)
        folders.append(output)
        check_output(output)
        log_to_file("sweep")
        with ProgressBar() as progress:
            table, bars, _ = run_sweep(settings, vary, progress)
        _write(table, bars, output)
    _print_table(table, list(vary), output)


def main() -> None:
    """Hydra entry."""
    hydra_command("sweep", _run_composed)


if __name__ == "__main__":
    main()
