"""What cannot be is refused in a line that names its key."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from event_contracts.settings import ComparisonSettings, KalshiTradingSettings, TrainingSettings
from event_contracts.simulation.settings import (
    EpisodeSettings,
    LearnerSettings,
    SyntheticSessionModel,
)
from event_contracts.simulation.vector import MarketAgnosticKalshiEnv
from event_contracts.trading.actions import LimitOrderActionSpace
from event_contracts.trading.endpoint import KalshiSettings
from event_contracts.trading.fees import FeeRules, KalshiFees
from event_contracts.trading.policies import BinaryKellyPolicy
from execution.orders.fees import DatedRate
from foundation.errors import InputError
from practice.settings import KalshiVenueSettings
from tests.support.messages import refused

D = Decimal
RISING = (DatedRate("2026-03-01", 0.08), DatedRate("2025-01-01", 0.07))
RAIN = {"markets": ("RAIN",)}


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (LimitOrderActionSpace, {"position_sizes": (5, 10, 20, 20, 50)}),
        (LimitOrderActionSpace, {"position_sizes": (0, 5, 10, 20, 50)}),
        (LimitOrderActionSpace, {"fixed_size": 7}),
        (LimitOrderActionSpace, {"price_style": {"BUY_YES": "mid"}}),
        (MarketAgnosticKalshiEnv, {"starting_cash": 10.001}),
        (EpisodeSettings, {"position_sizes": (1, 2, 3, 4, 2_000_000)}),
        (EpisodeSettings, {"cash_buffer": 1e-7}),
        (SyntheticSessionModel, {"tick": 0.03}),
        (LearnerSettings, {"layers": (5000,)}),
        (LearnerSettings, {"layers": ()}),
        (TrainingSettings, {"markets": 100_000, "learner": LearnerSettings(rollout=1000)}),
        (ComparisonSettings, {"fixed_size": 7}),
        (ComparisonSettings, {"variable_checkpoints": ("a", "b"), "fixed_checkpoints": ("c",)}),
        (ComparisonSettings, {"episode": EpisodeSettings(fixed_size=5)}),
        (KalshiVenueSettings, {"starting_cash": 0.001}),
        (KalshiVenueSettings, RAIN),
        (KalshiTradingSettings, {"markets": ("RAIN", "RAIN")}),
        (KalshiTradingSettings, {"mode": "live"}),
        (KalshiTradingSettings, {"broker": KalshiSettings(mode="live", confirm_live=True)}),
        (KalshiSettings, {"mode": "live"}),
        (FeeRules, {"taker": D(1)}),
        (FeeRules, {"maker": D("-0.1")}),
        (FeeRules, {"fee_step": D(0)}),
        (FeeRules, {"balance_step": D(2)}),
        (KalshiFees, {"taker": RISING}),
        (KalshiFees, {"fee_step": ()}),
        (KalshiFees, {"as_of": "soon"}),
        (BinaryKellyPolicy, {"kelly_fraction": 0.0}),
        (BinaryKellyPolicy, {"starting_cash": float("nan")}),
    ],
)
def test_invalid_setting_is_refused_naming_its_key(kind: Any, given: dict[str, Any]) -> None:
    with refused(InputError, next(iter(given))) as caught:
        kind(**given)
    assert "\n" not in str(caught.value)


def test_order_lifetime_is_equal_in_training_and_live() -> None:
    assert EpisodeSettings().life == KalshiTradingSettings(markets=("RAIN",)).life == 2
