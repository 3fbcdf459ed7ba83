"""Limits on groups of symbols, and on a book's market beta, from a file of a user's own.

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
from foundation.settings import check_config_file, plain_yaml, refusal
from sizing.problem import NO_ROWS, Rows
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import SizingProblem, optimal_weights
from trainingdata.instruments import instrument

KEY = "limits.groups"
EVERYTHING = "all"
BETA = "beta"
MOST = 10.0  # of equity: what a limit may be
MOST_ROWS = 40  # each is a bit of what holds a target, of 62
MISSED = 1e-6  # of equity

_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"


def _symbol(word: object) -> str:
    if not isinstance(word, str):
        raise ValueError(f"{word!r} is no symbol; put it in quotes if it is one")
    try:
        return instrument(word).symbol
    except InputError as error:
        raise ValueError(str(error)) from error


def _symbols(words: object) -> frozenset[str] | None:
    """The symbols of a group; None for all."""
    if words == EVERYTHING:
        return None
    if not isinstance(words, list) or not words:
        raise ValueError("a list of symbols, or all, is needed")
    found = [_symbol(word) for word in words]
    if twice := [symbol for symbol in found if found.count(symbol) > 1]:
        raise ValueError(f"{twice[0]} stands twice; leave one of them")
    return frozenset(found)


def _rising(net: tuple[float, float]) -> tuple[float, float]:
    if net[0] > net[1]:
        raise ValueError(f"the least, {net[0]:g}, is above the most, {net[1]:g}")
    return net


Level = Annotated[float, Field(strict=True, ge=-MOST, le=MOST, allow_inf_nan=False)]
Net = Annotated[tuple[Level, Level], AfterValidator(_rising)]
Size = Annotated[float, Field(strict=True, ge=0.0, le=MOST, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class Group:
    """Limits on some symbols together; multiples of equity.

    symbols: none for all of a book.
    net: least and most of longs less shorts.
    gross: most of all sizes.
    """

    symbols: Annotated[frozenset[str] | None, BeforeValidator(_symbols)]
    net: Net | None = None
    gross: Size | None = None

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if self.net is None and self.gross is None:
            raise ValueError("it limits nothing; say net: [least, most] or gross: most")
        if self.net and self.gross is not None and max(self.net[0], -self.net[1]) > self.gross:
            raise ValueError(f"net: more than gross: {self.gross:g} allows")


@dataclass(frozen=True, slots=True)
class Beta:
    """Least and most of a book's beta to a market, Σ βᵢ·wᵢ."""

    market: Annotated[str, BeforeValidator(_symbol)]
    net: Net

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, eq=False, slots=True)
class GroupLimits:
    """The content of a file: groups by name."""

    groups: Mapping[Annotated[str, Field(pattern=_NAME)], Group] = field(default_factory=dict)
    beta: Beta | None = None

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if taken := [name for name in (BETA, "stock", "crypto") if name in self.groups]:
            raise ValueError(f"groups.{taken[0]}: a limit of this name exists already")

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rows, as of `rows_over`: those of sizes, then net ones."""
        sizes = [f"{name}_gross" for name, each in self.groups.items() if each.gross is not None]
        nets = [name for name, each in self.groups.items() if each.net is not None]
        nets += [] if self.beta is None else [BETA]
        return (*sizes, *[f"{name}_{side}" for name in nets for side in ("most", "least")])

    @property
    def markets(self) -> frozenset[str]:
        """What betas are to: one symbol, or none."""
        return frozenset() if self.beta is None else frozenset({self.beta.market})

    @property
    def symbols(self) -> frozenset[str]:
        named = [group.symbols for group in self.groups.values() if group.symbols is not None]
        return self.markets.union(*named)

    def rows_over(self, symbols: Sequence[str], beside: Sequence[str] = ()) -> Rows:
        """The rows over N symbols, then over what open orders have yet to take off positions.

        beside: the symbols of these; they count as gone where longs and shorts offset each other,
        and keep their part of sizes.
        """
        return _rows_over(self, tuple(symbols), tuple(beside))

    def unmet(self, symbol_cap: float, leverage: float) -> str | None:
        """A row of the groups that no book keeps to, however it is chosen.

        symbol_cap, leverage: of a symbol and of the book, at most.
        """
        # Where a group is of everything, the symbols that are not named are worth a whole book.
        symbols = [*sorted(self.symbols), ""]
        n = len(symbols)
        rows = GroupLimits(self.groups).rows_over(symbols)
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
                np.vstack([np.ones((1, n)), rows.gross]),
                np.append(leverage, rows.gross_most),
                1.0,
                rows.net,
                rows.net_most,
            )
        )
        missed = rows.net @ weights[0] - rows.net_most
        names = GroupLimits(self.groups).names[len(rows.gross) :]
        if status == SOLVED and not (missed > MISSED).any():
            return None
        return names[int(np.argmax(missed))]


NO_GROUPS = GroupLimits()
_LIMITS = TypeAdapter(GroupLimits)


@lru_cache(maxsize=64)
def _rows_over(limits: GroupLimits, symbols: tuple[str, ...], beside: tuple[str, ...]) -> Rows:
    if limits is NO_GROUPS:
        return NO_ROWS
    size = len(symbols) + len(beside)
    gross: list[Array] = []
    gross_most: list[float] = []
    net: list[Array] = []
    net_most: list[float] = []
    for group in limits.groups.values():
        every = group.symbols is None
        members = [every or s in (group.symbols or ()) for s in (*symbols, *beside)]
        part = np.array(members, dtype=np.float64)
        if group.gross is not None:
            gross.append(part)
            gross_most.append(group.gross)
        if group.net is not None:
            signed = part.copy()
            signed[len(symbols) :] = 0.0
            net += [signed, -signed]
            net_most += [group.net[1], -group.net[0]]
    market = -1
    if limits.beta is not None:
        if limits.beta.market not in symbols:
            raise InputError(
                f"{KEY}: {BETA}.market: {limits.beta.market} is not among the symbols; name it"
                " beside them, or bound no beta"
            )
        market = symbols.index(limits.beta.market)
        net += [np.zeros(size), np.zeros(size)]
        net_most += [limits.beta.net[1], -limits.beta.net[0]]
    return Rows(
        np.array(gross).reshape(-1, size),
        np.array(gross_most),
        np.array(net).reshape(-1, size),
        np.array(net_most),
        market,
    )


@cache
def read_group_limits(path: str) -> GroupLimits:
    """The limits of a file, which is read once."""
    file = Path(path).expanduser()
    try:
        check_config_file(file, "limits on groups", "docs/MATH.md shows one")
    except InputError as error:
        raise InputError(f"{KEY}: {error}") from error
    try:
        limits = _LIMITS.validate_python(plain_yaml(file))
    except ValidationError as error:
        raise InputError(f"{KEY}: {path}: {refusal(error, GroupLimits)}") from None
    if not 1 <= len(limits.names) <= MOST_ROWS:
        raise InputError(
            f"{KEY}: {path}: {len(limits.names)} limits, each side counted; at least one and at"
            f" most {MOST_ROWS}"
        )
    return limits
