"""Options at the simulated venue: what is set aside, what is refused, how orders wait and
positions settle.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution.orders.option_orders import (
    OptionContract,
    OptionLeg,
    SpreadOrder,
    max_expiry_loss,
    parse_occ_symbol,
)
from foundation.errors import InputError, OrderRejected
from practice.alpaca.option_desk import OptionDesk
from practice.settings import OptionTerms
from tests.support.messages import refused

DAY = date(2024, 4, 2)
NEXT = date(2024, 4, 3)


@dataclass
class Market:
    """An index at an instant."""

    at: str = "2024-04-02T15:00"
    level: float | None = 5000.0
    closes: dict[date, float] = field(default_factory=dict)

    def now(self) -> np.datetime64:
        return np.datetime64(self.at, "ns")

    def index_level(self) -> float | None:
        return self.level

    def volatility_index(self) -> float | None:
        return 20.0

    def index_close(self, day: date) -> float | None:
        return self.closes.get(day)


def option(strike: int, *, call: bool = False, expiry: date = DAY) -> OptionContract:
    return OptionContract("SPXW", expiry, call, Decimal(strike))


def spread(
    name: str, count: int = 1, least: str | None = None, *, back: bool = False
) -> SpreadOrder:
    held = OptionLeg(option(4980), "sell"), OptionLeg(option(4975), "buy")
    legs = tuple(leg.closing_leg for leg in held) if back else held
    return SpreadOrder(name, legs, count, None if least is None else Decimal(least))


@given(
    st.sampled_from(["SPY", "SPXW", "A"]),
    st.dates(date(2000, 1, 1), date(2068, 1, 1)),
    st.booleans(),
    st.integers(1, 99_999_999),
)
def test_option_contract_round_trips_through_its_symbol(
    root: str, expiry: date, call: bool, thousandths: int
) -> None:
    one = OptionContract(root, expiry, call, Decimal(thousandths) / 1000)
    assert parse_occ_symbol(one.symbol) == one


@given(
    st.lists(
        st.tuples(st.integers(1, 20), st.booleans(), st.booleans(), st.integers(-5, 5)), max_size=8
    )
)
def test_reserve_is_the_worst_loss_at_expiry(positions: list[tuple[int, bool, bool, int]]) -> None:
    held: dict[OptionContract, int] = {}
    for strike, call, late, count in positions:
        held[option(strike * 5, call=call, expiry=NEXT if late else DAY)] = count
    worst = 0
    for expiry in (DAY, NEXT):
        mine = [(c, n) for c, n in held.items() if c.expiry == expiry]
        if sum(n for c, n in mine if c.is_call) < 0:
            assert max_expiry_loss(held) is None
            return
        worth = [
            sum(n * max((e - int(c.strike)) * (1 if c.is_call else -1), 0) for c, n in mine)
            for e in range(0, 200, 5)
        ]
        worst += max(-min(worth), 0) * 100
    assert max_expiry_loss(held) == worst


def test_settlement_releases_reserved_cash_of_a_spread() -> None:
    market = Market()
    flows = list[Decimal]()
    desk = OptionDesk("SPXW", market, OptionTerms(), on_cash_flow=flows.append)
    credit = desk.submit_order(spread("a", 2)).fill.credit
    assert flows == [credit * 200 - 1000]
    assert desk.reserved_cash == 1000
    market.at = "2024-04-02T20:00"
    desk.advance()
    assert desk.option_positions(), "the close is not known yet"
    assert not desk.quotes(desk.option_positions())
    market.closes = {DAY: 4978.0}
    desk.advance()
    assert not desk.option_positions()
    assert sum(flows) == credit * 200 - 400
    assert desk.reserved_cash == 0


def test_uncovered_or_unaffordable_spreads_are_refused() -> None:
    desk = OptionDesk("SPXW", Market(), OptionTerms(), free_cash=lambda: 600.0)
    naked = OptionLeg(option(5050, call=True), "sell"), OptionLeg(option(4975), "buy")
    with refused(OrderRejected):
        desk.submit_order(SpreadOrder("n", naked, 1))
    with refused(OrderRejected):
        desk.submit_order(spread("two", 2))
    desk.submit_order(spread("one", 1))
    with refused(OrderRejected):
        desk.submit_order(spread("one", 1))
    assert desk.submit_order(spread("back", 1, back=True)).filled_contracts == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"contracts": 0},
        {"legs": (OptionLeg(option(4980), "buy"),)},
        {"legs": (OptionLeg(option(4980), "buy"), OptionLeg(option(4980), "sell"))},
        {"client_order_id": "with a space"},
        {"min_credit": Decimal("0.001")},
        *(
            {"text": text}
            for text in (
                "SPY",
                "SPXW250230P05410000",
                "SPXW250312X05410000",
                "spxw250312P05410000",
                "SPXW250312P00000000",
            )
        ),
    ],
)
def test_invalid_spread_orders_and_symbols_are_refused(wrong: dict[str, Any]) -> None:
    whole = {"client_order_id": "a", "legs": spread("a").legs, "contracts": 1}
    made: Callable[[], object] = lambda: (  # noqa: E731
        parse_occ_symbol(wrong["text"]) if "text" in wrong else SpreadOrder(**{**whole, **wrong})
    )
    with pytest.raises(InputError):
        made()


def test_spread_order_waits_for_its_price_until_close() -> None:
    market = Market()
    desk = OptionDesk("SPXW", market, OptionTerms())
    desk.submit_order(spread("a", least="3.00"))
    assert desk.tickets["a"].status == "new"
    market.level = 4965.0
    desk.advance()
    assert desk.tickets["a"].status == "filled"
    assert desk.tickets["a"].fill.credit >= 3
    market.level = 5000.0
    desk.submit_order(spread("b", least="4.90"))
    market.at = "2024-04-03T13:40"
    desk.advance()
    assert desk.tickets["b"].status == "expired"


def test_option_quotes_exist_only_while_underlying_trades() -> None:
    market = Market()
    desk = OptionDesk("SPXW", market, OptionTerms())
    today, later, saturday, next_year = (
        option(4980, expiry=day) for day in (DAY, NEXT, date(2024, 4, 6), date(2025, 4, 2))
    )
    quotes = desk.quotes([today, later, saturday, next_year])
    assert set(quotes) == {today, later}
    assert quotes[later].ask > quotes[today].ask > quotes[today].bid >= 0
    for at, level in (
        ("2024-04-02T13:00", 5000.0),
        ("2024-04-02T20:00", 5000.0),
        ("2024-04-02T15:00", None),
    ):
        market.at = at
        market.level = level
        assert not desk.quotes([today])


@pytest.mark.parametrize(
    ("root", "day", "last", "first_refused"),
    [
        ("SPY", date(2024, 4, 2), "15:29:59", "15:30"),
        ("NVDA", date(2024, 4, 2), "15:14:59", "15:15"),
        ("SPY", date(2024, 7, 3), "12:29:59", "12:30"),
        ("SPXW", date(2024, 4, 2), "15:59:59", None),
    ],
)
def test_expiring_options_take_no_orders_after_cutoff(
    root: str, day: date, last: str, first_refused: str | None
) -> None:
    market = Market()
    desk = OptionDesk(root, market, OptionTerms())
    legs = tuple(
        OptionLeg(OptionContract(root, day, False, Decimal(strike)), side)
        for strike, side in ((4980, "sell"), (4975, "buy"))
    )
    back = tuple(leg.closing_leg for leg in legs)
    later = tuple(
        OptionLeg(replace(leg.contract, expiry=day + timedelta(days=2)), leg.side) for leg in legs
    )

    def at(new_york: str) -> None:
        market.at = str(np.datetime64(f"{day}T{new_york}") + np.timedelta64(4, "h"))

    at(last)
    assert desk.submit_order(SpreadOrder("intime", legs, 2)).filled_contracts == 2
    if first_refused is None:
        return
    at(first_refused)
    for name, rejected in (("opening", legs), ("closing", back)):
        with refused(OrderRejected):
            desk.submit_order(SpreadOrder(name, rejected, 1))
    assert desk.submit_order(SpreadOrder("later", later, 1)).filled_contracts == 1
