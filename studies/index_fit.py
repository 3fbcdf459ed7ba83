"""Agreement of the simulated index, its option prices and a real index.

    python studies/index_fit.py BARS VIX.parquet [--symbol SPY] [--check 2025-01-01]
        [--until 2025-06-30] [--years 40] [--seed 0]

BARS is a folder of hourly bars. The model's clock and premium are fitted to sessions before
--check, and checked on the later ones. Prints for the simulated index, its option prices, and both
parts of the real index: variance by hour, implied over realised deviation, how often the index ends
beyond a strike, and the kurtosis of days. Errors come from whole days drawn with replacement; a
simulation has the error of as many days.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.special import ndtr

from foundation.arrays import Array, Mask
from option_spreads.selling.rules import HOURLY_VARIANCE_SHARES, SESSION_MINUTES, TRADING_DAYS
from option_spreads.simulation.path import IndexModel, IndexPaths, build_index_paths
from option_spreads.simulation.pricing import Smile
from trainingdata.bar_files import read_bars
from trainingdata.sessions import exchange_calendar
from trainingdata.volatility_index import read_volatility_index

MARKS = (0, 60, 120, 180, 240, 300, 360, SESSION_MINUTES)
ENTRIES = (30, 120, 210)  # minutes, as in `SpreadRules`
DRAWS = 300


def ends_in_deviations(days: IndexPaths, smile: Smile, minute: int) -> Array:
    """Return moves from a minute to the close, over the implied deviation at the money [D]."""
    row = int(np.searchsorted(days.minutes_since_open, minute))
    deviation = smile.annual_standard_deviation(days.vix[:, row])
    moves = np.log(days.spot[:, -1] / days.spot[:, row])
    return np.asarray(
        moves / (deviation * np.sqrt(smile.remaining_variance_years(SESSION_MINUTES - minute)))
    )


def hourly_squares(days: IndexPaths) -> Array:
    """Return squared moves by hour over the volatility index at the open, [D, 7]."""
    rows = np.searchsorted(days.minutes_since_open, MARKS)
    moves = np.diff(np.log(days.spot[:, rows]), axis=1)
    return np.asarray((moves / days.vix[:, :1] * 100) ** 2 * TRADING_DAYS)


def with_error(values: Array, figure: Callable[[Array], Array], seed: int) -> tuple[Array, Array]:
    """Return a figure of days [D, …], and its standard error from days drawn with replacement."""
    rng = np.random.default_rng([seed, 3])
    count = len(values)
    drawn = [figure(values[rng.integers(0, count, count)]) for _ in range(DRAWS)]
    return figure(values), np.std(drawn, axis=0)


def part_of(days: IndexPaths, kept: Mask) -> IndexPaths:
    """Return the sessions of a mask [D]."""
    return IndexPaths(
        days.dates[kept], days.minutes_since_open, days.spot[kept], days.vix[kept], days.source
    )


def figure_rows(days: IndexPaths, smile: Smile, seed: int) -> dict[str, tuple[Array, Array]]:
    """Return every figure of some days with its error."""
    far = np.stack([ends_in_deviations(days, smile, minute) for minute in ENTRIES], axis=1)
    squares = hourly_squares(days)
    whole = ends_in_deviations(days, smile, 0)[:, None]
    opens, late = np.searchsorted(days.minutes_since_open, (0, 300))
    moves = np.log(days.spot[:, -1:] / days.spot[:, [opens, late]]) / days.vix[:, :1]
    figures = {
        "share by hour": (squares, lambda q: q.mean(0) / q.mean() / q.shape[1]),
        "last 90 minutes over the clock's": (
            squares,
            lambda q: q[:, 5:].mean(0).sum() / q.mean(0).sum() / sum(HOURLY_VARIANCE_SHARES[5:]),
        ),
        "variance to the close from 14:30, over the clock's": (
            moves**2,
            lambda q: q[:, 1].mean() / q[:, 0].mean() / sum(HOURLY_VARIANCE_SHARES[5:]),
        ),
        "implied over realised, rms": (
            far,
            lambda x: root_mean_square(smile) / np.sqrt((x**2).mean(0)),
        ),
        "… all three": (far, lambda x: root_mean_square(smile) / np.sqrt((x**2).mean())),
        "implied over realised, mean size": (far, lambda x: mean_size(smile) / np.abs(x).mean()),
        "P(below the put strike, 1)": (far, lambda x: (x < -1).mean(0)),
        "… all three ": (far, lambda x: (x < -1).mean()),
        "P(above the call strike, 1)": (far, lambda x: (x > 1).mean(0)),
        "…  all three": (far, lambda x: (x > 1).mean()),
        "P(beyond 0.6, both sides)": (far, lambda x: (np.abs(x) > 0.6).mean()),
        "P(beyond 2, both sides)": (far, lambda x: (np.abs(x) > 2).mean()),
        "kurtosis of sessions": (whole, lambda x: (x**4).mean() / (x**2).mean() ** 2),
        "kurtosis of hours": (squares / squares.mean(0), lambda q: (q**2).mean() / q.mean() ** 2),
        "night's share of a day": (
            np.stack([night_squares(days), squares.sum(1)[1:]], axis=1),
            lambda q: q[:, 0].mean() / q.mean(0).sum(),
        ),
    }
    return {name: with_error(values, figure, seed) for name, (values, figure) in figures.items()}


def night_squares(days: IndexPaths) -> Array:
    """Return squared overnight moves in the units of `hourly_squares` [D - 1]."""
    moves = np.log(days.spot[1:, 0] / days.spot[:-1, -1])
    return np.asarray((moves / days.vix[:-1, -1] * 100) ** 2 * TRADING_DAYS)


def below(smile: Smile, x: Array) -> Array:
    """Return the implied probability that the index ends lower than x deviations away [N].

    It is the slope of a put's value in its strike (Breeden and Litzenberger 1978), for a deviation
    that is small relative to the index. With the smile v and u = x / v(x), the slope is
    N(u) + φ(u) · v'(x).
    """
    curve = 1 - smile.slope * x + smile.wing * (np.hypot(1.0, x) - 1)
    rise = np.where(
        curve > smile.min_volatility_share, smile.wing * x / np.hypot(1.0, x) - smile.slope, 0.0
    )
    u = x / np.maximum(curve, smile.min_volatility_share)
    return np.asarray(ndtr(u) + np.exp(-u * u / 2) / np.sqrt(2 * np.pi) * rise)


def beyond(smile: Smile, x: Array) -> Array:
    """Return the implied probability of an end at least x deviations away [N], on either side."""
    return np.asarray(1 - below(smile, x) + below(smile, -x))


def mean_size(smile: Smile) -> float:
    """Return the mean distance from the present index, in deviations at the money."""
    x = np.linspace(0, 30, 3_001)
    return float(np.trapezoid(beyond(smile, x), x))


def root_mean_square(smile: Smile) -> float:
    """Return the root mean square distance from the present index, in deviations at the money."""
    x = np.linspace(0, 30, 3_001)
    return float(np.sqrt(np.trapezoid(2 * x * beyond(smile, x), x)))


def main() -> None:
    """Read the bars, simulate, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("bars", type=Path)
    parser.add_argument("vix", type=Path)
    parser.add_argument("--symbol", default="SPY")
    parser.add_argument("--check", default="2025-01-01")
    parser.add_argument("--until", default="2025-06-30")
    parser.add_argument("--years", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    smile = Smile()
    vix = read_volatility_index(str(words.vix))[: words.until]
    real = build_index_paths(read_bars([words.bars], [words.symbol]), words.symbol, vix)
    real = part_of(real, real.dates <= np.datetime64(words.until))
    checked = real.dates >= np.datetime64(words.check)
    dates = np.resize(exchange_calendar().dates[:TRADING_DAYS], words.years * TRADING_DAYS)
    model = IndexModel()
    columns = {
        "model": model.simulate_paths(dates, words.seed, smile),
        "premium 0": replace(model, volatility_premium=0.0).simulate_paths(
            dates, words.seed, smile
        ),
        f"{words.symbol} before": part_of(real, ~checked),
        f"{words.symbol} from": part_of(real, checked),
    }
    for name, days in columns.items():
        print(f"\n{name}: {len(days.dates)} sessions, {days.dates[0]} to {days.dates[-1]}")
        priced = smile if name.startswith(words.symbol) else smile.flat_smile
        for label, (value, error) in figure_rows(days, priced, words.seed).items():
            numbers = zip(np.atleast_1d(value), np.atleast_1d(error), strict=True)
            print(f"  {label:50}", "  ".join(f"{v:.3f} ± {e:.3f}" for v, e in numbers))
    low, high = below(smile, np.array([-1.0, 1.0]))
    print(f"\nprices: P(below) {low:.3f}, P(above) {1 - high:.3f}, clock {HOURLY_VARIANCE_SHARES}")
    print(f"deviation of their ends {root_mean_square(smile):.3f}")


if __name__ == "__main__":
    main()
