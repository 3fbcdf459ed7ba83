"""Drawdown tiers: limits on weights tighten as the account loses, and widen as it recovers.

Simulator and live loop measure the drawdown on the equities at their decisions, so both size alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from foundation.errors import InputError
from foundation.settings import required_setting, setting, settings_class

if TYPE_CHECKING:
    from execution.orders.account_snapshot import AccountSnapshot

Fraction = Annotated[float, required_setting("fraction", gt=0, le=1)]


@settings_class("guards")
class DrawdownTiers:
    """Factors of the limits on weights, by drawdown."""

    tiers: Mapping[Fraction, Fraction] = setting(
        {},
        "drawdown: factor of limits.symbol_cap and of the gross ceilings, {0.05: 0.75, 0.10: 0.5}; "
        "linear between the points from 0: 1 on, constant after the last; empty: off",
    )

    def __post_init__(self) -> None:
        factors = [factor for _, factor in sorted(self.tiers.items())]
        if factors != sorted(factors, reverse=True):
            raise InputError(
                f"guards.tiers: {_format_tiers(self.tiers)}: the factor rises with the drawdown;"
                " give factors that fall or stay"
            )

    def limit_factor(self, drawdown: float) -> float:
        """Return the factor of the limits at a drawdown: linear between the points.

        It depends on the present drawdown alone, so the limits widen on the way back by the same
        ramp.
        """
        before, factor = 0.0, 1.0
        for depth, at_depth in sorted(self.tiers.items()):
            if drawdown < depth:
                return factor + (at_depth - factor) * (drawdown - before) / (depth - before)
            before, factor = depth, at_depth
        return factor

    def apply(self, account: AccountSnapshot, peak: float) -> AccountSnapshot:
        """Return the snapshot with the factor of the limits at its drawdown.

        peak: highest equity at an earlier decision, USD; 0 before the first.
        """
        if not self.tiers or peak <= 0:
            return account
        drawdown = max(1.0 - account.equity / peak, 0.0)
        return replace(account, limit_factor=self.limit_factor(drawdown))


def highest_equity(equities: Mapping[Any, float], deposits: Mapping[Any, float]) -> float:
    """Return the highest equity, USD, with earlier equities scaled by deposits and withdrawals.

    A deposit is no profit: it scales the peak by the growth of the equity that it causes.

    equities, deposits: equity at each decision, and net deposits, by instant.
    """
    peak = last = 0.0
    for at in sorted({*equities, *deposits}):
        if at in deposits and last > 0:
            peak *= max(last + deposits[at], 0.0) / last
            last = max(last + deposits[at], 0.0)
        if at in equities:
            last = equities[at]
            peak = max(peak, last)
    return peak


def _format_tiers(tiers: Mapping[float, float]) -> str:
    return "{" + ", ".join(f"{depth:g}: {factor:g}" for depth, factor in tiers.items()) + "}"
