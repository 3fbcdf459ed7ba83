"""Limits on groups of symbols, and on a book's market beta, from a user's YAML file.

    groups:
      tech: {symbols: [AAPL, MSFT, NVDA], net: [0.0, 0.5], gross: 0.8}
      book: {symbols: all, net: [-0.2, 1.0]}
    beta: {market: SPY, net: [-0.2, 0.6]}

Numbers are multiples of equity. A group is any set of symbols: a sector, a country, a theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)

from foundation.arrays import Array
from foundation.errors import InputError
from foundation.settings import check_config_file, read_plain_yaml, settings_error
from sizing.problem import NO_GROUP_CONSTRAINTS, GroupConstraints
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import SizingProblem, optimal_weights
from trainingdata.instruments import instrument

GROUPS_FILE_KEY = "limits.groups_file"
ALL_SYMBOLS_KEYWORD = "all"
BETA_LIMIT_NAME = "beta"
MAX_EXPOSURE_LEVEL = 10.0  # largest limit, in multiples of equity
MAX_GROUP_LIMITS = 40  # each is one of the 62 bits of `find_binding_limits`
FEASIBILITY_TOL = 1e-6  # in multiples of equity

_GROUP_NAME_PATTERN = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"


def _parse_symbol(word: object) -> str:
    if not isinstance(word, str):
        raise ValueError(f"{word!r} is not a symbol; put symbols such as ON or NO in quotes")
    try:
        return instrument(word).symbol
    except InputError as error:
        raise ValueError(str(error)) from error


def _parse_group_symbols(words: object) -> frozenset[str] | None:
    """Return the symbols of a group in a file; None for the word `all`."""
    if words == ALL_SYMBOLS_KEYWORD:
        return None
    if not isinstance(words, list) or not words:
        raise ValueError("must be a list of symbols, or the word all")
    found = [_parse_symbol(word) for word in words]
    if twice := [symbol for symbol in found if found.count(symbol) > 1]:
        raise ValueError(f"{twice[0]} is listed twice; remove one of them")
    return frozenset(found)


def _check_ascending(net: tuple[float, float]) -> tuple[float, float]:
    if net[0] > net[1]:
        raise ValueError(f"the minimum, {net[0]:g}, exceeds the maximum, {net[1]:g}; swap them")
    return net


NetExposure = Annotated[
    float, Field(strict=True, ge=-MAX_EXPOSURE_LEVEL, le=MAX_EXPOSURE_LEVEL, allow_inf_nan=False)
]
NetExposureRange = Annotated[tuple[NetExposure, NetExposure], AfterValidator(_check_ascending)]
GrossExposure = Annotated[
    float, Field(strict=True, ge=0.0, le=MAX_EXPOSURE_LEVEL, allow_inf_nan=False)
]


@dataclass(frozen=True, slots=True)
class GroupLimit:
    """Net and gross limits on a group of symbols, in multiples of equity.

    symbols: members of the group; None: all symbols of the book.
    net: minimum and maximum net exposure, longs less shorts; None: no limit.
    gross: maximum gross exposure, longs plus shorts; None: no limit.
    """

    symbols: Annotated[frozenset[str] | None, BeforeValidator(_parse_group_symbols)]
    net: NetExposureRange | None = None
    gross: GrossExposure | None = None

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if self.net is None and self.gross is None:
            raise ValueError("no limit is set; add net: [minimum, maximum] or gross: maximum")
        if self.net and self.gross is not None and max(self.net[0], -self.net[1]) > self.gross:
            raise ValueError(
                f"net: {list(self.net)} requires more than gross: {self.gross:g} allows; widen one"
                " of them"
            )


@dataclass(frozen=True, slots=True)
class BetaLimit:
    """Limit on a book's beta to a market, Σ βᵢ·wᵢ.

    market: symbol of the market.
    net: minimum and maximum beta of the book.
    """

    market: Annotated[str, BeforeValidator(_parse_symbol)]
    net: NetExposureRange

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, eq=False, slots=True)
class GroupLimits:
    """The limits on groups and on beta in one file.

    groups: limits by name of the group.
    beta: limit on the book's beta; None: no limit.
    """

    groups: Mapping[Annotated[str, Field(pattern=_GROUP_NAME_PATTERN)], GroupLimit] = field(
        default_factory=dict
    )
    beta: BetaLimit | None = None

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if taken := [name for name in (BETA_LIMIT_NAME, "stock", "crypto") if name in self.groups]:
            raise ValueError(f"groups.{taken[0]}: the name is reserved; choose another")

    @property
    def limit_names(self) -> tuple[str, ...]:
        """Names of the limits in the order of the constraints: gross limits, then net limits."""
        sizes = [f"{name}_gross" for name, each in self.groups.items() if each.gross is not None]
        nets = [name for name, each in self.groups.items() if each.net is not None]
        nets += [] if self.beta is None else [BETA_LIMIT_NAME]
        return (*sizes, *[f"{name}_{side}" for name in nets for side in ("most", "least")])

    @property
    def market_symbols(self) -> frozenset[str]:
        """Symbol of the market that beta refers to; empty without a limit on beta."""
        return frozenset() if self.beta is None else frozenset({self.beta.market})

    @property
    def symbols(self) -> frozenset[str]:
        """All symbols that the limits name, including the market."""
        named = [group.symbols for group in self.groups.values() if group.symbols is not None]
        return self.market_symbols.union(*named)

    def build_constraints(
        self, symbols: Sequence[str], closing_symbols: Sequence[str] = ()
    ) -> GroupConstraints:
        """Return the limits as linear constraints on weights.

        symbols: symbols of the first weights.
        closing_symbols: symbols of the remaining weights, which are the quantities of open closing
            orders. They count as closed in net limits, and use gross limits until the orders fill.

        Raises InputError if the market of beta is not among the symbols.
        """
        return _build_constraint_rows(self, tuple(symbols), tuple(closing_symbols))

    def find_infeasible_limit(self, symbol_cap: float, leverage: float) -> str | None:
        """Return the name of a group limit that cannot be satisfied together with the other limits.

        The result is None if some book satisfies all limits.

        symbol_cap: maximum weight of a symbol.
        leverage: maximum gross exposure of the book, in multiples of equity.
        """
        # If a group has all symbols, those that are not named may fill a whole book.
        symbols = [*sorted(self.symbols), ""]
        n = len(symbols)
        rows = GroupLimits(self.groups).build_constraints(symbols)
        caps = np.array([symbol_cap] * (n - 1) + [leverage])
        none = np.zeros((1, n))
        status, weights, _ = optimal_weights(
            SizingProblem(
                none,
                np.eye(n)[None],
                none,
                np.zeros(1),
                none[0],
                -caps,
                caps,
                np.vstack([np.ones((1, n)), rows.gross_coefficients]),
                np.append(leverage, rows.gross_limits),
                1.0,
                rows.net_coefficients,
                rows.net_limits,
            )
        )
        missed = rows.net_coefficients @ weights[0] - rows.net_limits
        names = GroupLimits(self.groups).limit_names[len(rows.gross_coefficients) :]
        if status == SOLVED and not (missed > FEASIBILITY_TOL).any():
            return None
        return names[int(np.argmax(missed))]


NO_GROUP_LIMITS = GroupLimits()
_GROUP_LIMITS_ADAPTER = TypeAdapter(GroupLimits)


@lru_cache(maxsize=64)
def _build_constraint_rows(
    limits: GroupLimits, symbols: tuple[str, ...], closing_symbols: tuple[str, ...]
) -> GroupConstraints:
    if limits is NO_GROUP_LIMITS:
        return NO_GROUP_CONSTRAINTS
    size = len(symbols) + len(closing_symbols)
    gross: list[Array] = []
    gross_max: list[float] = []
    net: list[Array] = []
    net_max: list[float] = []
    for group in limits.groups.values():
        every = group.symbols is None
        members = [every or s in (group.symbols or ()) for s in (*symbols, *closing_symbols)]
        part = np.array(members, dtype=np.float64)
        if group.gross is not None:
            gross.append(part)
            gross_max.append(group.gross)
        if group.net is not None:
            signed = part.copy()
            signed[len(symbols) :] = 0.0
            net += [signed, -signed]
            net_max += [group.net[1], -group.net[0]]
    market = -1
    if limits.beta is not None:
        if limits.beta.market not in symbols:
            raise InputError(
                f"{GROUPS_FILE_KEY}: {BETA_LIMIT_NAME}.market: {limits.beta.market} is not among"
                " the"
                " symbols; add it to them, or remove the beta limit"
            )
        market = symbols.index(limits.beta.market)
        net += [np.zeros(size), np.zeros(size)]
        net_max += [limits.beta.net[1], -limits.beta.net[0]]
    return GroupConstraints(
        np.array(gross).reshape(-1, size),
        np.array(gross_max),
        np.array(net).reshape(-1, size),
        np.array(net_max),
        market,
    )


@cache
def read_group_limits(path: str) -> GroupLimits:
    """Read limits on groups from a YAML file; each file is read once per process.

    Raises
    ------
    InputError
        if the file is missing or invalid, or has no limit or more than MAX_GROUP_LIMITS.
    """
    file = Path(path).expanduser()
    try:
        check_config_file(file, "limits on groups", "see the example in docs/MATH.md")
    except InputError as error:
        raise InputError(f"{GROUPS_FILE_KEY}: {error}") from error
    try:
        limits = _GROUP_LIMITS_ADAPTER.validate_python(read_plain_yaml(file))
    except ValidationError as error:
        # A check of the whole file has no key: its message names the group itself.
        reason = str(settings_error(error, GroupLimits)).removeprefix(": ")
        raise InputError(f"{GROUPS_FILE_KEY}: {path}: {reason}") from None
    if not 1 <= len(limits.limit_names) <= MAX_GROUP_LIMITS:
        raise InputError(
            f"{GROUPS_FILE_KEY}: {path}: the file has {len(limits.limit_names)} limits, counting"
            " each"
            f" side of a range; it must have 1 to {MAX_GROUP_LIMITS}"
        )
    return limits
