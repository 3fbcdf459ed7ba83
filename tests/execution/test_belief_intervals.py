"""What is believed is believed over the right interval: from each fill to the decision that can
next change it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import execution.decision.belief_building as module
from execution.decision.belief_building import NoForecast, build_beliefs, build_symbol_belief
from execution.decision.beliefs import BeliefTable, DecisionPeriods, concatenate_beliefs
from forecasting.baseline import RandomWalk
from forecasting.forecast import ForecastTable, no_progress
from forecasting.moments import cumulative_variance, expected_return_between
from tests.execution.traders import Tilted, correlations_of
from tests.support.messages import refused
from trainingdata.bars import Bars
from trainingdata.correlation import CorrelationEstimator
from trainingdata.instruments import AssetClass
from trainingdata.long_run_variance import long_run_variances
from trainingdata.sessions import stock_crypto_news_overlap
from trainingdata.timeframe import HOURLY

HOUR = np.timedelta64(1, "h")
STOCK = "SYA"
COIN = "SYXUSD"
TILTED = Tilted(SYA=1.0, SYB=2.0, SYC=3.0, SYXUSD=4.0, SYYUSD=5.0)


def at(text: str) -> np.datetime64:
    return np.datetime64(text, "ns")


def believed(
    bars: Bars,
    since: str,
    holding: Any = "next",
    forecaster: Any = None,
    correlations: CorrelationEstimator | None = None,
) -> BeliefTable:
    return build_beliefs(
        forecaster or TILTED,
        correlations or CorrelationEstimator(),
        bars,
        at(since),
        volatility_rule="quantile",
        periods=DecisionPeriods(holding),
        progress=no_progress,
    )


def seen(
    bars: Bars,
    symbol: str,
    now: str,
    holding: Any = "next",
    forecaster: Any = None,
    correlations: CorrelationEstimator | None = None,
) -> Any:
    return build_symbol_belief(
        forecaster or TILTED,
        correlations or CorrelationEstimator(),
        bars,
        symbol,
        at(now),
        volatility_rule="quantile",
        periods=DecisionPeriods(holding),
    )


def alone_in(bars: Bars) -> Bars:
    """The bars of one stock."""
    s = bars.symbols.index(STOCK)
    rows = bars.mask[s]
    values, mask = (each[s : s + 1, rows] for each in (bars.values, bars.mask))
    return Bars((bars.instruments[s],), bars.times[rows], values, mask, "one")


def test_lone_symbol_premium_scales_with_the_configured_correlation(market: Bars) -> None:
    """A single symbol has the prior's mean correlation: √ρ̄ of the Sharpe ratio, in the table and
    at a single instant.
    """
    alone = alone_in(market)
    found = []
    for within in (0.2, 0.6):
        known = CorrelationEstimator(within_stocks=within)
        table = believed(alone, str(alone.times[-20]), "next", RandomWalk(), known)
        last = str(table.instants[-1])
        single = seen(
            alone.slice_until(table.instants[-1]), STOCK, last, "next", RandomWalk(), known
        )
        assert table.premium_per_unit_sharpe[-1, 0] == single.premium_per_unit_sharpe[0, 0]
        found.append(single.premium_per_unit_sharpe[0, 0])
    assert found[1] / found[0] == pytest.approx(np.sqrt(3), rel=1e-12)


def elapsed(kind: AssetClass, instant: np.datetime64) -> float:
    """Own bars until an instant: hours of a coin, bars of a stock's sessions."""
    if kind is AssetClass.CRYPTO:
        return float((instant - at("1970-01-01")) / HOUR)
    grid = HOURLY.stock_clock
    return float(np.clip((instant - grid.starts) / (grid.ends - grid.starts), 0.0, 1.0).sum())


def without(bars: Bars, symbol: str, since: str, until: str) -> Bars:
    """The panel without a symbol's bars between two instants."""
    mask = bars.mask.copy()
    mask[bars.symbols.index(symbol), (bars.times > at(since)) & (bars.times <= at(until))] = False
    return Bars(
        bars.instruments,
        bars.times,
        np.where(mask[:, :, None], bars.values, np.nan),
        mask,
        bars.source,
    )


@pytest.mark.parametrize(
    ("now", "holding", "until", "overnight"),
    [
        ("2024-03-05T15:30", "next", "2024-03-05T16:30", False),  # Tuesday, 10:30 New York
        ("2024-03-05T19:30", "next", "2024-03-05T20:30", False),
        ("2024-03-05T20:30", "next", "2024-03-06T15:30", True),
        ("2024-03-01T20:30", "next", "2024-03-04T15:30", True),  # Friday
        ("2024-03-05T15:30", "session", "2024-03-06T15:30", False),
        ("2024-03-05T19:30", "session", "2024-03-06T19:30", False),
        ("2024-03-05T20:30", "session", "2024-03-06T20:30", True),
        ("2024-03-01T20:30", "session", "2024-03-04T20:30", True),
        ("2024-03-06T03:00", "next", "2024-03-06T04:00", True),
        ("2024-03-06T03:00", "session", "2024-03-07T03:00", True),
        ("2024-03-05T19:00", "next", "2024-03-05T20:00", False),
    ],
)
def test_belief_interval_lasts_until_the_holding_periods_end(
    market: Bars, now: str, holding: Any, until: str, overnight: bool
) -> None:
    belief = believed(market.slice_until(at(now)), now, holding).at_instant(at(now))
    assert belief is not None
    assert (belief.instants[0], belief.first_period_end, belief.is_overnight[0]) == (
        at(now),
        at(until),
        overnight,
    )
    for s, item in enumerate(market.instruments):
        year = 8766 if item.kind is AssetClass.CRYPTO else 252 * 7
        assert belief.symbol_trading_years[0, 0, s] == pytest.approx(
            (elapsed(item.kind, at(until)) - elapsed(item.kind, at(now))) / year
        )


@pytest.mark.slow
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), holding=st.sampled_from(["next", "session"]))
def test_belief_mean_and_deviation_come_from_latest_forecast(
    market: Bars, seed: int, holding: Any
) -> None:
    """Computed one by one on a history with gaps: adjustable symbols, mu and sigma, NaN before the
    hundredth bar.
    """
    rng = np.random.default_rng(seed)
    mask = market.mask & (rng.random(market.mask.shape) < 0.97)
    mask[1, : int(rng.integers(0, len(market.times)))] = False
    gappy = np.where(mask[:, :, None], market.values, np.nan)
    bars = Bars(market.instruments, market.times, gappy, mask, market.source)
    decides = mask[0] & np.isin(bars.times, HOURLY.stock_clock.decision_instants)
    since = bars.times[np.flatnonzero(decides)[-int(rng.integers(30, 80))]]
    found = believed(bars, str(since), holding)
    table = TILTED.forecast(bars, since)
    windows = table.windows
    assert len(found.instants) > 40
    assert found.instants[0] == since
    for t in [0, *rng.choice(len(found.instants), 12, replace=False).tolist()]:
        now = found.instants[t]
        until = found.period_ends[t, 0]
        for s, item in enumerate(bars.instruments):
            own = np.flatnonzero((windows.symbol_index == s) & (windows.issued_at <= now))
            if not len(own):
                assert np.isnan(found.mu[t, 0, s])
                assert np.isnan(found.sigma[t, 0, s])
                assert not found.is_adjustable[t, s]
                continue
            last = own[np.argmax(windows.issued_at[own])]
            issued = windows.issued_at[last]
            places = [
                np.array([elapsed(item.kind, when) - elapsed(item.kind, issued)])
                for when in (now, until)
            ]
            one = table.all_quantiles[last][None], table.price[last : last + 1]
            mu = expected_return_between(*one, *places)
            year = 8766 if item.kind is AssetClass.CRYPTO else 252 * 7
            day = cumulative_variance(*one, np.array([24.0]), "quantile", np.zeros(1))
            slow = long_run_variances(bars, np.array([now]))[1][0, s]
            beyond = np.sqrt(day * slow * year / 24) / year
            sigma = np.sqrt(
                np.diff([cumulative_variance(*one, p, "quantile", beyond)[0] for p in places])
            )
            assert found.mu[t, 0, s] == pytest.approx(mu[0], abs=1e-12, nan_ok=True)
            assert found.sigma[t, 0, s] == pytest.approx(sigma[0], abs=1e-9, nan_ok=True)
            hour = now == now.astype("datetime64[h]")
            trades = (
                hour
                if item.kind is AssetClass.CRYPTO
                else now in HOURLY.stock_clock.decision_instants
            )
            known = bool(mask[s, np.searchsorted(bars.times, now)])
            assert found.is_adjustable[t, s] == (
                known and trades and issued == now and sigma[0] > 0
            )


def test_batched_forecasts_give_the_same_beliefs(
    market: Bars, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = believed(market, str(market.times[-90]))
    monkeypatch.setattr(module, "FORECAST_BATCH_SIZE", 7 * len(market.symbols))
    parts = believed(market, str(market.times[-90]))
    np.testing.assert_array_equal(whole.mu, parts.mu)
    np.testing.assert_array_equal(whole.sigma, parts.sigma)
    monkeypatch.setattr(module, "FORECAST_BATCH_SIZE", 1)
    np.testing.assert_array_equal(whole.sigma, believed(market, str(market.times[-90])).sigma)


def test_concatenated_beliefs_equal_beliefs_of_the_whole_span(market: Bars) -> None:
    cuts = [
        at(text)
        for text in ("2024-02-26T14:00", "2024-02-29T03:10", "2024-02-29T22:00", "2024-03-06T15:30")
    ]
    whole = believed(market.slice_until(cuts[-1]), str(cuts[0]))
    after = [cuts[0], *(cut + np.timedelta64(1, "s") for cut in cuts[1:-1])]
    parts = [
        believed(market.slice_until(end), str(begin))
        for begin, end in zip(after, cuts[1:], strict=True)
    ]
    assert concatenate_beliefs([whole]) is whole
    for found in (
        concatenate_beliefs(parts),
        concatenate_beliefs([concatenate_beliefs(parts[:2]), parts[2]]),
    ):
        np.testing.assert_array_equal(found.instants, whole.instants)
        for now in whole.instants:
            one = found.at_instant(now)
            other = whole.at_instant(now)
            assert one is not None
            assert other is not None
            assert one.first_period_end == other.first_period_end
            for values in zip(one, other, strict=True):
                np.testing.assert_array_equal(*values)


def test_first_available_forecast_already_allows_a_decision(market: Bars) -> None:
    first = TILTED.forecast(market, market.times[0]).windows
    found = believed(market, str(market.times[0]))
    here = int(np.searchsorted(found.instants, first.issued_at[0]))
    assert found.instants[here] == first.issued_at[0]
    assert found.is_adjustable[here, first.symbol_index[0]]
    lone = alone_in(market.slice_until(at("2024-03-05T17:30")))
    lone = lone.slice_rows(len(lone.times) - 100, len(lone.times))
    assert seen(lone, STOCK, "2024-03-05T17:30").is_adjustable.all()


def test_cross_class_correlation_scales_with_shared_news_time(market: Bars) -> None:
    now = at("2024-03-05T17:30")
    panel = market.slice_until(now)
    belief = believed(panel, str(now)).at_instant(now)
    early = believed(market.slice_until(at("2024-03-05T14:00")), "2024-03-05T14:00").at_instant(
        at("2024-03-05T14:00")
    )
    assert belief is not None
    assert early is not None
    highest = []
    for one, when in ((belief, now), (early, at("2024-03-05T14:00"))):
        plain = CorrelationEstimator().matrix_at_end(market.slice_until(when)).values
        across = market.crypto[:, None] != market.crypto[None, :]
        correlation = correlations_of(one)[0]
        np.testing.assert_allclose(correlation[~across], plain[~across], atol=1e-6)
        highest.append(correlation[across].max())
        share = correlation[across] / plain[across]
        (news,) = stock_crypto_news_overlap(np.array([when]), np.array([one.first_period_end]))
        np.testing.assert_allclose(share, news, rtol=1e-4)
        assert np.diag(correlation) == pytest.approx(np.ones(len(market.symbols)))
    assert highest[1] < 0.5 * highest[0], "half an hour before the open"


def test_instants_without_a_decision_have_no_belief(market: Bars) -> None:
    found = believed(market, "2024-03-05T14:00")
    assert found.at_instant(at("2024-03-05T14:30")) is None
    assert found.at_instant(at("2030-01-01")) is None
    assert found.at_instant(found.instants[0]) is not None
    assert found.at_instant(found.instants[0] - HOUR) is None
    close = found.at_instant(at("2024-03-05T21:00"))
    assert close is not None
    assert [s for s, d in zip(market.symbols, close.is_adjustable[0], strict=True) if d] == [
        "SYXUSD",
        "SYYUSD",
    ]


@pytest.mark.parametrize("holding", ["next", "session"])
@pytest.mark.parametrize(
    ("symbol", "now"),
    [(STOCK, "2024-03-05T17:30"), (STOCK, "2024-03-05T20:30"), (COIN, "2024-03-06T03:00")],
)
def test_single_symbol_belief_at_decision_equals_belief_table(
    market: Bars, symbol: str, now: str, holding: Any
) -> None:
    panel = market.slice_until(at(now))
    one = seen(panel, symbol, now, holding)
    all_ = believed(panel, now, holding).at_instant(at(now))
    assert all_ is not None
    s = panel.symbols.index(symbol)
    assert one.is_adjustable.tolist() == [[name == symbol for name in panel.symbols]]
    assert (one.instants, one.first_period_end, one.is_overnight) == (
        all_.instants,
        all_.first_period_end,
        all_.is_overnight,
    )
    assert not one.can_trim_overnight.any()
    for name in ("mu", "sigma", "symbol_trading_years"):
        assert getattr(one, name)[0, 0, s] == pytest.approx(getattr(all_, name)[0, 0, s])
    np.testing.assert_allclose(correlations_of(one), correlations_of(all_), atol=1e-6)


def test_belief_within_a_bar_covers_only_remaining_time(market: Bars) -> None:
    panel = market.slice_until(at("2024-03-05T17:30"))
    s = market.symbols.index(STOCK)
    whole = seen(panel, STOCK, "2024-03-05T17:30")
    half = seen(panel, STOCK, "2024-03-05T18:00")
    assert half.first_period_end == whole.first_period_end == at("2024-03-05T18:30")
    assert half.mu[0, 0, s] == pytest.approx(whole.mu[0, 0, s] / 2)
    assert half.sigma[0, 0, s] ** 2 == pytest.approx(whole.sigma[0, 0, s] ** 2 / 2)
    assert half.symbol_trading_years[0, 0, s] == pytest.approx(
        whole.symbol_trading_years[0, 0, s] / 2
    )
    evening = seen(market.slice_until(at("2024-03-05T20:30")), STOCK, "2024-03-05T20:45")
    assert (evening.is_overnight, evening.first_period_end) == (True, at("2024-03-06T15:30"))


def test_missing_forecast_error_states_the_reason(market: Bars) -> None:
    panel = market.slice_until(at("2024-03-05T17:30"))
    with refused(NoForecast, "ZZZ"):
        seen(panel, "ZZZ", "2024-03-05T17:30")
    assert seen(panel, STOCK, "2024-03-05T18:29").is_adjustable.any()
    with refused(NoForecast, "2024-03-05T17:30Z", "2024-03-05T18:30Z"):
        seen(panel, STOCK, "2024-03-05T18:30")
    stale = without(panel, STOCK, "2024-03-05T16:30", "2024-03-05T17:30")
    with refused(NoForecast, "2024-03-05T16:30Z"):
        seen(stale, STOCK, "2024-03-05T17:30")
    never = without(panel, STOCK, "2000-01-01", "2024-03-05T17:30")
    with refused(NoForecast):
        seen(never, STOCK, "2024-03-05T17:30")
    few = without(panel, STOCK, "2000-01-01", "2024-02-20T00:00")
    with refused(NoForecast):
        seen(few, STOCK, "2024-03-05T17:30")


def test_forecast_without_dispersion_counts_as_missing(market: Bars) -> None:
    class Certain(RandomWalk):
        def forecast(
            self, bars: Bars, since: np.datetime64, progress: Any = no_progress
        ) -> ForecastTable:
            table = super().forecast(bars, since, progress)
            certain = 0 * table.all_quantiles + table.price[:, None, None]
            return replace(table, quantiles=certain.astype(np.float32))

    panel = market.slice_until(at("2024-03-05T17:30"))
    with refused(NoForecast, "2024-03-05T17:30Z", "2024-03-05T18:30Z"):
        seen(panel, STOCK, str(panel.last_instant), "next", Certain())
    assert len(believed(panel, str(panel.last_instant), "next", Certain()).instants) == 0
