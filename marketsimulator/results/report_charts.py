"""Charts of a backtest's report."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from foundation.arrays import Array, Index, Instants
from foundation.charts import (
    Chart,
    Series,
    SeriesForm,
    ValueUnit,
    build_pit_density_chart,
    select_downsample_indices,
)
from foundation.formatting import format_number, format_usd
from foundation.tables import DrawnShape
from marketsimulator.results.forecast_outcomes import ForecastOutcomes
from marketsimulator.results.returns_page import CHART_TIMEZONE, RATIO_DIGITS
from marketsimulator.run_result import Run
from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import NEW_YORK, new_york_date, new_york_four_pm

MAX_SPARKLINE_STEPS = 150
MAX_FORECAST_CONES = 40  # forecasts in a chart
FORECAST_CONE_LENGTH_SHARE = (
    0.98  # of the time to the next decision; the rest separates adjacent cones
)


def bar_charts(title: str, values: Mapping[str, float], unit: ValueUnit) -> list[Chart]:
    """Return a bar chart of values by name; none without values."""
    if not values:
        return []
    format_value = format_usd if unit == "usd" else format_number
    texts = ", ".join(f"{name} {format_value(value)}" for name, value in values.items())
    heights = np.array(list(values.values()))
    bars = Series("value", "first", np.arange(float(len(values))), heights, "bars")
    return [Chart(f"{title}: {texts}", (bars,), unit, x_labels=tuple(values))]


def exposure_chart(instants: Instants, weights: Array) -> Chart | None:
    """Return the chart of gross, net, long and short exposure; None without positions.

    instants: instants [D].
    weights: [S, D] signed weights at these instants.
    """
    if not weights.any():
        return None
    long, short = (np.clip(weights, *ends).sum(axis=0) for ends in ((0, None), (None, 0)))
    parts = {"gross": (long - short, "quiet"), "net": (long + short, "third")}
    parts |= {"long": (long, "second"), "short": (short, "limit")}
    if not short.any():
        # Without short positions gross, net and long exposure are equal.
        parts = {"gross = net = long": (long, "first")}
    series = [
        Series(
            name, colour, instants, values, "steps", significant_digits=RATIO_DIGITS
        ).downsample()
        for name, (values, colour) in parts.items()
    ]
    means = ", ".join(
        f"{name} {format_number(values.mean())}× (from {format_number(values.min())}× to"
        f" {format_number(values.max())}×)"
        for name, (values, _) in parts.items()
    )
    return Chart(f"Mean exposure: {means}", tuple(series), "multiple", CHART_TIMEZONE)


def leverage_chart(run: Run, crypto_leverage_limit: float) -> Chart | None:
    """Return the chart of daily maximum exposure by asset class, with the limits.

    None without positions.

    crypto_leverage_limit: limit on crypto exposure, multiple of equity.
    """
    at, equity = run.equity_curve()
    gross = np.array([(row.gross_stock, row.gross_crypto) for row in run.equity_rows])
    leverage = np.zeros_like(gross)
    np.divide(gross, equity[:, None], out=leverage, where=equity[:, None] > 0)
    held = pd.DataFrame(leverage).groupby(new_york_date(at)).max()
    allowed = pd.Series(run.decision_log.stock_ceilings).groupby(
        new_york_date(run.decision_log.instants)
    )
    curves: list[tuple[str, str, pd.Series, SeriesForm]] = []
    if held[1].any():
        curves += [
            ("crypto limit", "quiet", held[1] * 0.0 + crypto_leverage_limit, "steps"),
            ("crypto", "third", held[1], "area"),
        ]
    if held[0].any():
        curves += [
            ("stock limit overnight", "quiet", allowed.min(), "steps"),
            ("stock limit intraday", "limit", allowed.max(), "steps"),
            ("stocks", "first", held[0], "area"),
        ]
    if not curves:
        return None
    # At 16:00 New York: midnight UTC is the evening before there.
    series = [
        Series(
            name,
            colour,
            new_york_four_pm(values.index.to_numpy().astype("datetime64[D]")),
            values.to_numpy(),
            form,
        ).downsample()
        for name, colour, values, form in curves
    ]
    highest = " and ".join(
        f"{format_number(held[kind].max())}× equity in {name}"
        for kind, name in enumerate(("stocks", "crypto"))
        if held[kind].any()
    )
    text = f"Exposure by asset class: maximum {highest}"
    return Chart(text, tuple(series), "multiple", CHART_TIMEZONE)


def pit_chart(pit: Array) -> Chart:
    """Return the density chart of the probability integral transforms [N] of the outcomes."""
    text = "Probability integral transform of the outcomes under normal forecasts,"
    return build_pit_density_chart(text, [pit], ["outcomes"], "calibrated")


def fan_chart(outcomes: ForecastOutcomes, symbol_index: int) -> Chart | None:
    """Return the chart of a symbol's price with its last forecasts as cones (fan chart).

    Each cone ends at the next decision. None for fewer than two forecasts.

    symbol_index: index of the symbol.
    """
    from scipy.special import ndtri

    rows = np.flatnonzero(outcomes.symbol_index == symbol_index)[-MAX_FORECAST_CONES:]
    if len(rows) < 2:
        return None
    price = outcomes.decision_close[rows]
    ends = price * (1 + outcomes.realised_return[rows])
    middle = price * (1 + outcomes.mu[rows])
    deviation = outcomes.sigma[rows] * price
    decisions = np.arange(len(rows) + 1.0)
    places = np.column_stack([decisions[:-1], decisions[:-1] + FORECAST_CONE_LENGTH_SHARE]).ravel()

    def cone_series(name: str, mass: float) -> Series:
        half = ndtri(0.5 + mass / 2) * deviation
        high, low = (np.column_stack([price, middle + sign * half]).ravel() for sign in (1, -1))
        return Series(name, "first", places, high, "band", low)

    inside = int((np.abs(ends - middle) <= ndtri(0.9) * deviation).sum())
    at = pd.DatetimeIndex([*outcomes.decided_at[rows], outcomes.horizon_end[rows[-1]]]).tz_localize(
        "UTC"
    )
    return Chart(
        f"The last {len(rows)} forecasts of {outcomes.symbols[symbol_index]} up to the next"
        " decision, and"
        f" the price: {inside} of {len(rows)} prices are inside the 80% interval",
        (
            cone_series("80% interval", 0.8),
            cone_series("50% interval", 0.5),
            Series("price", "third", decisions, np.append(price, ends[-1])),
        ),
        "usd",
        x_labels=tuple(f"{each.day} {each:%b %H:%M}" for each in at.tz_convert(NEW_YORK)),
    )


def daily_weights(bars: Bars, run: Run, rows: Index) -> Array:
    """Return the signed weights [S, D] of a run at these equity rows; 0 without equity."""
    at, equity = run.equity_curve()
    held = run.position_quantities(bars.symbols)[:, rows]
    for s in np.flatnonzero(held.any(axis=1)).tolist():
        times, values = bars.bars_of_symbol(s)
        held[s] *= values[np.searchsorted(times, at[rows], side="right") - 1, CLOSE]
    weights = np.zeros_like(held)
    np.divide(held, equity[rows], out=weights, where=equity[rows] > 0)
    return weights


def weight_sparkline(weights: Array, all_weights: Array) -> tuple[DrawnShape, ...]:
    """Return a sparkline of one symbol's weights [D], drawn as filled steps.

    all_weights: [S, D] weights of all symbols; their maximum determines the scale.
    """
    scale = max(float(np.abs(all_weights).max(initial=0.0)), 1e-9)
    # Where nothing was short, the half below 0 would be empty.
    zero = 50.0 if (all_weights < 0).any() else 100.0
    axis = ("axis", f"M0 {zero}H1000")
    if not weights.any():
        return (axis,)
    kept = select_downsample_indices(weights, MAX_SPARKLINE_STEPS)
    ends = np.append(kept[1:], len(weights)) * (1000.0 / len(weights))
    heights = zero * (1.0 - weights[kept] / scale)
    steps = (f"V{y:.1f}H{x:.0f}" for x, y in zip(ends.tolist(), heights.tolist(), strict=True))
    return axis, ("area", f"M0 {zero}{''.join(steps)}V{zero}Z")
