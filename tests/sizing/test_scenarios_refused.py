"""Scenarios that cannot be drawn are refused with one line, and extreme correlations are kept."""

from __future__ import annotations

import numpy as np
import pytest

from foundation.errors import InputError
from sizing.scenarios import block_returns


@pytest.mark.parametrize(
    ("mu", "more", "says"),
    [
        (-1.0, {}, "mu: an expected return must be above -1, got -1$"),
        (np.nan, {}, "mu: an expected return must be above -1, got nan$"),
        (0.0, {"copula": "gauss"}, "copula: 'gauss' is none of normal, t$"),
        (0.0, {"copula": "t", "degrees": 1.0}, "degrees: 1 is not above 2 and 1,000 at most"),
        (0.0, {"scenarios": 100.5}, "scenarios: 100.5 is outside 64 … 65,536, or no whole number"),
    ],
)
def test_what_cannot_be_drawn_is_refused(mu: float, more: dict[str, object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        block_returns(np.array([[0.0, mu]]), 1e-4 * np.eye(2)[None], **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("correlation", [-1.0, 1.0])
def test_a_correlation_of_one_either_way_is_kept(correlation: float) -> None:
    covariance = 1e-4 * np.array([[[1.0, correlation], [correlation, 1.0]]])
    for copula in ("normal", "t"):
        returns = block_returns(np.zeros((1, 2)), covariance, copula=copula)[0]  # type: ignore[arg-type]
        assert np.corrcoef(returns)[0, 1] == pytest.approx(correlation, abs=1e-9)
