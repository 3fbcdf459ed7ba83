"""Search space: the varied settings and the distributions of their values."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from foundation.errors import InputError
from foundation.plugin import allow_plugin_import, is_plugin
from foundation.settings import with_changes
from marketsimulator.results.run_record import format_setting_value
from marketsimulator.settings import BacktestSettings

LOG_SCALE_KEYWORD = "log"  # third entry of a logarithmic range
CHOICES_KEY = "choices"  # key of a choice between two numbers
SUPPORTED_VALUE_FORMS = "[low, high], [low, high, log] or a list of choices"
# Settings that all trials share: bars, period, capital, output.
UNSEARCHABLE_KEYS = (
    *("data", "symbols", "start", "end", "days", "timeframe", "fill", "increments", "seed"),
    *("capital", "trials", "output", "order_tag"),
)
STRATEGY_KEY = "sizing.strategy"


@dataclass(frozen=True, eq=False, slots=True)
class SearchSpace:
    """Varied settings with the distributions that Optuna draws their values from.

    distributions: distribution by dotted key.
    """

    distributions: Mapping[str, BaseDistribution]

    @classmethod
    def parse(
        cls,
        space: Mapping[str, Any] | None,
        settings: BacktestSettings,
        fixed_keys: Collection[str],
    ) -> SearchSpace:
        """Parse the setting `space`, and validate every bound and choice.

        settings: default settings.
        fixed_keys: settings that a search cannot vary.
        Raises `InputError` for an invalid key or value.
        """
        if not space:
            raise InputError(
                f"space: no settings to search; set 'space={{KEY: {SUPPORTED_VALUE_FORMS}}}'"
            )
        for key in space:
            if key.partition(".")[0] in fixed_keys:
                raise InputError(
                    f"space.{key}: all trials share this setting; set it outside of the space"
                )
            if inner := [other for other in space if other.startswith(f"{key}.")]:
                raise InputError(f"space.{inner[0]}: space.{key} sets it too; remove one of them")
        distributions = {
            key: _parse_distribution(f"space.{key}", values, is_float=_is_float(settings, key))
            for key, values in space.items()
        }
        for name in (
            _choices_or_bounds(distributions[STRATEGY_KEY]) if STRATEGY_KEY in distributions else ()
        ):
            if is_plugin(str(name)):
                allow_plugin_import(str(name))
        for key, distribution in distributions.items():
            for value in _choices_or_bounds(distribution):
                try:
                    with_changes(settings, {key: value}).sizing.build_strategy()
                except InputError as error:
                    raise InputError(f"space: {error}") from error
        return cls(distributions)

    def build_variant(
        self, settings: BacktestSettings, params: Mapping[str, Any]
    ) -> BacktestSettings:
        """Return the settings with drawn values. Raises `InputError` if they conflict."""
        try:
            return with_changes(settings, params)
        except InputError as error:
            raise InputError(f"space: {format_params(params)}: {error}") from error


def format_params(params: Mapping[str, Any]) -> str:
    """Format drawn values: `sizing.arguments.fast=12, limits.symbol_cap=0.4`."""
    return ", ".join(f"{key}={_format_param(value)}" for key, value in params.items())


def _format_param(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else format_setting_value(value)


def _is_float(settings: BacktestSettings, key: str) -> bool:
    """Return whether the default value of a setting is a float."""
    value: Any = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else getattr(value, part, None)
    return isinstance(value, float)


def _choices_or_bounds(distribution: BaseDistribution) -> Sequence[Any]:
    """Return the choices of a distribution, or its bounds."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, IntDistribution | FloatDistribution)
    return distribution.low, distribution.high


def _parse_distribution(place: str, values: Any, *, is_float: bool) -> BaseDistribution:
    """Return the distribution of a key of the space.

    place: key, for messages.
    is_float: true if a range between integers is continuous.
    """
    if isinstance(values, Mapping):
        if list(values) != [CHOICES_KEY]:
            raise InputError(
                f"{place}: {dict(values)} is neither a range nor a list; write"
                f" {SUPPORTED_VALUE_FORMS}, or {{{CHOICES_KEY}: [5, 50]}}"
            )
        return _parse_choices(place, values[CHOICES_KEY])
    if not _is_list(values):
        raise InputError(
            f"{place}: {format_setting_value(values)} is neither a range nor a list; write"
            f" {SUPPORTED_VALUE_FORMS}"
        )
    log = len(values) == 3 and values[2] == LOG_SCALE_KEYWORD
    if not (all(map(_is_number, values[:2])) and (log or len(values) == 2)):
        return _parse_choices(place, values)
    low, high = values[:2]
    if not low < high:
        raise InputError(f"{place}: {low} must be below {high}: a range is [low, high]")
    if log and low <= 0:
        raise InputError(f"{place}: the lower bound {low} of a log range must be above 0")
    if isinstance(low, int) and isinstance(high, int) and not is_float:
        return IntDistribution(low, high, log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _parse_choices(place: str, values: Any) -> CategoricalDistribution:
    if not _is_list(values) or len(values) < 2:
        raise InputError(
            f"{place}: {format_setting_value(values)} must be a list of two or more values; a"
            " single value is set outside of the space"
        )
    for k, value in enumerate(values):
        if not (value is None or isinstance(value, str | int | float)):
            raise InputError(
                f"{place}: invalid choice {value}; use numbers, words, true, false or null"
            )
        if value in values[:k]:
            raise InputError(f"{place}: {format_setting_value(value)} appears twice; remove one")
    return CategoricalDistribution(tuple(values))


def _is_list(values: Any) -> bool:
    return isinstance(values, Sequence) and not isinstance(values, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
