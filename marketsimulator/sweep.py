r"""Every combination of some settings over the same forecasts, in one process.

    python -m marketsimulator.sweep \
        'vary={sizing.fraction: [0.1, 0.5], limits.symbol_cap: [0.3, 0.6]}' [key=value …]

Settings that change what is believed (the forecaster, holding, correlation, symbols, period) are
swept as backtests: `python -m marketsimulator.backtest -m forecaster.context_length=50,100`.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.sweep", __doc__, settings="sweep", hydra=True)

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from forecasting.forecast import Progress, silent
from foundation.command import log_to_file, one_line_errors
from foundation.compose import dotted_keys, hydra_command
from foundation.configuration import output_of
from foundation.errors import InputError, did_you_mean
from foundation.files import write_whole
from foundation.progress import ProgressBar
from foundation.terminal import terminal
from marketsimulator.results.comparison import (
    ranked_table,
    short_remarks,
    variants_page,
    variants_set,
)
from marketsimulator.results.comparison_charts import setting_text, value_text
from marketsimulator.results.run_set import RunSet, overfitting_figures, overfitting_text
from marketsimulator.results.trials import check_ledger
from marketsimulator.results.variant_table import (
    Variation,
    add_deflated_sharpe,
    combinations,
    figure_heading,
    figure_text,
    figures_table,
    record_variants,
    table_rows,
    variants_heading,
)
from marketsimulator.runs.variants import outcomes
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.coverage import print_coverage

# Settings that leave the beliefs as they are: these keys, and every key of these groups.
KEYS = (
    *("capital", "sizing.fraction", "sizing.drawdown.depth", "sizing.drawdown.probability"),
    *("prior.stock_sharpe", "prior.crypto_sharpe"),
)
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
    known = dotted_keys(asdict(settings))
    for name in vary:
        group = name.partition(".")[0]
        if name in KEYS or (group in GROUPS and name != group):
            continue
        if name in GROUPS:
            raise InputError(f"vary.{name}: it is a group of settings; name its keys, {name}.…")
        if name not in known:
            raise InputError(f"vary.{name}: there is no such setting{_hint(name, known)}")
        raise InputError(
            f"vary.{name}: an in-process sweep varies {', '.join(KEYS)} and keys of"
            f" {', '.join(GROUPS)}; others are swept as backtests, `python -m"
            f" marketsimulator.backtest -m {name}=A,B`"
        )
    return combinations(settings, vary)


def _hint(name: str, known: Sequence[str]) -> str:
    return did_you_mean(name, known) or did_you_mean(name.rpartition(".")[2], known)


@dataclass(frozen=True, eq=False, slots=True)
class Sweep:
    """Every combination of what was varied, the best first.

    table: [V] rows.
    varied: names of the settings.
    bars: the panel of all of them.
    runs: the same as a set over the same days.
    settings: of what was not varied.
    """

    table: pd.DataFrame
    varied: tuple[str, ...]
    bars: Bars
    runs: RunSet
    settings: BacktestSettings

    def page(self) -> str:
        """`comparison.html`."""
        return variants_page(self.settings, self.bars, self.table, self.runs)


def run_sweep(
    settings: BacktestSettings, vary: Mapping[str, Sequence[Any]], progress: Progress = silent
) -> Sweep:
    """Every combination over the same beliefs.

    Raises
    ------
    InputError
        for settings, data or variations that cannot be used.
    """
    variants = variants_of(settings, vary)
    check_ledger(settings.trials)
    bars, begin = settings.panel()
    trader = settings.trader(settings.forecaster.build(bars.symbols))
    beliefs = settings.belief_table(trader, bars, begin, progress)
    varied = [variant for _, variant in variants]
    results = outcomes(varied, bars, beliefs, begin, progress=progress)
    table = figures_table(variants, results, bars, begin)
    table = add_deflated_sharpe(table, record_variants(settings, variants, table, bars, begin))
    ranked = ranked_table(table)
    equity = np.array([results[k].equity for k in ranked.index])
    table = ranked.reset_index(drop=True)
    values = {name: tuple(table[name]) for name in vary}
    names = [trader.forecaster.name]
    runs = variants_set(settings, bars, bars.times[begin:], table, values, equity, names)
    return Sweep(table, tuple(vary), bars, runs, settings)


def _print_table(sweep: Sweep, output: Path) -> None:
    table, varied = sweep.table, sweep.varied
    title = variants_heading(table, sweep.settings)
    shown = Table(*varied, *map(figure_heading, COLUMNS), title=title)
    for row in table_rows(table.head(SHOWN)):
        values = [value_text(row[name]) for name in varied]
        shown.add_row(*values, *(figure_text(row, column) for column in COLUMNS))
    console = terminal(160)
    console.print(shown)
    names = [" ".join(setting_text(key, row[key]) for key in varied) for row in table_rows(table)]
    for remark in (overfitting_text(sweep.runs), *short_remarks(table.assign(variant=names))):
        console.print(remark, soft_wrap=True, highlight=False)
    files = f"All of them: {output / 'sweep.parquet'}, {output / 'comparison.html'}"
    console.print(files, soft_wrap=True, highlight=False)


def _write(sweep: Sweep, output: Path) -> None:
    """Every file, each put in place whole."""
    table = sweep.table
    summary = {
        "data": sweep.bars.source,
        "symbols": list(sweep.bars.symbols),
        "overfitting": overfitting_figures(sweep.runs),
        "variants": json.loads(table.to_json(orient="records")),
    }
    page = sweep.page()
    writers: dict[str, Callable[[Path], object]] = {
        "sweep.parquet": lambda path: table.to_parquet(path, index=False),
        "sweep.json": lambda path: path.write_text(json.dumps(summary, indent=1) + "\n"),
        "comparison.html": lambda path: path.write_text(page, encoding="utf-8"),
    }
    write_whole(writers, output)


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        vary: Any = config.get("vary")
        if OmegaConf.is_config(vary):
            vary = OmegaConf.to_container(vary, resolve=True)
        if not isinstance(vary, dict) or not vary:
            raise InputError(
                "vary: name settings and their values, vary={sizing.fraction: [0.25, 0.5]}"
            )
        keys = [str(key) for key in config if key != "vary"]
        settings = BacktestSettings.of(OmegaConf.masked_copy(config, keys))
        output = output_of(config, "sweep.parquet")
        folders.append(output)
        log_to_file("sweep")
        with ProgressBar() as progress:
            sweep = run_sweep(settings, vary, progress)
        _write(sweep, output)
    print_coverage(sweep.bars, settings.start, settings.end)
    _print_table(sweep, output)


def main() -> None:
    """Hydra entry."""
    hydra_command("sweep", _run_composed)


if __name__ == "__main__":
    main()
