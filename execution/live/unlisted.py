"""What a venue has done to an account and does not list yet.

When an option expires, or is exercised or assigned, positions change at once. On a paper account
the activity is listed on the next day (Alpaca's documentation, "Non-Trade Activities for Option
Events"). A split changes a position on the morning of its day, and may be listed later.

An expiry alone is known by the contract and the venue's clock: it explains that the contract has
gone. Shares that come or go are explained by no clock. Where they look like an exercise or a split
that is not listed yet, a difference says so, and stays a difference until that is listed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from fractions import Fraction

import numpy as np

from execution.alpaca.activities import (
    EXACT,
)
from execution.live.differences import NONE, Difference
from execution.option_orders import SHARES, Contract, contract_of, is_option
from trainingdata.instants import DAY
from trainingdata.instruments import is_coin, is_symbol
from trainingdata.sessions import session_of, sessions_between

LATE_SESSIONS = 2  # for which the booking of an expiry may be late
TWO_WEEKS = 14 * DAY  # without LATE_SESSIONS sessions there are none
MOST_SHARES = 100  # that a split makes of one, or one of so many
HALF_AGAIN = Fraction(3, 2)  # three for two: the split that is seen most of those between


def has_expired(symbol: str, at: np.datetime64) -> bool:
    """Whether the last session of an option has closed by an instant."""
    closes = _last_closes(contract_of(symbol))
    return closes is not None and bool(closes <= at)


def shares_of(contract: Contract, quantity: Decimal) -> Decimal:
    """Shares of the underlying that exercise or assignment of a position brings, signed."""
    # A call that is held buys shares, a put that is held sells them; one that is owed does the
    # opposite.
    units = SHARES if contract.call else -SHARES
    return EXACT.multiply(quantity, Decimal(units))


def gone_by_expiry(
    expected: Mapping[str, Decimal], actual: Mapping[str, Decimal], at: np.datetime64
) -> frozenset[str]:
    """Options that are held no more because they have expired, whether or not that is listed.

    That holds from the close of the last session to the close of the second one after it. A
    contract of which a part is held has not expired. Nor is anything said of the shares that an
    exercise at expiry has moved.

    expected, actual: signed quantities by symbol; a symbol that is missing is 0.
    at: instant by the venue's clock.
    """
    return frozenset(
        symbol
        for symbol, quantity in expected.items()
        if quantity
        and not actual.get(symbol)
        and is_option(symbol)
        and _has_just_expired(contract_of(symbol), at)
    )


def with_likely_causes(
    differences: Mapping[str, Difference],
    expected: Mapping[str, Decimal],
    actual: Mapping[str, Decimal],
    expired: Collection[str],
) -> dict[str, Difference]:
    """The same differences; each says what it looks like where that is known.

    That is an exercise or an assignment where shares have come or gone by a hundred for each of
    the contracts that are missing: some of those that have expired, all of the others. And a split
    where the shares are a whole multiple or part of those before, or half as many again.

    expired: contracts that are missing by their expiry.
    """
    causes = _exercises(differences, expected, actual, expired)
    return {
        symbol: replace(each, cause=causes.get(symbol) or _split(symbol, each))
        for symbol, each in differences.items()
    }


@dataclass(frozen=True, slots=True)
class _Missing:
    """Contracts that should be held and are not.

    quantity: of contracts, signed as they should be held.
    expired: whether they may have ended without shares.
    """

    contract: Contract
    quantity: Decimal
    expired: bool

    @property
    def shares(self) -> Decimal:
        """Shares of the underlying that exercise or assignment of all of them brings, signed."""
        return shares_of(self.contract, self.quantity)


def _exercises(
    differences: Mapping[str, Difference],
    expected: Mapping[str, Decimal],
    actual: Mapping[str, Decimal],
    expired: Collection[str],
) -> dict[str, str]:
    """What looks like an exercise, by symbol: the shares, and contracts that have not expired."""
    causes: dict[str, str] = {}
    missing = _missing(differences, expected, actual, expired)
    for root in {each.contract.root for each in missing}:
        ended = [each for each in missing if each.contract.root == root]
        moved = EXACT.subtract(actual.get(root, NONE), expected.get(root, NONE))
        if not _may_be_of(moved, ended):
            continue
        names = ", ".join(sorted(each.contract.symbol for each in ended))
        cause = f"as after an exercise or assignment of {names} that is not listed yet"
        causes |= {symbol: cause for symbol in (root, *(e.contract.symbol for e in ended))}
    return causes


def _missing(
    differences: Mapping[str, Difference],
    expected: Mapping[str, Decimal],
    actual: Mapping[str, Decimal],
    expired: Collection[str],
) -> list[_Missing]:
    missing = []
    for symbol in {*expired, *filter(is_option, differences)}:
        wanted = expected.get(symbol, NONE)
        gone = EXACT.subtract(wanted, actual.get(symbol, NONE))
        if gone and abs(gone) <= abs(wanted) and (gone > 0) == (wanted > 0):
            missing.append(_Missing(contract_of(symbol), gone, symbol in expired))
    return missing


def _may_be_of(moved: Decimal, ended: Collection[_Missing]) -> bool:
    """Whether exercises of contracts that have ended may have moved so many shares."""
    least = most = NONE
    for each in ended:
        least += min(each.shares, NONE) if each.expired else each.shares
        most += max(each.shares, NONE) if each.expired else each.shares
    return least <= moved <= most and moved % SHARES == 0


def _split(symbol: str, difference: Difference) -> str:
    """Which split a difference looks like; empty for none."""
    if not is_symbol(symbol) or is_coin(symbol):
        return ""
    if not difference.expected or not difference.actual:
        return ""
    ratio = Fraction(difference.actual) / Fraction(difference.expected)
    after, before = ratio.numerator, ratio.denominator
    whole = min(after, before) == 1 and max(after, before) <= MOST_SHARES
    if not whole and ratio != HALF_AGAIN:
        return ""
    return f"as after a split of {after} for {before} that is not listed yet"


def _has_just_expired(contract: Contract, at: np.datetime64) -> bool:
    """Whether a contract has expired, and its booking may be late."""
    closes = _last_closes(contract)
    day = np.datetime64(contract.expiry, "D")
    following = sessions_between(day + DAY, day + TWO_WEEKS)
    if closes is None or len(following) < LATE_SESSIONS:
        return False
    last = session_of(following[LATE_SESSIONS - 1])
    return last is not None and bool(closes <= at < last.closes)


def _last_closes(contract: Contract) -> np.datetime64 | None:
    """The close of the last session of a contract; none where the calendar does not reach it."""
    day = np.datetime64(contract.expiry, "D")
    days = sessions_between(day - TWO_WEEKS, day)
    last = session_of(days[-1]) if len(days) else None
    return None if last is None else last.closes
