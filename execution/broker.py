"""What a broker does for a decision, and the order in which a decision's orders reach it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

import numpy as np

from execution.orders import Account, Fill, Order
from trainingdata.instruments import Kind, instrument


@dataclass(frozen=True, slots=True)
class Asset:
    """What the venue allows with a symbol.

    easy_to_borrow: whether it can be sold short without a locate. increment: the smallest step of a quantity; smallest: the
    least quantity of an order.
    """

    symbol: str
    tradable: bool
    shortable: bool
    easy_to_borrow: bool
    fractionable: bool
    increment: Decimal
    smallest: Decimal


class Broker(Protocol):
    """An account that fills orders."""

    def now(self) -> np.datetime64:
        """What its clock says."""
        ...

    def account(self) -> Account:
        """The account now, open orders included."""
        ...

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        """Send orders, in their order, and return what has filled; what a market order does not fill at once is cancelled.

        An order that is refused fills nothing; one whose id was used before trades nothing again.
        """
        ...

    def cancel(self, client_order_ids: Iterable[str]) -> None:
        """Cancel what still works under these ids; others are left alone."""
        ...

    def fills_since(self, at: np.datetime64) -> list[Fill]:
        """Every fill after an instant, oldest first."""
        ...

    def assets(self, symbols: Sequence[str]) -> Mapping[str, Asset]:
        """What may be done with each symbol that the venue knows."""
        ...


def refusal(order: Order, asset: Asset | None = None) -> str:
    """Why the venue would not take an order, in words; empty where it would. asset: what it allows, where that is known.

    Coins trade as market, limit and stop-limit orders, gtc or ioc; fractions of a share in day orders of stocks that allow
    them, and never short; quantities in the asset's steps, from its least on.
    """
    coin, fraction = instrument(order.symbol).kind is Kind.CRYPTO, order.qty % 1 != 0
    if coin and (order.tif == "day" or order.type == "stop"):
        return "coins take market, limit and stop-limit orders, gtc or ioc"
    if not coin and fraction and order.tif != "day":
        return "fractions of a share trade in day orders only"
    if asset is None:
        return ""
    opens_short = order.side == "sell" and not order.reduces and not coin
    if not asset.tradable:
        return f"{order.symbol} is not tradable now"
    if opens_short and not (asset.shortable and asset.easy_to_borrow):
        return f"{order.symbol} cannot be sold short now"
    if not coin and fraction and (not asset.fractionable or opens_short):
        return f"{order.symbol} trades in whole shares" + (" where it is sold short" if opens_short else "")
    if order.qty % asset.increment or order.qty < asset.smallest:
        return f"quantities of {order.symbol} are multiples of {asset.increment:f}, at least {asset.smallest:f}"
    return ""


def place(broker: Broker, orders: Sequence[Order]) -> list[Fill]:
    """Send a decision's reductions, and what opens positions only once they have filled whole.

    The openings were sized for a book without what the reductions take off it: where one does not fill (a halt, a
    missing bar), adding would carry the book over its ceilings.
    """
    reductions = [order for order in orders if order.reduces]
    fills = broker.submit(reductions)
    filled = {fill.client_order_id: abs(fill.qty) for fill in fills}  # a reduction never pays in coin: one fill an order
    if any(filled.get(order.client_order_id) != order.qty for order in reductions):
        return fills
    return fills + broker.submit([order for order in orders if not order.reduces])
