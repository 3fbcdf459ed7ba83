"""Settings of position sizes: limits on a book, the drawdown limit, and the premium prior.

This module loads no compiled code, so that invalid settings are rejected without delay.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.settings import setting, settings_class

if TYPE_CHECKING:
    from sizing.group_limits import GroupLimits

SizingFallback = Literal["none", "legacy"]


@settings_class("limits")
class Limits:
    """Limits on a book in multiples of equity."""

    symbol_cap: float = setting(
        0.6, "maximum weight of one symbol, position plus open orders", gt=0, le=4
    )
    intraday_leverage: float = setting(
        4.0, "maximum gross stock exposure while the market is open", gt=0, le=10
    )
    overnight_leverage: float = setting(2.0, "maximum gross stock exposure overnight", gt=0, le=10)
    overnight_buffer: float = setting(
        0.02, "fraction of overnight_leverage kept free for price moves until the close", ge=0, lt=1
    )
    crypto_leverage: float = setting(
        1.0, "maximum crypto exposure, bought only with cash that is not borrowed", ge=0, le=1
    )
    margin_equity: float = setting(
        2000.0,
        "equity in USD below which stock exposure is at most 1× and short positions are not "
        "allowed",
        ge=0,
    )
    groups_file: str | None = setting(
        None, "YAML file of limits on groups and on market beta (docs/MATH.md)"
    )
    max_positions: int | None = setting(
        None,
        "maximum number of positions after a decision, including those that cannot change then; "
        "null: no limit",
        ge=1,
        le=100_000,
    )

    def group_limits(self) -> GroupLimits:
        """Return the limits on groups from the configured file; no limits without a file."""
        from sizing.group_limits import NO_GROUP_LIMITS

        if self.groups_file is None:
            return NO_GROUP_LIMITS
        leverage = max(self.intraday_leverage, self.crypto_leverage)
        return _read_feasible_groups(self.groups_file, self.symbol_cap, leverage)

    def stock_ceiling(self, *, overnight: bool, equity: float) -> float:
        """Return the maximum gross stock exposure, in multiples of equity.

        It is at most 1× for an account below `margin_equity`.

        overnight: whether the overnight ceiling applies.
        equity: equity of the account in USD.
        """
        from sizing.limits import allowed_leverage

        leverage = self.overnight_stock_ceiling if overnight else self.intraday_leverage
        return allowed_leverage(leverage, equity, self.margin_equity)

    def with_account_leverage(self, leverage: float) -> Limits:
        """Return a copy of the limits whose leverage is at most what the broker grants.

        leverage: maximum gross stock exposure that the broker grants, in multiples of equity.
        """
        if leverage >= self.intraday_leverage:
            return self
        return replace(self, intraday_leverage=leverage)

    @property
    def overnight_stock_ceiling(self) -> float:
        """Maximum gross stock exposure overnight, in multiples of equity."""
        return min(self.overnight_leverage * (1.0 - self.overnight_buffer), self.intraday_leverage)

    @property
    def book_limit_values(self) -> tuple[float, float, float, float]:
        """Limits for compiled functions: symbol cap, crypto cap, margin equity, maximum positions.

        Caps are multiples of equity. Short positions require at least the margin equity, in USD.
        """
        most = np.inf if self.max_positions is None else float(self.max_positions)
        return self.symbol_cap, self.crypto_leverage, self.margin_equity, most


@cache
def _read_feasible_groups(path: str, symbol_cap: float, leverage: float) -> GroupLimits:
    """Return the limits on groups in a file; raise `InputError` if no book satisfies them all.

    symbol_cap: maximum weight of a symbol.
    leverage: maximum gross exposure of the book, in multiples of equity.
    """
    from sizing.group_limits import GROUPS_FILE_KEY, read_group_limits

    limits = read_group_limits(path)
    if (row := limits.find_infeasible_limit(symbol_cap, leverage)) is not None:
        group, _, side = row.rpartition("_")
        bound = "minimum" if side == "least" else "maximum"
        raise InputError(
            f"{GROUPS_FILE_KEY}: {path}: {row}, the {bound} of groups.{group}.net, cannot be met"
            f" together with limits.symbol_cap={symbol_cap:g}, the leverage limits and the other"
            " groups' limits; widen one of them"
        )
    return limits


@settings_class("prior")
class PriorSettings:
    """Premium prior: Sharpe ratios of asset classes, and the horizon of a plan."""

    stock_sharpe: float = setting(
        0.3, "yearly Sharpe ratio of the diversified stock market", ge=0, le=2
    )
    crypto_sharpe: float | None = setting(
        None,
        "yearly Sharpe ratio of crypto; null: stock_sharpe × the correlation of crypto with stocks "
        "(CAPM)",
        ge=0,
        le=2,
    )
    horizon_days: int = setting(28, "planning horizon, in calendar days", ge=1, le=365)

    def class_sharpe_ratios(self, crypto_correlation: Array) -> Array:
        """Return the yearly Sharpe ratios of stocks and crypto at each instant, [T, 2].

        Parameters
        ----------
        crypto_correlation : [T]
            correlation of the crypto class with the stock market.
        """
        stocks = np.full(len(crypto_correlation), self.stock_sharpe)
        implied = self.stock_sharpe * crypto_correlation
        stated = self.crypto_sharpe
        crypto = implied if stated is None else np.full(len(crypto_correlation), stated)
        return np.column_stack([stocks, crypto])
