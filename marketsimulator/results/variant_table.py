"""Variants of one run: a row for every combination of settings, deflated by all that was tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from foundation.configuration import with_changes
from foundation.errors import InputError
from marketsimulator.results.significance import deflated_sharpe
from marketsimulator.results.trial_identity import config_hash, data_hash, variant_of
from marketsimulator.results.trials import (
    Trial,
    TrialStatistics,
    enter,
    own_statistics,
)
from marketsimulator.settings import BacktestSettings
from trainingdata.instants import utc_text
from trainingdata.market import Market

Variation = dict[str, Any]  # value by setting


def combinations(
    settings: BacktestSettings, vary: Mapping[str, Sequence[Any]]
) -> list[tuple[Variation, BacktestSettings]]:
    """Every combination of the values named by setting, with the settings it stands for."""
    if settings.placebo:
        raise InputError("placebo: a backtest has one; variants over the same bars do without")
    for name, values in vary.items():
        if not isinstance(values, Sequence) or isinstance(values, str) or not values:
            raise InputError(f"vary.{name}: {values!r} is no list of values")
        for k, value in enumerate(values):
            if value in values[:k]:
                raise InputError(f"vary.{name}: {value} is named twice")
    variants = []
    for values in itertools.product(*vary.values()):
        variation = dict(zip(vary, values, strict=True))
        variants.append((variation, with_changes(settings, variation)))
    return variants


def record_variants(
    settings: BacktestSettings,
    variants: Sequence[tuple[Variation, BacktestSettings]],
    table: pd.DataFrame,
    market: Market,
) -> TrialStatistics:
    """Enter every row of the table in the settings' trial ledger, and count all on these data.

    Without a ledger the variants of the table are all that is counted.
    """
    daily_ratios = table["sharpe"].astype(float) / np.sqrt(table["periods_per_year"])
    bars = market.period
    digest = data_hash(market)
    trials = [
        Trial(
            config_hash=config_hash(variant_of(variant, bars)),
            data_hash=digest,
            source=bars.source,
            symbols=bars.symbols,
            first=utc_text(bars.times[0]),
            last=utc_text(bars.now),
            days=row["days"],
            daily_sharpe=None if np.isnan(ratio) else float(ratio),
            total_return=row["total_return"],
            forecaster=variant.forecaster.kind,
        )
        for (_, variant), row, ratio in zip(variants, table_rows(table), daily_ratios, strict=True)
    ]
    return enter(settings.trials, trials) or own_statistics(trials)


def add_deflated_sharpe(table: pd.DataFrame, trials: TrialStatistics) -> pd.DataFrame:
    """The table with the columns `deflated_sharpe`, beside the Sharpe ratio, and `trials`.

    Every row is deflated by all trials, its neighbours included: whoever picks the best row has
    looked at all of them.
    """
    # A column of None alone would hold objects without a type named, and Parquet something else.
    ratios = pd.Series([_deflated_ratio(row, trials) for row in table_rows(table)], dtype="float64")
    place = list(table.columns).index("sharpe") + 1
    table.insert(place, "deflated_sharpe", ratios)
    table["trials"] = trials.count
    return table


def _deflated_ratio(row: Mapping[str, Any], trials: TrialStatistics) -> float | None:
    """The deflated Sharpe ratio of a row; None for one without a Sharpe ratio."""
    if is_missing(row["sharpe"]):
        return None
    return deflated_sharpe(
        row["sharpe"] / np.sqrt(row["periods_per_year"]),
        row["days"],
        trials=trials.count,
        variance=trials.variance,
        skewness=row["skewness"],
        kurtosis=row["kurtosis"],
    )


def table_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def is_missing(value: Any) -> bool:
    """Whether a figure is not defined: None, which a column of numbers turns into NaN."""
    return value is None or value != value
