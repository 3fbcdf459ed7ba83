from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import numpy as np
import pytest

from execution.broker import place
from execution.orders import Account, Fill, Order
from execution.rebalancing import Target, rebalance
from foundation.errors import AccountChanged
from trainingdata.instruments import instrument

AT = np.datetime64("2024-10-01T14:30", "ns")
ORDERS = rebalance(
    "s",
    AT,
    [
        Target(instrument("NVDA"), Decimal(0), Decimal(5), float("inf"), "open"),
        Target(instrument("AAPL"), Decimal(10), Decimal(4), float("inf"), "reduce"),
        Target(instrument("MSFT"), Decimal(3), Decimal(-3), float("inf"), "flip"),
    ],
)


class Halting:
    """A broker that fills everything but what is halted."""

    def __init__(self, *halted: str) -> None:
        self.halted = halted
        self.sent: list[Order] = []
        self.left: dict[str, Decimal] = {}

    def account(self) -> Account:
        return Account(0.0, {}, {}, AT)

    def cancel(self, names: Iterable[str]) -> dict[str, Decimal]:
        return self.left

    def submit(self, orders: Sequence[Order]) -> list[Fill]:
        self.sent += orders
        return [
            Fill(o.client_order_id, o.symbol, o.signed_qty, 1.0, 0.0, AT)
            for o in orders
            if o.symbol not in self.halted
        ]


def test_reductions_go_first_and_openings_follow() -> None:
    broker = Halting()
    fills = place(broker, ORDERS)
    assert [o.symbol for o in broker.sent] == ["AAPL", "MSFT", "MSFT", "NVDA"]
    assert len(fills) == 4


def test_where_a_reduction_does_not_fill_nothing_is_opened() -> None:
    broker = Halting("AAPL")
    fills = place(broker, ORDERS)
    assert [(o.symbol, o.side) for o in broker.sent] == [("AAPL", "sell"), ("MSFT", "sell")]
    assert [f.symbol for f in fills] == ["MSFT"]


@pytest.mark.parametrize("left", [{}, {"old": Decimal(0)}, {"old": Decimal(3)}])
def test_where_what_is_replaced_has_filled_meanwhile_nothing_is_sent(
    left: dict[str, Decimal],
) -> None:
    """Sized as if the old order had done nothing, its successor would do the same once more."""
    broker = Halting()
    broker.left = left
    old = {"old": Decimal(5)}
    with pytest.raises(AccountChanged, match="old has filled since"):
        place(broker, ORDERS, old)
    assert broker.sent == []
    broker.left = {"old": Decimal(5)}
    assert len(place(broker, ORDERS, old)) == 4


def test_a_halted_opening_stops_nothing_else() -> None:
    assert {f.symbol for f in place(Halting("NVDA"), ORDERS)} == {"AAPL", "MSFT"}
