"""Variants of one run: every combination of some settings, a row each, deflated by all that was
tried on their data.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foundation.configuration import changed
from foundation.errors import InputError
from marketsimulator.results.metrics import annual_turnover, performance
from marketsimulator.results.significance import deflated_sharpe
from marketsimulator.results.trials import (
    Trial,
    Trials,
    check_ledger,
    config_hash,
    data_hash,
    record,
)
from marketsimulator.runs.variants import COSTS, Outcome
from marketsimulator.settings import BacktestSettings
from trainingdata.bars import Bars
from trainingdata.sessions import utc_text

Chosen = dict[str, Any]


def combinations(
    settings: BacktestSettings, vary: Mapping[str, Sequence[Any]]
) -> list[tuple[Chosen, BacktestSettings]]:
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
    variants: Sequence[tuple[Mapping[str, Any], BacktestSettings]],
    found: Sequence[Outcome],
    bars: Bars,
    first: int,
) -> pd.DataFrame:
    """A row a variant: what was varied, return, risk, turnover, costs in USD, trades."""
    at = bars.times[first:]
    coins = bool(bars.crypto.any())
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
    settings: BacktestSettings,
    variants: Sequence[tuple[Chosen, BacktestSettings]],
    table: pd.DataFrame,
    bars: Bars,
    first: int,
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
    """The table with the deflated Sharpe ratio of each row, and how many trials it is deflated
    by.
    """
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
