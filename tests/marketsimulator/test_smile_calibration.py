"""What prints of options say of the smile: found again where it is known, refused where they
say nothing.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from execution.spreads.rules import CLOCK, TRADING_DAYS
from foundation.errors import DataError, InputError
from marketsimulator.options.pricing import Smile, black_scholes
from marketsimulator.options.prints import Prints, PrintsSettings, prints_of
from marketsimulator.smile_calibration import (
    SmileCalibrationSettings,
    fit_smile,
    jackknife_errors,
)
from tests.commands import overridden, run_command
from trainingdata.bars import Bars, panel
from trainingdata.instruments import instrument
from trainingdata.sessions import stock_grid

SMILE = Smile(level=0.9, slope=0.05, wing=0.15)
SETTINGS = SmileCalibrationSettings(prints=PrintsSettings(file="prints", zone="UTC"))


def market(days: int, seed: int, wander: float) -> tuple[pd.DataFrame, Bars, pd.Series]:
    """Synthetic prints at 12:00 New York of a known smile, the index off its bars by so many
    deviations, bars, and VIX.
    """
    rng = np.random.default_rng(seed)
    grid = stock_grid()
    first = int(np.searchsorted(grid.ends, np.datetime64("2024-07-08")))
    ends = grid.ends[first : first + 7 * days]
    bars = panel(
        [(instrument("SPY"), ends, np.tile([500.0, 501, 499, 500, 1e6], (len(ends), 1)))], "by hand"
    )
    dates = np.unique(ends.astype("datetime64[D]"))
    vix = pd.Series(rng.uniform(15, 30, days), index=pd.DatetimeIndex(dates) - pd.Timedelta(days=1))
    rows = []
    for date, index in zip(dates, vix, strict=True):
        years = SMILE.implied.years(240.0)
        spot = 5015.0 * np.exp(
            wander
            * rng.standard_normal()
            * index
            / 100
            * np.sqrt(0.25 * CLOCK[2] * SMILE.session / TRADING_DAYS)
        )
        for strike in np.arange(4900.0, 5131.0, 10.0):
            call = bool(strike > 5015)
            price = float(
                black_scholes(
                    spot, strike, years, SMILE.volatility(index, spot, strike, years), call=call
                )
            )
            symbol = (
                f"SPXW{date.astype(object):%y%m%d}{'C' if call else 'P'}{int(strike * 1000):08d}"
            )
            rows.append({"symbol": symbol, "exit_time": f"{date} 16:00:00", "exit_price": price})
    return pd.DataFrame(rows), bars, vix


def usable_prints(
    table: pd.DataFrame, bars: Bars, vix: pd.Series, settings: SmileCalibrationSettings
) -> Prints:
    return prints_of(
        table,
        bars,
        vix,
        settings.prints,
        settings.bars,
        session=settings.session,
        doubt=settings.doubt,
    )


def test_the_smile_of_prints_is_found_though_bars_do_not_say_where_the_index_was() -> None:
    prints = usable_prints(*market(8, 1, 1.0), SETTINGS)
    found = fit_smile(prints, SETTINGS)
    sure = jackknife_errors(prints, SETTINGS)
    for name, within in (("level", 0.05), ("slope", 0.02), ("wing", 0.03)):
        assert getattr(found.smile, name) == pytest.approx(getattr(SMILE, name), abs=within)
        assert 0 < sure[name] < within
    assert np.abs(found.shifts).max() > 0.001
    exact = usable_prints(*market(8, 1, 0.0), SETTINGS)
    assert astuple(fit_smile(exact, SETTINGS).smile) == pytest.approx(astuple(SMILE), abs=1e-4)


def test_times_of_another_zone_are_outside_the_session() -> None:
    table, bars, vix = market(8, 1, 0.0)
    with pytest.raises(DataError, match="outside the sessions"):
        usable_prints(table, bars, vix, replace(SETTINGS, prints=PrintsSettings(file="prints")))


def test_what_is_no_option_or_has_no_price_is_refused() -> None:
    table, bars, vix = market(6, 1, 0.0)
    for column, value, says in (
        ("symbol", "SPY", "OCC"),
        ("exit_price", None, "no price"),
        ("exit_time", "noon", "no time"),
    ):
        wrong = table.copy()
        wrong[column] = wrong[column].astype(object)
        wrong.loc[3, column] = value
        with pytest.raises(DataError, match=says):
            usable_prints(wrong, bars, vix, SETTINGS)
    with pytest.raises(DataError, match="'exit_price'"):
        usable_prints(table.drop(columns="exit_price"), bars, vix, SETTINGS)
    with pytest.raises(InputError, match="zone"):
        PrintsSettings(zone="Mars/Olympus")


@pytest.mark.slow
def test_the_command_writes_the_smile_and_refuses_in_a_line(tmp_path: Path) -> None:
    table, bars, vix = market(6, 2, 1.0)
    table.to_parquet(tmp_path / "prints.parquet")
    times, values = bars.real_bars(0)
    stamps = (times - np.timedelta64(1, "h")).astype("datetime64[ns]")
    stamps[6::7] += np.timedelta64(30, "m")
    frame = pd.DataFrame(values, columns=["open", "high", "low", "close", "volume"])
    (tmp_path / "bars").mkdir()
    frame.assign(timestamp=pd.DatetimeIndex(stamps, tz="UTC")).to_parquet(
        tmp_path / "bars" / "SPY.parquet"
    )
    pd.DataFrame({"timestamp": vix.index.tz_localize("UTC"), "close": vix.to_numpy()}).to_parquet(
        tmp_path / "vix.parquet"
    )

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        usual = (
            "prints.file=prints.parquet",
            "prints.zone=UTC",
            "bars.dir=[bars]",
            "bars.vix=vix.parquet",
        )
        given = overridden(usual, words)
        return run_command(["-m", "marketsimulator.smile_calibration", *given], cwd=tmp_path)

    done = run("output=out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out" / "smile.json").read_text())["smile"][
        "level"
    ] == pytest.approx(0.9, abs=0.1)
    for wrong in (
        "prints.file=none.parquet",
        "bars.vix=none",
        "prints.zone=Asia/Tokyo",
        "session=2",
        "prints.price=bid",
    ):
        refused = run(wrong, "output=no")
        assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1), (
            refused.stderr
        )
    assert not (tmp_path / "no").exists()
    for wrong, says in (
        ("output=/proc/no", "output: /proc/no cannot be written"),
        ("prints.file=???", "prints.file: a value"),
    ):
        refused = run(wrong)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert says in refused.stderr
