"""Alpaca's positions, and checks that their total values agree with the account."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from execution.alpaca.connection import VenueConnection
from execution.alpaca.fields import AccountEntry, PositionEntry, parse_cash
from execution.brokers import NO_POSITION, VenuePosition, parse_venue_symbol
from execution.orders.option_orders import SHARES_PER_OPTION, is_option
from foundation.decimals import EXACT_CONTEXT
from foundation.errors import InvalidResponse
from trainingdata.feed.fields import parse_object_list
from trainingdata.instruments import is_crypto, is_symbol, placeholder_symbol

log = logging.getLogger(__name__)

JsonObject = Mapping[str, Any]

ROUNDING_TOLERANCE_USD = Decimal(1)
# Tolerances, as fractions of a sum of position values, for price moves between two responses. The
# second reading has the larger one, because it can differ from the first in prices alone.
FIRST_READ_SUM_REL_TOL = Decimal("0.001")
REREAD_SUM_REL_TOL = Decimal("0.01")
STOCK_ASSET_CLASS = "us_equity"
OPTION_ASSET_CLASS = "us_option"
CRYPTO_ASSET_CLASS = "crypto"
OTHER_ASSET_CLASS = "other"  # other asset classes, and positions without a price of today


def read_positions(
    connection: VenueConnection, is_needed: Callable[[str], bool] = lambda name: True
) -> dict[str, VenuePosition]:
    """Return all positions by symbol, including options and unknown symbols.

    is_needed: predicate on the venue's symbols. Positions for which it is false are skipped, so
        that errors in them have no effect.
    """
    held: dict[str, VenuePosition] = {}
    with connection.translate_errors("positions"):
        for position in parse_object_list(connection.client.get_all_positions()):
            if not is_needed(PositionEntry.symbol.read(position)):
                continue
            _refuse_contradicting_signs(position)
            if quantity := PositionEntry.qty.read(position):
                symbol = parse_venue_symbol(PositionEntry.symbol.read(position))
                worth = abs(PositionEntry.market_value.read(position) or Decimal(0))
                before = held.get(symbol, NO_POSITION)
                whole = EXACT_CONTEXT.add(before.quantity, quantity)
                held[symbol] = VenuePosition(whole, EXACT_CONTEXT.add(before.market_value, worth))
    return held


@dataclass(slots=True)
class ParsedPositions:
    """Quantities, prices and values of all positions, parsed from /positions.

    quantities: signed quantities of all positions except options, by symbol. An instrument unknown
        to this project has a placeholder symbol.
    prices: prices by symbol, USD.
    available_quantities: quantities that no order reserves, by symbol, where the venue reports
        them.
    short_proceeds: proceeds of open short positions, USD.
    short_option_value: cost of buying back short options, USD.
    long_option_value: value of long options, USD.
    long_values_by_class, short_values_by_class: values of long and of short positions by asset
        class, as the venue reports them, options included; USD, at least 0.
    unpriced_quantities: signed quantities of positions without a price above 0; they are not in
        `quantities`.
    sides_with_missing_value: sides (`long`, `short`) on which at least one position has no value at
        all.
    """

    quantities: dict[str, Decimal] = field(default_factory=dict)
    prices: dict[str, float] = field(default_factory=dict)
    available_quantities: dict[str, Decimal] = field(default_factory=dict)
    short_proceeds: float = 0.0
    short_option_value: float = 0.0
    long_option_value: float = 0.0
    long_values_by_class: dict[str, Decimal] = field(default_factory=dict)
    short_values_by_class: dict[str, Decimal] = field(default_factory=dict)
    unpriced_quantities: dict[str, Decimal] = field(default_factory=dict)
    sides_with_missing_value: set[str] = field(default_factory=set)

    def add_value(self, asset_class: str, value_usd: Decimal) -> None:
        """Add the signed value of a position, USD, to the long or short total of an asset class."""
        side = self.long_values_by_class if value_usd > 0 else self.short_values_by_class
        side[asset_class] = side.get(asset_class, Decimal(0)) + abs(value_usd)


def has_price(position: JsonObject) -> bool:
    """Return whether the venue reports a current price or a market value for a position."""
    return bool(
        PositionEntry.current_price.read(position) or PositionEntry.market_value.read(position)
    )


def parse_positions(
    positions: Sequence[JsonObject], last_prices: Mapping[str, float] = MappingProxyType({})
) -> ParsedPositions:
    """Parse the entries of /positions, and add up the position values.

    last_prices: last trade prices, USD, for positions without a price.
    """
    found = ParsedPositions()
    for position in positions:
        _refuse_contradicting_signs(position)
        kind = _asset_class(position)
        quantity = PositionEntry.qty.read(position)
        stated = (
            PositionEntry.current_price.read(position),
            PositionEntry.market_value.read(position),
        )
        if kind == OPTION_ASSET_CLASS:
            name = PositionEntry.symbol.read(position)
            value = _option_value_usd(position)
            if value:
                found.add_value(kind, value)
                found.short_option_value += max(-float(value), 0.0)
                found.long_option_value += max(float(value), 0.0)
            elif quantity < 0 and stated == (None, None):
                found.unpriced_quantities[name] = quantity
                found.sides_with_missing_value.add("short")
            continue
        symbol = _position_symbol(position)
        price = _mark_price(position, symbol, last_prices.get(symbol))
        _add_position_value(found, kind, position, quantity * Decimal(repr(price)))
        if quantity and not price:
            found.unpriced_quantities[symbol] = (
                found.unpriced_quantities.get(symbol, Decimal(0)) + quantity
            )
            if stated == (None, None):
                found.sides_with_missing_value.add("long" if quantity > 0 else "short")
        if not price:
            continue
        found.quantities[symbol] = found.quantities.get(symbol, Decimal(0)) + quantity
        found.prices[symbol] = price
        if quantity < 0:
            entry = PositionEntry.entry_price.read(position)
            found.short_proceeds += float(-quantity) * (price if entry is None else float(entry))
        free_to_trade = PositionEntry.available_qty.read(position)
        if free_to_trade is not None:
            found.available_quantities[symbol] = free_to_trade
    return found


def check_position_sums(
    account_entry: JsonObject, holdings: ParsedPositions, *, reread: bool
) -> None:
    """Reject positions whose long or short values do not sum to the account's totals.

    An empty list of positions is checked too. If it were wrong, the proceeds of shorts would count
    as cash, and every position would be opened a second time.

    account_entry: response to /account.
    holdings: parsed response to /positions.
    reread: true if the previous responses were inconsistent: a difference that price moves explain
        is then accepted and logged.

    Raises
    ------
    InvalidResponse
        if a long or short total differs.
    """
    short = AccountEntry.short_market_value.read(account_entry)
    long = AccountEntry.long_market_value.read(account_entry)
    for side, name, stated, worth in (
        ("long", AccountEntry.long_market_value.name, long, holdings.long_values_by_class),
        (
            "short",
            AccountEntry.short_market_value.name,
            short and abs(short),
            holdings.short_values_by_class,
        ),
    ):
        if stated is None or side in holdings.sides_with_missing_value:
            continue
        apart = min(abs(listed - stated) for listed in _possible_sums(worth))
        if apart <= FIRST_READ_SUM_REL_TOL * stated + ROUNDING_TOLERANCE_USD:
            continue
        difference = (
            f"the {side} positions are worth ${sum(worth.values()):,.0f} (qty times price), but"
            f" {name} is ${stated:,.0f}"
        )
        if not reread or apart > REREAD_SUM_REL_TOL * stated + ROUNDING_TOLERANCE_USD:
            raise InvalidResponse(difference)
        log.warning("difference accepted as price moves between two responses: %s", difference)


def check_equity_sum(
    account_entry: JsonObject, holdings: ParsedPositions, reserved_cash: Decimal, *, reread: bool
) -> None:
    """Reject an account whose equity is not cash plus the values of its positions.

    account_entry: response to /account; if equity or a total is missing, nothing is checked.
    holdings: parsed response to /positions; if a position has no value, nothing is checked.
    reserved_cash: USD that open purchases may have reserved; infinite if unknown.
    reread: true if the previous responses were inconsistent: less cash than equity implies is then
        accepted and logged.

    Raises
    ------
    InvalidResponse
        if the equity differs.
    """
    equity = AccountEntry.equity.read(account_entry)
    long = AccountEntry.long_market_value.read(account_entry)
    short = AccountEntry.short_market_value.read(account_entry)
    if equity is None or long is None or short is None or holdings.sides_with_missing_value:
        return
    cash = parse_cash(account_entry)
    # By Alpaca's reference equity is cash + long_market_value + short_market_value;
    # `check_position_sums` compares the two sums with the positions. Equity may include values that
    # neither sum has. As observed live in 2026, cash excludes the cost of open bids for crypto, and
    # equity does not.
    worths = [
        longs - shorts
        for longs in _possible_sums(holdings.long_values_by_class)
        for shorts in _possible_sums(holdings.short_values_by_class)
    ]
    listed = sum(holdings.long_values_by_class.values()) + sum(
        holdings.short_values_by_class.values()
    )
    tolerance = (
        REREAD_SUM_REL_TOL * (abs(cash) + max(abs(long) + abs(short), listed))
        + ROUNDING_TOLERANCE_USD
    )
    missing = [equity - cash - worth for worth in worths]
    if any(-tolerance <= each <= tolerance + reserved_cash for each in missing):
        return
    difference = (
        f"equity ${equity:,.2f} is not the sum of cash ${cash:,.2f}, long_market_value"
        f" ${long:,.2f} and short_market_value ${short:,.2f}"
    )
    # A withdrawal on its way may have left cash but not equity; less cash is conservative.
    if not reread or max(missing) < 0:
        raise InvalidResponse(difference)
    log.warning("difference accepted as a withdrawal in progress: %s", difference)


def _possible_sums(worth: Mapping[str, Decimal]) -> Iterator[Decimal]:
    """Yield the totals that the venue may report: of all positions, or without some asset classes.

    Stocks are in every total. According to the venue's reference, the totals cover all positions.
    It could not be verified that this includes options and positions without a price of today. A
    mismatch that these classes explain therefore does not fail the check.

    worth: value of the positions by asset class, USD.
    """
    stocks = worth.get(STOCK_ASSET_CLASS, Decimal(0))
    others = [value for kind, value in worth.items() if kind != STOCK_ASSET_CLASS]
    for count in range(len(others) + 1):
        for entries in itertools.combinations(others, count):
            yield stocks + sum(entries)


def _refuse_contradicting_signs(position: JsonObject) -> None:
    """Reject a position whose quantity, value and side disagree on long or short."""
    quantity = PositionEntry.qty.read(position)
    value = PositionEntry.market_value.read(position)
    side = PositionEntry.side.read(position)
    is_long = {number > 0 for number in (quantity, value) if number}
    if side is not None:
        is_long.add(side == "long")
    symbol = PositionEntry.symbol.read(position)
    if value and not quantity:
        raise InvalidResponse(f"{symbol}: qty is 0, but market_value is {value} (no side)")
    if len(is_long) > 1:
        worth = "no market_value" if value is None else f"market_value {value}"
        stated = f"qty {quantity}, {worth}, {'no side' if side is None else f'side {side}'}"
        raise InvalidResponse(f"{symbol}: the position is both long and short: {stated}")


def _asset_class(position: JsonObject) -> str:
    name = PositionEntry.symbol.read(position)
    kind = PositionEntry.asset_class.read(position)
    if kind == OPTION_ASSET_CLASS or is_option(name):
        return OPTION_ASSET_CLASS
    if kind is None and is_symbol(name):
        return CRYPTO_ASSET_CLASS if is_crypto(name) else STOCK_ASSET_CLASS
    return (
        kind
        if kind in (STOCK_ASSET_CLASS, CRYPTO_ASSET_CLASS) and is_symbol(name)
        else OTHER_ASSET_CLASS
    )


def _add_position_value(
    found: ParsedPositions, kind: str, position: JsonObject, at_last_mark: Decimal
) -> None:
    """Add the value of a position, USD: the venue's value, else the value at its last mark."""
    value = PositionEntry.market_value.read(position)
    price = PositionEntry.current_price.read(position)
    if not value and not price:
        found.add_value(OTHER_ASSET_CLASS, at_last_mark)
    else:
        found.add_value(
            kind, PositionEntry.qty.read(position) * (price or 0) if value is None else value
        )


def _option_value_usd(option: JsonObject) -> Decimal:
    """Return the value of an option position, USD, below 0 for a short one; 0 if unknown.

    A short position without a market value is valued at the current price or, without one, at the
    price of the previous day.
    """
    value = PositionEntry.market_value.read(option)
    quantity = PositionEntry.qty.read(option)
    if value is not None or quantity > 0:
        return value or Decimal(0)
    price = (
        PositionEntry.current_price.read(option)
        or PositionEntry.last_day_price.read(option)
        or Decimal(0)
    )
    return quantity * SHARES_PER_OPTION * price


def _position_symbol(position: JsonObject) -> str:
    """Return the symbol of a position: a stock, crypto in dollars, or else a placeholder."""
    name = PositionEntry.symbol.read(position)
    kind = PositionEntry.asset_class.read(position)
    ours = is_symbol(name) and (kind is None or (kind == CRYPTO_ASSET_CLASS) == is_crypto(name))
    return parse_venue_symbol(name) if ours else placeholder_symbol(name)


def _mark_price(position: JsonObject, symbol: str, traded: float | None) -> float:
    """Return the price of one unit of a position, USD; 0 if no price above 0 is known.

    traded: last trade price, USD, used if the venue reports no price of today; without one, the
        venue's price of the previous day is used.
    """
    quantity = PositionEntry.qty.read(position)
    value = PositionEntry.market_value.read(position)
    price = PositionEntry.current_price.read(position)
    if price:
        # Bonds are priced for a hundred of their units.
        for unit in (1, 100) if _asset_class(position) == OTHER_ASSET_CLASS else (1,):
            if value is None or _are_near(abs(value), abs(quantity) * price / unit):
                return float(price / unit)
        raise InvalidResponse(
            f"{symbol}: market_value {value} differs from qty {quantity} times current_price"
            f" {price}"
        )
    if value and quantity:
        return float(abs(value / quantity))
    return traded or float(PositionEntry.last_day_price.read(position) or 0)


def _are_near(value: Decimal, worth: Decimal) -> bool:
    """Return whether two values in USD agree within the tolerance for rounding and price moves."""
    nearly = 1 - REREAD_SUM_REL_TOL
    return (
        worth * nearly - ROUNDING_TOLERANCE_USD <= value <= worth / nearly + ROUNDING_TOLERANCE_USD
    )
