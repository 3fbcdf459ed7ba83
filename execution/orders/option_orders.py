"""Option spread orders (multi-leg orders), and values of options at expiry.

Prices are in points per share, exact to the cent.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TypeVar

import numpy as np

from execution.orders.orders import Side
from foundation.errors import InputError, InvalidResponse, OrderRejected
from trainingdata.sessions import session_on, sessions_between

ContractCount = TypeVar("ContractCount", bound=Decimal | int)  # of contracts, signed

MAX_SESSION_GAP = np.timedelta64(14, "D")  # longest time between two sessions
SHARES_PER_OPTION = 100  # shares that underlie one option contract
_OCC_SYMBOL = re.compile(r"([A-Z]{1,6})(\d{6})([CP])(\d{8})")
MAX_SPREADS_PER_ORDER = 10_000
_ORDER_ID_PATTERN = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True, order=True)
class OptionContract:
    """An option contract that the venue lists.

    root: root of the option symbol, one to six capital letters, such as SPXW or SPY.
    expiry: expiry date.
    is_call: true for a call, false for a put.
    strike: strike price in points, exact to a thousandth.
    """

    root: str
    expiry: date
    is_call: bool
    strike: Decimal

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{1,6}", self.root):
            raise InputError(
                f"root: {self.root!r} is not a root; use 1 to 6 capital letters, such as SPXW"
            )
        # The OCC symbol has eight digits for thousandths of a point.
        if not (0 < self.strike < 100_000 and self.strike * 1000 == int(self.strike * 1000)):
            raise InputError(
                f"strike: {self.strike} must be above 0 and below 100,000, in steps of 0.001"
            )

    @property
    def symbol(self) -> str:
        """OCC symbol of the option, such as SPXW250312P05410000."""
        kind = "C" if self.is_call else "P"
        return f"{self.root}{self.expiry:%y%m%d}{kind}{int(self.strike * 1000):08d}"

    def has_expired(self, at: np.datetime64) -> bool:
        """Return whether the option's last session has closed by the instant `at`."""
        day = np.datetime64(self.expiry, "D")
        # An option that expires on a holiday ends with the session before.
        days = sessions_between(day - MAX_SESSION_GAP, day)
        session = session_on(days[-1]) if len(days) else None
        return session is not None and bool(session.closes <= at)


def parse_occ_symbol(symbol: str) -> OptionContract:
    parts = _OCC_SYMBOL.fullmatch(symbol)
    try:
        if parts is None:
            raise ValueError
        expiry = date.fromisoformat(f"20{parts[2]}")
        return OptionContract(parts[1], expiry, parts[3] == "C", Decimal(parts[4]) / 1000)
    except ValueError:
        raise InputError(
            f"{symbol!r} is not an OCC option symbol, such as SPXW250312P05410000"
        ) from None


def min_expiry_value(options: Mapping[OptionContract, Decimal | int]) -> Decimal | None:
    """Return the smallest value at expiry of options of one root and expiry; None if unbounded.

    The value is in USD. As a function of the underlying it is linear between two strikes. The
    minimum is therefore at a strike, at 0, or above all strikes, where uncovered short calls lose
    without bound.

    options: signed number of contracts of each option.
    """
    if sum(count for contract, count in options.items() if contract.is_call) < 0:
        return None
    ends = [Decimal(0), *(contract.strike for contract in options)]
    return SHARES_PER_OPTION * min(
        sum((_payoff(contract, end) * n for contract, n in options.items()), Decimal(0))
        for end in ends
    )


def group_by_expiry(
    options: Mapping[OptionContract, ContractCount],
) -> list[dict[OptionContract, ContractCount]]:
    """Group options by root and expiry; only options of the same group can cover each other."""
    together: dict[tuple[str, date], dict[OptionContract, ContractCount]] = defaultdict(dict)
    for contract, count in options.items():
        together[contract.root, contract.expiry][contract] = count
    return list(together.values())


def min_expiry_values(options: Mapping[OptionContract, Decimal | int]) -> list[Decimal | None]:
    """Return `min_expiry_value` for each group of options with the same root and expiry."""
    return [min_expiry_value(each) for each in group_by_expiry(options)]


def max_expiry_loss(options: Mapping[OptionContract, Decimal | int]) -> Decimal | None:
    """Return the largest loss that options can have at expiry, USD; None if it is unbounded.

    Losses of several expiries add up. A gain at one expiry does not offset a loss at another.
    """
    total = Decimal(0)
    for worth in min_expiry_values(options):
        if worth is None:
            return None
        total += max(-worth, Decimal(0))
    return total


def _payoff(contract: OptionContract, end: Decimal) -> Decimal:
    """Return the payoff of an option at expiry, in points per share.

    end: level of the underlying at expiry, points.
    """
    inside = end - contract.strike if contract.is_call else contract.strike - end
    return max(inside, Decimal(0))


def is_option(symbol: str) -> bool:
    try:
        parse_occ_symbol(symbol)
    except InputError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class OptionLeg:
    """One option in a spread order or a spread position, with one contract per spread.

    contract: the option.
    side: `buy` or `sell` in an order; for a position, the side that opened it.
    """

    contract: OptionContract
    side: Side

    @property
    def direction(self) -> int:
        """Sign of the leg's change in position: 1 for a buy, -1 for a sale."""
        return 1 if self.side == "buy" else -1

    @property
    def closing_leg(self) -> OptionLeg:
        return OptionLeg(self.contract, "sell" if self.side == "buy" else "buy")


@dataclass(frozen=True, slots=True)
class SpreadOrder:
    """An order for spreads; every leg trades the same number of contracts.

    The order does not state whether a leg opens or closes a position, because two spreads that
    share an option are one position at the venue.

    client_order_id: id at the venue, 1 to 128 letters, digits, '.', '_', ':' or '-'.
    legs: two to four legs, each with another option.
    contracts: number of spreads, 1 to 10,000.
    min_credit: limit price: smallest credit in points per spread, below 0 for a debit; None for a
        market order.
    expires_at: instant from which the order is not sent; None without an expiry.
    reduces: true if the order buys back spreads that were sold before.
    reason: reason for the order.
    """

    client_order_id: str
    legs: tuple[OptionLeg, ...]
    contracts: int
    min_credit: Decimal | None = None
    expires_at: np.datetime64 | None = None
    reduces: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        name = self.client_order_id
        if not _ORDER_ID_PATTERN.fullmatch(name):
            raise InputError(
                f"client_order_id: {name!r} is not valid; use 1 to 128 letters, digits, '.', '_',"
                " ':' or '-'"
            )
        if not 1 <= self.contracts <= MAX_SPREADS_PER_ORDER:
            raise InputError(
                f"{name}: contracts must be 1 to {MAX_SPREADS_PER_ORDER}, got {self.contracts}"
            )
        different = {leg.contract for leg in self.legs}
        if not 2 <= len(self.legs) <= 4 or len(different) != len(self.legs):
            raise InputError(
                f"{name}: expected two to four legs in different options, got {len(self.legs)} legs"
                f" in {len(different)} options"
            )
        roots = sorted({contract.root for contract in different})
        if len(roots) > 1:
            raise InputError(f"{name}: all legs must have the same root, got {', '.join(roots)}")
        limit = self.min_credit
        if limit is not None and (not limit.is_finite() or limit != round(limit, 2)):
            raise InputError(f"{name}: min_credit must be a multiple of 0.01, got {limit}")

    @property
    def root(self) -> str:
        return self.legs[0].contract.root

    @property
    def max_loss_per_spread_usd(self) -> float:
        """Largest loss that one spread can cause at expiry to its holder or its writer, USD.

        Premiums are not included. For a credit spread it is the spread's width. It is infinite if
        no leg limits the loss.
        """
        width = Decimal(0)
        for held, owed in zip(self._min_leg_values(1), self._min_leg_values(-1), strict=True):
            if held is None or owed is None:
                return math.inf
            width += max(-held, -owed)
        return float(width)

    @property
    def is_fully_covered(self) -> bool:
        """Return whether the order creates no liability at expiry.

        An order that buys back a spread creates none.
        """
        return all(least is not None and least >= 0 for least in self._min_leg_values(1))

    def _min_leg_values(self, sign: int) -> list[Decimal | None]:
        """Return the smallest value of the legs at expiry, USD, for each root and expiry.

        sign: 1 for the value to the buyer of the order's legs, -1 to the seller.
        """
        return min_expiry_values({leg.contract: sign * leg.direction for leg in self.legs})

    def max_loss_usd(self, contracts: Decimal) -> float:
        """Return the largest loss of a number of these spreads, USD."""
        return self.max_loss_per_spread_usd * float(contracts) if contracts else 0.0


@dataclass(frozen=True, slots=True)
class SpreadFill:
    """Fill of a spread order that has ended.

    contracts: number of spreads that were filled.
    credit: mean credit in points per spread, below 0 for a debit.
    """

    contracts: int
    credit: Decimal


class OrderNeverSent(OrderRejected):
    """The order was never sent, because its submission did not start."""


@dataclass(frozen=True, slots=True)
class Quote:
    """Quote of an option, in points per share: it can be sold at the bid and bought at the ask."""

    bid: Decimal
    ask: Decimal

    def __post_init__(self) -> None:
        if not (0 <= self.bid <= self.ask):
            raise InvalidResponse(f"bid {self.bid}, ask {self.ask}")

    def price_for_side(self, side: Side) -> Decimal:
        """Return the price that an order on this side meets: the ask for a buy, else the bid."""
        return self.ask if side == "buy" else self.bid


def net_credit(legs: Iterable[OptionLeg], quotes: Mapping[OptionContract, Quote]) -> Decimal | None:
    """Return the net credit of trading legs at quoted prices, points.

    Returns None if the quote of a leg is missing.
    """
    total = Decimal(0)
    for leg in legs:
        quote = quotes.get(leg.contract)
        if quote is None:
            return None
        total -= leg.direction * quote.price_for_side(leg.side)
    return total
