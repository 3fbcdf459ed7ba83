"""Sizing strategies by name; all use the same limits and the same quadratic program.

A strategy turns a `SizingInputs` into an `Allocation`. Kelly strategies weigh return, risk and
trading cost. The other strategies propose a weight per symbol and get the closest feasible weights.
They keep a current weight that is within the relative distance `band` of its desired value, a
quarter by default (the relative half of the 5/25 rule of rebalancing).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from foundation.arrays import Array, Index, first_true_index
from foundation.errors import InputError, invalid_choice_error, to_one_line
from foundation.plugin import (
    HYDRA_TARGET_KEY,
    check_plugin_arguments,
    create_plugin,
    is_plugin,
    load_plugin,
    translate_plugin_errors,
)
from trainingdata.instants import format_utc
from trainingdata.instruments import AssetClass
from trainingdata.timeframe import MARKET_DAYS_PER_YEAR, HoldingRule

if TYPE_CHECKING:  # compiled code; checking settings must not load it
    from sizing.allocation import Allocation, Strategy
    from sizing.inputs import SizingInputs

KELLY_NAME_PATTERN = re.compile(r"(kelly|premium)_(\d+(?:\.\d+)?)(_x4|pct)?", re.IGNORECASE)
MAX_NEWTON_STEPS = 500  # Newton steps of risk parity
MAX_FULL_STEP_DECREMENT = 0.25  # Newton decrement up to which the full step is taken
MAX_NEWTON_DECREMENT = 1e-10  # at which the steps end
DAY_LENGTH_TOL = 1e-10  # relative
SIZING_GROUP = "sizing"  # the settings group that names a custom rule
SIZING_TARGET_KEY = f"{SIZING_GROUP}.{HYDRA_TARGET_KEY}"
NO_ARGUMENTS: Mapping[str, Any] = MappingProxyType({})
MAX_RULE_WEIGHT = 1e6  # size to which a custom rule's weight is clipped, in multiples of equity
MAX_REASON_LENGTH = 80  # characters of a rule's reason for a symbol


class StrategyAnswer(NamedTuple):
    """Weights of a rule, with a stop and a reason for each position.

    Stops and reasons are recorded with the decision, and shown on the report's price chart. With
    `protect.kind` an order rests at each stop. Without it the rule itself closes the position.

    weights: [S] desired weights, multiples of equity.
    stops: [S] price at which the position is closed, USD; NaN without a stop. None: no stops.
    reasons: [S] the rule's reason for each weight, one line of at most 80 characters; empty without
        a reason. None: no reasons.
    """

    weights: Array
    stops: Array | None = None
    reasons: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class KellyStrategy:
    """A strategy that holds a fraction of the growth-optimal (Kelly) weights.

    fraction: fraction of full Kelly, above 0, at most 1.
    stock_multiplier: factor on stock weights; the earlier system used 4.
    uses_forecast: whether expected returns include forecasts in addition to the premium.
    holding_interval: holding interval that the strategy requires; None: the configured interval.

    The multiplier m scales the weights within the quadratic program: they are m·v, with v optimal
    for returns mu / m, costs / m and covariance Σ / (m m'). At m = 4 half-Kelly becomes twice full
    Kelly, where expected log growth is zero.
    """

    fraction: float = 0.5
    stock_multiplier: float = 1.0
    uses_forecast: bool = True
    holding_interval: HoldingRule | None = None
    uses_risk_premium: ClassVar[bool] = True
    lookback: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_kelly_fraction(self.fraction)

    def allocate(self, inputs: SizingInputs) -> Allocation:
        """Return Kelly weights under the limits, net of trading costs."""
        from sizing.allocation import allocate_kelly
        from sizing.binding import BindingLimits
        from sizing.problem import Costs, DecisionProblem

        if self.stock_multiplier == 1.0:
            return allocate_kelly(inputs, self.fraction)
        times = np.where(inputs.crypto, 1.0, self.stock_multiplier)
        returns, costs, limits, account = inputs.problem
        stretched_returns = returns._replace(
            mu=returns.mu / times,
            premium=returns.premium / times,
            covariance=returns.covariance / np.outer(times, times),
        )
        stretched_costs = Costs(
            costs.unit_cost / times, costs.financing_cost / self.stock_multiplier
        )
        problem = DecisionProblem(stretched_returns, stretched_costs, limits, account)
        stretched = replace(inputs, problem=problem)
        allocation = allocate_kelly(stretched, self.fraction)
        # The program's shadow prices are those of v, and the book holds m·v: only the names are
        # valid.
        held_by, bound_price, prices, rows = allocation.binding_limits
        nan = np.nan
        unpriced = BindingLimits(
            held_by, np.full_like(bound_price, nan), np.full_like(prices, nan), rows
        )
        return replace(allocation, binding_limits=unpriced)

    def log_phrase(self, kind: AssetClass, stock_ceiling: float) -> str:
        if kind is AssetClass.CRYPTO:
            return "Enhanced Kelly sizing with no leverage (crypto)"
        return f"Enhanced Kelly sizing with {stock_ceiling:.1f}x leverage"


@dataclass(frozen=True, slots=True)
class WeightRuleStrategy:
    """A strategy with a rule that proposes a weight for each symbol.

    name: name of the strategy, for logs.
    rule: function from inputs to desired weights [S], or to an answer with stops and reasons.
    rebalance_band: relative distance from the desired weight within which a current weight is kept.
    holding_interval: holding interval that the strategy requires; None: the configured interval.
    uses_forecast: whether the rule reads expected returns.
    is_forecast_directed: whether the forecast alone determines the sign of every weight.
    lookback: number of each symbol's bars in the price history that the rule reads.
    """

    name: str
    rule: Callable[[SizingInputs], Array | StrategyAnswer]
    rebalance_band: float = 0.0
    holding_interval: HoldingRule | None = "session"
    uses_forecast: bool = False
    is_forecast_directed: bool = False
    lookback: int = 0
    uses_risk_premium: ClassVar[bool] = False

    def allocate(self, inputs: SizingInputs) -> Allocation:
        """Return the feasible weights that are closest to the rule's weights.

        A current weight within `rebalance_band` of the rule's weight is kept, if it is feasible. If
        `limits.max_positions` binds, a current position is replaced only by a position that is
        larger by more than `rebalance_band`.
        """
        from sizing.allocation import keep_weights_within_band, project_onto_limits

        # The rule gets a copy, so that writing to its inputs does not change the limits.
        answer = self.rule(inputs.copy())
        if not isinstance(answer, StrategyAnswer):
            answer = StrategyAnswer(answer)
        desired = answer.weights
        wanted, ranked = keep_weights_within_band(inputs.held_weight, desired, self.rebalance_band)
        allocation = project_onto_limits(
            inputs, wanted, ranking_weights=ranked, forecast_directed=self.is_forecast_directed
        )
        return replace(allocation, stop_price=answer.stops, reasons=answer.reasons)

    def log_phrase(self, kind: AssetClass, stock_ceiling: float) -> str:
        return f"{self.name} sizing"


@dataclass(frozen=True, slots=True)
class LegacyStrategy:
    """The earlier system's rule: half of equity per crypto pair, half of buying power per stock.

    A stock gets half of the granted stock exposure that other stocks do not use, times
    `risk_multiplier`, in the direction of the forecast. Symbols are sized one by one in the order
    of the inputs; each weight is reduced to what the limits allow given all other weights.

    risk_multiplier: factor on stock weights.
    holding_interval: holding interval that the strategy requires; None: the configured interval.
    """

    risk_multiplier: float = 1.0
    holding_interval: HoldingRule | None = None
    uses_forecast: ClassVar[bool] = True
    uses_risk_premium: ClassVar[bool] = False
    lookback: ClassVar[int] = 0

    def allocate(self, inputs: SizingInputs) -> Allocation:
        """Size each adjustable symbol in turn, given the targets of the preceding symbols."""
        from sizing.allocation import project_onto_limits

        # Symbols that leave the universe are closed and use no headroom.
        held = np.where(inputs.problem.account.exiting, 0.0, inputs.held_weight)
        unconstrained = np.full(len(held), np.nan)
        for k in np.flatnonzero(inputs.adjustable).tolist():
            turn = inputs.with_current_weights(held, np.arange(len(held)) == k)
            unconstrained[k] = self._unconstrained_weight(turn, k)
            held = project_onto_limits(
                turn, np.where(turn.adjustable, unconstrained, held)
            ).target_weight
        # A projection of all targets together names the limits that bind in the final book.
        allocation = project_onto_limits(inputs, held)
        # The crypto weight is a constant: it does not depend on the forecast.
        none = np.where(inputs.adjustable, 0.0, np.nan)
        forecast = np.where(inputs.crypto, none, unconstrained)
        return replace(allocation, unconstrained_weight=unconstrained, forecast_weight=forecast)

    def _unconstrained_weight(self, s: SizingInputs, k: int) -> float:
        """Return the rule's weight of symbol k before limits."""
        if s.crypto[k]:
            return 0.5
        others = float(np.abs(s.held_weight[~s.crypto]).sum() - abs(s.held_weight[k]))
        size = 0.5 * max(s.granted_gross_exposure - others, 0.0) * self.risk_multiplier
        return -size if s.mu[k] < 0 else size

    def log_phrase(self, kind: AssetClass, stock_ceiling: float) -> str:
        return "Legacy sizing"


def check_kelly_fraction(fraction: float) -> None:
    """Raise `InputError` for a fraction of full Kelly outside 0 … 1."""
    if not 0 < fraction <= 1:
        raise InputError(
            f"sizing.fraction: {fraction:g} must be above 0 and at most 1 (0.5 is half Kelly; above"
            " 1, risk rises and growth falls)"
        )


def equal_weight(inputs: SizingInputs) -> Array:
    """Return equal weights [S], 1 in total, for the universe; other symbols keep their weights."""
    return np.where(inputs.universe, 1.0 / max(int(inputs.universe.sum()), 1), inputs.held_weight)


def buy_and_hold(inputs: SizingInputs) -> Array:
    """Return equal weights [S] for symbols without a position; existing positions keep theirs."""
    return np.where(inputs.held_weight == 0, equal_weight(inputs), inputs.held_weight)


def fixed_fraction(inputs: SizingInputs, size: float) -> Array:
    """Return weights [S] of ±`size` in the direction of forecasts that exceed the round-trip cost.

    A position whose forecast does not exceed this cost stays until its forecast changes sign.
    Otherwise it would be sold whenever the forecast is small, and bought back whenever it is large.
    """
    pays = np.abs(inputs.mu) > 2 * inputs.unit_cost
    turned = np.sign(inputs.mu) * np.sign(inputs.held_weight) < 0
    stay = np.where(turned, 0.0, inputs.held_weight)
    return np.asarray(np.where(pays, np.sign(inputs.mu) * size, stay))


def vol_target(inputs: SizingInputs, deviation: float) -> Array:
    """Return weights in proportion to 1/σ, scaled to a target volatility of the book.

    deviation: target yearly standard deviation of the book's return.
    """

    def volatility_target_weights(covariance: Array) -> Array:
        inverse = 1.0 / np.sqrt(np.diag(covariance))
        return np.asarray(inverse * deviation / np.sqrt(inverse @ covariance @ inverse))

    return _weigh_by_risk(inputs, volatility_target_weights)


def risk_parity(inputs: SizingInputs) -> Array:
    """Return long weights, 1 in total, with equal contributions to the book's variance."""
    return _weigh_by_risk(inputs, equal_risk_weights)


def _weigh_by_risk(s: SizingInputs, weigh: Callable[[Array], Array]) -> Array:
    """Return the weights [S] that `weigh` gives for a yearly covariance; others are 0.

    The covariance is that of symbols with a forecast, per year of trading time. If their risks are
    not comparable, the current weights are returned.
    """
    symbols = symbols_with_comparable_risk(s)
    # Weights from incomparable risks would be bought at one decision and sold at the next.
    if symbols is None:
        return s.held_weight
    root = np.sqrt(s.period_years[symbols])
    weights = np.zeros(len(s.mu))
    weights[symbols] = weigh(s.covariance[np.ix_(symbols, symbols)] / np.outer(root, root))
    return weights


def equal_risk_weights(covariance: Array) -> Array:
    """Return weights [S] ≥ 0, 1 in total, with equal contributions wᵢ(Σw)ᵢ to the variance.

    Newton steps find the zero gradient of ½w'Σw − Σ ln(wᵢ)/S (Spinu 2013). S times that function is
    self-concordant: a step of 1 / (1 + δ), with δ its Newton decrement, keeps every weight above
    zero.

    Raises
    ------
    InputError
        if a variance is not above 0, or the steps do not converge.
    """
    variance = np.diag(covariance)
    if not (variance > 0).all():
        raise InputError(f"risk_parity: every variance must be above 0, got {variance.min():g}")
    n = len(variance)
    weights = 1.0 / np.sqrt(variance * n)
    for _ in range(MAX_NEWTON_STEPS):
        gradient = covariance @ weights - 1.0 / (n * weights)
        curvature = covariance + np.diag(1.0 / (n * weights**2))
        step = -np.linalg.solve(curvature, gradient)
        decrement = math.sqrt(max(-n * float(gradient @ step), 0.0))
        weights = weights + step / (
            1.0 + (decrement if decrement > MAX_FULL_STEP_DECREMENT else 0.0)
        )
        if decrement <= MAX_NEWTON_DECREMENT:
            return np.asarray(weights / weights.sum())
    raise InputError(
        f"risk_parity: no equal-risk weights for {n} symbols: no convergence within"
        f" {MAX_NEWTON_STEPS} steps"
    )


def symbols_with_comparable_risk(inputs: SizingInputs) -> Index | None:
    """Return the indices of symbols with a forecast; None if their risks are not comparable.

    Risks are comparable if the interval covers at least one day of every symbol's trading time.
    Before a weekend, an interval of 24 hours covers only a part of a session and no night, so that
    stocks would look calm.
    """
    symbols = np.flatnonzero(inputs.universe)
    day = (
        1
        / np.where(
            inputs.crypto,
            MARKET_DAYS_PER_YEAR[AssetClass.CRYPTO],
            MARKET_DAYS_PER_YEAR[AssetClass.STOCK],
        )[symbols]
    )
    variance = np.diag(inputs.covariance)[symbols]
    comparable = (inputs.period_years[symbols] >= day * (1 - DAY_LENGTH_TOL)) & (variance > 0)
    return symbols if len(symbols) and comparable.all() else None


WEIGHT_RULES: Mapping[str, Callable[[SizingInputs], Array]] = {
    "equal_weight": equal_weight,
    "risk_parity": risk_parity,
}
STRATEGY_NAMES = (
    *("kelly_10", "kelly_25", "kelly_50", "kelly_100", "kelly_50_x4", "premium_50"),
    *("equal_weight", "fixed_fraction", "vol_target", "risk_parity"),
    *("buy_and_hold", "legacy"),
)


def strategy_from_name(
    name: str,
    *,
    fraction: float | None = None,
    size: float = 0.1,
    deviation: float = 0.15,
    band: float = 0.25,
    risk_multiplier: float = 1.0,
    lookback: int = 0,
    arguments: Mapping[str, Any] = NO_ARGUMENTS,
) -> Strategy:
    """Return the strategy with a given name.

    `kelly_50` or `Kelly_50pct` is half-Kelly; any percentage from 1 to 100 is allowed. `premium_50`
    is half-Kelly on the premium alone, without a forecast.

    `module.name` is a custom rule: a function of a `SizingInputs` that returns the desired weights
    [S], or a class whose instances are such functions. The rule is assumed to read forecasts and
    uses the configured holding interval. Its weights are projected onto the limits.

    fraction: fraction of full Kelly that overrides the fraction in the name.
    size: weight of a position of `fixed_fraction`.
    deviation: target yearly standard deviation of `vol_target`.
    band: relative distance from the desired weight within which weight rules keep a weight.
    risk_multiplier: factor on stock weights of `legacy`.
    lookback: number of each symbol's bars in the price history of a custom rule.
    arguments: further arguments of a custom rule, or those of its class.

    Raises
    ------
    InputError
        if the name is unknown, or a fraction or arguments are given for a strategy without them.
    """
    if arguments and not is_plugin(name):
        raise InputError(
            f"sizing.arguments: {name} accepts none; remove them, or name custom code with"
            f" {SIZING_TARGET_KEY}"
        )
    if KELLY_NAME_PATTERN.fullmatch(name):
        return _kelly_from_name(name, fraction)
    if name not in STRATEGY_NAMES and not is_plugin(name):
        also = f"kelly_ or premium_ with a percentage, or {SIZING_TARGET_KEY}=module.function"
        raise invalid_choice_error(
            "sizing.strategy", name, STRATEGY_NAMES, other_accepted_values=also
        )
    if fraction is not None:
        raise InputError(
            f"sizing.fraction: not used by {name}, only by kelly_… and premium_…; remove it"
        )
    if is_plugin(name):
        return _plugin_strategy(name, band, lookback, json.dumps(dict(arguments)))
    if name == "legacy":
        return LegacyStrategy(risk_multiplier)
    if name == "buy_and_hold":
        return WeightRuleStrategy(name, buy_and_hold)
    if name == "vol_target":
        return WeightRuleStrategy(name, partial(vol_target, deviation=deviation), band)
    if name == "fixed_fraction":
        rule = partial(fixed_fraction, size=size)
        return WeightRuleStrategy(
            name, rule, band, holding_interval=None, uses_forecast=True, is_forecast_directed=True
        )
    return WeightRuleStrategy(name, WEIGHT_RULES[name], band)


def _kelly_from_name(name: str, fraction: float | None) -> KellyStrategy:
    kelly = KELLY_NAME_PATTERN.fullmatch(name)
    assert kelly is not None
    percent = float(kelly[2])
    if percent < 1.0:
        raise InputError(
            f"sizing.strategy: {name} is {kelly[2]} % of full Kelly; the percentage must be at"
            f" least 1, such as {kelly[1]}_50 for half Kelly"
        )
    if percent > 100.0 and fraction is None:
        raise InputError(
            f"sizing.strategy: {name} is {kelly[2]} % of full Kelly; the percentage must be at most"
            f" 100, because above full Kelly risk rises and growth falls; use {kelly[1]}_100"
        )
    times = 4.0 if (kelly[3] or "").lower() == "_x4" else 1.0
    return KellyStrategy(
        percent / 100 if fraction is None else fraction, times, kelly[1].lower() == "kelly"
    )


def name_with_fraction(name: str, fraction: float | None) -> str:
    """Return the name of a Kelly strategy with its percentage changed to this fraction.

    Names of other strategies are unchanged.
    """
    kelly = KELLY_NAME_PATTERN.fullmatch(name)
    if kelly is None or fraction is None or float(kelly[2]) / 100 == fraction:
        return name
    return f"{kelly[1].lower()}_{100 * fraction:g}{kelly[3] or ''}"


@cache
def _plugin_strategy(name: str, band: float, lookback: int, arguments: str) -> Strategy:
    """Return the strategy of `module.name`, created once per process for each set of arguments.

    arguments: JSON object of the arguments of the rule or its class.
    """
    rule = _plugin_function(name, json.loads(arguments))
    return WeightRuleStrategy(
        name,
        wrap_plugin_rule(name, rule),
        band,
        holding_interval=None,
        uses_forecast=True,
        lookback=lookback,
    )


def _plugin_function(name: str, arguments: Mapping[str, Any]) -> Callable[[SizingInputs], object]:
    """Return the function `module.name` with its arguments bound, or an instance of that class."""
    target = load_plugin(SIZING_GROUP, name)
    if not callable(target):
        kind = type(target).__name__
        raise InputError(
            f"{SIZING_TARGET_KEY}: {name} is of type {kind}; name a function or a class"
        )
    if not isinstance(target, type):
        check_plugin_arguments(SIZING_GROUP, name, target, arguments, given=1)
        return partial(target, **arguments)
    instance = create_plugin(SIZING_GROUP, name, target, arguments)
    if not callable(instance):
        raise InputError(
            f"{SIZING_TARGET_KEY}: {name} is not a strategy; add a method __call__(inputs) to the"
            " class"
        )
    function: Callable[[SizingInputs], object] = instance
    return function


def wrap_plugin_rule(
    name: str, rule: Callable[[SizingInputs], object]
) -> Callable[[SizingInputs], Array | StrategyAnswer]:
    """Wrap a custom rule so that an invalid result raises `InputError`.

    A valid result has one finite weight per symbol.

    name: name of the rule, for messages.
    rule: the custom rule.
    """

    def compute_weights(s: SizingInputs) -> Array | StrategyAnswer:
        try:
            answer = rule(s)
        except (Exception, SystemExit) as error:
            from sizing.kelly import SolverFailed

            # Without a solution no new risk is taken, as for the project's own strategies.
            # `require_lookback` names the settings itself.
            if isinstance(error, (SolverFailed, InputError)):
                raise
            with translate_plugin_errors(SIZING_GROUP, name):
                raise
        if isinstance(answer, StrategyAnswer):
            return StrategyAnswer(
                _check_rule_weights(name, answer.weights, s),
                None if answer.stops is None else _check_stop_prices(name, answer.stops, s),
                None if answer.reasons is None else _check_reasons(name, answer.reasons, s),
            )
        return _check_rule_weights(name, answer, s)

    return compute_weights


def _check_rule_weights(name: str, answer: object, s: SizingInputs) -> Array:
    """Return the weights [S] that a rule returned, clipped to ±MAX_RULE_WEIGHT.

    Raises InputError for a result that is not one finite number per symbol.
    """
    wanted = None
    # A mapping or a Series may order its symbols differently, so only arrays and lists are
    # accepted.
    if isinstance(answer, (np.ndarray, list, tuple)):
        try:
            wanted = np.asarray(answer)
        except ValueError:
            wanted = None
    if wanted is None or wanted.shape != s.held_weight.shape or wanted.dtype.kind not in "biuf":
        when = "" if s.decision_time is None else f" at {format_utc(s.decision_time)}"
        raise _invalid_weights_error(name, f"{to_one_line(repr(answer), 80)}{when}", s)
    weights: Array = wanted.astype(np.float64)
    # The largest size is at most the limit only if every weight is finite.
    if np.maximum.reduce(np.abs(weights), initial=0.0) <= MAX_RULE_WEIGHT:
        return weights
    if not (finite := np.isfinite(weights)).all():
        k = first_true_index(~finite)
        raise _invalid_weights_error(name, f"{wanted[k]} for {s.format_symbol(k)}", s)
    return np.clip(weights, -MAX_RULE_WEIGHT, MAX_RULE_WEIGHT)


def _invalid_weights_error(name: str, returned: str, s: SizingInputs) -> InputError:
    needed = f"return an array with a finite weight for each of the {len(s.held_weight)} symbols"
    return InputError(f"{SIZING_TARGET_KEY}: {name} returned {returned}; {needed}")


def _check_stop_prices(name: str, answer: object, s: SizingInputs) -> Array:
    """Return the stop prices [S] that a rule returned.

    Raises InputError for a result that is not one price above 0, or NaN, per symbol.
    """
    with suppress(ValueError, TypeError):
        stops = np.array(answer, dtype=np.float64)
        if stops.shape == s.held_weight.shape and (np.isnan(stops) | (stops > 0)).all():
            return stops
    raise InputError(
        f"{SIZING_TARGET_KEY}: {name} returned stop prices {to_one_line(repr(answer), 80)}; return"
        f" an array with a price above 0, or NaN, for each of the {len(s.held_weight)} symbols"
    )


def _check_reasons(name: str, answer: object, s: SizingInputs) -> tuple[str, ...]:
    """Return the reasons [S] that a rule returned.

    Raises InputError for a result that is not one short line, or an empty text, per symbol.
    """
    needed = (
        f"return a list with a line of at most {MAX_REASON_LENGTH} printable characters, or '', for"
        f" each of the {len(s.held_weight)} symbols"
    )
    listed = list(answer) if isinstance(answer, (list, tuple, np.ndarray)) else []
    if len(listed) != len(s.held_weight) or not all(isinstance(each, str) for each in listed):
        returned = to_one_line(repr(answer), 80)
        raise InputError(f"{SIZING_TARGET_KEY}: {name} returned reasons {returned}; {needed}")
    for k, reason in enumerate(listed):
        if len(reason) > MAX_REASON_LENGTH or not reason.isprintable():
            returned = f"{to_one_line(repr(reason), 100)} for {s.format_symbol(k)}"
            raise InputError(
                f"{SIZING_TARGET_KEY}: {name} returned the reason {returned}; {needed}"
            )
    return tuple(str(each).strip() for each in listed)
