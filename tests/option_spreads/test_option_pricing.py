"""Options against published values, parity and an independent library."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import QuantLib
from hypothesis import given
from hypothesis import strategies as st

from foundation.errors import InputError
from option_spreads.selling.rules import Spread, StrikeLeg, build_spread
from option_spreads.simulation.pricing import Smile, black_scholes, compute_spread_prices

spots = st.floats(100, 10_000)
strikes = st.floats(100, 10_000)
years = st.floats(1e-6, 2.0)
volatilities = st.floats(0.01, 2.0)


@given(spots, strikes, years, volatilities, st.booleans())
def test_option_values_match_quantlib_and_put_call_parity(
    s: float, k: float, t: float, v: float, call: bool
) -> None:
    side = QuantLib.Option.Call if call else QuantLib.Option.Put
    theirs = QuantLib.blackFormula(side, k, s, v * np.sqrt(t))
    mine = float(black_scholes(s, k, t, v, call=call))
    assert mine == pytest.approx(theirs, abs=1e-9 * max(s, k))
    other = float(black_scholes(s, k, t, v, call=not call))
    assert mine - other == pytest.approx((s - k) * (1 if call else -1), abs=1e-9 * max(s, k))


def test_option_without_time_or_volatility_has_intrinsic_value() -> None:
    spots = np.array([90.0, 100, 110])
    for t, v in ((0.0, 0.2), (0.5, 0.0), (0.0, 0.0)):
        for call, worth in ((True, [0, 0, 10]), (False, [10, 0, 0])):
            assert black_scholes(spots, 100, t, v, call=call).tolist() == worth


@given(
    st.floats(3000, 8000),
    st.floats(0, 200),
    st.sampled_from([5.0, 10.0, 25.0]),
    st.floats(1e-5, 0.02),
    st.floats(9, 80),
    st.sampled_from(["CALL", "PUT", "IRON_CONDOR", "OTM-SS"]),
)
def test_a_spread_costs_between_nothing_and_its_width(
    spot: float, distance: float, width: float, t: float, vix: float, strategy: str
) -> None:
    spread = build_spread(strategy, spot, distance=distance, width=width)
    assert spread.width == width
    flat = Smile(slope=0.0, wing=0.0)
    worth, credit, asked = compute_spread_prices(spread, spot, t, vix, flat)
    _, worse, dearer = compute_spread_prices(spread, spot, t, vix, flat, 0.05)
    cents = 0.01 * len(spread.legs) + 1e-9
    prices = [-cents, credit, worth, asked, width + cents]
    assert all(one <= other + 1e-9 for one, other in pairwise(prices))
    assert worse <= credit
    assert asked <= dearer <= width + 6 * cents
    for leg in spread.legs:
        points = leg.strike - spot if leg.is_call else spot - leg.strike
        assert not leg.is_short or distance - 1e-6 <= points < distance + 5 + 1e-6


@given(st.floats(4000, 6000), st.sampled_from(["CALL", "PUT", "IRON_CONDOR"]))
def test_spread_settles_at_its_intrinsic_value(settled: float, strategy: str) -> None:
    spread = build_spread(strategy, 5000.0, distance=20, width=5)
    above = min(max(settled - 5020, 0), 5)
    below = min(max(4980 - settled, 0), 5)
    owed = {"CALL": above, "PUT": below, "IRON_CONDOR": above + below}[strategy]
    assert spread.settlement_value(settled) == pytest.approx(owed, abs=1e-9)
    assert float(compute_spread_prices(spread, settled, 0.0, 20.0, Smile())[0]) == pytest.approx(
        owed, abs=1e-9
    )


def test_volatility_smile_rises_more_below_the_spot() -> None:
    smile = Smile()
    day = 1 / 252
    low, middle, high = smile.implied_volatility(
        20.0, 5000.0, np.array([4900.0, 5000.0, 5100.0]), day
    )
    assert low > high > middle
    assert middle == pytest.approx(0.2 * smile.vix_multiple)
    assert Smile(vix_multiple=1.0, slope=0, wing=0).implied_volatility(
        20.0, 5000.0, 4900.0, day
    ) == pytest.approx(0.2)


@pytest.mark.parametrize(
    "legs",
    [
        (StrikeLeg(5000, True, "sell"),),
        (StrikeLeg(5000, True, "sell"), StrikeLeg(4990, True, "buy")),
        (StrikeLeg(5000, False, "sell"), StrikeLeg(5010, False, "buy")),
        (StrikeLeg(5000, True, "sell"), StrikeLeg(5010, False, "buy")),
        (StrikeLeg(5000, True, "buy"), StrikeLeg(5010, True, "sell")),
    ],
)
def test_unprotected_short_legs_are_refused(legs: tuple[StrikeLeg, ...]) -> None:
    with pytest.raises(InputError):
        Spread("CALL", legs)


@pytest.mark.parametrize(
    ("strategy", "distance", "width"),
    [("PUT", -1, 5), ("PUT", 0, 0), ("PUT", 4999, 5), ("STRADDLE", 5, 5)],
)
def test_invalid_strikes_are_refused(strategy: str, distance: float, width: float) -> None:
    with pytest.raises(InputError):
        build_spread(strategy, 5000.0, distance=distance, width=width)
