"""Spreads that are open, in a file of the account's folder: what is needed to go on after a crash
anywhere.

What is about to be sent is written first, under the id it is sent with; after a restart the venue
says what became of it.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError

from execution.spreads.orders import (
    Contract,
    OptionLeg,
    SpreadFill,
    SpreadOrder,
    contract_of,
    spread_of_contracts,
)
from execution.spreads.rules import Exit, Running, Spread, SpreadCosts
from foundation.errors import InputError
from foundation.files import put_whole
from sizing.autoscaler.account import UnknownState
from sizing.autoscaler.rules import SHARES
from sizing.autoscaler.trades import ClosedTrade

FILE = "open_spreads.json"
Stage = Literal["opening", "open", "closing"]


@dataclass(frozen=True, slots=True)
class OpenSpread:
    """A spread that is being sold, held or bought back.

    trade_id: the id its opening order has. legs: OCC symbols, one sold and one bought beyond it,
    and again. stage: `opening` and `closing` while an order is on its way. contracts: what is
    wanted, once it is open what is held or was. credit: points a spread. entered: New York time.
    reason: why it was sold. asked, best: see `Running`. why: it is bought back, empty until then.
    attempts: to do so. closed: contracts bought back; paid: points for all of them.
    """

    trade_id: str
    strategy: str
    legs: tuple[str, ...]
    stage: Stage
    contracts: int
    credit: Decimal
    entered: str
    asked: Decimal
    reason: str = ""
    best: float = 0.0
    why: Exit | Literal[""] = ""
    attempts: int = 0
    closed: int = 0
    paid: Decimal = Decimal(0)

    def __post_init__(self) -> None:
        if not (self.contracts >= 1 and 0 <= self.closed <= self.contracts and self.attempts >= 0):
            raise InputError(f"{self.trade_id}: {self.closed} of {self.contracts} contracts closed")
        if not all(
            math.isfinite(value) for value in (self.credit, self.asked, self.paid, self.best)
        ):
            raise InputError(f"{self.trade_id}: a price of it is no number")
        spread_of_contracts(self.strategy, self.options)

    @property
    def options(self) -> tuple[Contract, ...]:
        """Its options, in the order of its legs."""
        return tuple(contract_of(symbol) for symbol in self.legs)

    @property
    def spread(self) -> Spread:
        """What it is."""
        return spread_of_contracts(self.strategy, self.options)

    @property
    def running(self) -> Running:
        """What its rules look at."""
        return Running(float(self.credit), float(self.asked), self.best)

    @property
    def closing_id(self) -> str:
        """The id of the last order that buys it back."""
        return f"{self.trade_id}.close{self.attempts}"

    def opening_order(self) -> SpreadOrder:
        """The order that sells it, for its credit or more."""
        legs = tuple(OptionLeg(option, buy=k % 2 == 1) for k, option in enumerate(self.options))
        return SpreadOrder(self.trade_id, legs, self.contracts, least=self.credit)

    def closing_order(self) -> SpreadOrder:
        """The order that buys back what is left, at the market."""
        legs = tuple(OptionLeg(option, buy=k % 2 == 0) for k, option in enumerate(self.options))
        return SpreadOrder(self.closing_id, legs, self.contracts - self.closed)

    def opened(self, fill: SpreadFill) -> OpenSpread:
        """The same with what its opening order has done."""
        return replace(self, stage="open", contracts=fill.contracts, credit=fill.credit)

    def bought_back(self, fill: SpreadFill | None) -> OpenSpread:
        """The same with what a closing order has done; none was never there."""
        if fill is None:
            return replace(self, stage="open")
        paid = self.paid - fill.credit * fill.contracts
        return replace(self, stage="open", closed=self.closed + fill.contracts, paid=paid)

    def booked(
        self, costs: SpreadCosts, exit_time: str, settled_at: Decimal | None = None
    ) -> ClosedTrade:
        """The closed trade, all costs in it. settled_at: points that what was not bought back
        has settled at.
        """
        left = self.contracts - self.closed
        spread = self.spread
        points = self.credit * self.contracts - self.paid - (settled_at or Decimal(0)) * left
        fees = costs.fees(spread, 1) * (self.contracts + self.closed)
        why = self.why or ("settled" if settled_at else "expired")
        more = {
            "Timestamp_ET": self.entered,
            "Strikes": "/".join(f"{leg.strike:g}" for leg in spread.legs),
            "Entry_Credit": f"{self.credit:.4f}",
            "Entry_Reason": self.reason,
        }
        total = round(points * SHARES - fees, 2)
        return ClosedTrade(
            self.trade_id, self.strategy, self.contracts, total, exit_time, why, more
        )


@dataclass(frozen=True, slots=True)
class OpenSpreads:
    """All of them. tried: entries of the day that were dealt with, whatever came of them."""

    spreads: tuple[OpenSpread, ...] = ()
    tried: tuple[str, ...] = ()

    def put(self, spread: OpenSpread) -> OpenSpreads:
        """With this one in its state."""
        others = tuple(each for each in self.spreads if each.trade_id != spread.trade_id)
        return replace(self, spreads=(*others, spread))

    def without(self, trade_id: str) -> OpenSpreads:
        """Without that one."""
        return replace(
            self, spreads=tuple(each for each in self.spreads if each.trade_id != trade_id)
        )

    def tried_too(self, entry: str, day: str) -> OpenSpreads:
        """With an entry dealt with; those of other days are forgotten."""
        return replace(self, tried=(*(each for each in self.tried if day in each), entry))


def read_open(folder: Path) -> OpenSpreads:
    """What a folder says is open; nothing where there is no file.

    Raises
    ------
    UnknownState
        for a file that cannot be read: nothing may be sent until a person has looked.
    """
    path = folder / FILE
    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        found = TypeAdapter(OpenSpreads).validate_python(told)
    except FileNotFoundError:
        return OpenSpreads()
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(str(part) for part in problem["loc"])
        raise UnknownState(
            f"{path}: {place}: {problem['msg']}; compare it with the venue's positions and mend it"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UnknownState(
            f"{path}: {error}; compare it with the venue's positions and mend it"
        ) from None
    if len({each.trade_id for each in found.spreads}) != len(found.spreads):
        raise UnknownState(f"{path}: a trade is there twice")
    return found


def write_open(folder: Path, state: OpenSpreads) -> None:
    """Keep it: whole, and on the disk when this returns.

    Raises
    ------
    InputError
        for a folder that cannot be written.
    """
    text = json.dumps(asdict(state), indent=1, default=str)
    try:
        put_whole(folder / FILE, text.encode())
    except OSError as error:
        raise InputError(
            f"AUTOSCALING_DATA_DIR: {folder} cannot be written: {error.strerror}"
        ) from error
