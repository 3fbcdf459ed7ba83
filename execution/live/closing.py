"""The cut before the close: what the broker lends overnight is less than what it lends by day.

The last decision of a session sizes the book for the night. Prices move after it, orders are held
up, and what a person bought counts as well: ten minutes before the close the book is looked at
again. What is above the broker's ceiling is cut with limit orders, after four minutes with market
orders, and two minutes before the close it is looked at a last time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_UP, Decimal
from types import MappingProxyType

import numpy as np

from execution.orders import Account, Order, OrderTerms, Side, order_identity
from execution.rebalancing import in_parts
from foundation.cents import CENT
from sizing.limits import Limits, kept_share
from trainingdata.instants import compact_text, new_york_date
from trainingdata.instruments import Kind, instrument, is_symbol
from trainingdata.sessions import in_session, session_of

log = logging.getLogger(__name__)

MINUTE = np.timedelta64(1, "m")
LOOKS = (10 * MINUTE, 6 * MINUTE, 2 * MINUTE)  # before the close
CONCESSION = 0.002  # of the price, that a cut by limit gives up at most
WHOLE = Decimal(1)
_NOTHING: Mapping[str, Decimal] = MappingProxyType({})
FLATTENING = 9  # in the ids of what closes everything, in the place of a leg


def close_of_day(now: np.datetime64, closes: np.datetime64 | None = None) -> np.datetime64 | None:
    """The close of the session of an instant's New York date; none where there is none.

    closes: the venue's own, where it names one; the earlier of it and the calendar's counts.
    """
    session = session_of(new_york_date(np.array([now]))[0])
    if session is None:
        return None
    if closes is not None and session.opens < closes < session.closes:
        return closes
    return session.closes


def looks_before_close(now: np.datetime64, closes: np.datetime64 | None) -> list[np.datetime64]:
    """Instants after `now` at which the book is looked at before a close; none without one."""
    if closes is None:
        return []
    return [closes - ahead for ahead in LOOKS if closes - ahead > now]


def is_over_the_ceiling(account: Account, limits: Limits) -> bool:
    """Whether the account holds more than its broker lends overnight."""
    return _share(account, limits, limits.overnight_leverage, account.positions) < 1.0


def night_cuts(
    account: Account,
    limits: Limits,
    strategy: str,
    closes: np.datetime64,
    number: int,
    tradable: Collection[str],
    *,
    at_limit: bool,
    uncertain: Mapping[str, Decimal] = _NOTHING,
) -> tuple[Order, ...]:
    """Orders that bring the book under the ceiling of the night; none where it is under it.

    Every stock of ours keeps the same share of what is held. Quantities are whole shares, rounded
    up: a share too many is sold rather than held.

    account: as it is now, at the latest prices.
    strategy: what their ids begin with.
    closes: the session's close, which makes their ids.
    number: of the cut before that close, which makes their ids too.
    tradable: symbols that are ours to trade.
    at_limit: whether they are limit orders, and not market orders.
    uncertain: signed quantities that may fill or may never: what they would take off a position
        counts as held, and is not cut a second time.
    """
    if not is_over_the_ceiling(account, limits):
        return ()
    certain = with_reductions(account, uncertain).positions
    ours = {
        symbol: held
        for symbol, held in certain.items()
        if held and symbol in tradable and instrument(symbol).kind is Kind.STOCK
    }
    share = _share(account, limits, limits.overnight_ceiling, ours)
    orders = []
    for symbol in sorted(ours):
        held = ours[symbol]
        excess = (abs(held) * Decimal(repr(1.0 - share))).quantize(WHOLE, ROUND_CEILING)
        quantity = min(excess, abs(held))
        if quantity:
            orders.append(_cut(account, strategy, closes, symbol, held, quantity, number, at_limit))
    return tuple(orders)


def with_reductions(account: Account, changes: Mapping[str, Decimal]) -> Account:
    """The account as if reductions that may be on their way had filled at the latest prices.

    None goes beyond nothing, and what the account is worth stays.

    changes: signed quantities by symbol.
    """
    positions = dict(account.positions)
    cash = account.cash
    for symbol, change in changes.items():
        held = positions.get(symbol, Decimal(0))
        if held * change < 0:
            positions[symbol] = held + change if abs(change) < abs(held) else Decimal(0)
            cash += float(held - positions[symbol]) * account.prices[symbol]
    return replace(account, positions=positions, cash=cash)


def flattening_orders(
    account: Account, strategy: str, tradable: Collection[str], terms: OrderTerms
) -> tuple[Order, ...]:
    """Market orders that close every position of ours whose market is open now.

    terms: what an order may be worth; what is worth more goes in parts.
    """
    orders = []
    open_now = bool(in_session(np.array([account.as_of]))[0])
    for symbol in sorted(account.positions):
        held = account.positions[symbol]
        if not held or symbol not in tradable:
            continue
        coin = instrument(symbol).kind is Kind.CRYPTO
        if not coin and not open_now:
            log.warning("%s is not closed: its market is shut", symbol)
            continue
        item = instrument(symbol)
        largest = terms.largest_quantity(item, account.prices[symbol])
        for k, part in enumerate(in_parts(abs(held), largest, item.increment)):
            orders.append(
                Order(
                    client_order_id=order_identity(
                        strategy, compact_text(account.as_of), symbol, FLATTENING, k
                    ),
                    symbol=symbol,
                    side="sell" if held > 0 else "buy",
                    qty=part,
                    reason="everything is closed, as was told",
                    reduces=True,
                    tif="gtc" if coin else "day",
                )
            )
    return tuple(orders)


def _share(
    account: Account, limits: Limits, overnight: float, loose: Mapping[str, Decimal]
) -> float:
    """The share that the ceiling lets the account keep of what may be cut, 0 … 1.

    loose: of each position, signed as it, what may be cut; none of a coin is.
    """
    if account.equity <= 0:
        return 0.0
    lent = limits.with_account_leverage(account.leverage).intraday_leverage
    ceiling = min(overnight, lent) * account.free
    held = [symbol for symbol, quantity in account.positions.items() if quantity]
    coins = np.array([is_symbol(s) and instrument(s).kind is Kind.CRYPTO for s in held], bool)
    prices = np.array([account.prices[s] for s in held])
    values = np.array([float(account.positions[s]) for s in held]) * prices
    may_go = np.array([float(loose.get(s, 0)) for s in held]) * prices * ~coins
    parts = np.concatenate([values - may_go, may_go]) / account.equity
    is_loose = np.repeat([False, True], len(held))
    return float(kept_share(parts, np.tile(coins, 2), is_loose, ceiling))


def _cut(
    account: Account,
    strategy: str,
    closes: np.datetime64,
    symbol: str,
    held: Decimal,
    quantity: Decimal,
    number: int,
    at_limit: bool,
) -> Order:
    side: Side = "sell" if held > 0 else "buy"
    price = account.prices[symbol]
    return Order(
        client_order_id=order_identity(strategy, compact_text(closes), symbol, 0, number),
        symbol=symbol,
        side=side,
        qty=quantity,
        reason=f"the night's ceiling: {quantity:f} of {held:f} at {price:g}",
        reduces=True,
        type="limit" if at_limit else "market",
        limit_price=_limit(side, price) if at_limit else None,
    )


def _limit(side: Side, price: float) -> float:
    """The worst price that a cut by limit takes, in cents."""
    if side == "sell":
        worst = Decimal(repr(price * (1 - CONCESSION))).quantize(CENT, ROUND_DOWN)
        return float(max(worst, CENT))
    return float(Decimal(repr(price * (1 + CONCESSION))).quantize(CENT, ROUND_UP))
