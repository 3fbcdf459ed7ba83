"""Twenty-five actions: their codes, prices, limits and masks, and the orders that they become."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from itertools import product
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Discrete
from hypothesis import example, given
from hypothesis import strategies as st

from event_contracts.trading.actions import (
    INTENTS,
    POSITION_SIZES,
    LimitOrderActions,
    LimitOrderActionSpace,
    PositionLimits,
    decode_action,
    encode_action,
    process_action,
)
from event_contracts.trading.orders import (
    ContractAction,
    ContractQuote,
    EventContractOrder,
    MarketView,
    OrderReceipt,
    Outcome,
    RestingOrder,
    opposite_side,
)
from foundation.errors import InputError
from tests.event_contracts.trading import MARKET, QUOTE, view, views, waiting
from tests.support.messages import refused

D = Decimal
WAYS: list[tuple[ContractAction, Outcome]] = [
    ("BUY", "YES"), ("SELL", "YES"), ("BUY", "NO"), ("SELL", "NO"),
]  # fmt: skip
STYLES = ("passive", "mid", "aggressive")


class Shown:
    """A manager that shows one account, and takes every order."""

    def __init__(self, account: MarketView) -> None:
        self.account = account
        self.sent: list[EventContractOrder] = []

    def view(self, market: str) -> MarketView:
        return self.account

    def submit(self, order: EventContractOrder) -> OrderReceipt:
        self.sent.append(order)
        return OrderReceipt("o", D(0), order.count)


# Codes


def test_action_codes_match_the_specification() -> None:
    assert encode_action(0, 0) == encode_action(0, 4) == 0
    assert POSITION_SIZES == (5, 10, 20, 50, 100)
    names = ("BUY_YES", "SELL_YES", "BUY_NO", "SELL_NO")
    assert ("HOLD", *names) == INTENTS
    for code, (name, size) in enumerate(product(names, POSITION_SIZES), 1):
        intent, index = decode_action(np.int64(code))
        assert process_action(code) == (INTENTS[intent], POSITION_SIZES[index]) == (name, size)
        assert [type(n) for n in (encode_action(intent, index), intent, index)] == [int] * 3
        assert encode_action(intent, index) == code
        assert getattr(LimitOrderActions, f"{name}_LIMIT") == intent
        assert getattr(LimitOrderActions, f"{name}_LIMIT_{size}") == code
    for reserved in (0, 21, 22, 23, 24):
        assert decode_action(reserved) == (0, 0)
        assert process_action(reserved) == ("HOLD", 0)


@given(st.integers())
def test_invalid_action_codes_are_rejected(code: int) -> None:
    if not 0 <= code <= 24:
        for read in (decode_action, process_action, LimitOrderActionSpace().process_action):
            with pytest.raises(ValueError, match=r"action must be 0 … 24, got"):
                read(code)
        with pytest.raises(ValueError, match="action must be"):
            LimitOrderActionSpace().execute_action_sync(code, Shown(view()), MARKET, "c")
    if not 0 <= code <= 4:
        with pytest.raises(ValueError, match=r"intent must be 0 … 4, got"):
            encode_action(code, 0)
        for intent in (0, 1):
            with pytest.raises(ValueError, match=r"size index must be 0 … 4, got"):
                encode_action(intent, code)


# Prices


@pytest.mark.parametrize(
    ("style", "prices"),
    [
        ("passive", ["0.40", "0.43", "0.57", "0.60"]),
        ("mid", ["0.41", "0.42", "0.58", "0.59"]),
        ("aggressive", ["0.43", "0.40", "0.60", "0.57"]),
        (
            dict(zip(INTENTS[1:], ("passive", "aggressive", "mid", "passive"), strict=True)),
            ["0.40", "0.40", "0.58", "0.60"],
        ),
    ],
)
def test_price_style_determines_the_limit_price(style: Any, prices: list[str]) -> None:
    """At 0.40 to 0.43: the middle of 0.415 is rounded down for a purchase, up for a sale; the ask
    of NO is a dollar less the bid of YES. A book with one side has no middle.
    """
    space = LimitOrderActionSpace(price_style=style)
    assert [space.order_price(intent, QUOTE) for intent in range(1, 5)] == [D(p) for p in prices]
    for quote in (ContractQuote(D(0), D("0.30")), ContractQuote(D("0.30"), D(1))):
        assert style != "mid" or {space.order_price(intent, quote) for intent in range(1, 5)} == {
            None
        }


# Masks


@given(views(), st.sampled_from(STYLES))
def test_actions_beyond_limits_are_masked_with_a_reason(before: MarketView, style: Any) -> None:
    """The test fills allowed purchases contract by contract, after all resting orders."""
    space = LimitOrderActionSpace(price_style=style)
    masks = space.action_masks(before)
    assert masks.dtype == np.bool_
    assert masks.shape == (25,)
    assert masks[0]
    assert not masks[21:].any()
    for action in range(25):
        reason = space.refusal_reason(action, before)
        assert bool(masks[action]) == (reason is None)
        assert reason is None or len(reason) > 10
        name, size = process_action(action)
        if not size:
            continue
        verb, side = WAYS[INTENTS.index(name) - 1]
        price = space.order_price(INTENTS.index(name), before.quote)
        if price is None:
            assert not masks[action]
            assert "no valid limit price" in str(reason)
        elif verb == "SELL":
            free = before.held_count(side) - before.resting_count("SELL", side)
            # No venue caps resting sales: purchases of the other side reduce the position too.
            free -= 0 if style == "aggressive" else before.resting_count("BUY", opposite_side(side))
            assert masks[action] == (size <= free), reason
        else:
            assert masks[action] == expected_of_purchase(before, side, price, size), reason


def expected_of_purchase(before: MarketView, side: Outcome, price: Decimal, size: int) -> bool:
    """From the rules as they are written: cash, contracts, USD and share."""
    purchases = [
        (r.order.price, r.remaining_count) for r in before.resting_orders if r.order.action == "BUY"
    ]
    left = before.cash
    for at, count in [*purchases, (price, D(size))]:
        fee = D("0.07") * count * at * (1 - at)
        left -= at * count + fee - fee % D("-0.0001") + count * D("0.0001") + D("0.01")
        left -= D("0.0001") if fee % D("0.0001") else D(0)
    held = before.held_count(side) - before.held_count(opposite_side(side))
    same = [
        r.remaining_count
        for r in before.resting_orders
        if r.order.market == MARKET and (r.order.action == "BUY") == (r.order.side == side)
    ]
    after = held + sum(same, D(size))
    worth = held * price if held > 0 else -held * (1 - price)
    portfolio = before.cash + before.other_positions_value + worth
    within = after <= 500 and after * price <= min(D(500), portfolio / 4)
    # A resting sale of the other side would be filled as a purchase once nothing is held.
    sales = before.resting_count("SELL", opposite_side(side))
    turns = sales > 0 and sum(same, D(size)) > before.held_count(opposite_side(side))
    return left >= 50 and (after <= 0 or within) and not turns


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        (view(), [0, 1, 2, 3, 4, 5, 11, 12, 13, 14, 15]),
        # 5 YES at 0.43: 2.15, a fee of 0.0858, 0.0005 if each fills alone, 0.01 of rounding.
        (view("52.2463"), [0, 1]),
        (view("52.2462"), [0]),
        (view("3000", yes=480), [0, *range(1, 4), *range(6, 16)]),
        (view("172"), [*range(6), *range(11, 15)]),  # 100 at 0.43 are a quarter of it
        # Beside a resting sale of NO a purchase of YES takes no more than is left of what is held.
        (
            view(
                "3000",
                no=100,
                resting=[waiting("BUY", "YES", "0.43", 30), waiting("SELL", "NO", "0.57", 55)],
            ),
            [*range(3), *range(11, 16), *range(16, 19)],
        ),
        (view(yes=9, resting=[waiting("SELL", "YES", "0.5", 4)]), [*range(7), 11]),
    ],
)
def test_action_mask_applies_cash_and_position_limits_exactly(
    before: MarketView, allowed: list[int]
) -> None:
    assert np.flatnonzero(LimitOrderActionSpace().action_masks(before)).tolist() == allowed


def test_fixed_order_size_masks_all_other_sizes() -> None:
    free = LimitOrderActionSpace()
    fixed = LimitOrderActionSpace(fixed_size=10)
    before = view(yes=150)
    others = [a for a in range(1, 21) if process_action(a)[1] != 10]
    masks = fixed.action_masks(before)
    assert not masks[others].any()
    same = [a for a in range(25) if a not in others]
    assert masks[same].tolist() == free.action_masks(before)[same].tolist()
    assert fixed.refusal_reason(1, before) == "size 5 is masked: fixed_size is 10"
    assert fixed.get_gym_space() == free.get_gym_space() == Discrete(25)


# Execution


@given(views())
@example(view(yes=150))
@example(view(no=150))
def test_only_an_allowed_action_sends_an_order(before: MarketView) -> None:
    """A masked action sends no order, raises no error and has size 0."""
    space = LimitOrderActionSpace()
    for action, allowed in enumerate(space.action_masks(before)):
        shown = Shown(before)
        done = space.execute_action_sync(action, shown, MARKET, "c")
        name, size = process_action(action)
        if allowed and size:
            assert [(o.action + "_" + o.side, o.count) for o in shown.sent] == [(name, size)]
            assert (done.size, done.order, done.action) == (size, shown.sent[0], action)
        else:
            assert (done.size, done.order, done.receipt, shown.sent) == (0, None, None, [])
        assert done.reason


def test_async_execution_equals_sync_without_blocking_event_loop() -> None:
    """The manager waits for an event that only the event loop sets."""
    space = LimitOrderActionSpace()
    went_on = threading.Event()

    class Slow(Shown):
        def view(self, market: str) -> MarketView:
            assert went_on.wait(10), "the event loop stood still"
            return super().view(market)

    async def both() -> Any:
        waits = asyncio.create_task(space.execute_action(3, slow, MARKET, "c"))
        await asyncio.sleep(0)
        went_on.set()
        return await waits

    slow = Slow(view())
    plain = Shown(view())
    assert asyncio.run(both()) == space.execute_action_sync(3, plain, MARKET, "c")
    assert slow.sent == plain.sent


def test_action_mask_applies_custom_sizes_buffer_and_limits() -> None:
    sizes = LimitOrderActionSpace(position_sizes=(1, 2, 3, 4, 200))
    assert sizes.process_action(5) == ("BUY_YES", 200)
    assert sizes.action_masks(view())[[1, 5]].tolist() == [True, True]
    assert not LimitOrderActionSpace(cash_buffer=999.0).action_masks(view())[1:].any()
    narrow = LimitOrderActionSpace(limits=PositionLimits(contracts=D(10)))
    assert np.flatnonzero(narrow.action_masks(view())).tolist() == [0, 1, 2, 11, 12]


def test_invalid_order_fields_are_refused() -> None:
    for price, count in (("0", "1"), ("1", "1"), ("0.00001", "1"), ("0.5", "0"), ("0.5", "0.001")):
        with pytest.raises(ValueError, match=r"c: (price|count) must be a multiple"):
            EventContractOrder("c", MARKET, "BUY", "YES", D(price), D(count))
    with pytest.raises(ValueError, match="client_order_id is empty"):
        EventContractOrder("", MARKET, "BUY", "YES", D("0.5"), D(1))
    with pytest.raises(ValueError, match=r"remaining must be above 0 and at most 5, got 6"):
        RestingOrder("o", EventContractOrder("c", MARKET, "BUY", "YES", D("0.5"), D(5)), D(6))
    for bid, ask in (("0.5", "0.4"), ("-0.1", "0.4"), ("0.5", "1.1")):
        with pytest.raises(ValueError, match="0 ≤ yes_bid ≤ yes_ask ≤ 1"):
            ContractQuote(D(bid), D(ask))


PRICES = st.integers(1, 9_999).map(lambda n: D(n) / 10_000)
CASH = st.integers(-10_000, 500_000).map(lambda n: D(n) / 100)
COUNTS = st.integers(1, 60_000).map(lambda n: D(n) / 100)
HELD = st.integers(-60_000, 60_000).map(lambda n: D(n) / 100)
LIMITS = PositionLimits()


@given(COUNTS, PRICES, HELD, CASH, st.integers(0, 200), st.integers(0, 900))
def test_order_beyond_a_limit_is_refused_naming_it(
    count: Decimal, price: Decimal, held: Decimal, cash: Decimal, resting: int, elsewhere: int
) -> None:
    reason = LIMITS.validate_order(
        count=count,
        price=price,
        held=held,
        cash=cash,
        resting_count=D(resting),
        other_positions_value=D(elsewhere),
    )
    after = held + resting + count
    portfolio = cash + elsewhere + (held * price if held > 0 else -held * (1 - price))
    broken = {
        "limits.contracts": after > 500,
        "limits.value": after * price > 500,
        "limits.share": after * price > portfolio / 4,
    }
    if after <= 0 or not any(broken.values()):
        assert reason is None
    else:
        named = [name for name in broken if name in str(reason)]
        assert len(named) == 1
        assert broken[named[0]]


def test_each_position_limit_is_configurable_and_named() -> None:
    order = {"count": D(20), "price": D("0.50"), "held": D(0), "cash": D(100)}
    assert LIMITS.validate_order(**order) is None
    reached = PositionLimits(contracts=D(20), value=D(10), share=D("0.1"))
    assert reached.validate_order(**order) is None, "a limit may be reached"
    closing = order | {"held": D(-20), "cash": D(-1000)}
    assert LIMITS.validate_order(**closing) is None, "what closes a position passes in any account"
    for limits, says in (
        (
            PositionLimits(contracts=D(19)),
            "20 contracts with resting orders; limits.contracts is 19",
        ),
        (PositionLimits(value=D("9.99")), "position would be $10, above limits.value $9.99"),
        (PositionLimits(share=D("0.09")), "above limits.share 9% of a portfolio of $100"),
    ):
        assert says in str(limits.validate_order(**order))
    for name, value in (("contracts", "0"), ("value", "-1"), ("share", "0"), ("share", "1.5")):
        with refused(InputError, f"limits.{name}"):
            PositionLimits(**{name: D(value)})
