"""The universe: symbols that may be held at each instant, by a rule over data known then.

Membership is renewed at New York's midnight of each day, of Mondays, or of the first of a month,
and of every day on which a list of members changes. It is valid until the next renewal. Membership
depends only on data known by the renewal: not on the start or the end of a run, and equally in live
trading.

Days are calendar days: sessions for stocks, all days for crypto. A day without a bar counts as a
day without trades.

A list of members (CSV or Parquet) has one row per membership; a symbol may have several:

    symbol  of a stock or a crypto pair
    from    New York, YYYY-MM-DD, the first day of membership
    to      the first day after it; empty while it lasts
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from foundation.arrays import Array, Instants, Mask
from foundation.errors import DataError, InputError, format_suggestion, invalid_choice_error
from foundation.plugin import HYDRA_TARGET_KEY, is_plugin, load_plugin, translate_plugin_errors
from foundation.settings import setting, settings_class
from trainingdata.bars import Bars
from trainingdata.instants import Dates, new_york_date, new_york_midnight, parse_date
from trainingdata.instruments import AssetClass, instrument, is_symbol_in_any_case
from trainingdata.text_rows import read_text_rows
from trainingdata.volume_units import require_volume_units

if TYPE_CHECKING:
    from trainingdata.midnight_values import MidnightValues

UNIVERSE_GROUP = "universe"  # the settings group that names a custom function
GROWTH_RANK = "growth"
BUILT_IN_RANKS = (GROWTH_RANK, "momentum")
# Rules that exclude a symbol, named by their settings. The number of a rule is its index here; the
# first rule that applies counts.
EXCLUSION_RULES = (
    "",
    "classes",
    "members",
    "min_bars",
    "min_price",
    "max_volatility",
    "top",
    "keep",
)
TOP, KEEP = EXCLUSION_RULES.index("top"), EXCLUSION_RULES.index("keep")
MAX_WINDOW_DAYS = 1000  # longest window
MEMBER_COLUMNS = ("symbol", "from", "to")
NO_END_DATE = np.datetime64("9999-12-31", "D")

ExclusionRuleCodes = npt.NDArray[np.int8]  # indices in EXCLUSION_RULES; 0: included
RankFunction = Callable[[Bars], Any]


@settings_class(UNIVERSE_GROUP)
class UniverseSettings:
    """Settings of the universe: the rule for the symbols that may be held at each instant."""

    top: int | None = setting(
        None,
        "keep only this many of the largest eligible symbols, by median daily price times volume "
        "over the window; null: all",
        ge=1,
    )
    window: str = setting("60d", "window of volume, volatility and momentum, in calendar days")
    min_price: float = setting(0.0, "minimum last close, USD", ge=0)
    min_bars: int = setting(0, "minimum number of bars of history", ge=0)
    max_volatility: float | None = setting(
        None, "maximum yearly volatility of daily closes over the window; null: no limit", gt=0
    )
    classes: tuple[Literal["stock", "crypto"], ...] = setting(
        (), "asset classes, `stock` or `crypto`; empty: both"
    )
    members: str | None = setting(
        None,
        "file of members, such as of an index (columns symbol, from, to); to: first day after "
        "membership",
    )
    rebalance: Literal["daily", "weekly", "monthly"] = setting(
        "monthly",
        "how often membership is renewed, at New York midnight; dates in `members` apply at once",
    )
    rank: str | None = setting(
        None,
        "score that selects the `keep` best symbols: `growth`, expected return per risk at each "
        "decision, or `momentum`, return over the window at each renewal",
    )
    keep: int | None = setting(None, "number of best symbols by `rank` to keep; null: all", ge=1)

    def __post_init__(self) -> None:
        if not (re.fullmatch(r"[1-9]\d*d", self.window) and self.window_days <= MAX_WINDOW_DAYS):
            meant = [f"{self.window}d"] if self.window.isdecimal() else []
            has_unit = re.fullmatch(r"\d+d", self.window)
            fault = "is out of range" if has_unit else "is not a number of calendar days"
            raise InputError(
                f"universe.window: {self.window!r} {fault}; write 1d to"
                f" {MAX_WINDOW_DAYS}d{format_suggestion(meant) or ', such as 60d'}"
            )
        if (self.rank is None) != (self.keep is None):
            missing = "rank" if self.rank is None else "keep"
            raise InputError(
                f"universe.{missing}: not set; set both rank (the score) and keep (the number of"
                " symbols), or neither"
            )
        if self.keep is not None and self.top is not None and self.keep > self.top:
            raise InputError(
                f"universe.keep: {self.keep} exceeds universe.top={self.top}; lower keep or raise"
                " top"
            )
        if self.rank is not None and self.rank not in BUILT_IN_RANKS and not is_plugin(self.rank):
            also = f"universe.{HYDRA_TARGET_KEY}=module.function"
            raise invalid_choice_error(
                "universe.rank", self.rank, BUILT_IN_RANKS, other_accepted_values=also
            )
        if len(set(self.classes)) != len(self.classes):
            raise InputError(
                f"universe.classes: {', '.join(self.classes)} lists a class twice; remove one"
            )

    @property
    def window_days(self) -> int:
        return int(self.window[:-1])

    @property
    def is_unrestricted(self) -> bool:
        plain = self.top is None and self.keep is None and self.max_volatility is None
        return plain and not (self.min_price or self.min_bars or self.classes or self.members)

    @property
    def ranks_by_growth(self) -> bool:
        return self.rank == GROWTH_RANK

    def build_universe(self) -> Universe:
        """Build the universe that these settings define.

        Raises InputError for a custom rank that is not a function; DataError for a list of members
        that cannot be read.
        """
        rank = (
            load_plugin(UNIVERSE_GROUP, self.rank) if self.rank and is_plugin(self.rank) else None
        )
        if rank is not None and (isinstance(rank, type) or not callable(rank)):
            raise InputError(
                f"universe.{HYDRA_TARGET_KEY}: {self.rank} is not a function; name a function of"
                " bars"
            )
        members = None
        if self.members is not None:
            try:
                members = read_memberships(Path(self.members).expanduser())
            except DataError as error:
                raise DataError(f"universe.members: {error}") from error
        return Universe(self, members, rank)

    def __str__(self) -> str:
        parts = []
        if self.top is not None:
            parts.append(f"the {self.top} largest by median daily dollar volume over {self.window}")
        if self.classes:
            parts.append(f"of {' and '.join(self.classes)}")
        if self.members is not None:
            parts.append(f"members in {Path(self.members).name}")
        if self.min_bars:
            parts.append(f"at least {self.min_bars:,} bars")
        if self.min_price:
            parts.append(f"last close at least {self.min_price:g} USD")
        if self.max_volatility is not None:
            parts.append(f"yearly volatility at most {self.max_volatility:.0%}")
        if self.keep is not None:
            parts.append(f"the {self.keep} best by {self.rank}")
        return f"{', '.join(parts)}; renewed {self.rebalance}"


@dataclass(frozen=True, eq=False, slots=True)
class Universe:
    """The rule for the symbols that may be held, and the data that it needs besides bars.

    settings: settings of the rule.
    memberships: list of members, or None.
    rank_function: custom function that maps the bars known at a renewal to a score per symbol, or
        None.
    """

    settings: UniverseSettings = field(default_factory=UniverseSettings)
    memberships: Memberships | None = None
    rank_function: RankFunction | None = None

    def exclusion_rule_codes(self, bars: Bars, instants: Instants) -> ExclusionRuleCodes:
        """Return the number of the rule that excludes each symbol at each instant, [T, S].

        A number is an index in EXCLUSION_RULES; 0 means that the symbol is in the universe. A rank
        by growth is not applied here, because it ranks by the expected returns of a decision, with
        `exclude_all_but_best`.
        """
        if self.settings.is_unrestricted or not len(instants):
            return np.zeros((len(instants), len(bars.symbols)), dtype=np.int8)
        days, number = np.unique(self.renewal_days(instants), return_inverse=True)
        return self._exclusion_codes_on(bars, days)[number]

    def renewal_days(self, instants: Instants) -> Dates:
        """Return the day at whose midnight the membership at each instant was renewed, [T]."""
        dates = new_york_date(instants).astype("datetime64[D]")
        if self.settings.rebalance == "weekly":
            # 1970-01-01 was a Thursday.
            since = dates - (dates.astype(np.int64) + 3) % 7
        elif self.settings.rebalance == "monthly":
            since = dates.astype("datetime64[M]").astype("datetime64[D]")
        else:
            since = dates
        if self.memberships is not None:
            changes = self.memberships.change_days
            last = np.searchsorted(changes, dates, side="right") - 1
            since = np.where(last >= 0, np.maximum(since, changes[np.maximum(last, 0)]), since)
        return np.asarray(since)

    def _exclusion_codes_on(self, bars: Bars, days: Dates) -> ExclusionRuleCodes:
        """Return the number of the rule that excludes each symbol from each midnight on, [R, S].

        days: [R] days whose midnights renew the membership.
        """
        from trainingdata.midnight_values import MidnightValues

        settings = self.settings
        known = MidnightValues.from_bars(bars, days, settings.window_days)
        rule = np.zeros((len(days), len(bars.symbols)), dtype=np.int8)

        def exclude_symbols(name: str, out: Mask) -> None:
            rule[out & (rule == 0)] = EXCLUSION_RULES.index(name)

        if settings.classes:
            kinds = {AssetClass.STOCK: "stock", AssetClass.CRYPTO: "crypto"}
            others = [kinds[item.kind] not in settings.classes for item in bars.instruments]
            exclude_symbols("classes", np.broadcast_to(np.array(others), rule.shape))
        if self.memberships is not None:
            exclude_symbols("members", ~self.memberships.membership_mask(days, bars.symbols))
        if settings.min_bars:
            exclude_symbols("min_bars", known.bar_counts_at(days) < settings.min_bars)
        if settings.min_price:
            exclude_symbols("min_price", ~(known.closes_at(days) >= settings.min_price))
        if settings.max_volatility is not None:
            exclude_symbols(
                "max_volatility", ~(known.annualised_volatility() <= settings.max_volatility)
            )
        if settings.top is not None:
            require_volume_units(bars, "universe.top")
            exclude_all_but_best(rule, known.median_dollar_volume(), settings.top, TOP)
        if settings.keep is not None and not settings.ranks_by_growth:
            exclude_all_but_best(rule, self._rank_scores(bars, known, days), settings.keep, KEEP)
        return rule

    def _rank_scores(self, bars: Bars, known: MidnightValues, days: Dates) -> Array:
        """Return each symbol's score by the rank at each renewal, [R, S]; NaN if undefined."""
        if self.rank_function is None:
            return known.closes_at(days) / known.closes_at(days - self.settings.window_days) - 1.0
        return np.array([self._plugin_scores(bars, now) for now in new_york_midnight(days)])

    def _plugin_scores(self, bars: Bars, now: np.datetime64) -> Array:
        """Return the scores that the custom rank gives at an instant, [S]."""
        assert self.rank_function is not None
        name = str(self.settings.rank)
        seen = bars.slice_until(now)
        if not len(seen.times):
            return np.full(len(bars.symbols), np.nan)
        for array in (seen.times, seen.values, seen.mask):
            array.flags.writeable = False
        with translate_plugin_errors(UNIVERSE_GROUP, name):
            answer = self.rank_function(seen)
        scores = np.asarray(answer)
        if scores.shape != (len(bars.symbols),) or scores.dtype.kind not in "biuf":
            raise InputError(
                f"universe.{HYDRA_TARGET_KEY}: {name} returned a {type(answer).__name__} of shape"
                f" {scores.shape}; return an array of {len(bars.symbols)} numbers, one per symbol,"
                " NaN for no score"
            )
        return scores.astype(np.float64)


def exclude_all_but_best(
    rule_codes: ExclusionRuleCodes, score: Array, count: int, rule_number: int
) -> None:
    """Exclude all but the `count` symbols with the highest scores in each row, in place.

    A symbol whose score is NaN or minus infinity is excluded. Of equal scores, the first is kept.

    rule_codes: [R, S] numbers of the rules that exclude symbols so far; 0 for none.
    score: [R, S] scores.
    rule_number: number of the rule that is written for the excluded symbols.
    """
    taking_part = (rule_codes == 0) & (score > -np.inf)
    order = np.argsort(np.where(taking_part, -score, np.inf), axis=1, kind="stable")
    best = np.zeros(rule_codes.shape, dtype=bool)
    np.put_along_axis(best, order[:, :count], True, axis=1)
    rule_codes[(rule_codes == 0) & ~(best & taking_part)] = rule_number


@dataclass(frozen=True, eq=False, slots=True)
class Memberships:
    """M memberships of symbols, from a file.

    file: path of the file.
    symbols: [M] symbol of each membership.
    first_days: [M] first day of each membership.
    end_days: [M] first day after each membership.
    """

    file: str
    symbols: tuple[str, ...]
    first_days: Dates
    end_days: Dates

    @property
    def change_days(self) -> Dates:
        """Days on which a membership begins or ends, increasing."""
        return np.unique(
            np.concatenate([self.first_days, self.end_days[self.end_days != NO_END_DATE]])
        )

    def membership_mask(self, dates: Dates, symbols: tuple[str, ...]) -> Mask:
        """Return whether each symbol is a member on each day, [R, S].

        dates: [R] increasing days.
        symbols: the S symbols.

        Raises DataError if no symbol is in the file.
        """
        place = {symbol: s for s, symbol in enumerate(symbols)}
        rows = [m for m, symbol in enumerate(self.symbols) if symbol in place]
        if not rows:
            raise DataError(
                f"universe.members: {self.file} lists none of the {len(symbols)} symbols with bars,"
                f" such as {symbols[0]}; add members, or load their bars"
            )
        members = np.zeros((len(dates), len(symbols)), dtype=bool)
        for m in rows:
            begin, end = np.searchsorted(dates, [self.first_days[m], self.end_days[m]])
            members[begin:end, place[self.symbols[m]]] = True
        return members


def read_memberships(path: Path) -> Memberships:
    """Read the memberships in a file.

    Raises DataError for rows that are invalid or overlap.
    """
    found = read_text_rows(path, MEMBER_COLUMNS, ("a list of members", "has"))
    if not found:
        raise DataError(f"{path}: the file has no rows; add one row per membership")
    rows = [
        _parse_membership(f"{path}: row {number}", *(row[name] for name in MEMBER_COLUMNS))
        for number, row in enumerate(found, 1)
    ]
    _refuse_overlaps(path, rows)
    symbols, begins, ends = zip(*rows, strict=True)
    return Memberships(str(path), symbols, np.array(begins), np.array(ends))


def _parse_membership(
    place: str, symbol: str, begin: str, end: str
) -> tuple[str, np.datetime64, np.datetime64]:
    if not is_symbol_in_any_case(symbol):
        raise DataError(f"{place}: {symbol!r} is not a symbol, such as NVDA or BTCUSD")
    if not begin:
        raise DataError(f"{place}: from is empty; write the first day of the membership")
    first = _parse_member_date(place, "from", begin)
    last = _parse_member_date(place, "to", end) if end else NO_END_DATE
    if last <= first:
        raise DataError(
            f"{place}: {symbol}: to {last} is not after from {first}; write the first day after the"
            " membership in `to`"
        )
    return instrument(symbol).symbol, first, last


def _parse_member_date(place: str, column: str, cell: str) -> np.datetime64:
    try:
        return parse_date(cell)
    except ValueError as error:
        raise DataError(f"{place}: {column}: {error}") from None


def _refuse_overlaps(path: Path, rows: list[tuple[str, np.datetime64, np.datetime64]]) -> None:
    order = sorted(range(len(rows)), key=rows.__getitem__)
    for before, after in pairwise(order):
        if rows[before][0] == rows[after][0] and rows[after][1] < rows[before][2]:
            first, second = sorted((before + 1, after + 1))
            raise DataError(
                f"{path}: rows {first} and {second}: memberships of {rows[after][0]} overlap on"
                f" {rows[after][1]}; end one before the other starts"
            )
