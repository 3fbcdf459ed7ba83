"""Settings of position sizing: the name of the strategy and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from forecasting.forecast import HORIZON, VolatilityRule
from foundation.plugin import is_plugin
from foundation.settings import setting, settings_class
from sizing.settings import SizingFallback
from sizing.strategies import KellyStrategy, LegacyStrategy, name_with_fraction, strategy_from_name
from trainingdata.timeframe import HoldingRule

if TYPE_CHECKING:
    from sizing.allocation import Strategy


MAX_LOOKBACK = 20_000  # largest number of bars that `sizing.lookback` accepts


@settings_class("sizing")
class SizingSettings:
    """The sizing strategy and its parameters."""

    strategy: str = setting(
        "kelly_50",
        "name of the strategy: kelly_10 … kelly_100, kelly_50_x4, premium_50, equal_weight, "
        "fixed_fraction, vol_target, risk_parity, buy_and_hold or legacy; or "
        "a custom one",
    )
    arguments: Mapping[str, Any] = setting({}, "arguments of a custom strategy, by name")
    lookback: int = setting(
        500, "bars of each symbol that a custom strategy receives", ge=0, le=MAX_LOOKBACK
    )
    fraction: float | None = setting(
        None, "fraction of full Kelly, instead of the one in the strategy's name"
    )
    volatility: VolatilityRule = setting(
        "quantile", "rule that estimates volatility from quantiles"
    )
    holding: HoldingRule = setting(
        "plan", "horizon of a decision: several periods (`plan`), or one (`next` or `session`)"
    )
    signal_bars: int = setting(
        3,
        "bars of the symbol up to the end of the second period; forecasts count only until then",
        ge=1,
        le=HORIZON,
    )
    enhanced: bool = setting(True, "false: the legacy rule replaces the strategy")
    risk_multiplier: float = setting(1.0, "factor of the legacy rule for stocks", gt=0, le=10)
    fallback: SizingFallback = setting(
        "none", "rule that applies if sizing fails: `none` or `legacy`"
    )
    position: float = setting(0.1, "weight of each position under `fixed_fraction`", gt=0, le=10)
    target_volatility: float = setting(
        0.15, "volatility target of `vol_target`, per year", gt=0, le=10
    )
    band: float = setting(
        0.25,
        "relative distance from the target within which strategies with fixed target weights do "
        "not trade",
        ge=0,
        lt=1,
    )

    earned: bool | Literal["report"] = setting(
        "report",
        "true: the forecast counts by the fraction of full Kelly that it has earned "
        "(docs/FORECASTS.md); `report`: it counts in full, and reports state the fraction; "
        "false: it counts in full, and is not judged",
    )
    earned_attempt: int = setting(
        1,
        "number of forecasters tried on these data, this one included; a later one needs a higher "
        "e-value",
        ge=1,
        le=1000,
    )

    def __post_init__(self) -> None:
        if not is_plugin(self.strategy):  # plugins are loaded when a run needs them
            self.build_strategy()

    @property
    def strategy_label(self) -> str:
        """Name of the strategy with the Kelly fraction in use: `kelly_30` for kelly_50 with 0.3."""
        if not self.enhanced:
            return "legacy"
        return name_with_fraction(self.strategy, self.fraction)

    @property
    def history_bars(self) -> int:
        """Number of past bars of each symbol that the strategy reads."""
        return self.lookback if is_plugin(self.strategy) else 0

    def build_strategy(self) -> Strategy:
        strategy = strategy_from_name(
            self.strategy,
            fraction=self.fraction,
            size=self.position,
            deviation=self.target_volatility,
            band=self.band,
            risk_multiplier=self.risk_multiplier,
            lookback=self.lookback,
            arguments=self.arguments,
        )
        return strategy if self.enhanced else self.build_legacy_strategy()

    def build_strategies(self) -> tuple[Strategy, ...]:
        """Return the strategy, and its fallback if the settings name one."""
        if self.fallback == "legacy":
            return self.build_strategy(), self.build_legacy_strategy()
        return (self.build_strategy(),)

    def holding_interval(self) -> HoldingRule:
        """Return the strategy's holding interval or, if it has none, the one in the settings."""
        return self.build_strategy().holding_interval or self.holding

    @property
    def judging_fraction(self) -> float:
        """Fraction of full Kelly by which a forecast is judged: the strategy's, or else half."""
        strategy = None if is_plugin(self.strategy) else self.build_strategy()
        return strategy.fraction if isinstance(strategy, KellyStrategy) else 0.5

    def build_legacy_strategy(self) -> LegacyStrategy:
        return LegacyStrategy(self.risk_multiplier)
