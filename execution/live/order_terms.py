"""What an order asks for, read from its request: a quantity of one symbol, or spreads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any

from execution.option_orders import SHARES, Contract, contract_of
from foundation.errors import InputError
from trainingdata.instruments import instrument


@dataclass(frozen=True, slots=True)
class SingleTerms:
    """An order of a stock or a coin.

    symbol: as positions spell it.
    quantity: signed, below 0 for a sale.
    limit: USD, the worst price that it takes; none takes the market's.
    stop: USD, the price from which on it trades; none trades at once.
    """

    symbol: str
    quantity: Decimal
    limit: Decimal | None = None
    stop: Decimal | None = None

    @property
    def closes(self) -> bool:
        """Whether it can only close: nothing in the order says so."""
        return False


@dataclass(frozen=True, slots=True)
class SpreadTerms:
    """An order of several option legs.

    root: of the options.
    contracts: spreads.
    width: USD that one spread is worth at most, to whoever holds it or to whoever owes it: what a
        credit spread can lose. Infinite where no leg bounds it.
    closes: whether it can owe nothing at its end, as the purchase of what a seller of spreads owes.
    """

    root: str
    contracts: Decimal
    width: float
    closes: bool

    def at_risk(self, contracts: Decimal) -> float:
        """USD that so many spreads can lose."""
        return self.width * float(contracts) if contracts else 0.0


Terms = SingleTerms | SpreadTerms


def terms_of(request: Mapping[str, Any]) -> Terms:
    """What a request asks for.

    Raises
    ------
    InputError
        for a request that names no symbol, side or quantity, or a price that is none.
    """
    quantity = _amount(request, "qty")
    if quantity is None:
        raise InputError("qty: it is missing, and nothing says what the order is worth")
    if "legs" in request:
        return _spread(request["legs"], quantity)
    side = request.get("side")
    if side not in ("buy", "sell"):
        raise InputError(f"side: {side!r} is neither buy nor sell")
    return SingleTerms(
        symbol=instrument(str(request.get("symbol"))).symbol,
        quantity=quantity if side == "buy" else -quantity,
        limit=_amount(request, "limit_price"),
        stop=_amount(request, "stop_price"),
    )


def _amount(request: Mapping[str, Any], name: str) -> Decimal | None:
    """A number above 0; none where the request has no such field."""
    value = request.get(name)
    if value is None:
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise InputError(f"{name}: {value!r} is no number") from None
    if not (number.is_finite() and number > 0):
        raise InputError(f"{name}: {value!r} is not above 0")
    return number


def _spread(entries: Iterable[Mapping[str, Any]], contracts: Decimal) -> SpreadTerms:
    """The terms of these legs; those that expire on different days protect each other nowhere."""
    by_expiry: dict[date, list[_Leg]] = defaultdict(list)
    roots = set()
    for entry in entries:
        leg = _leg(entry)
        roots.add(leg.contract.root)
        by_expiry[leg.contract.expiry].append(leg)
    if len(roots) != 1:
        raise InputError(f"legs: they are on {', '.join(sorted(roots)) or 'nothing'}, not on one")
    spans = [_span(legs) for legs in by_expiry.values()]
    width = sum(max(-least, most) for least, most in spans)
    return SpreadTerms(
        root=roots.pop(),
        contracts=contracts,
        width=float(width) * SHARES,
        closes=all(least >= 0 for least, _ in spans),
    )


@dataclass(frozen=True, slots=True)
class _Leg:
    """An option, and how many of it a spread holds, below 0 where it owes them."""

    contract: Contract
    held: Decimal


def _leg(entry: Mapping[str, Any]) -> _Leg:
    side = entry.get("side")
    ratio = _amount(entry, "ratio_qty")
    if side not in ("buy", "sell"):
        raise InputError(f"legs: side {side!r} is neither buy nor sell")
    held = Decimal(1) if ratio is None else ratio
    return _Leg(contract_of(str(entry.get("symbol"))), held if side == "buy" else -held)


def _span(legs: Iterable[_Leg]) -> tuple[Decimal, Decimal]:
    """Points a share that legs of one day are worth at least and at most when they expire.

    What they are worth is linear between strikes: it is least and most at one of them, at 0, or
    without bound above the highest strike.
    """
    legs = tuple(legs)
    prices = [Decimal(0), *(leg.contract.strike for leg in legs)]
    worths = [sum((_worth(leg, price) for leg in legs), Decimal(0)) for price in prices]
    slope = sum((leg.held for leg in legs if leg.contract.call), Decimal(0))
    least = Decimal("-Infinity") if slope < 0 else min(worths)
    most = Decimal("Infinity") if slope > 0 else max(worths)
    return least, most


def _worth(leg: _Leg, price: Decimal) -> Decimal:
    strike = leg.contract.strike
    beyond = price - strike if leg.contract.call else strike - price
    return leg.held * max(beyond, Decimal(0))
