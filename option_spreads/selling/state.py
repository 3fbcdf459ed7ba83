"""Open spreads of a seller, saved to a file so that a restart resumes after a crash.

An order is written to the file before it is sent. The account's journal records the outcome of the
order; the file records how much of the outcome the spread already includes.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import date
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
from foundation.decimals import has_supported_magnitude, parse_number
from foundation.errors import InputError, to_one_line
from foundation.files import write_atomically
from option_spreads.autoscaler.account import UnknownAccountState, find_quarantine_path
from option_spreads.autoscaler.trades import ClosedTrade, build_entry_columns
from option_spreads.selling.rules import (
    ExitReason,
    Spread,
    SpreadCosts,
    StrikeLeg,
    find_opposite_leg,
)
from trainingdata.sessions import Session, session_on

STATE_FILE = "open_spreads.json"
SpreadStage = Literal["opening", "open", "closing"]


def _parse_price(value: object) -> object:
    return parse_number(value) if isinstance(value, str) else value


# Prices are quoted strings of plain digits; integers and floats in the file are never quoted.
Price = Annotated[Decimal, BeforeValidator(_parse_price)]


@dataclass(frozen=True, slots=True)
class OpenSpread:
    """A spread that is being sold, is open, or is being bought back.

    trade_id: id of the trade and of its opening order.
    strategy: CALL, PUT, IRON_CONDOR or OTM_SINGLE_SIDED.
    legs: OCC symbols, for each side the short option and then the long option.
    stage: `opening` or `closing` while an order is in flight, otherwise `open`.
    contracts: number of spreads ordered; once open, number of spreads sold.
    credit: credit of the sale, points per spread.
    entry_time: New York time of the entry.
    last_cost: cost of buying the spread back at the last poll, points.
    entry_reason: reason of the sale.
    best_profit: highest profit of any poll, points.
    exit_reason: reason to buy the spread back; empty without one.
    closing_attempts: number of closing orders sent so far.
    closed_contracts: number of contracts bought back.
    buyback_cost: points paid in total for the contracts bought back.
    is_closed_elsewhere: true if the venue's positions lacked the spread at the last check after the
        order cutoff, because the broker or a person has closed it.
    balance: account balance when the spread was sized, USD; None in files of an earlier version.
    """

    trade_id: str
    strategy: str
    legs: tuple[str, ...]
    stage: SpreadStage
    contracts: Integer
    credit: Price
    entry_time: str
    last_cost: Price
    entry_reason: str = ""
    best_profit: Float = 0.0
    exit_reason: ExitReason | Literal[""] = ""
    closing_attempts: Integer = 0
    closed_contracts: Integer = 0
    buyback_cost: Price = Decimal(0)
    is_closed_elsewhere: bool = False
    balance: Price | None = None

    # A misspelt field would be lost with its value.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def __post_init__(self) -> None:
        for name, count, least, most in (
            ("contracts", self.contracts, 1, math.inf),
            ("closed_contracts", self.closed_contracts, 0, self.contracts),
            ("closing_attempts", self.closing_attempts, 0, math.inf),
        ):
            if not least <= count <= most:
                limit = f"at least {least}" if most == math.inf else f"from {least} to {most}"
                raise InputError(f"{self.trade_id}: {name} is {count}; expected {limit}")
        for name in ("credit", "last_cost", "buyback_cost", "balance"):
            if not has_supported_magnitude(getattr(self, name) or Decimal(0)):
                raise InputError(f"{self.trade_id}: {name} is outside the range of amounts in USD")
        if not math.isfinite(self.best_profit):
            raise InputError(f"{self.trade_id}: best_profit is not a finite number")
        _ = self.spread

    def __str__(self) -> str:
        """Return one line of text: id, contracts, strikes, credit, and contracts left to close."""
        sold = "being sold" if self.stage == "opening" else "sold"
        line = f"{self.trade_id}: {self.contracts} {self.strategy} {self.spread.strikes_label}"
        line += f" {sold} at {self.credit}"
        if self.exit_reason:
            line += f"; {self.remaining_contracts} left to buy back ({self.exit_reason})"
        if self.is_closed_elsewhere:
            line += "; the venue's positions in its options do not match"
        return line

    @property
    def options(self) -> tuple[OptionContract, ...]:
        return tuple(parse_occ_symbol(symbol) for symbol in self.legs)

    @property
    def opening_legs(self) -> tuple[OptionLeg, ...]:
        """Return the legs of the opening order: short options are sold, long ones bought."""
        # The file keeps symbols without sides, so the sides follow from the order of the symbols.
        # Only this function relies on that order.
        return tuple(
            OptionLeg(option, "buy" if number % 2 else "sell")
            for number, option in enumerate(self.options)
        )

    @property
    def closing_legs(self) -> tuple[OptionLeg, ...]:
        return tuple(leg.closing_leg for leg in self.opening_legs)

    @property
    def spread(self) -> Spread:
        """Return strategy, strikes and sides as a validated spread."""
        legs = [
            StrikeLeg(float(leg.contract.strike), leg.contract.is_call, leg.side)
            for leg in self.opening_legs
        ]
        return Spread(self.strategy, tuple(legs))

    @property
    def expiry_session(self) -> Session | None:
        """Return the session in which the options expire; None if that day has no session."""
        return session_on(np.datetime64(self.options[0].expiry, "D"))

    @property
    def remaining_contracts(self) -> int:
        return self.contracts - self.closed_contracts

    @property
    def order_id(self) -> str:
        """Return the id of the opening order while that is in flight, else of the last close."""
        # Each attempt has a separate id: the venue refuses a used id, even that of a cancelled
        # order.
        return (
            self.trade_id
            if self.stage == "opening"
            else f"{self.trade_id}.close{self.closing_attempts}"
        )

    def build_order(self, expires_at: np.datetime64) -> SpreadOrder:
        """Build the opening order, a sale at `credit` or more, or the closing market order.

        expires_at: instant at which the order expires.
        """
        opening = self.stage == "opening"
        return SpreadOrder(
            self.order_id,
            self.opening_legs if opening else self.closing_legs,
            self.remaining_contracts,
            self.credit if opening else None,
            expires_at=expires_at,
            reduces=not opening,
            reason=self.entry_reason if opening else self.exit_reason,
        )

    def start_closing(self) -> OpenSpread:
        """Return the spread in stage `closing`, with the id of its next closing order."""
        return replace(self, stage="closing", closing_attempts=self.closing_attempts + 1)

    def revert_unsent_close(self) -> OpenSpread:
        """Return the open spread without its unsent closing order; the next one reuses the id."""
        return replace(self, stage="open", closing_attempts=self.closing_attempts - 1)

    def apply_fill(self, fill: SpreadFill) -> OpenSpread:
        """Return the spread, updated by the final fill of its opening or closing order."""
        if self.stage == "opening":
            return replace(self, stage="open", contracts=fill.contracts, credit=fill.credit)
        paid = self.buyback_cost - fill.credit * fill.contracts
        return replace(
            self,
            stage="open",
            closed_contracts=self.closed_contracts + fill.contracts,
            buyback_cost=paid,
        )

    def to_closed_trade(
        self, costs: SpreadCosts, exit_time: str, settlement_value: Decimal | None = None
    ) -> ClosedTrade:
        """Return the closed trade to book, with its P/L after all costs.

        costs: commission and fees of an order.
        exit_time: New York time of the exit.
        settlement_value: settlement value of the contracts held to expiry, points per spread; None
            if all were bought back.
        """
        settlement = (settlement_value or Decimal(0)) * self.remaining_contracts
        points = self.credit * self.contracts - self.buyback_cost - settlement
        # Cash settlement is not an order and costs no fees.
        fees = costs.compute_fees(self.spread, 1) * (self.contracts + self.closed_contracts)
        columns = build_entry_columns(self.entry_time, self.spread.strikes_label, self.credit)
        columns["Entry_Reason"] = self.entry_reason
        if self.balance is not None:
            columns["Account_Balance"] = f"{self.balance:.2f}"
        return ClosedTrade(
            self.trade_id,
            self.strategy,
            self.contracts,
            round(points * SHARES_PER_OPTION - fees, 2),
            exit_time,
            # A planned buyback that did not fill is not the exit reason.
            self.exit_reason
            if settlement_value is None
            else "settled"
            if settlement_value
            else "expired",
            columns,
        )


@dataclass(frozen=True, slots=True)
class SellerState:
    """State of a seller, saved after every change.

    spreads: open spreads, and spreads with an order in flight.
    processed_entries: names of the day's entries that were processed, with or without a sale.
    """

    spreads: tuple[OpenSpread, ...] = ()
    processed_entries: tuple[str, ...] = ()

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def has_pending_spread(self, now: np.datetime64) -> bool:
        """Return whether any spread has an order in flight, or has expired without being booked."""
        sessions = [spread.expiry_session for spread in self.spreads]
        lasting = all(session is not None and now < session.closes for session in sessions)
        return not lasting or any(spread.stage != "open" for spread in self.spreads)

    def find_opposite_leg(self, spread: Spread, expiry: date) -> StrikeLeg | None:
        """Return the first leg of a new spread that would close an open leg; None if none."""
        beside = [each.spread for each in self.spreads if each.options[0].expiry == expiry]
        return find_opposite_leg(spread, beside)

    def with_spread(self, spread: OpenSpread) -> SellerState:
        """Return the state with this spread added, or replaced if it has the same trade id."""
        others = self.without_spread(spread.trade_id).spreads
        return replace(self, spreads=(*others, spread))

    def without_spread(self, trade_id: str) -> SellerState:
        """Return the state without the spread of this trade id."""
        others = tuple(each for each in self.spreads if each.trade_id != trade_id)
        return replace(self, spreads=others)

    def without_processed_entry(self, entry: str) -> SellerState:
        """Return the state without an entry and its spread, so that the entry can be retried.

        The order of that spread was never sent.
        """
        tried = tuple(each for each in self.processed_entries if each != entry)
        return replace(self.without_spread(entry), processed_entries=tried)

    def with_processed_entry(self, entry: str, day: str) -> SellerState:
        """Return the state with this entry marked as processed; drop entries of other days.

        entry: name of the entry, which contains the day.
        day: YYYYMMDD.
        """
        today = tuple(each for each in self.processed_entries if day in each)
        return replace(self, processed_entries=(*today, entry))


_STATE_ADAPTER = TypeAdapter(SellerState)
# Messages of this project by pydantic's error types.
_ERROR_MESSAGES = {
    "int_type": "not a whole number",
    "float_type": "not a number",
    "unexpected_keyword_argument": "unknown field, with the value",
}


def total_collateral(spreads: Iterable[OpenSpread]) -> Decimal:
    """Return the collateral that the venue reserves for the remaining contracts of spreads, USD."""
    return sum((each.spread.collateral * each.remaining_contracts for each in spreads), Decimal(0))


def find_option_discrepancies(
    spreads: Iterable[OpenSpread],
    positions: Mapping[OptionContract, int],
    is_compared: Callable[[OptionContract], bool],
) -> list[OptionContract]:
    """Return the options whose position at the venue differs from the open spreads.

    While an order is in flight, any position between unfilled and filled is accepted.

    positions: positions at the venue, in contracts, negative if short.
    is_compared: predicate that selects the options to compare.
    """
    least = Counter[OptionContract]()
    most = Counter[OptionContract]()
    for spread in spreads:
        for leg in spread.opening_legs:
            count = spread.remaining_contracts * leg.direction
            certain = spread.stage == "open"
            least[leg.contract] += count if certain else min(count, 0)
            most[leg.contract] += count if certain else max(count, 0)
    return [
        option
        for option in {*least, *positions}
        if is_compared(option) and not least[option] <= positions.get(option, 0) <= most[option]
    ]


def read_state(folder: Path, *, may_be_missing: bool = True) -> SellerState:
    """Read the state from a folder; an empty state if the folder never had a state file.

    may_be_missing: true to accept a folder without a state file.

    Raises
    ------
    UnknownAccountState
        for an unreadable or vanished file: nothing may be sold until a person has checked it.
    """
    path = folder / STATE_FILE
    try:
        data: Any = json.loads(path.read_text(encoding="utf-8-sig"))
        state = _STATE_ADAPTER.validate_python(data)
    except FileNotFoundError:
        # A quarantined file, or a file that has just disappeared, means that something may be open.
        if may_be_missing and not any(folder.glob(f"{STATE_FILE}.aside-*")):
            return SellerState()
        raise UnknownAccountState(
            f"{path} does not exist; compare the venue's positions with its last"
            " contents, and create it again"
        ) from None
    except (OSError, ArithmeticError, ValueError, RecursionError) as error:
        why = str(error)
        if isinstance(error, ValidationError):
            problem = error.errors()[0]
            cause = problem.get("ctx", {}).get("error") or _ERROR_MESSAGES.get(
                problem["type"], problem["msg"]
            )
            why = f"{'.'.join(map(str, problem['loc']))}: {cause}"
            if problem["type"] in _ERROR_MESSAGES:
                why += f": {to_one_line(repr(problem['input']), 50)}"
        raise UnknownAccountState(
            f"{path}: {why}; compare it with the venue's positions and correct it"
        ) from None
    if len({each.trade_id for each in state.spreads}) != len(state.spreads):
        raise UnknownAccountState(f"{path}: a trade_id is listed twice; remove one of the spreads")
    return state


def quarantine_state(folder: Path) -> None:
    """Quarantine an unreadable state file: rename it to an unused name in its folder.

    Raises InputError if it cannot be renamed.
    """
    path = folder / STATE_FILE
    try:
        if path.exists():
            path.replace(find_quarantine_path(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be renamed: {error.strerror}") from error


def write_state(folder: Path, state: SellerState) -> None:
    """Write the state to its file, and flush the file to disk.

    Raises InputError if the folder cannot be written.
    """
    text = json.dumps(asdict(state), indent=1, default=str)
    try:
        write_atomically(folder / STATE_FILE, text.encode())
    except OSError as error:
        raise InputError(
            f"AUTOSCALING_DATA_DIR: {folder} cannot be written: {error.strerror}"
        ) from error
