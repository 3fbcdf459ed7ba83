"""Print the value of volatility forecasts: the certainty equivalent of half-Kelly per forecaster.

    python -m studies.volatility_value [--sharpe 0.3] [--crypto_cost_bps 28] [key=value …]

The settings are those of `forecasting.evaluate`. An investor holds one symbol with a constant
premium, so that only the forecast moves the weight:

    m = sharpe · σ̄ / √n                premium of a holding period, n periods a year
    w = min(f · m / σ², leverage)      target weight, f the fraction of Kelly
    u = n · (w · m - w² · r² / (2f))   certainty equivalent a year, r the realised return

σ̄² is the symbol's mean r², the same for all forecasters. σ² is the forecast's variance over the
forecaster's own mean pattern of the day, which no investor trades. The premium is an assumption,
because the mean of realised returns is noise (Fleming, Kirby and Ostdiek 2001, 2003, hold it
constant, too). Below the leverage, -u is proportional to the loss of Patton (2011) with b = -3,
robust to the noise of r²: the true variance minimises its expectation. The constant volatility σ̄
earns f · sharpe² / 2. The risk aversion is 1/f, at which the fraction f of Kelly is optimal.

After costs, ln w is moved only to within δ of the target's, and a trade pays its cost c:
δ³ = 3/2 · c · mean((change of ln w)²) / m (Martin 2012, here in logs). At a step of h bars, one
investor starts at each of h bars, with the weight of σ̄. Means are over the scored forecasts, in
hindsight, and the same for all forecasters.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from forecasting.evaluate import ASSET_CLASS_LABELS, evaluate
from forecasting.scores import clustered_mean, interval_half_width
from forecasting.settings import EvaluationSettings
from foundation.arrays import Array
from foundation.compose import compose_config
from foundation.console import open_terminal, print_renderables
from foundation.formatting import format_multiple, format_number, format_plus_minus
from foundation.tables import EMPTY_CELL, Cell, Row, Table
from trainingdata.instruments import AssetClass

CONSTANT = "constant"  # the symbol's mean variance over the scored forecasts, in hindsight
VALUE_TITLE = "Certainty equivalent of half-Kelly, basis points a year"
VALUE_COLUMNS = ("", "step", "sized by", "before costs", "after costs", "turnover", "leverage")
WEEKS_PER_YEAR = 365.25 / 7
_FORMAT_BP = partial(format_number, places=1, scale=10_000)


@dataclass(frozen=True, slots=True)
class Investor:
    """An investor in one symbol.

    sharpe: yearly Sharpe ratio of the symbol's premium at its mean volatility.
    fraction: fraction of Kelly; its inverse is the risk aversion.
    stock_leverage, crypto_leverage: maximum weight of a stock and of a crypto symbol.
    stock_cost_bps, crypto_cost_bps: cost of a trade, basis points of traded value.
    """

    sharpe: float = 0.3
    fraction: float = 0.5
    stock_leverage: float = 2.0
    crypto_leverage: float = 1.0
    stock_cost_bps: float = 2.0
    crypto_cost_bps: float = 28.0


def value_forecasters(
    frames: Mapping[str, pd.DataFrame], investor: Investor, bars_per_year: Mapping[str, float]
) -> dict[str, Any]:
    """Return the figures of `value_at_step` by asset class and step.

    frames: score frames by forecaster name, with the same forecasts in the same rows.
    bars_per_year: bars of a year by asset class.
    """
    facts = next(iter(frames.values()))
    values: dict[str, Any] = {}
    for kind, bars in bars_per_year.items():
        of_kind = facts["kind"] == kind
        for step in sorted(facts.loc[of_kind, "step"].unique()):
            rows = of_kind & (facts["step"] == step)
            here = {name: frame[rows] for name, frame in frames.items()}
            values.setdefault(kind, {})[str(step)] = value_at_step(here, investor, bars / step)
    return values


def value_at_step(
    frames: Mapping[str, pd.DataFrame], investor: Investor, periods_per_year: float
) -> dict[str, Any]:
    """Return what each forecaster, and constant volatility, is worth at one step, by name.

    before_costs, after_costs: mean certainty equivalent a year, a fraction of equity.
    turnover: weight traded a year. leverage: mean weight.
    over: by name of each other forecaster, the difference of `before_costs` and of `after_costs`,
        and the half-width of its 95 % interval; None for too few weeks.

    frames: score frames of one asset class and step, by forecaster name, in order of time.
    periods_per_year: holding periods of a year.
    """
    facts = next(iter(frames.values()))
    mean_square = facts.groupby("symbol")["squared_return"].transform("mean")
    deviation = np.sqrt(mean_square.clip(lower=np.finfo(float).tiny).to_numpy())
    frames = {**frames, CONSTANT: facts.assign(deviation=deviation)}
    premium = investor.sharpe * deviation / np.sqrt(periods_per_year)
    accounts = {
        name: value_forecasts(frame, premium, investor, periods_per_year)
        for name, frame in frames.items()
    }
    overlap = math.ceil(WEEKS_PER_YEAR / periods_per_year)
    figures: dict[str, Any] = {}
    for name, account in accounts.items():
        figures[name] = {column: float(mean) for column, mean in account.mean().items()}
        figures[name]["over"] = {}
        for other in [other for other in accounts if other != name]:
            difference = account - accounts[other]
            gains: dict[str, float | None] = {}
            figures[name]["over"][other] = gains
            for column in ("before_costs", "after_costs"):
                values, week = difference[column], facts["week"]
                error = autocorrelation_robust_error(values, week, overlap)
                gains[column] = float(values.mean())
                gains[f"{column}_reach"] = interval_half_width(error, week)
    return figures


def value_forecasts(
    frame: pd.DataFrame, premium: Array, investor: Investor, periods_per_year: float
) -> pd.DataFrame:
    """Return the certainty equivalents, turnover and leverage of each forecast, a year.

    frame: score frame of one asset class and step, in order of time.
    premium: [n] premium of the holding period, as a fraction of price.
    """
    is_crypto = frame["kind"].iloc[0] == AssetClass.CRYPTO
    ceiling = investor.crypto_leverage if is_crypto else investor.stock_leverage
    cost = (investor.crypto_cost_bps if is_crypto else investor.stock_cost_bps) / 10_000
    mean_square = (premium / investor.sharpe) ** 2 * periods_per_year
    target = np.minimum(investor.fraction * premium / level_variance(frame), ceiling)
    held, traded = np.empty(len(frame)), np.empty(len(frame))
    step = int(frame["step"].iloc[0])
    for rows in frame.groupby("symbol").indices.values():
        goal = np.log(target[rows])
        changes = (goal[step:] - goal[:-step]) ** 2
        activity = changes.mean() / premium[rows[0]] if len(changes) else 0.0
        start = min(investor.fraction * premium[rows[0]] / mean_square[rows[0]], ceiling)
        band = np.cbrt(1.5 * cost * activity)
        held[rows], traded[rows] = trade_to_band(goal, step, np.log(start), band)

    def certainty_equivalent(weight: Array) -> Array:
        risk = weight**2 * frame["squared_return"].to_numpy() / (2 * investor.fraction)
        return np.asarray(periods_per_year * (weight * premium - risk))

    turnover = periods_per_year * traded
    columns = {
        "before_costs": certainty_equivalent(target),
        "after_costs": certainty_equivalent(held) - cost * turnover,
        "turnover": turnover,
        "leverage": held,
    }
    return pd.DataFrame(columns, index=frame.index)


def autocorrelation_robust_error(values: pd.Series, week: pd.Series, overlap_weeks: int) -> float:
    """Return the standard error of a mean whose weeks are correlated with adjacent ones.

    The variance of the weekly sums includes their autocovariances up to `overlap_weeks` with
    Bartlett weights (Newey and West 1987). Few weeks understate it, so the error is never below
    that of `clustered_mean`.

    values, week: values, and the first instant of the week of each.
    overlap_weeks: number of later weeks that the outcomes of a week's forecasts reach.
    """
    mean, clustered = clustered_mean(values, week)
    # Rounded, because daylight saving moves a week's start.
    place = np.round((week - week.min()) / np.timedelta64(7, "D")).astype(np.int64)
    sums = np.bincount(place, weights=values - mean)  # 0 in a week without forecasts
    variance = float(sums @ sums)
    for lag in range(1, min(overlap_weeks, len(sums) - 1) + 1):
        variance += 2 * (1 - lag / (overlap_weeks + 1)) * float(sums[lag:] @ sums[:-lag])
    count = week.nunique()
    error = np.sqrt(max(variance, 0.0) * count / max(count - 1, 1)) / len(values)
    return float(np.fmax(error, clustered))


def level_variance(frame: pd.DataFrame) -> Array:
    """Return the variance [n] of forecasts over the forecaster's mean pattern of the day.

    The pattern is the mean variance by slot, relative to the symbol's, over all symbols.

    frame: score frame of one asset class and step.
    """
    variance = (frame["deviation"] ** 2).clip(lower=np.finfo(float).tiny)
    relative = variance / variance.groupby(frame["symbol"]).transform("mean")
    return np.asarray(variance / relative.groupby(frame["slot"]).transform("mean"))


def build_value_table(
    values: Mapping[str, Any],
    labels: Mapping[str, str],
    names: Sequence[str],
    others: Sequence[str],
) -> Table:
    """Return the table of what forecasters are worth, with their gains over others after costs.

    values: figures of `value_forecasters`.
    labels: labels of the asset classes to show.
    names, others: forecasters to show, and those to compare them with.
    """
    rows: list[Row] = []
    for kind, label in labels.items():
        for step, figures in values.get(kind, {}).items():
            for name in names:
                value = figures[name]
                amounts = [_FORMAT_BP(value[column]) for column in ("before_costs", "after_costs")]
                sizes = [format_multiple(value[column]) for column in ("turnover", "leverage")]
                gains = [_format_gain(value["over"].get(other)) for other in others]
                rows.append((label, step, name, *amounts, *sizes, *gains))
    heads = (*VALUE_COLUMNS, *(f"over {name}" for name in others))
    return Table(VALUE_TITLE, heads, rows, (1, 2), optional_columns=(3,))


def _format_gain(gain: Mapping[str, float | None] | None) -> Cell:
    """Return a gain after costs with its interval as a cell; coloured where it excludes zero."""
    if gain is None:
        return EMPTY_CELL
    mean, reach = gain["after_costs"] or 0.0, gain["after_costs_reach"]
    text = _FORMAT_BP(mean, sign=True) + format_plus_minus(reach, _FORMAT_BP)
    is_significant = reach is not None and abs(mean) > reach
    return Cell(text, ("good" if mean > 0 else "bad") if is_significant else "")


def trade_to_band(goal: Array, step: int, start: float, band: float) -> tuple[Array, Array]:
    """Return the held and the traded weights [n] of investors who trade every `step` bars.

    The first `step` weights are bought without a cost.

    goal: [n] logs of the target weights of one symbol at consecutive bars.
    start: log of the weight before the first trade.
    band: distance from the goal within which nothing is traded.
    """
    held = np.empty(len(goal))
    traded = np.zeros(len(goal))
    for t in range(len(goal)):
        before = held[t - step] if t >= step else start
        held[t] = min(max(before, goal[t] - band), goal[t] + band)
        if t >= step:
            traded[t] = abs(np.exp(held[t]) - np.exp(before))
    return np.exp(held), traded


def main() -> None:
    """Print the table of every forecaster of an evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for each in fields(Investor):
        parser.add_argument(f"--{each.name}", type=float, default=each.default)
    investor, words = parser.parse_known_args()
    settings = EvaluationSettings.from_config(compose_config("evaluate", words))
    evaluation = evaluate(settings)
    bars_per_year = {
        kind.value: evaluation.timeframe.clock(kind).bars_per_year for kind in AssetClass
    }
    frames = evaluation.score_frames
    values = value_forecasters(frames, Investor(**vars(investor)), bars_per_year)
    table = build_value_table(values, ASSET_CLASS_LABELS, list(frames), [CONSTANT, *frames])
    print_renderables(open_terminal(), [table])


if __name__ == "__main__":
    main()
