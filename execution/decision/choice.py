"""The decision on one symbol and its explanation, in numbers and as text.

Programs that only read a journal import this module. It therefore needs no compiled code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from foundation import formatting
from trainingdata.instruments import is_stock

# A reason states the forecast, or that there is none, first; a failure precedes it.
REASON_START = re.compile(r"(forecast|no forecast:|deviation) ")
_FORECAST_FORMAT = "forecast %+.1f bp, deviation %.1f bp over %.4g h"
_DEVIATION_FORMAT = "deviation %.1f bp over %.4g h"  # of a run without forecasts
_HORIZON_FORMAT = (
    "; over %s premium %+.1f bp (%.2f %% a year, Sharpe ratio %g), forecast %+.1f bp%s,"
    " deviation %.0f bp"
)
_CHANGE_FORMAT = "weight %+.3f to %+.3f"
_SHADOW_PRICE_FORMAT = "%s (shadow price %.2f bp)"
# Telling the two causes apart would need a second solution of the program.
COSTS_OR_POSITIONS_TEXT = "differs from the unconstrained weight due to costs or other positions"
MIN_WEIGHT_SHOWN = 0.0005  # smallest difference of weights that a text shows
MIN_RETURN_SHOWN = 5e-6  # a twentieth of a basis point; a text shows smaller returns as 0
MIN_VALUE_SHOWN_USD = 0.01  # USD
LEGACY_RULE_SUFFIX = "sized by the legacy rule"  # the last words of a reason of that rule
UNIVERSE_RULE_PREFIX = "universe."  # prefix of the name of a universe rule that a symbol fails
_WEIGHT_PARTS_FORMAT = " (premium %+.3f, forecast %+.3f)"


class Rationale(NamedTuple):
    """Figures that explain a target weight; NaN without a forecast.

    The figures cover the whole plan, of which only the first period is traded.

    days: calendar days of the plan.
    sharpe: Sharpe ratio of the symbol's asset class, from the settings or implied by them.
    premium: expected yearly return that follows from the Sharpe ratio.
    period_premium: premium over the plan.
    forecast: expected return over the plan.
    shrinkage: factor that multiplied the forecaster's median; None without shrinkage.
    deviation: standard deviation of the return over the plan.
    premium_weight, forecast_weight: the strategy's weights on premium alone and on forecast alone,
        before limits and costs, multiples of equity. Both are 0 for a sizing rule that uses neither
        premium nor forecast, and NaN if unknown. If their sum differs from `Choice.kelly`, the
        strategy accounts for the difference.
    stop_price: price at which the strategy closes the position, USD; None without a stop.
    earned: fraction of its positions that the forecast has earned, which multiplies `forecast`;
        None if the forecast counts in full.
    """

    days: float
    sharpe: float
    premium: float
    period_premium: float
    forecast: float
    shrinkage: float | None
    deviation: float
    premium_weight: float = math.nan
    forecast_weight: float = math.nan
    stop_price: float | None = None
    earned: float | None = None


_NAN = float("nan")
OPTIONAL_RATIONALE = ("shrinkage", "stop_price", "earned")  # fields that may be None
NO_RATIONALE = Rationale(_NAN, _NAN, _NAN, _NAN, _NAN, None, _NAN)


class Choice(NamedTuple):
    """Decision on one symbol and its reasons: one row of `DecisionColumns`.

    symbol: name of the symbol.
    mu: expected simple return over the first period, a fraction; NaN without a forecast.
    sigma: standard deviation of the return; NaN without a forecast, unless the run has none
        (forecaster=none).
    kelly: the strategy's weight before limits and costs over the plan of `rationale`, a multiple
        of equity.
    held_weight: weight of the position plus open orders before the decision, a multiple of equity.
    target_weight: weight after all limits, a multiple of equity.
    qty: signed quantity ordered: shares or units of crypto.
    price: price used for sizing, USD.
    binding_shadow_prices: shadow price of each binding limit, by name: the gain in the plan's
        expected return net of risk per unit of the limit, in multiples of equity; NaN if unknown.
    unit_cost: one-way cost, USD, of trading one USD.
    rationale: figures that explain the target.
    strategy_reason: the strategy's own reason for its weight; empty without one.
    """

    symbol: str
    mu: float
    sigma: float
    kelly: float
    held_weight: float
    target_weight: float
    qty: Decimal
    price: float
    binding_shadow_prices: Mapping[str, float]
    unit_cost: float
    rationale: Rationale = NO_RATIONALE
    strategy_reason: str = ""

    @property
    def bound_by(self) -> str:
        """Names of the limits and reasons that bind the target weight, joined by `+`."""
        return "+".join(self.binding_shadow_prices)

    @property
    def change_cost_usd(self) -> float:
        """Expected cost of the ordered change, USD."""
        return self.unit_cost * abs(float(self.qty)) * self.price if self.qty else 0.0


class OrderReason(NamedTuple):
    """The choice that led to an order; `str` returns it as a sentence.

    choice: choice of the order's symbol.
    holding_hours: length of the holding interval, hours.
    sizing_failure: reason why enhanced sizing failed; empty if it did not.
    is_legacy: true if the legacy rule sized the order; the order id may still name another
        strategy.
    """

    choice: Choice
    holding_hours: float
    sizing_failure: str = ""
    is_legacy: bool = False

    # The text is built on demand, because the reasons of most backtest orders are never read.
    def __str__(self) -> str:
        text = format_reason(self.choice, self.holding_hours)
        if self.is_legacy:
            text += f", {LEGACY_RULE_SUFFIX}"
        return f"{self.sizing_failure}; {text}" if self.sizing_failure else text


def format_reason(choice: Choice, hours: float) -> str:
    """Return a one-line explanation of a choice: forecast, weights, binding limits and cost.

    The strategy's own reason precedes it.

    hours: length of the holding interval, hours.
    """
    if math.isnan(choice.sigma):
        text = f"no forecast: {_format_change(choice)}"
    else:
        if math.isnan(choice.mu):
            text = _DEVIATION_FORMAT % (choice.sigma * 1e4, hours)
        else:
            text = _FORECAST_FORMAT % (choice.mu * 1e4, choice.sigma * 1e4, hours)
        text += format_horizon(choice.rationale, hours)
        # A stock that is only trimmed overnight has no weight of the strategy.
        unlimited = ""
        if not math.isnan(choice.kelly):
            unlimited = (
                f" unconstrained {choice.kelly:+.3f}{format_weight_parts(choice.rationale)},"
            )
        text += f":{unlimited} {_format_change(choice)}"
    if (
        not choice.binding_shadow_prices
        and choice.unit_cost != 0
        and abs(choice.kelly - choice.target_weight) >= MIN_WEIGHT_SHOWN
    ):
        text += f", {COSTS_OR_POSITIONS_TEXT}"
    cost = ""
    if choice.qty and not math.isnan(choice.unit_cost):
        cost = f", cost ${choice.change_cost_usd:,.2f} ({choice.unit_cost * 1e4:.3g} bp)"
    return (
        f"{format_strategy_reason(choice.strategy_reason)}{text}{_format_binding_limits(choice)}"
        f"{format_stop(choice.rationale.stop_price)}{cost}"
    )


def format_strategy_reason(reason: str) -> str:
    """Return a strategy's own reason as the beginning of a reason in words; empty without one."""
    return f"{reason}; " if reason else ""


def format_stop(price: float | None) -> str:
    """Return a stop as the part of a reason in words; empty for None and NaN."""
    if price is None or math.isnan(price):
        return ""
    return f", stop at {formatting.format_rounded_price(price, prefix='$')}"


def _format_change(choice: Choice) -> str:
    """Return the change from held to target weight as text."""
    if math.isnan(choice.held_weight):
        return "the account has no equity, so the position is closed"
    return _CHANGE_FORMAT % (choice.held_weight, choice.target_weight)


def format_no_order_reason(choice: Choice, equity: float) -> str:
    """Return the reason why a symbol has no order, in one line; empty if it has an order.

    equity: equity of the account, USD.
    """
    if choice.qty:
        return ""
    if math.isnan(choice.sigma):
        return "not ordered: the symbol has no forecast"
    if rule := next(
        (name for name in choice.binding_shadow_prices if name.startswith(UNIVERSE_RULE_PREFIX)), ""
    ):
        return f"not ordered: the symbol has left the universe ({rule})"
    if math.isnan(choice.kelly):
        return "not ordered: sizing failed, so no position is opened"
    if abs(choice.held_weight) >= MIN_WEIGHT_SHOWN:
        return f"not ordered: {_format_unchanged_reason(choice)}"
    return f"not held: {_format_not_held_reason(choice, equity)}"


def _format_unchanged_reason(choice: Choice) -> str:
    change = _format_change(choice)
    if "cost" in choice.binding_shadow_prices:
        return f"{change}, the change gains less than it costs ({choice.unit_cost * 1e4:.3g} bp)"
    return f"{change}, {_format_below_one_unit(choice, choice.price)}"


def _format_below_one_unit(choice: Choice, worth: float) -> str:
    """Return a phrase which states that an amount is too small to buy one unit.

    worth: the amount, USD.
    """
    price = formatting.format_price(choice.price)
    if is_stock(choice.symbol) and worth <= choice.price:
        return f"less than one share at {price}"
    return f"less than the smallest quantity at {price} per unit"


def _format_not_held_reason(choice: Choice, equity: float) -> str:
    worth = abs(choice.target_weight) * equity
    if worth >= MIN_VALUE_SHOWN_USD:
        return (
            f"the target of {formatting.format_usd(worth)} is"
            f" {_format_below_one_unit(choice, worth)}"
        )
    if abs(choice.kelly) < MIN_WEIGHT_SHOWN:
        expected = choice.rationale.period_premium + choice.rationale.forecast
        if abs(expected) >= MIN_RETURN_SHOWN:
            return (
                "its return does not pay for the risk that it shares with other positions:"
                f" {_format_expected_return(choice)}"
            )
        return f"the expected return is 0: {_format_expected_return(choice)}"
    if choice.kelly < 0 and "long_only" in choice.binding_shadow_prices:
        return (
            "a loss is expected, and short sales are not allowed:"
            f" {_format_expected_return(choice)}"
        )
    if "cost" in choice.binding_shadow_prices:
        cost = f"{choice.unit_cost * 1e4:.3g} bp one way"
        return f"{_format_expected_return(choice)}, too little for trading costs of {cost}"
    if choice.binding_shadow_prices:
        return (
            f"bound by {' and '.join(choice.binding_shadow_prices)}:"
            f" {_format_expected_return(choice)}"
        )
    return f"{COSTS_OR_POSITIONS_TEXT}: {_format_expected_return(choice)}"


def _format_expected_return(choice: Choice) -> str:
    """Return the expected return of a choice as text, split into premium and forecast."""
    rests_on = choice.rationale
    if math.isnan(rests_on.forecast):
        return f"forecast {choice.mu * 1e4:+.1f} bp"
    kind = "stock" if is_stock(choice.symbol) else "crypto"
    return (
        f"premium {rests_on.period_premium * 1e4:+.1f} bp"
        f" (Sharpe ratio {rests_on.sharpe:.3g}, prior.{kind}_sharpe),"
        f" forecast {rests_on.forecast * 1e4:+.1f} bp over {_format_span(rests_on.days)}"
    )


def format_weight_parts(rationale: Rationale) -> str:
    """Return the weights on premium and on forecast as text; empty unless both are used."""
    parts = rationale.premium_weight, rationale.forecast_weight
    return (
        _WEIGHT_PARTS_FORMAT % parts if all(abs(part) >= MIN_WEIGHT_SHOWN for part in parts) else ""
    )


def format_horizon(rationale: Rationale, hours: float) -> str:
    """Return premium, forecast and deviation over the whole plan, as text.

    The text is empty if the plan ends at the next decision and there is no premium.

    hours: hours to the next decision.
    """
    # Days and hours are rounded separately. The 0.1 % keeps a span of one period from looking
    # longer than its interval.
    beyond = rationale.days * 24 > hours * 1.001
    if not (rationale.sharpe > 0 or beyond):
        return ""
    factor = rationale.shrinkage
    shrinkage = "" if factor is None else f" (shrinkage factor {factor:.2f})"
    earned = "" if rationale.earned is None else f" ({rationale.earned:.2f} of it earned)"
    return _HORIZON_FORMAT % (
        _format_span(rationale.days if beyond else hours / 24),
        rationale.period_premium * 1e4,
        rationale.premium * 100,
        rationale.sharpe,
        rationale.forecast * 1e4,
        f"{shrinkage}{earned}",
        rationale.deviation * 1e4,
    )


def _format_span(days: float) -> str:
    """Return a length of time as text: in hours below two days, else in days."""
    return f"{days * 24:.4g} h" if days < 2 else f"{days:.3g} days"


def _format_binding_limits(choice: Choice) -> str:
    """Return the binding limits and their shadow prices, as the part of a reason in words."""
    limits = []
    for name, price in choice.binding_shadow_prices.items():
        if name.startswith(UNIVERSE_RULE_PREFIX):
            return f", the symbol has left the universe ({name})"
        if name == "cost" and not math.isnan(choice.unit_cost):
            limits.append(f"cost ({choice.unit_cost * 1e4:.3g} bp)")
        else:
            limits.append(name if math.isnan(price) else _SHADOW_PRICE_FORMAT % (name, price * 1e4))
    return f", bound by {' and '.join(limits)}" if limits else ""
