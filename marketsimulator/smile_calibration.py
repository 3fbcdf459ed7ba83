r"""The smile that prints of same-day index options imply, and how sure it is.

    python -m marketsimulator.smile_calibration prints.file=PRINTS prints.zone=UTC \
        bars.dir=[DIR] bars.vix=VIX.parquet

Hourly bars do not say where the index stood when an option traded. So every day's index and level
are free, the index within what a Brownian bridge between the nearest bars allows, the level around
a common one, and all prices are fitted at once: the prints of one day at many strikes say where the
index was. Errors are a jackknife over days.
"""

from __future__ import annotations

from foundation.opening import open_command

if __name__ == "__main__":
    open_command("marketsimulator.smile_calibration", __doc__, settings="smile", hydra=True)

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from omegaconf import DictConfig
from scipy.optimize import least_squares

from execution.spreads.rules import SESSION_SHARE
from foundation.arrays import Array
from foundation.command import one_line_errors
from foundation.compose import hydra_command
from foundation.configuration import output_of, settings_of
from foundation.counts import counted
from foundation.errors import DataError, refuse_outside
from foundation.files import write_whole
from foundation.progress import ProgressBar
from foundation.terminal import terminal
from marketsimulator.options.pricing import Smile, black_scholes
from marketsimulator.options.prints import (
    Prints,
    PrintsSettings,
    UnderlyingSettings,
    counts_text,
    prints_of,
)
from trainingdata.bar_files import read_bars
from trainingdata.volatility_index import volatility_index

PARAMETERS = ("level", "slope", "wing")  # of a smile, as they are fitted


@dataclass(frozen=True, slots=True)
class SmileCalibrationSettings:
    """Settings of configs/smile.yaml.

    prints: where the prints are.
    bars: where the index comes from.
    session: share of a day's variance between open and close, 0.01 … 1.
    doubt: deviation of the scale, relative, 1e-6 … 0.1.
    error: of a price, relative, besides a tick, 1e-4 … 1.
    tick: points, 1e-4 … 10.
    day_level: deviation of the logarithm of the level from day to day, 0.001 … 2.
    output: folder for the results.
    """

    prints: PrintsSettings = field(default_factory=PrintsSettings)
    bars: UnderlyingSettings = field(default_factory=UnderlyingSettings)
    session: float = SESSION_SHARE
    doubt: float = 0.0007
    error: float = 0.05
    tick: float = 0.05
    day_level: float = 0.2
    output: str = "outputs/smile"

    def __post_init__(self) -> None:
        refuse_outside(
            self,
            session=(0.01, 1),
            doubt=(1e-6, 0.1),
            error=(1e-4, 1),
            tick=(1e-4, 10),
            day_level=(1e-3, 2),
        )


@dataclass(frozen=True, eq=False, slots=True)
class SmileFit:
    """The smile that fits the prints of D days best.

    smile: common to all days.
    levels: logarithm of each day's level over the common one [D].
    shifts: logarithm of each day's index over what its bars say [D].
    error: of the logarithm of prices, root mean square.
    """

    smile: Smile
    levels: Array
    shifts: Array
    error: float


def fit_smile(prints: Prints, settings: SmileCalibrationSettings) -> SmileFit:
    """The smile that all prints agree on best.

    Least squares over level, slope, wing, and each day's index and level with a prior on both.
    """
    # A point of the search holds level, slope and wing, each day's shift, then each day's level.
    days = len(prints.days)
    day = prints.day
    # A day has one shift, so it may be as large as its least certain print allows.
    deviation = np.array([prints.spot_deviation[day == d].max() for d in range(days)])
    # A cheap option is known to a tick, a dear one to a share of its price.
    weight = np.sqrt(settings.error**2 + (settings.tick / prints.price) ** 2)

    def misfit(point: Array) -> Array:
        spot = prints.spot * np.exp(point[3 : 3 + days][day])
        index = prints.vix * np.exp(point[3 + days :][day])
        # Where the smile's floor binds, a price says nothing of slope and wing: it is set low.
        smile = Smile(point[0], point[1], point[2], 0.1, settings.session)
        volatility = smile.volatility(index, spot, prints.strike, prints.years)
        value = black_scholes(spot, prints.strike, prints.years, volatility, call=prints.call)
        return np.asarray(np.log(np.maximum(value, 1e-4) / prints.price))

    def residuals(point: Array) -> Array:
        shifts = point[3 : 3 + days] / deviation
        levels = point[3 + days :] / settings.day_level
        return np.concatenate([misfit(point) / weight, shifts, levels])

    # Shifts and levels are held by their priors; these bounds lie far beyond them.
    start = np.concatenate([[0.8, 0.0, 0.2], np.zeros(2 * days)])
    low = np.full(len(start), -1.0)
    high = np.full(len(start), 1.0)
    low[:3] = (0.05, -1.0, 0.0)
    high[:3] = (5.0, 1.0, 2.0)
    # A shift is some thousandths and the level near one: each is scaled by its effect on prices.
    best = least_squares(residuals, start, bounds=(low, high), x_scale="jac").x
    level, slope, wing = (float(value) for value in best[:3])
    smile = replace(Smile(), level=level, slope=slope, wing=wing, session=settings.session)
    error = float(np.sqrt((misfit(best) ** 2).mean()))
    return SmileFit(smile, best[3 + days :], best[3 : 3 + days], error)


def jackknife_errors(prints: Prints, settings: SmileCalibrationSettings) -> dict[str, float]:
    """Standard errors of level, slope and wing: the jackknife over days.

    Prints of a day share its index and its level, so that days are left out, and not prints.
    """
    points = []
    for day in range(len(prints.days)):
        smile = fit_smile(prints.without_day(day), settings).smile
        points.append([getattr(smile, name) for name in PARAMETERS])
    estimates = np.array(points)
    n = len(estimates)
    squares = ((estimates - estimates.mean(axis=0)) ** 2).sum(axis=0)
    deviations = np.sqrt((n - 1) / n * squares)
    return dict(zip(PARAMETERS, deviations.tolist(), strict=True))


def read_prints(settings: SmileCalibrationSettings) -> Prints:
    """The prints that can be used, from the settings' files.

    Raises
    ------
    InputError
        for files that cannot be read, or too few prints that can be used.
    """
    path = Path(settings.prints.file).expanduser()
    try:
        table = pd.read_csv(path) if path.suffix == ".csv" else pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"prints.file: {path} cannot be read: {reason}") from error
    folders = [Path(folder).expanduser() for folder in settings.bars.dir]
    bars = read_bars(folders, [settings.bars.symbol], unzoned=settings.bars.unzoned())
    vix = volatility_index(settings.bars.vix)
    return prints_of(
        table,
        bars,
        vix,
        settings.prints,
        settings.bars,
        session=settings.session,
        doubt=settings.doubt,
    )


def _summary(prints: Prints, fit: SmileFit, errors: dict[str, float]) -> dict[str, Any]:
    """The content of `smile.json`."""
    counts = np.bincount(prints.day, minlength=len(prints.days)).tolist()
    days = []
    for k, date in enumerate(prints.days):
        level = float(fit.levels[k])
        shift = float(fit.shifts[k])
        days.append({"day": date, "prints": counts[k], "log_level": level, "shift": shift})
    return {
        "smile": asdict(fit.smile),
        "standard_errors": errors,
        "price_error": fit.error,
        "level_between_days": float(np.std(fit.levels)),
        "prints": len(prints.price),
        "left_out": prints.left_out,
        "days": days,
    }


def _run_composed(config: DictConfig) -> None:
    with one_line_errors("nothing was written") as folders:
        output = Path(str(config.output)).expanduser()
        folders.append(output)
        settings = settings_of(SmileCalibrationSettings, config, lists=("bars.dir",))
        output_of(config, "smile.json")
        prints = read_prints(settings)
        with ProgressBar():
            fit = fit_smile(prints, settings)
            summary = _summary(prints, fit, jackknife_errors(prints, settings))
        text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
        write_whole({"smile.json": lambda path: path.write_text(text)}, output)
    _print_summary(summary)


def _print_summary(summary: dict[str, Any]) -> None:
    errors = summary["standard_errors"]
    estimates = [f"{name} {summary['smile'][name]:.3f} ± {errors[name]:.3f}" for name in errors]
    left_out = counts_text(summary["left_out"]) or "none"
    between = summary["level_between_days"]
    console = terminal(highlight=False, soft_wrap=True)
    console.print("  ".join(estimates))
    console.print(
        f"{counted(summary['prints'], 'print')} on {counted(len(summary['days']), 'day')};"
        f" left out: {left_out}"
    )
    console.print(f"prices within {summary['price_error']:.1%}; level between days ± {between:.1%}")


def main() -> None:
    """Hydra entry."""
    hydra_command("smile", _run_composed)


if __name__ == "__main__":
    main()
