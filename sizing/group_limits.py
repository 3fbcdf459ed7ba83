"""Limits on groups of symbols, and on a book's market beta, from a file of a user's own.

    groups:
      tech: {symbols: [AAPL, MSFT, NVDA], net: [0.0, 0.5], gross: 0.8}
      book: {symbols: all, net: [-0.2, 1.0]}
    beta: {market: SPY, net: [-0.2, 0.6]}

Numbers are multiples of equity. A group is any set of symbols: a sector, a country, a theme.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from foundation.arrays import Array
from foundation.config_files import check_config_file, plain_yaml
from foundation.errors import InputError
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

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")


@dataclass(frozen=True, slots=True)
class Group:
    """Limits on some symbols together; multiples of equity.

    symbols: none for all of a book.
    net: least and most of longs less shorts.
    gross: most of all sizes.
    """

    name: str
    symbols: frozenset[str] | None
    net: tuple[float, float] | None
    gross: float | None


@dataclass(frozen=True, slots=True)
class Beta:
    """Least and most of a book's beta to a market, Σ βᵢ·wᵢ."""

    market: str
    net: tuple[float, float]


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """The content of a file."""

    groups: tuple[Group, ...] = ()
    beta: Beta | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the rows, as of `rows_over`: those of sizes, then net ones."""
        sizes = [f"{group.name}_gross" for group in self.groups if group.gross is not None]
        nets = [group.name for group in self.groups if group.net is not None]
        nets += [] if self.beta is None else [BETA]
        return (*sizes, *[f"{name}_{side}" for name in nets for side in ("most", "least")])

    @property
    def markets(self) -> frozenset[str]:
        """What betas are to: one symbol, or none."""
        return frozenset() if self.beta is None else frozenset({self.beta.market})

    @property
    def symbols(self) -> frozenset[str]:
        named = [group.symbols for group in self.groups if group.symbols is not None]
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


@lru_cache(maxsize=64)
def _rows_over(limits: GroupLimits, symbols: tuple[str, ...], beside: tuple[str, ...]) -> Rows:
    if limits is NO_GROUPS:
        return NO_ROWS
    size = len(symbols) + len(beside)
    gross: list[Array] = []
    gross_most: list[float] = []
    net: list[Array] = []
    net_most: list[float] = []
    for group in limits.groups:
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
    content = plain_yaml(file)
    _check_keys(content, {"groups", BETA}, path)
    named = content.get("groups") or {}
    if not isinstance(named, Mapping):
        raise _refused(path, "groups", "names with their limits are needed")
    groups = tuple(_group(path, name, values) for name, values in named.items())
    beta = _beta(path, content[BETA]) if BETA in content else None
    limits = GroupLimits(groups, beta)
    if not limits.names:
        raise _refused(path, "", "it limits nothing; name groups, or beta")
    if len(limits.names) > MOST_ROWS:
        raise _refused(
            path, "groups", f"{len(limits.names)} limits, each side counted; at most {MOST_ROWS}"
        )
    return limits


def _group(path: str, name: object, values: object) -> Group:
    """One group of a file."""
    if not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise _refused(path, f"groups: {name!r}", "a name of up to 40 letters, digits and '_'")
    place = f"groups.{name}"
    if name in (BETA, "stock", "crypto"):
        raise _refused(path, place, "a limit of this name exists already; name it otherwise")
    if not isinstance(values, Mapping):
        raise _refused(path, place, "symbols: and net: or gross: are needed")
    _check_keys(values, {"symbols", "net", "gross"}, path, place)
    net = values.get("net")
    gross = values.get("gross")
    if net is None and gross is None:
        raise _refused(path, place, "it limits nothing; say net: [least, most] or gross: most")
    between = None if net is None else _range(path, f"{place}.net", net)
    most = None if gross is None else _number(path, f"{place}.gross", gross, least=0.0)
    if most is not None and between is not None and max(between[0], -between[1]) > most:
        raise _refused(path, f"{place}.net", f"more than gross: {most:g} allows")
    return Group(name, _symbols(path, f"{place}.symbols", values.get("symbols")), between, most)


def _symbols(path: str, place: str, values: object) -> frozenset[str] | None:
    """The symbols of a group; None for all."""
    if values == EVERYTHING:
        return None
    if not isinstance(values, list) or not values:
        raise _refused(path, place, "a list of symbols, or all, is needed")
    found: set[str] = set()
    for word in values:
        if not isinstance(word, str):
            raise _refused(path, place, f"{word!r} is no symbol; put it in quotes if it is one")
        symbol = _symbol(path, place, word)
        if symbol in found:
            raise _refused(path, place, f"{symbol} stands twice; leave one of them")
        found.add(symbol)
    return frozenset(found)


def _symbol(path: str, place: str, word: object) -> str:
    try:
        return instrument(str(word)).symbol
    except InputError as error:
        raise _refused(path, place, str(error)) from error


def _beta(path: str, values: object) -> Beta:
    """The bounds of a book's beta."""
    if not isinstance(values, Mapping):
        raise _refused(path, BETA, "market: and net: [least, most] are needed")
    _check_keys(values, {"market", "net"}, path, BETA)
    for key in ("market", "net"):
        if values.get(key) is None:
            raise _refused(path, f"{BETA}.{key}", "it is missing")
    market = _symbol(path, f"{BETA}.market", values["market"])
    return Beta(market, _range(path, f"{BETA}.net", values["net"]))


def _range(path: str, place: str, value: object) -> tuple[float, float]:
    """Least and most."""
    if not (isinstance(value, list) and len(value) == 2):
        raise _refused(path, place, f"[least, most] is needed, not {value!r}")
    least, most = (_number(path, place, each, least=-MOST) for each in value)
    if least > most:
        raise _refused(path, place, f"the least, {least:g}, is above the most, {most:g}")
    return least, most


def _number(path: str, place: str, value: object, *, least: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(path, place, f"a number is needed, not {value!r}")
    if not least <= value <= MOST:
        raise _refused(path, place, f"{value:g} is outside {least:g} … {MOST:g}")
    return float(value)


def _check_keys(values: Mapping[Any, Any], known: set[str], path: str, place: str = "") -> None:
    for key in _unknown(values, known):
        raise _refused(path, place, f"{key!r} is no key; {', '.join(sorted(known))} are")


def _unknown(values: Mapping[Any, Any], known: set[str]) -> Iterator[object]:
    return (key for key in values if key not in known)


def _refused(path: str, place: str, what: str) -> InputError:
    return InputError(": ".join(part for part in (KEY, path, place, what) if part))
