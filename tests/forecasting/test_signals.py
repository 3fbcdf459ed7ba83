"""A signal's claim becomes a mean return, from bars until its instant alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.breakout_signal import breakout
from forecasting.forecast import HORIZON, MEDIAN_INDEX
from forecasting.signals import SignalForecaster, Signals, mean_claimed_return
from foundation.errors import InputError
from trainingdata.bars import Bars
from trainingdata.history import PriceHistory

SINCE = np.datetime64("2024-02-20", "ns")


@given(hit_rate=st.floats(0.05, 0.95), payoff=st.floats(0.1, 10.0))
def test_claimed_mean_follows_from_hit_rate_and_payoff(hit_rate: float, payoff: float) -> None:
    """A trade wins `payoff` with the hit rate and otherwise loses 1."""
    mean = hit_rate * payoff - (1.0 - hit_rate)
    variance = hit_rate * payoff**2 + (1.0 - hit_rate) - mean**2
    claims = mean_claimed_return(Signals(np.array([1.0, 0.0, -1.0]), hit_rate, payoff), 3)
    np.testing.assert_allclose(
        claims, np.array([1.0, 0.0, -1.0]) * mean / np.sqrt(variance), rtol=1e-9
    )


def long_always(history: PriceHistory) -> Signals:
    return Signals(np.ones(len(history.closes)), 0.6)


def test_signal_forecast_grows_until_the_holding_period_ends(market: Bars) -> None:
    table = SignalForecaster("long", long_always, holding_bars=6).forecast(market, SINCE)
    medians = np.log(table.all_quantiles[..., MEDIAN_INDEX] / table.price[:, None])
    np.testing.assert_allclose(medians[:, 2] / medians[:, 5], 0.5, rtol=1e-3)
    np.testing.assert_allclose(medians[:, 5:], medians[:, 5:6] * np.ones(HORIZON - 5), rtol=1e-3)
    assert (medians > 0).all()


def test_later_bars_change_no_signal(
    market: Bars, scrambled_after: Callable[[Bars, np.datetime64], Bars]
) -> None:
    cut = np.datetime64("2024-02-28", "ns")
    plain, changed = (
        breakout().forecast(bars, SINCE) for bars in (market, scrambled_after(market, cut))
    )
    known = plain.windows.issued_at <= cut
    np.testing.assert_array_equal(plain.all_quantiles[known], changed.all_quantiles[known])
    assert (plain.all_quantiles[~known] != changed.all_quantiles[~known]).any()
    assert (
        len(np.unique(np.sign(plain.all_quantiles[:, 0, MEDIAN_INDEX] / plain.price - 1).round()))
        == 3
    )


@pytest.mark.parametrize(
    ("signals", "line"),
    [
        (Signals(np.array([0.5]), 0.6), "signals.direction: "),
        (Signals(np.array([1.0]), 1.0), "signals.hit_rate: "),
        (Signals(np.array([1.0]), 0.6, -1.0), "signals.payoff: "),
    ],
)
def test_invalid_signal_claims_are_refused(signals: Signals, line: str) -> None:
    with pytest.raises(InputError, match=line):
        mean_claimed_return(signals, 1)


@pytest.mark.parametrize("words", [{"holding_bars": 25}, {"lookback": 20}])
def test_signal_forecaster_refuses_impossible_lengths(words: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(words))):
        replace(SignalForecaster("long", long_always), **words)
