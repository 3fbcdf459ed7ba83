"""The Kelly share of a binary contract is the one that grows fastest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sizing.kelly import binary_kelly

chances = st.floats(0.0, 1.0)
prices = st.floats(0.01, 0.99)


def growth(share: float, chance: float, price: float) -> float:
    """Expected log growth of a share of wealth in contracts at a price."""
    return float(chance * np.log1p(share / price - share) + (1 - chance) * np.log1p(-share))


@given(chances, prices, st.floats(0.0, 0.999))
def test_no_other_share_grows_faster(chance: float, price: float, other: float) -> None:
    share = float(binary_kelly(chance, price, 1.0))
    assert 0 <= share <= 1
    if share < 1:
        assert growth(share, chance, price) >= growth(other, chance, price) - 1e-12


@given(chances, prices)
def test_at_most_one_side_of_a_market_is_worth_buying(chance: float, price: float) -> None:
    yes = binary_kelly(chance, price)
    no = binary_kelly(1 - chance, 1 - price)
    assert min(yes, no) <= 1e-12
    assert (yes > 0) == (chance > price)


@given(chances, prices, st.floats(0.01, 3.0))
def test_a_fraction_is_a_share_of_the_whole(chance: float, price: float, fraction: float) -> None:
    whole = binary_kelly(chance, price, 1.0)
    assert binary_kelly(chance, price, fraction) == pytest.approx(fraction * whole)


def test_figures_to_check_by_hand() -> None:
    assert binary_kelly([0.6, 0.5, 0.4], 0.5, 1.0) == pytest.approx([0.2, 0.0, 0.0])
    assert float(binary_kelly(1.0, 0.9, 1.0)) == pytest.approx(1.0)
    assert float(binary_kelly(0.8, 0.6)) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("chance", "price", "fraction", "says"),
    [
        (1.1, 0.5, 0.5, "probability must be"),
        (float("nan"), 0.5, 0.5, "probability must be"),
        (0.5, 0.0, 0.5, "price must be"),
        (0.5, [0.5, 1.0], 0.5, "price must be"),
        (0.5, 0.5, 0.0, "fraction must be"),
        (0.5, 0.5, float("inf"), "fraction must be"),
    ],
)
def test_what_is_no_bet_is_refused(chance: float, price: float, fraction: float, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        binary_kelly(chance, price, fraction)
