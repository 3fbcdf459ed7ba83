"""Variance in the long run, from what was known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainingdata.bars import CLOSE, Bars
from trainingdata.instants import new_york_four_pm
from trainingdata.instruments import AssetClass
from trainingdata.long_run_variance import PRIOR_YEARLY_VARIANCE, long_run_variances
from trainingdata.sessions import last_four_pms, sessions_between
from trainingdata.synthetic import SyntheticMarket


@pytest.fixture(scope="module")
def long() -> Bars:
    """Synthetic bars of three years, so that the last 250 sessions are not all there are."""
    return SyntheticMarket(
        seed=3,
        information_coefficient=0.0,
        start="2021-01-04",
        end="2023-12-29",
        symbols=("SYA", "SYXUSD"),
    ).generate_bars()


def plainly(bars: Bars, s: int, now: np.datetime64) -> float:
    """An average of squared 16:00-16:00 returns a year, written out: half-life 60, 250 at most,
    the prior for the rest.
    """
    times, values = bars.bars_of_symbol(s)
    marks = new_york_four_pm(
        sessions_between(bars.times[0].astype("datetime64[D]"), now.astype("datetime64[D]"))
    )
    marks = marks[(marks >= bars.times[0]) & (marks <= last_four_pms(np.array([now])))]
    known = np.searchsorted(times, marks, side="right")
    closes = [values[count - 1, CLOSE] if count else np.nan for count in known]
    squared = [x for x in np.diff(np.log(closes)) ** 2 * 252 if np.isfinite(x)][::-1][:250]
    filled = squared + [PRIOR_YEARLY_VARIANCE[bars.instruments[s].kind]] * (250 - len(squared))
    weights = 0.5 ** (np.arange(250) / 60)
    return float(weights @ np.array(filled) / weights.sum())


@settings(max_examples=12)
@given(share=st.floats(0.002, 1))
def test_long_run_variance_averages_daily_squared_returns(long: Bars, share: float) -> None:
    now = long.times[int(share * (len(long.times) - 1))]
    _, rows = long_run_variances(long, np.array([now]))
    for s in range(2):
        assert rows[0, s] == pytest.approx(plainly(long, s, now), rel=1e-12)


def test_variance_without_history_is_the_prior(long: Bars) -> None:
    _, rows = long_run_variances(long, long.times[:1])
    assert [PRIOR_YEARLY_VARIANCE[AssetClass.STOCK], PRIOR_YEARLY_VARIANCE[AssetClass.CRYPTO]] == [
        0.25**2,
        0.75**2,
    ]
    assert rows[0] == pytest.approx([0.25**2, 0.75**2])


def test_long_run_variances_of_no_instants_are_empty(long: Bars) -> None:
    number, rows = long_run_variances(long, long.times[:0])
    assert (number.shape, rows.shape) == ((0,), (0, 2))


@settings(max_examples=25)
@given(share=st.floats(0, 1))
def test_long_run_variance_is_independent_of_panel_start(long: Bars, share: float) -> None:
    """With at least 251 earlier sessions any history gives the same value, for one instant or
    many.
    """
    year = np.timedelta64(380, "D")
    later = long.times[long.times >= long.times[0] + year]
    now = later[int(share * (len(later) - 1))]
    asked = later[:: max(len(later) // 50, 1)]
    number, rows = long_run_variances(long, np.append(asked[asked < now], now))
    known = long.slice_rows(
        int(np.searchsorted(long.times, now - year)), len(long.times)
    ).slice_until(now)
    np.testing.assert_array_equal(
        long_run_variances(known, np.array([now]))[1][0], rows[number[-1]]
    )


def test_long_run_variance_is_constant_until_four_pm(long: Bars) -> None:
    instants = long.times[5000:5100]
    number, rows = long_run_variances(long, instants)
    marks = np.concatenate([last_four_pms(now[None]) for now in instants])
    for k in range(1, len(instants)):
        assert (number[k] == number[k - 1]) == (marks[k] == marks[k - 1])
    assert len(rows) == len(np.unique(marks))
