"""What brings a book under what its broker lends overnight, and what closes all of it.

The last decision of a session sizes the book for the night. Prices move after it, orders are held
up, and what a person bought counts as well, so the book is looked at twice again before the close.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal

import numpy as np

from execution.live.marking import is_stock
from execution.orders import Account, Order, OrderTerms, Side, order_identity
from execution.rebalancing import in_parts
from sizing.limits import ROUNDED, Limits
from trainingdata.instants import compact_text, new_york_date
from trainingdata.instruments import instrument
from trainingdata.sessions import in_session, session_of

log = logging.getLogger(__name__)

MINUTE = np.timedelta64(1, "m")
LOOKS = (10 * MINUTE, 2 * MINUTE)  # before the close
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


def is_over_the_ceiling(account: Account, limits: Limits) -> bool:
    """Whether the account holds more than its broker lends overnight."""
    needed = _equity_needed(account, limits, limits.overnight_leverage, account.positions)
    return needed > max(account.equity, 0.0) * (1 + ROUNDED)


def night_cuts(
    account: Account,
    certain: Mapping[str, Decimal],
    limits: Limits,
    strategy: str,
    closes: np.datetime64,
    number: int,
    tradable: Collection[str],
) -> tuple[Order, ...]:
    """Market orders that bring the book under the ceiling of the night; none where it is under it.

    Every stock of ours keeps the same share of what is certain. Quantities are whole shares,
    rounded up: a share too many is sold rather than held.

    account: what counts as held, at the latest prices.
    certain: of its positions, what no order of unknown fate may yet take off: that alone is cut.
    strategy: what their ids begin with.
    closes, number: the session's close, and of the cut before it; they make the ids.
    tradable: symbols that are ours to trade.
    """
    ours = {s: q for s, q in certain.items() if q and s in tradable and is_stock(s)}
    if not ours or not is_over_the_ceiling(account, limits):
        return ()
    needed, of_ours = (
        _equity_needed(account, limits, limits.overnight_ceiling, positions)
        for positions in (account.positions, ours)
    )
    # Rounded, so that no share is sold for the last digit of a division.
    share = Decimal(repr(round(min((needed - max(account.equity, 0.0)) / of_ours, 1.0), 9)))
    orders = []
    for symbol, held in sorted(ours.items()):
        excess = (abs(held) * share).quantize(Decimal(1), ROUND_CEILING)
        quantity = min(excess, abs(held))
        if not quantity:
            continue
        name = order_identity(strategy, compact_text(closes), symbol, 0, number)
        reason = f"the night's ceiling: {quantity:f} of {held:f} at {account.prices[symbol]:g}"
        cut = _reduction(name, symbol, held, quantity, reason)
        orders.append(replace(cut, expires_at=closes))
    return tuple(orders)


def with_reductions(account: Account, reductions: Iterable[Order]) -> Account:
    """The account as if orders that may be on their way had filled at the latest prices.

    None goes beyond nothing, and what the account is worth stays.
    """
    positions = dict(account.positions)
    cash = account.cash
    for order in reductions:
        held = positions.get(order.symbol, Decimal(0))
        if held * order.signed_qty < 0:
            filled = min(order.qty, abs(held)).copy_sign(order.signed_qty)
            positions[order.symbol] = held + filled
            cash -= float(filled) * account.prices[order.symbol]
    return replace(account, positions=positions, cash=cash)


def flattening_orders(
    account: Account, strategy: str, tradable: Collection[str], terms: OrderTerms
) -> tuple[Order, ...]:
    """Market orders that close every position of ours whose market is open now.

    terms: what an order may be worth; what is worth more goes in parts.
    """
    orders = []
    open_now = bool(in_session(np.array([account.as_of]))[0])
    when = compact_text(account.as_of)
    for symbol, held in sorted(account.positions.items()):
        if not held or symbol not in tradable:
            continue
        if is_stock(symbol) and not open_now:
            log.warning("%s is not closed: its market is shut", symbol)
            continue
        item = instrument(symbol)
        largest = terms.largest_quantity(item, account.prices[symbol])
        for k, part in enumerate(in_parts(abs(held), largest, item.increment)):
            name = order_identity(strategy, when, symbol, FLATTENING, k)
            order = _reduction(name, symbol, held, part, "everything is closed, as was told")
            orders.append(order if is_stock(symbol) else replace(order, tif="gtc"))
    return tuple(orders)


def _reduction(name: str, symbol: str, held: Decimal, quantity: Decimal, reason: str) -> Order:
    side: Side = "sell" if held > 0 else "buy"
    return Order(name, symbol, side, quantity, reason=reason, reduces=True)


def _equity_needed(
    account: Account, limits: Limits, overnight: float, positions: Mapping[str, Decimal]
) -> float:
    """USD of equity that positions rest on overnight: stocks on a part, coins on all of it."""
    lent = limits.with_account_leverage(account.leverage).intraday_leverage
    ceiling = min(overnight, lent) * account.free
    held = {symbol: abs(float(quantity)) for symbol, quantity in positions.items() if quantity}
    return sum(
        quantity * account.prices[symbol] / (ceiling if is_stock(symbol) else 1.0)
        for symbol, quantity in held.items()
    )
