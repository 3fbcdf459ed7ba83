"""The limits on a book: per symbol, per class, on groups of symbols, and together.

Limits on groups and on market beta come from a file of a user's own:

    groups:
      tech: {symbols: [AAPL, MSFT, NVDA], net: [0.0, 0.5], gross: 0.8}
      book: {symbols: all, net: [-0.2, 1.0]}
    beta: {market: SPY, net: [-0.2, 0.6]}

Numbers are multiples of equity. A group is any set of symbols: a sector, a country, a theme.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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

from foundation.arrays import Array, Mask
from foundation.compiled import copy_row, inlined
from foundation.errors import InputError
from foundation.settings import check_config_file, plain_yaml, refusal, setting, settings_class
from sizing.increments import whole_steps
from sizing.problem import NO_ROWS, BookLimits, CurrentWeights, Problem, Rows
from sizing.solver.active_set import SOLVED
from sizing.solver.multi_period import SizingProblem, optimal_weights
from trainingdata.instruments import instrument

CENT = 0.01  # USD
ROUNDED = 1e-9  # of a ceiling: what a solved problem may stand above it
CEILINGS = ("stock_gross", "crypto_gross", "unborrowed_cash", "joint")
KEY = "limits.groups"
EVERYTHING = "all"
BETA = "beta"
MOST = 10.0  # of equity: what a limit may be
MOST_ROWS = 40  # each is a bit of what holds a target, of 62
MISSED = 1e-6  # of equity

_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"


@settings_class("limits")
class Limits:
    """Ceilings in multiples of equity."""

    symbol_cap: float = setting(0.6, "of one symbol, held and open", gt=0, le=4)
    intraday_leverage: float = setting(
        4.0, "of stock gross while the market stays open", gt=0, le=10
    )
    overnight_leverage: float = setting(2.0, "of stock gross into the night", gt=0, le=10)
    overnight_buffer: float = setting(
        0.02, "share of overnight_leverage kept free for moves until the close", ge=0, lt=1
    )
    crypto_leverage: float = setting(
        1.0, "of all coins, bought with cash that is not borrowed", ge=0, le=1
    )
    margin_equity: float = setting(
        2000.0, "USD below which stocks are held 1×, and not short", ge=0
    )
    groups: str | None = setting(
        None, "YAML file of limits on groups and on market beta (docs/MATH.md)"
    )
    most_positions: int | None = setting(
        None, "held after a decision, those that cannot change then among them", ge=1, le=100_000
    )

    def of_groups(self) -> GroupLimits:
        """The limits on groups; none where no file is named."""
        if self.groups is None:
            return NO_GROUPS
        leverage = max(self.intraday_leverage, self.crypto_leverage)
        return _checked_groups(self.groups, self.symbol_cap, leverage)

    def stock_ceiling(self, *, overnight: bool, equity: float) -> float:
        """Stock gross exposure allowed, in multiples of equity.

        Intraday or overnight, and 1× at most for an account without margin.
        """
        leverage = self.overnight_ceiling if overnight else self.intraday_leverage
        return granted_leverage(leverage, equity, self.margin_equity)

    def with_account_leverage(self, leverage: float) -> Limits:
        """These limits for an account whose broker lends so many times its equity at most."""
        if leverage >= self.intraday_leverage:
            return self
        return replace(self, intraday_leverage=leverage)

    @property
    def overnight_ceiling(self) -> float:
        """Stock gross that the last decision before the close may leave, in multiples of equity."""
        return min(self.overnight_leverage * (1.0 - self.overnight_buffer), self.intraday_leverage)

    @property
    def caps(self) -> tuple[float, float, float, float]:
        """Of a symbol, of all coins, the equity below which nothing is short, how many positions.

        What compiled functions take of these limits.
        """
        most = np.inf if self.most_positions is None else float(self.most_positions)
        return self.symbol_cap, self.crypto_leverage, self.margin_equity, most


@cache
def _checked_groups(path: str, symbol_cap: float, leverage: float) -> GroupLimits:
    """The limits of a file, once some book keeps to them."""
    limits = read_group_limits(path)
    if (row := limits.unmet(symbol_cap, leverage)) is not None:
        raise InputError(
            f"{KEY}: {path}: no book under limits.symbol_cap={symbol_cap:g}, the ceilings and the"
            f" other groups' limits keeps to {row}; widen one of them"
        )
    return limits


@inlined
def granted_leverage(leverage: float, equity: float, margin_equity: float) -> float:
    """The leverage an account gets: 1× at most below margin_equity USD."""
    return min(leverage, 1.0) if equity < margin_equity else leverage


@inlined
def kept_share(weights: Array, crypto: Mask, loose: Mask, stock_ceiling: float) -> float:
    """The share of their weights that loose symbols may keep under the joint ceiling, 0 … 1.

    weights [S]; loose [S]: the symbols that may be cut. The ceiling: stock gross / stock_ceiling +
    crypto ≤ 1.
    """
    load = 0.0
    part_loose = 0.0
    for s in range(len(weights)):
        part = abs(weights[s]) if crypto[s] else abs(weights[s]) / stock_ceiling
        load += part
        if loose[s]:
            part_loose += part
    # The program leaves a full ceiling full up to rounding. Nobody trades for that.
    if load <= 1.0 + ROUNDED or part_loose == 0.0:
        return 1.0
    return max(1.0 - (load - 1.0) / part_loose, 0.0)


@inlined
def bounds_of(limits: BookLimits, account: CurrentWeights) -> tuple[Array, Array]:
    """Lower and upper weight, [S] each: ± the cap, or what is held where a symbol is fixed.

    What is sold because it may not be held any more is fixed at 0, and takes no room.
    The lower bound of what is long only, and of every symbol where the account may not be short, is
    0.
    """
    held = account.held
    least = -limits.symbol_cap if account.equity >= limits.margin_equity else 0.0
    lower = held.copy()
    upper = held.copy()
    for s in range(len(held)):
        if account.deciding[s]:
            # What cannot be sold short any more may still be held short: such a position may stay
            # and shrink, and only going further short is refused.
            lower[s] = max(least, min(held[s], 0.0)) if limits.long_only[s] else least
            upper[s] = limits.symbol_cap
        elif account.leaving[s]:
            lower[s] = 0.0
            upper[s] = 0.0
    return lower, upper


@inlined
def ceilings_of(problem: Problem) -> tuple[Array, Array]:
    """Coefficients [4, S] and limits [4] of the CEILINGS: Σ coefficients·|w| ≤ limit."""
    limits = problem.limits
    held = problem.account.held
    coefficients = np.zeros((4, len(held)))
    rooms = np.empty(4)
    coins = 0.0
    for s in range(len(held)):
        if limits.crypto[s]:
            coefficients[1, s] = coefficients[2, s] = coefficients[3, s] = 1.0
            coins += abs(held[s])
        else:
            coefficients[0, s] = 1.0
            coefficients[3, s] = 1.0 / limits.stock_ceiling
    rooms[0] = limits.stock_ceiling
    rooms[1] = limits.crypto_cap
    # The cost of buying comes out of the same cash, and coins may not be bought with borrowed cash.
    dearest = 0.0
    for s in range(len(held)):
        dearest = max(dearest, problem.costs.change[0, s])
    spendable = problem.account.unborrowed / (1.0 + dearest)
    # Coins are not marginable: cash below zero buys none, and what is held is paid for already.
    rooms[2] = coins + max(spendable, 0.0)
    # Coins are no margin for stocks: gross ≤ stock_ceiling · (1 - coins), written as a sum.
    rooms[3] = 1.0
    return coefficients, rooms


@inlined
def size_rows(problem: Problem) -> tuple[Array, Array]:
    """The CEILINGS, then the groups' limits of sizes: [4 + G, S] and [4 + G]."""
    rows, rooms = ceilings_of(problem)
    groups = problem.limits.rows
    count = len(groups.gross_most)
    if count == 0:
        return rows, rooms
    all_rows = np.empty((len(rows) + count, rows.shape[1]))
    all_rooms = np.empty(len(rooms) + count)
    for k in range(len(rows)):
        all_rooms[k] = rooms[k]
        copy_row(all_rows[k], rows[k])
    for k in range(count):
        all_rooms[len(rooms) + k] = groups.gross_most[k]
        copy_row(all_rows[len(rooms) + k], groups.gross[k])
    return all_rows, all_rooms


def priced_count(problem: Problem) -> int:
    """How many limits and periods have a price: 4 + G + N + K."""
    rows = problem.limits.rows
    return len(CEILINGS) + len(rows.gross) + len(rows.net) + len(problem.returns.mu)


@inlined
def net_excess(problem: Problem, k: int, weights: Array, solved: Array) -> float:
    """By how much weights [S] pass net limit k, or what solved ones [S] take where they pass it."""
    rows = problem.limits.rows
    use = 0.0
    allowed = 0.0
    for s in range(rows.net.shape[1]):
        use += rows.net[k, s] * weights[s]
        allowed += rows.net[k, s] * solved[s]
    return float(use - max(allowed, rows.net_most[k]))


@inlined
def _whole_sale(held: float, weight: float, increment: float) -> float:
    """What is sold on the way from one weight to a lower one, in whole increments.

    What is left is a whole number of them as well; a sale of everything is not rounded.
    """
    if weight == 0.0 or increment == 0.0:
        return held - weight
    left = whole_steps(weight, increment) * increment
    return whole_steps(held - left, increment) * increment


@inlined
def affordable_weights(problem: Problem, weights: Array) -> Array:
    """The weights [S], purchases of coins cut alike to what the venue takes of them.

    Σ bought·(1 + cost) ≤ unborrowed + Σ sold·(1 - cost) / order_margin, over coins. What a sale
    brings is in whole increments, unless it closes, less a fee that is rounded up to the cent. What
    the venue does not take yet is left to the next decision.
    """
    # `ceilings_of` bounds what coins come to: there a sale frees its whole worth. The venue checks
    # the purchase above its price against the cash that the sale has brought, and refuses all of it
    # where that falls short.
    account = problem.account
    crypto = problem.limits.crypto
    cost = problem.costs.change[0]
    held = account.held
    cent = CENT / account.equity
    needed = 0.0
    freed = 0.0
    for s in range(len(held)):
        change = weights[s] - held[s]
        if crypto[s] and change > 0.0:
            needed += change * (1.0 + cost[s])
        elif crypto[s] and change < 0.0:
            sold = _whole_sale(held[s], weights[s], account.increment[s])
            freed += max(sold * (1.0 - cost[s]) - cent, 0.0)
    payable = max(account.unborrowed + freed / account.order_margin, 0.0)
    affordable = weights.copy()
    # A full ceiling is full up to the rounding of the program.
    if needed <= payable + ROUNDED:
        return affordable
    share = payable / needed
    for s in range(len(held)):
        if crypto[s] and weights[s] > held[s]:
            affordable[s] = held[s] + share * (weights[s] - held[s])
    return affordable


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
