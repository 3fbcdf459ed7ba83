"""Orders as the venue keeps them and as Alpaca writes them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np

from execution.orders import Fill, Order
from trainingdata.errors import InputError
from trainingdata.instruments import Kind, instrument, spelled

NAMES = uuid.UUID("5f6d3c1e-7a44-4b57-9a8e-0f3f0f2d9c11")
OPEN = ("new", "partially_filled", "accepted", "pending_new", "held")
Answer = dict[str, Any]


class Refused(Exception):
    """A request the venue does not take. status: of HTTP; code: Alpaca's own."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(slots=True)
class Ticket:
    """An order as the venue keeps it. fills: what it did, oldest first; closed: when it stopped working."""

    order: Order
    number: str
    at: str
    fills: list[Fill] = field(default_factory=list)
    status: str = "new"
    closed: str | None = None

    @property
    def filled(self) -> Decimal:
        """Quantity traded, a coin's fee not counted."""
        return sum((abs(f.qty) for f in self.fills if f.price > 0), Decimal(0))

    def answer(self) -> Answer:
        """The order in Alpaca's words."""
        order, coin = self.order, instrument(self.order.symbol).kind is Kind.CRYPTO
        value = sum(abs(f.qty) * Decimal(repr(f.price)) for f in self.fills if f.price > 0)
        done = self.status == "filled"
        return {
            "id": self.number,
            "client_order_id": order.client_order_id,
            "created_at": self.at,
            "updated_at": self.closed or self.at,
            "submitted_at": self.at,
            "filled_at": self.closed if done else None,
            "expired_at": self.closed if self.status == "expired" else None,
            "canceled_at": self.closed if self.status == "canceled" else None,
            "failed_at": None,
            "replaced_at": None,
            "replaced_by": None,
            "replaces": None,
            "asset_id": asset_id(order.symbol),
            "symbol": spelled(order.symbol),
            "asset_class": "crypto" if coin else "us_equity",
            "notional": None,
            "qty": text(order.qty),
            "filled_qty": text(self.filled),
            "filled_avg_price": str(value / self.filled) if self.filled else None,
            "order_class": "bracket" if order.take_profit or order.stop_loss else "simple",
            "order_type": order.type,
            "type": order.type,
            "side": order.side,
            "time_in_force": order.tif,
            "limit_price": None if order.limit_price is None else repr(order.limit_price),
            "stop_price": None if order.stop_price is None else repr(order.stop_price),
            "status": self.status,
            "extended_hours": False,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
        }


def order_of(request: Mapping[str, Any], number: int) -> Order:
    """The order a request asks for.

    Raises
    ------
    Refused
        naming what is missing or cannot be.
    """
    try:
        symbol = instrument(str(request["symbol"])).symbol
        side, kind, force = (str(request.get(name, "")) for name in ("side", "type", "time_in_force"))
        if side not in ("buy", "sell"):
            raise ValueError(f"side must be buy or sell, got {side!r}")
        if kind not in ("market", "limit", "stop", "stop_limit"):
            raise ValueError(f"type {kind!r} is not supported")
        if force not in ("day", "gtc", "ioc"):
            raise ValueError(f"time_in_force {force!r} is not supported")
        quantity = Decimal(str(request["qty"]))
        prices = {name: float(request[name]) if request.get(name) else None for name in ("limit_price", "stop_price")}
        legs = {"take_profit": "limit_price", "stop_loss": "stop_price"}
        exits = {name: float(request[name][key]) if request.get(name) else None for name, key in legs.items()}
        name = str(request.get("client_order_id") or uuid.uuid5(NAMES, f"order {number}"))
        return Order(name, symbol, side, quantity, "over the wire", type=kind, tif=force, **prices, **exits)  # type: ignore[arg-type]
    except (KeyError, TypeError, InvalidOperation) as error:
        raise Refused(422, 40010001, f"{error} is missing or no number") from None
    except (InputError, ValueError) as error:
        raise Refused(422, 40010001, str(error)) from None


def asset_id(symbol: str) -> str:
    """The id of a symbol, the same always."""
    return str(uuid.uuid5(NAMES, symbol))


def text(quantity: Decimal) -> str:
    """A quantity without an exponent."""
    return f"{quantity.normalize():f}" if quantity else "0"


def stamp(at: np.datetime64) -> str:
    """An instant as the API writes it."""
    return f"{np.datetime_as_string(at, unit='s')}Z"
