"""Orders of several option legs, and the venue they go to.

Prices are points a share, exact to the cent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.spreads.rules import Leg, Spread
from foundation.errors import BrokerError, InputError

_OCC = re.compile(r"([A-Z]{1,6})(\d{6})([CP])(\d{8})")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


@dataclass(frozen=True, slots=True, order=True)
class Contract:
    """An option of the venue. root: SPXW, SPY; strike: points."""

    root: str
    expiry: date
    call: bool
    strike: Decimal

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Z]{1,6}", self.root):
            raise InputError(f"root: {self.root!r} is not one to six capital letters, as SPXW")
        if not (0 < self.strike < 100_000 and self.strike * 1000 == int(self.strike * 1000)):
            raise InputError(f"strike: {self.strike} is no strike of an option")

    @property
    def symbol(self) -> str:
        """Its OCC symbol: SPXW250312P05410000."""
        kind = "C" if self.call else "P"
        return f"{self.root}{self.expiry:%y%m%d}{kind}{int(self.strike * 1000):08d}"


def contract_of(symbol: str) -> Contract:
    """The option of an OCC symbol.

    Raises
    ------
    InputError
        for a text that is none.
    """
    found = _OCC.fullmatch(symbol)
    try:
        if found is None:
            raise ValueError
        expiry = date.fromisoformat(f"20{found[2]}")
        return Contract(found[1], expiry, found[3] == "C", Decimal(found[4]) / 1000)
    except ValueError:
        raise InputError(
            f"{symbol!r} is no OCC symbol of an option, as SPXW250312P05410000"
        ) from None


def contracts_of(spread: Spread, root: str, expiry: date) -> tuple[Contract, ...]:
    """The options of a spread's legs, in their order."""
    return tuple(Contract(root, expiry, leg.call, Decimal(str(leg.strike))) for leg in spread.legs)


def spread_of_contracts(strategy: str, contracts: Iterable[Contract]) -> Spread:
    """The spread that these options are: one that is sold, one that is bought beyond it, and again.

    Raises
    ------
    InputError
        where they are none.
    """
    return Spread(
        strategy, tuple(Leg(float(c.strike), c.call, k % 2 == 0) for k, c in enumerate(contracts))
    )


@dataclass(frozen=True, slots=True)
class OptionLeg:
    """A leg of an order. buy: whether it is bought; otherwise sold."""

    contract: Contract
    buy: bool


@dataclass(frozen=True, slots=True)
class SpreadOrder:
    """An order for so many spreads, every leg in the same number.

    least: points that it brings in at least, below 0 where it may cost; none takes the market's
    price. Whether a leg opens or closes is the venue's to see: two spreads that share an option are
    one position there.
    """

    client_order_id: str
    legs: tuple[OptionLeg, ...]
    contracts: int
    least: Decimal | None = None

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.client_order_id):
            raise InputError(
                f"client_order_id: {self.client_order_id!r} is not 1 to 128 letters, digits, '.',"
                " '_', ':' or '-'"
            )
        if not 1 <= self.contracts <= 10_000:
            raise InputError(
                f"{self.client_order_id}: {self.contracts} contracts are outside 1 … 10000"
            )
        if not 2 <= len(self.legs) <= 4 or len({leg.contract for leg in self.legs}) != len(
            self.legs
        ):
            raise InputError(
                f"{self.client_order_id}: an order has two to four legs, each another option"
            )
        if self.least is not None and (
            not self.least.is_finite() or self.least != round(self.least, 2)
        ):
            raise InputError(f"{self.client_order_id}: {self.least} is no price in cents")


@dataclass(frozen=True, slots=True)
class SpreadFill:
    """What an order has done, once nothing more can happen to it. contracts: 0 where nothing.

    credit: mean points that a spread brought in, below 0 where it cost.
    """

    client_order_id: str
    contracts: int
    credit: Decimal
    at: np.datetime64


@dataclass(frozen=True, slots=True)
class Quote:
    """What an option sells and buys at, points."""

    bid: Decimal
    ask: Decimal

    def __post_init__(self) -> None:
        if not (0 <= self.bid <= self.ask):
            raise BrokerError(f"the answer makes no sense: bid {self.bid}, ask {self.ask}")


class SpreadVenue(Protocol):
    """A venue for options."""

    def now(self) -> np.datetime64:
        """What its clock says."""
        ...

    def index(self) -> float:
        """The index that the options are on, points."""
        ...

    def close_of(self, day: date) -> float | None:
        """The index at the close of a session, points; None where it is not known yet."""
        ...

    def quotes(self, contracts: Iterable[Contract]) -> Mapping[Contract, Quote]:
        """What each sells and buys at; one without a quote is left out."""
        ...

    def submit(self, order: SpreadOrder) -> SpreadFill:
        """Send an order, once; what it has done when it is done, or cancelled after a while.

        Raises
        ------
        OrderRejected
            for one that the venue does not take.
        OutcomeUnknown
            where nobody knows what became of it.
        """
        ...

    def fate(self, client_order_id: str) -> SpreadFill | None:
        """What became of an order, which is ended if it still works; None where the venue has
        none of that id.
        """
        ...

    def held(self) -> Mapping[Contract, int]:
        """Options held, below 0 where they are owed."""
        ...


def net_price(order: Iterable[OptionLeg], quotes: Mapping[Contract, Quote]) -> Decimal | None:
    """Points that legs bring in at the market, below 0 where they cost; None where one has no
    quote.
    """
    total = Decimal(0)
    for leg in order:
        quote = quotes.get(leg.contract)
        if quote is None:
            return None
        total += -quote.ask if leg.buy else quote.bid
    return total
