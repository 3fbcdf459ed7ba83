"""Settings of position sizing: the name of the strategy and its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forecasting.forecast import HORIZON, VolatilityRule
from foundation.errors import InputError
from foundation.plugin import is_plugin
from foundation.settings import setting, settings_class
from sizing.settings import DrawdownLimit, Fallback
from sizing.strategies import Kelly, LegacyStrategy, name_with_fraction, strategy_from_name
from trainingdata.timeframe import HoldingRule

if TYPE_CHECKING:
    from sizing.allocation import Strategy


@settings_class("sizing")
class SizingSettings:
    """The sizing strategy and its parameters."""

    strategy: str = setting(
        "kelly_50",
        "strategy name: kelly_10 … kelly_100, kelly_50_x4, premium_50, equal_weight, "
        "fixed_fraction, vol_target, inverse_volatility, risk_parity, buy_and_hold or legacy",
    )
    arguments: Mapping[str, Any] = setting({}, "arguments of a custom function or class, by name")
    lookback: int = setting(
        500,
        "number of a symbol's latest bars in the price history of a custom strategy",
        ge=0,
        le=20_000,
    )
    fraction: float | None = setting(
        None, "fraction of full Kelly that replaces the one in the strategy's name"
    )
    drawdown: DrawdownLimit | None = setting(
        None,
        "drawdown limit that chooses the fraction of Kelly: {depth: 0.2, probability: 0.1} "
        "allows a fall by 20 %, ever, with a probability of at most 10 %",
    )
    volatility: VolatilityRule = setting(
        "quantile", "rule that estimates volatility from forecast quantiles"
    )
    holding: HoldingRule = setting(
        "plan", "horizon of a decision: a multi-period `plan`, the `next` bar, or one `session`"
    )
    signal_bars: int = setting(
        3,
        "bars of the symbol during which a forecast counts; the plan's second period ends "
        "after them",
        ge=1,
        le=HORIZON,
    )
    enhanced: bool = setting(True, "whether `strategy` decides; false: the legacy rule decides")
    risk_multiplier: float = setting(1.0, "factor of the legacy rule for stocks", gt=0, le=10)
    fallback: Fallback = setting("none", "rule that decides if sizing fails: `none` or `legacy`")
    position: float = setting(0.1, "weight of each symbol in `fixed_fraction`", gt=0, le=10)
    target_volatility: float = setting(
        0.15, "yearly volatility that `vol_target` aims at", gt=0, le=10
    )
    band: float = setting(
        0.25,
        "relative distance from its target within which strategies with fixed weights leave a "
        "weight unchanged",
        ge=0,
        lt=1,
    )

    def __post_init__(self) -> None:
        if self.drawdown is not None:
            self._check_drawdown()
        if not is_plugin(self.strategy):  # plugins are loaded when a run needs them
            self.build_strategy()

    def _check_drawdown(self) -> None:
        """Refuse `drawdown` with a stated fraction, and for strategies without a Kelly fraction."""
        if self.fraction is not None:
            raise InputError(
                "sizing.drawdown: it chooses the fraction of Kelly, and sizing.fraction states"
                " one; name one of the two"
            )
        rule = None if is_plugin(self.strategy) else strategy_from_name(self.strategy)
        if not (self.enhanced and isinstance(rule, Kelly) and rule.multiplier == 1.0):
            name = self.strategy if self.enhanced else "legacy (sizing.enhanced=false)"
            raise InputError(
                f"sizing.drawdown: {name} holds no fraction of Kelly that it could choose; name"
                " kelly_… or premium_…"
            )

    @property
    def kelly_fraction(self) -> float | None:
        """Kelly fraction that replaces the one in the strategy's name; None keeps the name's."""
        return self.fraction if self.drawdown is None else self.drawdown.kelly_fraction

    @property
    def label(self) -> str:
        """Name of the strategy with the fraction in use: `kelly_30` for kelly_50 with 0.3."""
        if not self.enhanced:
            return "legacy"
        return name_with_fraction(self.strategy, self.kelly_fraction)

    @property
    def history_bars(self) -> int:
        """Number of own bars of price history that the strategy reads."""
        return self.lookback if is_plugin(self.strategy) else 0

    def build_strategy(self) -> Strategy:
        strategy = strategy_from_name(
            self.strategy,
            fraction=self.kelly_fraction,
            size=self.position,
            deviation=self.target_volatility,
            band=self.band,
            risk_multiplier=self.risk_multiplier,
            lookback=self.lookback,
            arguments=self.arguments,
        )
        return strategy if self.enhanced else self.build_legacy_strategy()

    def strategies(self) -> tuple[Strategy, ...]:
        """Return the strategy, and its fallback if the settings name one."""
        if self.fallback == "legacy":
            return self.build_strategy(), self.build_legacy_strategy()
        return (self.build_strategy(),)

    def holding_interval(self) -> HoldingRule:
        """Return the holding interval of the strategy, else the one of the settings."""
        return self.build_strategy().holding_interval or self.holding

    def build_legacy_strategy(self) -> LegacyStrategy:
        return LegacyStrategy(self.risk_multiplier)
