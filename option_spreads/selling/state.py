"""What a seller has open, in a file of the account's folder, enough to go on after any crash.

An intention is written before it is sent, under the id that it is sent with. The journal says what
became of the order; the file, what of that is in the numbers of the spread.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from execution.journal.rows import Float, Integer
from execution.orders.option_orders import (
    SHARES_PER_OPTION,
    OptionContract,
    OptionLeg,
    SpreadFill,
    SpreadOrder,
    parse_occ_symbol,
)
from foundation.decimals import is_bounded, parse_number
from foundation.errors import InputError
from foundation.files import write_atomically
from option_spreads.autoscaler.account import UnknownAccountState, quarantine_name
from option_spreads.autoscaler.trades import ClosedTrade, entry_columns
from option_spreads.selling.rules import Exit, Spread, SpreadCosts, StrikeLeg
from trainingdata.sessions import Session, session_on

STATE_FILE = "open_spreads.json"
Stage = Literal["opening", "open", "closing"]


def _plain(value: object) -> object:
    return parse_number(value) if isinstance(value, str) else value


# In quotes in plain digits; what is whole or real in the file is never in quotes.
Price = Annotated[Decimal, BeforeValidator(_plain)]


@dataclass(frozen=True, slots=True)
class OpenSpread:
    """A spread that is being sold, is held, or is being bought back.

    trade_id: id of the trade and of its opening order.
    strategy: CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED.
    legs: OCC symbols, of each side the option that is sold and then the one that protects it.
    stage: `opening` or `closing` while an order is on its way, `open` otherwise.
    contracts: spreads that are ordered, and once they are open, spreads that were sold.
    credit: points a spread.
    entered: New York time.
    last_cost: what buying it back cost at the last look, points.
    reason: why it was sold.
    best_profit: highest profit of any look, points.
    why: the exit for which it is bought back, empty until there is one.
    attempts: closing orders so far.
    closed: contracts that were bought back.
    paid: points for all contracts that were bought back.
    closed_elsewhere: whether the venue, once it took no more orders for its options, was last seen
        to hold them
        otherwise: somebody else has closed it.
    balance: of the account when it was sized, USD; none in what an earlier version wrote.
    """

    trade_id: str
    strategy: str
    legs: tuple[str, ...]
    stage: Stage
    contracts: Integer
    credit: Price
    entered: str
    last_cost: Price
    reason: str = ""
    best_profit: Float = 0.0
    exit_reason: Exit | Literal[""] = ""
    attempts: Integer = 0
    closed: Integer = 0
    paid: Price = Decimal(0)
    closed_elsewhere: bool = False
    balance: Price | None = None

    # A field that is misspelt would be lost, and what it says with it.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        if not (self.contracts >= 1 and 0 <= self.closed <= self.contracts and self.attempts >= 0):
            raise InputError(f"{self.trade_id}: {self.closed} of {self.contracts} contracts closed")
        prices = (self.credit, self.last_cost, self.paid, self.balance or Decimal(0))
        if not (all(map(is_bounded, prices)) and math.isfinite(self.best_profit)):
            raise InputError(f"{self.trade_id}: a price of it is no number")
        _ = self.spread

    def __str__(self) -> str:
        """It in a line, and whether it should not be open any more."""
        sold = "being sold" if self.stage == "opening" else "sold"
        line = f"{self.trade_id}: {self.contracts} {self.strategy} {self.spread.strikes}"
        line += f" {sold} at {self.credit}"
        if self.exit_reason:
            line += f"; {self.remaining} still to be bought back ({self.exit_reason})"
        if self.closed_elsewhere:
            line += "; the venue holds its options otherwise"
        return line

    @property
    def options(self) -> tuple[OptionContract, ...]:
        return tuple(parse_occ_symbol(symbol) for symbol in self.legs)

    @property
    def option_legs(self) -> tuple[OptionLeg, ...]:
        """Its legs, on the sides that they were opened on."""
        # The file keeps symbols without sides, so the sides follow from the order of the symbols.
        # This is the only place that reads them so: everything else asks the leg.
        return tuple(
            OptionLeg(option, "buy" if number % 2 else "sell")
            for number, option in enumerate(self.options)
        )

    @property
    def closing_legs(self) -> tuple[OptionLeg, ...]:
        return tuple(leg.closing for leg in self.option_legs)

    @property
    def spread(self) -> Spread:
        """The spread that was sold, checked."""
        legs = [
            StrikeLeg(float(leg.contract.strike), leg.contract.call, leg.side)
            for leg in self.option_legs
        ]
        return Spread(self.strategy, tuple(legs))

    @property
    def last_session(self) -> Session | None:
        """The session that it expires with; None where the exchange is closed on that day."""
        return session_on(np.datetime64(self.options[0].expiry, "D"))

    @property
    def remaining(self) -> int:
        return self.contracts - self.closed

    @property
    def order_id(self) -> str:
        """The id of its opening order while that is on its way, then of its last closing order."""
        # Each attempt has an id of its own: the venue refuses an id that was used before, also one
        # of an order that was cancelled.
        return self.trade_id if self.stage == "opening" else f"{self.trade_id}.close{self.attempts}"

    def order(self, until: np.datetime64) -> SpreadOrder:
        """The order that is on its way: it sells it for its credit or more, or buys back what
        remains at the market; until: when it expires.
        """
        opening = self.stage == "opening"
        return SpreadOrder(
            self.order_id,
            self.option_legs if opening else self.closing_legs,
            self.remaining,
            self.credit if opening else None,
            expires_at=until,
            reduces=not opening,
            reason=self.reason if opening else self.exit_reason,
        )

    def closing(self) -> OpenSpread:
        return replace(self, stage="closing", attempts=self.attempts + 1)

    def never_left(self) -> OpenSpread:
        """The spread whose closing order was never written down: the next one has its id."""
        return replace(self, stage="open", attempts=self.attempts - 1)

    def after(self, fill: SpreadFill) -> OpenSpread:
        """The spread once its order has ended and has traded so much."""
        if self.stage == "opening":
            return replace(self, stage="open", contracts=fill.contracts, credit=fill.credit)
        paid = self.paid - fill.credit * fill.contracts
        return replace(self, stage="open", closed=self.closed + fill.contracts, paid=paid)

    def closed_trade(
        self, costs: SpreadCosts, exit_time: str, settled_at: Decimal | None = None
    ) -> ClosedTrade:
        """The trade for the account's files, with all its costs.

        costs: commission and fees of an order.
        exit_time: New York time.
        settled_at: points a spread that the remaining contracts settled at; None where none remain.
        """
        settlement = (settled_at or Decimal(0)) * self.remaining
        points = self.credit * self.contracts - self.paid - settlement
        # Settlement in cash is no order and costs no fees.
        fees = costs.fees(self.spread, 1) * (self.contracts + self.closed)
        columns = entry_columns(self.entered, self.spread.strikes, self.credit)
        columns["Entry_Reason"] = self.reason
        if self.balance is not None:
            columns["Account_Balance"] = f"{self.balance:.2f}"
        return ClosedTrade(
            self.trade_id,
            self.strategy,
            self.contracts,
            round(points * SHARES_PER_OPTION - fees, 2),
            exit_time,
            # It may have been meant to be bought back: what ended it is what it ended with.
            self.exit_reason if settled_at is None else "settled" if settled_at else "expired",
            columns,
        )


@dataclass(frozen=True, slots=True)
class SellerState:
    """Everything that a seller has to remember.

    spreads: the open ones.
    tried: names of the day's entries that were dealt with, whatever came of them.
    """

    spreads: tuple[OpenSpread, ...] = ()
    tried_entries: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def is_pending(self, now: np.datetime64) -> bool:
        """Whether a spread waits for its order's outcome, or has expired and is not booked yet."""
        sessions = [spread.last_session for spread in self.spreads]
        lasting = all(session is not None and now < session.closes for session in sessions)
        return not lasting or any(spread.stage != "open" for spread in self.spreads)

    def with_spread(self, spread: OpenSpread) -> SellerState:
        others = self.without(spread.trade_id).spreads
        return replace(self, spreads=(*others, spread))

    def without(self, trade_id: str) -> SellerState:
        others = tuple(each for each in self.spreads if each.trade_id != trade_id)
        return replace(self, spreads=others)

    def without_entry(self, entry: str) -> SellerState:
        """The state with an entry that was not dealt with after all, and without its spread."""
        tried = tuple(each for each in self.tried_entries if each != entry)
        return replace(self.without(entry), tried_entries=tried)

    def with_entry(self, entry: str, day: str) -> SellerState:
        """The state with an entry dealt with, and those of other days forgotten."""
        today = tuple(each for each in self.tried_entries if day in each)
        return replace(self, tried_entries=(*today, entry))


_STATE = TypeAdapter(SellerState)


def collateral(spreads: Iterable[OpenSpread]) -> Decimal:
    """USD that the venue holds against spreads: the width of each contract that remains."""
    return sum((each.spread.collateral * each.remaining for each in spreads), Decimal(0))


def option_discrepancies(
    spreads: Iterable[OpenSpread],
    held: Mapping[OptionContract, int],
    concerned: Callable[[OptionContract], bool],
) -> list[OptionContract]:
    """Options concerned of which the venue holds another number than the spreads say.

    An order of unknown outcome may have traded or not: anything between is what the spreads say.

    held: options at the venue, below 0 where they are owed.
    """
    least = Counter[OptionContract]()
    most = Counter[OptionContract]()
    for spread in spreads:
        for leg in spread.option_legs:
            count = spread.remaining * leg.direction
            certain = spread.stage == "open"
            least[leg.contract] += count if certain else min(count, 0)
            most[leg.contract] += count if certain else max(count, 0)
    return [
        option
        for option in {*least, *held}
        if concerned(option) and not least[option] <= held.get(option, 0) <= most[option]
    ]


def read_state(folder: Path, *, missing: bool = True) -> SellerState:
    """The state that a folder holds; an empty one where it never had a file.

    missing: whether there may be none.

    Raises
    ------
    UnknownState
        for a file that cannot be read: nothing may be sold until a person has looked.
    """
    path = folder / STATE_FILE
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        state = _STATE.validate_python(data)
    except FileNotFoundError:
        # One that was set aside, or that was there a moment ago, said that something is open.
        if missing and not any(folder.glob(f"{STATE_FILE}.aside-*")):
            return SellerState()
        raise UnknownAccountState(
            f"{path} is gone; compare the venue's positions with what was in it, and write it again"
        ) from None
    except (OSError, ArithmeticError, ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            problem = error.errors()[0]
            why = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        raise UnknownAccountState(
            f"{path}: {why}; compare it with the venue's positions and mend it"
        ) from None
    if len({each.trade_id for each in state.spreads}) != len(state.spreads):
        raise UnknownAccountState(f"{path}: a trade is there twice")
    return state


def set_state_aside(folder: Path) -> None:
    """Keep a file that cannot be read, or what is in its place, under a name of its own."""
    path = folder / STATE_FILE
    try:
        if path.exists():
            path.replace(quarantine_name(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be kept: {error.strerror}") from error


def write_state(folder: Path, state: SellerState) -> None:
    """Write the state whole; it is on the disk when this returns."""
    text = json.dumps(asdict(state), indent=1, default=str)
    try:
        write_atomically(folder / STATE_FILE, text.encode())
    except OSError as error:
        raise InputError(
            f"AUTOSCALING_DATA_DIR: {folder} cannot be written: {error.strerror}"
        ) from error
